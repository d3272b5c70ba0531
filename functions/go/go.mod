module mayfly/functions

go 1.24
