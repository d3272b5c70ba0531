-- What functions wrote. Times are Unix milliseconds.

-- AUTOINCREMENT: ids are readers' cursors, so they never go back, not even after
-- the newest lines were trimmed. `function_id` has no foreign key: functions are in
-- another database file.
CREATE TABLE log_lines (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    function_id INTEGER NOT NULL,
    time_ms     INTEGER NOT NULL,
    invocation  TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    stream      INTEGER NOT NULL CHECK (stream IN (0, 1, 2)), -- system, stdout, stderr
    line        TEXT    NOT NULL
) STRICT;

-- Both end with the row's id, which is how lines are ordered and paged.
CREATE INDEX log_lines_by_function ON log_lines (function_id);
CREATE INDEX log_lines_by_invocation ON log_lines (function_id, invocation);
