"""The screen of `top` on a real terminal."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from places import SUPPORT
from terminal_session import CTRL_BACKSLASH, CTRL_C, CTRL_Z, Terminal
from tracked import PROCTALLY, PYTHON, Lines, Puppet, environment, runs, until

FRAME = b"\x1b[1;1H"  # the cursor goes to the first row, which tells the time
ENTER_SCREEN, LEAVE_SCREEN, SHOW_CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


# -- on a terminal ---------------------------------------------------------------------------------------------------


class OnTerminal:
    """`proctally top` in front of a terminal, under a shell with job control."""

    def __init__(self, terminal: Terminal, home: Path, *command: str) -> None:
        self.terminal = terminal
        self.before = termios.tcgetattr(terminal.theirs)
        told, self.commands = os.pipe()
        self._answers, said = os.pipe()
        self.says = Lines(self._answers)
        self.shell = subprocess.Popen(
            [*PYTHON, str(SUPPORT / "foreground.py"), str(told), str(said), *command],
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
    terminal.shows(b"cores ")
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
        (signal.SIGUSR1, "killed 10"),
        (signal.SIGRTMIN, "killed 34"),
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
        "import sys, proctally.views.top.screen as s\n"
        "was, n = s.page, [0]\n"
        "def page(*a):\n"
        "    n[0] += 1\n"
        "    return was(*a) if n[0] < 3 else 1 / 0\n"
        "s.page = page\n"
        "from proctally.cli.main import main\n"
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
            terminal.shows("▾".encode())
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
            until(lambda: "used, " in tmux("capture-pane", "-p"), "the run")
            lines = tmux("capture-pane", "-p").splitlines()
            assert len(lines) == 24 and lines[-1].startswith("q quit")
            puppet.exit(3)
            until(lambda: ": exit status 3" in tmux("capture-pane", "-p"), "its end")
            tmux("send-keys", "q")
            until(lambda: "left 0" in tmux("capture-pane", "-p"), "the shell again")
            assert "failed" not in tmux("capture-pane", "-p")
        finally:
            tmux("kill-server")
