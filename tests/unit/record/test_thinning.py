"""Fewer samples: what is added up stays what it was, and peaks stay peaks."""

from __future__ import annotations

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proctally.cli import main
from proctally.model import COUNTER, fields
from proctally.outputs.csv import Rows
from proctally.record import json_line, read
from proctally.thinning import LAST, LEAST, MEAN, MOST, SUM, rules, thin
from test_top import header, of_record
from tracked import PYTHON, record, run, samples


def thinned(lines: list[dict[str, Any]], every: float) -> list[dict[str, Any]]:
    return list(thin(lines, every))


def first() -> dict[str, Any]:
    return of_record(0.0, cpu_cores=None) | {"interval_seconds": None}


def regular(count: int, jitter: float = 0.0) -> list[dict[str, Any]]:
    return [header(), first(), *(of_record(at + jitter * (-1) ** at) for at in range(1, count + 1))]


def test_stretches() -> None:
    found = samples(thinned(regular(25), 10))
    assert [sample["elapsed_seconds"] for sample in found] == [0.0, 10.0, 20.0, 25.0]
    assert [sample["interval_seconds"] for sample in found] == [None, 10.0, 10.0, 5.0]


def test_late_samples_belong_to_the_stretch_they_were_meant_for() -> None:
    found = samples(thinned(regular(30, jitter=0.2), 10))
    assert [sample["interval_seconds"] for sample in found] == [None, 10.0, 10.0, 10.0]


def test_every_kind_of_field() -> None:
    def at(second: float, **more: Any) -> dict[str, Any]:
        return of_record(second) | more

    system = [
        {
            "cpu_cores": 1.0,
            "per_core_ratio": [1.0, 0.0],
            "memory": {"used_bytes": 9, "free_bytes": 5, "available_bytes": 7},
        },
        None,  # not read at high rates
        {
            "cpu_cores": 3.0,
            "per_core_ratio": [0.5, None],
            "memory": {"used_bytes": 3, "free_bytes": 8, "available_bytes": None},
        },
    ]
    lines = [
        header(),
        first(),
        at(1.0, system=system[0], gpus=[{"index": 0, "utilization_ratio": 0.2, "energy_joules": 5.0}]),
        at(2.0, system=system[1], gpus=None, cgroup=None),
        at(3.0, system=system[2], gpus=[{"index": 0, "utilization_ratio": 0.6, "energy_joules": 9.0}], cgroup=None),
    ]
    lines[2]["tree"] |= {"rss_bytes": 30, "pss_bytes": None, "read_bytes": 1, "processes": 7, "cpu_cores": 0.5}
    lines[3]["tree"] |= {"rss_bytes": 10, "pss_bytes": 5, "read_bytes": 2, "processes": 3, "cpu_cores": None}
    lines[4]["tree"] |= {"rss_bytes": 20, "pss_bytes": None, "read_bytes": 4, "processes": 4, "cpu_cores": 1.5}
    found = samples(thinned(lines, 3))[1]
    tree, whole = found["tree"], found["system"]
    assert (tree["rss_bytes"], tree["pss_bytes"], tree["read_bytes"], tree["processes"]) == (30, 5, 4, 7)
    assert tree["cpu_cores"] == 1.0, "the mean of what is known"
    assert (whole["cpu_cores"], whole["per_core_ratio"]) == (2.0, [0.75, 0.0])
    assert whole["memory"] == {"used_bytes": 9, "free_bytes": 5, "available_bytes": 7}
    assert found["gpus"] == [{"index": 0, "utilization_ratio": 0.4, "energy_joules": 9.0}]
    assert found["cgroup"] == {"cpu_seconds": 2.0}, "as last known"
    assert found["at"] == lines[4]["at"]


def test_a_mean_is_over_time() -> None:
    lines = [header(), first(), of_record(9.0) | {"interval_seconds": 9.0}, of_record(10.0)]
    lines[2]["tree"]["cpu_cores"], lines[3]["tree"]["cpu_cores"] = 2.0, 0.0
    assert samples(thinned(lines, 10))[1]["tree"]["cpu_cores"] == 1.8


def test_a_disk_that_is_not_told_of_did_nothing() -> None:
    lines = [header(), first(), *(of_record(at) | {"system": {"disks": []}} for at in (1.0, 2.0, 3.0, 4.0))]
    lines[3]["system"]["disks"] = [{"name": "sda", "read_bytes_per_second": 8.0, "busy_ratio": 0.4}]
    found = samples(thinned(lines, 4))[1]["system"]["disks"]
    assert found == [{"name": "sda", "read_bytes_per_second": 2.0, "busy_ratio": 0.1}]


