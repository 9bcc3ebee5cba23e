"""Small C programs for jobs of which it is known how many processes they make and what these use."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from places import SUPPORT
from workloads import BURN_C

# forks WORKERS COUNT SECONDS EACH: so many workers, each kept on a CPU of its own where it can be, fork COUNT children
# one after another, or until SECONDS are over, which burn EACH seconds. Says how many processes there were, itself
# included, and their CPU seconds.
FORKS_C = """
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double used(int who) {
    struct rusage u;
    getrusage(who, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv) {
    int workers = atoi(argv[1]), count = atoi(argv[2]), made[2], all = 1 + workers;
    double end = now(CLOCK_MONOTONIC) + atof(argv[3]), each = atof(argv[4]);
    int cpus = sysconf(_SC_NPROCESSORS_CONF);
    if (pipe(made))
        return 1;
    for (int i = 0; i < workers; i++)
        if (fork() == 0) {
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(i % cpus, &one);
            int n = 0;
            while (n < count && now(CLOCK_MONOTONIC) < end) {
                sched_setaffinity(0, sizeof one, &one);
                pid_t pid = fork();
                if (pid == 0) {
                    while (now(CLOCK_PROCESS_CPUTIME_ID) < each);
                    _exit(0);
                }
                if (pid < 0 || waitpid(pid, NULL, 0) != pid)
                    _exit(1);
                n++;
            }
            _exit(write(made[1], &n, sizeof n) != sizeof n);
        }
    int status, failed = 0, n;
    while (wait(&status) > 0)
        failed |= status != 0;
    for (int i = 0; i < workers && !failed; i++) {
        failed |= read(made[0], &n, sizeof n) != sizeof n;
        all += n;
    }
    printf("%d %.6f\\n", all, used(RUSAGE_SELF) + used(RUSAGE_CHILDREN));
    return failed;
}
"""

# churn SECONDS: for so long, three things that take about a third of a CPU each. Threads that burn 3 ms, make the next
# one and end; processes that burn 5 ms, make the next one and wait for it; children that burn 8 ms, of the first
# process, and that nobody waits for. A thread that is counted twice, or not, is so with all that come after it.
CHURN_C = """
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double end;

static double now(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void pause_ms(int ms) {
    struct timespec t = {0, ms * 1000000L};
    nanosleep(&t, NULL);
}

static void *threads(void *unused) {
    pthread_t next;
    while (now(CLOCK_THREAD_CPUTIME_ID) < 0.003);
    pause_ms(6);
    if (now(CLOCK_MONOTONIC) < end && pthread_create(&next, NULL, threads, NULL) == 0)
        pthread_detach(next);
    return NULL;
}

static void processes(void) {
    while (now(CLOCK_PROCESS_CPUTIME_ID) < 0.005);
    pause_ms(10);
    if (now(CLOCK_MONOTONIC) < end && fork() == 0)
        processes();
    wait(NULL);
    _exit(0);
}

int main(int argc, char **argv) {
    pthread_t first;
    end = now(CLOCK_MONOTONIC) + atof(argv[1]);
    signal(SIGCHLD, SIG_IGN);
    if (fork() == 0)
        processes();
    pthread_create(&first, NULL, threads, NULL);
    pthread_detach(first);
    while (now(CLOCK_MONOTONIC) < end) {
        if (fork() == 0) {
            while (now(CLOCK_PROCESS_CPUTIME_ID) < 0.008);
            _exit(0);
        }
        pause_ms(24);
    }
    while (wait(NULL) > 0);
    return 0;
}
"""

# stubborn: says its pid, lets go of its streams, and sleeps for 15 s as root where it is setuid root: then an ordinary
# user cannot end it.
STUBBORN_C = """
#include <stdio.h>
#include <unistd.h>

int main(void) {
    dprintf(1, "%d\\n", getpid());
    close(0);
    close(1);
    close(2);
    if (setuid(0))
        return 1;
    sleep(15);
    return 0;
}
"""

SOURCES = {"burn": BURN_C, "forks": FORKS_C, "churn": CHURN_C, "stubborn": STUBBORN_C}
COMPILER = shutil.which("cc")
NO_COMPILER = None if COMPILER else "no C compiler is installed"


class Programs:
    """Where they are, in a folder that every user can reach."""

    def __init__(self, folder: Path) -> None:
        assert COMPILER is not None
        folder.chmod(0o755)
        for name, source in SOURCES.items():
            path = folder / f"{name}.c"
            path.write_text(source)
            subprocess.run([COMPILER, "-O1", "-pthread", "-o", folder / name, path], check=True)
        self.folder = folder
        self.burn, self.forks, self.churn, self.stubborn = (str(folder / name) for name in SOURCES)

    def copy(self, name: str, mode: int) -> str:
        """Another `burn`, which belongs to who runs the tests, with this mode."""
        path = self.folder / name
        shutil.copy(self.burn, path)
        os.chmod(path, mode)
        return str(path)


@contextmanager
def built() -> Iterator[Programs]:
    folder = Path(tempfile.mkdtemp(prefix="proctally-programs-"))
    try:
        yield Programs(folder)
    finally:
        shutil.rmtree(folder)


@contextmanager
def compiled_jobs() -> Iterator[str]:
    """`cpu_jobs.c`, in a folder that every user can reach."""
    assert COMPILER is not None
    with tempfile.TemporaryDirectory(prefix="proctally-jobs-") as folder:
        os.chmod(folder, 0o755)
        program = f"{folder}/cpu_jobs"
        subprocess.run([COMPILER, "-O1", "-pthread", "-o", program, SUPPORT / "cpu_jobs.c"], check=True)
        yield program


def preload(folder: Path, code: str) -> str:
    """Return the path of a shared library of this code in C, for LD_PRELOAD; skips without a compiler."""
    if NO_COMPILER is not None:
        pytest.skip(NO_COMPILER)
    assert COMPILER is not None
    (folder / "preload.c").write_text(code)
    built = str(folder / "preload.so")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", built, folder / "preload.c", "-ldl"], check=True)
    return built
