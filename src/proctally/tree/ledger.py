"""How much in total, and how we know: the one object that remembers across samples.

A total is the sum of four parts: what living members have used and what they got from children they waited for
(`live`), what this process got from those it reaped (`reaped`), what ended members had used as far as nothing of the
living shows it (`dead`), less what was used before tracking began (`base`). A child that is reaped moves its time into
its parent's: the sum is conserved, so nothing is counted twice and nothing is lost.

A member that vanished goes into `dead` with its last reading and is *pending* at its nearest surviving ancestor: as
far as that ancestor's time of waited-for children has grown since, the growth shows the member's time and it is taken
out of `dead` again. What remains after the ancestor was read twice is kept: the kernel reaped that child by itself.
"""

from __future__ import annotations

from proctally.tree import Member

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# places in an amount
CPU, USER, SYSTEM, MINOR, MAJOR, SWITCHES, DELAY, IO = range(8)
IO_FIELDS = 7  # rchar, wchar, syscr, syscw, read_bytes, write_bytes, cancelled_write_bytes
SIZE = IO + IO_FIELDS
NO_IO = (0,) * IO_FIELDS
READS_TO_SETTLE = 2
EQUAL_NS = 100_000  # sources that lie no further apart say the same

Amount = list[int]


class Pending:
    """What vanished members of one ancestor had used and its growth has not shown yet."""

    __slots__ = ("amount", "carry", "reads", "seen")

    def __init__(self, seen: Amount) -> None:
        self.amount: Amount = [0] * SIZE
        self.carry: Amount = [0] * SIZE
        self.seen = seen
        self.reads = 0