def test_of_the_largest_processes_the_largest_are_kept() -> None:
    lines = [header(), first(), of_record(1.0), of_record(2.0)]
    lines[2]["top"] = [{"pid": pid, "command": "a", "cpu_cores": 0.5, "rss_bytes": pid} for pid in (1, 2)]
    lines[3]["top"] = [
        {"pid": pid, "command": "a", "cpu_cores": cores, "rss_bytes": 1} for pid, cores in ((2, 1.0), (3, 0.1))
    ]
    found = samples(thinned(lines, 2))[1]["top"]
    assert [(entry["pid"], entry["cpu_cores"], entry["rss_bytes"]) for entry in found] == [(2, 0.75, 2), (1, 0.5, 1)]


def test_all_other_lines_stay() -> None:
    others = [{"type": "phase", "name": "a", "event": "begin", "at": 1.0}, {"type": "process", "pid": 3}]
    lines = [*regular(3), *others, of_record(4.0), {"type": "summary", "verdict": "ok"}, {"type": "warning"}]
    found = thinned(lines, 10)
    assert [line["type"] for line in found] == ["run", "sample", "phase", "process", "sample", "summary", "warning"]
    assert found[0] == lines[0] | {"thinned_seconds": 10}
    assert thinned([header(), first()], 5)[1:] == [first()]


def test_a_stretch_shorter_than_the_interval_changes_nothing() -> None:
    assert thinned(regular(5), 0.5)[1:] == regular(5)[1:]


def test_lines_of_strangers_do_not_stop_it() -> None:
    odd = [
        {"type": "sample"},
        {"type": "sample", "elapsed_seconds": "x"},
        {"type": "sample", "elapsed_seconds": 1.0, "tree": 3},
    ]
    odd += [{"type": "sample", "elapsed_seconds": 2.0, "tree": {"rss_bytes": "x", "top": 1}, "gpus": [1], "top": {}}]
    odd += [
        {"type": "sample", "elapsed_seconds": 2.5, "interval_seconds": "x", "tree": [], "gpus": {"a": 1}, "top": [{}]}
    ]
    assert len(thinned([header(interval_seconds=None), *odd], 10)) >= 2


def test_every_field_of_a_sample_has_its_rule() -> None:
    """By kind; a rate, a ratio and what is free are told by their names."""
    found = rules()
    for field in fields():
        path = field.name if field.scope == "sample" else f"{field.scope}.{field.name}"
        if path in found and field.kind == COUNTER:
            assert found[path] == LAST, path
    expected = {
        "tree.cpu_seconds": LAST, "tree.cpu_cores": MEAN, "tree.rss_bytes": MOST, "tree.pss_age_seconds": MOST,
        "system.memory.available_bytes": LEAST, "system.disk.space_free_bytes": LEAST, "system.load_1": MOST,
        "system.disks.busy_ratio": MEAN, "system.per_core_ratio": MEAN, "gpus.power_watts": MEAN,
        "gpus.temperature_celsius": MOST, "gpus.sm_clock_hertz": MEAN, "interval_seconds": SUM, "at": LAST,
        "cgroup.memory_peak_bytes": MOST, "top.cpu_cores": MEAN,
    }  # fmt: skip
    assert {path: found[path] for path in expected} == expected


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0.05, 5), st.integers(0, 1000), st.one_of(st.none(), st.integers(0, 1000)), st.floats(0, 8)
        ),
        min_size=1,
        max_size=40,
    ),
    st.floats(0.1, 30),
)
def test_what_is_added_up_stays(steps: list[tuple[float, int, int | None, float]], every: float) -> None:
    at, counted, lines = 0.0, 0, [header(), first()]
    for interval, growth, level, cores in steps:
        at, counted = at + interval, counted + growth
        line = of_record(at) | {"interval_seconds": interval}
        line["tree"] |= {
            "read_bytes": counted,
            "cpu_user_seconds": counted / 100,
            "rss_bytes": level,
            "cpu_cores": cores,
        }
        lines.append(line)
    whole, few = samples(lines), samples(thinned(lines, every))
    assert few[-1]["tree"]["read_bytes"] == counted
    assert sum(line["interval_seconds"] or 0 for line in few) == pytest.approx(at, rel=1e-3, abs=1e-3 * len(few))
    peaks = [
        [line["tree"]["rss_bytes"] for line in found if line["tree"]["rss_bytes"] is not None] for found in (whole, few)
    ]
    assert max(peaks[0], default=None) == max(peaks[1], default=None)
    used = [
        sum((line["tree"]["cpu_cores"] or 0) * (line["interval_seconds"] or 0) for line in found)
        for found in (whole, few)
    ]
    assert used[0] == pytest.approx(used[1], rel=1e-2, abs=1e-2)
    grown = [
        sum(float(row["process_disk_read_bytes"]) for row in table(found)) for found in (lines, thinned(lines, every))
    ]
    assert grown[0] == grown[1] == counted


