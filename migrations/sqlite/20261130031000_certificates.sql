-- Certificates of owners' hosts. `chain` is PEM, and `sealed` is a nonce and the private key in PEM,
-- encrypted with the key in the file secrets.key. Times are Unix milliseconds.
--
-- AUTOINCREMENT: connections know a certificate by its id, so an id is never used again.
CREATE TABLE certificates (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant        TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    chain         TEXT    NOT NULL,
    sealed        BLOB    NOT NULL,
    hosts         TEXT    NOT NULL CHECK (json_valid(hosts)),
    fingerprint   TEXT    NOT NULL,
    not_before_ms INTEGER NOT NULL,
    not_after_ms  INTEGER NOT NULL,
    created_ms    INTEGER NOT NULL,
    updated_ms    INTEGER NOT NULL,
    UNIQUE (tenant, name)
) STRICT;

-- A host has one certificate, whoever has uploaded it.
CREATE TABLE certificate_hosts (
    host        TEXT    NOT NULL PRIMARY KEY,
    certificate INTEGER NOT NULL REFERENCES certificates (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX certificate_hosts_by_certificate ON certificate_hosts (certificate);
