-- What a channel has besides its revisions, such as settings of its own.
ALTER TABLE channels ADD COLUMN options TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(options));