def table(lines: list[dict[str, Any]]) -> list[dict[str, str]]:
    rows = Rows(lines[0])
    text = [rows.header(), *(rows.row(line) for line in lines if line["type"] == "sample")]
    return list(csv.DictReader(StringIO("\n".join(text))))


# -- the command -----------------------------------------------------------------------------------------------------


def test_a_real_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    work = "import time\nend = time.monotonic() + 0.6\nwhile time.monotonic() < end: sum(range(9999))"
    assert run(tmp_path, "-q", "-i", "0.05", "--", *PYTHON, "-c", work).status == 0
    lines = record(tmp_path)
    (path,) = (tmp_path / "runs").iterdir()
    for form in ("csv", "jsonl"):
        assert main(["export", str(path), "-f", form, "--every", "0.2", "-o", str(tmp_path / form)]) == 0
    assert capfd.readouterr() == ("", "")
    few = list(read(str(tmp_path / "jsonl")))
    assert few[-1] == lines[-1], "the summary is that of the whole run"
    assert 3 <= len(samples(few)) <= 6 < len(samples(lines))
    last = samples(lines)[-1]["tree"]
    assert samples(few)[-1]["tree"]["cpu_seconds"] == last["cpu_seconds"]
    assert main(["export", str(path), "-o", str(tmp_path / "whole")]) == 0
    rows, whole = (list(csv.DictReader((tmp_path / name).open())) for name in ("csv", "whole"))
    assert len(rows) == len(samples(few))
    for column in ("process_utime", "process_stime", "process_disk_write_bytes", "system_utime"):
        one, other = (sum(float(row[column] or 0) for row in found) for found in (rows, whole))
        assert one == pytest.approx(other, abs=0.01), column
    most = [max(float(row["process_memory_mib"]) for row in found) for found in (rows, whole)]
    assert most[0] == most[1] > 0


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_record_is_never_written_over_itself(tmp_path: Path, form: str, capfd: pytest.CaptureFixture[str]) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    path, other = tmp_path / "r.jsonl", tmp_path / "link"
    data = b"".join(map(json_line, regular(3)))
    path.write_bytes(data)
    other.symlink_to(path)
    for output in (path, other):
        assert main(["export", str(path), "-f", form, "-o", str(output), "--force"]) == 1
        assert capfd.readouterr().err.endswith("is the record itself\n")
        assert path.read_bytes() == data


def test_of_gzip(tmp_path: Path) -> None:
    import gzip

    packed = tmp_path / "r.jsonl.gz"
    packed.write_bytes(gzip.compress(b"".join(map(json_line, regular(20)))))
    assert main(["export", str(packed), "-f", "jsonl", "--every", "10", "-o", str(tmp_path / "few")]) == 0
    assert [json.loads(line)["type"] for line in (tmp_path / "few").read_text().splitlines()] == [
        "run",
        *["sample"] * 3,
    ]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("what", ["NaN", "1e999", "-1e999", "1" + "0" * 400, "true", '{"a":' * 300 + "1" + "}" * 300])
def test_a_record_that_holds_anything(tmp_path: Path, form: str, what: str, capfd: pytest.CaptureFixture[str]) -> None:
    """It is written, or one line tells why it is not; what is no number is none."""
    if form == "parquet":
        pytest.importorskip("pyarrow")
    path, out = tmp_path / "r.jsonl", tmp_path / "out"
    data = b"".join(map(json_line, regular(3)))
    odd = f'{{"type":"sample","elapsed_seconds":%s,"interval_seconds":%s,"tree":{{"cpu_cores":{what}}}}}\n'
    path.write_bytes(data + (odd % (what, what) + odd % ("2.5", "1.0") + odd % ("3", what)).encode())
    for every in ([], ["--every", "10"]):
        status = main(["export", str(path), "-f", form, "-o", str(out), "--force", *every])
        said = capfd.readouterr().err
        assert (status, said.count("\n")) in ((0, 0), (1, 1)), said
        assert status == 0 or (said.startswith(f"proctally: {path}: ") and not out.exists())
        if status == 0 and form == "parquet" and "{" not in what:
            from pyarrow import parquet

            cores = parquet.read_table(out).column("tree.cpu_cores").to_pylist()
            assert {value for value in cores if value is not None} <= {1.0, "1.0", "true"}
        out.unlink(missing_ok=True)


@pytest.mark.parametrize("every", ["0", "-1", "x"])
def test_no_time(tmp_path: Path, every: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "last", "--every", every]) == 2
    assert capfd.readouterr().err.startswith("proctally: --every: ")
