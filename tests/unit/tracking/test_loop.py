"""The event loop: what it waits for, who acts in which order, and what an error leads to."""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest

from proctally.record.codes import READERS_GONE
from proctally.tracking.loop import PART_NS, Loop, Source
from proctally.tracking.tracker import Ends
from proctally.tracking.verdict import Outcome

MS = 1_000_000
DONE = Outcome("ended", {})


class Waits:
    """A clock, and a poller that advances it to the end of each wait."""

    def __init__(self, *ready: list[int]) -> None:
        self.now = 0
        self.ready = list(ready)
        self.waits: list[tuple[list[int], int | None]] = []

    def clock(self) -> int:
        return self.now

    def wait(self, fds: list[int], timeout_ns: int | None) -> list[int]:
        self.waits.append((fds, timeout_ns))
        found = self.ready.pop(0) if self.ready else []
        self.now += 0 if found or timeout_ns is None else timeout_ns
        return found

    def forget(self) -> None:
        pass


class Made(Source):
    """A source of these descriptors that is due at these moments, and ends after that many acts."""

    def __init__(
        self,
        waits: Waits,
        *,
        fds: tuple[int, ...] = (),
        every_ns: int | None = None,
        acts: int = 1 << 30,
        cost: int = 0,
    ) -> None:
        self._waits = waits
        self._fds = fds
        self._every_ns = every_ns
        self._left = acts
        self._cost = cost
        self.acted: list[tuple[int, list[int]]] = []

    def fds(self, now: int) -> tuple[int, ...]:
        return self._fds

    def timeout(self, now: int) -> int | None:
        return self._every_ns

    def act(self, now: int, ready: Collection[int]) -> Outcome | None:
        self.acted.append((now, list(ready)))
        self._waits.now += self._cost
        self._left -= 1
        return None if self._left else DONE


class Broken(Made):
    def act(self, now: int, ready: Collection[int]) -> Outcome | None:
        super().act(now, ready)
        raise RuntimeError("of a test")


def looped(waits: Waits, *sources: Source, **named: Any) -> Loop:
    poller: Any = waits
    return Loop(waits.clock, poller, sources, **named)


def test_loop_waits_for_the_first_timeout_and_all_descriptors() -> None:
    waits = Waits()
    first, second, last = (
        Made(waits, fds=(3,), every_ns=7 * MS),
        Made(waits, fds=(4, 5), every_ns=5 * MS),
        Made(waits, acts=2),
    )
    assert looped(waits, first, second, last).run() is DONE
    assert waits.waits == [([3, 4, 5], 5 * MS)] * 2
    assert [now for now, _ in first.acted] == [5 * MS, 10 * MS]


def test_loop_without_timeout_waits_for_descriptors_alone() -> None:
    waits = Waits([4])
    source = Made(waits, fds=(4,), acts=1)
    assert looped(waits, source).run() is DONE
    assert waits.waits == [([4], None)]
    assert source.acted == [(0, [4])]


def test_first_outcome_ends_the_turn() -> None:
    waits = Waits()
    last = Made(waits)
    assert looped(waits, Made(waits, acts=1), last).run() is DONE
    assert last.acted == []


@pytest.mark.parametrize(("cost", "acts"), [(PART_NS + 1, 2), (PART_NS, 1)])
def test_urgent_source_acts_again_after_a_long_part(cost: int, acts: int) -> None:
    waits = Waits([], [9])
    urgent, last = Made(waits), Made(waits, acts=1)
    looped(waits, urgent, Made(waits, cost=cost), last, urgent=[urgent]).run()
    assert len(urgent.acted) == acts
    assert last.acted == [(cost, [9] if acts == 2 else [])]


def test_outcome_of_an_urgent_source_ends_a_turn_between_two_parts() -> None:
    waits = Waits()
    urgent, last = Made(waits, acts=2), Made(waits)
    assert looped(waits, urgent, Made(waits, cost=2 * PART_NS), last, urgent=[urgent]).run() is DONE
    assert last.acted == []


def test_error_of_a_source_costs_what_its_handler_takes_out() -> None:
    waits = Waits()
    others = [Made(waits, every_ns=MS), Made(waits, every_ns=MS, acts=2)]
    errors: list[Exception] = []

    def fault(source: Source, error: Exception) -> None:
        errors.append(error)
        loop.replace(others)

    broken, dependent = Broken(waits), Made(waits)
    loop = looped(waits, others[0], broken, dependent, others[1], fault=fault)
    assert loop.run() is DONE
    assert [str(error) for error in errors] == ["of a test"]
    assert len(broken.acted) == 1 and dependent.acted == []  # taken out in the turn of the error
    assert len(others[0].acted) == 2


def test_error_without_a_handler_ends_the_loop() -> None:
    waits = Waits()
    with pytest.raises(RuntimeError, match="of a test"):
        looped(waits, Broken(waits)).run()


@pytest.mark.parametrize("method", ["fds", "timeout"])
def test_error_before_a_wait_has_the_same_handler(method: str) -> None:
    waits = Waits()
    last, failed = Made(waits, acts=2), Made(waits)
    errors: list[Exception] = []

    def fails(now: int) -> Any:
        raise ValueError(method)

    setattr(failed, method, fails)
    looped(waits, failed, last, fault=lambda _, error: errors.append(error)).run()
    assert [str(error) for error in errors] == [method] * 2


def ends(duration: float | None = None, *numbers: int, unheard: bool = False) -> Ends:
    """The ends of what started after 1 ms, with these signals."""
    received = [SimpleNamespace(number=number) for number in numbers]
    session: Any = SimpleNamespace(
        options=SimpleNamespace(duration=duration), started_ns=1 * MS, unheard=lambda: unheard
    )
    signals: Any = SimpleNamespace(take=lambda: received)
    return Ends(session, signals)


def test_deadline_ends_the_loop_at_its_moment() -> None:
    waits = Waits()
    outcome = looped(waits, Made(waits, every_ns=3 * MS), ends(0.01)).run()
    assert (outcome.verdict, outcome.reason["code"], waits.now) == ("ended", "duration", 11 * MS)
    assert waits.waits[-1] == ([], 2 * MS)


def test_signal_ends_the_loop() -> None:
    outcome = looped(Waits(), ends(None, 15)).run()
    assert (outcome.reason["code"], outcome.reason["signal"]) == ("stopped", 15)


def test_loop_ends_when_all_readers_left() -> None:
    assert looped(Waits(), ends(unheard=True)).run().reason["code"] == READERS_GONE
