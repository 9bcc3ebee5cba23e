"""What one run proves of what it needs: cores, memory, time, GPUs; and where it proves only that more is needed.

A run that was held back, or cut off, has used less than it needed. What it used is then a lower bound (`complete` is
False, with the reason), and nobody is to plan with it as if it were the whole.
"""

from __future__ import annotations

import math
from math import inf

from proctally.analysis import causes
from proctally.analysis.causes import Cause
from proctally.analysis.loads import SLOWER, Loads
from proctally.analysis.measures import figure
from proctally.analysis.memory import HeldMemory
from proctally.analysis.time import READY, WAITS, Time
from proctally.analysis.waits import (
    PRESSED_SHARE,
    STARVED_CORES,
    STARVED_SHARE,
    THROTTLED_SHARE,
    ready_share,
    throttled_share,
)
from proctally.record import codes
from proctally.record.values import number, number_at, objects_at, section_at, value_at, was_killed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from proctally.record import JsonObject

CORES, MEMORY, TIME, GPUS = "cores", "memory", "time", "gpus"
RESOURCES = (CORES, MEMORY, TIME, GPUS)

MAX_GPUS, MAX_IDENTITY = 1_000, 128  # of a run, and characters of what identifies one
NEAR_HIGH = 0.95  # of memory.high, from where on the kernel takes memory away
UNCLAIMED_SHARE = 0.01  # of the memory at the peak, above which unclaimed shared memory is noted
FILES_SHARE = 0.15  # of the memory that is needed, above which it is noted that mapped files can be dropped
WANTED_PART = 0.95  # of the time, in which a trial of cores has all that a run wanted
NEAR_END = 60.0  # seconds before the end of its batch job, from when on that is what ended a run
ALLOCATED = {CORES: "cpu_cores", MEMORY: "memory_bytes", TIME: "time_limit_seconds", GPUS: "gpus"}
TRIAL = 2.0  # times the limit at which a run was ended: what to try next
NOT_WHOLE = {"attach": causes.FROM_ATTACH, "track": causes.ONE_BLOCK}  # kinds whose time is not that of the job


class Proof:
    """What a run proves of one resource, in cores, bytes, seconds or devices.

    `value`: what it used, None where it is unknown. `complete`: whether that is all it needed; otherwise it needed at
    least this, and `why` is what kept it from more. `notes`: facts that a reader needs for it. `parts`: what the value
    is the sum of; empty where it is one figure. `trial`: what to try next where it needed more, and what that rests on;
    no run proves it. `least`: the minimum that it needed, where `value` is an upper bound of what it used.
    """

    __slots__ = ("complete", "least", "notes", "parts", "trial", "value", "why")

    def __init__(
        self,
        value: float | None,
        why: Cause | None = None,
        notes: Iterable[Cause] = (),
        parts: dict[str, float | None] | None = None,
        trial: tuple[float, Cause] | None = None,
        least: float | None = None,
    ) -> None:
        self.least = value if least is None else least
        self.trial = None if why is None else trial
        self.value = value
        self.complete = value is not None and why is None
        self.why = why if self.complete or why is not None else Cause(causes.UNKNOWN_VALUE)
        self.notes = list(notes)
        self.parts = parts or {}


