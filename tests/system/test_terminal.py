"""`proctally run` on a terminal: Ctrl-C, Ctrl-Z, the size of the window, and jobs in the background."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import termios
import time
from pathlib import Path

import pytest

from places import SUPPORT
from terminal_session import CTRL_BACKSLASH, CTRL_C, CTRL_Z, Terminal
from tracked import PATIENCE, PROCTALLY, PYTHON, Lines, Puppet, environment, record, samples, state, until, whole

STOP_SECONDS = 0.5


class Shell:
    """A puppet on a terminal, under a shell that has job control (foreground.py)."""

    def __init__(
        self, terminal: Terminal, home: Path, *options: str, background: bool = False, reports: tuple[str, ...] = ()
    ) -> None:
        told, self._commands = os.pipe()
        self._answers, said = os.pipe()
        self.says = Lines(self._answers)
        words = [*PYTHON, str(SUPPORT / "foreground.py"), str(told), str(said)]
        try:
            self.puppet = Puppet(
                home,
                *options,
                reports=reports,
                before=(*words, "--background") if background else tuple(words),
                pass_fds=(told, said),
                **terminal.popen(),
            )
        finally:
            os.close(told)
            os.close(said)
        self.puppet.tracker = self._number("started")

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *ended: object) -> None:
        if self.puppet.process.poll() is None:
            try:
                self.tell("bg")
            except BrokenPipeError:
                pass
        os.close(self._commands)
        self.puppet.__exit__(*ended)
        os.close(self._answers)

    def tell(self, word: str) -> None:
        os.write(self._commands, word.encode() + b"\n")

    def _number(self, word: str) -> int:
        line = self.says.next()
        assert line.startswith(word), line
        return int(line.split()[1])

    def stopped(self) -> signal.Signals:
        """The signal by which the tracker was stopped, as its parent sees it."""
        return signal.Signals(self._number("stopped"))

    def continued(self) -> None:
        assert self.says.next() == "continued"

    def exits(self, status: int) -> int:
        """Let the job exit with this status; that of the tracker."""
        self.puppet.tell(f"os._exit({status})")
        return self._number("exited")


def test_job_sees_the_terminal_as_if_it_ran_bare(terminal: Terminal, tmp_path: Path) -> None:
    view = [*PYTHON, str(SUPPORT / "view.py")]
    before = termios.tcgetattr(terminal.theirs)
    seen = []
    for number, words in enumerate((view, [*PROCTALLY, "run", "-q", "--", *view])):
        out = tmp_path / f"view-{number}"
        process = subprocess.Popen([*words, str(out)], env=environment(tmp_path), **terminal.popen())
        assert process.wait(PATIENCE) == 0
        seen.append(json.loads(out.read_text()))
        del seen[-1]["session"]
    assert (seen[0]["terminals"], seen[0]["foreground"]) == ([True, True, True], True)
    assert seen[1] == seen[0]
    assert termios.tcgetattr(terminal.theirs) == before
    assert terminal.shown() == b""


def test_ctrl_c_reaches_the_job_once(terminal: Terminal, tmp_path: Path) -> None:
    with Shell(terminal, tmp_path, reports=("SIGINT",)) as shell:
        terminal.type(CTRL_C)
        shell.puppet.await_signal("SIGINT")
        shell.puppet.settle()
        assert shell.puppet.signals["SIGINT"] == 1
        assert shell.exits(7) == 7
    assert whole(record(tmp_path))["exit_code"] == 7


def test_ctrl_c_that_ends_the_job(terminal: Terminal, tmp_path: Path) -> None:
    with Shell(terminal, tmp_path) as shell:
        shell.puppet.do("signal.signal(signal.SIGINT, signal.SIG_DFL)")
        terminal.type(CTRL_C)
        assert shell.says.next() == f"exited {128 + signal.SIGINT}"
    assert whole(record(tmp_path))["signal"] == signal.SIGINT
    assert terminal.shown() in (b"", b"^C")


def test_tracker_outlives_ctrl_c_that_the_job_ignores(terminal: Terminal, tmp_path: Path) -> None:
    with Shell(terminal, tmp_path, reports=("SIGQUIT",)) as shell:
        shell.puppet.do("signal.signal(signal.SIGINT, signal.SIG_IGN)")
        for _ in range(3):
            terminal.type(CTRL_C)
            shell.puppet.settle()
        terminal.type(CTRL_BACKSLASH)
        shell.puppet.await_signal("SIGQUIT")
        shell.puppet.settle()
        assert shell.puppet.signals["SIGQUIT"] == 1
        assert shell.puppet.ask("os.getppid()") == str(shell.puppet.tracker)
        assert shell.exits(6) == 6
    assert whole(record(tmp_path))["exit_code"] == 6


def test_summary_comes_after_ctrl_c(terminal: Terminal, tmp_path: Path) -> None:
    script = 'trap "echo trapped; exit 9" INT; echo ready; while :; do sleep 0.05; done'
    words = [*PROCTALLY, "run", "--", "sh", "-c", script]
    process = subprocess.Popen(words, env=environment(tmp_path, NO_COLOR="1"), **terminal.popen())
    terminal.shows(b"ready")
    terminal.type(CTRL_C)
    assert process.wait(PATIENCE) == 9
    shown = terminal.shown().decode().replace("\r\n", "\n")
    assert shown.index("trapped\n") < shown.index("proctally sh  failed  ") < shown.index("s: exit status 9\n")
    assert "\x1b" not in shown


def stop_and_continue(terminal: Terminal, shell: Shell) -> float:
    """Ctrl-Z, a while, and on; the seconds for which all were stopped at least."""
    terminal.type(CTRL_Z)
    shell.stopped()
    begun = time.monotonic()
    until(lambda: state(shell.puppet.job) == "T", "the job is stopped")
    assert state(shell.puppet.tracker) == "T"
    time.sleep(STOP_SECONDS)
    ended = time.monotonic()
    shell.tell("fg")
    shell.continued()
    shell.puppet.settle()
    return ended - begun


def test_ctrl_z_stops_both_and_the_gap_is_no_interval(terminal: Terminal, tmp_path: Path) -> None:
    with Shell(terminal, tmp_path, "-i", "0.1", reports=("SIGCONT",)) as shell:
        gap = stop_and_continue(terminal, shell)
        gap += stop_and_continue(terminal, shell)
        assert shell.puppet.signals["SIGCONT"] >= 2
        assert shell.exits(3) == 3
    lines = record(tmp_path)
    assert whole(lines)["exit_code"] == 3
    taken = samples(lines)
    counted = sum(sample["interval_seconds"] or 0.0 for sample in taken)
    assert taken[-1]["elapsed_seconds"] >= gap
    assert counted <= taken[-1]["elapsed_seconds"] - gap + 0.01
    assert whole(lines)["tracker"]["late_samples"] < gap / 0.1, "what was due in the gap was not late"


def test_cores_are_those_of_the_time_that_the_job_could_run(terminal: Terminal, tmp_path: Path) -> None:
    with Shell(terminal, tmp_path, "-i", "60") as shell:
        shell.puppet.do("any(time.process_time() > 0.3 for _ in iter(int, 1))")  # busy until then
        stop_and_continue(terminal, shell)
        assert shell.exits(0) == 0
    taken = samples(record(tmp_path))
    busy = [sample for sample in taken if sample["tree"]["cpu_cores"]]
    assert busy[0]["tree"]["cpu_seconds"] >= 0.29, "a sample is taken when the job stops"
    assert busy[0]["interval_seconds"] * busy[0]["tree"]["cpu_cores"] >= 0.25


def test_ctrl_z_that_the_job_ignores_stops_nobody(terminal: Terminal, tmp_path: Path) -> None:
    with Shell(terminal, tmp_path, reports=("SIGINT",)) as shell:
        shell.puppet.do("signal.signal(signal.SIGTSTP, signal.SIG_IGN)")
        for count in (1, 2):
            terminal.type(CTRL_Z)
            terminal.type(CTRL_C)
            shell.puppet.await_signal("SIGINT", count)
            shell.puppet.settle()
        assert state(shell.puppet.tracker) != "T"
        assert shell.exits(5) == 5  # and the shell was told of nothing before it


@pytest.mark.parametrize("how", ["signal.SIGSTOP", "signal.SIGTSTP"])
def test_ctrl_z_for_which_the_job_prepares_itself(terminal: Terminal, tmp_path: Path, how: str) -> None:
    """Editors and pagers catch SIGTSTP, put the terminal in order, and stop themselves; some with SIGSTOP (ls)."""
    with Shell(terminal, tmp_path) as shell:
        handler = f"(signal.signal(signal.SIGTSTP, signal.SIG_DFL), os.kill(os.getpid(), {how}))"
        shell.puppet.do(f"signal.signal(signal.SIGTSTP, lambda *_: {handler})")
        stop_and_continue(terminal, shell)
        assert shell.exits(5) == 5


def test_job_that_stops_its_whole_group(terminal: Terminal, tmp_path: Path) -> None:
    with Shell(terminal, tmp_path) as shell:
        shell.puppet.tell("os.kill(0, signal.SIGTSTP)")
        shell.stopped()
        until(lambda: state(shell.puppet.job) == "T", "the job is stopped")
        shell.tell("fg")
        shell.continued()
        assert shell.puppet.do("pass") == []  # the answer to the first command
        shell.puppet.do("pass")
        assert shell.exits(5) == 5


def test_stopped_group_can_be_ended(terminal: Terminal, tmp_path: Path) -> None:
    """`kill %1` of a shell: SIGTERM, then SIGCONT, to the whole group."""
    with Shell(terminal, tmp_path, reports=("SIGTERM",)) as shell:
        terminal.type(CTRL_Z)
        shell.stopped()
        shell.tell(f"group {int(signal.SIGTERM)}")
        shell.tell("bg")
        shell.continued()
        shell.puppet.await_signal("SIGTERM")
        assert shell.exits(5) == 5
    assert whole(record(tmp_path))["exit_code"] == 5


def test_size_of_the_window(terminal: Terminal, tmp_path: Path) -> None:
    with Shell(terminal, tmp_path, reports=("SIGWINCH",)) as shell:
        terminal.resize(33, 111)
        shell.puppet.await_signal("SIGWINCH")
        shell.puppet.settle()
        assert shell.puppet.signals["SIGWINCH"] == 1
        assert shell.puppet.ask("tuple(os.get_terminal_size(0))") == "(111, 33)"
        assert shell.exits(0) == 0


def test_read_from_the_background_stops_both(terminal: Terminal, tmp_path: Path) -> None:
    with Shell(terminal, tmp_path, background=True) as shell:
        shell.puppet.tell("say(os.read(0, 100).decode().strip())")
        shell.stopped()
        assert (state(shell.puppet.job), state(shell.puppet.tracker)) == ("T", "T")
        shell.tell("fg")
        shell.continued()
        terminal.type(b"a line\n")
        assert shell.puppet.do("pass") == ["a line"]
        shell.puppet.do("pass")
        assert shell.exits(5) == 5


def test_write_from_the_background_stops_both_if_the_terminal_says_so(terminal: Terminal, tmp_path: Path) -> None:
    attributes = termios.tcgetattr(terminal.theirs)
    attributes[3] |= termios.TOSTOP
    termios.tcsetattr(terminal.theirs, termios.TCSANOW, attributes)
    with Shell(terminal, tmp_path, background=True) as shell:
        shell.puppet.tell("os.write(1, b'from behind')")
        shell.stopped()
        assert (state(shell.puppet.job), state(shell.puppet.tracker)) == ("T", "T")
        assert b"from behind" not in terminal.shown()
        shell.tell("fg")
        shell.continued()
        terminal.shows(b"from behind")
        assert shell.exits(5) == 5


def test_ctrl_c_is_not_for_a_job_in_the_background(terminal: Terminal, tmp_path: Path) -> None:
    with Shell(terminal, tmp_path, background=True, reports=("SIGINT",)) as shell:
        shell.puppet.settle()
        terminal.type(CTRL_C)  # for the group in front: the shell's own
        assert shell.puppet.wait() != 0
        shell.puppet.settle()
        assert shell.puppet.signals["SIGINT"] == 0


def test_hangup_of_the_terminal(terminal: Terminal, tmp_path: Path) -> None:
    """A terminal that goes away tells the leader of its session, and nobody else (kernel: tty_vhangup).

    `ssh -t host proctally run ...` and a window of a multiplexer: the tracker is that leader, which the job would be.
    """
    with Puppet(tmp_path, reports=("SIGHUP",), **terminal.popen()) as puppet:
        os.close(terminal.ours)
        os.close(terminal.theirs)
        try:
            puppet.await_signal("SIGHUP")
            puppet.settle()
            assert puppet.signals["SIGHUP"] == 1
            assert puppet.exit(5) == 5
        finally:
            terminal.ours, terminal.theirs = os.openpty()
    assert whole(record(tmp_path))["exit_code"] == 5


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_under_an_interactive_shell(terminal: Terminal, tmp_path: Path) -> None:
    env = environment(tmp_path, PS1="<prompt>", PS2="", HISTFILE="", INPUTRC="/dev/null", TERM="dumb")
    bash = subprocess.Popen(["bash", "--norc", "--noprofile", "--noediting", "-i"], env=env, **terminal.popen())
    try:
        terminal.shows(b"<prompt>")
        script = "'echo be''gun; read line; echo got $line; exit 6'"
        terminal.type(" ".join([*PROCTALLY, "run", "-q", "--", "sh", "-c", script, "\n"]).encode())
        terminal.shows(b"begun")
        terminal.type(CTRL_Z)
        assert b"Stopped" in terminal.shows(b"<prompt>")
        terminal.type(b"fg\n")
        terminal.shows(b"echo got")
        terminal.type(b"words\n")
        terminal.shows(b"got words")
        terminal.shows(b"<prompt>")
        terminal.type(b"echo status $? of $$\n")
        terminal.shows(b"status 6 of %d" % bash.pid)
    finally:
        bash.kill()
        bash.wait()
    assert whole(record(tmp_path))["exit_code"] == 6


@pytest.mark.parametrize(("keys", "number"), [(CTRL_C, signal.SIGINT), (CTRL_BACKSLASH, signal.SIGQUIT)])
@pytest.mark.parametrize("kind", ["attach", "system"])
def test_keys_end_what_tracks_on_its_own(
    terminal: Terminal, tmp_path: Path, kind: str, keys: bytes, number: int
) -> None:
    words = [kind, *([str(os.getpid())] if kind == "attach" else [])]
    process = subprocess.Popen([*PROCTALLY, *words], env=environment(tmp_path), **terminal.popen())
    until(lambda: list(tmp_path.glob("runs/*")), "it tracks")
    terminal.resize(30, 90)  # SIGWINCH ends nothing
    terminal.type(keys)
    assert process.wait(PATIENCE) == 0
    assert b": stopped by signal " in terminal.shown()
    assert record(tmp_path)[-1]["reason"]["signal"] == number
