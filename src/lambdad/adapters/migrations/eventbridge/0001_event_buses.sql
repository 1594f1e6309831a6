-- What is configured, as JSON. Names are unique in an account and region, those of rules on a bus.
CREATE TABLE buses (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (account_id, region, name)
) WITHOUT ROWID;

CREATE TABLE rules (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    bus TEXT NOT NULL,
    name TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (account_id, region, bus, name)
) WITHOUT ROWID;

-- The figures are those of the events below.
CREATE TABLE archives (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL,
    event_count INTEGER NOT NULL DEFAULT 0,
    size_bytes INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, region, name)
) WITHOUT ROWID;

CREATE TABLE replays (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (account_id, region, name)
) WITHOUT ROWID;

-- Events in archives. Those of an archive that is gone are removed step by step.
CREATE TABLE archived_events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    archive_id TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    stored_ms INTEGER NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX archived_events_by_time ON archived_events (archive_id, time_ms, number);
CREATE INDEX archived_events_by_storing ON archived_events (archive_id, stored_ms);
