"""The samples of a tree: levels, rates and peaks, the processes with the most CPU time, lines of processes."""

from __future__ import annotations

from proctally.linux.machine import NANOSECONDS
from proctally.record import seconds
from proctally.text.escape import decode_name
from proctally.tree.member import CPU, DELAY, IO, MAJOR, MINOR, SWITCHES, SYSTEM, UNREAD, USER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from proctally.linux.machine import Machine
    from proctally.record import JsonObject
    from proctally.tree.cgroups import Enclosure
    from proctally.tree.guards import TimeGuard
    from proctally.tree.ledger import Ledger
    from proctally.tree.member import Member, ScanState
    from proctally.tree.membership import Membership
    from proctally.tree.memory_guard import MemoryGuard
    from proctally.tree.perf_source import PerfSource
    from proctally.tree.readings import Readings

SHORT_NS = 50_000_000
TOP = 3
READ_OF_MEMBERS = (
    "processes",
    "threads",
    "peak_threads",
    "running",
    "disk_sleep",
    "rss_bytes",
    "pss_bytes",
    "swap_bytes",
)


class Samples:
    """Makes the samples of one tree, and keeps the peaks of all scans.

    `count`: samples so far. `rss_sampled`: RSS in the last sample before the end, in bytes.
    """

    def __init__(
        self,
        tree: Membership,
        ledger: Ledger,
        state: ScanState,
        readings: Readings,
        memory: MemoryGuard,
        time: TimeGuard,
        enclosure: Enclosure | None,
        perf: PerfSource | None,
        *,
        interval_ns: int,
    ) -> None:
        self.machine = tree.machine
        self.tree = tree
        self.ledger = ledger
        self.state = state
        self.readings = readings
        self.memory = memory
        self.time = time
        self.enclosure = enclosure
        self.perf = perf
        self.interval_ns = interval_ns
        self.count = 0
        self.rss_sampled: int | None = None
        self.peak_rss: int | None = None
        self.peak_pss: int | None = None
        self.peak_processes = 0
        self.peak_threads = 0
        self.peak_cores: float | None = None
        self._sampled_ns: int | None = None
        self._rates: list[tuple[int, dict[str, int]]] = []  # moment and CPU time by source of the last two samples
        self._begins: list[int] = []  # when their readings began

    def note_peaks(self) -> None:
        """Take in the levels of a scan."""
        readings = self.readings
        if readings.rss > (self.peak_rss or 0):
            self.peak_rss = readings.rss
        self.peak_threads = max(self.peak_threads, readings.threads)
        if len(self.tree.members) > self.peak_processes:
            self.peak_processes = len(self.tree.members)
        if self.memory.pss > (self.peak_pss or 0) and not self.memory.pss_unread():
            self.peak_pss = self.memory.pss

    def make(self) -> JsonObject:
        """Return the sample of the last scan as the record holds it."""
        now, ledger = self.state.read_ns, self.ledger
        total = ledger.advance()
        interval = None if self._sampled_ns is None else max(1, now - self._sampled_ns)
        cores = self._cores(now, ledger.choose().source, ledger.levels())
        at = round(self.machine.time() - (self.machine.monotonic_ns() - now) / NANOSECONDS, 3)
        sample = {
            "type": "sample",
            "at": at,
            "elapsed_seconds": seconds(now - self.state.started_ns),
            "interval_seconds": None if interval is None else seconds(interval),
            "tree": self._levels(total, cores),
        }
        sample["system"] = sample["gpus"] = None  # read by others
        sample["cgroup"] = None if self.enclosure is None else self.enclosure.sample()
        sample["top"] = self._top(interval)
        if cores is not None and interval is not None and interval * 2 >= self.interval_ns:
            self.peak_cores = max(self.peak_cores or 0.0, cores)
        self._sampled_ns = now
        self.rss_sampled = self.readings.rss or self.rss_sampled
        self.count += 1
        self.state.ran.clear()
        return sample

    def restart(self) -> None:
        """Start an interval at the last scan: the time before it belongs to none."""
        self._sampled_ns = self.state.read_ns
        self.ledger.advance()
        self._rates = [(self.state.read_ns, self.ledger.levels())]
        self._begins = [self.state.begin_ns]

    def _cores(self, now: int, source: str, levels: dict[str, int]) -> float | None:
        """CPU seconds per second since the last sample, by the source of the total; None in the first.

        Readings lag by up to a tick of the scheduler and by the rounding of stat: an interval too short for that (the
        last one, as a rule; not one that is shorter by what the sample before was late) is taken together with the one
        before. What comes with a hidden process is of its whole lifetime, and what perf shows late of all that time.
        """
        cores = None
        if self._rates:
            begin = None if self.tree.hidden is None else self.tree.hidden.take_ended()
            if begin is not None:
                from proctally.tree.hidden import backdate

                backdate(self._rates, now, levels, begin, self.machine.cpu_count())
            late = None if self.perf is None else self.perf.take_late()
            if late is not None:
                spread(self._rates, now, levels, late)
            since, before = self._rates[-1]
            first_ns = self._begins[-1]
            if now - since < min(SHORT_NS, self.interval_ns // 2) and len(self._rates) > 1:
                since, before = self._rates[-2]
                first_ns = self._begins[-2]
            for name, used in self._rates[-1][1].items():
                levels[name] = max(used, levels.get(name, 0))
            if source not in before:
                source = "procfs"
            used, interval = levels[source] - before[source], max(1, now - since)
            if used > interval:
                extra = since - first_ns + self.state.end_ns - now
                used = within(used, interval, extra, self.machine.cpu_count())
            cores = round(used / interval, 4)
        self._rates = [*self._rates[-1:], (now, levels)]
        self._begins = [*self._begins[-1:], self.state.begin_ns]
        return cores

    def _levels(self, total: list[int], cores: float | None) -> JsonObject:
        memory, readings = self.memory, self.readings
        unread = memory.pss_unread()
        age = None
        if memory.pss_known:
            oldest = min(member.pss_at for member in self.tree.members.values() if member.pss is not None)
            age = round((self.machine.monotonic_ns() - oldest) / NANOSECONDS, 1)
        io: list[int | None] = list(total[IO:]) if self.ledger.io_known else [None] * 7
        levels = {
            "cpu_seconds": seconds(total[CPU]),
            "cpu_user_seconds": seconds(total[USER]),
            "cpu_system_seconds": seconds(total[SYSTEM]),
            "cpu_cores": cores,
            "processes": len(self.tree.members),
            "threads": readings.threads,
            "peak_threads": self.peak_threads,
            "running": readings.states.get(b"R", 0),
            "disk_sleep": readings.states.get(b"D", 0),
            "run_delay_seconds": seconds(total[DELAY]) if self.ledger.delay_known else None,
            "rss_bytes": readings.rss,
            "pss_bytes": None if unread else memory.pss,
            "pss_age_seconds": age,
            **memory.levels(readings.swap),
            "read_bytes": io[4],
            "write_bytes": io[5],
            "cancelled_write_bytes": io[6],
            "read_chars": io[0],
            "write_chars": io[1],
            "read_syscalls": io[2],
            "write_syscalls": io[3],
            "minor_faults": total[MINOR],
            "major_faults": total[MAJOR],
            "context_switches": total[SWITCHES],
            "throttled_seconds": None if (throttled := self.time.throttled_ns()) is None else seconds(throttled),
            "time": self.time.sample(),
        }
        if not self.ledger.cpu.has_procfs:
            levels.update(dict.fromkeys(READ_OF_MEMBERS))
        elif 0 < len(self.tree.members) == readings.states.get(UNREAD):
            levels.update(dict.fromkeys(READ_OF_MEMBERS[1:]))
        if unread:
            levels["pss_unread"] = unread
        if readings.io_unread:
            levels["io_unread"] = len(readings.io_unread)
        return levels

    def _top(self, interval: int | None) -> list[JsonObject]:
        """The processes with the most CPU time in the interval, then those with the most memory."""
        ran = self.state.ran
        if not self.ledger.cpu.has_procfs:
            ran.clear()
            return []
        members = [member for member in ran if member.alive]
        members.sort(key=_cpu_since_sample, reverse=True)
        del members[TOP:]
        if len(members) < TOP and len(self.tree.members) > len(members):
            rest = [member for member in self.tree.members.values() if member not in members]
            members += sorted(rest, key=_rss, reverse=True)[: TOP - len(members)]
        top = []
        for member in members:
            cores = None if interval is None else round((member.cpu - member.cpu_sampled) / interval, 3)
            top.append(
                {"pid": member.pid, "command": decode_name(member.command), "cpu_cores": cores, "rss_bytes": member.rss}
            )
        for member in ran:
            member.cpu_sampled = member.cpu
        return top


class ProcessLines:
    """Writes a line for each process that exited. `emit(line)` receives it; `limit`: maximum of lines."""

    def __init__(self, machine: Machine, emit: Callable[[JsonObject], None] | None, limit: int) -> None:
        self.machine = machine
        self.emit = emit
        self.left = limit if machine.procfs_missing is None else 0

    def write(self, member: Member, exit_code: int | None, *, ended: bool) -> None:
        """Write the line of a process."""
        if self.emit is None or self.left <= 0:
            return
        self.left -= 1
        machine, io = self.machine, member.io
        self.emit(
            {
                "type": "process",
                "pid": member.pid,
                "start_ticks": member.start,
                "parent": member.ppid,
                "command": decode_name(member.command),
                "started_at": round(machine.start_unix(member.start), 2),
                "ended_at": round(machine.time(), 3) if ended else None,
                "cpu_seconds": seconds(member.cpu - member.cpu_base),
                "peak_rss_bytes": member.peak_rss or None,
                "read_bytes": None if io is None else io[4],
                "write_bytes": None if io is None else io[5],
                "exit": exit_code,
            }
        )


def _rss(member: Member) -> int:
    return member.rss


def _cpu_since_sample(member: Member) -> int:
    return member.cpu - member.cpu_sampled


def within(used: int, interval: int, extra: int, cpus: int) -> int:
    """Return the nanoseconds of CPU time that belong to an interval: at most those of its CPUs.

    The rest of `used` ran during the readings at both ends, which lasted `extra` nanoseconds.
    """
    return min(used, max(cpus * interval, used - cpus * extra))


def spread(rates: list[tuple[int, dict[str, int]]], now: int, levels: dict[str, int], begin: int) -> None:
    """Raise the levels of perf in `rates` as if it had been read then: what came late ran evenly from `begin` on."""
    arrived = levels.get("perf", 0) - rates[-1][1].get("perf", 0)
    for moment, known in rates:
        if "perf" in known:
            known["perf"] += arrived * max(0, moment - begin) // max(1, now - begin)
