-- API tokens. Only the SHA-256 of a token's secret is here. Times are Unix milliseconds.
CREATE TABLE tokens (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    scopes     TEXT    NOT NULL CHECK (json_valid(scopes)),
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    revoked_ms INTEGER
) STRICT, WITHOUT ROWID;
