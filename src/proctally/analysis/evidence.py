"""What one run proves of what it needs: cores, memory, time, GPUs; and where it proves only that more is needed.

A run that was held back, or cut off, has used less than it needed. What it used is then a lower bound (`complete` is
False, with the reason), and nobody is to plan with it as if it were the whole.
"""

from __future__ import annotations

from proctally.figures import figure, is_number
from proctally.history import value_at
from proctally.quantities import with_unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

CORES, MEMORY, TIME, GPUS = "cores", "memory", "time", "gpus"
RESOURCES = (CORES, MEMORY, TIME, GPUS)

SLOWER = 0.05  # so much longer a run may take on the cores that are advised
THROTTLED_SHARE = 0.05  # of the periods of a quota, or of the time, in which it was held back
STARVED_SHARE = 0.10  # of the time in which it was ready to run, without a CPU ...
STARVED_CORES = 0.05  # ... and so many cores more it could have used on average: what hardly runs waits in vain
PRESSED_SHARE = 0.05  # of the time in which some task waited for memory
NEAR_HIGH = 0.95  # of memory.high, from where on the kernel takes memory away
ENDED_BY_ITSELF = "its root and all known members ended"  # the evidence of an attach that saw the end
NOT_WHOLE = {  # kinds of records whose time is not that of the whole job
    "attach": "tracked from the attach on, not from its start",
    "track": "a block of its program was tracked, not all of it",
}


class Proof:
    """What a run proves of one resource, in cores, bytes, seconds or devices.

    `value`: what it used, None where that is not known. `complete`: whether that is all it needed; otherwise it needed
    at least so much, and `why` says what kept it from more. `notes`: what else is to be known of it.
    """

    __slots__ = ("complete", "notes", "value", "why")

    def __init__(self, value: float | None, why: str | None = None, notes: Iterable[str] = ()) -> None:
        self.value = value
        self.complete = value is not None and why is None
        self.why = why if value is not None or why is not None else "unknown"
        self.notes = list(notes)


