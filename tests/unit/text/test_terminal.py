"""Colours only on a terminal."""

from __future__ import annotations

import os

import pytest

from proctally.text.terminal import colour_wanted, columns, knows_blocks

# -- colour ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": ""}, False),
        ({"FORCE_COLOR": "0", "CLICOLOR_FORCE": "1"}, False),
        ({"FORCE_COLOR": "3", "CLICOLOR": "0"}, True),
        ({"CLICOLOR_FORCE": "1"}, True),
        ({"CLICOLOR_FORCE": "0"}, False),
        ({"CLICOLOR": "1"}, False),
        ({"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_variables_decide_about_colour_without_terminal(environment: dict[str, str], wanted: bool) -> None:
    reader, writer = os.pipe()
    try:
        assert colour_wanted(environment | {"TERM": "xterm"}, writer) is wanted
    finally:
        os.close(reader)
        os.close(writer)


def test_no_colour_where_there_is_no_terminal() -> None:
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        assert colour_wanted({"TERM": "xterm"}) is False
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


# -- width and characters ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "width"), [("", 80), ("60", 60), ("7", 40), ("999", 200), ("-5", 80), ("x", 80), ("9" * 50, 80)]
)
def test_width_without_terminal_is_that_of_columns(given: str, width: int) -> None:
    reader, writer = os.pipe()
    try:
        assert columns({"COLUMNS": given}, writer) == width
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(
    ("variables", "known"),
    [
        ({"LANG": "de_DE.UTF-8"}, True), ({"LANG": "en_US.utf8"}, True), ({"LANG": "C"}, False), ({}, False),
        ({"LANG": "C.UTF-8", "LC_ALL": "C"}, False), ({"LC_CTYPE": "C.UTF-8", "LANG": "C"}, True),
    ],
)  # fmt: skip
def test_locale_of_utf8_knows_blocks(variables: dict[str, str], known: bool) -> None:
    assert knows_blocks(variables) is known
