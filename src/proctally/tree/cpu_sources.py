"""The sources of a CPU total: which of them it is based on, and what perf and the cgroup of the run count."""

from __future__ import annotations

# tolerated excess of perf over wait4 and living members: its clock includes interrupts and stolen time
EXCESS_NS = 20_000_000
EXCESS_DIVISOR = 50
FAR = 100  # a source above this multiple of two others that agree is wrong


class Choice:
    """A CPU total, the source it is based on, and what perf counted above that source; nanoseconds."""

    __slots__ = ("source", "surplus_ns", "total_ns")

    def __init__(self, source: str, total_ns: int, surplus_ns: int = 0) -> None:
        self.source = source
        self.total_ns = total_ns
        self.surplus_ns = max(0, surplus_ns)


def choose_source(
    *,
    reaped: int = 0,
    living: int = 0,
    dead: int = 0,
    counted: int | None = None,
    doubtful: int = 0,
    enclosed: int | None = None,
    attached: bool = False,
    root_reaped: bool = False,
    spliced: tuple[int, int] | None = None,
    ignored: bool = False,
    lost: bool = False,
    dead_of_lost: int = 0,
) -> Choice:
    """Return the CPU total of a tree by its best source; nanoseconds since tracking started.

    `reaped`: by wait4 here. `living`: what members that live show, zombies included, own time and waited-for. `dead`:
    last readings of vanished members that nothing else shows. `counted`: by perf, None without it; `doubtful`: the
    part of it that interrupts and other machines might have taken. `enclosed`: by the run's own cgroup, None without
    it or after a process left it. `ignored`: a process is known to ignore SIGCHLD. `lost`: perf lost processes that
    executed a setuid program, `dead_of_lost` of `dead` is theirs. For `attached`: `root_reaped`: `reaped` is what the
    parent of the root shows; `spliced`: living + dead and counted at the last scan that found the root alive.

    perf and wait4 are never compared as equals. perf lacks what each exit costs: its excess is not a better total but
    the only sign of processes that no parent waited for.
    """
    if enclosed is not None:
        return Choice("cgroup", enclosed)
    shown = reaped + living
    if attached:
        return _choose_attached(shown + dead, counted, doubtful, spliced, root_reaped)
    if lost:
        return Choice("rusage", shown + dead_of_lost, 0 if counted is None else counted - shown - dead_of_lost)
    if counted is None:
        return Choice("procfs" if ignored or living else "rusage", shown + dead)
    surplus = counted - shown
    if surplus > max(doubtful, tolerance_ns(shown)):
        return Choice("perf", counted, surplus)
    if living:  # the ticks of a parent show a member some time after its exit
        return Choice("procfs", shown + min(dead, max(surplus, EXCESS_NS)), surplus)
    return Choice("rusage", shown, surplus)


def _choose_attached(
    shown: int, counted: int | None, doubtful: int, spliced: tuple[int, int] | None, root_reaped: bool
) -> Choice:
    """Return what /proc showed while the root lived, and what perf counted since.

    After that, the end of the root and of all that it had waited for is in no file but that of its parent, if that
    reaped no other child; before that, perf lacks exits.
    An excess of perf shows processes that left the tree before a scan saw them.
    """
    if counted is None or spliced is None:
        return Choice("procfs", shown)
    before, counted_before = spliced
    growth = max(0, counted - counted_before)
    total = before + growth
    if counted - total > max(doubtful, tolerance_ns(total)):
        return Choice("perf", counted, counted - total)
    if root_reaped and shown >= total:
        return Choice("procfs", shown, counted - shown)
    return Choice("procfs+perf" if growth else "procfs", total, counted - total)


def tolerance_ns(used: int) -> int:
    """Return by how much perf may exceed a total of other sources, which then is still the better one."""
    return used // EXCESS_DIVISOR + EXCESS_NS


