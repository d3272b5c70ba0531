-- Messages of named queues are calls in a lane of their own, `queue/{id}`, and can be moved to another one.
-- The totals of both lanes follow.
DROP TRIGGER invocation_changed;

CREATE TRIGGER invocation_changed AFTER UPDATE OF state, bytes ON invocations
WHEN NEW.lane = OLD.lane BEGIN
    UPDATE invocation_lanes SET
        due = due - (OLD.state = 0) + (NEW.state = 0),
        running = running - (OLD.state = 1) + (NEW.state = 1),
        dead = dead - (OLD.state = 3) + (NEW.state = 3),
        done = done - (OLD.state IN (2, 4)) + (NEW.state IN (2, 4)),
        waiting_bytes = waiting_bytes - (OLD.state < 2) * OLD.bytes + (NEW.state < 2) * NEW.bytes,
        kept_bytes = kept_bytes - (OLD.state >= 2) * OLD.bytes + (NEW.state >= 2) * NEW.bytes
    WHERE lane = NEW.lane;
END;

CREATE TRIGGER invocation_moved AFTER UPDATE OF lane ON invocations
WHEN NEW.lane <> OLD.lane BEGIN
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
    UPDATE invocation_lanes SET
        due = due - (OLD.state = 0),
        running = running - (OLD.state = 1),
        dead = dead - (OLD.state = 3),
        done = done - (OLD.state IN (2, 4)),
        waiting_bytes = waiting_bytes - (OLD.state < 2) * OLD.bytes,
        kept_bytes = kept_bytes - (OLD.state >= 2) * OLD.bytes
    WHERE lane = OLD.lane;
END;
