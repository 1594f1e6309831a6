-- One table for every kind of record that is found by its key: the parts of the key are joined by char(31).
-- `of_function`: the key begins with account, region, function and qualifier, and the record goes with them.
CREATE TABLE records (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    of_function INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (kind, key)
);
CREATE INDEX records_of_functions ON records (key) WHERE of_function;

INSERT INTO records
    SELECT 'event_invoke_config', account_id || char(31) || region || char(31) || name || char(31) || qualifier, 1, record
    FROM event_invoke_configs;
DROP TABLE event_invoke_configs;
INSERT INTO records
    SELECT 'resource_policy', account_id || char(31) || region || char(31) || name || char(31) || qualifier, 1, record
    FROM resource_policies;
DROP TABLE resource_policies;
INSERT INTO records SELECT 'bucket_notifications', bucket, 0, record FROM bucket_notifications;
DROP TABLE bucket_notifications;
