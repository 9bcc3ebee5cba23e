"""Two sides of runs, figure by figure and command by command: what differs, and whether that is beyond a limit."""

from __future__ import annotations

import os

from proctally.figures import FIGURES, LESS, SECONDS, TREE, is_number
from proctally.gates import FAILED, PASSED, UNKNOWN, WITHIN
from proctally.history import NoRecord, Past, named
from proctally.quantities import NOTHING, percent, with_unit
from proctally.spread import NO_SPREAD, Group, compare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from proctally.figures import Figure
    from proctally.gates import Gate
    from proctally.spread import Comparison

BASE, NEW = "BASE", "NEW"
GOOD = ("ok", "ended")  # verdicts of runs whose figures are those of the whole job
UNFINISHED = ("running", "lost")
SECTIONS = ("cpu", "io", "processes")  # whose coverage is "complete", or names what is missing
SMALLEST_SECONDS = 0.005  # of a command: what is less on both sides is not shown


class Side:
    """The runs that one word of the command line means.

    `counted`: those whose figures are taken: all that went well, or, where none did, all that have a summary.
    """

    def __init__(self, title: str, word: str, found: Sequence[Past]) -> None:
        self.title = title
        self.word = word
        self.found = list(found)
        self.unfinished = [record for record in found if record.summary is None]
        ended = [record for record in found if record.summary is not None]
        self.good = [record for record in ended if record.verdict in GOOD]
        self.bad = [record for record in ended if record.verdict not in GOOD]
        self.counted = self.good or self.bad

    def values(self, figure: Figure) -> list[float]:
        """What is known of a figure."""
        return [value for value in (figure.of(record.summary) for record in self.counted) if value is not None]


class Row:
    """One figure, or one command, on both sides. A group is None where nothing is known of that side."""

    __slots__ = ("base", "better", "comparison", "name", "new", "processes", "unit")

    def __init__(self, name: str, unit: str, better: str, base: Sequence[float], new: Sequence[float]) -> None:
        self.name = name
        self.unit = unit
        self.better = better
        self.base = Group(base) if base else None
        self.new = Group(new) if new else None
        self.comparison: Comparison | None = compare(base, new) if base and new else None
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
        """Whether the change is for the worse; None where it is none, or where neither way is better."""
        if not self.change or not self.better or self.comparison is None or self.comparison.differs is False:
            return None
        return (self.change > 0) == (self.better == LESS)


class Judged:
    """What became of one limit, and why."""

    __slots__ = ("gate", "state", "why")

    def __init__(self, gate: Gate | None, state: str, why: str) -> None:
        self.gate = gate
        self.state = state
        self.why = why

    @property
    def has_failed(self) -> bool:
        """What cannot be judged has not passed."""
        return self.state in (FAILED, UNKNOWN)


class Diff:
    """Two sides, their figures and commands, what is to be told beside, and what became of the limits."""

    def __init__(self, base: Side, new: Side, limits: Sequence[Gate]) -> None:
        self.base = base
        self.new = new
        self.rows = [
            Row(figure.name, figure.unit, figure.better, base.values(figure), new.values(figure)) for figure in FIGURES
        ]
        self.commands = commands(base, new)
        self.notes = notes(base, new, self.rows)
        self.judged = self._judge(limits)

    @property
    def has_failed(self) -> bool:
        return any(each.has_failed for each in self.judged)

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    def _judge(self, limits: Sequence[Gate]) -> list[Judged]:
        if not limits:
            return []
        blind = [
            Judged(None, FAILED, f"{side.title}: no run went well, so that its figures say nothing: {_verdicts(side)}")
            for side in (self.base, self.new)
            if not side.good
        ]
        return blind + [self._judge_one(gate) for gate in limits]

    def _judge_one(self, gate: Gate) -> Judged:
        if gate.figure is None:
            bad = [record for record in self.new.found if record not in self.new.good]
            state = FAILED if bad else PASSED
            return Judged(gate, state, f"{self.new.title}: {_verdicts(self.new)}" if bad else "every run went well")
        row = self.row(gate.figure.name)
        if row.base is None or row.new is None or row.comparison is None:
            return Judged(gate, UNKNOWN, f"{row.name} is unknown in {_unknown_in(row)}, and cannot be judged")
        said = f"{row.name} {with_unit(row.base.median, row.unit)} to {with_unit(row.new.median, row.unit)}"
        said += f" ({percent(row.base.median, row.new.median)})"
        if not gate.is_beyond(row.base.median, row.new.median):
            return Judged(gate, PASSED, said)
        if row.comparison.differs is False:
            return Judged(gate, WITHIN, f"{said}: beyond {gate.text}, and within the spread of the runs: no difference")
        return Judged(gate, FAILED, f"{said}: beyond {gate.text}{_basis(row.comparison)}")


