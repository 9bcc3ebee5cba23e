"""Lines that mark phases."""

from __future__ import annotations

import os
from typing import Any

import pytest

from proctally.tracking.marks import LONGEST_NAME, Marks, parse

# -- the pipe ----------------------------------------------------------------------------------------------------------


def test_no_descriptor_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(flags: int) -> tuple[int, int]:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(os, "pipe2", refuse)
    marks = Marks(lambda: 1.0, lambda: 1.0)
    assert (marks.path, marks.fds(0), marks.take(0), marks.last(0), marks.timeout(0)) == (None, [], [], [], None)
    marks.close()


# -- strangers' bytes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        (b"fit", ("fit", "next", None)),
        (b"  two words \t", ("two words", "next", None)),
        (b"\xff\xfe", ("\\xff\\xfe", "next", None)),
        (b"x" * 999, ("x" * LONGEST_NAME, "next", None)),
        (b'{"name":"a","event":"begin","at":5}', ("a", "begin", 5.0)),
        (b'{"event":"end"}', (None, "end", None)),
        (b'{"name":"\\ud800"}', ("\\ud800", "next", None)),
        (b"", None),
        (b"   ", None),
        (b"{", None),
        (b"{}", None),
        (b'{"name":""}', None),
        (b'{"name":5}', None),
        (b'{"name":"a","event":"other"}', None),
        (b'{"name":"a","event":["end"]}', None),
        (b'{"name":"a","at":"soon"}', None),
        (b'{"name":"a","at":-1}', None),
        (b'{"name":"a","at":NaN}', None),
        (b'{"name":"a","at":Infinity}', None),
        (b'{"name":"a","at":[]}', None),
        (b'{"a":' * 1000, None),
    ],
)
def test_lines(line: bytes, parsed: Any) -> None:
    assert parse(line) == parsed
