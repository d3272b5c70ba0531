-- Counts the changes of a function: its entity tag is made of it, so that no two states of a
-- function have the same tag, even if the same revision is active and has the same description.
ALTER TABLE functions ADD COLUMN version INTEGER NOT NULL DEFAULT 0;

-- The version that an upload has made: the same upload, sent once more, gets the same entity tag.
ALTER TABLE idempotency_keys ADD COLUMN version INTEGER;
