-- The automatic canary that runs in a channel, as JSON; NULL if none does.
ALTER TABLE channels ADD COLUMN canary TEXT CHECK (json_valid(canary));
