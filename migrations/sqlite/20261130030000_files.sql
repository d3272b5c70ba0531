-- Trees of files that revisions give to their guests. Times are Unix milliseconds.
--
-- The settings of a revision know one more field, files; a program from before refuses the database
-- instead of failing on a row.

-- Bytes of one file, by their SHA-256; also the list of the files of a tree. The bytes themselves are a
-- file, which trees of all tenants share.
CREATE TABLE blobs (
    digest     BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    bytes      INTEGER NOT NULL CHECK (bytes >= 0),
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The digest of a tree is that of its list. `used_ms` is when it was last uploaded, or last seen in use
-- by a revision.
CREATE TABLE trees (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant     TEXT    NOT NULL,
    digest     BLOB    NOT NULL REFERENCES blobs (digest),
    files      INTEGER NOT NULL CHECK (files >= 0),
    bytes      INTEGER NOT NULL CHECK (bytes >= 0),
    created_ms INTEGER NOT NULL,
    used_ms    INTEGER NOT NULL,
    UNIQUE (tenant, digest)
) STRICT;

-- The blobs of a tree: those of its files, and its list.
CREATE TABLE tree_blobs (
    tree   INTEGER NOT NULL REFERENCES trees (id) ON DELETE CASCADE,
    digest BLOB    NOT NULL REFERENCES blobs (digest),
    PRIMARY KEY (tree, digest)
) STRICT, WITHOUT ROWID;

-- For the collection of blobs that no tree needs.
CREATE INDEX tree_blobs_by_digest ON tree_blobs (digest);

-- The tree that the settings of a revision name.
ALTER TABLE revisions ADD COLUMN tree INTEGER REFERENCES trees (id);

-- For the collection of trees that no revision needs.
CREATE INDEX revisions_by_tree ON revisions (tree) WHERE tree IS NOT NULL;
