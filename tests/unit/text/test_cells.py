"""Text in the cells of a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctally.text.cells import aligned, bar, columns_of, cut, cut_middle, indented, wrapped

WORDS = st.text(st.sampled_from("ab 名é\u0301…-"), max_size=60)


def test_combining_characters_take_no_cells() -> None:
    assert (columns_of("é"), columns_of("e\u0301"), columns_of("名前"), columns_of("\u20dd")) == (1, 1, 4, 0)


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("abcdefghij", 10, "abcdefghij"), ("abcdefghij", 7, "abc…hij"), ("abcdefghij", 2, "a…"), ("abc", 1, "…"),
        ("名前名前", 7, "名前…前"), ("abcdee\u0301fgh", 7, "abc…fgh"),
        ("/home/me/very/long/name.txt", 12, "/home/…e.txt"),
    ],
)  # fmt: skip
def test_middle_of_long_name_is_cut(text: str, width: int, shown: str) -> None:
    assert cut_middle(text, width) == shown
    assert columns_of(cut_middle(text, width, "~")) <= width


@given(WORDS, st.integers(3, 20))
def test_text_fits_into_its_cells(text: str, width: int) -> None:
    assert columns_of(cut(text, width)) <= width and columns_of(cut_middle(text, width)) <= width
    lines = wrapped(text, width, width)
    assert all(columns_of(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_number_and_its_unit_stay_in_one_line() -> None:
    text = "computing 84 %, waiting 3 min 04 s for 1.5 GiB of 2 cores, 94.1 MiB/s with head-room by sh x 48"
    for width in range(12, 60):
        lines = wrapped(text, width, width)
        starts = [line.split()[0].rstrip(",") for line in lines]
        assert not {"%", "min", "s", "GiB", "MiB/s", "cores", "04", "48", "room"}.intersection(starts), width


def test_table_is_as_wide_as_its_cells() -> None:
    assert aligned([("a", "1", "x"), ("名前", "23", "")], (0, 2)) == ["a      1  x", "名前  23"]


def test_continued_lines_are_indented() -> None:
    assert indented("one two three", "  - ", 11) == ["  - one two", "    three"]
    assert indented("", "  - ", 11) == ["  -"]


@given(st.lists(st.floats(0, 1e6), max_size=5), st.integers(1, 60))
def test_bar_fills_its_cells(shares: list[float], width: int) -> None:
    drawn = bar(list(zip("abcde", shares, strict=False)), width)
    assert len(drawn) == (width if sum(shares) > 0 else 0)
    assert drawn == "".join(sorted(drawn)), "the parts keep their order"
    for sign, share in zip("abcde", shares, strict=False):
        assert abs(drawn.count(sign) - (share / sum(shares) * width if sum(shares) else 0)) <= 1.000001
