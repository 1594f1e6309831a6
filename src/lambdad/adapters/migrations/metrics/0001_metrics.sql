-- What is counted: a metric of a function, or with `resource` of one of its versions and aliases.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    function TEXT NOT NULL,
    resource TEXT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (account_id, region, function, resource, name)
);

-- The statistics of a minute that begins `minute_s` seconds after the epoch.
CREATE TABLE minutes (
    series INTEGER NOT NULL REFERENCES series,
    minute_s INTEGER NOT NULL,
    count INTEGER NOT NULL,
    total REAL NOT NULL,
    minimum REAL NOT NULL,
    maximum REAL NOT NULL,
    PRIMARY KEY (series, minute_s)
) WITHOUT ROWID;
CREATE INDEX minutes_by_time ON minutes (minute_s);
