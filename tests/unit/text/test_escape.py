"""Untrusted text made safe."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proctally.text.escape import LABEL_CHARACTERS, decode_name, label, printable, safe_name

patient = settings(deadline=None)


# -- smaps_rollup, schedstat, children ---------------------------------------------------------------------------


@patient
@given(st.binary(max_size=40))
def test_text_of_any_name_is_strict(name: bytes) -> None:
    shown = decode_name(name)
    assert bool(shown.encode("utf-8")) == bool(name)
    try:
        assert shown == name.decode()
    except UnicodeDecodeError:
        assert "\\x" in shown


# -- where it lies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("make", "make"),
        ("gcc-12.3_x", "gcc-12.3_x"),
        ("", "run"),
        ("..", "run"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("-rf", "rf"),
        ("naïve ☃\n", "na_ve___"),
        ("x" * 100, "x" * 40),
        ("٣", "_"),
    ],
)
def test_safe_name(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@patient
@given(st.text(max_size=60))
def test_safe_name_is_one_ordinary_part_of_a_path(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,39}", safe_name(name), re.ASCII)


# -- names of strangers ------------------------------------------------------------------------------------------


@patient
@given(st.text(max_size=30))
def test_printable(name: str) -> None:
    safe = printable(name)
    assert safe.isprintable()
    assert printable(safe) == safe
    if name.isprintable():
        assert safe == name


# -- labels ------------------------------------------------------------------------------------------------------


def test_label_has_no_control_characters() -> None:
    assert label("a\x1b[31m\nb\x9b\u202e\ud800") == "a\\x1b[31m\\nb\\x9b\\u202e\\ud800"
    assert label('na"me\\ é') == 'na"me\\ é'
    assert label("x" * 1000) == "x" * LABEL_CHARACTERS
