// A database in memory: makes a table, fills it, sorts and groups it, and answers
// with the sums. SQLite itself comes from a crate that the gateway uses, too.

#include <stdio.h>
#include <sqlite3.h>

static int row(void *unused, int count, char **values, char **names) {
    (void)unused;
    for (int n = 0; n < count; n++) printf("%s=%s ", names[n], values[n]);
    printf("\n");
    return 0;
}

int main(void) {
    static const char *const statements =
        "CREATE TABLE items(id INTEGER PRIMARY KEY, kind TEXT, price INTEGER);"
        "CREATE INDEX by_kind ON items(kind);"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
        "  INSERT INTO items SELECT i, 'kind' || (i % 3), i * 7 % 100 FROM n;"
        "SELECT kind, count(*) AS items, sum(price) AS total FROM items"
        "  GROUP BY kind ORDER BY kind DESC;";
    sqlite3 *database;
    char *error = NULL;
    printf("Content-Type: text/plain\n\n");
    if (sqlite3_open(":memory:", &database) != SQLITE_OK ||
        sqlite3_exec(database, statements, row, NULL, &error) != SQLITE_OK) {
        fprintf(stderr, "%s\n", error ? error : "cannot open");
        return 1;
    }
    printf("SQLite %s\n", sqlite3_libversion());
    return sqlite3_close(database);
}
