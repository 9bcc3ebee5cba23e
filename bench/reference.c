/* What reading a tree costs in C: `reference PID PASSES INTERVAL`.
 *
 * In each pass, one every INTERVAL seconds, it preads stat, statm and io of every child of PID through descriptors that
 * stay open, and opens, reads and closes their smaps_rollup; then writes the CPU nanoseconds that the pass took.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const char *const KEPT[] = {"stat", "statm", "io"};
enum { FILES = 3 };

static long long now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int open_file(long pid, const char *name) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/%s", pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        perror(path);
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv) {
    static char buffer[65536];
    if (argc != 4)
        return 2;
    long root = atol(argv[1]);
    int passes = atoi(argv[2]);
    long long interval = (long long)(atof(argv[3]) * 1e9);

    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);

    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/task/%ld/children", root, root);
    FILE *children = fopen(path, "r");
    if (!children) {
        perror(path);
        return 1;
    }
    long *pids = NULL, pid;
    int(*fds)[FILES] = NULL;
    size_t count = 0;
    while (fscanf(children, "%ld", &pid) == 1) {
        pids = realloc(pids, (count + 1) * sizeof *pids);
        fds = realloc(fds, (count + 1) * sizeof *fds);
        pids[count] = pid;
        for (int file = 0; file < FILES; file++)
            fds[count][file] = open_file(pid, KEPT[file]);
        count++;
    }
    fclose(children);

    long long due = now(CLOCK_MONOTONIC);
    for (int pass = 0; pass < passes; pass++) {
        struct timespec until = {due / 1000000000, due % 1000000000};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
            ;
        long long before = now(CLOCK_PROCESS_CPUTIME_ID);
        for (size_t i = 0; i < count; i++) {
            for (int file = 0; file < FILES; file++)
                if (pread(fds[i][file], buffer, sizeof buffer, 0) <= 0)
                    return 1;
            int fd = open_file(pids[i], "smaps_rollup");
            if (read(fd, buffer, sizeof buffer) <= 0)
                return 1;
            close(fd);
        }
        printf("%lld\n", now(CLOCK_PROCESS_CPUTIME_ID) - before);
        fflush(stdout);
        due += interval;
    }
    return 0;
}
