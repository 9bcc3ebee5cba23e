"""What a start of `proctally run` loads.

With PROCTALLY_REFRESH_GOLDEN=1 the committed list is written.
"""

import ast
import subprocess
import sys

import pytest

from documented import REFRESH
from places import GOLDEN, ROOT

SOURCE = ROOT / "src" / "proctally"
LIST = GOLDEN / "start_path.txt"
RUN = [str(ROOT / "scripts" / "proctally"), "run", "-q", "--no-record", "--", "true"]
MAYBE = {"select"}  # loaded where the job runs when it is first waited for
SLOW = {
    "argparse", "collections", "dataclasses", "enum", "json", "logging", "pathlib", "re", "subprocess", "typing",
    "proctally.record.schema",
}  # fmt: skip
PRINTERS = {"cli", "text", "views", "library/ipython.py"}  # the last one prints into its cell


def loaded(*arguments: str) -> set[str]:
    """Return the modules that an interpreter loads, without the private ones."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    names = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    return {name for name in names if not any(part.startswith("_") for part in name.split("."))}


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.partition(".")[0] == "proctally"}


@pytest.fixture(scope="module")
def of_a_start() -> set[str]:
    """A job that outlasts the first moments, on a busy machine, loads more: take the smallest set of five."""
    return min((loaded(*RUN) for _ in range(5)), key=len) - loaded("-c", "pass") - MAYBE


def test_start_loads_the_committed_modules(of_a_start: set[str]) -> None:
    if REFRESH:
        LIST.write_text("".join(f"{name}\n" for name in sorted(of_a_start)), encoding="utf-8")
    committed = set(LIST.read_text(encoding="utf-8").split())
    if sys.version_info >= (3, 14):  # its ctypes loads other modules
        of_a_start, committed = ours(of_a_start), ours(committed)
    assert of_a_start == committed, "if that is meant: PROCTALLY_REFRESH_GOLDEN=1 writes the list"


def test_start_loads_nothing_slow(of_a_start: set[str]) -> None:
    assert not of_a_start & SLOW


def test_end_loads_nothing_slow() -> None:
    """The caller waits for what is loaded after the exit of the job."""
    script = 'sh -c "kill -9 \\$\\$" & wait; sleep 0.3'
    names = loaded(*RUN[:-1], "/bin/sh", "-c", script)
    assert {"proctally.tree.kills", "proctally.tree.time"} <= names
    assert not (names - loaded("-c", "pass")) & SLOW


def test_title_of_quiet_run_loads_no_advice() -> None:
    names = loaded("-c", "from proctally.views.summary import title")
    assert "proctally.text.words" in names and not names & {"proctally.analysis.advice", "proctally.record.schema"}


def test_only_some_rooms_print() -> None:
    trees = {str(path.relative_to(SOURCE)): ast.parse(path.read_bytes()) for path in SOURCE.rglob("*.py")}
    prints = [
        name for name, tree in trees.items() if any(getattr(node, "id", "") == "print" for node in ast.walk(tree))
    ]
    assert [name for name in prints if not {name, name.partition("/")[0]} & PRINTERS] == []
