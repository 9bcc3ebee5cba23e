"""What is printed at the end of a run."""

from __future__ import annotations

import gc
import os
import sys

import pytest

from made import lines, reason
from proctally import cli
from proctally.cli import main, streams
from proctally.linux import child
from proctally.tracking.config import Options
from proctally.tracking.session import Ended

KILLS = {"oom_kills": 4, "oom_cgroup": "/x", "memory_limit_bytes": 100 << 20}


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("cgroup", "proctally job  ok, but 4 processes were killed for memory  1 min 40 s\n"),
        ("machine", ""),
    ],
)
def test_quiet_run_shows_oom_kills_all_the_same(monkeypatch: pytest.MonkeyPatch, place: str, text: str) -> None:
    shown: list[str] = []
    monkeypatch.setattr(streams, "say", shown.append)
    options = Options()
    options.quiet = True
    summary = lines(reason=reason("exit_status", **KILLS, oom_place=place))[-1]
    assert streams.show_end(Ended(0, "job", summary, None, ["a warning"]), options, {}) == 0
    assert shown == [f"{text}proctally: a warning\n"]
    summary = lines(reason=reason("exit_status"))[-1]
    assert streams.show_end(Ended(3, "job", summary, None, []), options, {}) == 3
    assert len(shown) == 1


def test_internal_error_is_one_line_without_escapes(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ImportError("\n\nPLEASE READ\n\x1b[31m" + 1000 * "x")

    monkeypatch.setattr(main, "script", fail)
    monkeypatch.setattr(child, "set_interrupt", lambda *, raises: None)
    monkeypatch.setattr(cli, "REACHING", ())
    monkeypatch.setattr(gc, "set_threshold", id)
    monkeypatch.setattr(os, "_exit", sys.exit)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.setattr(sys, "argv", ["proctally", "ls"])
    with pytest.raises(SystemExit):
        cli.start()
    text = capfd.readouterr().err
    assert text.startswith(r"proctally: internal error (ImportError: PLEASE READ \x1b[31mxxx")
    assert text.endswith(")\n") and text.count("\n") == 1 and len(text) < 400
