"""What is measured into one record: a sample at each interval, of a tree or of the machine alone, and the machine."""

from __future__ import annotations

from proctally.linux.machine import NANOSECONDS
from proctally.record import seconds
from proctally.record.codes import DURATION_OVER, NO_DESCRIPTORS, READERS_GONE, STOPPED
from proctally.tracking import summary
from proctally.tracking.loop import EARLY_SCANS_NS, Schedule, Source
from proctally.tracking.verdict import Outcome, reason
from proctally.tree import gaps
from proctally.tree.cgroups import Enclosure
from proctally.tree.perf_source import PerfSource
from proctally.tree.sampler import TreeSampler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from proctally.host.sampler import HostSampler
    from proctally.linux.child import SignalFd
    from proctally.record import JsonObject
    from proctally.tracking.live_lines import Live
    from proctally.tracking.neighbours import Neighbours
    from proctally.tracking.session import Session
    from proctally.tree.gaps import Gap
    from proctally.tree.summary import TreeSummary


LATE_NS = 10_000_000_000  # from this age on late modules are loaded: a short job does not pay for them
LATE_STEP_NS = 10_000_000  # time from one to the next; each takes up to 4 ms


class Tracker(Source):
    """The machine, and the samples of a record.

    In their order: `begin`, then `act` as the loop calls it, `end`, `close`. `host`: the machine, None before it is
    read; `around_every_ns`: minimum time between two readings of it; samples between them have null.
    """

    early = EARLY_SCANS_NS
    machine_at_once = True  # whether the first sample has it

    def __init__(self, session: Session, *, around_every_ns: int = 0) -> None:
        self.session = session
        self.options = session.options
        self.machine = session.machine
        self.enclosure = Enclosure(self.machine)
        self.host: HostSampler | None = None
        self.system_missing: str | None = None  # code: why the machine is not read
        self.ended_ns: int | None = None  # None: not before the summary is made
        self.schedule = self._scheduled()
        self._around_every_ns = around_every_ns
        self._host_ns = 0
        self._late: Iterator[None] | None = None
        self._late_ns: int | None = session.started_ns + LATE_NS  # None: all of it is loaded

    def _scheduled(self) -> Schedule:
        return Schedule(self.session.started_ns, int(self.options.interval * 1e9), self.early)

    def begin(self, command: list[str] | None, pid: int) -> None:
        """Write the first lines of a record, a sample among them, and open the default one."""
        session = self.session
        session.write(session.header(command, pid, self.enclosure.limits))
        first = self.start()
        session.open_default()
        self.export(first)

    def start(self) -> JsonObject:
        """Start the exporter, and take the first sample."""
        self.session.start_exports(self.helpers_ns, self.exclude)
        self.session.announce()
        if self.machine_at_once:
            self.begin_machine()
        self.schedule = self._scheduled()
        return self.sample()

    def begin_machine(self) -> None:
        """Start to read the machine, as requested, and write what is known of it."""
        from proctally.host.sampler import begin

        self.machine.attend()  # to load it takes long
        options = self.options
        self.host = begin(
            self.machine,
            self.session.environment,
            self.exclude,
            system=not options.no_system,
            gpu=not options.no_gpu,
            cloud=options.cloud,
        )
        if self.host is None:
            self.system_missing = NO_DESCRIPTORS

    def exclude(self, pid: int) -> None:
        """Leave a helper process out of what is measured."""

    def pids(self) -> Collection[int]:
        """Return the processes whose share of a GPU is wanted."""
        return ()

    def sample(self, *, last: bool = False) -> JsonObject:
        """Write a sample of this moment."""
        raise NotImplementedError

    def lines_for_export(self, live: Live, sample: JsonObject) -> list[JsonObject]:
        """Return what exporters get in addition to the record."""
        raise NotImplementedError

    def export(self, sample: JsonObject) -> None:
        """Send it to the exporter, where there is one that has the header."""
        live = self.session.exported
        if live is not None:
            self.session.export(self.lines_for_export(live, sample))

    def timeout(self, now: int) -> int:
        """Return the nanoseconds until something is due."""
        timeout = self._scan_timeout(now)
        soon = None if self.host is None else self.host.timeout(now, self._host_next_ns())
        if soon is not None and soon < timeout:
            timeout = soon
        return timeout if self._late_ns is None else max(0, min(timeout, self._late_ns - now))

    def _scan_timeout(self, now: int) -> int:
        return self.schedule.timeout(now)

    def fds(self, now: int) -> list[int]:
        """Return the descriptors of helper processes that read the machine."""
        return [] if self.host is None else self.host.fds

    def act(self, now: int, ready: Collection[int]) -> Outcome | None:
        """Take the sample that is due, and read what is due of the machine."""
        self.scan(now)
        self.do_rest(now)
        return None

    def scan(self, now: int) -> bool:
        """Take a sample, if that is due; return True if it was."""
        if not self.schedule.sample_due(now):
            return False
        self.sample()
        return True

    def do_rest(self, now: int) -> None:
        """Write the lines of the machine that are due, and have its GPUs read before a sample; load a late module."""
        if self.host is not None:
            for line in self.host.go_on(now, self._host_next_ns(), self.pids()):
                self.session.write(line)
        if self._late_ns is not None and now >= self._late_ns:
            self._load(now)

    def _load(self, now: int) -> None:
        if self._late is None:
            try:
                from proctally.tracking.late import load
            except ImportError:  # the package is gone already
                self._late_ns = None
                return
            self._late = load(quiet=self.session.options.quiet)
        self._late_ns = None if next(self._late, self) is self else now + LATE_STEP_NS

    def is_machine_due(self, now: int, *, last: bool) -> bool:
        """Return True if the machine belongs into a sample of this moment."""
        if self.host is None or not (last or now >= self._host_ns):
            return False
        self._host_ns = now + self._around_every_ns
        return True

    def _host_next_ns(self) -> int:
        """Return the moment of the next sample with the machine."""
        sample_ns = self.schedule.next_ns
        return sample_ns if sample_ns > self._host_ns else self._host_ns

    def last_machine_lines(self) -> None:
        """Write what was not due before."""
        for line in () if self.host is None else self.host.lines(last=True):
            self.session.write(line)

    def helpers_ns(self) -> int:
        """Return the CPU time of the processes that read the machine."""
        return 0 if self.host is None else self.host.cpu_ns()

    def cost(self, samples: int) -> JsonObject:
        """Return the `tracker` section of the summary."""
        return self.session.cost(helpers_ns=self.helpers_ns(), samples=samples, late=self.schedule.late)

    def wall_ns(self) -> int:
        """Return the wall time; it ends at this moment, unless its end is known."""
        self.ended_ns = self.ended_ns or self.machine.monotonic_ns()
        return self.ended_ns - self.session.started_ns

    def write_summary(
        self, outcome: Outcome, found: list[Gap], sections: JsonObject, cgroup: JsonObject | None, samples: int
    ) -> None:
        """Write the last line. `found`: the gaps. `sections`: what it has of a tree."""
        machine, host = self.machine, self.host
        wall_ns = self.wall_ns()
        ended_ago_ns = machine.monotonic_ns() - self.session.started_ns - wall_ns
        self.session.end(
            {
                "type": "summary",
                "run_id": self.session.run_id,
                "ended_at": round(machine.time() - ended_ago_ns / NANOSECONDS, 3),
                "wall_seconds": seconds(wall_ns),
                "exit_code": outcome.exit_code,
                "signal": outcome.signal,
                "verdict": outcome.verdict,
                "reason": outcome.reason,
                "gaps": found,
                **sections,
                "limits": summary.limits(self.enclosure.limits),
                "cgroup": cgroup,
                "system": None if host is None else host.system(),
                "gpu": None if host is None else host.peaks.gpu(),
                "tracker": self.cost(samples),
            }
        )

    def gaps_of_machine(self) -> list[Gap]:
        """Return the gaps of this machine."""
        silent = len(self.machine.refused) if self.host is None else self.host.silent_files()
        return gaps.of_machine(self.machine, silent)

    def closing(self) -> list[Callable[[], object]]:
        """Return the steps that close everything."""
        host = self.host
        if host is not None and host.fault is not None:
            why = said(host.fault)
            self.session.warnings.append(
                f"machine: its reading ended before the run did, by a fault of its own ({why})"
            )
        return [self.session.close, *([] if host is None else [host.close])]

    def close(self) -> None:
        """Close the outputs and the machine."""
        for step in self.closing():
            step()


