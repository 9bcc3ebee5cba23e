"""Series and facts of a record, as text and Markdown."""

from __future__ import annotations

import base64
import gzip
import math
import re
import struct
from array import array
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import made
from made import MIB, gap
from proctally.errors import NoRecord
from proctally.record.schema import CORES
from proctally.views.report import diagrams, head, lanes, payload, run_facts, say, series, tables
from proctally.views.report.decimate import thin
from proctally.views.report.markdown import markdown
from proctally.views.report.plots import PLOTS
from proctally.views.report.run_facts import Facts
from proctally.views.report.series import MOST_PHASES, MOST_PROCESSES, WANTED, collect, lines_of, shown
from proctally.views.report.text import WIDTH, text
from strange_lines import facts, hostile
from writing import held


def column(path: Path, key: str) -> list[float | None]:
    return [None if value != value else value for value in collect(str(path)).columns[key]]


# -- thinning --------------------------------------------------------------------------------------------------------


def test_short_series_stay_as_they_are() -> None:
    times, columns = thin([0.0, 1.0, 2.0], {"a": [5.0, math.nan, 7.0]}, 2)
    assert list(times) == [0.0, 1.0, 2.0]
    assert [value if value == value else None for value in columns["a"]] == [5.0, None, 7.0]


def test_thinned_series_keep_the_order_of_peaks() -> None:
    times, columns = thin([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], {"a": [1.0, 9.0, 0.0, 5.0, 3.0, 4.0, 8.0]}, 2)
    assert list(columns["a"]) == [9.0, 0.0, 3.0, 8.0]
    assert list(times) == [0.0, 2.0, 3.0, 6.0]


def test_thinned_shares_are_means() -> None:
    values = [1.0, 0.0, math.nan, 0.5, 0.25, 0.0, math.nan, math.nan, math.nan]
    _, columns = thin([float(n) for n in range(9)], {"a": values}, 3, means=["a"])
    assert [value if value == value else None for value in columns["a"]] == [0.5, 0.5, 0.25, 0.25, None, None]


def test_a_gap_stays_a_gap() -> None:
    values = [1.0] * 10 + [math.nan] * 10 + [2.0] * 10
    _, columns = thin([float(n) for n in range(30)], {"a": values}, 3)
    assert [value if value == value else None for value in columns["a"]] == [1.0, 1.0, None, None, 2.0, 2.0]


@settings(deadline=None)
@given(st.lists(st.one_of(st.just(math.nan), st.floats(-1e9, 1e9)), min_size=1, max_size=300), st.integers(1, 20))
def test_thinning_keeps_extremes_and_ascending_times(values: list[float], buckets: int) -> None:
    times, columns = thin([n / 7 for n in range(len(values))], {"a": values}, buckets)
    assert len(times) == len(columns["a"]) <= max(2 * buckets, 1)
    assert list(times) == sorted(times)
    known, kept = [v for v in values if v == v], [v for v in columns["a"] if v == v]
    assert bool(known) == bool(kept)
    if known:
        assert (min(known), max(known)) == (min(kept), max(kept))


# -- columns ---------------------------------------------------------------------------------------------------------


def test_counters_become_rates_and_levels_stay(tmp_path: Path) -> None:
    path = made.whole(tmp_path / "a.jsonl", seconds=3)
    assert column(path, "tree.write_bytes") == [None, MIB, MIB, MIB]
    assert column(path, "tree.pss_bytes") == [200 * MIB] * 4
    assert column(path, "tree.cpu_cores") == [None, 2.0, 2.0, 2.0]
    assert column(path, "system.pressure.cpu_some_seconds") == [None, 0.5, 0.5, 0.5]


def test_a_counter_that_falls_or_is_not_known_is_a_gap(tmp_path: Path) -> None:
    counts = [10, 20, 5, None, 30, 40]
    samples = [made.sample(float(n), {"read_bytes": count}) for n, count in enumerate(counts)]
    path = made.written(tmp_path / "a.jsonl", made.run(), *samples)
    assert column(path, "tree.read_bytes") == [None, 10, None, None, None, 10]


