"""Colours on a real terminal."""

from __future__ import annotations

import os
import pty

import pytest

from proctally.text.terminal import colour_wanted

# -- colour ------------------------------------------------------------------------------------------------------


def on_a_terminal(environment: dict[str, str]) -> bool:
    """What `colour_wanted` says in a process whose stderr is a terminal."""
    child, terminal = pty.fork()
    if child == 0:
        os._exit(40 + colour_wanted(environment))
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.WEXITSTATUS(status) in (40, 41)
    return os.WEXITSTATUS(status) == 41


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "linux"}, True),
        ({}, False),
        ({"TERM": ""}, False),
        ({"TERM": "unknown"}, False),
        ({"TERM": "vt100"}, False),
        ({"TERM": "xterm-mono"}, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm", "NO_COLOR": "0"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": "xterm", "CLICOLOR": "0"}, False),
        ({"TERM": "xterm", "CLICOLOR": "1"}, True),
        ({"TERM": "xterm", "FORCE_COLOR": "0"}, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True),
    ],
)
def test_colour_on_a_terminal(environment: dict[str, str], wanted: bool) -> None:
    assert on_a_terminal(environment) is wanted
