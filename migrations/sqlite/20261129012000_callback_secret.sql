-- Settings of a revision may hold `callback_secret`. Nothing to change here: this only makes a program that
-- does not know the field refuse the database.
SELECT 1;
