"""Hostile jobs whose CPU time is easy to lose: the ways in which real jobs fork, orphan, reap and ignore.

A program and a module: `python workloads.py NAME [SECONDS]` runs one of WORKLOADS, which uses about SECONDS of
CPU, by its own CPU clocks and in whatever processes, and leaves nothing behind when it ends. Only what a job needs is
imported, so that the interpreter's start stays small beside it.
"""

import os
import sys
import time
from collections.abc import Callable

PR_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h
CLONE_NEWPID = 0x20000000  # include/uapi/linux/sched.h
SYS_EXIT = {"x86_64": 60, "aarch64": 93}  # exit(2), of one thread; exit_group(2) ends the process

EMPTY_CHILD_SECONDS = 0.0005  # what a fork of this interpreter and its exit at once cost, at least

BURN_C = """
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv) {
    double seconds = argc > 1 ? atof(argv[1]) : 0;
    struct timespec used;
    do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    while (used.tv_sec + used.tv_nsec / 1e9 < seconds);
    return 0;
}
"""


# -- what the jobs are made of -----------------------------------------------------------------------------------


def burn(until: float) -> None:
    """Keep this process busy until it has used so many CPU seconds since it was forked or started."""
    while time.process_time() < until:
        pass


def fork(child: Callable[[], object]) -> int:
    """The pid of a child that runs this and exits."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child()
            status = 0
        finally:
            os._exit(status)
    return pid


def fork_and_wait(child: Callable[[], object]) -> None:
    os.waitpid(fork(child), 0)


def fork_orphan(child: Callable[[], object]) -> None:
    """Fork twice and let the one in between end at once: the child has lost its parent."""
    fork_and_wait(lambda: fork(child))


def one_after_another(total: float, each: float) -> None:
    for _ in range(round(total / each)):
        fork_and_wait(lambda: burn(each))


class Living:
    """A pipe whose write end every descendant inherits: end of file says that all of them have ended.

    For waiting for processes that are nobody's children, or that must not be waited for.
    """

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()

    def wait_for_end(self) -> None:
        os.close(self.write_end)
        os.read(self.read_end, 1)


# -- the jobs ----------------------------------------------------------------------------------------------------


def busy(seconds: float) -> None:
    burn(seconds)


def threads(seconds: float) -> None:
    import threading
    import zlib

    buffer = bytes(1 << 20)  # large enough that checksums are computed without the interpreter lock

    def work() -> None:
        while time.thread_time() < seconds / 4:
            zlib.crc32(buffer)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def children_5ms(seconds: float) -> None:
    one_after_another(seconds, 0.005)


def two_level(seconds: float) -> None:
    for _ in range(5):
        fork_and_wait(lambda: one_after_another(seconds / 5, 0.02))


def long_child(seconds: float) -> None:
    fork_and_wait(lambda: burn(seconds))


def thread_child(seconds: float) -> None:
    import threading
    import warnings

    warnings.simplefilter("ignore")  # forking beside other threads is the point
    worker = threading.Thread(target=fork_and_wait, args=(lambda: burn(seconds),))
    worker.start()
    worker.join()


def dead_parent(seconds: float) -> None:
    living = Living()

    def parent() -> None:
        fork(lambda: burn(seconds - 0.2))
        burn(0.2)

    fork_and_wait(parent)
    living.wait_for_end()


def orphan_session(seconds: float) -> None:
    living = Living()

    def daemon() -> None:
        os.setsid()
        burn(seconds)

    fork_orphan(daemon)
    living.wait_for_end()


def orphan_storm(seconds: float) -> None:
    living = Living()
    for _ in range(round(seconds / 0.005)):
        fork_orphan(lambda: burn(0.005))
    living.wait_for_end()


def zombies(seconds: float) -> None:
    living = Living()
    for _ in range(20):
        fork(lambda: burn(seconds / 20))
    living.wait_for_end()
    time.sleep(0.3)


def preforked(seconds: float) -> None:
    for _ in range(8):
        fork(lambda: one_after_another(seconds / 8, 0.01))
    for _ in range(8):
        os.wait()


def vfork_exec(seconds: float) -> None:
    import shutil
    import tempfile

    folder = tempfile.mkdtemp()
    try:
        command, each = small_command(folder)
        for _ in range(round(seconds / each)):
            os.waitpid(os.posix_spawn(command[0], command, os.environ), 0)
    finally:
        shutil.rmtree(folder)


def small_command(folder: str) -> tuple[list[str], float]:
    """A command that burns a little, and how many seconds: a program of our own, or else a loop of the shell."""
    for compiler in ("/usr/bin/cc", "/usr/bin/gcc", "/usr/bin/clang"):
        if os.access(compiler, os.X_OK):
            source, program = f"{folder}/burn.c", f"{folder}/burn"
            with open(source, "w") as file:
                file.write(BURN_C)
            command = [compiler, "-O1", "-o", program, source]
            status = os.waitpid(os.posix_spawn(compiler, command, os.environ), 0)[1]
            if status == 0 and os.access(program, os.X_OK):
                return [program, "0.005"], 0.005
    loop = ["/bin/sh", "-c", "i=0; while [ $i -lt 10000 ]; do i=$((i+1)); done"]
    before = os.times()
    os.waitpid(os.posix_spawn(loop[0], loop, os.environ), 0)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return loop, max(used, 0.005)


def inner_subreaper(seconds: float) -> None:
    import ctypes

    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        sys.exit("prctl: not permitted to be a subreaper")
    for _ in range(round(seconds / 0.05)):
        fork_orphan(lambda: burn(0.05))
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass


def leader_exits(seconds: float) -> None:
    import ctypes
    import threading

    leader = threading.get_native_id()

    def work() -> None:
        while not _is_zombie(leader):
            time.sleep(0.001)
        burn(seconds)
        os._exit(0)

    threading.Thread(target=work).start()
    ctypes.CDLL(None).syscall(SYS_EXIT[os.uname().machine], 0)


def _is_zombie(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] == b"Z"


def thread_execs(seconds: float) -> None:
    import threading

    def work() -> None:
        burn(seconds / 2)
        # CPU clocks go on across the exec: the second half is what the same process still lacks
        os.execv(sys.executable, [sys.executable, "-S", __file__, "busy", str(seconds)])

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()


def autoreaped(count: int, child: Callable[[], object]) -> None:
    """So many children, one after another, of a parent that ignores SIGCHLD: the kernel reaps them, unaccounted."""
    import signal

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(count):
        try:
            fork_and_wait(child)
        except ChildProcessError:  # as it must be: the kernel has reaped it
            pass


def sigchld_ignored(seconds: float) -> None:
    autoreaped(round(seconds / 0.05), lambda: burn(0.05))


def autoreaped_1ms(seconds: float) -> None:
    autoreaped(round(seconds / 0.001), lambda: burn(0.001))


def autoreaped_empty(seconds: float) -> None:
    autoreaped(round(seconds / EMPTY_CHILD_SECONDS), lambda: None)


def pid_namespace(seconds: float) -> None:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWPID):
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    fork_and_wait(lambda: die_before_children(seconds))


def die_before_children(seconds: float, count: int = 4) -> None:
    """The init of a namespace: when it ends, the kernel kills its busy children, and nobody waits for them."""
    used_up, write_end = os.pipe()

    def child() -> None:
        burn(seconds / count)
        os.write(write_end, b"x")
        burn(float("inf"))

    for _ in range(count):
        fork(child)
    for _ in range(count):
        os.read(used_up, 1)


def idle(seconds: float) -> None:
    time.sleep(seconds)


class Workload:
    """A job, what is hostile in it, and the seconds it takes when none are given: of CPU, or of sleep for `idle`.

    `seen`: whether procfs and wait4 can see all of its CPU time; `seen_by_perf`: whether perf can, but for 1 %;
    `needs_root`: whether an ordinary user cannot run it.
    """

    def __init__(
        self,
        run: Callable[[float], None],
        description: str,
        seconds: float = 2.0,
        *,
        seen: bool = True,
        seen_by_perf: bool = True,
        needs_root: bool = False,
    ) -> None:
        self.run = run
        self.description = description
        self.seconds = seconds
        self.seen = seen
        self.seen_by_perf = seen_by_perf
        self.needs_root = needs_root


WORKLOADS = {
    "busy": Workload(busy, "one busy process"),
    "threads": Workload(threads, "four busy threads", 3.0),
    "children_5ms": Workload(children_5ms, "children of 5 ms, one after another", 3.0),
    "two_level": Workload(two_level, "children that each run children of 20 ms"),
    "long_child": Workload(long_child, "one long child, reaped at its end"),
    "thread_child": Workload(thread_child, "a busy child forked by a thread that is not the main one"),
    "dead_parent": Workload(dead_parent, "a parent that ends before its busy child"),
    "orphan_session": Workload(orphan_session, "an orphan, forked twice, in a session of its own"),
    "orphan_storm": Workload(orphan_storm, "hundreds of orphans of 5 ms", 3.0),
    "zombies": Workload(zombies, "children that ended and that nobody waits for", 3.0),
    "preforked": Workload(preforked, "eight parents of children of 10 ms", 3.0),
    "vfork_exec": Workload(vfork_exec, "small commands started by vfork and exec"),
    "inner_subreaper": Workload(inner_subreaper, "a job that is a subreaper, with orphans of its own", 3.0),
    "leader_exits": Workload(leader_exits, "a main thread that ended before another, busy one"),
    "thread_execs": Workload(thread_execs, "exec by a thread that is not the main one"),
    "sigchld_ignored": Workload(sigchld_ignored, "children of 50 ms of a parent that ignores SIGCHLD", seen=False),
    "autoreaped_1ms": Workload(
        autoreaped_1ms, "children of 1 ms of a parent that ignores SIGCHLD", 1.0, seen=False, seen_by_perf=False
    ),
    "autoreaped_empty": Workload(
        autoreaped_empty, "children that end at once, of such a parent", 1.5, seen=False, seen_by_perf=False
    ),
    "pid_namespace": Workload(
        pid_namespace, "busy children that die with the init of a PID namespace", seen=False, needs_root=True
    ),
    "idle": Workload(idle, "sleep"),
}


def main(arguments: list[str]) -> int:
    if not 1 <= len(arguments) <= 2 or arguments[0] not in WORKLOADS:
        lines = [f"  {name:16} {work.description} ({work.seconds:g} s)" for name, work in WORKLOADS.items()]
        print("usage: workloads.py NAME [SECONDS]", *lines, sep="\n", file=sys.stderr)
        return 2
    workload = WORKLOADS[arguments[0]]
    workload.run(float(arguments[1]) if arguments[1:] else workload.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
