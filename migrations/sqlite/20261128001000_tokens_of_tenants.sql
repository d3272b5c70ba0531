-- A token belongs to one tenant. Every token that exists belongs to the tenant `default`, and so
-- does one that is added without a tenant: a program that does not know the column still works.
ALTER TABLE tokens ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default';
