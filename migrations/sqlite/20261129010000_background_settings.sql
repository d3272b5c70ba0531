-- Settings of a revision may hold `respond_async`, `on_success` and `on_failure`. Nothing to change here:
-- this only makes a program that does not know the fields refuse the database.
SELECT 1;
