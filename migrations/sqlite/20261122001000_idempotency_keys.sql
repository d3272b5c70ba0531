-- Uploads that were answered, by the name that their client gave them: sent once more, they are
-- answered alike. A row is written in the transaction that publishes. Times are Unix milliseconds.
CREATE TABLE idempotency_keys (
    tenant      TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    -- Tells the same upload from another one under the same name.
    fingerprint BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    function_id INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    created     INTEGER NOT NULL CHECK (created IN (0, 1)),
    created_ms  INTEGER NOT NULL,
    PRIMARY KEY (tenant, key),
    FOREIGN KEY (function_id, revision) REFERENCES revisions (function_id, number)
        ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_ms);
CREATE INDEX idempotency_keys_by_revision ON idempotency_keys (function_id, revision);
