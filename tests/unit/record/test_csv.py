"""CSV: the 32 columns, what stands in them and what is empty; live and exported alike; and the `export` command.

With PROCTALLY_REFRESH_GOLDEN=1 the golden files are written anew.
"""

from __future__ import annotations

import copy
import csv as library
import errno
import json
import math
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from captured import unpack
from proctally.export import FAILED, export
from proctally.gpus import LEVELS
from proctally.kernel.machine import Machine
from proctally.kernel.system import Cpu, SystemReader, derive, derive_cpu
from proctally.model import fields
from proctally.outputs.csv import COLUMNS, Lines, Rows
from proctally.record import Record, encode, open_output, read
from proctally.sampler import Sampler
from tracked import PYTHON, environment, run

patient = settings(deadline=None)
GOLDEN = Path(__file__).parent / "golden"
REFRESH = os.environ.get("PROCTALLY_REFRESH_GOLDEN") == "1"
MIB = 1 << 20
NAMES = [name for name, _ in COLUMNS]
SYSTEM = [name for name in NAMES if name.startswith("system_") and "gpu" not in name]
PROCESS = [name for name in NAMES if name.startswith("process_")]

RUN: dict[str, Any] = {
    "type": "run",
    "kind": "run",
    "pid": 4711,
    "started_at": 1_700_000_000.0,
    "interval_seconds": 1.0,
}


