"""Two sides of runs, figure by figure and command by command: how far they are apart, and whether limits hold."""

from __future__ import annotations

import os
from dataclasses import dataclass

from proctally.analysis.changes import change, interval
from proctally.analysis.gates import CANNOT_TELL, FAILS, HOLDS, RESULTS
from proctally.analysis.measures import FIGURES, LESS, TREE, command_seconds
from proctally.analysis.statistics import NOTHING, Group, holm, shift
from proctally.errors import NoRecord, UsageError
from proctally.record import codes
from proctally.record.catalogue import Past, named
from proctally.record.schema import SECONDS
from proctally.record.values import number, objects_at, was_killed
from proctally.text import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctally.analysis.gates import Gate
    from proctally.analysis.measures import Measure
    from proctally.analysis.statistics import Shift
    from proctally.record import JsonObject

BASE, NEW = "BASE", "NEW"
GOOD = ("ok", "ended")  # verdicts of runs whose figures are those of the whole job
UNFINISHED = ("running", "lost")
SECTIONS = (codes.CPU, codes.IO, codes.PROCESSES)  # their gaps change what a comparison means
OTHERS = "(others)"  # shown for the row of all commands that have none of their own
CLAIMED = ("wall", "cpu", "memory")  # figures whose change gets a word, as does that of a limit
MORE, UNCLEAR = "more", "unclear"  # with LESS the words of a claim
SMALLEST_SECONDS = 0.005  # of a command: what is less on both sides is not shown


class Side:
    """The runs that one word of the command line means.

    `counted`: those whose figures are taken: all that went well, or, where none did, all that have a summary.
    `commands`: the rows of their commands. `label`: shown for the runs; empty: their name.
    """

    def __init__(self, title: str, word: str, found: Sequence[Past], label: str = "") -> None:
        self.title = title
        self.word = word
        self.label = label
        self.found = list(found)
        self.unfinished = [record for record in found if record.summary is None]
        ended = [record for record in found if record.summary is not None]
        self.good = [record for record in ended if _went_well(record)]
        self.bad = [record for record in ended if not _went_well(record)]
        self.counted = self.good or self.bad
        self.commands = [_commands(record) for record in self.counted]

    def values(self, figure: Measure) -> list[float]:
        """What is known of a figure."""
        return [value for value in (figure.of(record.summary) for record in self.counted) if value is not None]


def _went_well(record: Past) -> bool:
    """Return whether the figures are those of the whole job: no part of it was killed for memory either."""
    return record.verdict in GOOD and not was_killed(record.summary)


class ComparisonRow:
    """One figure, or one command, on both sides. A group is None where nothing is known of that side.

    `claim`: `more`, `less` or `unclear`, of the figures of which something may be claimed.
    """

    __slots__ = ("base", "better", "claim", "name", "new", "processes", "shift", "unit")

    def __init__(self, name: str, unit: str, better: str, base: Sequence[float], new: Sequence[float]) -> None:
        self.name = name
        self.unit = unit
        self.better = better
        self.base = Group(base) if base else None
        self.new = Group(new) if new else None
        self.shift: Shift | None = shift(base, new) if base and new else None
        self.claim: str | None = None
        self.processes: tuple[float | None, float | None] = (None, None)

    @property
    def change(self) -> float | None:
        """NEW less BASE, by their medians, in the unit of the figure."""
        return None if self.base is None or self.new is None else self.new.median - self.base.median

    @property
    def ratio(self) -> float | None:
        """NEW through BASE, by their medians; None where BASE is 0."""
        if self.base is None or self.new is None or self.base.median <= NOTHING:
            return None
        return self.new.median / self.base.median

    @property
    def is_worse(self) -> bool | None:
        """True if the change is for the worse; None where none is claimed, or where neither way is better."""
        return None if self.claim in (None, UNCLEAR) or not self.better else self.claim != self.better

    @property
    def is_equal(self) -> bool:
        """True if median and range are the same on both sides."""
        sides = (self.base, self.new)
        return len({None if group is None else (group.low, group.median, group.high) for group in sides}) == 1

    @property
    def runs(self) -> int:
        """Runs of the smaller side."""
        return min(0 if group is None else len(group.values) for group in (self.base, self.new))

    @property
    def untested(self) -> str:
        """The mark of a change without an interval: `untested (1 run a side)`; else empty."""
        if self.shift is None or self.shift.interval is not None:
            return ""
        return f"untested ({self.runs} run{'' if self.runs == 1 else 's'} a side)"


@dataclass(slots=True)
class Judged:
    """The result of one limit, and why; `shift` is the change that was judged, `runs` a side that decide it."""

    gate: Gate | None
    result: str
    why: str
    shift: Shift | None = None
    runs: int | None = None


