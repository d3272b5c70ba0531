-- Flows: functions that are called one after the other. `document` is what the owner asked for, as JSON. An id is
-- never used again: runs that wait, which are in another database file, are found by it. Times are Unix
-- milliseconds.
CREATE TABLE flows (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant     TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    document   TEXT    NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    UNIQUE (tenant, name)
) STRICT;
