-- What guests keep in stores of keys and values. A key is the bytes of a text: as bytes it is compared and
-- counted whole, whatever is in it. An ordinary table with rowids, because large values would make a tree
-- without them slow. Times are Unix milliseconds.
CREATE TABLE entries (
    store      INTEGER NOT NULL,
    key        BLOB    NOT NULL,
    value      BLOB    NOT NULL,
    version    INTEGER NOT NULL,
    expires_ms INTEGER,
    metadata   TEXT,
    UNIQUE (store, key)
) STRICT;

-- For the removal of what has expired.
CREATE INDEX entries_by_expiry ON entries (expires_ms) WHERE expires_ms IS NOT NULL;

-- What each store has, changed in the transactions that change the entries. `version` is the one that was
-- given last: it only grows, so that an entry that is removed and written again has another version.
CREATE TABLE usage (
    store   INTEGER NOT NULL PRIMARY KEY,
    keys    INTEGER NOT NULL,
    bytes   INTEGER NOT NULL,
    version INTEGER NOT NULL
) STRICT;
