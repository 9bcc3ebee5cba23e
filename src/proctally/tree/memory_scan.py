"""The reader of the memory model: in which order a scan reads members, shared files, surroundings and PSS.

A member is read where its faults or its RSS moved. A scan in which no member moved costs nothing, unless one ran and
the shared memory around the tree moved: a tmpfs file is written without a fault.
"""

from __future__ import annotations

from proctally.errors import UNREADABLE, AccessDenied, NoProcfs
from proctally.linux.machine import NANOSECONDS, cpu_ns
from proctally.linux.memory_levels import MemoryLevels, parse_meminfo_levels, parse_memory_stat
from proctally.linux.proc import parse_stat
from proctally.linux.proc_memory import (
    read_rollup,
)
from proctally.text.escape import decode_name
from proctally.tree.memory import MemoryModel
from proctally.tree.memory_around import Around
from proctally.tree.memory_claims import Claims
from proctally.tree.memory_exits import Exits
from proctally.tree.memory_members import MemberReadings
from proctally.tree.memory_moments import NARROW_BYTES
from proctally.tree.memory_peaks import RUN_CGROUP, gaps
from proctally.tree.memory_pss import PssBudget, snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from proctally.linux.cgroup import Place
    from proctally.linux.machine import Machine
    from proctally.linux.proc import Files, Stat
    from proctally.linux.proc_memory import Rollup
    from proctally.record import JsonObject
    from proctally.tree.member import Member
    from proctally.tree.memory_families import Family, ProcessMemory
    from proctally.tree.memory_moments import Bracket, PeakEntry
    from proctally.tree.memory_unseen import Lived

    Key = tuple[int, int, int]  # minor faults, major faults, RSS: what moves with each size of a process
    Reading = tuple[bytes, Stat, bytes]  # `stat`, parsed, and `status`

LATE_NS = 50_000_000  # a longer scan is no moment any more
EARLY_NS = NANOSECONDS
MISSED_NS = 3 * NANOSECONDS  # after much was unseen, scans are closer for this time
WIDE_RATIO = 0.1