def test_a_last_sample_right_after_another_has_its_rate_from_the_one_before(tmp_path: Path) -> None:
    samples = [made.sample(n, {"write_bytes": count}) for n, count in ((0.0, 0), (1.0, 100), (1.001, 150))]
    path = made.written(tmp_path / "a.jsonl", made.run(), *samples)
    first, second, last = column(path, "tree.write_bytes")
    assert (first, second) == (None, 100)
    assert last == pytest.approx(150 / 1.001)


def test_a_machine_that_is_read_less_often_has_no_gaps_but_one_that_is_no_longer_read_has(tmp_path: Path) -> None:
    samples = [made.sample(n / 5) for n in range(40)]
    for number, line in enumerate(samples):
        if number % 5 or number > 15:
            line["system"] = None
    path = made.written(tmp_path / "a.jsonl", made.run(interval_seconds=0.2), *samples)
    known = [value is not None for value in column(path, "system.cpu_cores")]
    assert known == [True] * 28 + [False] * 12  # 2.5 s after the last reading, at 3.0 s


def test_where_the_job_stood_still_there_is_a_gap(tmp_path: Path) -> None:
    samples = [made.sample(n) for n in (0.0, 1.0, 2.0, 60.0, 61.0)]
    path = made.written(tmp_path / "a.jsonl", made.run(), *samples)
    story = collect(str(path))
    assert list(story.times) == [0.0, 1.0, 2.0, 31.0, 60.0, 61.0]
    assert column(path, "tree.pss_bytes")[2:5] == [200 * MIB, None, 200 * MIB]
    assert column(path, "tree.write_bytes")[3:] == [None, None, MIB]
    assert story.samples == 5


def test_levels_of_exited_tree_are_gap_and_rates_stay(tmp_path: Path) -> None:
    end = {"processes": 0, "pss_bytes": 0, "rss_bytes": 0, "cpu_cores": 1.0}
    path = made.written(tmp_path / "a.jsonl", made.run(), made.sample(0.0), made.sample(1.0), made.sample(2.0, end))
    assert column(path, "tree.rss_bytes") == [300 * MIB, 300 * MIB, None]
    assert (column(path, "tree.cpu_cores")[-1], column(path, "tree.write_bytes")[-1]) == (1.0, MIB)
    assert collect(str(path)).mean("tree.rss_bytes") == 300 * MIB


def test_part_of_a_section_that_is_unknown_is_gap(tmp_path: Path) -> None:
    parts = dict.fromkeys(("running_seconds", "ready_seconds", "throttled_seconds", "disk_seconds"), 0.0)
    known = [{"time": parts | {"asleep_seconds": float(n)} if n != 2 else None} for n in range(5)]
    path = made.written(
        tmp_path / "a.jsonl", made.run(), *(made.sample(float(n), tree) for n, tree in enumerate(known))
    )
    assert column(path, "tree.time.asleep_seconds") == [None, 1.0, None, 1.0, 1.0]


def test_partial_sum_of_pss_is_gap(tmp_path: Path) -> None:
    samples = [made.sample(0.0), made.sample(1.0, {"pss_unread": 2})]
    assert column(made.written(tmp_path / "a.jsonl", made.run(), *samples), "tree.pss_bytes") == [200 * MIB, None]


def test_wanted_cores_end_at_those_it_could_use(tmp_path: Path) -> None:
    delays = [None, 0, 1.0, 9.0, None]
    samples = [made.sample(float(n), {"run_delay_seconds": delay}) for n, delay in enumerate(delays)]
    path = made.written(tmp_path / "a.jsonl", made.run(), *samples)
    assert column(path, WANTED) == [None, None, 3.0, 4.0, None]
    (cpu,) = [plot for plot in PLOTS if plot.key == "cpu"]
    assert [line.label for line in lines_of(collect(str(path)), cpu)] == ["used", "wanted"]
    calm = made.written(
        tmp_path / "b.jsonl", made.run(), *(made.sample(float(n), {"run_delay_seconds": 0}) for n in range(3))
    )
    assert [line.label for line in lines_of(collect(str(calm)), cpu)] == ["used"]


def test_share_is_at_most_all(tmp_path: Path) -> None:
    samples = [made.sample(float(n)) for n in range(3)]
    for number, line in enumerate(samples):
        line["system"]["pressure"]["cpu_some_seconds"] = 1.1 * number
    path = made.written(tmp_path / "a.jsonl", made.run(), *samples)
    assert column(path, "system.pressure.cpu_some_seconds") == [None, 1.0, 1.0]


