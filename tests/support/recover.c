// What `.recover` of SQLite's shell does, by SQLite's own code for it: recover DATABASE INTO. Debian's shell has the command and
// lacks a table that it needs; so .ci/run builds this of SQLite's sources, and STATIONHUB_RECOVER names it to the tests.
#include <stdio.h>
#include "sqlite3.h"
#include "sqlite3recover.h"

int main(int count, char **arguments) {
    sqlite3 *database;
    int rowids = 1, code;
    if (count != 3) return 2;
    sqlite3_open(arguments[1], &database);
    sqlite3_recover *recover = sqlite3_recover_init(database, "main", arguments[2]);
    sqlite3_recover_config(recover, SQLITE_RECOVER_LOST_AND_FOUND, "lost_and_found");
    sqlite3_recover_config(recover, SQLITE_RECOVER_ROWIDS, &rowids);
    sqlite3_recover_run(recover);
    code = sqlite3_recover_errcode(recover);
    if (code) fprintf(stderr, "%s\n", sqlite3_recover_errmsg(recover));
    sqlite3_recover_finish(recover);
    sqlite3_close(database);
    return code != 0;
}
