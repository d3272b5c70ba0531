-- When functions are called, by the calendar. The document is checked by the gateway. Nothing due at
-- `since_ms` or before counts. The ids of calls are made of `seed`, which is random, because whoever knows
-- the id of a call sees its answer.
--
-- AUTOINCREMENT: another database file knows schedules by their ids, so an id is never used again.
CREATE TABLE schedules (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant     TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    document   TEXT    NOT NULL,
    seed       TEXT    NOT NULL,
    since_ms   INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    UNIQUE (tenant, name)
) STRICT;
