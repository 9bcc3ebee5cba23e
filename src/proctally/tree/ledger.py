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

from proctally.tree.cpu_sources import Choice, CpuSources
from proctally.tree.member import (
    CPU,
    DELAY,
    IO,
    IO_FIELDS,
    MAJOR,
    MINOR,
    NO_IO,
    SIZE,
    SWITCHES,
    SYSTEM,
    USER,
    add,
    amount_of,
    limit_split,
    shown_before,
    shown_of_children,
    subtract,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from resource import struct_rusage

    from proctally.tree.member import Amount, Member

READS_TO_SETTLE = 2


class Pending:
    """The usage of vanished members of one ancestor that its growth has not shown yet.

    `seen`: what the ancestor showed when it was read last, `reads` times since a member vanished.
    """

    __slots__ = ("amount", "carry", "reads", "seen")

    def __init__(self, seen: Amount) -> None:
        self.amount: Amount = [0] * SIZE
        self.carry: Amount = [0] * SIZE
        self.seen = seen
        self.reads = 0

    @property
    def is_done(self) -> bool:
        """True if nothing more is expected to show."""
        return self.reads >= READS_TO_SETTLE or not any(self.amount)

    def growth(self, shown: Amount) -> Amount:
        """Return the growth that no vanished member claims."""
        return [
            now - seen + carry - amount
            for now, seen, carry, amount in zip(shown, self.seen, self.carry, self.amount, strict=True)
        ]

    def explain(self, shown: Amount, slack: Amount, dead: Amount) -> None:
        """Take out of `dead` what the growth shows."""
        amount = self.amount
        for place in range(SIZE):
            growth = shown[place] - self.seen[place] + self.carry[place]
            explained = min(amount[place], growth)
            if explained > 0:
                amount[place] -= explained
                dead[place] -= explained
            self.carry[place] = max(0, min(growth - max(0, explained), slack[place]))
        self.seen = list(shown)


class Ledger:
    """What a tree has used since tracking began.

    Amounts are lists of `SIZE` integers: nanoseconds of CPU, of user and of system time, faults, context switches,
    nanoseconds of run delay, and the seven counters of `/proc/PID/io`.

    `attached`: whether other processes reap the root and its orphans. `only`: the one source that totals may come from.
    """

    def __init__(self, tick_ns: int, *, attached: bool = False, only: str | None = None) -> None:
        self.tick_ns = tick_ns
        self._live: Amount = [0] * SIZE
        self._unbased: set[tuple[Member, int]] = set()  # what could not be read of members that are there from before
        self.dead: Amount = [0] * SIZE
        self.reaped: Amount = [0] * SIZE
        self.base: Amount = [0] * SIZE
        self.best: Amount = [0] * SIZE  # the total as it was shown last: it never falls
        # cutime and cstime are cut to the tick, each: so much of a growth may not show at once
        self.slack: Amount = [2 * tick_ns, tick_ns, tick_ns] + [0] * (SIZE - 3)
        self.waiters: set[Member] = set()  # living members that show time of children they waited for
        self.pending: dict[Member, Pending] = {}
        self.top = Pending([0] * SIZE)  # of those whose reaper is this process: `reaped` shows them exactly
        self.own = 0  # nanoseconds that CPU clocks of members showed; the rest comes with reaped processes
        self.dropped = 0  # amounts above the slack that no growth showed: 0 in a run whose processes were all reaped
        self.io_known: bool | None = None  # False: of all that was reaped it is unknown; None: none was read yet
        self.delay_known = False  # whether this kernel shows run delays (CONFIG_SCHED_INFO)
        self.waited = 0  # processes that this process has reaped
        self.attached = attached
        self.cpu = CpuSources(attached=attached, only=only)
        self.root_reaped = False  # whether `reaped` holds the root of an attached tree, by its parent

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
        self.own += cpu - member.cpu
        live[USER] += (stat.user + stat.child_user - old.user - old.child_user) * tick_ns
        live[SYSTEM] += (stat.system + stat.child_system - old.system - old.child_system) * tick_ns
        live[MINOR] += stat.tree_minor_faults - old.tree_minor_faults
        live[MAJOR] += stat.tree_major_faults - old.tree_major_faults
        member.cpu = cpu
        member.moved_tick = tick

    def update_clock(self, member: Member, cpu: int, tick: int) -> None:
        """The same where `stat` says what it said before."""
        self._live[CPU] += cpu - member.cpu
        self.own += cpu - member.cpu
        member.cpu = cpu
        member.moved_tick = tick

    def update_io(self, member: Member, io: tuple[int, ...]) -> None:
        """Take in a new reading of `/proc/PID/io` that differs from the last one."""
        self.io_known = self.io_known is not False
        old = member.io or NO_IO
        for place in range(IO_FIELDS):
            self._live[IO + place] += io[place] - old[place]
        member.io = io
        if (member, IO) in self._unbased:
            self._unbased.remove((member, IO))
            for place, value in enumerate(io):
                self.base[IO + place] += value

    def update_waiting(self, member: Member, switches: int | None, delays: dict[int, int] | None) -> None:
        """Take in context switches of the main thread, and the run delay of each living thread."""
        if switches is not None and switches > member.context_switches:
            self._live[SWITCHES] += switches - member.context_switches
            member.context_switches = switches
        if switches is not None and (member, SWITCHES) in self._unbased:
            self._unbased.remove((member, SWITCHES))
            self.base[SWITCHES] += switches
        if delays is not None:
            self.delay_known = True
            before = member.run_delay
            for tid, delay in delays.items():
                self.update_delay(member, tid, delay)
            if len(member.run_delays) > len(delays):
                member.run_delays = delays
            if (member, DELAY) in self._unbased:
                self._unbased.remove((member, DELAY))
                self.base[DELAY] += member.run_delay - before

    def update_delay(self, member: Member, tid: int, delay: int) -> None:
        """Take in the run delay of one thread."""
        growth = delay - member.run_delays.get(tid, 0)
        if growth > 0:
            member.run_delays[tid] = delay
            member.run_delay += growth
            self._live[DELAY] += growth

    def enter(self, member: Member, cpu: int | None, *, baseline: bool) -> None:
        """A new member with its first reading; with `baseline` what it had used before is no part of the total."""
        stat = member.stat
        tick_ns = self.tick_ns
        own = (stat.user + stat.system) * tick_ns if cpu is None else cpu
        member.cpu = own
        member.previous_stat = stat
        if stat.child_user or stat.child_system:
            self.waiters.add(member)
        amount = amount_of(member, self.tick_ns)
        add(self._live, amount)
        if baseline:
            member.cpu_base = own
            add(self.base, amount)
        else:
            self.own += own

    def correct(self, member: Member, cpu: int) -> None:
        """Its own CPU time is known better than its clock could say: it went on after the last reading."""
        self._live[CPU] += cpu - member.cpu
        self.own += cpu - member.cpu
        member.cpu = cpu

    def rebase(self, member: Member) -> None:
        """Leave the first I/O, context switches and run delay of a member that existed before out of the total."""
        self._unbased |= {(member, IO), (member, SWITCHES), (member, DELAY)}

    def end_base(self, member: Member) -> None:
        """Count in full what was not read until now."""
        if self._unbased:
            self._unbased -= {(member, IO), (member, SWITCHES), (member, DELAY)}

    # -- ends ----------------------------------------------------------------------------------------------------

    def add_ended(self, member: Member, ancestor: Member | None, tick: int, *, by_us: bool) -> None:
        """A member is gone: its last reading moves from the living to the dead.

        `ancestor`: its nearest surviving one. `by_us`: this process is its reaper (or will be asked for nothing else);
        without either, nobody of the tree can show its time any more and it is kept.
        """
        self.waiters.discard(member)
        self.end_base(member)
        carried = self.pending.pop(member, None)
        if carried is not None:  # its last reading may have shown a part of it
            carried.explain(shown_of_children(member, self.tick_ns), self.slack, self.dead)
        amount = amount_of(member, self.tick_ns)
        subtract(self._live, amount)
        add(self.dead, amount)
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
        add(pending.amount, explainable)
        if carried is not None:
            add(pending.amount, carried.amount)
        pending.reads = 0

    def reap(self, usage: struct_rusage) -> None:
        """Resource usage of a child this process reaped, with all it had waited for (wait4(2))."""
        self.waited += 1
        user = round(usage.ru_utime * 1e9)
        system = round(usage.ru_stime * 1e9)
        reaped = self.reaped
        reaped[CPU] += user + system
        reaped[USER] += user
        reaped[SYSTEM] += system
        reaped[MINOR] += usage.ru_minflt
        reaped[MAJOR] += usage.ru_majflt
        reaped[SWITCHES] += usage.ru_nvcsw + usage.ru_nivcsw

    def reap_root(self, root: Member, growth: tuple[int, int, int, int], room_ns: int) -> None:
        """Take in how much the parent of an attached root shows since the last scan: ticks and faults.

        `room_ns`: what the CPUs can have used since then. A growth that is less than what the root had used, or more
        than what it can have used since, is not that of the root alone.
        """
        user, system = growth[0] * self.tick_ns, growth[1] * self.tick_ns
        slack = self.slack[CPU] * (1 + len(self.waiters))
        vanished = self.pending[root].amount[CPU] if root in self.pending else 0
        if (
            not amount_of(root, self.tick_ns)[CPU] - slack
            <= user + system
            <= self._live[CPU] + vanished + room_ns + slack
        ):
            return
        self.root_reaped = True
        for place, value in enumerate((user + system, user, system, growth[2], growth[3])):
            self.reaped[place] += value

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
            subtract(free, amount_of(other, self.tick_ns))
        amount = amount_of(member, self.tick_ns)
        return all(free[place] + self.slack[place] >= amount[place] for place in (CPU, MINOR, MAJOR))

    def _growth(self, ancestor: Member, tick: int) -> Amount:
        """Growth of what an ancestor shows of children, less what vanished members claim of it already."""
        growth = shown_of_children(ancestor, self.tick_ns)
        pending = self.pending.get(ancestor)
        if pending is not None and not pending.is_done:
            return pending.growth(growth)
        subtract(growth, shown_before(ancestor, tick, self.tick_ns))
        return growth

    def is_settled(self, ancestor: Member) -> bool:
        """Whether the ancestor was read often enough: what remains is within the rounding of its counters."""
        return self.pending[ancestor].reads >= READS_TO_SETTLE

    def settle(self, ancestor: Member) -> None:
        """The ancestor was read again: take out of the dead what its growth shows; keep the rest after two reads."""
        pending = self.pending.get(ancestor)
        if pending is not None:
            self._settle(pending, shown_of_children(ancestor, self.tick_ns), self.slack)

    def _settle(self, pending: Pending, shown: Amount, slack: Amount) -> None:
        pending.explain(shown, slack, self.dead)
        pending.reads += 1
        if pending.reads >= READS_TO_SETTLE:
            self.dropped += pending.amount[CPU] > self.slack[CPU]
            pending.amount = [min(pair) for pair in zip(pending.amount, slack, strict=True)]

    def _pending_of(self, ancestor: Member, tick: int) -> Pending:
        pending = self.pending.get(ancestor)
        if pending is None:
            pending = self.pending[ancestor] = Pending(shown_before(ancestor, tick, self.tick_ns))
        elif pending.is_done:
            pending.seen = shown_before(ancestor, tick, self.tick_ns)
        return pending

    # -- answers -------------------------------------------------------------------------------------------------

    def total(self) -> Amount:
        """What the tree has used since tracking began; its CPU time by the best source."""
        total = [
            live + dead + reaped - base
            for live, dead, reaped, base in zip(self._live, self.dead, self.reaped, self.base, strict=True)
        ]
        choice = self.choose()
        total[CPU] = choice.total_ns
        if choice.source == "cgroup" and self.cpu.enclosed_split is not None:
            total[USER], total[SYSTEM] = self.cpu.enclosed_split
        return limit_split(total)

    def advance(self) -> Amount:
        """Return the total as it is shown: what was shown before, where that was more."""
        self.best = [max(before, now) for before, now in zip(self.best, self.total(), strict=True)]
        return self.best

    def fall_back(self) -> None:
        """Rely on what the kernel itself sums up: members are read no longer."""
        self.cpu.only = self.cpu.only or "rusage"
        self.best[CPU] = self.total()[CPU]

    def sources(self) -> dict[str, int]:
        """Return nanoseconds of CPU by each source that there is."""
        sources = {
            "cgroup": self.cpu.enclosed,
            "rusage": self.reaped_cpu() if self.waited else None,
            "perf": self.cpu.counted,
            "procfs": self.procfs_cpu() if self.cpu.has_procfs else None,
        }
        return {source: used for source, used in sources.items() if used is not None}

    def choose(self) -> Choice:
        """Return the CPU total by its best source, or by the only one that totals may come from."""
        sources, only = self.sources(), self.cpu.only
        if only in sources:
            return Choice(only, sources[only], self.excess())
        return self.cpu.choose(
            reaped=self.reaped_cpu(),
            living=self._live[CPU],
            dead=self.dead[CPU],
            root_reaped=self.root_reaped,
            has_reaped=self.waited > 0,
        )

    def excess(self) -> int:
        """Nanoseconds that perf counted and the other sources did not."""
        return self.cpu.excess(self.procfs_cpu() - self.dead[CPU])

    def levels(self) -> dict[str, int]:
        """Nanoseconds of CPU by source whose growth is a rate: each with what is expected to be missing of it now.

        A rate is taken within one source: where the source of the total changes, the total makes a step that no
        process ran.
        """
        shown = self.procfs_cpu() + self.rounding()
        levels = self.sources() | {"own": self.own, "procfs": shown}
        if self.waited:
            levels["rusage"] = self.reaped_cpu() if self.cpu.wrong == "procfs" else shown
        spliced = self.cpu.spliced_ns()
        if spliced is not None:
            levels["procfs+perf"] = spliced
        return levels

    def rounding(self) -> int:
        """Nanoseconds that the total lacks, as expected, because stat cuts the time of waited-for children to ticks.

        Half a tick for each such counter. A rate without this would jump when the exact time comes at the end.
        """
        counters = sum((member.stat.child_user > 0) + (member.stat.child_system > 0) for member in self.waiters)
        return self.tick_ns // 2 * counters

    def reaped_cpu(self) -> int:
        """Nanoseconds of CPU by wait4 alone."""
        return self.reaped[CPU] - self.base[CPU]

    def procfs_cpu(self) -> int:
        """Nanoseconds of CPU by /proc and wait4."""
        return self._live[CPU] + self.dead[CPU] + self.reaped[CPU] - self.base[CPU]
