/* A slow disk, imitated: an LD_PRELOAD shim that sleeps SLOWSYNC_MS milliseconds (10 unless told) in fsync and
 * fdatasync, then calls the real one. Built and loaded by benches/ingest.rs; no part of the hub. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

typedef int (*sync_call)(int);

static int slowly(const char *name, int fd) {
    const char *wanted = getenv("SLOWSYNC_MS");
    long ms = wanted != NULL ? strtol(wanted, NULL, 10) : 10;
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000L};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
    sync_call real = (sync_call)dlsym(RTLD_NEXT, name);
    if (real == NULL) {
        errno = ENOSYS;
        return -1;
    }
    return real(fd);
}

int fsync(int fd) { return slowly("fsync", fd); }

int fdatasync(int fd) { return slowly("fdatasync", fd); }
