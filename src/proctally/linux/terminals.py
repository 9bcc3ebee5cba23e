"""Terminals by name: what stands behind the number of the controlling terminal in `/proc/PID/stat`.

Layouts: Documentation/admin-guide/devices.txt, include/linux/kdev_t.h (new_encode_dev), fs/proc/proc_tty.c.
"""

from __future__ import annotations

from proctally.errors import UNREADABLE
from proctally.linux.machine import Machine
from proctally.text.escape import decode_name

PTS_MAJORS = range(136, 144)  # UNIX98_PTY_SLAVE_MAJOR and the seven behind it
MINORS_OF_A_PTS_MAJOR = 256  # when there were eight of them; today the first has a million


def split_device(number: int) -> tuple[int, int]:
    """Major and minor of a device number as the kernel prints one; it may be negative, being a signed int."""
    return (number >> 8) & 0xFFF, (number & 0xFF) | ((number >> 12) & 0xFFF00)


def terminal_name(machine: Machine, number: int) -> str | None:
    """`/dev/pts/3`, `/dev/tty1`, `/dev/ttyS0`; None for 0, which is none; `MAJOR:MINOR` for one that has no name."""
    if number == 0:
        return None
    major, minor = split_device(number)
    if major in PTS_MAJORS:  # devpts has no entries in sysfs
        return f"/dev/pts/{minor + MINORS_OF_A_PTS_MAJOR * (major - PTS_MAJORS.start)}"
    return _by_sysfs(machine, major, minor) or _by_drivers(machine, major, minor) or f"{major}:{minor}"


def _by_sysfs(machine: Machine, major: int, minor: int) -> str | None:
    try:
        data = machine.read_sys(f"dev/char/{major}:{minor}/uevent")
    except UNREADABLE:
        return None
    for line in data.split(b"\n"):
        if line.startswith(b"DEVNAME="):
            return f"/dev/{decode_name(line[8:])}"
    return None


def _by_drivers(machine: Machine, major: int, minor: int) -> str | None:
    try:
        return name_by_drivers(machine.read("tty/drivers", to_end=True), major, minor)
    except UNREADABLE:
        return None


def name_by_drivers(data: bytes, major: int, minor: int) -> str | None:
    """`/proc/tty/drivers`: driver, name, major, minors and kind; the first of its terminals has the number 0.

    Those of the console begin at 1 (tty_driver.name_base), and theirs are numbered like their minors.
    """
    for line in data.split(b"\n"):
        words = line.split()
        if len(words) < 4 or words[2] != b"%d" % major:
            continue
        first, _, last = words[3].partition(b"-")
        try:
            low, high = int(first), int(last or first)
        except ValueError:
            raise ValueError(f"tty/drivers: {line[:200]!r}") from None
        if low <= minor <= high:
            name = decode_name(words[1])
            if words[-1].startswith(b"system"):  # /dev/tty, /dev/console, /dev/ptmx: a name, not a stem
                return name
            return f"{name}{minor if words[-1] == b'console' else minor - low}"
    return None