def test_long_record_has_half_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "MAX_ROWS", 60)
    monkeypatch.setattr(series, "BLOCK", 8)
    samples = [made.sample(float(n), {"threads": 99 if n == 77 else 2, "cpu_cores": float(n % 2)}) for n in range(203)]
    story = collect(str(made.written(tmp_path / "a.jsonl", made.run(), *samples)))
    assert (story.samples, story.per_row, len(story.times)) == (203, 4, 51)
    assert (story.times[0], story.times[1], story.times[-1]) == (3.0, 7.0, 202.0)
    assert {len(values) for values in story.columns.values()} == {51}
    assert list(story.columns["tree.threads"]).count(99) == 1
    assert set(story.columns["tree.cpu_cores"][:-1]) == {0.5}
    assert story.mean("tree.write_bytes") == pytest.approx(MIB)


@given(st.lists(st.one_of(st.just(math.nan), st.floats(-1e30, 1e30)), min_size=1, max_size=50), st.floats(0.001, 1e7))
def test_payload_holds_all_samples(values: list[float], interval: float) -> None:
    single = array("f", values)
    times = [interval * n for n in range(len(values))]
    text = payload.element(3, times, {"a": single, "b": single})
    (rows, tick), data = re.findall(r'data-rows="(.*?)" data-tick="(.*?)"', text)[0], text.partition(">")[2]
    raw, count = gzip.decompress(base64.b64decode(data.partition("<")[0])), int(rows)
    assert len(raw) == count * (4 + 2 * 3)
    ticks = accumulate(
        int.from_bytes(bytes(step), "big")
        for step in zip(*(raw[n * count : (n + 1) * count] for n in range(4)), strict=True)
    )
    assert [tick_count * float(tick) / 1000 for tick_count in ticks] == pytest.approx(times, rel=1e-8, abs=6e-5)
    planes = [raw[(4 + n) * count : (5 + n) * count] for n in range(3)]
    for value, *bits in zip(single, *planes, strict=True):
        (found,) = struct.unpack(">f", bytes([*bits, 0]))
        assert math.isnan(found) if math.isnan(value) else found == pytest.approx(value, rel=1.3e-4, abs=1e-37)


def test_gpus_are_summed_and_few_have_lines_of_their_own(tmp_path: Path) -> None:
    def gpus(*used: float | None) -> list[dict[str, Any]]:
        return [{"index": n, "name": "A<b>", "utilization_ratio": value} for n, value in enumerate(used)]

    samples = [made.sample(float(n), gpus=one) for n, one in enumerate([gpus(0.5, 1.0), None, gpus(0.5, None)])]
    story = collect(str(made.written(tmp_path / "a.jsonl", made.run(), *samples)))
    assert list(story.columns["gpus.utilization_ratio"])[:2] == [1.5, 1.5]
    assert math.isnan(story.columns["gpus.utilization_ratio"][2])  # a part of a sum is no sum
    assert list(story.columns["gpu0.utilization_ratio"]) == [0.5, 0.5, 0.5]
    (plot,) = [plot for plot in PLOTS if plot.key == "gpu"]
    assert [line.label for line in lines_of(story, plot)] == ["all GPUs, sum", "GPU 0 A<b>", "GPU 1 A<b>"]


def test_lines_of_a_chart_have_its_unit() -> None:
    counted = {plot.key for plot in PLOTS if plot.unit.startswith("{") and plot.unit != CORES}
    assert counted == {"waiting", "processes"}
    for plot in PLOTS:
        if plot.key not in counted:
            assert {line.unit for line in plot.lines} == {plot.unit}, plot.key
    units = {plot.key: plot.unit for plot in PLOTS}
    assert (units["cpu"], units["pressure"], units["disk"], units["gpu-power"]) == (CORES, "1", "By/s", "W")


@pytest.mark.parametrize(
    ("unit", "words"),
    [("By", "2.0 KiB"), ("By/s", "2.0 KiB/s"), ("1", "204800 %"), ("{cpu}", "2048.00 cores"), ("W", "2048 W"),
     ("{thread}", "2,048")],
)  # fmt: skip
def test_value_of_a_chart_has_its_unit(unit: str, words: str) -> None:
    assert run_facts.said(unit, 2048.0) == words


