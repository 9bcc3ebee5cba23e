"""Processes of the tree that this user cannot read (hidepid and a setuid program), and CPU time that comes late.

Nothing shows what such a process and its children use, until their parent has waited for them: then all of it comes in
one interval. It belongs to the whole lifetime, from the last scan before the process was noticed.
"""

from __future__ import annotations

from proctally.errors import UNREADABLE, NoDescriptors
from proctally.linux.machine import Machine, clock_id
from proctally.linux.proc import Stat, parse_stat, read_stat
from proctally.tree.member import UNREAD, Member


class Hidden:
    """Since when each hidden process can have run, by its pid; moments of the monotonic clock in nanoseconds.

    A CPU clock reads for every user (kernel: pid_for_clock), so that the end of a hidden process is noticed.
    """

    __slots__ = ("_machine", "_since_ns")

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._since_ns: dict[int, int] = {}

    def __contains__(self, pid: int) -> bool:
        return pid in self._since_ns

    def note(self, pid: int, since_ns: int) -> None:
        """Keep a process that is hidden; `since_ns`: the last scan before it was noticed."""
        self._since_ns.setdefault(pid, since_ns)

    def forget(self, pid: int) -> None:
        """Drop a process that can be read again."""
        self._since_ns.pop(pid, None)

    def living(self) -> int:
        """Return how many there are at this moment, zombies included."""
        return len(self._since_ns) - self._machine.clocks([clock_id(pid) for pid in self._since_ns]).count(None)

    def take_ended(self) -> int | None:
        """Forget those that are gone by now; return since when the oldest of them can have run, None without one."""
        pids = list(self._since_ns)
        clocks = self._machine.clocks([clock_id(pid) for pid in pids])
        ended = [self._since_ns.pop(pid) for pid, clock in zip(pids, clocks, strict=True) if clock is None]
        return min(ended, default=None)


def is_hidden(machine: Machine, pid: int) -> bool:
    """Return True if this process exists and its `stat` is refused (hidepid, a security module, an error)."""
    if machine.clocks([clock_id(pid)])[0] is None:
        return False
    try:
        read_stat(machine, pid)
    except NoDescriptors:
        return False
    except UNREADABLE:
        return True
    return False


def hidden_member(machine: Machine, pid: int, own: int, parent: Member | None) -> Member:
    """Return a process that cannot be read. `own`: its parent, unless a member is."""
    member = Member(pid, _stat_of_hidden(machine, pid, own if parent is None else parent.pid), parent)
    member.has_children = True  # that is unknown
    return member


def _stat_of_hidden(machine: Machine, pid: int, ppid: int) -> Stat:
    """Return what stands for the `stat` of a hidden process: no times, one thread; it starts now."""
    start = machine.boottime_ns() // machine.tick_ns
    text = b"%d ((hidden)) %s %d %s 1 0 %d 0 0 0\n"
    return parse_stat(text % (pid, UNREAD, ppid, b" ".join([b"0"] * 15), start))


def backdate(rates: list[tuple[int, dict[str, int]]], now: int, levels: dict[str, int], begin: int, cpus: int) -> None:
    """Move what came late to the intervals in which it was used: `rates` is raised as if it had been known then.

    `rates`: moment and CPU nanoseconds by source of the last samples; `levels`: those of this one. What came is the
    growth that no CPU clock showed. It is spread evenly from `begin` on, and an interval holds no more than its CPUs.
    """
    last, before = rates[-1]
    own = levels["own"] - before["own"]
    arrived = levels["procfs"] - before["procfs"] - own
    if arrived <= 0 or begin >= last:
        return
    room = max(0, cpus * (now - last) - own)
    share = min(arrived * (now - last) // (now - begin), room)  # of the interval that ends now
    for moment, known in rates:
        earlier = (arrived - share) * max(0, moment - begin) // (last - begin)
        for source in ("procfs", "rusage", "procfs+perf"):
            if source in known:
                known[source] += earlier
