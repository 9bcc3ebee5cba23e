"""Page faults that members took between their last reading and their end.

A fault is the only trace of a page that an exiting process copies. Those of a process show in its own `stat` while it
is a zombie, else in `cminflt` and `cmajflt` of the parent that reaped it (kernel: wait_task_zombie).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.linux.proc import Stat
    from proctally.tree.member import Member

    Exiting = tuple[int, int]  # bytes that `stat` of members shows; those that their parents show


class Exits:
    """Members that left since the last scan, with the faults of their last reading in the memory model."""

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self._left: list[tuple[Member, int]] = []

    def add(self, member: Member, faults: int) -> None:
        """Add a member that left; `faults`: bytes that the model knows."""
        self._left.append((member, faults))

    def take_faults(self) -> Exiting | None:
        """Return the bytes that they faulted in since, and forget them; None where no `stat` shows it.

        First those that their own `stat` shows; then those that parents show: of them and of children that no scan met.
        """
        own = of_parents = 0
        known: dict[Member, int] = {}
        left, self._left = self._left, []
        for member, faults in left:
            stat = member.stat
            own += max(0, (stat.minor_faults + stat.major_faults) * self._page_size - faults)
            if member.state == b"Z" and member.threads <= 1:
                continue
            if member.parent is None:
                return None
            known[member.parent] = known.get(member.parent, 0) + stat.tree_minor_faults + stat.tree_major_faults
        for parent, faults in known.items():
            more = _of_children(parent.stat) - _of_children(parent.previous_stat) - faults
            if more < 0:  # it has not reaped all of them yet
                return None
            of_parents += more * self._page_size
        return own, of_parents


def _of_children(stat: Stat) -> int:
    return stat.tree_minor_faults - stat.minor_faults + stat.tree_major_faults - stat.major_faults
