"""Owners of processes, and names of users as `/etc/passwd` has them.

No name service is asked: one that hangs (LDAP, SSSD) would hold up the job.
"""

from __future__ import annotations

import os

from proctally.linux.machine import classify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.linux.machine import Machine

PASSWD = "/etc/passwd"
MAX_BYTES = 1 << 18  # some 4,000 users, in about 3 ms


def owner(machine: Machine, pid: int) -> int:
    """Return the effective user id of a process (kernel: task_dump_owner). Raises `ProcessGone` or `AccessDenied`."""
    try:
        return os.stat(f"{machine.proc}/{pid}").st_uid
    except OSError as error:
        raise classify(error) from None


def read_user_names(path: str = PASSWD) -> dict[int, str]:
    """Return the user names by id; none where the file cannot be read."""
    try:
        with open(path, "rb") as file:
            return parse_passwd(file.read(MAX_BYTES))
    except OSError:
        return {}


def parse_passwd(data: bytes) -> dict[int, str]:
    """`/etc/passwd`: the first name of each id, as getpwuid(3) returns it; other lines (NIS) are left out."""
    names: dict[int, str] = {}
    for line in data.split(b"\n"):
        fields = line.split(b":")
        if len(fields) >= 4 and fields[0] and fields[2].isdigit():
            names.setdefault(int(fields[2]), fields[0].decode("utf-8", "backslashreplace"))
    return names
