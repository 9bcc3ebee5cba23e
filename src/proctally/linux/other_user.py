"""Act on files as another user: setfsuid(2), which root alone has, and which is of the calling thread."""

from __future__ import annotations

import os
from errno import EPERM

from proctally.linux.c_library import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar, TypeVarTuple

    Result = TypeVar("Result")
    Arguments = TypeVarTuple("Arguments")

UID = (1 << 32) - 1  # the bits of a uid_t
ASK = -1  # an invalid user id: setfsuid changes nothing and returns the current one


def as_user(uid: int, gid: int, call: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    """Return what `call` returns, whose accesses to files are those of this user.

    Raises OSError also where this process cannot become that user: of another user namespace, or without a C library.
    """
    library = libc()
    if library is None:
        raise OSError(EPERM, f"the directory belongs to user {uid}")
    try:
        library.setfsgid(gid)
        library.setfsuid(uid)
        if library.setfsuid(ASK) & UID != uid:
            raise OSError(EPERM, f"the directory belongs to user {uid}, who is unknown in this user namespace")
        return call(*arguments)
    finally:
        library.setfsuid(os.geteuid())
        library.setfsgid(os.getegid())
