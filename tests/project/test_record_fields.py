"""Records of real runs have the fields of the table, and the table is that of the golden file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from commands import proctally
from proctally.record.schema import COUNTER, fields
from strict_schema import problems

pytestmark = pytest.mark.usefixtures("clean_environment")


# -- the table of fields -----------------------------------------------------------------------------------------


def test_fields_prints_every_row() -> None:
    done = proctally("fields")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    columns = ("path", "type", "unit", "kind", "aggregate", "presence", "help", "source", "csv")
    assert rows == [[getattr(row, column) for column in columns] for row in fields()]


# there is one only where it tells something: PSS that is denied or not read yet
SOMETIMES = {"tree.pss_unread", "tree.io_unread", "run.thinned_seconds"}


SOMETIMES |= {f"{row.scope}.{row.name}" for row in fields() if row.scope.startswith(("gpus", "system.pressure"))}


SOMETIMES |= {f"{row.scope}.{row.name}" for row in fields() if row.scope in ("system.disks", "system.interfaces")}


SOMETIMES |= {f"{row.scope}.{row.name}" for row in fields() if "gpu" in row.name or row.scope == "summary.gpu"}


SOMETIMES |= {"summary.system"} | {
    f"system.{name}" for name in ("memory", "disk", "network", "disks", "interfaces", "pressure")
}


SOMETIMES |= {"run.allocation"} | {f"run.allocation.{row.name}" for row in fields() if row.scope == "run.allocation"}


SOMETIMES |= {f"cgroup.{row.name}" for row in fields() if row.scope == "cgroup"}  # of a run that has one of its own


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The lines of a real run, of an attach, of a program that tracks itself, and of the machine."""
    folder = tmp_path_factory.mktemp("records")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PROCTALLY_")}
    environment["PROCTALLY_HOME"] = str(folder)
    code = "import time; b = bytearray(20_000_000); time.sleep(0.5)"
    job = ["sh", "-c", '"$0" -c "$1" & sleep 0.1; wait', sys.executable, code]
    common = ["-q", "-i", "0.1", "-o"]
    options = ("--tag", "a=b", "--cgroup", "--counters")
    done = proctally("run", *common, str(folder / "run"), *options, "--", *job, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    target = subprocess.Popen(job)
    try:
        done = proctally("attach", *common, str(folder / "attach"), str(target.pid), env=environment)
    finally:
        target.wait()
    assert (done.returncode, done.stderr) == (0, "")
    block = "with proctally.track(0.1, output=sys.argv[1]) as run, run.phase('p'): time.sleep(0.3)"
    program = [sys.executable, "-c", f"import proctally, sys, time\n{block}", str(folder / "track")]
    subprocess.run(program, env=environment, check=True)
    done = proctally("system", *common, str(folder / "system"), "--duration", "0.3", env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    names = ("run", "attach", "track", "system")
    return [json.loads(line) for name in names for line in (folder / name).read_text().splitlines()]


def test_records_have_every_kind_of_line(records: list[dict[str, Any]]) -> None:
    types = [line["type"] for line in records]
    assert [types.count("run"), types.count("summary"), types.count("phase")] == [4, 4, 2]
    assert types[0] == "run"
    assert types[-1] == "summary"
    assert types.count("sample") >= 6
    assert types.count("process") >= 4


def test_records_are_as_the_json_schema_says(records: list[dict[str, Any]]) -> None:
    assert problems(records) == []


def test_counters_never_fall(records: list[dict[str, Any]]) -> None:
    trees = [line["tree"] for line in records if line["type"] == "sample" and line["tree"]]
    firsts = [place for place, tree in enumerate(trees) if tree["cpu_cores"] is None]
    counters = [row.name for row in fields() if row.scope == "tree" and row.kind == COUNTER]
    assert len(counters) > 10
    for part in (trees[begin:end] for begin, end in zip(firsts, [*firsts[1:], None], strict=True)):
        for name in counters:
            values = [tree[name] for tree in part if tree[name] is not None]
            assert values == sorted(values), f"{name} fell"
