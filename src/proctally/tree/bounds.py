"""Upper bounds of the CPU time that a total may lack, where no source has a figure.

`high_seconds` of a gap: the total and what its gaps lack at most hold the truth.
"""

from __future__ import annotations

from proctally.tree.perf_processes import teardown_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.tree.perf_source import PerfSource
    from proctally.tree.summary import TreeSummary


LARGE_BYTES = 50 << 20  # a process whose exit takes long
ASSUMED_BYTES = 16 << 20  # the size of a process that no scan saw


class Exits:
    """Bounds of what perf lacks at the exits of small processes, and of large ones with their number."""

    __slots__ = ("large", "large_ns", "small_ns")

    def __init__(self) -> None:
        self.large = 0
        self.large_ns = 0
        self.small_ns = 0

    @property
    def all_ns(self) -> int:
        """Nanoseconds of both."""
        return self.small_ns + self.large_ns


def of_exits(tree: TreeSummary, perf: PerfSource) -> Exits | None:
    """Return what perf lacks of the exits that it recorded; None where it recorded none."""
    if perf.roll is None:
        return None
    exits = Exits()
    for name, (processes, _) in perf.roll.so_far({}).items():
        use = tree.uses.get(name)
        size = (0 if use is None else use.peak_rss) or ASSUMED_BYTES
        if size >= LARGE_BYTES:
            exits.large += processes
            exits.large_ns += teardown_ns(processes, size)
        else:
            exits.small_ns += teardown_ns(processes, size)
    return exits


def of_last_moments(tree: TreeSummary) -> int | None:
    """Return what an attach lacks at most of processes that others reap; None where members ended outside the tree.

    That is what the CPUs can have done since the last scan that found the root alive, less what perf counted since, and
    the ticks to which the times of waited-for children are cut.
    """
    if tree.outside:
        return None
    ledger = tree.ledger
    ticks = ledger.slack[0] * (1 + tree.root_waiters)
    if ledger.root_reaped:
        return ticks
    counted = 0
    if ledger.cpu.counted is not None and ledger.cpu.spliced is not None:
        counted = ledger.cpu.counted - ledger.cpu.spliced[1]
    return max(0, tree.cpus * (tree.read_ns - tree.root_seen_ns) - counted) + ticks
