"""A sandbox in which some system calls fail: a seccomp(2) filter, installed before exec and kept by all descendants."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2  # include/uapi/linux/{prctl,seccomp}.h
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
NUMBER, ARCHITECTURE, SECOND_WORD = 0, 4, 16  # offsets in struct seccomp_data
ALLOW, ERRNO = 0x7FFF0000, 0x00050000

# by machine: its AUDIT_ARCH_*, and the numbers of system calls
MACHINES = {
    "x86_64": (
        0xC000003E,
        {
            "perf_event_open": 298,
            "prctl": 157,
            "signalfd4": 289,
            "pidfd_open": 434,
            "clock_gettime": 228,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "perf_event_open": 241,
            "prctl": 167,
            "signalfd4": 74,
            "pidfd_open": 434,
            "clock_gettime": 113,
        },
    ),
}


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def refusing(number: int, *calls: str, prctl_option: int | None = None) -> Callable[[], None]:
    """To be called before exec: these system calls (and this option of prctl) fail with this error from then on.

    Nobody in it gains rights by exec any more (no_new_privs), which is what lets an ordinary user install it.
    """
    architecture, numbers = MACHINES[os.uname().machine]
    answer = (RETURN, 0, 0, ERRNO | number)
    allow = (RETURN, 0, 0, ALLOW)
    steps = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, architecture), allow, (LOAD, 0, 0, NUMBER)]
    for call in calls:
        steps += [(EQUAL, 0, 1, numbers[call]), answer]
    if prctl_option is not None:
        steps += [(EQUAL, 0, 3, numbers["prctl"]), (LOAD, 0, 0, SECOND_WORD), (EQUAL, 0, 1, prctl_option), answer]
    steps += [allow]
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    library = ctypes.CDLL(None, use_errno=True)
    program = Program(len(steps), code)

    def install() -> None:
        if library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "no_new_privs")
        if library.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
            raise OSError(ctypes.get_errno(), "seccomp")

    return install


def unavailable() -> str | None:
    """None, or in one line why there can be no such sandbox here."""
    if os.uname().machine not in MACHINES:
        return f"the numbers of system calls of {os.uname().machine} are not known here"
    pid = os.fork()
    if pid == 0:
        try:
            refusing(1, "perf_event_open")()
            os._exit(0)
        finally:
            os._exit(1)
    return "this kernel, or the sandbox, has no seccomp filters" if os.waitpid(pid, 0)[1] else None