def _basis(comparison: Comparison) -> str:
    return ", of one run a side: their spread is not known" if comparison.method == NO_SPREAD else ""


def _unknown_in(row: Row) -> str:
    return " and ".join(title for title, group in ((BASE, row.base), (NEW, row.new)) if group is None)


def _verdicts(side: Side) -> str:
    """How the runs ended: `ok 3, failed 1 (exit status 2)`."""
    told: dict[str, list[Past]] = {}
    for record in side.found:
        told.setdefault(record.verdict, []).append(record)
    words = []
    for verdict, records in told.items():
        evidence = {str((record.summary or {}).get("evidence")) for record in records}
        why = f" ({evidence.pop()})" if len(evidence) == 1 and verdict not in (*GOOD, *UNFINISHED) else ""
        words.append(f"{len(records)} {verdict}{why}" if len(side.found) > 1 else f"{verdict}{why}")
    return ", ".join(words)


# -- the two sides ---------------------------------------------------------------------------------------------------


def sides(base: str, new: str, environment: dict[str, str]) -> tuple[Side, Side, list[str]]:
    """Both, and what is to be told of the choice. What stands on both sides is NEW alone, if that leaves a BASE.

    So `diff name:train last` compares the last run with those before it. Raises NoRecord, OSError.
    """
    first, second = named([base], environment), named([new], environment)
    fresh = {_identity(record) for record in second}
    before = [record for record in first if _identity(record) not in fresh]
    told = []
    if before and len(before) < len(first):
        told.append(f"{len(first) - len(before)} of the runs of BASE left out: also in NEW")
    found = Side(BASE, base, before or first), Side(NEW, new, second)
    for side in found:
        if not side.counted:
            ended = " and ".join(sorted({record.verdict for record in side.unfinished}))
            raise NoRecord(f"{side.title} {side.word}: nothing to compare: {ended}, without a summary")
    return *found, told


def _identity(record: Past) -> str:
    return record.run_id or os.path.realpath(record.path)


def commands(base: Side, new: Side) -> list[Row]:
    """The CPU time of each command on both sides, the most expensive first."""
    names = {name for side in (base, new) for record in side.counted for name in _commands(record)}
    rows = []
    for name in names:
        row = Row(name, SECONDS, LESS, _used(base, name, "cpu"), _used(new, name, "cpu"))
        counts = [_used(side, name, "processes") for side in (base, new)]
        row.processes = (_middle(counts[0]), _middle(counts[1]))
        if max(group.median for group in (row.base, row.new, Group([0.0])) if group) >= SMALLEST_SECONDS:
            rows.append(row)
    rows.sort(key=lambda row: max(group.median for group in (row.base, row.new) if group), reverse=True)
    return rows


def _middle(values: Sequence[float]) -> float | None:
    return Group(values).median if values else None


def _commands(record: Past) -> dict[str, dict[str, Any]]:
    listed = (record.summary or {}).get("commands")
    entries = listed if isinstance(listed, list) else []
    known = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("command"), str)]
    return {entry["command"]: entry for entry in known}


def _used(side: Side, name: str, what: str) -> list[float]:
    """CPU seconds or processes of a command in each run; 0 where it is known that the run had none of that name."""
    values = []
    for record in side.counted:
        listed = _commands(record)
        entry = listed.get(name)
        if entry is None:
            if record.figure("processes.source") == "perf" and "(others)" not in listed:
                values.append(0.0)
            continue
        parts = [entry.get("cpu_seconds"), entry.get("teardown_seconds")] if what == "cpu" else [entry.get(what)]
        if is_number(parts[0]):
            values.append(sum(float(part) for part in parts if is_number(part)))
    return values


# -- what is to be told beside ---------------------------------------------------------------------------------------


def notes(base: Side, new: Side, rows: Sequence[Row]) -> list[str]:
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
        covered = [_told(side, f"{section}.coverage") for side in (base, new)]
        if covered[0] != covered[1]:
            for side, words in zip((base, new), covered, strict=True):
                gaps = [each for each in words if each != "complete"]
                if gaps:
                    said.append(f"{side.title}: {section}: {'; '.join(gaps)}")
    return said


def _has(side: Side, row: Row) -> bool:
    return (row.base if side.title == BASE else row.new) is not None


def _told(side: Side, path: str) -> list[str]:
    found = [record.figure(path) for record in side.counted]
    return sorted({f"{value:g}" if is_number(value) else str(value) for value in found if value is not None})
