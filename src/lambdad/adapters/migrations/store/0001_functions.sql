-- Each row is a record as JSON, beside the columns by which rows are found, ordered and counted.
CREATE TABLE functions (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (account_id, region, name)
);

-- $LATEST is number 0.
CREATE TABLE versions (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    code_sha256 TEXT NOT NULL,
    code_size INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (account_id, region, name, number)
);
CREATE INDEX versions_latest ON versions (account_id, region, name) WHERE number = 0;
CREATE INDEX versions_code_size ON versions (account_id, region, code_size);
CREATE INDEX versions_code_sha256 ON versions (code_sha256);

CREATE TABLE aliases (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    alias TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (account_id, region, name, alias)
);

-- Where numbering goes on when a deleted function comes back: numbers of versions are never used again.
CREATE TABLE version_numbers (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    next_number INTEGER NOT NULL,
    PRIMARY KEY (account_id, region, name)
);
