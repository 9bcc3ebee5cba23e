"""One event loop: sources of wake-ups, the schedule of samples among them, and the first outcome ends it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from proctally.linux.child import Poller, SignalFd
    from proctally.tracking.verdict import Outcome

PART_NS = 10_000_000  # after a source that took longer, the urgent ones act before the next one
EARLY_SCANS_NS = tuple(ms * 1_000_000 for ms in (5, 20, 50, 100, 200, 500))


class Source:
    """What wakes the loop, and what it does then. All moments are nanoseconds of the monotonic clock."""

    def fds(self, now: int) -> Sequence[int]:
        """Return the descriptors that wake it when they are ready."""
        return ()

    def timeout(self, now: int) -> int | None:
        """Return the nanoseconds until it has something to do; None while only others wake it."""
        return None

    def act(self, now: int, ready: Collection[int]) -> Outcome | None:
        """Do what is due, at each wake-up. `ready`: descriptors that are. An outcome ends the loop."""
        return None


class Loop:
    """Waits for all sources at once, and lets them act in their order.

    `urgent`: those that act again between two others, when one took long. `fault(source, error)`: what an error of a
    source leads to; it ends the loop by raising it.
    """

    def __init__(
        self,
        clock: Callable[[], int],
        poller: Poller | SignalFd,
        sources: Iterable[Source],
        *,
        urgent: Iterable[Source] = (),
        fault: Callable[[Source, Exception], None] | None = None,
    ) -> None:
        self._clock = clock
        self._poller = poller
        self._urgent = tuple(urgent)
        self._fault = fault or _raised
        self.replace(sources)

    def replace(self, sources: Iterable[Source]) -> None:
        """Continue with these sources; a descriptor can have the number of a closed one."""
        self._sources = tuple(sources)
        self._with_fds = [source for source in self._sources if type(source).fds is not Source.fds]
        self._with_timeout = [source for source in self._sources if type(source).timeout is not Source.timeout]
        self._poller.forget()

    def run(self) -> Outcome:
        """Return the first outcome."""
        outcome = None
        while outcome is None:
            outcome = self._turn()
        return outcome

    def _turn(self) -> Outcome | None:
        """Wait once, and let every source act."""
        now = self._clock()
        timeout: int | None = None
        fds: list[int] = []
        for source in self._with_fds:
            try:
                fds += source.fds(now)
            except Exception as error:
                self._fault(source, error)
        for source in self._with_timeout:
            try:
                due = source.timeout(now)
            except Exception as error:
                self._fault(source, error)
                continue
            if due is not None and (timeout is None or due < timeout):
                timeout = due
        ready = self._poller.wait(fds, timeout)
        return self._act(self._sources, fds, ready)

    def _act(self, sources: tuple[Source, ...], fds: list[int], ready: list[int]) -> Outcome | None:
        clock = self._clock
        before = now = clock()
        for source in sources:
            if now - before > PART_NS and source not in self._urgent:
                ready = [*ready, *self._poller.wait(fds, 0)]
                outcome = self._act(self._urgent, fds, ready)
                if outcome is not None:
                    return outcome
                now = clock()
            if sources is not self._sources and source not in self._sources:
                continue  # it was taken out during this turn
            before = now
            try:
                outcome = source.act(now, ready)
            except Exception as error:
                self._fault(source, error)
                continue
            if outcome is not None:
                return outcome
            now = clock()
        return None


def _raised(_source: Source, error: Exception) -> None:
    raise error


class Schedule:
    """A deadline that advances by whole intervals on the monotonic clock, and early scans before the first."""

    def __init__(self, start_ns: int, interval_ns: int, early: tuple[int, ...] = EARLY_SCANS_NS) -> None:
        self.start_ns = start_ns
        self.interval_ns = interval_ns
        self.next_ns = start_ns + interval_ns
        self.late = 0
        self._early = [start_ns + each for each in early if each < interval_ns]

    def timeout(self, now: int) -> int:
        """Return the nanoseconds until the next scan."""
        due = self._early[0] if self._early else self.next_ns
        return max(0, min(due, self.next_ns) - now)

    def sample_due(self, now: int) -> bool:
        """Whether a sample is to be taken; the deadline then advances, past those that were missed."""
        if now < self.next_ns:
            return False
        missed = (now - self.next_ns) // self.interval_ns
        self.late += missed
        self.next_ns += (missed + 1) * self.interval_ns
        self._early = [early for early in self._early if early > now]
        return True

    def look_due(self, now: int) -> bool:
        """Return True if an early scan is due."""
        if not self._early or now < self._early[0]:
            return False
        self._early = [early for early in self._early if early > now]
        return True

    def gap_ended(self, now: int) -> None:
        """Start the next interval: the job was stopped until now."""
        self.next_ns = now + self.interval_ns