class TreeTracker(Tracker):
    """One process tree, and the machine around it.

    `own`, `source`, `descriptors`: as of `TreeSampler`. `slower_ns`: minimum time between two readings of the machine,
    and of the status of one process.
    """

    def __init__(
        self,
        session: Session,
        *,
        descriptors: int,
        own: int | None = None,
        source: str | None = None,
        slower_ns: int = 0,
    ) -> None:
        super().__init__(session, around_every_ns=slower_ns)
        options = self.options
        self.neighbours: Neighbours | None = None  # until the first sample that is due
        self.perf = PerfSource(self.machine)
        self.sampler = TreeSampler(
            self.machine,
            own=own,
            perf=self.perf,
            enclosure=self.enclosure,
            source=source,
            descriptors=descriptors,
            interval_ns=self.schedule.interval_ns,
            pss_budget=options.pss_budget,
            process_lines=options.process_lines,
            emit=session.write,
            memory_at_once=options.format == "csv",
            time=True,
            status_ns=slower_ns,
            peaks_from_now=session.kind == "track",
        )

    def exclude(self, pid: int) -> None:
        self.sampler.exclude(pid)

    def pids(self) -> Collection[int]:
        return self.sampler.members if self.machine.procfs_missing is None else ()

    def _scan_timeout(self, now: int) -> int:
        """Return the nanoseconds until a scan is due, for a sample or for the parts of the time."""
        due = self.sampler.due_ns
        timeout = self.schedule.timeout(now)
        return timeout if due is None or due - now > timeout else max(0, due - now)

    def timeout(self, now: int) -> int:
        timeout = super().timeout(now)
        due = None if self.neighbours is None else self.neighbours.timeout(now)
        return timeout if due is None or due > timeout else due

    def scan(self, now: int, *, woken: bool = False) -> bool:
        """Read the tree, if that is due; return True if it was. `woken`: processes of it might have exited."""
        has_read = True
        if self.schedule.sample_due(now):
            if self.neighbours is None:  # a job shorter than an interval needs none of it
                from proctally.tracking.neighbours import Neighbours

                self.neighbours = Neighbours(self.sampler)
            self.sample()
        elif self.schedule.look_due(now) or woken:
            self.sampler.scan()
        elif (due := self.sampler.due_ns) is not None and now >= due:
            self.sampler.scan(between=True)
        else:
            has_read = False
        if self.neighbours is not None:
            self.neighbours.step(now)
        return has_read

    def sample(self, *, last: bool = False) -> JsonObject:
        """Write a sample of this moment."""
        sample = self.measured(last=last)
        self.session.write(sample)
        self.export(sample)
        return sample

    def measured(self, *, last: bool) -> JsonObject:
        """Return a sample of the tree with the machine, where that is due."""
        timed = self.session.timed
        sample: JsonObject = timed("procfs", self.sampler.sample, last=last)
        if self.is_machine_due(self.sampler.read_ns, last=last):
            from proctally.host.sampler import joined

            sample = timed("system", joined, sample, self.host, self.pids())
        if self.neighbours is not None:
            self.neighbours.note(sample)
        return sample

    def lines_for_export(self, live: Live, sample: JsonObject) -> list[JsonObject]:
        return live.of_tree(sample, self.sampler, self.perf, self.enclosure, self.host, self.schedule.late)

    def end_record(self, tree: TreeSummary, outcome: Outcome, found: list[Gap], left: int | None) -> None:
        """Write the summary. `found`: gaps of the tree; `left`: processes that live on, None where that is unknown."""
        found = found + self.gaps_of_machine()
        faults, others = dict(tree.faults), None
        if self.neighbours is not None:
            others = self.neighbours.summary()
            if self.neighbours.fault is not None:
                faults["neighbours"] = self.neighbours.fault
        for what, fault in faults.items():
            self.session.warnings.append(f"{what}: an error of proctally ended its tracking ({said(fault)})")
        cgroup = self.enclosure.summary()
        sections = summary.of_tree(
            tree,
            self.enclosure,
            cgroup,
            wall_ns=self.wall_ns(),
            now=self.machine.monotonic_ns(),
            gaps=found,
            left=left,
            system_missing=self.system_missing,
            phases=self.session.phases,
        )
        sections["others"] = others
        self.write_summary(outcome, found, sections, cgroup, tree.samples)


class Ends(Source):
    """Ends of the tracking of something that runs on its own: a signal, `--duration`, all readers of it have gone."""

    def __init__(self, session: Session, signals: SignalFd) -> None:
        self._session = session
        self._signals = signals
        self._duration = duration = session.options.duration
        self._ends_ns = None if duration is None else session.started_ns + int(duration * 1e9)

    def timeout(self, now: int) -> int | None:
        return None if self._ends_ns is None else max(0, self._ends_ns - now)

    def act(self, now: int, ready: Collection[int]) -> Outcome | None:
        for signal in self._signals.take():
            return Outcome("ended", reason(STOPPED, signal=signal.number))
        if self._ends_ns is not None and now >= self._ends_ns:
            return Outcome("ended", reason(DURATION_OVER, limit_seconds=self._duration))
        return Outcome("ended", reason(READERS_GONE)) if self._session.unheard() else None


def said(error: Exception) -> str:
    """Return type and text of an error of proctally."""
    if isinstance(error, MemoryError):
        return "out of memory; raise ulimit -d and -v"
    return f"{type(error).__name__}: {error}".rstrip(": ")
