"""A process tree that is sampled here, as a scene."""

from __future__ import annotations

from proctally.lookout import Lookout, NoProcess
from proctally.summary import duration
from proctally.top.scene import CannotShow, Process, Scene


class Living:
    """The tree of a process. Raises CannotShow."""

    def __init__(self, pid: int, interval_seconds: float) -> None:
        try:
            self._lookout = Lookout(pid, interval_seconds)
        except NoProcess as error:
            raise CannotShow(str(error)) from None
        self.scene = Scene(self._lookout.command_line(pid) or self._lookout.command)
        self.scene.root = pid
        self.scene.identity = f"pid {pid}"
        self.scene.is_whole = True
        self.scene.line_of = self._line_of
        why = self._lookout.why_no_perf
        self._notes = [] if why is None else [f"no perf ({why}): processes between two samples are not counted"]
        self.is_silent = False

    def tick(self) -> bool:
        """Take a sample; whether there is anything new. Raises CannotShow."""
        if self.has_ended:
            return False
        try:
            self.scene.enter(self._lookout.sample())
        except NoProcess as error:
            raise CannotShow(str(error)) from None
        sources = self.scene.sample["sources"]
        best = self.scene.sample["source"]
        self.scene.sources = {best: sources[best]} | sources
        self.scene.notes = self._notes
        if self._lookout.has_ended:
            self.scene.ending = self._ending()
        return True

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
        return self._lookout.command_line(process.pid) or process.command

    def close(self) -> None:
        """Give everything back."""
        self._lookout.close()
