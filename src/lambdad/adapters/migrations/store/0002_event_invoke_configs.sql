-- The qualifier is $LATEST, the number of a version or the name of an alias.
CREATE TABLE event_invoke_configs (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    qualifier TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (account_id, region, name, qualifier)
);
