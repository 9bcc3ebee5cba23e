"""Ending a job that takes too long or too much: it is asked first, and made to when the grace is over."""

from __future__ import annotations

from proctally.errors import UNREADABLE
from proctally.linux.child import SIGCONT, SIGKILL, SIGTERM, send_signal
from proctally.linux.proc import read_children, read_stat
from proctally.record.codes import CGROUP_MEMORY, MEMORY_LIMIT, PROVED_MEMORY, TIMED_OUT
from proctally.tracking.loop import Source
from proctally.tracking.verdict import Outcome, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from proctally.tracking.config import Options
    from proctally.tracking.job import Job
    from proctally.tracking.verdict import Reason
    from proctally.tree.cgroups import Enclosure
    from proctally.tree.sampler import TreeSampler

OVER_SAMPLES = 2
AGAIN_NS = 50_000_000  # how often all that is still there is killed: who forks as fast may escape once
PATIENCE_NS = 2_000_000_000  # what is not ended so long after its KILL is another user's, or waits for a device
DEEPEST = 64


class Termination(Source):
    """`--timeout` and `--max-memory` of one run. `fired`: the verdict (timeout or limit) and its reason."""

    def __init__(self, options: Options, job: Job, sampler: TreeSampler, enclosure: Enclosure) -> None:
        self.options = options
        self.job = job
        self.sampler = sampler
        self.enclosure = enclosure
        self.fired: tuple[str, Reason] | None = None
        self._deadline: int | None = None
        self._kill_at: int | None = None
        self._give_up_at: int | None = None
        self._told = False
        self._over = 0

    def begin(self, started_ns: int) -> None:
        """The command was started then (nanoseconds of the monotonic clock)."""
        if self.options.timeout is not None:
            self._deadline = started_ns + int(self.options.timeout * 1e9)

    def timeout(self, now: int) -> int | None:
        due = self._deadline if self.fired is None else self._kill_at
        return None if due is None else max(0, due - now)

    def act(self, now: int, ready: Collection[int]) -> Outcome | None:
        """Do what is due at this moment; the outcome is that of a job of which something does not exit."""
        if self.fired is None:
            if self._deadline is not None and now >= self._deadline:
                self._fire("timeout", reason(TIMED_OUT, limit_seconds=self.options.timeout, left_alive=False), now)
            return None
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
                self.fired[1]["left_alive"] = True
                return Outcome(*self.fired)
        return None

    def check_memory(self, now: int) -> None:
        """Whether it uses more than it may, at this sample as at the one before it."""
        most = self.options.max_memory
        if most is None or self.fired is not None or self.job.status is not None:
            return
        used, measure = self.enclosure.memory_bytes(), CGROUP_MEMORY
        if used is None:
            used, measure = self.sampler.memory.low(), PROVED_MEMORY
        self._over = self._over + 1 if used is not None and used > most else 0
        if self._over == OVER_SAMPLES:
            why = reason(MEMORY_LIMIT, measure=measure, used_bytes=used, limit_bytes=most, left_alive=False)
            self._fire("limit", why, now)

    def _fire(self, verdict: str, why: Reason, now: int) -> None:
        self.fired = (verdict, why)
        self._kill_at = now + int(self.options.grace * 1e9)
        for number in (SIGTERM, SIGCONT):  # one that is stopped hears nothing else
            self.job.signal(number)

    def _signal_all(self, number: int) -> None:
        """Each by a descriptor of itself: never to a pid that was given to another, nor to the process group."""
        machine = self.sampler.machine
        self.job.signal(number)
        try:
            self.sampler.scan()
            found = [(member.pid, member.start) for member in self.sampler.members.values() if not member.ended]
        except Exception:  # a fault in tracking keeps no job alive
            found = list(self._descendants(self.job.own, 0))
        for pid, start in found:
            if pid != self.job.pid:
                send_signal(machine, pid, start, number)

    def _descendants(self, pid: int, depth: int) -> Iterator[tuple[int, int]]:
        """Pid and start of all below a process, foreign ones left out; it takes nothing but /proc."""
        machine = self.sampler.machine
        try:
            children = read_children(machine, pid)
        except UNREADABLE:
            return
        for child in children:
            if depth or not self.sampler.is_foreign(child):
                try:
                    yield child, read_stat(machine, child).start
                except UNREADABLE:
                    continue
                if depth < DEEPEST:
                    yield from self._descendants(child, depth + 1)
