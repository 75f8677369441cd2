/* Every sync of a file takes as long again as SYNC_MICROSECONDS says: loaded before the C library,
 * it makes a fast disk as slow to sync as a network's, for every program alike. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static int delayed(const char *name, int file) {
    int (*sync_file)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *given = getenv("SYNC_MICROSECONDS");
    long micros = given ? atol(given) : 0;
    struct timespec left = {micros / 1000000, micros % 1000000 * 1000};
    while (nanosleep(&left, &left) != 0) {
    }
    return sync_file(file);
}

int fsync(int file) { return delayed("fsync", file); }

int fdatasync(int file) { return delayed("fdatasync", file); }
