"""What exporters tell: the newest of everything in the lines of a record, in bounded space.

A tracker's lines go in one by one (`feed`); nothing grows with the time a run takes. Labels come from strangers
(commands, phases, pids), and each of them makes a series of its own: there are at most so many, the rest is folded.
"""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMMANDS = 50  # series of their own; the time of all other commands is in one
OTHER = "other"
PHASES = 20
PROCESSES = 1000  # of which gauges are told one by one, the largest first
LABEL_CHARACTERS = 128
RUNNING = "running"
LOST = "lost"  # the tracker ended without a summary
SECTIONS = ("tree", "system", "cgroup")  # of a sample
JITTERS = (  # of `system`: the kernel reads them without a lock, and what it says may be a little less than before
    "cpu_user_seconds",
    "cpu_system_seconds",
    "cpu_iowait_seconds",
    "cpu_softirq_seconds",
    "cpu_steal_seconds",
)
SHRINKS = (("disk", ("read_bytes", "write_bytes")), ("network", ("received_bytes", "sent_bytes")))  # sums of devices
STATES = (RUNNING, "ok", "failed", "killed", "oom", "timeout", "limit", "ended", LOST)


class Delivery:
    """What one way out has brought to its receiver: how often that worked and did not, and what was given up.

    `trouble`: why it did not work the last time, None when it did.
    """

    __slots__ = ("done", "dropped", "failed", "trouble")

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.dropped = 0
        self.trouble: str | None = None

    def succeeded(self) -> None:
        """It worked."""
        self.done += 1
        self.trouble = None

    def failed_by(self, trouble: str) -> None:
        """It did not, for this reason."""
        self.failed += 1
        self.trouble = trouble


