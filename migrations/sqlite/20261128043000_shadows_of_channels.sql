-- The options of a channel may hold `shadow`. Nothing to change here: this only makes a program that does
-- not know the field refuse the database.
SELECT 1;
