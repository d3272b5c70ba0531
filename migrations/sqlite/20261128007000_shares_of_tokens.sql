-- The token that has made a function or sent an upload: some quotas are shared among tokens. Those
-- of before count as one token's.
ALTER TABLE functions ADD COLUMN token TEXT NOT NULL DEFAULT '';
ALTER TABLE idempotency_keys ADD COLUMN token TEXT NOT NULL DEFAULT '';
