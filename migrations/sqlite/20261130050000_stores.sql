-- Stores of guests' data: where what functions keep is, and how much it may be. The data itself is in the backend,
-- and is found by the id, which is never used again. `quota` is what the owner asked for, as JSON. Times are Unix
-- milliseconds.
CREATE TABLE stores (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant     TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    backend    TEXT    NOT NULL,
    quota      TEXT    NOT NULL CHECK (json_valid(quota)),
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    UNIQUE (tenant, kind, name)
) STRICT;