class Diff:
    """Two sides, their figures and commands, notes, and the results of the limits."""

    def __init__(self, base: Side, new: Side, limits: Sequence[Gate]) -> None:
        self.base = base
        self.new = new
        self.rows = [
            ComparisonRow(figure.name, figure.unit, figure.better, base.values(figure), new.values(figure))
            for figure in FIGURES
        ]
        names = {gate.figure.name for gate in limits if gate.figure is not None}
        self.claimed = [row for row in self.rows if row.name in CLAIMED or row.name in names]
        self.tested = _claim(self.claimed)
        self.commands = commands(base, new)
        self.notes = notes(base, new, self.rows)
        self.judged = self._judge(limits)

    @property
    def result(self) -> str | None:
        """The worst result of all limits; None without any."""
        return max((each.result for each in self.judged), key=RESULTS.index, default=None)

    def row(self, name: str) -> ComparisonRow:
        return next(row for row in self.rows if row.name == name)

    def _judge(self, limits: Sequence[Gate]) -> list[Judged]:
        if not limits:
            return []
        blind = [
            Judged(None, FAILS, f"{side.title}: no run went well, so that its figures say nothing: {_verdicts(side)}")
            for side in (self.base, self.new)
            if not side.good
        ]
        return blind + [self._judge_one(gate) for gate in limits]

    def _judge_one(self, gate: Gate) -> Judged:
        if gate.figure is None:
            bad = [record for record in self.new.found if record not in self.new.good]
            result = FAILS if bad else HOLDS
            return Judged(gate, result, f"{self.new.title}: {_verdicts(self.new)}" if bad else "every run went well")
        row = self.row(gate.figure.name)
        if row.base is None or row.new is None:
            return Judged(gate, CANNOT_TELL, f"{row.name} is unknown in {_unknown_in(row)}")
        moved = shift(row.base.values, row.new.values, as_ratio=gate.relative)
        result = gate.result(moved, row.base.median)
        why = change(row.unit, moved)
        if moved.interval is None:
            return Judged(gate, result, f"{why}, {row.untested}", moved)
        why += f" ({interval(row.unit, moved)})"
        if result != CANNOT_TELL:
            return Judged(gate, result, why, moved)
        runs = gate.runs_needed(moved, row.base.median)
        if runs is None:
            return Judged(gate, result, f"{why}; its change is the limit itself", moved)
        runs = max(runs, 1 + row.runs)
        return Judged(gate, result, f"{why}; about {runs} runs a side decide", moved, runs)