class Evidence:
    """One run, from the lines of its record, taken one after the other."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.run: JsonObject = {}
        self.summary: JsonObject | None = None
        self._loads = Loads()  # cores used
        self._wants = Loads()  # cores wanted
        self._sums: float | None = None  # PSS and swap of a sample of an older record
        self._held: HeldMemory | None = None  # the sample that needed most
        self._elapsed = 0.0
        self._tree: JsonObject = {}
        self._gpus = GpuEvidence()

    @classmethod
    def of(cls, lines: Iterable[JsonObject], path: str = "") -> Evidence:
        """That of a whole record."""
        evidence = cls(path)
        for line in lines:
            evidence.take(line)
        return evidence

    def take(self, line: JsonObject) -> None:
        """The next line of the record."""
        kind = line.get("type")
        if kind == "sample":
            self._take_sample(line)
        elif kind == "host":
            self._gpus.know(line)
        elif kind == "run":
            self.run = {name: value for name, value in line.items() if name != "command"}
        elif kind == "summary":
            self.summary = dict(line)

    def _take_sample(self, line: JsonObject) -> None:
        self._elapsed = max(self._elapsed, number(line.get("elapsed_seconds")) or 0.0)
        tree = section_at(line, "tree")
        if not tree:
            return
        delay = (number(tree.get("run_delay_seconds")) or 0.0) - (number(self._tree.get("run_delay_seconds")) or 0.0)
        self._tree = tree
        cores, pss, interval = tree.get("cpu_cores"), tree.get("pss_bytes"), line.get("interval_seconds")
        if cores is not None and interval:
            self._loads.add(cores, interval)
            self._wants.add(cores + max(0.0, delay) / interval, interval)
        memory = HeldMemory.of_sample(tree)
        needed = memory.needed
        if needed is not None:
            if self._held is None or needed > (self._held.needed or 0):
                self._held = memory
        elif pss is not None:
            held = pss + (tree.get("swap_bytes") or 0)  # PSS does not contain what was swapped out
            self._sums = max(self._sums or 0, held)
        self._gpus.take(line)

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
    def started_at(self) -> float:
        """Unix seconds of the start; 0 where it is unknown."""
        return number(self.run.get("started_at")) or 0.0

    @property
    def verdict(self) -> str:
        """That of the summary; `lost` without one."""
        return "lost" if self.summary is None else str(self.summary.get("verdict"))

    def at(self, path: str) -> Any:
        """A value of the summary by its path; None where it is not known."""
        return value_at(self.summary, path)

    def number(self, path: str) -> float | None:
        """The same, if it is a number."""
        return number(self.at(path))

    def cut(self) -> Cause | None:
        """Return why it ended before its work was done; None where it was done, as far as is known."""
        if self.summary is None:
            return Cause(causes.NO_SUMMARY)
        if self.verdict == "ok" or (self.verdict == "ended" and self.at("reason.code") == codes.ALL_EXITED):
            return Cause(causes.PART_KILLED, summary=self.summary) if was_killed(self.summary) else None
        return Cause(causes.ENDED_EARLY, verdict=self.verdict, summary=self.summary)

    def wall(self) -> float | None:
        """Seconds from start to end; of a record without an end, until its last sample."""
        return figure("wall").of(self.summary) if self.summary is not None else self._elapsed or None

    # -- what it proves ------------------------------------------------------------------------------------------

    def proof(self, resource: str) -> Proof:
        """Of `cores`, `memory`, `time` or `gpus`."""
        return {CORES: self._cores, MEMORY: self._memory_proof, TIME: self._time, GPUS: self._gpu_proof}[resource]()

    def used(self, resource: str) -> tuple[float | None, float | None]:
        """Return what it used of a resource, at least and at most, whether or not that is all it needed."""
        if resource == MEMORY:
            held = HeldMemory.of_summary(self.summary)
            if held.is_known:
                return held.low, held.high
            return (self._memory_proof().value,) * 2
        if resource == TIME:
            return (self.wall(),) * 2
        mean = figure("cores").of(self.summary)
        return (mean if resource == CORES else self._gpus.used(),) * 2

    def had(self, resource: str) -> float | None:
        """Return what it had of a resource: what its scheduler gave, else the limits in force; None without a limit."""
        given = number_at(self.run, f"allocation.{ALLOCATED[resource]}")
        if given:
            return given
        if resource == GPUS:
            return len(self._gpus.seen) or None
        if resource == CORES:
            return self.usable_cores()
        return self._memory_limit() if resource == MEMORY else self._time_limit()

    @property
    def scheduler(self) -> str | None:
        """The scheduler that ran it: slurm, pbs, lsf or kubernetes; None where it is unknown."""
        found = value_at(self.run, "allocation.scheduler")
        return None if found is None else str(found)

    def _memory_limit(self) -> float | None:
        return number_at(self.summary or self.run, "limits.memory_bytes")

    def _time_limit(self) -> float | None:
        """Return the time limit that ended it: its own, or that of its batch job; None for any other end."""
        if self.verdict == "timeout":
            return self.number("reason.limit_seconds")
        ends, ended = number_at(self.run, "allocation.ends_at"), self.started_at + (self.wall() or 0.0)
        if ends is not None and self.verdict in ("lost", "killed") and ended >= ends - NEAR_END:
            return number_at(self.run, "allocation.time_limit_seconds")
        return None

    def _cores(self) -> Proof:
        need = self._cores_needed()
        limited = self.throttled() or self.starved()
        if self.verdict == "failed":
            limited = limited or self.cut()
        if need is None:
            return Proof(None, limited or Cause(causes.TOO_SHORT))
        notes = []
        if self.cut() is not None and self.verdict != "failed":
            notes.append(Cause(causes.AS_FAR))
        usable = self.usable_cores()
        if limited is None and usable is not None and need > usable - 0.5:
            notes.append(Cause(causes.ALL_USED, cores=usable))
        return Proof(need, limited, notes, trial=None if limited is None else self._cores_trial(limited, need))

    def _cores_trial(self, limited: Cause, need: float) -> tuple[float, Cause] | None:
        """Return what a starved or throttled run wanted: what suffices for that, at most its 95th percentile."""
        time = Time.of_summary(self.summary)
        wanted = time.wanted_cores
        if limited.code not in (causes.THROTTLED, causes.CPU_WAIT) or wanted is None:
            return None
        most = wanted
        if self._wants.peak is not None:
            usable = time.usable or inf
            most = max(need, wanted, min(self._wants.sufficient(usable), self._wants.percentile(WANTED_PART, usable)))
        return most, Cause(causes.WANTED, cores=wanted)

    def usable_cores(self) -> float | None:
        """How many it might use: its quota, cpuset and affinity."""
        return number_at(self.summary or self.run, "limits.cpu_cores")

    def _cores_needed(self) -> float | None:
        """Return the fewest cores on which its work would have taken at most 5 % longer."""
        mean = figure("cores").of(self.summary)
        if self._loads.peak is None:
            return mean if mean is None else max(mean, figure("peak-cores").of(self.summary) or 0.0)
        # what ran between the start and the first sample is in the mean alone
        return max(self._loads.sufficient(), (mean or 0.0) / (1 + SLOWER))

    def peak_cores(self) -> float | None:
        """Most cores over an interval."""
        told = figure("peak-cores").of(self.summary)
        return told if told is not None else self._loads.peak

    def throttled(self) -> Cause | None:
        """Return by how much a CPU quota throttled it; None where that is little."""
        held = self._waited("throttled_seconds")
        periods = self.number("waiting.throttled_periods"), self.number("waiting.periods")
        share = throttled_share(held, self.wall(), *periods) if held else 0.0
        return Cause(causes.THROTTLED, seconds=held, share=share) if share > THROTTLED_SHARE else None

    def starved(self) -> Cause | None:
        """Return how long it waited for a CPU that other tasks, or more of its own than CPUs, had."""
        used = figure("cpu").of(self.summary) if self.summary is not None else self._tree.get("cpu_seconds")
        delay, wall = self._waited("run_delay_seconds"), self.wall()
        time = Time.of_summary(self.summary)
        if time.parts:
            is_starved = time.is_starved(figure("cores").of(self.summary), READY)
            return Cause(causes.CPU_WAIT, share=time.share(READY), cores=time.wanted_cores) if is_starved else None
        if delay is None:
            pressed = self.number("cgroup.cpu_pressure_seconds")
            if not pressed or not wall or pressed / wall <= STARVED_SHARE:
                return None
            return Cause(causes.CPU_PRESSURE, share=pressed / wall)
        if used is None or not wall or delay <= STARVED_CORES * wall:
            return None
        share = ready_share(delay, used)
        return Cause(causes.STARVED, share=share, threads=(delay + used) / wall) if share > STARVED_SHARE else None

    def _waited(self, name: str) -> float | None:
        """Seconds from the summary, else from the last sample."""
        return number(self.at(f"waiting.{name}") if self.summary is not None else self._tree.get(name))

    def _memory_proof(self) -> Proof:
        held = HeldMemory.of_summary(self.summary)
        if self._held is not None:
            self._held.limit_high(held.high)
        most = max((each for each in (held, self._held) if each is not None), key=lambda each: each.needed or 0)
        known = (figure("memory").of(self.summary), held.low, self._sums) if most.needed is None else (most.needed,)
        used = max((each for each in known if each is not None), default=None)
        limit = self._memory_limit()
        high = value_at(self.summary or self.run, "limits.memory_high_bytes")
        if self.verdict == "oom" or was_killed(self.summary):
            used = max((each for each in (used, self._killed_at(limit)) if each is not None), default=None)
        parts = _parts(most) if used == most.needed else {}
        pressed, wall = self.number("cgroup.memory_pressure_seconds"), self.wall()
        if used is None:
            return Proof(None, self.cut() or Cause(causes.TOO_SHORT))
        if self.cut() is not None:
            killed_at = self._killed_at(limit)
            least = max((each for each in (most.low, killed_at) if each is not None), default=None)
            return Proof(used, self.cut(), parts=parts, trial=self._memory_trial(used, killed_at), least=least)
        denied = self._gap(codes.PSS_DENIED)
        if denied is not None and not held.is_known:
            return Proof(used, Cause(causes.PSS_DENIED, gap=denied))
        if high is not None and used >= NEAR_HIGH * high:
            return Proof(used, Cause(causes.MEMORY_HIGH, limit=high))
        if pressed and wall and pressed / wall > PRESSED_SHARE:
            return Proof(used, Cause(causes.MEMORY_PRESSURE, share=pressed / wall))
        notes = _bracket_notes(held, most) if held.is_known else self._stale()
        if self.kind == "track":
            notes.append(Cause(causes.OF_BLOCK))
        return Proof(used, None, notes, parts)

    @staticmethod
    def _memory_trial(used: float, killed_at: float | None) -> tuple[float, Cause] | None:
        if killed_at is None:
            return None
        return max(TRIAL * killed_at, used + killed_at / 2), Cause(causes.TWICE_LIMIT, limit=killed_at, unit="By")

    def _killed_at(self, limit: float | None) -> float | None:
        """Return the limit at which the kernel killed, in bytes: samples come before it."""
        found = [each.get("limit_bytes") for each in objects_at(self.summary, "memory.ooms")]
        found += [self.at("reason.memory_limit_bytes"), limit if self.verdict == "oom" else None]
        return max((each for each in found if each is not None), default=None)

    def _stale(self) -> list[Cause]:
        """Return the gap of PSS that was not up to date, of an older record."""
        stale = self._gap(codes.PSS_STALE)
        return [] if stale is None else [Cause(causes.GAP, gap=stale)]

    def _gap(self, code: str) -> JsonObject | None:
        """Return the gap of this code in memory."""
        found = (gap for gap in objects_at(self.summary, "gaps") if gap.get("section") == codes.MEMORY)
        return next((gap for gap in found if gap.get("code") == code), None)

    def _time(self) -> Proof:
        cut = self.cut()
        if cut is None and self.kind in NOT_WHOLE:
            cut = Cause(NOT_WHOLE[self.kind])
        starved = self.starved()
        if cut is None and starved is not None and starved.code == causes.CPU_WAIT:
            return Proof(None, self._starved_time() or starved)  # how much others leave next time is unknown
        notes = [Cause(causes.WAITED)] if self.throttled() or starved else []
        limit = self._time_limit()
        trial = None if limit is None else (TRIAL * limit, Cause(causes.TWICE_LIMIT, limit=limit, unit="s"))
        return Proof(self.wall(), cut, notes, trial=trial)

    def _starved_time(self) -> Cause | None:
        """Return about how long a starved run takes on the cores that it wanted."""
        time, trial = Time.of_summary(self.summary), self._cores().trial
        if trial is None:
            return None
        return Cause(causes.STARVED_TIME, cores=math.ceil(trial[0]), about=time.seconds * (1 - time.share(*WAITS)))

    def _gpu_proof(self) -> Proof:
        used = self._gpus.used()
        if used is None:
            return Proof(None, Cause(causes.GPU_USE_UNKNOWN if self._gpus.was_read else causes.GPUS_NOT_READ))
        notes = []
        if self._gpus.held() > used:
            notes.append(Cause(causes.GPUS_HELD, held=self._gpus.held(), gpus=used))
        if self._gpus.is_partly_unknown:
            notes.append(Cause(causes.GPUS_PARTLY))
        return Proof(used, self.cut() if self.verdict == "failed" else None, notes)

    @property
    def gpu_vendor(self) -> str | None:
        """Of the GPUs that it used; None where there are several, or none."""
        return self._gpus.vendor

    @property
    def saw_gpus(self) -> bool:
        """Whether the machine has any."""
        return bool(self._gpus.seen)


def _parts(memory: HeldMemory) -> dict[str, float | None]:
    """Return what a request of memory is the sum of, in bytes."""
    if memory.high is None:
        return {}
    parts = {"held": memory.high, "mapped_file": memory.mapped_file, "kernel": memory.kernel}
    return parts | ({"swap": memory.swap} if memory.swap else {})


def _bracket_notes(held: HeldMemory, most: HeldMemory) -> list[Cause]:
    """Return what makes a request of memory larger than the job might need, and what might make it too small."""
    notes = []
    if held.widest is not None:
        notes.append(Cause(causes.WIDE, low=held.low, high=held.high, gap=held.widest))
    if held.unclaimed and held.high and held.unclaimed > UNCLAIMED_SHARE * held.high:
        notes.append(Cause(causes.UNCLAIMED, bytes=held.unclaimed))
    if most.mapped_file and most.needed and most.mapped_file > FILES_SHARE * most.needed:
        notes.append(Cause(causes.DROPPABLE, bytes=most.mapped_file))
    notes += [Cause(causes.GAP, gap=gap) for gap in held.gaps if gap.get("code") == codes.LATE_LOOK][:1]
    return notes


class GpuEvidence:
    """Which GPUs the tree used, over all samples. `was_read`: whether a sample had any reading of them."""

    __slots__ = ("_busy", "_held", "_unknown", "_vendors", "seen", "was_read")

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._busy: set[str] = set()
        self._held: set[str] = set()
        self._vendors: dict[str, str] = {}
        self._unknown = False
        self.was_read = False

    def take(self, sample: JsonObject) -> None:
        """Take the section `gpus` of a sample."""
        if sample.get("gpus") is None:
            return
        self.was_read = True
        self.know(sample)
        for entry in objects_at(sample, "gpus"):
            key = self._identity(entry)
            if len(self.seen) < MAX_GPUS:
                self.seen.add(key)
            elif key not in self.seen:
                continue
            ratio, memory = entry.get("tree_utilization_ratio"), entry.get("tree_memory_bytes")
            if ratio:
                self._busy.add(key)
            if memory or entry.get("tree_processes"):
                self._held.add(key)
            if ratio is None and memory is None and entry.get("tree_processes") is None:
                self._unknown = True

    def know(self, line: JsonObject) -> None:
        """Take what does not change of them: the line `host`, or a sample that has it."""
        for entry in objects_at(line, "gpus"):
            if entry.get("vendor") and len(self._vendors) < MAX_GPUS:
                self._vendors[self._identity(entry)] = str(entry["vendor"])

    @staticmethod
    def _identity(entry: JsonObject) -> str:
        return str(entry.get("uuid") or f"{entry.get('index')} {entry.get('name')}")[:MAX_IDENTITY]

    def held(self) -> int:
        """How many the tree had memory or a process on."""
        return len(self._held | self._busy)

    def used(self) -> int | None:
        """How many it was busy on; where none was seen busy, how many it held. None where it is not known."""
        if not self.was_read or (self._unknown and not self._busy | self._held):
            return None
        return len(self._busy) or len(self._held)

    @property
    def is_partly_unknown(self) -> bool:
        """Whether of some device it could not be told whose it was busy for."""
        return self._unknown

    @property
    def vendor(self) -> str | None:
        """The vendor of those that were used; None where they have several."""
        found = {self._vendors[key] for key in self._busy | self._held if key in self._vendors}
        return found.pop() if len(found) == 1 else None
