"""Keys and rows of the screen of `top`, without a terminal."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

urwid = pytest.importorskip("urwid", reason="the extra top is not installed")
from proctally.record.writer import json_line  # noqa: E402
from proctally.views.top.chooser import Running  # noqa: E402
from proctally.views.top.followed import Followed  # noqa: E402
from proctally.views.top.line import Signs  # noqa: E402
from proctally.views.top.scene import Scene  # noqa: E402
from proctally.views.top.screen import PALETTE, Screen  # noqa: E402
from proctally.views.top.table import View  # noqa: E402
from scenes import EVIL, FAMILY, Written, header, of_record, scene, told  # noqa: E402
from writing import held  # noqa: E402


class Watched:
    """Something to watch that never changes by itself."""

    def __init__(self, what: Scene) -> None:
        self.scene = what
        self.ticks = 0
        self.is_closed = False

    def tick(self) -> bool:
        self.ticks += 1
        return True

    def scan(self) -> float | None:
        return None

    def close(self) -> None:
        self.is_closed = True


class Driven:
    """The main loop of urwid with keys from the test, and what it draws."""

    def __init__(self, what: Scene | None, running: Running | None = None, size: tuple[int, int] = (80, 24)) -> None:
        self.size = size
        self.watched = None if what is None else Watched(what)
        watched: Any = self.watched
        self.screen = Screen(watched, running, interval=1.0, view=View("pid"), signs=Signs(ascii_only=False))
        self.loop = urwid.MainLoop(self.screen.sheet, PALETTE, handle_mouse=False)
        self.loop.screen_size = size

    def press(self, *keys: str) -> list[str]:
        self.loop.process_input(list(keys))
        return self.lines()

    def lines(self) -> list[str]:
        canvas = self.screen.sheet.render(self.size, focus=True)
        return [line.decode() for line in canvas.text]

    def pids(self) -> list[str]:
        return [line.split()[0] for line in self.lines() if " p" in line and line.split()[0].isdecimal()]

    def chosen(self) -> str:
        canvas = self.screen.sheet.render(self.size, focus=True)
        return next(
            b"".join(text for _, _, text in row).decode().split()[0]
            for row in canvas.content()
            if any(style == "chosen" for style, _, _ in row)
        )


def test_keys_fold_and_unfold() -> None:
    driven = Driven(scene(*FAMILY))
    assert driven.pids() == ["10", "11", "12", "13"]
    assert driven.press("down", "down", "down") and driven.chosen() == "12"
    driven.press(" ")
    assert driven.pids() == ["10", "11", "12"]
    driven.press("left")
    assert driven.pids() == ["10", "11", "12"], "left folds, and no more"
    driven.press("right")
    assert driven.pids() == ["10", "11", "12", "13"]
    driven.press("-")
    assert driven.pids() == ["10", "11", "12"], "all but the root"
    driven.press("home", "enter")
    assert driven.pids() == ["10"]
    driven.press("+")
    assert driven.pids() == ["10", "11", "12", "13"]


def test_keys_sort() -> None:
    driven = Driven(scene(*FAMILY))
    for key, first in (("c", "12"), ("p", "11"), ("m", "12"), ("n", "11"), ("w", "11")):
        driven.press(key)
        assert driven.pids()[1] == first, key
    driven.press("c", "t")
    assert driven.pids()[0] == "13", "a list"


def test_the_choice_stays_within_the_rows() -> None:
    driven = Driven(scene(*FAMILY))
    driven.press("up")
    assert driven.chosen() == "10"
    driven.press("end", "down")
    assert driven.chosen() == "13"
    driven.press("page up", "k")
    assert driven.chosen() == "10"
    driven.press("j")
    assert driven.chosen() == "11"


def test_find_filters_while_it_is_typed() -> None:
    driven = Driven(scene(*FAMILY))
    assert driven.press("/", "p", "1", "q")[-1].startswith("find: p1q_"), "q is a letter here"
    assert driven.pids() == []
    driven.press("backspace", "2")
    assert driven.pids() == ["12"]
    assert driven.press("enter")[-1].startswith("find: p12")
    driven.press("c")
    assert driven.screen.view.sort == "cpu", "a key again"
    driven.press("esc")
    assert len(driven.pids()) == 4


def test_help_and_holding() -> None:
    driven = Driven(scene(*FAMILY))
    assert any("sort by CPU" in line for line in driven.press("?"))
    assert driven.press("x")[1].startswith("cores")
    driven.screen.tick()
    assert driven.watched is not None and driven.watched.ticks == 1
    assert driven.press("z")[-1].startswith("HELD")
    driven.screen._next = 0.0
    driven.screen.tick()
    assert driven.watched.ticks == 1
    driven.press("z")
    driven.screen.tick()
    assert driven.watched.ticks == 2


@pytest.mark.parametrize("keys", [["q"], ["?", "q"]])
def test_q_leaves(keys: list[str]) -> None:
    driven = Driven(scene(*FAMILY))
    with pytest.raises(urwid.ExitMainLoop):
        driven.press(*keys)


def test_whole_command_lines() -> None:
    made = scene(*FAMILY)
    made.line_of = lambda process: f"{process.command} --with={EVIL}"
    assert any("p13 --with=\\x1b]0;owned" in line for line in Driven(made, size=(160, 24)).press("l"))


def test_palette_has_no_background_of_ours() -> None:
    assert all(background == "" for _, _, background, *_ in PALETTE)


def test_colours_are_known() -> None:
    made = scene(*FAMILY)
    made.notes = ["a note"]
    names = {name for name, *_ in PALETTE}
    driven = Driven(made)
    driven.press("down")
    for keys in ([], ["?"]):
        driven.press(*keys)
        canvas = driven.screen.sheet.render((80, 24))
        assert {style for row in canvas.content() for style, _, _ in row} - {None, "plain"} <= names


def test_wide_and_odd_names_keep_their_columns() -> None:
    driven = Driven(
        scene(told(1, command="変な名前" * 20), told(2, command="e\u0301\u200b\u202e"), told(3, command="\udcff"))
    )
    for size in ((80, 24), (41, 10), (7, 3)):
        driven.size = size
        canvas = driven.screen.sheet.render(size)
        assert (canvas.cols(), canvas.rows()) == size


def test_a_run_is_chosen_from_those_that_go_on(tmp_path: Path) -> None:
    place = tmp_path / "runs"
    place.mkdir()
    driven = Driven(None, Running({"PROCTALLY_HOME": str(tmp_path)}))
    lines = driven.lines()
    assert any("no tracked job of yours is running" in line for line in lines)
    assert not any("the last runs" in line for line in lines)
    for number in range(5):
        ended = json_line(header(run_id=f"{number}" * 32, name=f"old{number}", started_at=time.time() - 100 - number))
        (place / f"2025010{number}T000000Z-x-{number}.jsonl").write_bytes(
            ended + json_line({"type": "summary", "verdict": "ok"})
        )
    driven.screen._next = 0.0
    driven.screen.tick()
    lines = driven.lines()
    assert any("proctally report ID" in line for line in lines)
    assert [line.split()[0] for line in lines if "old" in line] == ["00000000", "11111111", "22222222"]
    driven.press("enter", "down")
    trackers = []
    for number, name in enumerate(("first", "second", EVIL)):
        path = place / f"2026010{number}T000000Z-x-{number}.jsonl"
        path.write_bytes(json_line(header(run_id=f"{number}" * 32, name=name, started_at=time.time() - number)))
        trackers.append(held(path))
    (place / "20260109T000000Z-x-9.jsonl").write_bytes(
        json_line(header()) + json_line({"type": "summary", "verdict": "ok"})
    )
    driven.screen._next = 0.0
    driven.screen.tick()
    lines = driven.lines()
    assert any("Enter shows the chosen run" in line for line in lines)
    assert [line.split()[0] for line in lines[3:6]] == ["00000000", "11111111", "22222222"]
    assert not any("\x1b" in line for line in lines)
    trackers[1].write(json_line(of_record(5.0)))
    driven.press("down", "enter")
    driven.screen.tick()
    assert driven.lines()[0].startswith("second  job -x ")
    assert "peak 1.00" in driven.lines()[1]
    driven.press("b")
    driven.screen.tick()
    assert driven.lines()[0] == "proctally top: running jobs".ljust(80)
    driven.press("up", "up", "down")
    assert driven.chosen() == "11111111"
    for tracker in trackers:
        tracker.close()


def test_a_record_that_is_written_often_is_drawn_as_often_as_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written(tmp_path / "r.jsonl", interval_seconds=0.05)
    followed = Followed(str(written.path), "last")
    screen = Screen(followed, None, interval=1.0, view=View(), signs=Signs(ascii_only=False))
    drawn: list[float] = []
    begun = now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(screen.sheet, "renew", lambda: drawn.append(now))
    while now < begun + 10:
        written.add(of_record(now - begun))
        now += screen.tick()
    assert 9 <= len(drawn) <= 11
    followed.close()