def _claim(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Set the claims of these rows, corrected for their number (Holm); return those that have an interval."""
    tested = [(row, row.shift.interval) for row in rows if row.shift is not None and row.shift.interval is not None]
    for (row, found), is_claimed in zip(tested, holm([found.p for _, found in tested]), strict=True):
        row.claim = UNCLEAR if not is_claimed else MORE if found.low > 0 else LESS
    return [row for row, _ in tested]


def _unknown_in(row: ComparisonRow) -> str:
    return " and ".join(title for title, group in ((BASE, row.base), (NEW, row.new)) if group is None)


def _verdicts(side: Side) -> str:
    """How the runs ended: `ok 3, failed 1 (exit status 2)`."""
    told: dict[str, list[Past]] = {}
    for record in side.found:
        told.setdefault(record.verdict, []).append(record)
    parts = []
    for verdict, records in told.items():
        why = ""
        if (
            verdict not in UNFINISHED
            and not all(map(_went_well, records))
            and all(_how(record) == _how(records[0]) for record in records)
        ):
            why = f" ({_why(records[0])})"
        parts.append(f"{len(records)} {verdict}{why}" if len(side.found) > 1 else f"{verdict}{why}")
    return ", ".join(parts)


def _why(record: Past) -> str:
    return words.oom_kills(record.summary) if record.verdict in GOOD else words.reason(record.summary)


def _how(record: Past) -> list[object]:
    """Return what the words for the end of a run depend on."""
    return [record.figure(path) for path in ("reason", "exit_code", "signal")]


# -- the two sides ---------------------------------------------------------------------------------------------------


def sides(base: str, new: str, environment: dict[str, str]) -> tuple[Side, Side, list[str]]:
    """Return both sides, and notes on the choice. A run that is on both sides is of NEW alone.

    So `diff name:train last` compares the last run with those before it. Raises NoRecord, UsageError, OSError.
    """
    first, second = named([base], environment), named([new], environment)
    fresh = {_identity(record) for record in second}
    before = [record for record in first if _identity(record) not in fresh]
    notes = []
    if len(before) < len(first):
        notes.append(f"{len(first) - len(before)} of the runs of BASE left out: also in NEW")
    if not before:
        same = "are the same run" if len(first) == 1 else "have the same runs"
        raise UsageError(f"diff {base} {new}: both sides {same}; name another one")
    found = Side(BASE, base, before), Side(NEW, new, second)
    for side in found:
        if not side.counted:
            ended = " and ".join(sorted({record.verdict for record in side.unfinished}))
            raise NoRecord(f"{side.title} {side.word}: nothing to compare: {ended}, without a summary")
    wrong = words.wrong_values(sum(record.replaced for side in found for record in side.counted))
    return *found, notes + [wrong] * bool(wrong)


def _identity(record: Past) -> str:
    return record.run_id or os.path.realpath(record.path)


def commands(base: Side, new: Side) -> list[ComparisonRow]:
    """The CPU time of each command on both sides, the most expensive first."""
    names = {name for side in (base, new) for listed in side.commands for name in listed}
    rows = []
    for name in names:
        title = OTHERS if name is None else name
        row = ComparisonRow(title, SECONDS, LESS, _used(base, name, "cpu"), _used(new, name, "cpu"))
        counts = [_used(side, name, "processes") for side in (base, new)]
        row.processes = (_middle(counts[0]), _middle(counts[1]))
        if max(group.median for group in (row.base, row.new, Group([0.0])) if group) >= SMALLEST_SECONDS:
            rows.append(row)
    rows.sort(key=lambda row: max(group.median for group in (row.base, row.new) if group), reverse=True)
    return rows


def _middle(values: Sequence[float]) -> float | None:
    return Group(values).median if values else None


def _commands(record: Past) -> dict[str | None, JsonObject]:
    """Return the rows of a summary by command; None is the row of all others."""
    known = [entry for entry in objects_at(record.summary, "commands") if entry.get("command") is not None]
    return {None if entry.get("folded") is True else entry["command"]: entry for entry in known}


def _used(side: Side, name: str | None, what: str) -> list[float]:
    """CPU seconds or processes of a command in each run; 0 where it is known that the run had none of that name."""
    values = []
    for record, listed in zip(side.counted, side.commands, strict=True):
        entry = listed.get(name)
        if entry is None:
            if record.figure("processes.source") == "perf" and None not in listed:
                values.append(0.0)
            continue
        value = command_seconds(entry) if what == "cpu" else number(entry.get(what))
        if value is not None:
            values.append(value)
    return values


# -- what is to be told beside ---------------------------------------------------------------------------------------


def notes(base: Side, new: Side, rows: Sequence[ComparisonRow]) -> list[str]:
    """What makes the comparison less than it seems."""
    said = []
    for side in (base, new):
        if side.unfinished:
            said.append(f"{side.title}: {len(side.unfinished)} of {len(side.found)} runs left out: without a summary")
        if side.bad:
            verdicts = _verdicts(side)
            if side.good:
                said.append(f"{side.title}: {verdicts}; only those that went well are counted")
            else:
                said.append(f"{side.title}: {verdicts}: its figures end where it ended")
    if {record.verdict for record in base.counted} != {record.verdict for record in new.counted}:
        said.append(f"verdicts differ: BASE {_verdicts(base)}; NEW {_verdicts(new)}")
    of_tree = [(figure, row) for figure, row in zip(FIGURES, rows, strict=True) if figure.scope == TREE]
    for side in (base, new):
        missing = [row.name for _, row in of_tree if (row.base is None) != (row.new is None) and not _has(side, row)]
        if missing:
            said.append(f"not compared, unknown in {side.title}: {', '.join(missing)}")
        partly = [figure.name for figure, _ in of_tree if 0 < len(side.values(figure)) < len(side.counted)]
        if partly:
            said.append(f"{side.title}: known of a part of its runs only: {', '.join(partly)}")
    for what, path in (("cores that a run may use", "limits.cpu_cores"), ("cores of the machine", "system.cpus")):
        counts = [_told(side, path) for side in (base, new)]
        if counts[0] and counts[1] and counts[0] != counts[1]:
            said.append(f"{what} differ: BASE {', '.join(counts[0])}; NEW {', '.join(counts[1])}")
    for section in SECTIONS:
        found = [_gaps(side, section) for side in (base, new)]
        if found[0].keys() != found[1].keys():
            for side, gaps in zip((base, new), found, strict=True):
                if gaps:
                    said.append(f"{side.title}: {words.SECTIONS[section]}: {'; '.join(gaps.values())}")
    return said


def _gaps(side: Side, section: str) -> dict[str, str]:
    """Return the words of what a total does not contain in any run, by code; of several runs the largest count."""
    found: dict[str, tuple[float, str]] = {}
    for record in side.counted:
        coverage = record.figure(f"{section}.coverage")
        own = [gap for gap in objects_at(record.summary, "gaps") if gap.get("section") == section]
        if not own and coverage is not None and coverage != codes.COMPLETE:
            found.setdefault(str(coverage), (0, words.coverage(coverage, ())))
        for gap in own:
            code, size = str(gap.get("code")), number(gap.get("count")) or 0
            if code not in found or size > found[code][0]:
                found[code] = (size, words.gap(gap))
    return {code: text for code, (_, text) in sorted(found.items())}


def _has(side: Side, row: ComparisonRow) -> bool:
    return (row.base if side.title == BASE else row.new) is not None


def _told(side: Side, path: str) -> list[str]:
    found = [record.figure(path) for record in side.counted]
    return sorted({f"{value:g}" for value in found if value is not None})
