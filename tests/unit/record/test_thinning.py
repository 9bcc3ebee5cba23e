"""Downsampled records keep sums and peaks."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Callable
from io import StringIO
from itertools import accumulate
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made import admitted
from peak_memory import peak_mib
from proctally.record import thinning
from proctally.record.csv import Rows
from proctally.record.schema import COUNTER, LAST, MAX, MEAN, MIN, SUM, fields
from proctally.record.thinning import rules, thin
from scenes import header, of_record
from thinned import first, merged, regular
from tracked import samples


def thinned(lines: list[dict[str, Any]], every: float) -> list[dict[str, Any]]:
    return list(thin(lines, every))


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
    assert len(thinned([header(interval_seconds=None), *admitted(*odd)], 10)) >= 2


def test_rules_are_the_aggregates_of_the_table() -> None:
    found = rules()
    for row in fields():
        path = row.path.removeprefix("sample.")
        assert path not in found or found[path] == row.aggregate, path
        assert path not in found or row.kind != COUNTER or found[path] == LAST, path
    expected = {
        "tree.cpu_seconds": LAST, "tree.cpu_cores": MEAN, "tree.rss_bytes": MAX, "tree.pss_age_seconds": MAX,
        "system.memory.available_bytes": MIN, "system.disk.space_free_bytes": MIN, "system.load_1": MAX,
        "system.disks.busy_ratio": MEAN, "system.per_core_ratio": MEAN, "gpus.power_watts": MEAN,
        "gpus.temperature_celsius": MAX, "gpus.sm_clock_hertz": MEAN, "interval_seconds": SUM, "at": LAST,
        "cgroup.memory_peak_bytes": MAX, "top.cpu_cores": MEAN,
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


def made_up(chance: Random) -> dict[str, Any]:
    """Return a sample in which any field may be missing or unknown."""

    def some(**fields: Any) -> dict[str, Any]:
        known = {name: None if chance.random() < 0.2 else each for name, each in fields.items()}
        return {name: each for name, each in known.items() if chance.random() < 0.8}

    def several(**fields: tuple[Any, ...]) -> list[dict[str, Any]]:
        entries = range(chance.randrange(4))
        return [some(**{name: chance.choice(each) for name, each in fields.items()}) for _ in entries]

    ratio, level, names = (0, 1, 0.3, 2.75, 1 / 3), tuple(range(9)), ("a", "b", "c")
    disk = {"name": names, "busy_ratio": ratio, "read_bytes_per_second": ratio}
    interface = {"name": names, "sent_bytes_per_second": ratio}
    gpu = {"uuid": names, "index": (1, 2), "utilization_ratio": ratio, "throttle_reasons": (["x"], [])}
    process = {"pid": (1, 2, 3), "command": names, "cpu_cores": ratio, "rss_bytes": level}
    return some(
        interval_seconds=chance.choice([0.0, 0.5, 1, 3.25]), at=chance.choice(level), unknown=chance.choice(names),
        gpus_age_seconds=chance.choice(ratio), gpus=several(**gpu), top=several(**process),
        tree=some(cpu_cores=chance.choice(ratio), rss_bytes=chance.choice(level), time=some(ready_seconds=1)),
        system=some(
            cpu_cores=chance.choice(ratio), load_1=chance.choice(ratio), disks=several(**disk),
            interfaces=several(**interface), memory=some(free_bytes=chance.choice(level), x=some(y=1)),
            per_core_ratio=[chance.choice((None, *ratio)) for _ in range(chance.randrange(4))],
        ),
        neighbours=some(interval_seconds=chance.choice(ratio), cpu_cores=1.5, largest=several(user=names)),
    )  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 5), max_size=12), st.floats(0.1, 30), st.randoms(use_true_random=True))
def test_one_pass_yields_what_lists_of_all_values_do(steps: list[float], every: float, chance: Random) -> None:
    lines = [{"type": "sample", "elapsed_seconds": at} | made_up(chance) for at in accumulate(steps)]
    found = thinned([header(), first(), *lines], every)[2:]
    assert json.dumps(found) == json.dumps(merged(lines, every, header()["interval_seconds"]))


def test_memory_is_that_of_the_fields_and_not_of_the_samples() -> None:
    lines = (line for at in range(4000) for line in ([header(), first()] if at == 0 else [of_record(float(at))]))
    assert peak_mib(lambda: deque(thin(lines, 1e9), maxlen=0)) < 1


def test_stretch_of_very_many_fields_becomes_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinning, "HELD_BYTES", 1 << 20)
    strange: list[Callable[[int], dict[str, Any]]] = [
        lambda at: {"top": [{"pid": 1000 * at + pid, "command": "x"} for pid in range(1000)]},
        lambda at: {f"x{at}{number}": "y" for number in range(900)},
        lambda at: {f"x{at}": "\xe9" * 16_000},
        lambda at: {"x": {f"y{at}": [[number] for number in range(900)]}},
        lambda at: {f"x{number}": "y" * (at * 3) for number in range(900)},
    ]
    for more in strange:
        whole = [of_record(float(at)) | more(at) for at in range(1, 100)]
        few = thinned([header(), first(), *whole], 1e9)[2:]
        assert 1 < len(few) < 60
        assert few[-1]["tree"] == whole[-1]["tree"]
        assert sum(line["interval_seconds"] for line in few) == 99


def table(lines: list[dict[str, Any]]) -> list[dict[str, str]]:
    rows = Rows(lines[0])
    text = [rows.header(), *(rows.row(line) for line in lines if line["type"] == "sample")]
    return list(csv.DictReader(StringIO("\n".join(text))))


@pytest.mark.parametrize("what", ["x", [1.0], {}, True, None, 1 << 70])
def test_values_of_other_types_in_lists(what: Any) -> None:
    lines = regular(3)
    for line, ratios in zip(lines[2:], (what, [what, 0.25], [0.5]), strict=True):
        line["top"] = [{"pid": 1, "command": "a", "cpu_cores": what, "rss_bytes": what}, {"pid": 2, "command": "b"}]
        line["system"] = {"per_core_ratio": ratios}
    *_, last = thin(admitted(*lines), 100)
    assert {entry["pid"] for entry in last["top"]} == {1, 2}
    assert last["system"]["per_core_ratio"][0] >= 0.5
