"""What a process sees of itself, as one object of JSON on stdout (or in the file named by the first argument).

What other processes may change meanwhile, and what differs from one process to the next by its nature, is left out.
"""

import ctypes
import fcntl
import json
import os
import resource
import sys

PR_GET_PDEATHSIG = 2  # include/uapi/linux/prctl.h
PR_GET_DUMPABLE = 3
PR_GET_TIMERSLACK = 30
PR_GET_CHILD_SUBREAPER = 37
PR_GET_NO_NEW_PRIVS = 39


def is_open(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError:
        return False
    return True


def asked(library: ctypes.CDLL, option: int) -> int:
    """The answer of one of prctl(2)'s questions that answer through a pointer."""
    answer = ctypes.c_int(-1)
    library.prctl(option, ctypes.byref(answer), 0, 0, 0)
    return answer.value


def umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before


def foreground() -> bool | None:
    """Whether this process is in the foreground of the terminal on descriptor 0; None without one."""
    return os.tcgetpgrp(0) == os.getpgrp() if is_open(0) and os.isatty(0) else None


def cwd() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def view() -> dict[str, object]:
    descriptors = [int(name) for name in os.listdir("/proc/self/fd")]  # the listing's own is closed again
    library = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        oom_score_adj = int(file.read())
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        cgroup = file.read()
    limits = {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")}
    return {
        "descriptors": sorted(filter(is_open, descriptors)),
        "terminals": [is_open(fd) and os.isatty(fd) for fd in (0, 1, 2)],
        "foreground": foreground(),
        "limits": limits,
        "session": os.getsid(0),
        "cwd": cwd(),
        "umask": umask(),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "scheduler": os.sched_getscheduler(0),
        "affinity": sorted(os.sched_getaffinity(0)),
        "users": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
        "oom_score_adj": oom_score_adj,
        "cgroup": cgroup,
        "subreaper": asked(library, PR_GET_CHILD_SUBREAPER),
        "parent_death_signal": asked(library, PR_GET_PDEATHSIG),
        "dumpable": library.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0),
        "timer_slack": library.prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0),
        "no_new_privs": library.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
    }


if __name__ == "__main__":
    text = json.dumps(view())
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w", encoding="utf-8") as out:
            out.write(text)
    else:
        print(text)
