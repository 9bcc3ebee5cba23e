"""One destination: its retries, and what it reports."""

from __future__ import annotations

import time
from http.client import BadStatusLine, IncompleteRead
from ssl import SSLError

import pytest

from proctally.exporters.latest import Latest
from proctally.exporters.sink import BackOff, ReceiverRefused, Sink
from tracked import until


class Failing(Sink):
    """A destination that fails with each of these, and then works."""

    name = "failing"
    seconds = 0.02

    def __init__(self, *errors: Exception, secrets: tuple[str, ...] = ()) -> None:
        super().__init__(Latest(), secrets)
        self.errors = list(errors)

    def write(self) -> None:
        if self.errors:
            raise self.errors.pop(0)


@pytest.mark.parametrize(
    "error",
    [
        BadStatusLine("x"),
        IncompleteRead(b""),
        SSLError("x"),
        ValueError("x"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "x"),
        KeyError("x"),
        RecursionError("x"),
        ReceiverRefused("x", 0.01),
        ReceiverRefused("x", final=True),
    ],
)
def test_sink_fails_in_any_way_next_try_needs_no_sample(error: Exception) -> None:
    sink = Failing(error, error)
    sink.start()
    sink.sampled()
    until(lambda: sink.delivery.done, "it is tried again")
    assert (sink.delivery.failed, sink.delivery.trouble) == (2, None)
    sink.end(time.monotonic() + 10)
    assert sink.join(10)


def test_back_off_grows_to_its_maximum_and_heeds_the_receiver() -> None:
    back_off = BackOff(1.0, 30.0)
    pauses = [back_off.pause(None) for _ in range(8)]
    assert all(0.79 * usual <= pause <= 1.21 * usual for usual, pause in zip((1, 2, 4, 8, 16), pauses, strict=False))
    assert all(24 <= pause <= 36 for pause in pauses[5:])
    assert back_off.pause(120.0) == 120.0
    assert back_off.pause(0.0) == 0.5
    back_off.tries = 0
    assert back_off.pause(None) < 1.3


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("no hunter22 here", "no *** here"),
        ("hunter22hunter22", "******"),
        ("cut within it: hunter2", "cut within it: ***"),
        ("cut within it: hunt", "cut within it: ***"),
        ("HTTP status 401", "HTTP status 401"),
        ("a short one is a word: abc", "a short one is a word: abc"),
    ],
)
def test_reason_repeats_a_secret_it_is_masked(said: str, shown: str) -> None:
    sink = Failing(ReceiverRefused(said), secrets=("hunter22", "abc", ""))
    sink.start()
    sink.end(time.monotonic())
    assert sink.join(10)
    assert sink.delivery.trouble == shown
