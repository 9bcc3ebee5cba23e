"""CSV: the 32 columns, what stands in them and what is empty; live and exported alike; and the `export` command.

With PROCTALLY_REFRESH_GOLDEN=1 the golden files are written anew.
"""

from __future__ import annotations

import copy
import csv as library
import errno
import math
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from csv_rows import ANY_LINES, ANY_RUN, MIB, NAMES, PROCESS, RUN, SCRIPTS, SYSTEM, sample, table
from made import admitted
from places import GOLDEN
from proctally.record.csv import COLUMNS, Lines, Rows
from proctally.record.location import open_output
from proctally.record.writer import RecordWriter

patient = settings(deadline=None)
REFRESH = os.environ.get("PROCTALLY_REFRESH_GOLDEN") == "1"


def text(lines: list[dict[str, Any]]) -> str:
    """What is written of these lines."""
    form = Lines()
    return b"".join(data for line in lines if (data := form(line)) is not None).decode()


# -- the golden files --------------------------------------------------------------------------------------------


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


def test_memory_of_the_machine_has_shared_memory_as_cache() -> None:
    memory = {"used_bytes": 650 * MIB, "cached_bytes": 50 * MIB, "shared_bytes": 450 * MIB}
    (row,) = table(sample(0, system={"memory": memory}))
    assert (row["system_memory_used_mib"], row["system_memory_cached_mib"]) == ("200", "500")


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
    (row,) = table(*admitted(sample(0, system={"process_count": value}, tree={"pss_bytes": value})))
    assert row["system_processes"] == row["process_memory_mib"] == ""


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


def test_a_gpu_that_is_powered_down_does_nothing() -> None:
    asleep = {"state": "asleep", "utilization_ratio": None, "memory_used_bytes": None}
    assert gpu_fields(SYSTEM_GPU, gpus=[asleep]) == ["0.0000", "0.0000", "0"]


# -- any record --------------------------------------------------------------------------------------------------


@example({"type": "run"}, [{"type": "sample", "system": {"disk": {"space_total_bytes": 5, "space_free_bytes": 6}}}])
@patient
@given(ANY_RUN, ANY_LINES)
def test_any_sample_has_32_fields_that_are_numbers_or_empty(run: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    lines = admitted(run, *lines)
    written = text(lines)
    header, *rows = written.removesuffix("\n").split("\n")
    assert header.split(",") == NAMES
    assert len(rows) == sum(line["type"] == "sample" for line in lines)
    for row in rows:
        found = row.split(",")
        assert len(found) == len(NAMES)
        for field, (_, digits) in zip(found, COLUMNS, strict=True):
            whole, point, behind = field.removeprefix("-").partition(".")  # a clock can be before 1970
            assert field == "" or (whole.isdecimal() and len(behind) == digits and bool(point) == bool(digits))
    assert text(lines) == written


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
    record = RecordWriter(write_end, "a pipe")
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
    record = RecordWriter(write_end, "a pipe")
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
    assert table_of(sample(0) | {"system": None}, *admitted(odd), sample(1))[1]["system_disk_read_bytes"] == "0"


def test_a_driver_that_does_not_answer_is_no_machine_without_gpus() -> None:
    silent = sample(1) | {"gpus": [], "gpus_unavailable": "nvml_18"}
    (row,) = table(silent)
    gpu = [name for name in NAMES if "gpu" in name]
    assert {row[name] for name in gpu if name.startswith("system_")} == {""}
    silent["tree"] = {name: value for name, value in silent["tree"].items() if not name.startswith("gpu_")}
    assert {table(silent)[0][name] for name in gpu} == {""}
