-- The project whose manifest has made a thing; NULL if a person has made it. It goes with the row, so that
-- something else of the same name does not belong to the project.
ALTER TABLE functions ADD COLUMN project TEXT;
ALTER TABLE channels ADD COLUMN project TEXT;
ALTER TABLE routes ADD COLUMN project TEXT;
ALTER TABLE schedules ADD COLUMN project TEXT;
ALTER TABLE queues ADD COLUMN project TEXT;
ALTER TABLE flows ADD COLUMN project TEXT;
