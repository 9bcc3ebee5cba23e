"""Ending a job that takes too long or too much: it is asked first, and made to when the grace is over."""

from __future__ import annotations

from proctally.kernel.child import SIGCONT, SIGKILL, SIGTERM, send_signal
from proctally.kernel.machine import UNREADABLE
from proctally.kernel.proc import read_children, read_stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctally.enclosure import Enclosure
    from proctally.job import Job
    from proctally.options import Options
    from proctally.sampler import Sampler

OVER_SAMPLES = 2
AGAIN_NS = 50_000_000  # how often all that is still there is killed: who forks as fast may escape once
PATIENCE_NS = 2_000_000_000  # what is not ended so long after its KILL is another user's, or waits for a device
DEEPEST = 64


class Ending:
    """`--timeout` and `--max-memory` of one run. `fired`: the verdict (timeout or limit) and why, once it is so."""

    __slots__ = (
        "_deadline",
        "_give_up_at",
        "_kill_at",
        "_over",
        "_told",
        "enclosure",
        "fired",
        "job",
        "options",
        "sampler",
    )

    def __init__(self, options: Options, job: Job, sampler: Sampler, enclosure: Enclosure) -> None:
        self.options = options
        self.job = job
        self.sampler = sampler
        self.enclosure = enclosure
        self.fired: tuple[str, str] | None = None
        self._deadline: int | None = None
        self._kill_at: int | None = None
        self._give_up_at: int | None = None
        self._told = False
        self._over = 0

    def begin(self, started_ns: int) -> None:
        """The command was started then (nanoseconds of the monotonic clock)."""
        if self.options.timeout is not None:
            self._deadline = started_ns + int(self.options.timeout * 1e9)

    def due(self) -> int | None:
        """The moment at which `act` has something to do; None when there is none."""
        return self._deadline if self.fired is None else self._kill_at

    def act(self, now: int) -> bool:
        """What is due at this moment. True when nothing more can be done: something does not end."""
        if self.fired is None:
            if self._deadline is not None and now >= self._deadline:
                self._fire("timeout", f"still running after {self.options.timeout:g} s (--timeout)", now)
            return False
        if self.job.status is not None and not self._told:
            # the command has ended, and what it left has not heard that it is to end
            self._told = True
            self._signal_all(SIGTERM)
            self._signal_all(SIGCONT)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = now + AGAIN_NS
            self._give_up_at = self._give_up_at or now + PATIENCE_NS
            if self.enclosure.own is not None:
                self.enclosure.own.kill()
            self._signal_all(SIGKILL)
            if now >= self._give_up_at:
                self.fired = (self.fired[0], f"{self.fired[1]}; something of it could not be killed")
                return True
        return False

    def check_memory(self, now: int) -> None:
        """Whether it uses more than it may, at this sample as at the one before it."""
        most = self.options.max_memory
        if most is None or self.fired is not None or self.job.status is not None:
            return
        used, what = self.enclosure.memory_bytes(), "cgroup memory"
        if used is None:
            used, what = self.sampler.memory_estimate(), "PSS"
        self._over = self._over + 1 if used > most else 0
        if self._over == OVER_SAMPLES:
            from proctally.summary import size

            self._fire("limit", f"{what} {size(used)} over --max-memory {size(most)} in two samples", now)

    def _fire(self, verdict: str, why: str, now: int) -> None:
        self.fired = (verdict, why)
        self._kill_at = now + int(self.options.grace * 1e9)
        for number in (SIGTERM, SIGCONT):  # one that is stopped hears nothing else
            self.job.signal(number)

    def _signal_all(self, number: int) -> None:
        """Each by a descriptor of itself: never to a pid that was given to another, nor to the process group."""
        machine = self.sampler.machine
        self.job.signal(number)
        try:
            self.sampler.look()
            found = [(member.pid, member.start) for member in self.sampler.tree.members.values() if not member.ended]
        except Exception:  # a fault in tracking keeps no job alive
            found = list(self._descendants(self.job.own, 0))
        for pid, start in found:
            if pid != self.job.pid:
                send_signal(machine, pid, start, number)

    def _descendants(self, pid: int, depth: int) -> Iterator[tuple[int, int]]:
        """Pid and start of all below a process, strangers left out; it takes nothing but /proc."""
        machine = self.sampler.machine
        try:
            children = read_children(machine, pid)
        except UNREADABLE:
            return
        for child in children:
            if depth or not self.sampler.tree.is_stranger(child):
                try:
                    yield child, read_stat(machine, child).start
                except UNREADABLE:
                    continue
                if depth < DEEPEST:
                    yield from self._descendants(child, depth + 1)
