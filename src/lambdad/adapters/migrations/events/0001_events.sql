-- Names of lanes are long and few.
CREATE TABLE lanes (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

-- What is in the queue. Ids are never used again: endings bear them too.
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    lane INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    purpose TEXT NOT NULL,
    accepted_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    trace TEXT NOT NULL,
    invocations INTEGER NOT NULL,
    backoffs INTEGER NOT NULL,
    error_code INTEGER NOT NULL,
    error_message TEXT NOT NULL,
    source TEXT NOT NULL,
    leased INTEGER NOT NULL
);
-- An event that is leased as it is accepted, as most are, touches the last of these only.
CREATE INDEX events_waiting ON events (lane, due_ms) WHERE leased = 0;
CREATE INDEX events_by_age ON events (lane, accepted_ms) WHERE leased = 0;
CREATE INDEX events_retrying ON events (lane, backoffs > 0, due_ms) WHERE leased = 0 AND invocations + backoffs > 0;
CREATE INDEX events_leased ON events (lane, accepted_ms) WHERE leased = 1;

-- Apart from the events, so that a change of one does not write its payload again. Dead events keep theirs.
CREATE TABLE payloads (
    id INTEGER PRIMARY KEY,
    payload BLOB NOT NULL
);

-- The id is that of the event, so that it cannot end twice.
CREATE TABLE endings (
    id INTEGER PRIMARY KEY,
    lane INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    purpose TEXT NOT NULL,
    accepted_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    trace TEXT NOT NULL,
    invocations INTEGER NOT NULL,
    backoffs INTEGER NOT NULL,
    error_code INTEGER NOT NULL,
    error_message TEXT NOT NULL,
    source TEXT NOT NULL,
    condition TEXT NOT NULL,
    ended_ms INTEGER NOT NULL,
    redriven_ms INTEGER,
    succeeded INTEGER NOT NULL,
    dead INTEGER NOT NULL
);
CREATE INDEX endings_by_age ON endings (succeeded, ended_ms, id, lane);
CREATE INDEX endings_dead ON endings (lane, ended_ms) WHERE dead = 1;
