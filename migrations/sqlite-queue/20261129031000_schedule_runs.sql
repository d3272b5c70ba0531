-- Up to which due time the calls of a schedule were enqueued or left out. Schedules are in another
-- database file, which never uses an id again. Times are Unix milliseconds.
CREATE TABLE schedule_progress (
    schedule INTEGER PRIMARY KEY,
    due_ms   INTEGER NOT NULL
) STRICT;

-- The last runs of each schedule, and due times at which there was none. `others` counts due times before
-- it with the same outcome.
CREATE TABLE schedule_runs (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    schedule   INTEGER NOT NULL,
    due_ms     INTEGER NOT NULL,
    manual     INTEGER NOT NULL,
    outcome    INTEGER NOT NULL CHECK (outcome BETWEEN 0 AND 3), -- queued, skipped, missed, refused
    others     INTEGER NOT NULL,
    invocation TEXT
) STRICT;

CREATE INDEX schedule_runs_of ON schedule_runs (schedule, seq);
