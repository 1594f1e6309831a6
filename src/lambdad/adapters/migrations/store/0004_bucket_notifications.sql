-- The notification configuration of each bucket that has one: names of buckets are unique beyond accounts and regions.
CREATE TABLE bucket_notifications (
    bucket TEXT PRIMARY KEY,
    record TEXT NOT NULL
);