class Evidence:
    """One run, from the lines of its record, taken one after the other."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.run: dict[str, Any] = {}
        self.summary: dict[str, Any] | None = None
        self._loads: list[tuple[float, float]] = []  # cores, for so many seconds
        self._memory: float | None = None
        self._elapsed = 0.0
        self._tree: dict[str, Any] = {}
        self._gpus = Gpus()

    @classmethod
    def of(cls, lines: Iterable[Mapping[str, Any]], path: str = "") -> Evidence:
        """That of a whole record."""
        evidence = cls(path)
        for line in lines:
            evidence.take(line)
        return evidence

    def take(self, line: Mapping[str, Any]) -> None:
        """The next line of the record."""
        kind = line.get("type")
        if kind == "sample":
            self._take_sample(line)
        elif kind == "host":
            self._gpus.know(line.get("gpus"))
        elif kind == "run":
            self.run = dict(line)
        elif kind == "summary":
            self.summary = dict(line)

    def _take_sample(self, line: Mapping[str, Any]) -> None:
        elapsed, interval, tree = line.get("elapsed_seconds"), line.get("interval_seconds"), line.get("tree")
        if is_number(elapsed):
            self._elapsed = max(self._elapsed, elapsed)
        if not isinstance(tree, dict):
            return
        self._tree = tree
        cores, pss, swapped = tree.get("cpu_cores"), tree.get("pss_bytes"), tree.get("swap_bytes")
        if is_number(cores) and cores >= 0 and is_number(interval) and interval > 0:
            self._loads.append((cores, interval))
        if is_number(pss):
            held = pss + (swapped if is_number(swapped) else 0)  # what was swapped out is in no PSS, and is needed
            self._memory = max(self._memory or 0, held)
        self._gpus.take(line.get("gpus"))

    # -- how it went ---------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the run."""
        return str(self.run.get("name") or "")

    @property
    def kind(self) -> str:
        """run, attach, system or track."""
        return str(self.run.get("kind") or "")

    @property
    def verdict(self) -> str:
        """That of the summary; `lost` without one."""
        return "lost" if self.summary is None else str(self.summary.get("verdict"))

    def at(self, path: str) -> Any:
        """A value of the summary by its path; None where it is not known."""
        return value_at(self.summary, path)

    def number(self, path: str) -> float | None:
        """The same, if it is a number."""
        found = self.at(path)
        return found if is_number(found) else None

    def cut(self) -> str | None:
        """Why it ended before its work was done; None where it was, as far as one knows."""
        if self.summary is None:
            return "its record has no end: it was killed with its tracker, by a scheduler perhaps, or still runs"
        said = str(self.summary.get("evidence"))
        if self.verdict == "ok" or (self.verdict == "ended" and said == ENDED_BY_ITSELF):
            return None
        return said if self.verdict == "killed" else f"{self.verdict}: {said}"

    def wall(self) -> float | None:
        """Seconds from start to end; of a record without an end, until its last sample."""
        return figure("wall").of(self.summary) if self.summary is not None else self._elapsed or None

    # -- what it proves ------------------------------------------------------------------------------------------

    def proof(self, resource: str) -> Proof:
        """Of `cores`, `memory`, `time` or `gpus`."""
        return {CORES: self._cores, MEMORY: self._memory_proof, TIME: self._time, GPUS: self._gpu_proof}[resource]()

    def _cores(self) -> Proof:
        need = self._cores_needed()
        held_back = self.throttled() or self.starved()
        if self.verdict == "failed":
            held_back = held_back or self.cut()
        if need is None:
            return Proof(None, held_back or "too short to be sampled")
        notes = []
        if self.cut() is not None and self.verdict != "failed":
            notes.append("as far as it went")
        usable = self.usable_cores()
        if held_back is None and usable is not None and need > usable - 0.5:
            notes.append(f"it used all it had ({usable:g} cores): whether more make it faster is not known")
        return Proof(need, held_back, notes)

    def usable_cores(self) -> float | None:
        """How many it might use: its quota, cpuset and affinity."""
        found = value_at(self.summary or self.run, "limits.cpu_cores")
        return found if is_number(found) else None

    def _cores_needed(self) -> float | None:
        """The fewest cores on which its work would have taken at most 5 % longer.

        What ran on more cores than N at a time is done later by N of them. So the time grows by at most
        sum((cores - N) x seconds) / N over the intervals with more than N; that is at most 5 % of all for every N that
        is no less than S / (T + 5 % of all), where S and T sum the core seconds and seconds of the k busiest
        intervals, whatever k.
        """
        whole = sum(seconds for _, seconds in self._loads)
        work = time = need = 0.0
        for cores, seconds in sorted(self._loads, reverse=True):
            work += cores * seconds
            time += seconds
            need = max(need, work / (time + SLOWER * whole))
        mean = figure("cores").of(self.summary)
        if not self._loads:
            return mean if mean is None else max(mean, figure("peak-cores").of(self.summary) or 0.0)
        return max(need, (mean or 0.0) / (1 + SLOWER))  # what ran between the start and the first sample

    def peak_cores(self) -> float | None:
        """Most cores over an interval."""
        told = figure("peak-cores").of(self.summary)
        return told if told is not None else max((cores for cores, _ in self._loads), default=None)

    def throttled(self) -> str | None:
        """Whether a CPU quota held it back, in words."""
        held, wall = self._waited("throttled_seconds"), self.wall()
        hit, periods = self.number("waiting.throttled_periods"), self.number("waiting.periods")
        share = hit / periods if hit is not None and periods else held / wall if held and wall else 0.0
        if not held or share <= THROTTLED_SHARE:
            return None
        return f"throttled by its CPU quota for {with_unit(held, 's')} ({100 * min(share, 1):.0f} % of the time)"

    def starved(self) -> str | None:
        """Whether it waited for a CPU that others, or more tasks of its own than there are CPUs, had; in words."""
        used = figure("cpu").of(self.summary) if self.summary is not None else self._tree.get("cpu_seconds")
        delay, wall = self._waited("run_delay_seconds"), self.wall()
        if delay is None:
            pressed = self.number("cgroup.cpu_pressure_seconds")
            if not pressed or not wall or pressed / wall <= STARVED_SHARE:
                return None
            return f"some of it waited for a CPU in {100 * min(pressed / wall, 1):.0f} % of the time"
        if not is_number(used) or not wall or delay <= STARVED_CORES * wall or delay <= STARVED_SHARE * (delay + used):
            return None
        share = delay / (delay + used)
        wanted = f"on average {(delay + used) / wall:.1f} threads wanted one"
        return f"starved: {100 * share:.0f} % of the time that it was ready to run it had no CPU: {wanted}"

    def _waited(self, name: str) -> float | None:
        """Seconds from the summary, else from the last sample."""
        found = self.number(f"waiting.{name}") if self.summary is not None else self._tree.get(name)
        return found if is_number(found) else None

    def _memory_proof(self) -> Proof:
        known = [value for value in (figure("memory").of(self.summary), self._memory) if value is not None]
        used = max(known, default=None)
        limit = value_at(self.summary or self.run, "limits.memory_bytes")
        high = value_at(self.summary or self.run, "limits.memory_high_bytes")
        covered = str(self.at("memory.coverage") or "")
        if self.verdict == "oom" and is_number(limit):  # the kernel kills at the limit, samples come before it
            used = max(used or 0, limit)
        pressed, wall = self.number("cgroup.memory_pressure_seconds"), self.wall()
        if used is None:
            return Proof(None, self.cut() or "too short to be sampled")
        if self.cut() is not None:
            return Proof(used, self.cut())
        if "denied" in covered:
            return Proof(used, covered[covered.index("PSS of") :] if "PSS of" in covered else covered)
        if is_number(high) and used >= NEAR_HIGH * high:
            return Proof(used, f"held at memory.high, {with_unit(high, 'By')}: the kernel took memory away")
        if pressed and wall and pressed / wall > PRESSED_SHARE:
            return Proof(used, f"some of it waited for memory in {100 * min(pressed / wall, 1):.0f} % of the time")
        notes = ["PSS of some processes had not been read at the peak"] * ("had not been" in covered)
        if self.kind == "track":
            notes.append("of the tracked block: what its program does elsewhere may need more")
        return Proof(used, None, notes)

    def _time(self) -> Proof:
        cut = self.cut() or NOT_WHOLE.get(self.kind)
        slow = self.throttled() or self.starved()
        notes = [] if slow is None else ["it waited for CPUs: with more of them it may take less"]
        return Proof(self.wall(), cut, notes)

    def _gpu_proof(self) -> Proof:
        used = self._gpus.used()
        if used is None:
            return Proof(None, self._gpus.why)
        notes = []
        if self._gpus.held() > used:
            notes.append(f"it held memory on {self._gpus.held()} and used {used}")
        if self._gpus.is_partly_unknown:
            notes.append("of some it could not be told at times")
        return Proof(used, self.cut() if self.verdict == "failed" else None, notes)

    @property
    def gpu_vendor(self) -> str | None:
        """Of the GPUs that it used; None where there are several, or none."""
        return self._gpus.vendor

    @property
    def saw_gpus(self) -> bool:
        """Whether the machine has any."""
        return bool(self._gpus.seen)


