"""The live view on a terminal: its keys, what it writes, and that the terminal is given back whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

urwid = pytest.importorskip("urwid", reason="the extra top is not installed")

from proctally.record import json_line  # noqa: E402
from proctally.top.followed import Followed  # noqa: E402
from proctally.top.layout import Signs, View  # noqa: E402
from proctally.top.running import Running  # noqa: E402
from proctally.top.scene import Scene  # noqa: E402
from proctally.top.screen import PALETTE, Screen  # noqa: E402
from test_terminal import CTRL_BACKSLASH, CTRL_C, CTRL_Z, Terminal  # noqa: E402
from test_top import EVIL, FAMILY, Written, header, of_record, scene, told  # noqa: E402
from tracked import PROCTALLY, PYTHON, TESTS, Lines, Puppet, environment, runs, until  # noqa: E402

FRAME = b"\x1b[1;1H"  # the cursor goes to the first row, which tells the time
ENTER_SCREEN, LEAVE_SCREEN, SHOW_CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


class Watched:
    """Something to watch that never changes by itself."""

    def __init__(self, what: Scene) -> None:
        self.scene = what
        self.ticks = 0
        self.is_closed = False

    def tick(self) -> bool:
        self.ticks += 1
        return True

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
    for key, first in (("c", "12"), ("p", "11"), ("m", "12"), ("n", "11")):
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


def test_help_and_holding() -> None:
    driven = Driven(scene(*FAMILY))
    assert any("sort by CPU" in line for line in driven.press("?"))
    assert driven.press("x")[1].startswith("CPU")
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
    assert any("no tracked job of yours is running" in line for line in driven.lines())
    driven.press("enter", "down")
    for number, name in enumerate(("first", "second", EVIL)):
        path = place / f"2026010{number}T000000Z-x-{number}.jsonl"
        path.write_bytes(json_line(header(run_id=f"{number}" * 32, name=name, started_at=time.time() - number)))
    (place / "20260109T000000Z-x-9.jsonl").write_bytes(
        json_line(header()) + json_line({"type": "summary", "verdict": "ok"})
    )
    driven.screen.tick()
    lines = driven.lines()
    assert [line.split()[0] for line in lines[3:6]] == ["00000000", "11111111", "22222222"]
    assert not any("\x1b" in line for line in lines)
    with (place / "20260101T000000Z-x-1.jsonl").open("ab") as file:
        file.write(json_line(of_record(5.0)))
    driven.press("down", "enter")
    driven.screen.tick()
    assert driven.lines()[0].startswith("second: job -x  run 11111111")
    assert "most 1.00" in driven.lines()[1]
    driven.press("b")
    driven.screen.tick()
    assert driven.lines()[0] == "proctally top: running jobs".ljust(80)
    driven.press("up", "up", "down")
    assert driven.chosen() == "11111111"


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


# -- on a terminal ---------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    try:
        yield made
    finally:
        made.close()


class OnTerminal:
    """`proctally top` in front of a terminal, under a shell with job control."""

    def __init__(self, terminal: Terminal, home: Path, *command: str) -> None:
        self.terminal = terminal
        self.before = termios.tcgetattr(terminal.theirs)
        told, self.commands = os.pipe()
        self._answers, said = os.pipe()
        self.says = Lines(self._answers)
        self.shell = subprocess.Popen(
            [*PYTHON, str(TESTS / "foreground.py"), str(told), str(said), *command],
            env=environment(home, TERM="xterm-256color", LC_ALL="C.UTF-8"),
            pass_fds=(told, said),
            **terminal.popen(),
        )
        os.close(told)
        os.close(said)
        self.pid = int(self.says.next().split()[1])

    def __enter__(self) -> OnTerminal:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.shell.kill()
        self.shell.wait()
        os.close(self.commands)
        os.close(self._answers)

    def is_given_back(self) -> bool:
        """Whether the terminal does what it did before."""
        return termios.tcgetattr(self.terminal.theirs) == self.before


def watching(terminal: Terminal, home: Path, *more: str) -> OnTerminal:
    made = OnTerminal(terminal, home, *PROCTALLY, "top", str(os.getpid()), "-i", "0.2", *more)
    terminal.shows(b" cores")
    assert not made.is_given_back()
    return made


@pytest.mark.parametrize(
    ("how", "end"),
    [
        ("q", "exited 0"),
        (CTRL_C, "exited 0"),
        (CTRL_BACKSLASH, "killed 3"),
        (signal.SIGTERM, "killed 15"),
        (signal.SIGHUP, "killed 1"),
        ("--duration", "exited 0"),
        ("--count", "exited 0"),
    ],
)
def test_the_terminal_is_given_back(terminal: Terminal, tmp_path: Path, how: Any, end: str) -> None:
    options = {"--duration": ("--duration", "0.5"), "--count": ("--count", "2")}.get(how, ())
    with watching(terminal, tmp_path, *options) as top:
        if how in ("q", CTRL_C, CTRL_BACKSLASH):
            terminal.type(how.encode() if how == "q" else how)
        elif isinstance(how, signal.Signals):
            os.kill(top.pid, how)
        assert top.says.next() == end
        assert top.is_given_back()
        shown = terminal.shown()
        assert LEAVE_SCREEN in shown and shown.rindex(SHOW_CURSOR) > 0
        assert b"Traceback" not in shown


def test_a_failure_gives_the_terminal_back_first(terminal: Terminal, tmp_path: Path) -> None:
    code = (
        "import sys, proctally.top.screen as s\n"
        "was, n = s.page, [0]\n"
        "def page(*a):\n"
        "    n[0] += 1\n"
        "    return was(*a) if n[0] < 3 else 1 / 0\n"
        "s.page = page\n"
        "from proctally.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    with OnTerminal(terminal, tmp_path, sys.executable, "-c", code, "top", str(os.getpid()), "-i", "0.1") as top:
        assert top.says.next() == "exited 1"
        assert top.is_given_back()
        shown = terminal.shown()
        assert 0 < shown.index(LEAVE_SCREEN) < shown.index(b"ZeroDivisionError")


def test_ctrl_z_and_fg(terminal: Terminal, tmp_path: Path) -> None:
    with watching(terminal, tmp_path) as top:
        for _ in range(2):
            terminal.type(CTRL_Z)
            assert top.says.next() == f"stopped {signal.SIGTSTP.value}"
            assert top.is_given_back()
            assert LEAVE_SCREEN in terminal.shown()
            os.write(top.commands, b"fg\n")
            assert top.says.next() == "continued"
            terminal.shows(ENTER_SCREEN)
            terminal.shows(b" cores")
            assert not top.is_given_back()
        terminal.type(b"q")
        assert top.says.next() == "exited 0"
        assert top.is_given_back()


def test_sigstop_and_fg(terminal: Terminal, tmp_path: Path) -> None:
    """Nobody sees that coming: the shell takes the terminal, and what is in front again has to have its keys."""
    with watching(terminal, tmp_path) as top:
        os.kill(top.pid, signal.SIGSTOP)
        assert top.says.next() == f"stopped {signal.SIGSTOP.value}"
        termios.tcsetattr(terminal.theirs, termios.TCSANOW, top.before)
        os.write(top.commands, b"fg\n")
        assert top.says.next() == "continued"
        terminal.shows(ENTER_SCREEN)
        terminal.shows(b" cores")
        assert not top.is_given_back()
        terminal.type(b"q")
        assert top.says.next() == "exited 0"
        assert top.is_given_back()


def test_in_the_background_it_waits_for_its_terminal(terminal: Terminal, tmp_path: Path) -> None:
    command = [*PROCTALLY, "top", str(os.getpid()), "-i", "0.2"]
    with OnTerminal(terminal, tmp_path, "--background", *command) as top:
        assert top.says.next() == f"stopped {signal.SIGTTOU.value}"
        assert terminal.shown() == b"" and top.is_given_back()
        os.write(top.commands, b"fg\n")
        assert top.says.next() == "continued"
        terminal.shows(b" cores")
        terminal.type(b"q")
        assert top.says.next() == "exited 0"
        assert top.is_given_back()


def test_what_is_watched_is_killed(terminal: Terminal, tmp_path: Path) -> None:
    job = subprocess.Popen(["sleep", "60"])
    try:
        with OnTerminal(terminal, tmp_path, *PROCTALLY, "top", str(job.pid), "-i", "0.1") as top:
            terminal.shows(b"sleep 60")
            job.kill()
            job.wait()
            terminal.shows(b"ended: the process and all that descended from it")
            terminal.type(b"q")
            assert top.says.next() == "exited 0"
            assert top.is_given_back()
    finally:
        job.kill()
        job.wait()


def test_a_terminal_that_goes_away(tmp_path: Path) -> None:
    terminal = Terminal()
    with watching(terminal, tmp_path) as top:
        os.close(terminal.ours)
        until(lambda: not runs(top.pid), "its end: the kernel tells it, and its shell, by SIGHUP")
    os.close(terminal.theirs)


def test_the_size_of_the_window(terminal: Terminal, tmp_path: Path) -> None:
    with watching(terminal, tmp_path) as top:
        terminal.resize(40, 150)
        os.kill(top.pid, signal.SIGWINCH)
        terminal.shows(b"\x1b[40;1H")
        terminal.resize(5, 30)
        os.kill(top.pid, signal.SIGWINCH)
        terminal.shows(b"\x1b[5;1H")
        terminal.type(b"q")
        assert top.says.next() == "exited 0"


def test_only_rows_that_changed_are_written(terminal: Terminal, tmp_path: Path) -> None:
    """A tree of 12 that sleeps: the head moves, the table stands."""
    sleepers = " ".join(["sleep 60 &"] * 12)
    job = subprocess.Popen(["sh", "-c", f"{sleepers} wait"], start_new_session=True)
    try:
        with OnTerminal(terminal, tmp_path, *PROCTALLY, "top", str(job.pid), "-i", "0.1") as top:
            terminal.shows(b"13 processes")
            for _ in range(3):  # until all that is read slowly is there
                terminal.shows(FRAME)
            pictures = [terminal.shows(FRAME) for _ in range(5)]
            assert all(b"pid %d" % job.pid in picture for picture in pictures)
            assert not any("▾".encode() in picture for picture in pictures), "the row of the root was written again"
            assert max(map(len, pictures)) < 900
            terminal.type(b"q")
            assert top.says.next() == "exited 0"
    finally:
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_in_tmux(tmp_path: Path) -> None:
    """In a real terminal: a run of another shell is chosen, watched to its end, and left."""
    socket = str(tmp_path / "socket")

    def tmux(*words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", socket, "-f", "/dev/null", *words],
            env=environment(tmp_path, LC_ALL="C.UTF-8", TERM="xterm-256color"),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout

    with Puppet(tmp_path, "-i", "0.2", "-n", "<b>job\x1b[31m") as puppet:
        until(lambda: any(tmp_path.glob("runs/*")), "a record")
        words = " ".join(map(str, [*PROCTALLY, "top", "-i", "0.2"]))
        tmux("new-session", "-d", "-x", "80", "-y", "24", "sh")
        try:
            tmux("send-keys", f"{words}; echo left $?", "Enter")
            until(lambda: "running jobs" in tmux("capture-pane", "-p"), "the list")
            assert "<b>job\\x1b[31m" in tmux("capture-pane", "-p")
            tmux("send-keys", "Enter")
            until(lambda: "CPU by the best source" in tmux("capture-pane", "-p"), "the run")
            lines = tmux("capture-pane", "-p").splitlines()
            assert len(lines) == 24 and lines[-1].startswith("q quit")
            puppet.exit(3)
            until(lambda: "failed: exit status 3" in tmux("capture-pane", "-p"), "its end")
            tmux("send-keys", "q")
            until(lambda: "left 0" in tmux("capture-pane", "-p"), "the shell again")
            assert "failed" not in tmux("capture-pane", "-p")
        finally:
            tmux("kill-server")
