"""Other users of the CPUs while a run waited for one, from its record.

A value of another type or below 0 is unknown: None.
"""

from __future__ import annotations

from proctally.record.codes import PARTIAL
from proctally.record.values import number_at, objects_at, value_at
from proctally.text.cells import cut_middle
from proctally.text.escape import label, printable
from proctally.text.units import UNKNOWN, cores, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_USERS = 5
EXPLAINED = 0.5  # of the cores that a job missed
UNNAMED = "the rest ended between two readings, or cannot be read"
NAME = 24  # cells of the name of a user or of a command at most


class OtherUser:
    """Processes of one user and one command: how many, and their cores and memory."""

    __slots__ = ("command", "cores", "processes", "rss", "user")

    def __init__(self, entry: object) -> None:
        user, command = value_at(entry, "user"), value_at(entry, "command")
        self.user = printable(label(user)) if isinstance(user, str) and user else UNKNOWN
        self.command = printable(label(command)) if isinstance(command, str) and command else UNKNOWN
        self.processes = value_at(entry, "processes")
        self.cores = number_at(entry, "cpu_cores")
        self.rss = number_at(entry, "rss_bytes")

    def text(
        self, mark: str = "…", width: int = NAME, encoded: Callable[[str], str] = str, *, with_memory: bool = False
    ) -> str:
        """Return user, command and cores, such as `root cc1 x 4 0.41`; names are encoded and then cut to `width`."""
        times = f" x {self.processes:,}" if self.processes and self.processes > 1 else ""
        user, command = (cut_middle(encoded(name), width, mark) for name in (self.user, self.command))
        names = f"{user} {command}{times}"
        used = UNKNOWN if self.cores is None else f"{self.cores:.2f}"
        return f"{names} {used} cores, {size(self.rss)}" if with_memory else f"{names} {used}"


class Others:
    """The largest users of CPU that are not of the run. `cores`: of all others; None where it is unknown.

    `is_partial`: it is a lower bound.
    """

    __slots__ = ("cores", "is_partial", "users")

    def __init__(self, section: object) -> None:
        self.cores = number_at(section, "cpu_cores")
        self.is_partial = value_at(section, "coverage") == PARTIAL
        self.users = [OtherUser(entry) for entry in objects_at(section, "largest")[:MAX_USERS]]

    def lack(self, missed: float | None) -> str:
        """Return why the named ones explain less than half of the cores that the job missed; empty where they do."""
        named = sum(user.cores or 0.0 for user in self.users)
        return UNNAMED if self.is_partial and missed is not None and named < EXPLAINED * missed else ""

    def text_of_cores(self, cpus: float | None) -> str:
        """Return the cores of all others, such as `at least 1.63 of 2 cores`. `cpus`: of the machine."""
        of = "cores" if cpus is None else f"of {cores(cpus)}"
        least = "at least " if self.is_partial and self.cores is not None else ""
        return f"{least}{UNKNOWN if self.cores is None else f'{self.cores:.2f}'} {of}"