def sample(number: int, **more: Any) -> dict[str, Any]:
    """The scripted sample of the second `number`: everything known, counters that grow by different steps."""
    line: dict[str, Any] = {
        "type": "sample",
        "at": 1_700_000_000.25 + number,
        "elapsed_seconds": 0.25 + number,
        "interval_seconds": None if number == 0 else 1.0,
        "tree": {
            "cpu_seconds": 0.01 + 1.5 * number,
            "cpu_user_seconds": 0.01 + 1.25 * number,
            "cpu_system_seconds": 0.25 * number,
            "cpu_cores": None if number == 0 else 1.5,
            "processes": 3 + number,
            "rss_bytes": 900 * MIB,
            "pss_bytes": 700 * MIB + MIB - 1,
            "read_bytes": 4096 * number,
            "write_bytes": 1_000_000 * number * number,
            "gpu_utilization_ratio": 0.55,
            "gpu_memory_bytes": 87_228_416,
            "gpu_used": 1,
        },
        "system": {
            "cpus": 8,
            "cpu_cores": None if number == 0 else 2.5,
            "cpu_user_seconds": 1000.12 + 2.25 * number,
            "cpu_system_seconds": 500.0 + 0.125 * number,
            "process_count": 345,
            "memory": {
                "free_bytes": 1000 * MIB,
                "used_bytes": 2000 * MIB + 1,
                "buffers_bytes": 100 * MIB,
                "cached_bytes": 500 * MIB,
                "active_bytes": 1500 * MIB,
                "inactive_bytes": 300 * MIB,
            },
            "disk": {
                "read_bytes": 10**12 + 1000 * number,
                "write_bytes": 10**12 + 500 * number,
                "space_total_bytes": 100_000_000_000,
                "space_free_bytes": 40_000_000_000,
                "space_used_bytes": 55_000_000_000,
            },
            "network": {"received_bytes": 7000 + 300 * number, "sent_bytes": 80 * number},
        },
        "gpus": [
            {"index": 0, "state": "ok", "utilization_ratio": 0.75, "memory_used_bytes": 3 * MIB // 2},
            {"index": 1, "state": "ok", "utilization_ratio": 0.0, "memory_used_bytes": MIB},
        ],
    }
    return merged(line, more)


def merged(line: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """The line with other values: `system={"disk": None}` changes one part of a section."""
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(line.get(name), dict):
            merged(line[name], value)
        else:
            line[name] = value
    return line


def table(*samples: dict[str, Any], **run: Any) -> list[dict[str, str]]:
    """The rows of these samples, each by the names of its columns."""
    rows = Rows(RUN | run)
    return [dict(zip(NAMES, rows.row(sample).split(","), strict=True)) for sample in samples]


def text(lines: list[dict[str, Any]]) -> str:
    """What is written of these lines."""
    form = Lines()
    return b"".join(data for line in lines if (data := form(line)) is not None).decode()


# -- the golden files --------------------------------------------------------------------------------------------

NO_TREE = {"tree": None}
SCRIPTS: dict[str, list[dict[str, Any]]] = {
    # all of it; the system is first read after the first sample; a late sample; GPUs that cannot be read for once
    "run": [
        RUN,
        sample(0, system=None, gpus=None),
        sample(1, system={"cpu_cores": None}),
        {"type": "process", "pid": 4712, "command": 'a,"b"\n'},
        {"type": "phase", "name": "fit", "event": "begin", "at": 1_700_000_001.5},
        sample(2, gpus=None, tree={"gpu_utilization_ratio": None, "gpu_memory_bytes": None, "gpu_used": None}),
        sample(4, interval_seconds=2.0),
        sample(5, system=None, tree={"pss_bytes": None, "read_bytes": None, "write_bytes": None}, interval_seconds=0.1),
        {"type": "summary", "exit_code": 0},
    ],
    # a machine without a GPU, and no process
    "system": [
        RUN | {"kind": "system", "pid": 1},
        sample(0, gpus=[], **NO_TREE),
        sample(1, gpus=[], **NO_TREE),
        sample(2, gpus=[], system={"disk": {"read_bytes": 5, "write_bytes": None}}, **NO_TREE),
        sample(3, gpus=[], system={"memory": None, "network": {"sent_bytes": None}}, **NO_TREE),
        {"type": "summary", "exit_code": None},
    ],
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_golden(name: str) -> None:
    path = GOLDEN / f"{name}.csv"
    if REFRESH:
        path.write_text(text(SCRIPTS[name]), encoding="utf-8", newline="")
    assert text(SCRIPTS[name]) == path.read_bytes().decode()


@pytest.mark.parametrize("name", SCRIPTS)
def test_golden_files_are_csv(name: str) -> None:
    """By another reader: every row has every column, and every field is a number or empty."""
    with open(GOLDEN / f"{name}.csv", newline="") as file:
        header, *rows = library.reader(file)
    assert header == NAMES
    assert len(rows) == sum(line["type"] == "sample" for line in SCRIPTS[name])
    for row in rows:
        assert len(row) == len(header)
        assert all(math.isfinite(float(field)) for field in row if field)


# -- the table ---------------------------------------------------------------------------------------------------


def test_header() -> None:
    header = Rows(RUN).header()
    assert header.startswith("timestamp,")
    assert not header.endswith(",")
    assert not set(header) & set("\n\r\"' ")
    assert len(set(header.split(","))) == 32
    assert [name.partition("_")[0] for name in header.split(",")].count("process") == 11


def test_order_of_the_columns() -> None:
    """Those that other programs know by their place."""
    for place, name in (
        (4, "system_cpu_usage"),
        (11, "system_disk_read_bytes"),
        (13, "system_disk_space_total_gb"),
        (14, "system_disk_space_used_gb"),
        (15, "system_disk_space_free_gb"),
        (18, "system_gpu_usage"),
        (21, "process_pid"),
        (26, "process_memory_mib"),
        (29, "process_gpu_usage"),
        (30, "process_gpu_vram_mib"),
        (31, "process_gpu_utilized"),
    ):
        assert NAMES[place] == name


def test_decimals() -> None:
    _, row = table(sample(0), sample(1))
    digits = {name: len(field.partition(".")[2]) for name, field in row.items()}
    assert digits == dict(COLUMNS)
    assert row["timestamp"] == "1700000001"
    assert row["system_utime"] == "2.250"
    assert row["system_stime"] == "0.125"
    assert row["process_utime"] == "1.2600"  # with what was used before the first row
    assert row["process_stime"] == "0.2500"


def test_cpu_usage_is_in_cores() -> None:
    _, row = table(sample(0), sample(1, system={"cpu_cores": 3.1415}))
    assert row["system_cpu_usage"] == "3.1415"


def test_memory_is_cut_off_and_not_rounded() -> None:
    (row,) = table(sample(0))
    assert row["system_memory_used_mib"] == "2000"
    assert row["process_memory_mib"] == "700"  # PSS, and not RSS
    assert (row["system_memory_active_mib"], row["system_memory_inactive_mib"]) == ("1500", "300")


def test_used_space_is_what_is_not_free() -> None:
    """With what is kept back for root, which is in neither of the file systems' own numbers."""
    (row,) = table(sample(0))
    assert row["system_disk_space_total_gb"] == "100.000000"
    assert row["system_disk_space_used_gb"] == "60.000000"
    assert row["system_disk_space_free_gb"] == "40.000000"


@patient
@given(st.integers(0, 1 << 60), st.integers(0, 1 << 60))
def test_used_space_of_any_file_systems(first: int, second: int) -> None:
    total, free = max(first, second), min(first, second)
    (row,) = table(sample(0, system={"disk": {"space_total_bytes": total, "space_free_bytes": free}}))
    shown = [float(row[f"system_disk_space_{part}_gb"]) for part in ("used", "total", "free")]
    assert shown[0] == pytest.approx(shown[1] - shown[2], abs=2e-6, rel=1e-12)


def test_the_same_samples_give_the_same_bytes() -> None:
    lines = SCRIPTS["run"]
    before = copy.deepcopy(lines)
    assert text(lines) == text(lines)
    assert lines == before, "and are not changed by it"


def test_nothing_is_quoted() -> None:
    rows = text(SCRIPTS["run"])
    assert not set(rows) & set("\"'\r \t")
    assert rows.endswith("\n")


def test_an_interval_is_no_column() -> None:
    for interval in (None, 1.234):
        assert len(Rows(RUN).row(sample(0, interval_seconds=interval)).split(",")) == len(NAMES)


def test_there_is_one_header_and_nothing_before_it() -> None:
    assert text([sample(0), RUN, sample(0), RUN, sample(1)]) == text([RUN, sample(0), sample(1)])


# -- growth ------------------------------------------------------------------------------------------------------


def test_bytes_are_those_of_the_actual_interval() -> None:
    """By the counters themselves, whatever the interval was to be; by a rate where no counter was known before."""
    _, row = table(sample(0), sample(2, interval_seconds=2.0))
    assert (row["system_disk_read_bytes"], row["system_disk_write_bytes"]) == ("2000", "1000")
    assert (row["system_net_recv_bytes"], row["system_net_sent_bytes"]) == ("600", "160")
    rates = {"read_bytes": None, "write_bytes": None, "read_bytes_per_second": 1000.0, "write_bytes_per_second": 500.0}
    (row,) = table(sample(0, interval_seconds=2.0, system={"disk": rates}))
    assert (row["system_disk_read_bytes"], row["system_disk_write_bytes"]) == ("2000", "1000")


def test_bytes_of_the_first_row_are_those_of_the_nominal_interval() -> None:
    rates = {"read_bytes_per_second": 1000.0, "write_bytes_per_second": 0.0}
    (row,) = table(sample(0, system={"disk": rates}), interval_seconds=3)
    assert (row["system_disk_read_bytes"], row["system_disk_write_bytes"]) == ("3000", "0")


def test_the_first_row_has_grown_by_nothing() -> None:
    (row,) = table(sample(0))
    for name in ("utime", "stime", "cpu_usage", "disk_read_bytes", "disk_write_bytes"):
        assert float(row[f"system_{name}"]) == float(row[f"process_{name}"]) == 0
    assert row["system_net_recv_bytes"] == row["system_net_sent_bytes"] == "0"
    assert row["system_cpu_usage"] == row["process_cpu_usage"] == "0.0000"


def test_the_system_begins_where_it_is_first_read() -> None:
    rows = table(sample(0, system=None), sample(1, system={"cpu_cores": None}), sample(2))
    assert all(rows[0][name] == "" for name in SYSTEM)
    assert (rows[1]["system_cpu_usage"], rows[1]["system_utime"], rows[1]["system_net_recv_bytes"]) == (
        "0.0000",
        "0.000",
        "0",
    )
    assert rows[2]["system_net_recv_bytes"] == "300"


def test_a_counter_that_fell_has_not_grown_and_goes_on_from_there() -> None:
    fallen = sample(1, system={"disk": {"read_bytes": 7}, "cpu_user_seconds": 1.0}, tree={"write_bytes": 0})
    after = sample(2, system={"disk": {"read_bytes": 17}, "cpu_user_seconds": 1.5}, tree={"write_bytes": 3})
    _, fell, grown = table(sample(0, tree={"write_bytes": 5}), fallen, after)
    names = ("system_disk_read_bytes", "system_utime", "process_disk_write_bytes")
    assert [fell[name] for name in names] == ["0", "0.000", "0"]
    assert [grown[name] for name in names] == ["10", "0.500", "3"]


COUNTERS = st.lists(st.none() | st.integers(0, 1 << 50), min_size=2, max_size=8)


@patient
@given(COUNTERS)
@example([5, None, 9, None])
def test_over_all_rows_no_growth_is_missing(readings: list[int | None]) -> None:
    known = sorted(value for value in readings if value is not None)
    rising = iter(known)
    totals = [None if value is None else next(rising) for value in readings]
    rows = table(*(sample(number, tree={"read_bytes": total}) for number, total in enumerate(totals)))
    shown = [row["process_disk_read_bytes"] for row in rows]
    assert sum(int(field) for field in shown[1:] if field) == (
        known[-1] if totals[1:] != [None] * len(totals[1:]) else 0
    )
    assert [field == "" for field in shown] == [total is None for total in totals]
    assert shown[0] in ("", "0")


# -- unknown is empty --------------------------------------------------------------------------------------------


def test_what_is_not_known_is_empty() -> None:
    nothing = {"type": "sample", "at": 1_700_000_000.0}
    (row,) = table(nothing)
    assert {name: field for name, field in row.items() if field} == {"timestamp": "1700000000", "process_pid": "4711"}


@pytest.mark.parametrize("number", [0, 1])
def test_each_value_is_unknown_by_itself(number: int) -> None:
    """One null costs its own column, and no other."""
    whole = table(sample(0), sample(1))[number]
    for path, names in (
        (("at",), {"timestamp"}),
        (("system", "process_count"), {"system_processes"}),
        (("system", "cpu_system_seconds"), {"system_stime"}),
        (("system", "memory", "free_bytes"), {"system_memory_free_mib"}),
        (("system", "memory"), {name for name in NAMES if "system_memory" in name}),
        (("system", "disk", "space_free_bytes"), {"system_disk_space_free_gb", "system_disk_space_used_gb"}),
        (("system", "disk"), {name for name in NAMES if "system_disk" in name}),
        (("system", "network", "sent_bytes"), {"system_net_sent_bytes"}),
        (("system", "network"), {"system_net_recv_bytes", "system_net_sent_bytes"}),
        (("system",), set(SYSTEM)),
        (("gpus",), {name for name in NAMES if "system_gpu" in name}),
        (("tree", "processes"), {"process_children"}),
        (("tree", "cpu_user_seconds"), {"process_utime"}),
        (("tree", "pss_bytes"), {"process_memory_mib"}),
        (("tree", "read_bytes"), {"process_disk_read_bytes"}),
        (("tree", "gpu_utilization_ratio"), {"process_gpu_usage"}),
        (("tree", "gpu_memory_bytes"), {"process_gpu_vram_mib"}),
        (("tree", "gpu_used"), {"process_gpu_utilized"}),
        (("tree",), set(PROCESS) - {"process_pid"}),
    ):
        samples = [sample(0), sample(1)]
        *outer, last = path
        section = samples[number]
        for name in outer:
            section = section[name]
        section[last] = None
        row = table(*samples)[number]
        assert row == {name: "" if name in names else field for name, field in whole.items()}, path


def test_unknown_cores_are_zero_in_the_first_row_only() -> None:
    lost = sample(1, tree={"cpu_cores": None}, system={"cpu_cores": None})
    _, row = table(sample(0), lost)
    assert row["system_cpu_usage"] == row["process_cpu_usage"] == ""
    (row,) = table(sample(0, system={"cpu_user_seconds": None}))
    assert row["system_cpu_usage"] == "", "nor there, where the processor times cannot be read"


def test_untracked_has_no_process_columns() -> None:
    for row in table(sample(0, tree=None, gpus=[]), sample(1, tree=None, gpus=[]), kind="system"):
        assert {row[name] for name in PROCESS} == {""}
        assert "" not in {row[name] for name in SYSTEM}


@pytest.mark.parametrize("kind", ["run", "attach", "track"])
def test_tracked_has_its_pid(kind: str) -> None:
    (row,) = table(sample(0), kind=kind)
    assert row["process_pid"] == "4711"


@pytest.mark.parametrize(("processes", "children"), [(1, "0"), (5, "4"), (0, "0"), (None, "")])
def test_children_are_all_but_the_first(processes: int | None, children: str) -> None:
    (row,) = table(sample(0, tree={"processes": processes}))
    assert row["process_children"] == children


NO_NUMBERS = ["5", "a,b\n", True, [], {}, [1], -1, -0.5, math.nan, math.inf, 1e300, 10**30]


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_number_of_the_kernel_is_unknown(value: Any) -> None:
    """A file may hold anything; what a column cannot hold never gets there."""
    (row,) = table(sample(0, at=value, system={"process_count": value}, tree={"pss_bytes": value}))
    assert row["timestamp"] == row["system_processes"] == row["process_memory_mib"] == ""


def test_nothing_is_negative_not_even_zero() -> None:
    (row,) = table(sample(0, system={"cpu_cores": -0.0}))
    assert row["system_cpu_usage"] == "0.0000"


# -- GPUs --------------------------------------------------------------------------------------------------------

SYSTEM_GPU = ("system_gpu_usage", "system_gpu_vram_mib", "system_gpu_utilized")
PROCESS_GPU = ("process_gpu_usage", "process_gpu_vram_mib", "process_gpu_utilized")


def gpu_fields(names: tuple[str, ...], **more: Any) -> list[str]:
    (row,) = table(sample(0, **more))
    return [row[name] for name in names]


def test_gpus_are_summed() -> None:
    assert gpu_fields(SYSTEM_GPU) == ["0.7500", "2.5000", "1"]
    assert gpu_fields(PROCESS_GPU) == ["0.5500", "83.1875", "1"]


NO_SHARE = {"gpu_utilization_ratio": None, "gpu_memory_bytes": None, "gpu_used": None}


def test_without_a_gpu_all_is_zero() -> None:
    for tree in ({}, NO_SHARE):
        assert gpu_fields(SYSTEM_GPU, gpus=[], tree=tree) == ["0.0000", "0.0000", "0"]
        assert gpu_fields(PROCESS_GPU, gpus=[], tree=tree) == ["0.0000", "0.0000", "0"]
    assert gpu_fields(PROCESS_GPU, gpus=[], tree=None) == ["", "", ""], "of no tree not even that is known"


def test_gpus_that_were_not_read_are_unknown() -> None:
    assert gpu_fields(SYSTEM_GPU, gpus=None) == ["", "", ""]
    assert gpu_fields(PROCESS_GPU, gpus=None, tree=NO_SHARE) == ["", "", ""]
    assert gpu_fields(PROCESS_GPU, tree=NO_SHARE) == ["", "", ""]


def test_one_unreadable_gpu_makes_the_sum_unknown() -> None:
    readable = {"state": "ok", "utilization_ratio": 0.5, "memory_used_bytes": MIB}
    assert gpu_fields(SYSTEM_GPU, gpus=[readable, readable | {"utilization_ratio": None}]) == ["", "2.0000", ""]
    assert gpu_fields(SYSTEM_GPU, gpus=[readable, readable | {"memory_used_bytes": None}]) == ["1.0000", "", "2"]
    assert gpu_fields(SYSTEM_GPU, gpus=[readable, {"state": "lost"}]) == ["", "", ""]
    assert gpu_fields(SYSTEM_GPU, gpus=[readable, "nonsense"]) == ["", "", ""]


def test_a_gpu_that_is_powered_down_does_nothing() -> None:
    asleep = {"state": "asleep", "utilization_ratio": None, "memory_used_bytes": None}
    assert gpu_fields(SYSTEM_GPU, gpus=[asleep]) == ["0.0000", "0.0000", "0"]


# -- any record --------------------------------------------------------------------------------------------------

VALUES = st.none() | st.integers(-5, 1 << 66) | st.floats() | st.booleans() | st.text(max_size=3)


def like(value: Any) -> st.SearchStrategy[Any]:
    """Anything of the form of a sample, with some of it missing, null or of another kind."""
    if isinstance(value, dict):
        parts = {name: like(part) for name, part in value.items()}
        return VALUES | st.fixed_dictionaries({}, optional=parts)
    if isinstance(value, list):
        return VALUES | st.lists(like(value[0]), max_size=3)
    return VALUES | st.just(value)


BODY = {name: value for name, value in sample(1).items() if name != "type"}
ANY_RUN = st.fixed_dictionaries(
    {"type": st.just("run")}, optional={name: like(value) for name, value in RUN.items() if name != "type"}
)
ANY_LINES = st.lists(
    st.fixed_dictionaries({"type": st.just("sample")}, optional={name: like(value) for name, value in BODY.items()})
    | st.just({"type": "process", "pid": 1}),
    max_size=5,
)


@example({"type": "run"}, [{"type": "sample", "system": {"disk": {"space_total_bytes": 5, "space_free_bytes": 6}}}])
@patient
@given(ANY_RUN, ANY_LINES)
def test_any_sample_has_32_fields_that_are_numbers_or_empty(run: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    written = text([run, *lines])
    header, *rows = written.removesuffix("\n").split("\n")
    assert header.split(",") == NAMES
    assert len(rows) == sum(line["type"] == "sample" for line in lines)
    for row in rows:
        found = row.split(",")
        assert len(found) == len(NAMES)
        for field, (_, digits) in zip(found, COLUMNS, strict=True):
            whole, point, behind = field.partition(".")
            assert field == "" or (whole.isdecimal() and len(behind) == digits and bool(point) == bool(digits))
    assert text([run, *lines]) == written


def json_only(value: Any) -> bool:
    try:
        encode(value)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("depth", range(900, 1000, 7))
def test_no_depth_of_nesting_is_a_traceback(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "deep"
    path.write_text('{"type":"run","x":' + "[" * depth + "]" * depth + "}\n")
    assert export(str(path), "jsonl", "/dev/null", {}) in (0, FAILED)
    assert export(str(path), "csv", "/dev/null", {}) in (0, FAILED)


@patient
@given(run=ANY_RUN.filter(json_only), lines=ANY_LINES.filter(json_only))
def test_live_and_exported_are_identical(
    run: dict[str, Any], lines: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("alike")
    paths = [str(folder / name) for name in ("record", "live", "exported", "copy")]
    outputs = [open_output(path) for path in paths[:2]]
    outputs[1].format = Lines()
    for line in [run, *lines, {"type": "summary"}]:
        for output in outputs:
            output.write(line)
    for output in outputs:
        output.close()
    for form, path in (("csv", paths[2]), ("jsonl", paths[3])):
        assert export(paths[0], form, path, {}) == 0
    data = [Path(path).read_bytes() for path in paths]
    assert data[1] == data[2]
    assert data[0] == data[3]


# -- written live ------------------------------------------------------------------------------------------------


def test_a_row_is_written_at_once(tmp_path: Path) -> None:
    path = tmp_path / "live.csv"
    record = open_output(str(path))
    record.format = Lines()
    expected = ""
    for place, line in enumerate(SCRIPTS["run"]):
        record.write(line)
        expected = text(SCRIPTS["run"][: place + 1])
        assert path.read_text() == expected
    record.close()
    assert path.read_text() == expected == (GOLDEN / "run.csv").read_text()


def test_a_full_disk_counts_its_rows() -> None:
    record = open_output("/dev/full")
    record.format = Lines()
    for line in SCRIPTS["run"]:
        record.write(line)
    record.close()
    assert record.error is not None
    assert record.error.errno == errno.ENOSPC
    assert record.lost_samples == 5


def test_a_torn_pipe_is_no_exception() -> None:
    read_end, write_end = os.pipe()
    record = Record(write_end, "a pipe")
    record.format = Lines()
    record.write(RUN)
    record.write(sample(0))
    os.close(read_end)
    for line in SCRIPTS["run"][2:]:
        record.write(line)
    record.close()
    assert record.error is not None
    assert record.error.errno == errno.EPIPE
    assert record.lost_samples == 4


def test_the_header_is_not_given_up() -> None:
    """A reader that stands still costs rows, and never the names of the columns."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    filled = os.write(write_end, b"x" * (1 << 20))
    record = Record(write_end, "a pipe")
    record.format = Lines()
    record.write(RUN)
    for number in range(5000):
        record.write(sample(number))
    assert record.lost_samples > 0
    assert len(os.read(read_end, filled)) == filled
    closing = threading.Thread(target=record.close)
    closing.start()
    with open(read_end, "rb") as pipe:
        data = pipe.read()
    closing.join()
    header, *rows = data.decode().splitlines()
    assert header.split(",") == NAMES
    assert len(rows) + record.lost_samples == 5000


# -- export ------------------------------------------------------------------------------------------------------


def write_record(path: Path, lines: list[dict[str, Any]], torn: bytes = b"") -> bytes:
    whole = b"".join(encode(line).encode() + b"\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(whole + torn)
    return whole


@pytest.fixture
def record_path(tmp_path: Path) -> Path:
    """A record as a kill leaves it."""
    path = tmp_path / "record.jsonl"
    write_record(path, SCRIPTS["run"][:-1], b'{"type":"sample","at":17')
    return path


def test_export_to_a_file(record_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.csv"
    before = os.umask(0)
    try:
        assert export(str(record_path), "csv", str(out), {}) == 0
    finally:
        os.umask(before)
    assert out.read_bytes() == (GOLDEN / "run.csv").read_bytes()
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert capfd.readouterr() == ("", "")


def test_export_to_stdout(record_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert export(str(record_path), "csv", "-", {}) == 0
    assert capfd.readouterr() == ((GOLDEN / "run.csv").read_text(), "")


def test_export_leaves_out_what_is_torn(record_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert export(str(record_path), "jsonl", str(out), {}) == 0
    assert out.read_bytes() == record_path.read_bytes().rpartition(b"\n")[0] + b"\n"
    assert list(read(str(out))) == SCRIPTS["run"][:-1]


def said(capfd: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("proctally: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "does not begin as a record"),
        (b'{"type":"run"', "does not begin as a record"),
        (b'{"type":"sample"}\n', "does not begin as a record"),
        (b"\x89PNG\r\n", "line 1 is not JSON"),
        (b'{"type":"run"}\nnonsense\n', "line 2 is not JSON"),
        (b'{"type":"run","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "nested too deeply"),
        (b'{"type":"run","interval_seconds":NaN}\n', "JSON"),
    ],
)
def test_what_is_no_record_leaves_no_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes | None, words: str
) -> None:
    path, out = tmp_path / "it", tmp_path / "out"
    if content is not None:
        path.write_bytes(content)
    assert export(str(path), "jsonl", str(out), {}) == FAILED
    line = said(capfd)
    assert words in line
    assert str(path) in line
    assert not out.exists()


def test_export_refuses_a_directory(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert export(str(tmp_path), "csv", "-", {}) == FAILED
    assert "directory" in said(capfd)


def test_export_refuses_what_exists(record_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.write_text("what was there\n")
    assert export(str(record_path), "csv", str(out), {}) == FAILED
    assert "--force" in said(capfd)
    assert out.read_text() == "what was there\n"
    assert export(str(record_path), "csv", str(out), {}, force=True) == 0
    assert out.read_bytes() == (GOLDEN / "run.csv").read_bytes()


def test_export_follows_no_link_that_leads_nowhere(
    record_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    assert export(str(record_path), "csv", str(link), {}) == FAILED
    said(capfd)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("linked", [False, True])
def test_export_onto_itself_is_refused(
    record_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], linked: bool
) -> None:
    before = record_path.read_bytes()
    out = record_path
    if linked:
        out = tmp_path / "other name"
        os.link(record_path, out)
    assert export(str(record_path), "jsonl", str(out), {}, force=True) == FAILED
    assert "the record itself" in said(capfd)
    assert record_path.read_bytes() == before


def test_export_to_a_full_disk(record_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert export(str(record_path), "csv", "/dev/full", {}) == FAILED
    assert "/dev/full: No space left" in said(capfd)


COMMAND = "import sys\nfrom proctally.export import export\nsys.exit(export(sys.argv[1], sys.argv[2], '-', {}))"


def test_a_slow_reader_gets_every_row(tmp_path: Path) -> None:
    """Where nothing is measured meanwhile, no row is given up for a reader that takes its time."""
    path = tmp_path / "long.jsonl"
    write_record(path, [RUN, *(sample(number) for number in range(6000))])
    with subprocess.Popen([sys.executable, "-c", COMMAND, str(path), "csv"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        time.sleep(1.0)
        lines = process.stdout.read().splitlines()
    assert process.returncode == 0
    assert len(lines) == 6001


def test_a_reader_that_has_enough_ends_it_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    write_record(path, [RUN, *(sample(number) for number in range(3000))])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", COMMAND, str(path), "csv"], **pipes) as process:  # type: ignore[call-overload]
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == FAILED


# -- the newest record -------------------------------------------------------------------------------------------


def test_last_is_the_newest(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = ("20260101T000000Z-zz-1.jsonl", "20260102T000000Z-b-2.jsonl", "20260102T000000Z-a-3.jsonl", "zz.jsonl")
    for place, name in enumerate(names):
        path = tmp_path / "runs" / name
        write_record(path, [RUN | {"pid": place}, sample(0)])
        os.utime(path, ns=(0, place if name != names[0] else 10**18))
    assert export("last", "csv", "-", {"PROCTALLY_HOME": str(tmp_path)}) == 0
    _, row = capfd.readouterr().out.splitlines()
    assert row.split(",")[21] == "2", "the later of those that began in one second"


@pytest.mark.parametrize("made", [False, True])
def test_no_last_record(tmp_path: Path, capfd: pytest.CaptureFixture[str], made: bool) -> None:
    if made:
        (tmp_path / "runs").mkdir()
    assert export("last", "csv", "-", {"PROCTALLY_HOME": str(tmp_path)}) == FAILED
    assert str(tmp_path / "runs") in said(capfd)


def test_last_of_a_real_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The first row is taken at the start, the last one when the job has ended."""
    work = (
        "x = bytearray(40 << 20)\nimport time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass"
    )
    done = run(tmp_path, "-i", "0.1", "--", *PYTHON, "-c", work)
    assert done.status == 0
    assert export("last", "csv", "-", environment(tmp_path)) == 0
    rows = list(library.DictReader(capfd.readouterr().out.splitlines()))
    assert len(rows) >= 4
    used = sum(float(row["process_utime"]) + float(row["process_stime"]) for row in rows)
    assert used == pytest.approx(0.42, abs=0.1)
    assert max(int(row["process_memory_mib"] or 0) for row in rows) >= 40
    assert max(float(row["process_cpu_usage"]) for row in rows) > 0.1
    assert float(rows[0]["process_cpu_usage"]) == 0
    (path,) = (tmp_path / "runs").iterdir()
    summary = list(read(str(path)))[-1]
    assert int(rows[-1]["timestamp"]) >= int(summary["ended_at"]) - 1


# -- where the values come from ----------------------------------------------------------------------------------


def test_the_names_are_those_of_the_readers(tmp_path: Path) -> None:
    """Every column of the system is filled from what the readers make of a captured machine."""
    machine, clock = unpack("server", tmp_path)
    space = os.statvfs_result((4096, 4096, 1000, 500, 400, 10, 5, 5, 0, 255))
    reader = SystemReader(machine, statvfs=lambda _: space)
    before = reader.read()
    clock.advance(2.0)
    now = reader.read()
    first, second = (
        {"type": "sample", "at": 1.0, "interval_seconds": None, "system": json.loads(encode(derive(None, before)))},
        {"type": "sample", "at": 3.0, "interval_seconds": 2.0, "system": json.loads(encode(derive(before, now)))},
    )
    for row in table(first, second, kind="system"):
        assert [name for name in SYSTEM if row[name] == ""] == []


def test_the_names_are_those_of_the_tree() -> None:
    known = {field.name for field in fields() if field.scope == "tree"}
    of_gpus = {"gpu_utilization_ratio", "gpu_memory_bytes", "gpu_used"}
    used = {name for name in sample(0)["tree"] if name not in of_gpus}
    assert used <= known
    assert {"utilization_ratio", "memory_used_bytes"} <= set(LEVELS)


# -- the CPU, from ticks to the column ---------------------------------------------------------------------------


def cpu(total: int, idle: int, cores: int = 1) -> Cpu:
    """All cores together: so many ticks, of which so many were idle."""
    made = Cpu()
    made.all = (total - idle, 0, 0, idle, 0, 0, 0, 0)
    made.cores = dict.fromkeys(range(cores), made.all)
    return made


@pytest.mark.parametrize(
    ("before", "now", "usage"),
    [
        (cpu(0, 0), cpu(1600, 1600), "0.0000"),
        (cpu(0, 0), cpu(1600, 0), "1.0000"),
        (cpu(0, 0), cpu(1600, 800), "0.5000"),
        (cpu(100, 50), cpu(100, 50), "0.0000"),
        (cpu(0, 0, 4), cpu(1000, 1, 4), "3.9960"),
        (cpu(0, 0, 4), cpu(1000, 0, 4), "4.0000"),
    ],
    ids=["all idle", "fully busy", "half busy", "no time passed", "not forced to the cores", "all cores"],
)
def test_utilization(before: Cpu, now: Cpu, usage: str) -> None:
    first, second = ({"system": derive_cpu(last, next, 100)} for last, next in ((None, before), (before, now)))
    rows = table(first, second)
    assert [row["system_cpu_usage"] for row in rows] == ["0.0000", usage]
    assert (rows[0]["system_utime"], rows[0]["system_stime"]) == ("0.000", "0.000")


def test_one_core_is_never_more_than_busy() -> None:
    ratios = derive_cpu(cpu(0, 0), cpu(1000, 0), 100)["per_core_ratio"]
    assert ratios == [1.0]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """One that is busy, with two children that are not."""
    busy = "import os\nfor _ in '12': os.fork() or (os.read(0, 1), os._exit(0))\nprint(flush=True)\nwhile True: pass"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}  # with the first the children end
    with subprocess.Popen([*PYTHON, "-c", busy], **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_real_tree_and_this_machine(child: subprocess.Popen[bytes]) -> None:
    machine = Machine()
    reader, sampler = SystemReader(machine), Sampler(machine)
    sampler.attach(child.pid, os.getpid())
    assert child.pid in sampler.tree.members
    lines = []
    before = None
    for _ in range(2):
        line, now = sampler.sample(), reader.read()
        lines.append(line | {"system": derive(before, now), "gpus": []})
        before = now
        time.sleep(0.2)
    first, second = table(*lines, pid=child.pid)
    for row in (first, second):
        unknown = set() if os.path.exists("/proc/self/io") else {name for name in PROCESS if "disk" in name}
        assert {name for name in PROCESS if row[name] == ""} == unknown
        assert row["process_pid"] == str(child.pid)
        assert row["process_children"] == "2"
        assert int(row["system_processes"]) > 0
        assert int(row["process_memory_mib"]) > 0
    assert lines[0]["tree"]["rss_bytes"] > 0
    assert first["process_cpu_usage"] == first["process_utime"] == first["process_stime"] == "0.0000"
    assert first["system_cpu_usage"] == "0.0000"
    assert float(second["process_cpu_usage"]) > 0
    for row in table(*lines, kind="system"):
        assert {row[name] for name in PROCESS} == {""}


# -- where the machine begins after the job ------------------------------------------------------------------------


def devices(number: int) -> dict[str, Any]:
    """The line of all devices at the second `number`."""
    section = sample(number)["system"]
    line = {"type": "devices", "at": 1_700_000_000.25 + number, "disk": section["disk"], "network": section["network"]}
    return line | {name: section[name] for name in ("cpu_user_seconds", "cpu_system_seconds")}


def table_of(*lines: dict[str, Any]) -> list[dict[str, str]]:
    write = Lines()
    rows = [write(line) for line in (RUN, *lines)]
    return list(library.DictReader(row.decode() for row in rows if row is not None))


def test_what_grew_before_the_first_sample_of_the_machine_is_in_it() -> None:
    bare = sample(0) | {"system": None}
    rows = table_of(bare, devices(0), sample(1), devices(1), sample(2))
    assert {rows[0][name] for name in SYSTEM} == {""}
    whole = table_of(sample(0), sample(1), sample(2))
    assert rows[1:] == whole[1:]
    assert rows[1]["system_utime"] == "2.250"


def test_devices_before_every_sample_change_nothing() -> None:
    assert table_of(devices(0), sample(1), sample(2)) == table_of(sample(1), sample(2))


def test_devices_that_say_nothing_are_no_beginning() -> None:
    odd = {"type": "devices", "disk": None, "network": [], "cpu_user_seconds": "many"}
    assert table_of(sample(0) | {"system": None}, odd, sample(1))[1]["system_disk_read_bytes"] == "0"


def test_a_driver_that_does_not_answer_is_no_machine_without_gpus() -> None:
    silent = sample(1) | {"gpus": [], "gpus_trouble": "driver/library version mismatch"}
    (row,) = table(silent)
    gpu = [name for name in NAMES if "gpu" in name]
    assert {row[name] for name in gpu if name.startswith("system_")} == {""}
    silent["tree"] = {name: value for name, value in silent["tree"].items() if not name.startswith("gpu_")}
    assert {table(silent)[0][name] for name in gpu} == {""}
