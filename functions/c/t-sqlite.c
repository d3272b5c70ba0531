// A database in memory, or in a file under /tmp if the path is `/file`: makes a table, fills it, sorts
// and groups it, and answers with the sums. With a file, a transaction is also rolled back from its
// journal, and the database is rewritten through a temporary one. SQLite itself comes from a crate
// that the gateway uses, too.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sqlite3.h>

static int row(void *unused, int count, char **values, char **names) {
    (void)unused;
    for (int n = 0; n < count; n++) printf("%s=%s ", names[n], values[n]);
    printf("\n");
    return 0;
}

int main(void) {
    static const char *const in_memory = "PRAGMA temp_store = MEMORY;";
    // So little is cached that sorting and rolling back need files.
    static const char *const in_file =
        "PRAGMA temp_store = FILE; PRAGMA cache_size = 10; PRAGMA journal_mode = DELETE;";
    static const char *const statements =
        "CREATE TABLE items(id INTEGER PRIMARY KEY, kind TEXT, price INTEGER);"
        "CREATE INDEX by_kind ON items(kind);"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
        "  INSERT INTO items SELECT i, 'kind' || (i % 3), i * 7 % 100 FROM n;"
        "SELECT kind, count(*) AS items, sum(price) AS total FROM items"
        "  GROUP BY kind ORDER BY kind DESC;";
    static const char *const more =
        "BEGIN; UPDATE items SET price = price + 1, kind = kind || '-changed'; ROLLBACK;"
        "CREATE TEMP TABLE sorted AS SELECT price, kind || price AS name FROM items"
        "  ORDER BY name DESC;"
        "VACUUM;"
        "SELECT count(*) AS sorted FROM temp.sorted;"
        "SELECT sum(price) AS total FROM items;"
        "PRAGMA integrity_check;";
    const char *const path = getenv("PATH_INFO");
    const int file = path && strcmp(path, "/file") == 0;
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    sqlite3 *database;
    char *error = NULL;
    printf("Content-Type: text/plain\n\n");
    // Nobody else has the file, and WASI has no locks.
    if (sqlite3_open_v2(file ? "/tmp/items.db" : ":memory:", &database, flags, "unix-none") ||
        sqlite3_exec(database, file ? in_file : in_memory, row, NULL, &error) ||
        sqlite3_exec(database, statements, row, NULL, &error) ||
        (file && sqlite3_exec(database, more, row, NULL, &error))) {
        fprintf(stderr, "%s: %s\n", error ? error : "cannot open", sqlite3_errmsg(database));
        return 1;
    }
    printf("SQLite %s\n", sqlite3_libversion());
    return sqlite3_close(database);
}
