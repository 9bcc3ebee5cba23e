"""One process of a tree, the amounts that it used, and the scan in which it was read: shared by all rooms of a tree."""

from __future__ import annotations

from proctally.linux.machine import clock_id
from proctally.linux.proc import Kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.linux.proc import Stat

# places in an amount
CPU, USER, SYSTEM, MINOR, MAJOR, SWITCHES, DELAY, IO = range(8)
IO_FIELDS = 7  # rchar, wchar, syscr, syscw, read_bytes, write_bytes, cancelled_write_bytes
SIZE = IO + IO_FIELDS
NO_IO = (0,) * IO_FIELDS
UNREAD = b"?"  # state of a member whose `stat` was never read

Amount = list[int]  # `SIZE` numbers: nanoseconds, counts and bytes


class Member(Kept):
    """One process of the tree: (pid, start) is its identity.

    `tree.membership` owns who it is and whose child; the ledger owns the readings (`cpu` to `hidden_switches`),
    `tree.readings` the levels (`state` to the end).
    """

    __slots__ = (
        "alive",
        "clock",
        "command",
        "context_switches",
        "cpu",
        "cpu_base",
        "cpu_sampled",
        "has_children",
        "head",
        "hidden_switches",
        "io",
        "io_raw",
        "moved_tick",
        "parent",
        "peak_base",
        "peak_rss",
        "pid",
        "ppid",
        "previous_io",
        "previous_stat",
        "pss",
        "pss_at",
        "refreshed_at",
        "rss",
        "run_delay",
        "run_delays",
        "start",
        "stat",
        "state",
        "swap",
        "threads",
    )

    def __init__(self, pid: int, stat: Stat, parent: Member | None) -> None:
        Kept.__init__(self)
        self.pid = pid
        self.start = stat.start
        self.ppid = stat.ppid
        self.parent = parent
        self.command = stat.comm
        self.alive = True
        self.clock = clock_id(pid)
        self.has_children = False
        # readings
        self.cpu = 0
        self.cpu_base = 0
        self.cpu_sampled = 0
        self.stat = stat
        self.previous_stat = stat
        self.io: tuple[int, ...] | None = None
        self.previous_io: tuple[int, ...] | None = None
        self.io_raw = b""
        self.moved_tick = 0
        self.context_switches = 0
        self.hidden_switches = 0
        self.run_delay = 0
        self.run_delays: dict[int, int] = {}
        # levels
        self.state = UNREAD
        self.threads = 0
        self.rss = 0
        self.peak_rss = 0
        self.peak_base = 0
        self.swap: int | None = None
        self.pss: int | None = None
        self.pss_at = 0
        self.refreshed_at = 0
        self.head = b""

    @property
    def ended(self) -> bool:
        """Gone, or a zombie; one with several threads still runs, its main thread alone has exited."""
        return not self.alive or (self.state == b"Z" and self.threads <= 1)


class ScanState:
    """The present scan, as all rooms of the tree know it.

    `tick`: its number. `started_ns`: monotonic clock from which elapsed time counts. `read_ns`: when the clocks of the
    members were read; intervals are between these moments. `begin_ns`, `end_ns`: start and end of the reading.
    `ran`: members that ran since the last sample. `again`: members that the next scan reads, regardless of their
    clocks. `idle`: members that had their turn at the slow pace. `grown`: whether a parent shows more of its children
    than it did before.
    """

    __slots__ = ("again", "begin_ns", "end_ns", "grown", "idle", "ran", "read_ns", "started_ns", "tick")

    def __init__(self, now: int) -> None:
        self.tick = 0
        self.started_ns = self.begin_ns = self.read_ns = self.end_ns = now
        self.ran: dict[Member, None] = {}
        self.again: set[Member] = set()
        self.idle: list[Member] = []
        self.grown = False


def amount_of(member: Member, tick_ns: int) -> Amount:
    """Return what a member used and got from children that it waited for, by its last reading."""
    stat = member.stat
    return [
        member.cpu + (stat.child_user + stat.child_system) * tick_ns,
        (stat.user + stat.child_user) * tick_ns,
        (stat.system + stat.child_system) * tick_ns,
        stat.tree_minor_faults,
        stat.tree_major_faults,
        member.context_switches + member.hidden_switches,
        member.run_delay,
        *(member.io or NO_IO),
    ]


def shown_of_children(member: Member, tick_ns: int) -> Amount:
    """Return what a member shows of children that it waited for."""
    return _shown(member.stat, member.io, tick_ns)


def shown_before(member: Member, tick: int, tick_ns: int) -> Amount:
    """Return the same before the reading of this scan, if the member was read in this scan."""
    if member.moved_tick == tick:
        return _shown(member.previous_stat, member.previous_io, tick_ns)
    return _shown(member.stat, member.io, tick_ns)


def _shown(stat: Stat, io: tuple[int, ...] | None, tick_ns: int) -> Amount:
    user = stat.child_user * tick_ns
    system = stat.child_system * tick_ns
    minor = stat.tree_minor_faults - stat.minor_faults
    major = stat.tree_major_faults - stat.major_faults
    return [user + system, user, system, minor, major, 0, 0, *(io or NO_IO)]


def add(to: Amount, amount: Amount) -> None:
    """Add an amount in place."""
    for place, value in enumerate(amount):
        to[place] += value


def subtract(of: Amount, amount: Amount) -> None:
    """Subtract an amount in place."""
    for place, value in enumerate(amount):
        of[place] -= value


def limit_split(amount: Amount) -> Amount:
    """Limit user and system time to the total: `stat` has them in ticks, a CPU clock has it in nanoseconds."""
    split = amount[USER] + amount[SYSTEM]
    if split > amount[CPU]:
        amount[SYSTEM] = amount[CPU] * amount[SYSTEM] // split
        amount[USER] = amount[CPU] - amount[SYSTEM]
    return amount
