"""What a start of `proctally run` loads.

With PROCTALLY_REFRESH_GOLDEN=1 the committed list is written.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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
TRACKERS = (
    "proctally.cli.main", *(f"proctally.cli.commands.{name}" for name in ("run", "attach", "system", "serve")),
    *(f"proctally.tracking.{name}" for name in ("run", "attach", "system", "sidecar", "termination", "exporting")),
    "proctally.tracking.live_lines", "proctally.gauges", "proctally.record.csv", "proctally.host.cloud",
    "proctally.linux.other_user", "proctally.linux.own_cgroups", "proctally.linux.perf_attach",
)  # fmt: skip
BEFORE_THE_START = {
    "difflib", "html", "importlib", "importlib.util", "shlex", "shutil", "urllib.parse",
    "proctally.analysis.conditions", "proctally.cli.interpreter", "proctally.cli.repeat", "proctally.record.catalogue",
    "proctally.tracking.allocation",
}  # fmt: skip
OF_HELPERS = {"http.client", "socket", "threading"}
OF_SECRETS = {"proctally.text.secret_text", "proctally.text.secret_words"}  # without them, a text is masked whole
OF_OTHER_RECORDS = {"zlib", "proctally.record.schema1", "proctally.analysis.statistics"}
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


def is_module(name: str) -> bool:
    return SOURCE.parent.joinpath(*name.split(".")).with_suffix(".py").is_file()


def imported_late(name: str, path: str) -> Iterator[str]:
    """Yield the modules that functions of this one import."""
    tree = ast.parse(Path(path).read_bytes())
    for function in ast.walk(tree):
        for node in ast.walk(function) if isinstance(function, ast.FunctionDef) else ():
            if isinstance(node, ast.Import):
                yield from (each.name for each in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.module is not None, name
                inside = (f"{node.module}.{each.name}" for each in node.names)
                yield from (node.module, *(each for each in inside if is_module(each)))


def test_all_that_a_run_needs_after_its_start_is_loaded_while_it_goes_on() -> None:
    """An upgrade of the package takes away what is not loaded by then."""
    code = f"""
import sys
from proctally.tracking.late import MODULES, OF_SUMMARY
for name in {TRACKERS} + MODULES + OF_SUMMARY: __import__(name)
for name, module in sys.modules.items(): print(name, getattr(module, "__file__", None))
"""
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT / "src")
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    late = {each for name in ours(set(found)) for each in imported_late(name, found[name])}
    assert late - found.keys() == BEFORE_THE_START | OF_HELPERS | OF_OTHER_RECORDS | OF_SECRETS


def test_only_some_rooms_print() -> None:
    trees = {str(path.relative_to(SOURCE)): ast.parse(path.read_bytes()) for path in SOURCE.rglob("*.py")}
    prints = [
        name for name, tree in trees.items() if any(getattr(node, "id", "") == "print" for node in ast.walk(tree))
    ]
    assert [name for name in prints if not {name, name.partition("/")[0]} & PRINTERS] == []