class Ledger:
    """What a tree has used since tracking began.

    Amounts are lists of `SIZE` integers: nanoseconds of CPU, of user and of system time, faults, context switches,
    nanoseconds of run delay, and the seven counters of `/proc/PID/io`.
    """

    __slots__ = (
        "base",
        "counted",
        "dead",
        "doubtful",
        "enclosed",
        "io_known",
        "left",
        "only",
        "pending",
        "reaped",
        "slack",
        "tick_ns",
        "top",
        "waited",
        "waiters",
        "_live",
    )

    def __init__(self, tick_ns: int) -> None:
        self.tick_ns = tick_ns
        self._live: Amount = [0] * SIZE
        self.dead: Amount = [0] * SIZE
        self.reaped: Amount = [0] * SIZE
        self.base: Amount = [0] * SIZE
        # cutime and cstime are cut to the tick, each: so much of a growth may not show at once
        self.slack: Amount = [2 * tick_ns, tick_ns, tick_ns] + [0] * (SIZE - 3)
        self.waiters: set[Member] = set()  # living members that show time of children they waited for
        self.pending: dict[Member, Pending] = {}
        self.top = Pending([0] * SIZE)  # of those whose reaper is this process: `reaped` shows them exactly
        self.io_known = False
        self.waited = False  # whether this process has reaped anybody
        self.counted: int | None = None  # nanoseconds of CPU of the whole tree by perf
        self.doubtful = 0  # so many of these may be no time of the tree
        self.enclosed: int | None = None  # nanoseconds of the run's own cgroup
        self.left = False  # whether somebody has left that
        self.only: str | None = None  # the one source that totals may come from

    # -- readings of living members ------------------------------------------------------------------------------

    def update(self, member: Member, cpu: int | None, tick: int) -> None:
        """Take in a new reading: `member.stat` was replaced, `member.previous_stat` is the one before.

        `cpu`: nanoseconds of its CPU clock; None where there is none, then `stat` says it in ticks.
        """
        stat = member.stat
        old = member.previous_stat
        live = self._live
        tick_ns = self.tick_ns
        if cpu is None:
            cpu = (stat.user + stat.system) * tick_ns
        children = stat.child_user + stat.child_system - old.child_user - old.child_system
        if children:
            self.waiters.add(member)
        live[CPU] += cpu - member.cpu + children * tick_ns
        live[USER] += (stat.user + stat.child_user - old.user - old.child_user) * tick_ns
        live[SYSTEM] += (stat.system + stat.child_system - old.system - old.child_system) * tick_ns
        live[MINOR] += stat.tree_minor_faults - old.tree_minor_faults
        live[MAJOR] += stat.tree_major_faults - old.tree_major_faults
        member.cpu = cpu
        member.moved_tick = tick

    def update_clock(self, member: Member, cpu: int, tick: int) -> None:
        """The same where `stat` says what it said before."""
        self._live[CPU] += cpu - member.cpu
        member.cpu = cpu
        member.moved_tick = tick

    def update_io(self, member: Member, io: tuple[int, ...]) -> None:
        """Take in a new reading of `/proc/PID/io` that differs from the last one."""
        live = self._live
        self.io_known = True
        old = member.io or NO_IO
        for place in range(IO_FIELDS):
            live[IO + place] += io[place] - old[place]
        member.io = io

    def update_waiting(self, member: Member, switches: int | None, delays: dict[int, int] | None) -> None:
        """Take in context switches of the main thread, and the run delay of each living thread."""
        live = self._live
        if switches is not None and switches > member.context_switches:
            live[SWITCHES] += switches - member.context_switches
            member.context_switches = switches
        if delays is not None:
            seen = member.run_delays
            growth = 0
            for tid, delay in delays.items():
                growth += max(0, delay - seen.get(tid, 0))
                seen[tid] = delay
            if len(seen) > len(delays):
                member.run_delays = delays
            live[DELAY] += growth
            member.run_delay += growth

    def enter(self, member: Member, cpu: int | None, *, baseline: bool) -> None:
        """A new member with its first reading; with `baseline` what it had used before is no part of the total."""
        stat = member.stat
        tick_ns = self.tick_ns
        own = (stat.user + stat.system) * tick_ns if cpu is None else cpu
        member.cpu = own
        member.previous_stat = stat
        if stat.child_user or stat.child_system:
            self.waiters.add(member)
        amount = self._amount(member)
        _add(self._live, amount)
        if baseline:
            member.cpu_base = own
            _add(self.base, amount)

    def correct(self, member: Member, cpu: int) -> None:
        """Its own CPU time is known better than its clock could say: it went on after the last reading."""
        self._live[CPU] += cpu - member.cpu
        member.cpu = cpu

    def rebase_io(self, member: Member) -> None:
        """The first `io` of a member that is there from before: no part of the total either."""
        for place, value in enumerate(member.io or NO_IO):
            self.base[IO + place] += value

    def rebase_waiting(self, member: Member) -> None:
        """The first context switches and run delay of such a member."""
        self.base[SWITCHES] += member.context_switches
        self.base[DELAY] += member.run_delay

    # -- ends ----------------------------------------------------------------------------------------------------

    def bury(self, member: Member, ancestor: Member | None, tick: int, *, by_us: bool) -> None:
        """A member is gone: its last reading moves from the living to the dead.

        `ancestor`: its nearest surviving one. `by_us`: this process is its reaper (or will be asked for nothing else);
        without either, nobody of the tree can show its time any more and it is kept.
        """
        self.waiters.discard(member)
        carried = self.pending.pop(member, None)
        if carried is not None:  # its last reading may have shown a part of it
            self._explain(carried, self._shown(member), self.slack)
        amount = self._amount(member)
        _subtract(self._live, amount)
        _add(self.dead, amount)
        explainable = list(amount)
        explainable[DELAY] = 0  # nothing ever shows the run delay of the dead
        if ancestor is not None:
            # of waited-for children the kernel shows no switches until the ancestor itself is reaped
            ancestor.hidden_switches += amount[SWITCHES]
            self._live[SWITCHES] += amount[SWITCHES]
            self.dead[SWITCHES] -= amount[SWITCHES]
            explainable[SWITCHES] = 0
            pending = self._pending_of(ancestor, tick)
        elif by_us:
            pending = self.top
        else:
            return
        _add(pending.amount, explainable)
        if carried is not None:
            _add(pending.amount, carried.amount)
        pending.reads = 0

    def reap(self, usage: Any) -> None:
        """Resource usage of a child this process reaped, with all it had waited for (wait4(2))."""
        self.waited = True
        user = round(usage.ru_utime * 1e9)
        system = round(usage.ru_stime * 1e9)
        reaped = self.reaped
        reaped[CPU] += user + system
        reaped[USER] += user
        reaped[SYSTEM] += system
        reaped[MINOR] += usage.ru_minflt
        reaped[MAJOR] += usage.ru_majflt
        reaped[SWITCHES] += usage.ru_nvcsw + usage.ru_nivcsw

    def reap_io(self, growth: list[int]) -> None:
        """Growth of this process's own `io` around the reaping: that of the reaped and all they had waited for."""
        self.io_known = True
        for place, value in enumerate(growth):
            self.reaped[IO + place] += value

    def settle_reaped(self) -> None:
        """Take out of the dead what the reaped show.

        Only once every member was looked at: a process that was reaped may itself have reaped members whose end is
        noticed later, and its usage shows them too.
        """
        self._settle(self.top, self.reaped, [0] * SIZE)

    def unsettled(self, tick: int) -> list[Member]:
        """Ancestors below which members vanished and that must be read again, or were in this tick."""
        if not self.pending:
            return []
        return [
            member
            for member, pending in self.pending.items()
            if (pending.reads < READS_TO_SETTLE or member.moved_tick == tick) and any(pending.amount)
        ]

    def can_show(self, ancestor: Member, member: Member, tick: int, others: Iterable[Member] = ()) -> bool:
        """Whether the growth of an ancestor that explains nobody yet is large enough to hold what a member had used.

        `others`: members that it must explain for certain, and that are not buried yet.
        """
        free = self._growth(ancestor, tick)
        for other in others:
            _subtract(free, self._amount(other))
        amount = self._amount(member)
        return all(free[place] + self.slack[place] >= amount[place] for place in (CPU, MINOR, MAJOR))

    def _growth(self, ancestor: Member, tick: int) -> Amount:
        """Growth of what an ancestor shows of children, less what vanished members claim of it already."""
        growth = self._shown(ancestor)
        pending = self.pending.get(ancestor)
        if pending is None or self._is_done(pending):
            _subtract(growth, self._shown_before(ancestor, tick))
        else:
            _subtract(growth, pending.seen)
            _add(growth, pending.carry)
            _subtract(growth, pending.amount)
        return growth

    def is_settled(self, ancestor: Member) -> bool:
        """Whether the ancestor was read often enough: what remains is within the rounding of its counters."""
        return self.pending[ancestor].reads >= READS_TO_SETTLE

    def settle(self, ancestor: Member) -> None:
        """The ancestor was read again: take out of the dead what its growth shows; keep the rest after two reads."""
        pending = self.pending.get(ancestor)
        if pending is not None:
            self._settle(pending, self._shown(ancestor), self.slack)

    def _settle(self, pending: Pending, shown: Amount, slack: Amount) -> None:
        self._explain(pending, shown, slack)
        pending.reads += 1
        if pending.reads >= READS_TO_SETTLE:
            for place in range(SIZE):
                pending.amount[place] = min(pending.amount[place], slack[place])

    def _explain(self, pending: Pending, shown: Amount, slack: Amount) -> None:
        amount = pending.amount
        for place in range(SIZE):
            growth = shown[place] - pending.seen[place] + pending.carry[place]
            explained = min(amount[place], growth)
            if explained > 0:
                amount[place] -= explained
                self.dead[place] -= explained
            pending.carry[place] = max(0, min(growth - max(0, explained), slack[place]))
        pending.seen = list(shown)

    def _pending_of(self, ancestor: Member, tick: int) -> Pending:
        pending = self.pending.get(ancestor)
        if pending is None:
            pending = self.pending[ancestor] = Pending(self._shown_before(ancestor, tick))
        elif self._is_done(pending):
            pending.seen = self._shown_before(ancestor, tick)
        return pending

    def _is_done(self, pending: Pending) -> bool:
        return pending.reads >= READS_TO_SETTLE or not any(pending.amount)

    def _shown(self, member: Member) -> Amount:
        """What a member shows of children that it waited for."""
        return self._show(member.stat, member.io)

    def _shown_before(self, member: Member, tick: int) -> Amount:
        """The same before this tick's reading, if it was read in this tick."""
        if member.moved_tick == tick:
            return self._show(member.previous_stat, member.previous_io)
        return self._shown(member)

    def _show(self, stat: Any, io: tuple[int, ...] | None) -> Amount:
        user = stat.child_user * self.tick_ns
        system = stat.child_system * self.tick_ns
        minor = stat.tree_minor_faults - stat.minor_faults
        major = stat.tree_major_faults - stat.major_faults
        return [user + system, user, system, minor, major, 0, 0, *(io or NO_IO)]

    def _amount(self, member: Member) -> Amount:
        stat = member.stat
        tick_ns = self.tick_ns
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

    # -- answers -------------------------------------------------------------------------------------------------

    def total(self) -> Amount:
        """What the tree has used since tracking began; its CPU time by the best source."""
        total = [
            live + dead + reaped - base
            for live, dead, reaped, base in zip(self._live, self.dead, self.reaped, self.base, strict=True)
        ]
        total[CPU] = self.sources()[self.source()]
        return total

    def sources(self) -> dict[str, int]:
        """Nanoseconds of CPU by each source that there is; of equal ones the first is the better."""
        sources = {
            "cgroup": self.enclosed,
            "rusage": self.reaped_cpu() if self.waited else None,
            "perf": self.counted,
            "procfs": self.procfs_cpu(),
        }
        return {source: used for source, used in sources.items() if used is not None}

    def source(self) -> str:
        """The best: its own cgroup as long as nobody has left it; else the largest, for each is a lower bound."""
        sources = self.sources()
        if self.only in sources:
            return self.only
        if "cgroup" in sources and not self.left:
            return "cgroup"
        if 0 < self.excess() <= self.doubtful:
            del sources["perf"]
        enough = max(sources.values()) - EQUAL_NS
        return next(source for source, used in sources.items() if used >= enough)

    def excess(self) -> int:
        """Nanoseconds that perf counted and /proc and wait4 did not see."""
        return 0 if self.counted is None else self.counted - self.procfs_cpu()

    def cpu_for_rates(self) -> int:
        """Nanoseconds of CPU whose growth is a rate: the total, with what is expected to be missing of it now."""
        source = self.source()
        used = self.sources()[source]
        return used if source in ("cgroup", self.only) else max(used, self.procfs_cpu() + self.rounding())

    def rounding(self) -> int:
        """Nanoseconds that the total lacks, as expected, because stat cuts the time of waited-for children to ticks.

        Half a tick for each such counter. A rate is taken of the total with this, else it would jump when the exact
        time comes at the end; the total itself stays a lower bound.
        """
        counters = sum((member.stat.child_user > 0) + (member.stat.child_system > 0) for member in self.waiters)
        return self.tick_ns // 2 * counters

    def reaped_cpu(self) -> int:
        """Nanoseconds of CPU by wait4 alone."""
        return self.reaped[CPU] - self.base[CPU]

    def procfs_cpu(self) -> int:
        """Nanoseconds of CPU by /proc and wait4."""
        return self._live[CPU] + self.dead[CPU] + self.reaped[CPU] - self.base[CPU]


def _add(to: Amount, amount: Amount) -> None:
    for place, value in enumerate(amount):
        to[place] += value


def _subtract(of: Amount, amount: Amount) -> None:
    for place, value in enumerate(amount):
        of[place] -= value