def test_charts_without_data_and_those_of_zeros_are_told(tmp_path: Path) -> None:
    charts, empty, flat = shown(collect(str(made.whole(tmp_path / "a.jsonl"))))
    assert [plot.key for plot, _ in charts] == [
        "cpu", "memory", "waiting", "disk", "processes", "machine-cpu", "machine-memory", "machine-disk", "network",
        "pressure",
    ]  # fmt: skip
    assert "GPU" in empty
    assert flat == []
    assert [line.label for plot, rows in charts if plot.key == "pressure" for line in rows] == ["CPU, some"]
    quiet = [made.sample(float(n), {"write_bytes": 5}, system=None) for n in range(4)]
    _, _, flat = shown(collect(str(made.written(tmp_path / "b.jsonl", made.run(), *quiet))))
    assert flat == ["Disk"]


def test_phases_may_be_nested_and_not_ended(tmp_path: Path) -> None:
    lines = [
        made.phase("fit", "begin", 1, 2.0), made.phase("fit", "begin", 2, 4.0), made.phase("fit", "end", 3, 5.0),
        made.phase("fit", "end", 5, 10.0), made.phase("save", "begin", 6), made.phase("never begun", "end", 7),
    ]  # fmt: skip
    story = collect(str(made.whole(tmp_path / "a.jsonl", *lines)))
    assert [(one["name"], one["begin"], one["end"], one["used"]) for one in story.phases] == [
        ("fit", 1, 5, 8.0), ("fit", 2, 3, 1.0), ("save", 6, None, None),
    ]  # fmt: skip
    assert [(bar.begin, bar.end, bar.lane) for bar in lanes.of_phases(story)] == [(1, 5, 0), (2, 3, 1), (6, 10, 0)]


def test_phase_that_is_left_out_does_not_end_another(tmp_path: Path) -> None:
    kept = [made.phase("fit", "begin", 1), *(made.phase("x", "begin", 1) for _ in range(MOST_PHASES - 1))]
    more = [made.phase(f"y{n}", "begin", 2) for n in range(5)]
    lines = [*kept, *more, made.phase("fit", "begin", 3), made.phase("fit", "end", 4), made.phase("fit", "end", 5)]
    story = collect(str(made.whole(tmp_path / "a.jsonl", *lines)))
    assert (len(story.phases), story.phases_left_out, story.phases[0]["end"]) == (MOST_PHASES, 6, 5)


def test_process_is_kept_without_unknown_fields(tmp_path: Path) -> None:
    path = made.whole(tmp_path / "a.jsonl", made.process(1, 0.0, 1.0, 0.5) | {"x": [[]] * 100})
    assert "x" not in collect(str(path)).processes[0]


def test_of_many_processes_the_longest_are_kept(tmp_path: Path) -> None:
    short = [made.process(n, 1.0, 1.0 + n / 1e6, 0.0) for n in range(MOST_PROCESSES + 50)]
    path = made.whole(tmp_path / "a.jsonl", *short, made.process(99_999, 0.0, None, 3.0))
    story = collect(str(path))
    assert story.seen == MOST_PROCESSES + 51
    assert len(story.processes) == MOST_PROCESSES
    assert story.processes[0]["pid"] == 99_999
    assert min(one["pid"] for one in story.processes) == 51


def test_bars_in_a_lane_do_not_overlap_and_those_without_room_are_folded(tmp_path: Path) -> None:
    path = made.whole(tmp_path / "a.jsonl", *(made.process(n, n % 7, n % 7 + 2.5, 1.0) for n in range(300)))
    bars = lanes.of_processes(collect(str(path)))
    assert len({bar.lane for bar in bars}) == lanes.MOST_LANES
    assert 0 < len(bars) < 300
    for lane in range(lanes.MOST_LANES):
        own = sorted((bar.begin, bar.end) for bar in bars if bar.lane == lane)
        assert all(before[1] <= after[0] for before, after in zip(own, own[1:], strict=False))


