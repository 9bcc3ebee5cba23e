"""A process tree that is sampled here, as a scene."""

from __future__ import annotations

from typing import Protocol

from proctally.errors import CannotShow, NoProcess
from proctally.text.units import duration
from proctally.text.words import missing
from proctally.views.top.scene import Process, Scene

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record import JsonObject


class SampledTree(Protocol):
    """A process tree that is sampled here: what `tracking.live_tree` gives."""

    pid: int
    command: str
    cpus: int
    limits: JsonObject
    perf_missing: str | None

    def sample(self) -> JsonObject: ...

    def scan(self) -> float | None: ...

    def command_line(self, pid: int) -> str: ...

    @property
    def has_ended(self) -> bool: ...

    def close(self) -> None: ...


class Living:
    """A tree that is sampled at each tick."""

    def __init__(self, tree: SampledTree) -> None:
        self._live = tree
        self.scene = Scene(tree.command, tree.command_line(tree.pid), since="watched", root=tree.pid)
        self.scene.limits = tree.limits
        self.scene.cpus = tree.cpus
        self.scene.is_whole = True
        self.scene.line_of = self._line_of
        code = tree.perf_missing
        self._notes = []
        if code is not None:
            self._notes = [f"no perf ({missing(code, 'perf')}): processes between two samples are not counted"]
        self.is_silent = False

    def tick(self) -> bool:
        """Take a sample; whether there is anything new. Raises CannotShow."""
        if self.has_ended:
            return False
        try:
            sample = self._live.sample()
        except NoProcess as error:
            raise CannotShow(str(error)) from None
        self.scene.enter(sample)
        self.scene.show(sample["processes"])
        self.scene.notes = self._notes
        if self._live.has_ended:
            self.scene.ending = self._ending()
        return True

    def scan(self) -> float | None:
        """Scan if that is due between two samples; return the seconds to the next scan. Raises CannotShow."""
        try:
            return None if self.has_ended else self._live.scan()
        except NoProcess as error:
            raise CannotShow(str(error)) from None

    @property
    def has_ended(self) -> bool:
        """Whether its root and all known members have ended."""
        return self.scene.ending is not None

    def _ending(self) -> list[str]:
        """What is known of a tree that ended: how it ended its parent alone was told."""
        figure = self.scene.figure
        elapsed, used = figure("elapsed_seconds") or 0.0, figure("tree.cpu_seconds")
        said = ["ended: the process and all that descended from it; how, its parent alone knows"]
        said.append(f"  watched    {duration(elapsed)}")
        if used is not None:
            said.append(f"  CPU        {duration(used)} since then, by {self.scene.sample['source']}")
        return said

    def _line_of(self, process: Process) -> str:
        return self._live.command_line(process.pid) or process.command

    def close(self) -> None:
        """Give everything back."""
        self._live.close()
