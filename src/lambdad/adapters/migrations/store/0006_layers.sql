-- The archives of layers that versions of functions use, by which it is known when one may be removed.
CREATE TABLE version_archives (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    code_sha256 TEXT NOT NULL,
    PRIMARY KEY (account_id, region, name, number, code_sha256)
) WITHOUT ROWID;
CREATE INDEX version_archives_code_sha256 ON version_archives (code_sha256);
CREATE INDEX layer_versions_code_sha256 ON records (json_extract(record, '$.code_sha256'))
    WHERE kind = 'layer_version';
