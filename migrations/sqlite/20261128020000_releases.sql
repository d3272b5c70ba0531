-- What the publisher said of a revision, and who that was: a semantic version, labels, the id of the
-- token, and the client's address. Those of before are not known.
ALTER TABLE revisions ADD COLUMN semver TEXT;
ALTER TABLE revisions ADD COLUMN labels TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(labels));
ALTER TABLE revisions ADD COLUMN deployed_by TEXT NOT NULL DEFAULT '';
ALTER TABLE revisions ADD COLUMN deployed_from TEXT NOT NULL DEFAULT '';

-- Which revision a function was at, before and after each change. A row is written in the
-- transaction of the change. `before` is null for the first deploy.
CREATE TABLE changes (
    function_id INTEGER NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
    number      INTEGER NOT NULL,
    made_ms     INTEGER NOT NULL,
    made_by     TEXT    NOT NULL,
    made_from   TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    before      INTEGER,
    after       INTEGER NOT NULL,
    PRIMARY KEY (function_id, number)
) STRICT, WITHOUT ROWID;