class MemoryScan:
    """Reads the memory of one tree into a model.

    `place`: the cgroup around the tree (`memory_place`). `run_cgroup`: whether that holds the tree and nothing else.
    `before`: `memory.stat` or `meminfo` before a run started; None for a tree that ran before. `since`: Unix seconds of
    the start. `pss_ratio`: CPU time for PSS, as a share of a core; at 0 none is read. `discover(members)` returns new
    processes of the tree, `faults()` all page faults of the tree, `lived()` how many processes lived at
    once, and how many started, since the last call, or None; `take_pss(member, bytes)` gets a reading of PSS.
    """

    def __init__(
        self,
        machine: Machine,
        files: Files,
        place: tuple[str, Place] | None,
        *,
        since: float,
        before: bytes | None = None,
        run_cgroup: bool = False,
        pss_ratio: float = 0.0,
        root: Member | None = None,
        discover: Callable[[list[Member]], list[Member]],
        faults: Callable[[], int],
        lived: Callable[[], Lived | None],
        take_pss: Callable[[Member, int], None],
    ) -> None:
        self._machine = machine
        self._files = files
        self._discover = discover
        self._faults = faults
        self._lived = lived
        self._exits = Exits(machine.page_size)
        self._take_pss = take_pss
        self._around = Around(machine, place)
        start = None if before is None else _levels_of(before)
        self.model = MemoryModel(machine.cpu_count(), start=start, run_cgroup=run_cgroup, page_size=machine.page_size)
        # The other processes are not read before a run starts, so nothing is known of what they did until the first
        # scan: it is the anchor.
        self.model.neighbours(None)
        self.members = MemberReadings(machine, files, self.model, self._around, root)
        self._follows_start = start is not None
        self._run_cgroup = run_cgroup
        self._level: MemoryLevels | None = None  # of the surroundings, before the first of them
        self._level_ns = self._started_ns = 0  # when it was read; when the scan started
        self._left = False  # whether a member left since the last scan
        self._shmem: int | None = None  # level of the last scan
        self._claims = Claims(machine, since)
        self._budget = PssBudget(machine.monotonic_ns(), pss_ratio) if pss_ratio > 0 else None
        self.denied: set[int] = set()  # pids whose PSS is denied
        self._procfs_missing: str | None = None  # code: procfs went, or another one is mounted
        self._scanned_ns = 0  # when a scan last saw a member, since the start
        self._missed_ns: int | None = None  # when much was unseen
        self.late = 0
        self.is_sampled = False

    # -- one scan --------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start a scan, before its members are read."""
        self.members.begin()
        self._level = None

    def read_moved(self, member: Member, raw: bytes) -> None:
        """Read `status` of a member whose new `stat` is `raw`, if its memory moved."""
        if not self.members.is_to_read(member):
            return
        if self._level is None:
            self._level = self._around.levels()
            self._level_ns = self._machine.monotonic_ns()
        self.members.take(member, raw)

    def leave(self, member: Member) -> None:
        """Remove a member that exited, or that is a zombie."""
        process = self.members.leave(member)
        if process is not None:
            self._exits.add(member, process.faults)
            self._left = True

    def scan(
        self,
        ran: Collection[Member],
        members: Collection[int],
        begun_ns: int,
        elapsed_ns: int,
        idle: Collection[Member] = (),
    ) -> None:
        """Read what moved, and pass the bracket of this moment to the model.

        `ran`: the members that ran, new ones after their parents. `members`: the pids of all. `begun_ns`: monotonic
        clock when the members were first read in this scan; `elapsed_ns`: since the start. `idle`: members that did
        not run, whose `stat` was refreshed.
        """
        if members:
            self._scanned_ns = elapsed_ns
        moved = self.members.moved(ran) + self.members.moved(idle)
        around = self._around
        levels = None
        if not moved and not self._left and not self._wants_pss(elapsed_ns):
            if not ran:
                return
            levels = around.levels()
            if (levels is None or levels.shmem == self._shmem) and not self.model.unseen_since(self._tree_faults()):
                return
        started_ns = self._machine.monotonic_ns() if self._level is None else self._level_ns
        levels = levels or self._level or around.levels()
        anon_before = 0 if levels is None else levels.anon
        self._left = False
        self._started_ns = started_ns
        self.members.read_all(moved)
        last = self._bracket(anon_before, members, begun_ns)
        if last.source != RUN_CGROUP and self._claims.search(last, self.model.members.values()):
            last = self._bracket(anon_before, members, begun_ns)
        if self._budget is not None and self._read_pss(self._budget, last, elapsed_ns):
            last = self._bracket(anon_before, members, begun_ns)
        if self._is_late():
            self.late += 1
            if self._leave_ended():
                self._bracket(anon_before, members, begun_ns)
        if self.model.members or self.is_sampled:
            self.is_sampled = True
            exiting = self._exits.take_faults()
            self.model.settle(elapsed_ns / NANOSECONDS, self._tree_faults(), exiting, self._lived())
            if self.model.missed + self.model.peaks.refilled > last.low * WIDE_RATIO + NARROW_BYTES:
                self._missed_ns = elapsed_ns

    def _tree_faults(self) -> int:
        """Return the page faults of the tree in bytes."""
        return self._faults() * self._machine.page_size

    def _is_late(self) -> bool:
        return self._machine.monotonic_ns() - self._started_ns > LATE_NS

    def _leave_ended(self) -> bool:
        """Remove the members that ended during a scan; return whether there is one.

        Where processes follow each other faster than a scan reads them, a sum over all that it read holds memory of
        different moments. Those that live at its end held theirs together.
        """
        ended = [member for member in self.members.known if self.members.has_ended(member)]
        for member in ended:
            self.leave(member)
        return bool(ended)

    def _bracket(self, anon_before: int, members: Collection[int], begun_ns: int) -> Bracket:
        model, around, machine = self.model, self._around, self._machine
        if not self._run_cgroup:
            since_ns = machine.boottime_ns() - (machine.monotonic_ns() - begun_ns)
            model.neighbours(around.others(members, since_ns // machine.tick_ns))
        claimed = self._claims.size(members)
        levels = around.levels()
        self._shmem = None if levels is None else levels.shmem
        starts = model.entered > 0 or self.members.is_starting
        forks = starts and (self._follows_start or self.is_sampled)
        model.surroundings.is_blurred = forks or self._is_late()
        return model.bracket(anon_before, levels, claimed)

    def leave_run_cgroup(self) -> None:
        """Note that a member left the run cgroup: its figures are no longer those of the tree."""
        if self._run_cgroup:
            self._run_cgroup = self.model.run_cgroup = self._around.is_complete = False

    # -- PSS -------------------------------------------------------------------------------------------------------

    def _wants_pss(self, elapsed_ns: int) -> bool:
        """Return whether the last bracket is wide and a family can be read now, although nothing moved."""
        budget, last = self._budget, self.model.last
        if budget is None or last is None or not self.model.members:
            return False
        self._fill(budget, last, elapsed_ns)
        return any(map(budget.allows, self.model.families_to_read()))

    def _fill(self, budget: PssBudget, bracket: Bracket, elapsed_ns: int) -> None:
        wide = bracket.high - bracket.low > bracket.low * WIDE_RATIO
        budget.fill(self._machine.monotonic_ns(), len(self.model.members), wide=wide, early=elapsed_ns < EARLY_NS)

    def _read_pss(self, budget: PssBudget, bracket: Bracket, elapsed_ns: int) -> bool:
        """Read the families that would narrow the bracket, as far as the budget allows."""
        self._fill(budget, bracket, elapsed_ns)
        read = False
        for family in self.model.families_to_read():
            if budget.allows(family):
                read |= self._read_family(budget, family)
        return read

    def _read_family(self, budget: PssBudget, family: Family) -> bool:
        started = cpu_ns(self._machine)
        first = snapshot(family)
        owners = {process: member for member, process in self.members.known.items()}
        readings: dict[ProcessMemory, tuple[int, Rollup]] = {}
        for process, _, _ in first:
            reading = self._read_rollup(process, owners[process])
            if reading is not None:
                readings[process] = reading
                rollup = reading[1]
                self._take_pss(owners[process], rollup.pss_anon + rollup.pss_file + rollup.pss_shmem)
        living = [owners[process] for process, _, _ in first if process.living]
        self.members.read_all([*living, *self._discover(living)])  # a child forked meanwhile has its share of each page
        self.model.take(family, first, readings)
        budget.spend(family, cpu_ns(self._machine) - started)
        return bool(readings)

    def _read_rollup(self, process: ProcessMemory, member: Member) -> tuple[int, Rollup] | None:
        try:
            stat = parse_stat(self._files.stat_bytes(member, member.pid))
            tid = self.members.living_thread(member.pid) if stat.state == b"Z" else None
            rollup = read_rollup(self._machine, member.pid, tid)
        except NoProcfs as error:
            self._procfs_missing = error.code
            return None
        except AccessDenied:
            self.denied.add(member.pid)
            return None
        except UNREADABLE:
            return None
        if rollup is None:
            return None
        return (stat.minor_faults + stat.major_faults) * self._machine.page_size, rollup

    # -- what a sample and the summary hold --------------------------------------------------------------------------

    @property
    def bracket(self) -> Bracket | None:
        """The bracket of the last scan; None before a member was read."""
        return self.model.last if self.is_sampled else None

    @property
    def misses_much(self) -> bool:
        """True if much memory was made lately that no scan saw."""
        return self._missed_ns is not None and self._scanned_ns - self._missed_ns < MISSED_NS

    def finish(self, maxrss: int, floor: int, elapsed_ns: int) -> None:
        """Take in ru_maxrss of the largest reaped process; `floor`: the mark of the launcher.

        A value below that mark can be the launcher's. But of a job that was seen for less than half of its time it is
        the only bound.
        """
        self.model.peaks.finish(maxrss, floor if elapsed_ns < 2 * self._scanned_ns else 0)

    def gaps(self) -> list[tuple[str, int | None, int | None]]:
        """Return code, count and bytes of each gap of the peak."""
        hidden = self._claims.is_hidden
        denied, missing = len(self.denied), self._procfs_missing
        return gaps(self.model.peaks, denied=denied, missing=missing, late_scans=self.late, anonymous_hidden=hidden)

    def parts(self) -> list[JsonObject] | None:
        """Return the largest parts of the last scan; None before a member was read."""
        return [_part(part) for part in self.model.parts()] if self.is_sampled else None

    def summary(self) -> JsonObject | None:
        """Return the figures of the peak; None where no member was read."""
        peaks = self.model.peaks
        candidate = peaks.candidate
        if candidate is None:
            return None
        bracket = candidate.bracket
        return {
            "peak_low_bytes": peaks.low,
            "peak_high_bytes": peaks.high,
            "at_seconds": round(candidate.seconds, 3),
            "mapped_file_bytes": bracket.mapped_file,
            "kernel_bytes": bracket.kernel,
            "swap_bytes": bracket.swap,
            "unclaimed_shmem_bytes": bracket.unclaimed_shmem,
            "at_peak": [_part(part) for part in candidate.parts()],
            "source": bracket.source,
        }


def _part(part: PeakEntry) -> JsonObject:
    return {
        "pid": part.pid,
        "command": None if part.command is None else decode_name(part.command),
        "low_bytes": part.low,
        "high_bytes": part.high,
        "kind": part.kind,
    }


def _levels_of(data: bytes) -> MemoryLevels | None:
    try:
        return parse_meminfo_levels(data) or parse_memory_stat(data)
    except ValueError:
        return None
