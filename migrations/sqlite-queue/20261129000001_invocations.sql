-- Calls that wait to be made, and what became of them. Times are Unix milliseconds.

-- `lane` is what calls wait in and what bounds how many run at once: a function, the deliveries of
-- one, or a queue. `fields` and `answer_fields` hold header fields, one in a line. `context` is what
-- the gateway must know of the caller when it makes the call, as JSON. `function_id` has no foreign
-- key: functions are in another database file.
CREATE TABLE invocations (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT    NOT NULL UNIQUE,
    tenant         TEXT    NOT NULL,
    lane           TEXT    NOT NULL,
    function       TEXT    NOT NULL,
    function_id    INTEGER NOT NULL,
    channel        TEXT,
    revision       INTEGER,
    cause          TEXT    NOT NULL,
    source         TEXT,
    context        TEXT    NOT NULL,
    method         TEXT    NOT NULL,
    target         TEXT    NOT NULL,
    fields         BLOB    NOT NULL,
    body           BLOB    NOT NULL,
    state          INTEGER NOT NULL CHECK (state BETWEEN 0 AND 4), -- due, running, succeeded, dead, cancelled
    attempt        INTEGER NOT NULL,
    created_ms     INTEGER NOT NULL,
    due_ms         INTEGER NOT NULL,
    expires_ms     INTEGER NOT NULL,
    lease_ms       INTEGER,
    finished_ms    INTEGER,
    last_error     TEXT,
    answer_status  INTEGER,
    answer_fields  BLOB,
    answer_body    BLOB,
    answer_cut     INTEGER NOT NULL DEFAULT 0,
    -- What a client has named this call, hashed, and what else it said, hashed.
    dedup          BLOB,
    fingerprint    BLOB,
    bytes          INTEGER NOT NULL
) STRICT;

CREATE INDEX invocations_due ON invocations (lane, due_ms) WHERE state = 0;
CREATE INDEX invocations_running ON invocations (lease_ms) WHERE state = 1;
CREATE INDEX invocations_finished ON invocations (finished_ms) WHERE state >= 2;
CREATE INDEX invocations_of_lane ON invocations (lane, state);
CREATE INDEX invocations_of_tenant ON invocations (tenant, state);
CREATE UNIQUE INDEX invocations_named ON invocations (lane, dedup) WHERE dedup IS NOT NULL;

-- How many calls a lane has, so that a quota and a metric count nothing.
CREATE TABLE invocation_lanes (
    lane          TEXT    PRIMARY KEY,
    tenant        TEXT    NOT NULL,
    function      TEXT    NOT NULL,
    function_id   INTEGER NOT NULL,
    due           INTEGER NOT NULL DEFAULT 0,
    running       INTEGER NOT NULL DEFAULT 0,
    dead          INTEGER NOT NULL DEFAULT 0,
    done          INTEGER NOT NULL DEFAULT 0,
    waiting_bytes INTEGER NOT NULL DEFAULT 0,
    kept_bytes    INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TRIGGER invocation_added AFTER INSERT ON invocations BEGIN
    INSERT INTO invocation_lanes (lane, tenant, function, function_id)
        SELECT NEW.lane, NEW.tenant, NEW.function, NEW.function_id
        WHERE NOT EXISTS (SELECT 1 FROM invocation_lanes WHERE lane = NEW.lane);
    UPDATE invocation_lanes SET
        due = due + (NEW.state = 0),
        running = running + (NEW.state = 1),
        dead = dead + (NEW.state = 3),
        done = done + (NEW.state IN (2, 4)),
        waiting_bytes = waiting_bytes + (NEW.state < 2) * NEW.bytes,
        kept_bytes = kept_bytes + (NEW.state >= 2) * NEW.bytes
    WHERE lane = NEW.lane;
END;

CREATE TRIGGER invocation_changed AFTER UPDATE OF state, bytes ON invocations BEGIN
    UPDATE invocation_lanes SET
        due = due - (OLD.state = 0) + (NEW.state = 0),
        running = running - (OLD.state = 1) + (NEW.state = 1),
        dead = dead - (OLD.state = 3) + (NEW.state = 3),
        done = done - (OLD.state IN (2, 4)) + (NEW.state IN (2, 4)),
        waiting_bytes = waiting_bytes - (OLD.state < 2) * OLD.bytes + (NEW.state < 2) * NEW.bytes,
        kept_bytes = kept_bytes - (OLD.state >= 2) * OLD.bytes + (NEW.state >= 2) * NEW.bytes
    WHERE lane = NEW.lane;
END;

CREATE TRIGGER invocation_removed AFTER DELETE ON invocations BEGIN
    UPDATE invocation_lanes SET
        due = due - (OLD.state = 0),
        running = running - (OLD.state = 1),
        dead = dead - (OLD.state = 3),
        done = done - (OLD.state IN (2, 4)),
        waiting_bytes = waiting_bytes - (OLD.state < 2) * OLD.bytes,
        kept_bytes = kept_bytes - (OLD.state >= 2) * OLD.bytes
    WHERE lane = OLD.lane;
END;
