/* Every sync of a file takes at least as long as SYNC_MICROSECONDS says: loaded before the C
 * library, it makes a fast disk as slow to sync as another one, for every program alike. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

#define SLEEP_SLACK_MICROS 1000 /* a sleep ends late by some of it; the rest is waited awake */

static long micros_since(const struct timespec *start) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - start->tv_sec) * 1000000 + (now.tv_nsec - start->tv_nsec) / 1000;
}

static int slowed(const char *name, int file) {
    int (*sync_file)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *given = getenv("SYNC_MICROSECONDS");
    long micros = given ? atol(given) : 0, left;
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    int result = sync_file(file);
    while ((left = micros - micros_since(&start)) > 0) {
        if (left > SLEEP_SLACK_MICROS) {
            long asleep = left - SLEEP_SLACK_MICROS;
            nanosleep(&(struct timespec){asleep / 1000000, asleep % 1000000 * 1000}, NULL);
        }
    }
    return result;
}

int fsync(int file) { return slowed("fsync", file); }

int fdatasync(int file) { return slowed("fdatasync", file); }
