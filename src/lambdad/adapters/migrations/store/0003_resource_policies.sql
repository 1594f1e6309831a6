-- The qualifier is the number of a version, the name of an alias, or empty for the function's unqualified ARN.
CREATE TABLE resource_policies (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    qualifier TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (account_id, region, name, qualifier)
);
