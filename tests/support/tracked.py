"""Running the tracker as its users do, waiting for what is to happen, and reading what it wrote."""

from __future__ import annotations

import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import proctally
from places import SUPPORT
from proctally.record.reader import read

PYTHON = [sys.executable, "-S", "-E"]  # for jobs: no site, no variables
PROCTALLY = [sys.executable, "-m", "proctally"]
PATIENCE = 20.0  # for what is to happen at once; only a broken tracker takes so long


def failing(place: str, call: int = 1, error: str = "RuntimeError") -> list[str]:
    """What stands before the arguments of a tracker with a fault (failing.py)."""
    return [sys.executable, str(SUPPORT / "failing.py"), place, str(call), error]


def environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment with nothing of ours but where records lie."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PROCTALLY_")}
    return {**inherited, "PROCTALLY_HOME": str(home), **more}


def records(home: Path) -> list[list[dict[str, Any]]]:
    """The records in the default place, oldest first."""
    return [
        list(read(str(path))) for path in sorted((home / "runs").glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    ]


def record(home: Path) -> list[dict[str, Any]]:
    """The one record."""
    found = records(home)
    assert len(found) == 1, f"{len(found)} records"
    return found[0]


def whole(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary of a record that has all it must: header, first and last sample, summary."""
    assert lines[0]["type"] == "run"
    assert lines[-1]["type"] == "summary"
    assert [line["type"] for line in lines].count("summary") == 1
    taken = samples(lines)
    assert len(taken) >= 2
    assert taken[0]["interval_seconds"] is None
    assert all(sample["interval_seconds"] is not None for sample in taken[1:])
    assert lines[-1]["tracker"]["samples"] == len(taken)
    return lines[-1]


def samples(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["type"] == "sample"]


def of_type(lines: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["type"] == kind]


def reason(summary: dict[str, Any]) -> dict[str, Any]:
    """What the reason of a summary says; its other values are null."""
    return {name: value for name, value in summary["reason"].items() if value is not None}


def gaps(summary: dict[str, Any], section: str) -> dict[str, dict[str, Any]]:
    """The gaps of a section by their codes, each with what is known of it."""
    found = [gap for gap in summary["gaps"] if gap["section"] == section]
    assert (summary[section]["coverage"] == "complete") == (not found)
    names = ("count", "low_seconds", "high_seconds", "low_bytes", "high_bytes")
    return {gap["code"]: {name: gap[name] for name in names if gap[name] is not None} for gap in found}


class Done:
    """A tracker that has ended."""

    def __init__(self, home: Path, process: subprocess.CompletedProcess[bytes]) -> None:
        self.home = home
        self.status = process.returncode
        self.stdout = process.stdout
        self.stderr = process.stderr

    def record(self) -> list[dict[str, Any]]:
        return record(self.home)

    def summary(self) -> dict[str, Any]:
        return whole(self.record())


def call(home: Path, *arguments: str | bytes, env: dict[str, str] | None = None, **popen: Any) -> Done:
    """`proctally ARGUMENTS`, to its end."""
    popen.setdefault("stdout", subprocess.PIPE)
    popen.setdefault("stderr", subprocess.PIPE)
    if "input" not in popen:
        popen.setdefault("stdin", subprocess.DEVNULL)
    given = environment(home) if env is None else env
    return Done(home, subprocess.run([*PROCTALLY, *arguments], env=given, timeout=PATIENCE, **popen))


def run(home: Path, *arguments: str | bytes, **popen: Any) -> Done:
    """`proctally run ARGUMENTS`, to its end."""
    return call(home, "run", *arguments, **popen)


def shell(home: Path, script: str, *options: str, **popen: Any) -> Done:
    """`proctally run -q OPTIONS -- sh -c SCRIPT`, to its end."""
    return run(home, "-q", *options, "--", "sh", "-c", script, **popen)


def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds:g} s: {what}"
        time.sleep(0.005)


def state(pid: int) -> str:
    """The state of a process, `X` when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def runs(pid: int) -> bool:
    """Whether a process lives and is no zombie."""
    return state(pid) not in "XZ"


def target(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process to be tracked, in a group of its own that is killed at the end."""
    process = subprocess.Popen(words, start_new_session=True)
    try:
        yield process
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


class Lines:
    """The lines that arrive on a descriptor, with patience."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._buffer = b""

    def next(self, seconds: float = PATIENCE) -> str:
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.fd], [], [], left)[0], f"no line came in {seconds:g} s"
            data = os.read(self.fd, 4096)
            assert data, f"the other side has ended; it had begun to say {self._buffer!r}"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def nothing(self, seconds: float) -> bool:
        """Whether nothing arrives in this time."""
        return b"\n" not in self._buffer and not select.select([self.fd], [], [], seconds)[0]


class Puppet:
    """A tracker and under it a job that does what it is told (puppet.py).

    `before`: what stands before the tracker's command, for example the words that start it under a shell.
    """

    def __init__(
        self,
        home: Path,
        *options: str,
        reports: tuple[str, ...] = (),
        before: tuple[str, ...] = (),
        tracker: list[str] | None = None,
        pass_fds: tuple[int, ...] = (),
        **popen: Any,
    ) -> None:
        self.home = home
        self.signals: Counter[str] = Counter()
        told, self._commands = os.pipe()
        self._answers, said = os.pipe()
        self._lines = Lines(self._answers)
        job = [*PYTHON, str(SUPPORT / "puppet.py"), str(told), str(said), "SIGUSR2", *reports]
        tracker = [*PROCTALLY, "run", "-q", *options, "--"] if tracker is None else tracker
        popen.setdefault("env", environment(home))
        popen.setdefault("stdin", subprocess.DEVNULL)
        popen.setdefault("stdout", subprocess.DEVNULL)
        popen.setdefault("stderr", subprocess.PIPE)
        if not popen.get("start_new_session"):
            popen.setdefault("process_group", 0)
        self.process = subprocess.Popen([*before, *tracker, *job], pass_fds=(told, said, *pass_fds), **popen)
        self.tracker = self.process.pid
        os.close(told)
        os.close(said)
        ready = self._lines.next()
        assert ready.startswith("ready "), ready
        self.job = int(ready.split()[1])

    def __enter__(self) -> Puppet:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._commands)  # it ends by itself then, if it is not stopped
        for pid in (self.job, self.tracker):
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._answers)
        if self.process.stderr is not None:
            self.process.stderr.close()

    def tell(self, statement: str) -> None:
        """Give a command and do not wait for its answer."""
        os.write(self._commands, statement.encode() + b"\n")

    def do(self, statement: str) -> list[str]:
        """Give a command; what it said until it was done."""
        self.tell(statement)
        said = []
        while (line := self._lines.next()) != "done":
            self._note(line) or said.append(line)
        return said

    def ask(self, expression: str) -> str:
        """The text of the value of an expression."""
        return self.do(f"say(str({expression}))")[0]

    def _note(self, line: str) -> bool:
        kind, _, name = line.partition(" ")
        if kind == "signal":
            self.signals[name] += 1
        return kind == "signal"

    def await_signal(self, name: str, count: int = 1) -> None:
        """Wait until the job had this signal so many times since its start."""
        while self.signals[name] < count:
            line = self._lines.next()
            assert self._note(line), line

    def settle(self) -> None:
        """Wait until the tracker has dealt with every signal it had so far.

        What is pending at once may be read in any order, so the second of two that come one after the other is of a
        later reading.
        """
        for _ in range(2):
            count = self.signals["SIGUSR2"] + 1
            os.kill(self.tracker, signal.SIGUSR2)
            self.await_signal("SIGUSR2", count)

    def wait(self) -> int:
        """The exit status of the tracker."""
        return self.process.wait(PATIENCE)

    def exit(self, status: int) -> int:
        """Let the job exit with this status; that of the tracker."""
        self.tell(f"os._exit({status})")
        return self.wait()

    def stderr(self) -> bytes:
        assert self.process.stderr is not None
        return self.process.stderr.read()


