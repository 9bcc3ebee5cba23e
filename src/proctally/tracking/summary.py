"""`proctally system`: track the whole machine, until stopped or for a time."""

from __future__ import annotations

import os

from proctally.enclosure import Enclosure
from proctally.kernel.child import Signals, libc, say, signal_name, stopping
from proctally.kernel.machine import NANOSECONDS, host_machine, seconds
from proctally.options import UsageError
from proctally.session import Schedule, Session
from proctally.surroundings import TREE, Surroundings
from proctally.verdict import UNHEARD, Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from proctally.options import Options

CANNOT_WRITE = 1
CANNOT_SERVE = 1
USAGE = 2
EARLY: tuple[int, ...] = ()  # there is no job that could be short


class Whole:
    """One record of the machine alone."""

    def __init__(self, options: Options, environment: dict[str, str]) -> None:
        self.options = options
        self.environment = environment
        self.machine = host_machine()
        self.signals = Signals(libc(), stopping())
        self.session = Session("system", options, environment, self.machine, "system")
        self.enclosure = Enclosure(self.machine)
        self.samples = 0
        self.schedule: Schedule | None = None
        self._sampled_ns: int | None = None

    def main(self) -> int:
        """The exit status."""
        session, options = self.session, self.options
        try:
            session.open_outlets(os.getpid())
        except UsageError as error:
            say(f"proctally: {error}\n")
            return USAGE
        try:
            session.open_explicit(os.getpid())
        except (OSError, ValueError) as error:
            say(f"proctally: --output {options.output}: {getattr(error, 'strerror', None) or error}\n")
            return CANNOT_WRITE
        session.start()
        self.enclosure.look_around(os.getpid())  # in a container, the limits and the use of all that is in it
        session.limits = self.enclosure.limits
        session.surroundings = around = Surroundings(
            self.machine, self.environment, system=True, gpu=not options.no_gpu, cloud=options.cloud
        )
        session.start_exports()
        session.announce()
        session.write(session.header(None, os.getpid()))
        self.schedule = schedule = Schedule(session.started_ns, int(options.interval * NANOSECONDS), early=EARLY)
        first = self._sample(around)
        session.open_default()
        self._export(first, around)
        outcome = self._follow(around, schedule)
        self._sample(around)
        for line in around.lines(last=True):
            session.write(line)
        session.end_system(self.samples, schedule, outcome, self.enclosure)
        session.close()
        around.close()
        return CANNOT_SERVE if session.cannot_serve() else 0

    def _sample(self, around: Surroundings) -> dict[str, Any]:
        now = self.machine.monotonic_ns()
        interval = None if self._sampled_ns is None else now - self._sampled_ns
        self._sampled_ns = now
        self.samples += 1
        sample: dict[str, Any] = {
            "type": "sample",
            "at": round(self.machine.time(), 3),
            "elapsed_seconds": seconds(now - self.session.started_ns),
            "interval_seconds": None if interval is None else seconds(interval),
            "tree": None,
            "cgroup": self.enclosure.around(),
            "top": [],
        }
        sections: dict[str, Any] = self.session.timed("system", around.sample, (), first=interval is None)
        sections.pop(TREE, None)
        sample |= sections
        self.session.write(sample)
        self._export(sample, around)
        return sample

    def _export(self, sample: dict[str, Any], around: Surroundings) -> None:
        """Tell the exporter, where there is one, what is not in the record."""
        live, schedule = self.session.live, self.schedule
        if live is not None and schedule is not None:
            self.session.tell(live.of_machine(sample, around, self.samples, schedule.late))

    def _follow(self, around: Surroundings, schedule: Schedule) -> Outcome:
        clock = self.machine.monotonic_ns
        duration = self.options.duration
        deadline = None if duration is None else self.session.started_ns + int(duration * NANOSECONDS)
        while True:
            now = clock()
            timeout = schedule.timeout(now)
            if deadline is not None:
                timeout = min(timeout, max(0, deadline - now))
            soon = around.timeout(now, schedule.next_ns)
            for signal in self.signals.wait(timeout if soon is None else min(timeout, soon), around.fds):
                return Outcome("ended", f"stopped by signal {signal.number} ({signal_name(signal.number)})")
            now = clock()
            if deadline is not None and now >= deadline:
                return Outcome("ended", f"the duration of {duration:g} s is over")
            if self.session.unheard():
                return Outcome("ended", UNHEARD)
            if schedule.sample_due(now):
                self._sample(around)
            for line in around.go_on(now, schedule.next_ns, ()):
                self.session.write(line)


def track(options: Options, environment: dict[str, str]) -> int:
    """Track the machine; the exit status."""
    return Whole(options, environment).main()