def test_the_shade_of_a_process_is_its_mean_cpu(tmp_path: Path) -> None:
    used = [(0.0, 0), (0.1, 1), (0.5, 2), (1.0, 3), (3.0, 4), (None, None)]
    path = made.whole(tmp_path / "a.jsonl", *(made.process(n, n, n + 1, cpu) for n, (cpu, _) in enumerate(used)))
    assert [bar.shade for bar in lanes.of_processes(collect(str(path)))] == [shade for _, shade in used]


# -- what is said ----------------------------------------------------------------------------------------------------


def figure(one: Facts, label: str) -> str:
    (found,) = [each for each in run_facts.head(one) if each.label == label]
    return f"{'at least ' if found.incomplete else ''}{found.value}; {found.note}"


def test_figures_of_a_run(tmp_path: Path) -> None:
    one = facts(made.whole(tmp_path / "a.jsonl"))
    assert figure(one, "CPU time") == "20.0 s; user 15.0, system 5.0"
    assert figure(one, "Cores") == "2.00; peak 3.50 of 4"
    assert figure(one, "Processes") == "120; started, 9 at once"


def test_table_of_commands_sums_to_the_cpu_time(tmp_path: Path) -> None:
    rows = tables.commands(facts(made.whole(tmp_path / "a.jsonl")))["rows"]
    assert [row[:3] for row in rows] == [
        ["cc1", "12.000", "60 %"], ["ld", "4.500", "22 %"], ["(not attributed)", "3.500", "18 %"],
    ]  # fmt: skip


def test_what_may_be_incomplete_says_so(tmp_path: Path) -> None:
    end = made.summary()
    end["cpu"]["coverage"] = "partial"
    end["gaps"] = [gap("cpu", "unreaped_unseen", count=2)]
    one = facts(made.whole(tmp_path / "a.jsonl", end=end))
    assert figure(one, "CPU time").startswith("at least 20.0 s")
    ignored = "2 processes ignored SIGCHLD: CPU time of their children after the last scan is missing"
    assert f"CPU time: partial; {ignored}" in run_facts.unseen(one)
    assert "no cgroup: not requested; use --cgroup" in run_facts.unseen(one)
    assert "complete: I/O, processes" in run_facts.unseen(one)


def test_a_record_without_an_end_is_told_by_its_last_sample(tmp_path: Path) -> None:
    path = made.written(tmp_path / "a.jsonl", made.run(), *(made.sample(float(n)) for n in range(6)))
    with path.open("a") as file:
        file.write('{"type":"sample","at":17')
    with held(path):
        one = facts(path)
    assert one.verdict == "running"
    assert figure(one, "CPU time") == "10.0 s; so far"
    assert text([one], blocks=True).startswith("proctally made  running  5.0 s: the record is still written\n")
    one = facts(path)
    assert one.verdict == "lost"
    assert "whatever wrote it was ended" in run_facts.unseen(one)[0]


PARTS = {
    "running": 1.0, "ready": 5.0, "throttled": 0.0, "disk": 0.0, "asleep": 4.0,
}  # fmt: skip


def timed(wanted: float = 4.0, **bounds: float) -> dict[str, Any]:
    """Return a summary of 10 s with 2 cores used, of which half was a wait. `bounds`: more of its time."""
    time = {f"{part}_seconds": seconds for part, seconds in PARTS.items()} | bounds
    user = {"user": "ci", "command": "<cc1>", "processes": 2, "cpu_cores": 0.84, "rss_bytes": 5 << 20}
    others = {"interval_seconds": 10.0, "cpu_cores": 1.5, "largest": [user]}
    return made.summary(time=time | {"wanted_cores": wanted}, others=others)


def test_what_is_bad_is_said_first(tmp_path: Path) -> None:
    one = facts(made.whole(tmp_path / "a.jsonl", end=timed()))
    assert say.sentences(one) == [
        "Starved: got 50 % of the CPU time it wanted, because others used the machine (ci <cc1> x 2 0.84 cores).",
        "It ran 10.0 s, kept 2.00 of 4 cores busy and waited for a CPU 50 % of the time.",
    ]
    good = say.sentences(
        facts(made.whole(tmp_path / "b.jsonl", end=made.bounded_summary(100 * MIB, 200 * MIB, oom_kills=0)))
    )
    assert good == [
        "It ran 10.0 s and kept 2.00 of 4 cores busy.", "Memory stayed below 200 MiB of 1.0 GiB; nothing was killed.",
    ]  # fmt: skip
    end = made.summary(verdict="oom")
    end["reason"] |= {"code": "oom_kill", "oom_kills": 1, "oom_place": "cgroup", "memory_limit_bytes": 200 * MIB}
    killed = say.sentences(facts(made.whole(tmp_path / "c.jsonl", end=end)))
    assert killed[0] == "Killed for memory, at the limit of 200 MiB: 1 process by the kernel's OOM killer."


