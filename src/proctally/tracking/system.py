"""`proctally system`: track the whole machine, until stopped or for a time."""

from __future__ import annotations

import os

from proctally.errors import NO_PROCFS, CannotStart
from proctally.host.sampler import TREE, HostSampler
from proctally.linux.c_library import libc
from proctally.linux.child import SignalFd, stopping
from proctally.linux.machine import host_machine
from proctally.record import seconds
from proctally.record.codes import PROCFS_MISSING
from proctally.text.terminal import say_line
from proctally.tracking.loop import Loop
from proctally.tracking.session import Ended, Session
from proctally.tracking.tracker import Ends, Tracker
from proctally.tracking.verdict import oom_kills

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.record import JsonObject
    from proctally.tracking.config import Options
    from proctally.tracking.live_lines import Live
    from proctally.tracking.verdict import Outcome

NOTHING = 1
CANNOT_SERVE = 1


class SystemTracker(Tracker):
    """The machine alone."""

    early = ()  # there is no job that could be short

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.samples = 0
        self._sampled_ns: int | None = None

    def begin(self, command: list[str] | None, pid: int) -> None:
        self.enclosure.look_around(pid)  # in a container, the limits and the use of all that is in it
        super().begin(command, pid)

    def begin_machine(self) -> None:
        options = self.options
        self.host = HostSampler(
            self.machine, self.session.environment, system=True, gpu=not options.no_gpu, cloud=options.cloud
        )

    def sample(self, *, last: bool = False) -> JsonObject:
        assert self.host is not None
        now = self.machine.monotonic_ns()
        interval = None if self._sampled_ns is None else now - self._sampled_ns
        self._sampled_ns = now
        self.samples += 1
        sample: JsonObject = {
            "type": "sample",
            "at": round(self.machine.time(), 3),
            "elapsed_seconds": seconds(now - self.session.started_ns),
            "interval_seconds": None if interval is None else seconds(interval),
            "tree": None,
            "cgroup": self.enclosure.around(),
            "top": [],
        }
        sections: JsonObject = self.session.timed("system", self.host.sample, (), first=interval is None)
        sections.pop(TREE, None)
        sample |= sections
        self.session.write(sample)
        self.export(sample)
        return sample

    def lines_for_export(self, live: Live, sample: JsonObject) -> list[JsonObject]:
        assert self.host is not None
        return live.of_machine(sample, self.host, self.samples, self.schedule.late)

    def end(self, outcome: Outcome) -> None:
        """Take the last sample and write the last lines."""
        self.sample(last=True)
        self.last_machine_lines()
        outcome.reason |= oom_kills(self.enclosure) or {}
        self.write_summary(outcome, self.gaps_of_machine(), {}, self.enclosure.summary(), self.samples)


def track(options: Options, environment: dict[str, str]) -> Ended:
    """Track the machine until the end."""
    machine, pid = host_machine(), os.getpid()
    signals = SignalFd(libc(), stopping())
    if machine.procfs_missing == PROCFS_MISSING:
        say_line(NO_PROCFS[PROCFS_MISSING])
        return Ended(NOTHING)
    session = Session("system", options, environment, machine, "system")
    tracker = SystemTracker(session)
    try:
        session.open(pid)
    except CannotStart as error:
        say_line(str(error))
        return Ended(error.exit_status)
    session.start()
    tracker.begin(None, pid)
    tracker.end(Loop(machine.monotonic_ns, signals, [Ends(session, signals), tracker]).run())
    tracker.close()
    return session.ended(CANNOT_SERVE if session.cannot_serve() else 0)
