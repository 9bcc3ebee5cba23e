"""Lines that wait for a descriptor which takes a few bytes, or none."""

from __future__ import annotations

import pytest

from proctally.record.line_queue import FIRST, LATER, NEVER, LineQueue


class Taker:
    """Takes so many bytes, and then none."""

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.data = b""

    def __call__(self, data: bytes) -> int:
        if not self.room:
            raise BlockingIOError
        taken = data[: min(self.room, 3)]
        self.room -= len(taken)
        self.data += taken
        return len(taken)


def test_parts_are_written_in_order() -> None:
    taker = Taker()
    queue = LineQueue(taker, 10, 100)
    for line in (b"first\n", b"second\n"):
        queue.add(line, FIRST)
    assert (queue.flush(), len(queue)) == (0, 2)
    taker.room = 8
    assert (queue.flush(), len(queue), taker.data) == (8, 1, b"first\nse")
    taker.room = 100
    assert (queue.flush(), len(queue), taker.data) == (5, 0, b"first\nsecond\n")


def test_oldest_of_first_rank_is_dropped_before_later_rank() -> None:
    taker = Taker()
    queue = LineQueue(taker, 3, 100)
    for line, rank in ((b"a", NEVER), (b"b", LATER), (b"c", FIRST), (b"d", FIRST), (b"e", FIRST)):
        queue.add(line, rank)
    assert queue.trim() == [FIRST, FIRST]
    queue.add(b"f", NEVER)
    queue.add(b"g", NEVER)
    queue.add(b"h", NEVER)
    assert queue.trim() == [FIRST, LATER]
    assert len(queue) == 4, "above the limit: the rest is never dropped"
    taker.room = 100
    queue.flush()
    assert taker.data == b"afgh"


def test_limit_of_bytes() -> None:
    queue = LineQueue(Taker(), 10, 25)
    for _ in range(4):
        queue.add(b"x" * 10, FIRST)
    assert queue.trim() == [FIRST, FIRST]
    assert queue.count(FIRST) == 2
    queue.clear()
    assert (len(queue), queue.flush()) == (0, 0)


def test_line_that_is_partly_written_stays() -> None:
    taker = Taker(2)
    queue = LineQueue(taker, 1, 100)
    for line in (b"first\n", b"second\n", b"third\n"):
        queue.add(line, FIRST)
    queue.flush()
    assert queue.trim() == [FIRST, FIRST]
    taker.room = 100
    queue.flush()
    assert taker.data == b"first\n"


def test_error_is_raised_and_nothing_is_lost() -> None:
    def full(data: bytes) -> int:
        raise OSError(28, "No space left on device")

    queue = LineQueue(full, 10, 100)
    queue.add(b"line\n", FIRST)
    with pytest.raises(OSError):
        queue.flush()
    assert len(queue) == 1