def test_sentences_stay_short(tmp_path: Path) -> None:
    end = timed()
    end["reason"] |= {"code": "block_ended", "exception": "E" * 300}
    end["verdict"] = "failed"
    end["time"] |= {"disk_seconds": 3.0, "throttled_seconds": 3.0}
    one = facts(made.whole(tmp_path / "a.jsonl", end=end))
    assert 100 < len(" ".join(say.sentences(one))) <= say.MOST


def test_starved_has_bounds_where_the_wait_has(tmp_path: Path) -> None:
    wide = {"running_low_seconds": 1.0, "running_high_seconds": 5.9, "ready_low_seconds": 0.1, "ready_high_seconds": 5}
    one = facts(made.whole(tmp_path / "a.jsonl", end=timed(**wide)))
    assert text([one], blocks=True).startswith(
        "proctally made  ok, maybe starved  10.0 s: got 50 to 98 % of the CPU time it\n"
    )
    assert head.head(one)["verdict"] == "ok, maybe starved"


def test_others_are_listed_with_their_memory(tmp_path: Path) -> None:
    one = facts(made.whole(tmp_path / "a.jsonl", end=timed()))
    assert "- ci <cc1> x 2 0.84 cores, 5.0 MiB\n" in text([one], blocks=True)
    assert "other jobs" not in text([facts(made.whole(tmp_path / "b.jsonl"))], blocks=True)
    assert "the rest ended" not in text([one], blocks=True)
    end = timed()
    starved = end | {"cpu": end["cpu"] | {"mean_cores": 0.1}, "others": end["others"] | {"coverage": "partial"}}
    starved["others"]["largest"] = [starved["others"]["largest"][0] | {"cpu_cores": 0.01}]
    one = facts(made.whole(tmp_path / "c.jsonl", end=starved))
    assert run_facts.others(one)[-1] == "the rest ended between two readings, or cannot be read"


def test_report_explains_what_a_process_held_briefly(tmp_path: Path) -> None:
    end = made.bounded_summary(100 * MIB, 200 * MIB)
    for kind in ("spike", "private"):
        one = {"pid": 5, "command": "python3", "low_bytes": 90 * MIB, "high_bytes": 90 * MIB, "kind": kind}
        end["memory"]["at_peak"] = [one]
        found = head.memory(facts(made.whole(tmp_path / f"{kind}.jsonl", end=end)))
        assert found is not None
        assert any("by the high-water mark" in line for line in found["lines"]) == (kind == "spike")


def test_bar_of_time_has_a_seam_where_its_parts_have_bounds(tmp_path: Path) -> None:
    end = timed(ready_low_seconds=4.0, ready_high_seconds=6.0, asleep_low_seconds=3.0, asleep_high_seconds=5.0)
    bar = diagrams.time_bar("Whole run", facts(made.whole(tmp_path / "a.jsonl", end=end)).time)
    assert bar is not None
    assert bar.words == "Whole run: computing 10 %, waiting for a CPU 40 to 60 %, asleep 30 to 50 %"
    assert [(piece.kind, piece.over, round(piece.x), round(piece.width)) for piece in bar.pieces] == [
        ("running", "", 0, 97), ("ready", "", 100, 497), ("asleep", "", 600, 397), ("ready", "asleep", 500, 200),
    ]  # fmt: skip


def test_bracket_has_limit_and_request_on_its_scale(tmp_path: Path) -> None:
    one = facts(made.whole(tmp_path / "a.jsonl", end=made.bounded_summary(100 * MIB, 200 * MIB)))
    drawn = diagrams.bracket("Peak", one.memory, 480 * MIB, 240 * MIB, "advised")
    assert drawn is not None
    assert drawn.words == ("Peak: 100 to 200 MiB held, 36 MiB mapped files, 240 MiB advised, 480 MiB limit")
    assert [(piece.kind, round(piece.x), round(piece.width)) for piece in drawn.pieces] == [
        ("held", 0, 200), ("perhaps", 200, 200), ("files", 400, 72),
    ]  # fmt: skip
    assert drawn.lines == [("request", 480), ("limit", 960)]
    far = diagrams.bracket("Peak", one.memory, 4800 * MIB, 240 * MIB, "advised")
    assert far is not None and far.lines == [("request", 960), ("limit", 998)]


