"""Sentences of a run that several views show, one place for each. `name` cuts the name of another program."""

from __future__ import annotations

from proctally.analysis.memory import PeakPart
from proctally.analysis.others import Others
from proctally.analysis.time import READY
from proctally.analysis.waits import NOTABLE_SHARE
from proctally.record.codes import WHOLE_MACHINE
from proctally.record.values import number_at, objects_at, value_at
from proctally.text import words
from proctally.text.cells import cut_middle
from proctally.text.escape import label, printable
from proctally.text.units import UNKNOWN, brief

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proctally.analysis.time import Time

    Name = Callable[[object], str]

NAME = 24  # cells of the name of a process
LARGE = 0.1  # of the peak of memory: a part from here on has its pid
MOST = 0.5  # of the memory before an OOM kill: the process that held it is the one that the kernel ended
LEAST_SECONDS = 0.005  # of a command: what used less is not shown
UNSEEN_SECONDS, UNSEEN_SHARE = 0.05, 0.02  # of CPU time that is of no command: above both it is shown


def short_name(text: object) -> str:
    """Return a name of another program, cut in its middle."""
    return cut_middle(printable(label(text)), NAME)


def killed(summary: object, name: Name = short_name) -> tuple[str, list[str]]:
    """Return which processes the OOM killer ended, and a list of what held the memory before; empty without any."""
    count, ooms = number_at(summary, "reason.oom_kills"), objects_at(summary, "memory.ooms")
    if not count:
        return "", []
    if value_at(summary, "reason.oom_place") == WHOLE_MACHINE:
        return f"{words.counted(count, 'process')} {words.OOM_PLACES[WHOLE_MACHINE]}", []
    parts = [PeakPart(entry) for entry in objects_at(ooms[0], "at_peak")] if ooms else []
    held = sum(part.high or 0 for part in parts)
    if count == 1 and parts and (parts[0].high or 0) >= MOST * held:
        with_pid = "" if parts[0].pid is None else f" ({parts[0].pid})"
        return f"{name(parts[0].name)}{with_pid} with {parts[0].text}, by the kernel's OOM killer", []
    return f"{words.counted(count, 'process')} by the kernel's OOM killer", holders(parts, held, name)


def holders(parts: Iterable[PeakPart], held: float, name: Name = short_name) -> list[str]:
    """Return the parts of the memory; a large one with its pid."""
    shown = []
    for part in parts:
        with_pid = f" ({part.pid})" if part.pid is not None and (part.high or 0) >= LARGE * held else ""
        shown.append(f"{name(part.name)}{with_pid} {part.text}")
    return shown


def moment(seconds: float | None, phase: object, name: Name = short_name) -> str:
    """Return when memory was at its peak: `at 11.5 s in save`."""
    at = "at the peak" if seconds is None else f"at {brief(seconds)}"
    return at if phase is None else f"{at} in {name(phase)}"


def user_and_system(summary: object) -> str:
    """Return how the CPU time divides: `user 17.2, system 0.7`."""
    total, *split = (number_at(summary, f"cpu.{name}_seconds") for name in ("total", "user", "system"))
    digits = 1 if total is None or total >= 0.0995 else 3
    user, system = (UNKNOWN if value is None else f"{value:.{digits}f}" for value in split)
    return f"user {user}, system {system}"


def others(summary: object, time: Time) -> Others | None:
    """Return what other processes used while the job waited; None where it hardly waited."""
    found = Others(value_at(summary, "others"))
    return None if not found.users or (time.parts and time.share(READY) < NOTABLE_SHARE) else found


def others_lack(summary: object, found: Others, time: Time) -> str:
    """Return why the named others explain too little of the wait; empty where they explain it, or it is unknown."""
    used, wanted = number_at(summary, "cpu.mean_cores"), time.wanted_cores
    return found.lack(None if used is None or wanted is None else wanted - used)


class CommandTime:
    """CPU time of one command; `processes` and `line` (its row of the summary) are None for what no command has."""

    __slots__ = ("line", "name", "processes", "seconds")

    def __init__(self, name: str, seconds: float | None, processes: float | None, line: object = None) -> None:
        self.name = name
        self.seconds = seconds
        self.processes = processes
        self.line = line

    @property
    def title(self) -> str:
        """The name; in parentheses for what no command has."""
        return f"({self.name})" if self.line is None else self.name

    def text(self, name: Name = short_name) -> str:
        """Return the time, the command and its processes: `38.5 s cc1 x 48`."""
        times = f" x {self.processes:,.0f}" if self.processes and self.processes > 1 else ""
        return f"{brief(self.seconds)} {self.name if self.line is None else name(self.name)}{times}"


def commands(summary: object, *, least: float = UNSEEN_SECONDS) -> list[CommandTime]:
    """Return the commands, the most expensive first; they sum to the CPU time, for one row is what none of them has.

    `least`: seconds from which that row is there.
    """
    from proctally.analysis.measures import command_seconds

    rows = [
        CommandTime(str(line.get("command")), command_seconds(line), number_at(line, "processes"), line)
        for line in objects_at(summary, "commands")
    ]
    total = number_at(summary, "cpu.total_seconds")
    if total is not None and rows:
        unseen = total - sum(row.seconds or 0.0 for row in rows)
        if unseen > least:
            by_perf = value_at(summary, "processes.source") == "perf"
            rows.append(CommandTime("not attributed" if by_perf else "too short to sample", unseen, None))
    return sorted(rows, key=lambda row: -(row.seconds or 0.0))
