"""The CPU clocks of members: which of them moved since the last scan, and whose turn at the slow pace it is."""

from __future__ import annotations

from proctally.linux.machine import NANOSECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from proctally.tree.ledger import Ledger
    from proctally.tree.member import Member, ScanState
    from proctally.tree.membership import Membership

REFRESH_NS = 10 * NANOSECONDS  # the slow pace
SPREAD = 0.02  # readings of one scan that are further apart, in intervals, are brought to one moment ...
ALIGN_AT_MOST = 3  # ... by this number of attempts


class Clocks:
    """Reads the clocks of all members in one pass."""

    def __init__(self, tree: Membership, ledger: Ledger, state: ScanState, *, interval_ns: int) -> None:
        self.tree = tree
        self.machine = tree.machine
        self.ledger = ledger
        self.state = state
        self.interval_ns = interval_ns
        # the members in the order of their clocks
        self._order: list[Member] = []
        self._ids: list[int] = []
        self._clocks: list[int | None] = []
        # the schedule of what is read slowly
        self._turns = 0.0
        self._next_turn = 0
        self._turned_at = state.started_ns

    def moved(self) -> list[tuple[Member, int | None]]:
        """Return the members whose clock moved since the last scan, parents first, with their clocks.

        A clock is None where the member is gone, or the machine has no such clocks.
        """
        tree, state = self.tree, self.state
        state.begin_ns = state.read_ns = self.machine.monotonic_ns()
        if tree.changed:
            self._order = list(tree.members.values())
            self._ids = [member.clock for member in self._order]
            self._clocks = [-1 if member in state.again else member.cpu for member in self._order]
            tree.changed = False
        state.again.clear()
        if self.machine.clock_gettime_ns is None:
            return [(member, None) for member in self._order]
        clocks = self.machine.clocks(self._ids)
        state.read_ns = self.machine.monotonic_ns()
        moved = [
            (member, clock)
            for member, clock, before in zip(self._order, clocks, self._clocks, strict=True)
            if clock != before
        ]
        self._clocks = clocks
        return moved

    def align(self, ran: list[Member], read_counters: Callable[[], None]) -> None:
        """Bring every clock to one moment again, where this process was kept from running while it read.

        On a busy machine that takes long enough for a sample to show more cores than there are: what was read last
        then contains time that the moment of the clocks does not. `read_counters` reads the other sources then. Where
        no member `ran`, there is nothing to align.
        """
        machine, state = self.machine, self.state
        if machine.clock_gettime_ns is None or not ran:
            return
        started = state.read_ns
        for _ in range(ALIGN_AT_MOST):
            now = machine.monotonic_ns()
            if now - started < self.interval_ns * SPREAD:
                return
            started = now
            members = list(self.tree.members.values())
            for member, clock in zip(members, machine.clocks([member.clock for member in members]), strict=True):
                if clock is not None and clock > member.cpu:
                    self.ledger.correct(member, clock)
                    state.again.add(member)
            state.read_ns = machine.monotonic_ns()
            read_counters()

    def take_turns(self, now: int) -> list[Member]:
        """Return some members that did not run, so that each has its turn once in ten seconds."""
        count, tick = len(self._order), self.state.tick
        self._turns += min(now - self._turned_at, REFRESH_NS) * count / REFRESH_NS
        self._turned_at = now
        turns = int(self._turns)
        if not turns:
            return []
        self._turns -= turns
        places = range(self._next_turn, self._next_turn + turns)
        self._next_turn = (self._next_turn + turns) % count if count else 0
        members = [self._order[place % count] for place in places]
        return [member for member in members if member.alive and member.moved_tick != tick]
