-- Artifacts that tenants have uploaded by themselves, before a function runs them. `claimed_ms` is when one was
-- last uploaded, or named by a manifest, in Unix milliseconds: an artifact stays for a while after that.
CREATE TABLE artifact_claims (
    tenant     TEXT    NOT NULL,
    digest     BLOB    NOT NULL REFERENCES artifacts (digest) ON DELETE CASCADE,
    claimed_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, digest)
) STRICT, WITHOUT ROWID;

-- For the collection of artifacts that no tenant claims.
CREATE INDEX artifact_claims_by_digest ON artifact_claims (digest);
