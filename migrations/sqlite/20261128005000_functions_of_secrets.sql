-- The names of the functions that may use a secret; null stands for all functions of its tenant, and
-- so it does for every secret that exists.
ALTER TABLE secrets ADD COLUMN functions TEXT NOT NULL DEFAULT 'null' CHECK (json_valid(functions));
