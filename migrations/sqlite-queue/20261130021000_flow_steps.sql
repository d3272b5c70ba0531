-- Asynchronous runs of flows are calls in a lane of their own, `flow/{id}`. Their steps that have ended are here,
-- each by its place in the flow, with what it adds to the state. Times are Unix milliseconds.
CREATE TABLE flow_steps (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    run          TEXT    NOT NULL,
    path         TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    target       TEXT    NOT NULL,
    outcome      INTEGER NOT NULL CHECK (outcome BETWEEN 0 AND 2), -- done, continued, failed
    attempt      INTEGER NOT NULL,
    status       INTEGER,
    error        TEXT,
    started_ms   INTEGER NOT NULL,
    ended_ms     INTEGER NOT NULL,
    kind         INTEGER, -- json, text, bytes; null if there is no answer
    content_type TEXT,
    answer       BLOB    NOT NULL,
    UNIQUE (run, path)
) STRICT;

CREATE TRIGGER flow_run_removed AFTER DELETE ON invocations
WHEN OLD.lane GLOB 'flow/*' BEGIN
    DELETE FROM flow_steps WHERE run = OLD.id;
END;

-- A run that has succeeded does not go on: nothing needs the answers of its steps.
CREATE TRIGGER flow_run_succeeded AFTER UPDATE OF state ON invocations
WHEN NEW.state = 2 AND NEW.lane GLOB 'flow/*' BEGIN
    UPDATE flow_steps SET answer = x'' WHERE run = NEW.id;
END;