def wrong_source(*, reaped: int, shown: int, counted: int | None, room: int) -> str | None:
    """Return the source that is far above two others that agree; None without one. Nanoseconds, the root being reaped.

    `shown`: by /proc and wait4; `counted`: by perf; `room`: what the CPUs can have run. perf shows processes that no
    parent reaps: it is wrong only above that.
    """
    if counted is None:
        return None
    most = max(reaped, counted)
    if shown > FAR * max(most, EXCESS_NS) and most - min(reaped, counted) <= most // 2 + EXCESS_NS:
        return "procfs"
    if counted > max(room, FAR * max(shown, EXCESS_NS)) and shown - reaped <= shown // 2 + EXCESS_NS:
        return "perf"
    return None


class CpuSources:
    """CPU time of one tree by perf and by the run's own cgroup, in nanoseconds since tracking started.

    `attached`: whether other processes reap the root and its orphans. `only`: the one source that totals may come from.
    `counted`: by perf, None without it; `doubtful` of these might be time of interrupts and of other machines. `lost`:
    whether perf lost processes. `enclosed`: of the cgroup, `enclosed_split` its user and system time; `left`: whether a
    process left it. `ignored`: whether a process is known to ignore SIGCHLD. `spliced`: by /proc and by perf while the
    root of an attached tree lived. `has_procfs`: whether members are read; without, only the CPU clock of the root is.
    `room`: what the CPUs can have run so far. `root_ended`: whether this process reaped the root. `wrong`: the source
    that contradicted two others in the last choice.
    """

    def __init__(self, *, attached: bool, only: str | None) -> None:
        self.attached = attached
        self.only = only
        self.counted: int | None = None
        self.doubtful = 0
        self.lost = False
        self.enclosed: int | None = None
        self.enclosed_split: tuple[int, int] | None = None
        self.left = False
        self.ignored = False
        self.spliced: tuple[int, int] | None = None
        self.has_procfs = True
        self.room = 0
        self.root_ended = False
        self.wrong: str | None = None

    def note_perf(self, total_ns: int | None, *, lost: bool) -> None:
        """Take in what perf counts; `lost`: whether it lost processes."""
        self.counted = total_ns
        self.lost = lost

    def note_cgroup(self, total_ns: int | None, split_ns: tuple[int, int] | None, *, left: bool) -> None:
        """Take in what the cgroup counts, and its user and system time; `left`: whether a process left it."""
        self.enclosed = total_ns
        self.enclosed_split = split_ns
        self.left = left

    def choose(self, *, reaped: int, living: int, dead: int, root_reaped: bool, has_reaped: bool) -> Choice:
        """Return the CPU total by its best source. `has_reaped`: whether this process has reaped any.

        A cgroup that a process left holds at least what is still accounted there.
        """
        if self.root_ended and not self.lost:
            shown = reaped + living + dead
            self.wrong = wrong_source(reaped=reaped, shown=shown, counted=self.counted, room=self.room)
        if self.wrong == "procfs":
            living = dead = 0
        choice = choose_source(
            reaped=reaped,
            living=living,
            dead=dead,
            counted=None if self.wrong == "perf" else self.counted,
            doubtful=self.doubtful,
            enclosed=None if self.left else self.enclosed,
            attached=self.attached,
            root_reaped=root_reaped,
            spliced=self.spliced,
            ignored=self.ignored or not has_reaped,
            lost=self.lost,
            dead_of_lost=dead,  # a last reading of each; perf cannot confirm them
        )
        if self.left and self.enclosed is not None:
            surplus = self.enclosed - choice.total_ns
            if surplus > tolerance_ns(choice.total_ns):
                return Choice("cgroup", self.enclosed, surplus)
        return choice

    def splice(self, procfs_ns: int) -> None:
        """Keep what /proc and perf show in one scan that found the root of an attached tree alive."""
        if self.counted is not None:
            self.spliced = procfs_ns, self.counted

    def spliced_ns(self) -> int | None:
        """Return what /proc showed while the root lived, and what perf counted since; None where one is unknown."""
        if self.counted is None or self.spliced is None:
            return None
        return self.spliced[0] + max(0, self.counted - self.spliced[1])

    def excess(self, shown_ns: int) -> int:
        """Return what perf counted and other sources did not. `shown_ns`: by wait4 and living members."""
        if self.counted is None:
            return 0
        if self.attached and self.spliced is not None:
            return self.spliced[1] - self.spliced[0]
        return self.counted - shown_ns