def test_phases_are_placed_by_the_clock_that_is_never_set(tmp_path: Path) -> None:
    """`at` is by the wall clock, which was set in between; older records have no other."""
    told = [made.phase("a", "begin", 500.0) | {"elapsed_seconds": 2.0}, made.phase("a", "end", 4.0)]
    (phase,) = facts(made.whole(tmp_path / "a.jsonl", *told)).story.phases
    assert (phase["begin"], phase["end"]) == (2.0, 4.0)


# -- forms -----------------------------------------------------------------------------------------------------------


def test_text_fits_into_80_columns_and_falls_back_to_ascii(tmp_path: Path) -> None:
    path = made.whole(tmp_path / "a.jsonl", made.phase("fit", "begin", 1, 0.0), made.phase("fit", "end", 5, 8.0))
    told = text([facts(path)], blocks=True)
    lines = [line for line in told.splitlines() if not line.startswith("  record ")]  # a path stays in one piece
    assert max(map(len, lines)) <= WIDTH
    assert re.search(r"used +█+ 2\.00\n", told)
    plain = text([facts(path)], blocks=False)
    assert plain.isascii()
    assert re.search(r"used +#+ 2\.00\n", plain)
    both = text([facts(path), facts(made.whole(tmp_path / "b.jsonl", seconds=4))], 1, blocks=True)
    assert both.startswith("BASE  made 01234567\nNEW   made 01234567\n")
    assert max(map(len, both.splitlines())) <= WIDTH
    assert re.search(r"wall +10\.0 s +4\.000 s\n", both)


def test_figures_of_several_runs_stay_in_their_columns(tmp_path: Path) -> None:
    time = dict.fromkeys(("running_seconds", "ready_seconds"), 5.0) | {"running_low_seconds": 2.0}
    rest = {f"{part}_seconds": 0.0 for part in ("throttled", "disk", "asleep")}
    one = facts(made.whole(tmp_path / "a.jsonl", end=made.summary(time=time | rest)))
    first, second = (f"{words:>30}" * 2 for words in ("computing 20 to 50 %,", "waiting for a CPU 50 %"))
    assert f"\nwhere the time went{first}\n{'':19}{second}\n" in text([one, one], blocks=True)


def several(tmp_path: Path, count: int) -> list[Facts]:
    """Runs of 10, 11, ... seconds, each with a gap whose amount differs; the first has another one, too."""
    found = []
    for n in range(count):
        end = made.bounded_summary(100 * MIB, 200 * MIB, 10.0 + n)
        end["time"] = {name: seconds * (10 + n) / 10 for name, seconds in timed()["time"].items()}
        end["gaps"] = [gap("cpu", "teardown", count=n + 1), *([gap("io", "io_denied")] if n == 0 else [])]
        end["phases"] = [{"name": "fit", "wall_seconds": 5.0 + n, "cpu_seconds": 1.0, "time": None}]
        found.append(facts(made.whole(tmp_path / f"{n}.jsonl", seconds=10 + n, end=end)))
    return found


def test_several_runs_begin_with_what_differs(tmp_path: Path) -> None:
    overlay = pytest.importorskip("proctally.views.report.overlay", reason="the extra report is not installed")
    runs = several(tmp_path, 8)
    seen = overlay.view(runs, 4)
    assert seen["figures"]["rows"][0][:4] == ["wall", "11.50 s (10 to 13 s)", "15.50 s (14 to 17 s)", "+34.8 %"]
    widths = [run["time"].pieces[-1].x + run["time"].pieces[-1].width for run in seen["runs"]]
    assert widths[0] / widths[-1] == pytest.approx(10 / 17, rel=0.01)
    assert seen["phases"]["rows"] == [["fit", *(f"{5 + n}.0 s" for n in range(8))]]
    assert seen["common"][-1].startswith("no cgroup")
    assert seen["apart"] == ["made 01234567: I/O: I/O of some processes is denied to this user"]
    assert overlay.view(runs, 0)["figures"]["heads"] == ("Figure", "median", "least", "most", "spread")


