-- A channel is a named pointer to revisions of a function. `revision` gets the requests that the weights
-- leave over. With a range, a publish moves the channel to the newest version that the range takes;
-- without, only its owner moves it. The channel `default` is what calls of the function itself reach:
-- where it has no row, each publish moves it, and its revision is functions.active_revision in any case.
CREATE TABLE channels (
    function_id INTEGER NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
    name        TEXT    NOT NULL,
    range       TEXT,
    revision    INTEGER NOT NULL,
    weights     TEXT    NOT NULL CHECK (json_valid(weights)),
    sticky      TEXT    NOT NULL CHECK (json_valid(sticky)),
    updated_ms  INTEGER NOT NULL,
    PRIMARY KEY (function_id, name)
) STRICT, WITHOUT ROWID;

-- The channel that a change was about, and the channel's new state where its owner set that.
ALTER TABLE changes ADD COLUMN channel TEXT NOT NULL DEFAULT 'default';
ALTER TABLE changes ADD COLUMN detail TEXT NOT NULL DEFAULT 'null' CHECK (json_valid(detail));
