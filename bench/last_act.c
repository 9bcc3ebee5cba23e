/* A job whose end is known: `last_act SECONDS` sleeps, writes the monotonic nanoseconds, and ends. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    usleep((useconds_t)((argc > 1 ? atof(argv[1]) : 0) * 1e6));
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    dprintf(1, "%lld\n", time.tv_sec * 1000000000LL + time.tv_nsec);
    _exit(0);
}
