-- The settings of a revision know four more fields: grants, config, config_lists_secrets and ungranted. A
-- program from before refuses the database instead of failing on a row. Nothing else changes.
SELECT 1;
