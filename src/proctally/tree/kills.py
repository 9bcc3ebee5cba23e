"""Ends of members of a tree: OOM kills with who held the memory, and the signals that ended children.

A kill is noticed at the start of a scan, before the members are read: the memory model still has the victim then.
"""

from __future__ import annotations

from proctally.errors import UNREADABLE
from proctally.linux.child import SIGKILL, signal_names
from proctally.linux.machine import NANOSECONDS
from proctally.record.codes import ENCLOSING_CGROUP, OWN_CGROUP
from proctally.text.escape import decode_name
from proctally.tree.oom_counts import OomCounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Protocol

    from proctally.linux.machine import Machine
    from proctally.record import JsonObject
    from proctally.tree.cgroups import Enclosure
    from proctally.tree.member import Member
    from proctally.tree.oom_counts import Count

    class Memory(Protocol):
        """The part of `tree.memory_scan.MemoryScan`, a layer above this one, that `Kills` uses."""

        def parts(self) -> list[JsonObject] | None: ...


REFRESH_NS = 10 * NANOSECONDS  # a member that runs has its cgroup read again after this time
MAX_READS = 10  # cgroup files in one scan, 8 us each
MAX_OOMS = 10  # entries of `summary.memory.ooms`; the last one counts the rest
SIGNALS = 0x7F  # of a wait status


class Kills:
    """The ends of one tree.

    `enclosure`: what is around it, from before its start. `started_ns`: monotonic clock of the start. `by_signal`:
    children that a signal ended, by its number; the root is not in it.
    """

    def __init__(self, machine: Machine, enclosure: Enclosure, started_ns: int) -> None:
        self.machine = machine
        self.enclosure = enclosure
        self._started_ns = started_ns
        since_ns = machine.boottime_ns() - (machine.monotonic_ns() - started_ns)
        self.counts = OomCounts(machine, *enclosure.kills_before, started=since_ns // machine.tick_ns)
        self.ooms: list[JsonObject] = []
        self.by_signal: dict[int, int] = {}
        self._noted: set[Member] = set()  # zombies whose signal was counted
        self._known: dict[Member, tuple[bytes, int]] = {}  # name and moment when the cgroup of a member was read
        # kills in a cgroup that others share: of earlier scans, and of the last one; SIGKILLs that explain them
        self._elsewhere = self._shared = self._credit = 0

    # -- OOM kills -------------------------------------------------------------------------------------------------

    def poll(self, memory: Memory | None, members: Collection[int], *, settle: bool = True) -> None:
        """Note the kills since the last call, with the largest parts of the memory at the last scan.

        `members`: the pids of that scan.
        `settle`: whether a scan starts; a SIGKILL of the scan before it explains a kill no longer.
        """
        if settle:
            self._elsewhere += self._shared
            self._shared = 0
        for count, kills in self.counts.poll():
            if count.others.may_be_victims(members):
                explained = min(kills, self._credit)
                self._credit -= explained
                self._shared += kills - explained
            self._note_kills(count, kills, memory)
        if settle:
            self._credit = 0

    def _note_kills(self, count: Count, kills: int, memory: Memory | None) -> None:
        if len(self.ooms) >= MAX_OOMS:
            self.ooms[-1]["count"] += kills
            return
        elapsed_ns = self.machine.monotonic_ns() - self._started_ns
        self.ooms.append(
            {
                "elapsed_seconds": round(elapsed_ns / NANOSECONDS, 3),
                "cgroup": decode_name(count.path.encode("utf-8", "surrogateescape")),
                "limit_bytes": self.counts.limit_bytes(count),
                "count": kills,
                "at_peak": None if memory is None else memory.parts(),
            }
        )

    def elsewhere(self) -> int:
        """Return the kills of which another process that shares the cgroup may be the victim."""
        return self._elsewhere + self._shared

    def found(self) -> tuple[int, str, str, int | None] | None:
        """Return number, place, path and limit in bytes; None without any. Path and limit: of most of them."""
        total = self.counts.total
        if not total:
            return None
        most = self.counts.most()
        own = self.enclosure.is_own(most.directory)
        path = decode_name(most.path.encode("utf-8", "surrogateescape"))
        limit = next((each["limit_bytes"] for each in self.ooms if each["cgroup"] == path), None)
        return total, OWN_CGROUP if own else ENCLOSING_CGROUP, path, limit

    # -- where members live ----------------------------------------------------------------------------------------

    def see(
        self,
        ran: Iterable[Member],
        idle: Iterable[Member],
        members: Collection[int],
        now_ns: int,
        root: Member | None = None,
    ) -> None:
        """Read the cgroups of members that are new, that executed a program, or that were not read for long.

        `ran`: members that ran, `idle`: those whose turn at the slow pace it is; `members`: the pids of all.
        """
        known = self._known
        reads = 0
        for member in (*ran, *idle):
            before = known.get(member)
            if before is not None and before[0] == member.command and now_ns - before[1] < REFRESH_NS:
                continue
            if not member.alive or member.ended:
                continue
            if reads >= MAX_READS:
                break
            reads += 1
            known[member] = member.command, now_ns
            raw = self._read(member)
            if raw:
                self.counts.see(raw)
            if raw and member is root:
                self.enclosure.follow(root.pid, raw)
        if len(known) > 2 * len(members) + MAX_READS:
            self._known = {member: entry for member, entry in known.items() if member.alive}
        self.counts.look_for_others(members)

    def _read(self, member: Member) -> bytes:
        try:
            raw = self.machine.read(f"{member.pid}/cgroup")
            # v1 shows `/` for a process that exits (cgroup_exit)
            if b"memory:/\n" in raw and self.machine.read(f"{member.pid}/statm").startswith(b"0 "):
                return b""
        except UNREADABLE:
            return b""
        return raw

    # -- signals ---------------------------------------------------------------------------------------------------

    def reaped(self, member: Member | None, signal: int, *, is_root: bool = False) -> None:
        """Note a reaped child that a signal ended; None for one that was never seen."""
        if is_root:
            self._explain(signal)
        elif member is None or member not in self._noted:
            self._count(signal)
        if member is not None:
            self._noted.discard(member)

    def zombie(self, member: Member, raw: bytes) -> None:
        """Note a zombie of another parent. `raw`: its stat, whose last field is 0 where this user may not see it."""
        word = raw[raw.rfind(b" ") + 1 :].strip()
        signal = int(word) & SIGNALS if word.isdigit() else 0
        if signal and member not in self._noted:
            self._noted.add(member)
            self._count(signal)

    def _explain(self, signal: int) -> None:
        """Use the SIGKILL of a member to explain a kill in a cgroup that others share."""
        if signal != SIGKILL:
            return
        if self._shared:
            self._shared -= 1
        else:
            self._credit += 1

    def _count(self, signal: int) -> None:
        self.by_signal[signal] = self.by_signal.get(signal, 0) + 1
        self._explain(signal)

    def killed_by(self) -> dict[str, int]:
        """Return the number of children by the name of the signal that ended them, such as SIGKILL."""
        names = signal_names() if self.by_signal else {}
        return {names.get(number, str(number)): count for number, count in sorted(self.by_signal.items())}
