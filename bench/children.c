/* A tree of known cost: `children COUNT RATE [SECONDS]`.
 *
 * The parent forks COUNT children, writes a line when all live, and ends after SECONDS or at the end of its input.
 * At RATE 0 the children sleep for ever; else each wakes RATE times a second and works for a few microseconds, out of
 * step with the others. They die with the parent.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static void sleep_seconds(double seconds) {
    struct timespec time = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)};
    while (nanosleep(&time, &time) != 0)
        ;
}

static void child(double rate, double phase) {
    if (rate <= 0)
        for (;;)
            pause();
    sleep_seconds(phase / rate);
    for (;;) {
        for (volatile int i = 0; i < 2000; i++)
            ;
        sleep_seconds(1 / rate);
    }
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    int count = atoi(argv[1]);
    double rate = atof(argv[2]);
    double seconds = argc > 3 ? atof(argv[3]) : 0;
    pid_t parent = getpid();
    for (int i = 0; i < count; i++) {
        pid_t pid = fork();
        if (pid < 0) {
            perror("fork");
            return 1;
        }
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent)
                return 0;
            child(rate, (double)i / count);
        }
    }
    printf("ready\n");
    fflush(stdout);
    if (seconds > 0) {
        sleep_seconds(seconds);
    } else {
        char byte;
        while (read(0, &byte, 1) > 0)
            ;
    }
    return 0;
}
