"""Files of made-up processes."""

from __future__ import annotations

from pathlib import Path

from proctally.linux.machine import Machine

# -- captures ----------------------------------------------------------------------------------------------------


TAIL = b" R 28856 28856 18893 0 -1 4194304 102 0 0 0 5 6 0 0 20 0 1 0 577642 3133440 372 18446744073709551615 1 0\n"
IO = (
    b"rchar: 323934931\nwchar: 323929600\nsyscr: 632687\nsyscw: 632675\nread_bytes: 4096\nwrite_bytes: 323932160\n"
    b"cancelled_write_bytes: 8192\n"
)


def fake_processes(folder: Path, count: int) -> Machine:
    """Return a machine with this number of processes; process N started at tick N."""
    for pid in range(1, count + 1):
        process = folder / str(pid)
        process.mkdir()
        (process / "stat").write_bytes(b"%d (x)" % pid + TAIL.replace(b" 577642 ", b" %d " % pid))
        (process / "io").write_bytes(IO)
    return Machine(str(folder))
