"""Colours only on a terminal."""

from __future__ import annotations

import os

from proctally.text.terminal import colour_wanted

# -- colour ------------------------------------------------------------------------------------------------------


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