def test_many_runs_are_drawn_as_quartiles(tmp_path: Path) -> None:
    overlay = pytest.importorskip("proctally.views.report.overlay", reason="the extra report is not installed")
    assert len(overlay.lines(several(tmp_path, 8))) == 8
    drawn = dict(overlay.lines(several(tmp_path, 9)))
    assert list(drawn) == ["lower quartile", "median", "upper quartile"]
    column = drawn["median"].columns["tree.cpu_cores"]
    assert column[100] == 2.0
    assert math.isnan(column[-1])  # of which only one run remains


def test_pss_of_nothing_but_an_empty_tree_is_left_out(tmp_path: Path) -> None:
    samples = [made.sample(float(n), {"pss_bytes": None if n < 3 else 0}) for n in range(4)]
    assert "sum of PSS  " not in text([facts(made.written(tmp_path / "a.jsonl", made.run(), *samples))], blocks=True)


def test_sparklines_keep_peaks(tmp_path: Path) -> None:
    samples = [made.sample(float(n), {"cpu_cores": 8.0 if n == 500 else 0.0}) for n in range(1000)]
    told = text([facts(made.written(tmp_path / "a.jsonl", made.run(), *samples))], blocks=True)
    (line,) = re.findall(r"used +([▁▂▃▄▅▆▇█]+) 8\.00\n", told)
    assert line.count("█") == 1
    assert line.count("▁") == len(line) - 1


def test_names_of_strangers_are_text_in_a_terminal(tmp_path: Path) -> None:
    one = facts(hostile(tmp_path / "a.jsonl"))
    for told in (text([one], blocks=True), text([one, one], blocks=True)):
        assert "\x1b" not in told
        assert "\\x" in told


def test_markdown_shows_rss_of_commands_with_its_unit(tmp_path: Path) -> None:
    assert "| 80 | 40.0 MiB |" in markdown([facts(made.whole(tmp_path / "a.jsonl"))])


def test_names_of_strangers_are_text_in_markdown(tmp_path: Path) -> None:
    one = facts(hostile(tmp_path / "a.jsonl"))
    for told in (markdown([one]), markdown([one, one])):
        fenced = told.split("```")
        outside = "".join(fenced[::2])
        assert "\x1b" not in told
        assert "<script" not in outside
        assert "@someone" not in outside
        assert "`" not in outside
        assert "&#60;script&#62;alert(1)&#60;" in told
        for row in outside.splitlines():
            assert not row.startswith("|") or row.count("|") in (3, 4, 5)


# -- records that are not as they should be --------------------------------------------------------------------------


def test_samples_that_go_back_are_left_out(tmp_path: Path) -> None:
    samples = [made.sample(at) for at in (-1.0, -(2.0**70), 0.0, 1.0, 0.5, 2.0)]
    assert list(collect(str(made.written(tmp_path / "a.jsonl", made.run(), *samples))).times) == [0.0, 1.0, 2.0]


def test_a_record_of_a_header_alone_is_told(tmp_path: Path) -> None:
    one = facts(made.written(tmp_path / "a.jsonl", made.run(kind="attach", command=None)))
    assert "its end is missing" in text([one], blocks=False)
    assert say.sentences(one) == ["Its end is missing.", "It was tracked for 0.000 s."]


def test_truncated_gzip_shows_where_it_ends(tmp_path: Path) -> None:
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(made.whole(tmp_path / "a.jsonl", seconds=400).read_bytes())[:-1500])
    one = facts(packed)
    assert one.verdict == "lost" and 1 < one.wall < 400
    shown = run_facts.brief(one.wall)
    assert f"lost  {shown}: its end is missing: cut short at {shown}" in text([one], blocks=False)


def test_a_compressed_record(tmp_path: Path) -> None:
    path = made.whole(tmp_path / "a.jsonl")
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert text([facts(packed)], blocks=True).replace(str(packed), str(path)) == text([facts(path)], blocks=True)


def test_no_record() -> None:
    with pytest.raises(NoRecord):
        collect(__file__)
