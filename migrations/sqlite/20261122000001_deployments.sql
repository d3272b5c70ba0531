-- What was deployed. Times are Unix milliseconds.

-- Bytes that were uploaded, by their SHA-256. The bytes themselves are a file.
CREATE TABLE artifacts (
    digest     BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    bytes      INTEGER NOT NULL CHECK (bytes >= 0),
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT: a deleted function's id is never given to another one, because log
-- lines and caches that outlive the row are keyed by it.
CREATE TABLE functions (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant          TEXT    NOT NULL,
    name            TEXT    NOT NULL,
    description     TEXT    NOT NULL DEFAULT '',
    active_revision INTEGER NOT NULL,
    created_ms      INTEGER NOT NULL,
    updated_ms      INTEGER NOT NULL,
    UNIQUE (tenant, name),
    -- Deferred: a function and its first revision need each other.
    FOREIGN KEY (id, active_revision) REFERENCES revisions (function_id, number)
        DEFERRABLE INITIALLY DEFERRED
) STRICT;

CREATE TABLE revisions (
    function_id INTEGER NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
    number      INTEGER NOT NULL CHECK (number BETWEEN 1 AND 4294967295),
    digest      BLOB    NOT NULL REFERENCES artifacts (digest),
    kind        TEXT    NOT NULL,
    settings    TEXT    NOT NULL CHECK (json_valid(settings)),
    created_ms  INTEGER NOT NULL,
    PRIMARY KEY (function_id, number)
) STRICT;

-- For the collection of artifacts that no revision needs.
CREATE INDEX revisions_by_digest ON revisions (digest);

CREATE TRIGGER revisions_never_change BEFORE UPDATE ON revisions
BEGIN
    SELECT RAISE(ABORT, 'a revision never changes');
END;
