/* A disk that cannot be synced, hangs, or is slow to, imitated: an LD_PRELOAD shim in which fsync and fdatasync fail with
 * EIO while the file that FAILSYNC names exists, do not return while the one that HANGSYNC names does, and take SLOWSYNC_MS
 * milliseconds longer. Built and loaded by tests; no part of the hub. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

typedef int (*sync_call)(int);

static int perhaps(const char *name, int fd) {
    const char *fault = getenv("FAILSYNC");
    if (fault != NULL && access(fault, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    const char *hang = getenv("HANGSYNC");
    while (hang != NULL && access(hang, F_OK) == 0) {
        struct timespec pause = {0, 10 * 1000000};
        nanosleep(&pause, NULL);
    }
    const char *slow = getenv("SLOWSYNC_MS");
    if (slow != NULL) {
        long ms = atol(slow);
        struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
        nanosleep(&pause, NULL);
    }
    sync_call real = (sync_call)dlsym(RTLD_NEXT, name);
    if (real == NULL) {
        errno = ENOSYS;
        return -1;
    }
    return real(fd);
}

int fsync(int fd) { return perhaps("fsync", fd); }

int fdatasync(int fd) { return perhaps("fdatasync", fd); }