# -- an ordinary user ------------------------------------------------------------------------------------------------


class User:
    """Somebody who is not root: what he needs to run the tracker, and a folder of his own."""

    def __init__(self, number: int | None, python: str, folder: Path) -> None:
        self.number = number  # None: whoever runs the tests
        self.folder = folder
        self.proctally = [python, "-m", "proctally"]
        self.python = [python, "-S", "-E"]
        self.environment = {
            "PATH": os.environ.get("PATH", os.defpath) if number is None else os.defpath,
            "PYTHONPATH": str(folder / "package"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PROCTALLY_HOME": str(folder / "home"),
        }

    def become(self) -> None:
        """To be called in the child before exec."""
        if self.number is not None:
            os.setgroups([])
            os.setgid(self.number)
            os.setuid(self.number)

    def call(self, *arguments: str, before: Callable[[], None] | None = None, **popen: Any) -> Done:
        """`proctally ARGUMENTS` as this user, to its end; `before` is called as he, before exec."""

        def prepare() -> None:
            self.become()
            if before is not None:
                before()

        popen.setdefault("env", self.environment)
        popen.setdefault("cwd", self.folder)
        popen.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(
            [*self.proctally, *arguments], preexec_fn=prepare, capture_output=True, timeout=PATIENCE, **popen
        )
        return Done(self.folder / "home", done)


def without_name() -> int:
    """The number of a user that has no entry in the passwd database and, beside tests at the same time, no process."""
    number = 60000 + os.getpid() % 5000
    while True:
        try:
            pwd.getpwuid(number)
        except KeyError:
            return number
        number += 1


def works_for(number: int, python: str) -> bool:
    try:
        code = "import sys; sys.exit(sys.version_info < (3, 11))"
        return subprocess.run([python, "-c", code], user=number, capture_output=True, cwd="/").returncode == 0
    except OSError:
        return False


@contextmanager
def ordinary_user() -> Iterator[User | None]:
    """An ordinary user; None where root finds no interpreter that another may execute.

    The package is copied to where he can read it: a checkout and its interpreter may lie in a private place.
    """
    number = without_name() if os.geteuid() == 0 else None
    python = sys.executable
    if number is not None:
        version = f"python3.{sys.version_info.minor}"
        candidates = [sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}", "/usr/bin/python3"]
        found = next((candidate for candidate in candidates if works_for(number, candidate)), None)
        if found is None:
            yield None
            return
        python = found
    folder = Path(tempfile.mkdtemp(prefix="proctally-user-"))
    try:
        package = Path(proctally.__file__).parent
        ignored = shutil.ignore_patterns("*.pyc.*")  # another process writes it
        shutil.copytree(package, folder / "package/proctally", ignore=ignored)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
            if number is not None:
                os.chown(path, number, number)
        yield User(number, python, folder)
    finally:
        shutil.rmtree(folder)