class Latest:
    """The newest state of one run. `version` changes with each line; `lock` is to be held while it is read as a whole.

    `run`, `host`, `devices`, `sample`, `tracker`, `summary`: the newest line of that type, None before there is one.
    `processes`: of the newest line of gauges, the largest first. `omitted`: how many of these were left out.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.version = 0
        self.samples = 0
        self.run: dict[str, Any] = {}
        self.host: dict[str, Any] | None = None
        self.devices: dict[str, Any] | None = None
        self.sample: dict[str, Any] | None = None
        self.tracker: dict[str, Any] | None = None
        self.summary: dict[str, Any] | None = None
        self.processes: list[dict[str, Any]] = []
        self.omitted = 0
        self.members: list[dict[str, Any]] = []
        self.commands = Slots(COMMANDS)
        self.started: int | None = None
        self.ended: int | None = None
        self.phases: dict[str, int] = {}
        self.peak_rss: int | None = None
        self.peak_pss: int | None = None
        self.dropped = 0
        self.lost_at: float | None = None
        self.deliveries: dict[str, Delivery] = {}  # by sink; each is written by its own thread alone
        self._gpus: dict[str, dict[str, Any]] = {}
        self._held: dict[str, float] = {}
        self._sums: dict[str, tuple[int, int]] = {}  # of devices: as last told, and as told on

    def feed(self, line: dict[str, Any]) -> None:
        """One line; of a type that is not known nothing is taken."""
        take = getattr(self, f"_take_{line.get('type')}", None)
        if take is None:
            return
        with self.lock:
            take(line)
            self.version += 1

    def tracker_lost(self, at: float) -> None:
        """There will be no more lines, and there was no summary. `at`: Unix seconds of now."""
        with self.lock:
            self.lost_at = at
            self.version += 1

    @property
    def state(self) -> str:
        """One of STATES."""
        if self.summary is not None:
            verdict = self.summary.get("verdict")
            return verdict if verdict in STATES else "ended"
        return RUNNING if self.lost_at is None else LOST

    @property
    def at(self) -> float | None:
        """Unix seconds of the newest sample, or of the end: a receiver takes one value for a moment, not another."""
        if self.summary is not None:
            return _number(self.summary.get("ended_at"))
        if self.lost_at is not None:
            return self.lost_at
        return _number(self.run.get("started_at") if self.sample is None else self.sample.get("at"))

    def value(self, path: str) -> Any:
        """What stands at a path such as `tree.rss_bytes`; None where nothing does."""
        section, _, rest = path.partition(".")
        found: Any
        if section in SECTIONS:
            found = None if self.sample is None else self.sample.get(section)
        else:
            found = getattr(self, section)
        for name in rest.split(".") if rest else ():
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def gpus(self) -> list[dict[str, Any]] | None:
        """The GPUs of the newest sample, with the facts that are told only when they change."""
        found = None if self.sample is None else self.sample.get("gpus")
        return None if found is None else [self._gpus.get(_identity(gpu), {}) | gpu for gpu in found]

    # -- by type -------------------------------------------------------------------------------------------------

    def _take_run(self, line: dict[str, Any]) -> None:
        self.run = line

    def _take_host(self, line: dict[str, Any]) -> None:
        self.host = line
        self._note_gpus(line.get("gpus"))

    def _take_devices(self, line: dict[str, Any]) -> None:
        self.devices = line

    def _take_sample(self, line: dict[str, Any]) -> None:
        self.sample = line
        self.samples += 1
        self._note_gpus(line.get("gpus"))
        self._let_none_fall(line.get("system") or {})
        tree = line.get("tree") or {}
        self.peak_rss = _largest(self.peak_rss, tree.get("rss_bytes"))
        self.peak_pss = _largest(self.peak_pss, tree.get("pss_bytes"))

    def _let_none_fall(self, system: dict[str, Any]) -> None:
        """A counter that falls by a hair would be taken for one that began anew, and all of it for growth.

        With a device its part of a sum goes: the others' growth is told on.
        """
        for name in JITTERS:
            if (now := system.get(name)) is not None:
                system[name] = self._held[name] = max(now, self._held.get(name, now))
        for section, names in SHRINKS:
            counters = system.get(section) or {}
            for name in names:
                if (now := counters.get(name)) is not None:
                    before, told = self._sums.get(name, (now, now))
                    counters[name] = told = told + max(0, now - before)
                    self._sums[name] = now, told

    def _note_gpus(self, gpus: list[dict[str, Any]] | None) -> None:
        for gpu in gpus or []:
            if "vendor" in gpu:  # one that has the facts
                self._gpus[_identity(gpu)] = gpu

    def _take_gauges(self, line: dict[str, Any]) -> None:
        found = sorted(line["processes"], key=lambda process: process.get("rss_bytes") or 0, reverse=True)
        self.processes = found[:PROCESSES]
        self.omitted = line.get("process_count", len(found)) - len(self.processes)

    def _take_members(self, line: dict[str, Any]) -> None:
        self.members = line["processes"][:PROCESSES]

    def _take_commands(self, line: dict[str, Any]) -> None:
        self.commands.feed(line["commands"])
        self._count(line.get("started"), line.get("ended"))

    def _count(self, started: int | None, ended: int | None) -> None:
        self.started = _largest(self.started, started)
        self.ended = _largest(self.ended, ended)

    def _take_phase(self, line: dict[str, Any]) -> None:
        name = label(line.get("name"))
        if name not in self.phases and len(self.phases) >= PHASES:
            name = OTHER
        begun = "begin" in [value for key, value in line.items() if key != "name"]
        self.phases[name] = max(0, self.phases.get(name, 0) + (1 if begun else -1))

    def _take_tracker(self, line: dict[str, Any]) -> None:
        self.tracker = line

    def _take_summary(self, line: dict[str, Any]) -> None:
        self.summary = line
        self.processes, self.members, self.omitted = [], [], 0  # those that live on are nobody's any more
        self.commands.feed([entry for entry in line.get("commands") or [] if entry["command"] != "(others)"])
        processes = line.get("processes") or {}
        started, left = processes.get("started"), processes.get("left")
        self._count(started, None if started is None or left is None else max(0, started - left))

    def _take_dropped(self, line: dict[str, Any]) -> None:
        self.dropped += line["lines"]


class Slots:
    """Counters by command in a bounded number of series, none of which ever falls while it is there.

    What comes first has a series of its own; what comes when all are taken is counted in `other`. One of them that has
    grown to twice the smallest of the series takes its place, and begins at 0: what it had stays in `other`. The series
    of the smallest ends, and what it still grows by is in `other`; what it had is not added there: it would be growth a
    second time. So the growth of all is always that of the tree, and a series ends at most so often.

    A process that execs takes its time along to its new command, in the totals that are told. What a command had then
    stays with it here, where it was used, and the growth of the others is as much smaller.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: dict[str, tuple[int, float]] = {}
        self._shown: dict[str, list[float]] = {}
        self._other = [0.0, 0.0]
        self._debt = 0.0  # seconds by which commands fell, and which the growth of others still has to make up for

    def feed(self, commands: list[dict[str, Any]]) -> None:
        """The totals so far."""
        totals: dict[str, tuple[int, float]] = {}
        for entry in commands:  # a command may be called `other`, too
            name = label(entry["command"])
            processes, cpu = totals.get(name, (0, 0.0))
            totals[name] = processes + (entry.get("processes") or 0), cpu + (entry.get("cpu_seconds") or 0.0)
        seen = self._seen
        grown: dict[str, tuple[int, float]] = {}
        for name, (processes, cpu) in totals.items():
            before = seen.get(name, (0, 0.0))
            grown[name] = (max(0, processes - before[0]), max(0.0, cpu - before[1]))
            self._debt += max(0.0, before[1] - cpu)
            seen[name] = (max(before[0], processes), cpu)
        rise = sum(cpu for _, cpu in grown.values())
        made_up = min(self._debt, rise)
        self._debt -= made_up
        share = (rise - made_up) / rise if rise else 0.0
        promoted = {name for name in grown if self._takes_a_place(name)}
        for name, (processes, cpu) in grown.items():
            row = self._other if name in promoted else self._row(name)
            row[0] += processes
            row[1] += cpu * share
        if len(seen) > 20 * self._most:  # those that are not told any more
            self._seen = {name: total for name, total in seen.items() if name in grown or name in self._shown}

    def _takes_a_place(self, name: str) -> bool:
        """Whether it has grown so much that it takes the place of another; then that is done."""
        seen, shown = self._seen, self._shown
        if name in shown or name == OTHER or len(shown) < self._most:
            return False
        smallest = min(shown, key=lambda each: seen[each][1])
        if seen[name][1] <= 2 * seen[smallest][1] + 0.01:
            return False
        del shown[smallest]
        shown[name] = [0.0, 0.0]
        return True

    def _row(self, name: str) -> list[float]:
        if name not in self._shown and (name == OTHER or len(self._shown) >= self._most):
            return self._other
        return self._shown.setdefault(name, [0.0, 0.0])

    def rows(self) -> list[tuple[str, float, float]]:
        """(command, processes, CPU seconds), the others last."""
        rows = [(name, processes, cpu) for name, (processes, cpu) in self._shown.items()]
        processes, cpu = self._other
        return [*rows, (OTHER, processes, cpu)] if processes or cpu else rows


def label(text: object) -> str:
    """A text of a stranger as the value of a label: of a bounded length, and such that it can be written as UTF-8."""
    return written(str(text)[:LABEL_CHARACTERS])


def written(text: str) -> str:
    """A text such that it can be written as UTF-8, whatever its length."""
    return text.encode("utf-8", "backslashreplace").decode()


def _identity(gpu: dict[str, Any]) -> str:
    return str(gpu.get("uuid") or gpu.get("pci") or gpu.get("index"))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _largest(so_far: int | None, now: int | None) -> int | None:
    return so_far if now is None else max(so_far or 0, now)
