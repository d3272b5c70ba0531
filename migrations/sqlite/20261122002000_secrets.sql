-- Values that the gateway puts into requests of functions. `sealed` is a nonce and the value,
-- encrypted with the key in the file secrets.key. Times are Unix milliseconds.
--
-- The settings of a revision know one more field, credentials; nothing changes for that in the
-- tables, but a program from before refuses the database instead of failing on a row.
CREATE TABLE secrets (
    tenant     TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    sealed     BLOB    NOT NULL,
    hosts      TEXT    NOT NULL CHECK (json_valid(hosts)),
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;