class Gpus:
    """Which GPUs the tree used, over all samples. `why`: why that is not known."""

    __slots__ = ("_busy", "_held", "_unknown", "_vendors", "_was_read", "seen")

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._busy: set[str] = set()
        self._held: set[str] = set()
        self._vendors: dict[str, str] = {}
        self._unknown = False
        self._was_read = False

    def take(self, listed: Any) -> None:
        """The section `gpus` of a sample."""
        if not isinstance(listed, list):
            return
        self._was_read = True
        self.know(listed)
        for entry in listed:
            if not isinstance(entry, dict):
                continue
            key = self._identity(entry)
            self.seen.add(key)
            ratio, memory = entry.get("tree_utilization_ratio"), entry.get("tree_memory_bytes")
            if ratio:
                self._busy.add(key)
            if memory or entry.get("tree_processes"):
                self._held.add(key)
            if ratio is None and memory is None and entry.get("tree_processes") is None:
                self._unknown = True

    def know(self, listed: Any) -> None:
        """What does not change of them: the `gpus` of the host, or of a sample in which that was told anew."""
        for entry in listed if isinstance(listed, list) else ():
            if isinstance(entry, dict) and entry.get("vendor"):
                self._vendors[self._identity(entry)] = str(entry["vendor"])

    @staticmethod
    def _identity(entry: Mapping[str, Any]) -> str:
        return str(entry.get("uuid") or f"{entry.get('index')} {entry.get('name')}")

    def held(self) -> int:
        """How many the tree had memory or a process on."""
        return len(self._held | self._busy)

    def used(self) -> int | None:
        """How many it was busy on; where none was seen busy, how many it held. None where it is not known."""
        if not self._was_read or (self._unknown and not self._busy | self._held):
            return None
        return len(self._busy) or len(self._held)

    @property
    def is_partly_unknown(self) -> bool:
        """Whether of some device it could not be told whose it was busy for."""
        return self._unknown

    @property
    def why(self) -> str:
        """Why it is not known how many were used."""
        return "the driver does not tell whose it was busy for" if self._was_read else "GPUs were not read"

    @property
    def vendor(self) -> str | None:
        """The vendor of those that were used; None where they have several."""
        found = {self._vendors[key] for key in self._busy | self._held if key in self._vendors}
        return found.pop() if len(found) == 1 else None
