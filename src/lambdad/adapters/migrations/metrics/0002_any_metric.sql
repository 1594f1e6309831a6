-- A metric of any namespace. `dimensions` is a JSON list of [name, value], in the order of the names.
CREATE TABLE metrics (
    id INTEGER PRIMARY KEY,
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    dimensions TEXT NOT NULL,
    UNIQUE (account_id, region, namespace, name, dimensions)
);

-- The statistics of a period, 60 seconds or 1, that begins `start_s` seconds after the epoch.
-- `value_counts` has each value and how often it occurred, as doubles; NULL when that is not known.
CREATE TABLE points (
    metric INTEGER NOT NULL REFERENCES metrics,
    period_s INTEGER NOT NULL,
    start_s INTEGER NOT NULL,
    unit TEXT NOT NULL,
    count REAL NOT NULL,
    total REAL NOT NULL,
    minimum REAL NOT NULL,
    maximum REAL NOT NULL,
    value_counts BLOB,
    PRIMARY KEY (metric, period_s, start_s, unit)
);
CREATE INDEX points_by_time ON points (period_s, start_s);

INSERT INTO metrics
SELECT id, account_id, region, 'AWS/Lambda', name,
    CASE resource WHEN '' THEN json_array(json_array('FunctionName', function))
    ELSE json_array(json_array('FunctionName', function), json_array('Resource', resource)) END
FROM series;
INSERT INTO points
SELECT series, 60, minute_s, CASE name WHEN 'AsyncEventAge' THEN 'Milliseconds' ELSE 'Count' END,
    count, total, minimum, maximum, NULL
FROM minutes JOIN series ON series = id;

DROP TABLE minutes;
DROP TABLE series;
