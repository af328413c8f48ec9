/* A wall clock that is set, imitated: an LD_PRELOAD shim in which the wall clock is an hour ahead while the file that
 * STEPCLOCK names exists; the clock that only runs on is left alone. Built and loaded by tests; no part of the hub. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

typedef int (*clock_call)(clockid_t, struct timespec *);

int clock_gettime(clockid_t id, struct timespec *now) {
    clock_call real = (clock_call)dlsym(RTLD_NEXT, "clock_gettime");
    if (real == NULL) {
        errno = ENOSYS;
        return -1;
    }
    int result = real(id, now);
    const char *file = getenv("STEPCLOCK");
    if (result == 0 && id == CLOCK_REALTIME && file != NULL && access(file, F_OK) == 0) {
        now->tv_sec += 3600;
    }
    return result;
}
