"""Reports: what is read from a record and how it is thinned, what is said of it, and each form but the look of HTML."""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import made_lines as made
from made_lines import MIB, START
from proctally.history import NoRecord
from proctally.report import figures, lanes, request, waits
from proctally.report.command import as_json, knows_blocks
from proctally.report.figures import Facts
from proctally.report.markdown import markdown
from proctally.report.plots import PLOTS
from proctally.report.series import MOST_PROCESSES, collect, lines_of, shown
from proctally.report.text import WIDTH, text
from proctally.report.thin import thin
from tracked import PROCTALLY, PYTHON, environment

HOSTILE = "<script>alert(1)</script>\x1b[31m`|*@someone"


def report(
    tmp_path: Path, *arguments: str | Path, home: Path | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROCTALLY, "report", *map(str, arguments)],
        capture_output=True, text=True, cwd=tmp_path, env=environment(home or tmp_path, **more), timeout=60,
        check=False,
    )  # fmt: skip


def facts(path: Path) -> Facts:
    return Facts(collect(str(path)))


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


def test_charts_without_data_and_those_of_zeros_are_told(tmp_path: Path) -> None:
    charts, empty, flat = shown(collect(str(made.whole(tmp_path / "a.jsonl"))))
    assert [plot.key for plot, _ in charts] == [
        "cpu", "memory", "waiting", "disk", "network", "pressure", "processes", "machine-memory",
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
    (found,) = [each for each in figures.head(one) if each.label == label]
    return f"{'at least ' if found.incomplete else ''}{found.value}; {found.note}"


def test_figures_of_a_run(tmp_path: Path) -> None:
    one = facts(made.whole(tmp_path / "a.jsonl"))
    assert figure(one, "Wall time") == "10.0 s; "
    assert figure(one, "CPU time") == "20.0 s; user 15.0 s, system 5.000 s; by rusage"
    assert figure(one, "Cores") == "2.00; mean, peak 3.50; 50 % of 4 cores it may use"
    # the largest process is more than the sum of PSS as sampled; memory.peak has page cache in it, and is not taken
    assert figure(one, "Memory").startswith("512 MiB; peak; 50 % of 1.0 GiB that it may use; PSS 400 MiB")
    assert figure(one, "Processes") == "120; started, at most 9 at once"
    assert [row["command"] for row in figures.commands(one)] == ["cc1", "ld"]
    assert figures.commands(one)[1]["cpu"] == 4.5


def test_what_may_be_incomplete_says_so(tmp_path: Path) -> None:
    end = made.summary()
    end["cpu"]["coverage"] = "all but what nobody waits for"
    one = facts(made.whole(tmp_path / "a.jsonl", end=end))
    assert figure(one, "CPU time").startswith("at least 20.0 s")
    assert "CPU: all but what nobody waits for" in figures.unseen(one)
    assert "no cgroup: not asked for" in figures.unseen(one)


def test_a_record_without_an_end_is_told_by_its_last_sample(tmp_path: Path) -> None:
    path = made.written(tmp_path / "a.jsonl", made.run(), *(made.sample(float(n)) for n in range(6)))
    with path.open("a") as file:
        file.write('{"type":"sample","at":17')
    one = facts(path)
    assert one.verdict == "running"
    assert figure(one, "Wall time") == "5.000 s; up to the last sample"
    assert figure(one, "CPU time") == "10.0 s; so far"
    assert "memory: not enough evidence: more than 200 MiB" in request.next_time(one)[1]
    os.utime(path, (START, START))
    one = facts(path)
    assert one.verdict == "lost"
    assert "whatever wrote it was ended" in figures.unseen(one)[0]


def ending(**waiting: Any) -> dict[str, Any]:
    end = made.summary()
    end["waiting"].update(waiting)
    return end


def test_phases_are_placed_by_the_clock_that_is_never_set(tmp_path: Path) -> None:
    """`at` is by the wall clock, which was set in between; older records have no other."""
    told = [made.phase("a", "begin", 500.0) | {"elapsed_seconds": 2.0}, made.phase("a", "end", 4.0)]
    (phase,) = facts(made.whole(tmp_path / "a.jsonl", *told)).story.phases
    assert (phase["begin"], phase["end"]) == (2.0, 4.0)


def test_it_waited_for_a_cpu(tmp_path: Path) -> None:
    one = facts(made.whole(tmp_path / "a.jsonl", end=ending(run_delay_seconds=20.0)))
    assert waits.headline(one) == "Waited for a free CPU (50 %)."
    assert any("it waited for a free CPU" in line for line in request.next_time(one))


def test_it_was_throttled(tmp_path: Path) -> None:
    end = ending(run_delay_seconds=0.0, throttled_seconds=4.0, throttled_periods=25, periods=100)
    one = facts(made.whole(tmp_path / "a.jsonl", end=end))
    assert waits.headline(one) == "Waited for its CPU quota (25 %)."
    assert "for 4.000 s, in 25 of 100 periods" in waits.waits(one)[0].text


def test_it_waited_for_storage(tmp_path: Path) -> None:
    samples = [made.sample(float(n), {"disk_sleep": n % 2}) for n in range(11)]
    end = ending(run_delay_seconds=0.0)
    one = facts(made.written(tmp_path / "a.jsonl", made.run(), *samples, end))
    assert waits.headline(one) == "Waited for storage (45 %)."


def test_it_waited_for_nothing_or_slept(tmp_path: Path) -> None:
    end = ending(run_delay_seconds=0.0)
    assert waits.headline(facts(made.whole(tmp_path / "a.jsonl", end=end))).startswith("Waited for nothing of note")
    end["cpu"]["total_seconds"] = 0.01
    assert "it slept" in waits.headline(facts(made.whole(tmp_path / "b.jsonl", end=end)))


def test_what_is_not_known_is_not_called_nothing(tmp_path: Path) -> None:
    end = ending(run_delay_seconds=None)
    unknown = {"disk_sleep": None}
    samples = [made.sample(float(n), unknown, system=None) for n in range(11)]
    one = facts(made.written(tmp_path / "a.jsonl", made.run(), *samples, end))
    assert waits.headline(one) == "What it waited for is not known."


@pytest.mark.parametrize(("verdict", "line"), [("oom", 1), ("limit", 1), ("timeout", 2), ("killed", 2)])
def test_what_was_stopped_is_no_evidence(tmp_path: Path, verdict: str, line: int) -> None:
    one = facts(made.whole(tmp_path / "a.jsonl", end=made.summary(verdict=verdict)))
    assert "not enough evidence" in request.next_time(one)[line]


def test_what_failed_or_was_attached_to_may_need_more(tmp_path: Path) -> None:
    failed = facts(made.whole(tmp_path / "a.jsonl", end=made.summary(verdict="failed")))
    assert "it failed: a run that comes to its end may need more" in request.next_time(failed)
    samples = [made.sample(float(n)) for n in range(11)]
    attached = facts(made.written(tmp_path / "b.jsonl", made.run(kind="attach"), *samples, made.summary()))
    assert "measured from the attach on only" in request.next_time(attached)
    told = request.next_time(facts(made.whole(tmp_path / "c.jsonl")))
    assert [line.partition(":")[0] for line in told[:3]] == ["cores", "memory", "time"]
    assert told[1].startswith("memory: 640 MiB (512 MiB in the one run")
    assert told[-1].endswith("proctally advise --name made")


# -- forms -----------------------------------------------------------------------------------------------------------


def test_text_fits_into_80_columns_and_falls_back_to_ascii(tmp_path: Path) -> None:
    path = made.whole(tmp_path / "a.jsonl", made.phase("fit", "begin", 1, 0.0), made.phase("fit", "end", 5, 8.0))
    told = text([facts(path)], blocks=True)
    assert max(map(len, told.splitlines())) <= WIDTH
    assert re.search(r"the job +█+ 2\.00\n", told)
    plain = text([facts(path)], blocks=False)
    assert plain.isascii()
    assert re.search(r"the job +#+ 2\.00\n", plain)
    both = text([facts(path), facts(made.whole(tmp_path / "b.jsonl", seconds=4))], blocks=True)
    assert max(map(len, both.splitlines())) <= WIDTH
    assert re.search(r"wall +10\.0 s +4\.000 s\n", both)


def test_sparklines_keep_peaks(tmp_path: Path) -> None:
    samples = [made.sample(float(n), {"cpu_cores": 8.0 if n == 500 else 0.0}) for n in range(1000)]
    told = text([facts(made.written(tmp_path / "a.jsonl", made.run(), *samples))], blocks=True)
    (line,) = re.findall(r"the job +([▁▂▃▄▅▆▇█]+) 8\.00\n", told)
    assert line.count("█") == 1
    assert line.count("▁") == len(line) - 1


@pytest.mark.parametrize(
    ("variables", "known"),
    [
        ({"LANG": "de_DE.UTF-8"}, True), ({"LANG": "en_US.utf8"}, True), ({"LANG": "C"}, False), ({}, False),
        ({"LANG": "C.UTF-8", "LC_ALL": "C"}, False), ({"LC_CTYPE": "C.UTF-8", "LANG": "C"}, True),
    ],
)  # fmt: skip
def test_the_locale_says_whether_blocks_are_known(variables: dict[str, str], known: bool) -> None:
    assert knows_blocks(variables) is known


def hostile(path: Path) -> Path:
    end = made.summary(commands=[{"command": HOSTILE, "processes": 1, "cpu_seconds": 1.0}], evidence=HOSTILE)
    lines = [
        made.process(5, 1, 4, 2.0, command=HOSTILE),
        made.phase(HOSTILE, "begin", 1),
        made.phase(HOSTILE, "end", 4),
    ]
    samples = [made.sample(float(n)) for n in range(11)]
    begun = made.run(name=HOSTILE, command=[HOSTILE], tags={HOSTILE: HOSTILE}, user=HOSTILE)
    host = {"type": "host", "hostname": HOSTILE, "gpus": [{"name": HOSTILE}], "troubles": {HOSTILE: HOSTILE}}
    return made.written(path, begun, host, *samples, *lines, end)


def test_names_of_strangers_are_text_in_a_terminal(tmp_path: Path) -> None:
    told = text([facts(hostile(tmp_path / "a.jsonl"))], blocks=True)
    assert "\x1b" not in told
    assert "\\x1b[31m" in told


def test_names_of_strangers_are_text_in_markdown(tmp_path: Path) -> None:
    one = facts(hostile(tmp_path / "a.jsonl"))
    for told in (markdown([one]), markdown([one, one])):
        fenced = told.split("```")
        outside = "".join(fenced[::2])
        assert "\x1b" not in told
        assert "<script" not in told
        assert "@someone" not in told
        assert "`" not in outside
        assert "&#60;script&#62;alert&#40;1&#41;" in told
        for row in outside.splitlines():
            assert not row.startswith("|") or row.count("|") in (3, 4, 5)


def test_json_has_figures_and_thinned_series(tmp_path: Path) -> None:
    path = made.whole(tmp_path / "a.jsonl", seconds=5000)
    done = report(tmp_path, "-f", "json", path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(name))
    assert told["schema"] == "proctally-report/1"
    (one,) = told["runs"]
    assert one["figures"]["peak_memory_bytes"] == 512 * MIB
    assert one["figures"]["throttled_seconds"] is None
    assert one["samples"] == 5001
    assert one["thinned"] is True
    assert {len(values) for values in one["series"].values()} == {len(one["series"]["elapsed_seconds"])}
    assert len(one["series"]["elapsed_seconds"]) <= 2000
    assert one["series"]["tree.cpu_cores"][0] == 2.0
    assert one["series"]["tree.write_bytes"][-1] == MIB


# -- records that are not as they should be --------------------------------------------------------------------------

LINES = [
    made.run(), {"type": "host", "hostname": "h", "cpus_online": 4, "memory_bytes": 1 << 30, "gpus": [], "cloud": {}},
    made.sample(0.0), made.sample(1.0, gpus=[{"index": 0, "utilization_ratio": 0.5}]), made.process(3, 0.5, 1.0, 0.1),
    made.phase("a", "begin", 0.5, 0.0), made.phase("a", "end", 1.5, 1.0), made.sample(2.0), made.summary(2.0),
]  # fmt: skip
STRANGE = st.sampled_from([None, "x", "", -1, 0, 10**400, 1e308, True, [], {}, [None], {"a": None}, "\ud800", HOSTILE])


def spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where anything stands in a value, the type of a line and what says that it is a record left out."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [
        spot for key, part in inner if key not in ("type", "schema") for spot in spots(part, (*path, key))
    ]


SPOTS = [(number, *spot) for number, line in enumerate(LINES) for spot in spots(line)]


@st.composite
def strange_records(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The lines of a record in which a few values are something else, or missing."""
    lines: list[dict[str, Any]] = json.loads(json.dumps(LINES))
    for number, *path, last in draw(st.lists(st.sampled_from(SPOTS), min_size=1, max_size=6)):
        place: Any = lines[number]
        for step in path:
            if not isinstance(place, dict | list) or step not in (
                place if isinstance(place, dict) else range(len(place))
            ):
                break  # another change took it away
            place = place[step]
        else:
            if isinstance(place, dict) and draw(st.integers(0, 4)) == 0:
                place.pop(last, None)
            elif isinstance(place, dict) or isinstance(place, list) and isinstance(last, int) and last < len(place):
                place[last] = draw(STRANGE)
    return lines


@contextmanager
def told(lines: list[dict[str, Any]]) -> Iterator[Facts]:
    with TemporaryDirectory() as folder:
        yield facts(made.written(Path(folder, "a.jsonl"), *lines))


@settings(deadline=None, max_examples=150)
@given(strange_records())
def test_anything_may_stand_in_a_record(lines: list[dict[str, Any]]) -> None:
    with told(lines) as one:
        assert text([one], blocks=False).isascii()
        text([one, one], blocks=True).encode()
        markdown([one]).encode()
        markdown([one, one]).encode()
        json.dumps(as_json(one), allow_nan=False)


@settings(deadline=None, max_examples=10)
@given(strange_records())
def test_anything_may_stand_in_a_record_that_becomes_a_page(lines: list[dict[str, Any]]) -> None:
    pytest.importorskip("bokeh", reason="the extra report is not installed")
    from proctally.report.page import page

    with told(lines) as one:
        assert "<script>alert" not in page([one.story])
        page([one.story, one.story]).encode()


def test_samples_that_go_back_are_left_out(tmp_path: Path) -> None:
    samples = [made.sample(at) for at in (0.0, 1.0, 0.5, 2.0)]
    assert list(collect(str(made.written(tmp_path / "a.jsonl", made.run(), *samples))).times) == [0.0, 1.0, 2.0]


def test_a_record_of_a_header_alone_is_told(tmp_path: Path) -> None:
    one = facts(made.written(tmp_path / "a.jsonl", made.run(kind="attach", command=None)))
    assert "no end" in text([one], blocks=False)
    assert waits.headline(one) == "What it waited for is not known."


def test_a_compressed_record(tmp_path: Path) -> None:
    path = made.whole(tmp_path / "a.jsonl")
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert text([facts(packed)], blocks=True).replace(str(packed), str(path)) == text([facts(path)], blocks=True)


def test_no_record() -> None:
    with pytest.raises(NoRecord):
        collect(__file__)


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def bokeh() -> None:
    pytest.importorskip("bokeh", reason="the extra report is not installed")


def test_html_goes_beside_where_it_is_asked_for(tmp_path: Path, bokeh: None) -> None:
    path = made.whole(tmp_path / "20260101T000000Z-made-01234567.jsonl")
    here = tmp_path / "here"
    here.mkdir()
    done = report(here, path)
    name = "20260101T000000Z-made-01234567.html"
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{name}\n", "")
    page = here / name
    assert page.stat().st_mode & 0o777 == 0o600
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    again = report(here, path)
    assert again.returncode == 1
    assert again.stderr == f"proctally: {name}: exists already; choose another with -o, or give --force\n"
    assert report(here, path, "--force").returncode == 0
    out = report(here, path, "-o", "-")
    assert out.stdout.endswith("</html>\n")
    assert [one.name for one in here.iterdir()] == [name]


def test_the_page_is_one_file_that_asks_for_nothing(tmp_path: Path, bokeh: None) -> None:
    page = report(tmp_path, hostile(tmp_path / "a.jsonl"), "-o", "-").stdout
    assert len(page) < 6_000_000
    assert "alert(1)</script>" not in page
    assert "<script>alert" not in page
    assert not re.search(r"""<(?:link|script|img|iframe)[^>]*(?:src|href)=["'](?!data:|#)""", page)


def test_last_is_the_record_without_a_name(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    made.whole(runs / "20260101T000000Z-old-00000001.jsonl", seconds=3)
    made.whole(runs / "20260102T000000Z-new-00000002.jsonl", seconds=4)
    assert re.search(r"Wall time +4\.000 s", report(tmp_path, "-f", "text", home=tmp_path).stdout)
    assert re.search(r"Wall time +3\.000 s", report(tmp_path, "-f", "text", "00000001", home=tmp_path).stdout)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nothere.jsonl"], 1, "there is no record"),
        (["/nothere/x.jsonl"], 1, "No such file"),
        (["-f", "pdf"], 2, "html or text or markdown or json"),
        (["-f", "csv"], 2, "html or text or markdown or json"),
        (["-f", "text", "--open"], 2, "--open"),
        (["-o", "-", "--open"], 2, "--open"),
        (["a.jsonl", "-f", "text", "-o", "/nothere/x"], 1, "no such directory"),
        (["a.jsonl", "-f", "text", "-o", "."], 1, "is a directory"),
        (["a.jsonl", "-f", "text", "-o", "a.jsonl", "--force"], 1, "is the record itself"),
        (["a.jsonl", "-f", "text", "-o", "/dev/full"], 1, "No space left"),
        (["a.jsonl", "--limit", "3"], 2, "there is no option --limit"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], status: int, said: str) -> None:
    path = made.whole(tmp_path / "a.jsonl")
    before = path.read_bytes()
    done = report(tmp_path, *arguments)
    assert done.returncode == status, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("proctally: ")
    assert said in done.stderr
    assert done.stdout == ""
    assert path.read_bytes() == before


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    made.whole(tmp_path / "a.jsonl")
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "bokeh.py").write_text("raise ImportError\n")
    done = report(tmp_path, "a.jsonl", PYTHONPATH=str(tmp_path / "without"))
    assert done.returncode == 2
    assert "pip install 'proctally[report]'" in done.stderr
    assert report(tmp_path, "a.jsonl", "-f", "text", PYTHONPATH=str(tmp_path / "without")).returncode == 0


def test_too_many_records(tmp_path: Path) -> None:
    paths = [made.whole(tmp_path / f"{n}.jsonl", seconds=1) for n in range(25)]
    done = report(tmp_path, *paths)
    assert (done.returncode, done.stdout) == (2, "")
    assert "at most 24" in done.stderr


@pytest.mark.parametrize(("opens", "status"), [("true", 0), ("false", 1)])
def test_it_is_shown_in_a_browser(tmp_path: Path, bokeh: None, opens: str, status: int) -> None:
    program = shutil.which(opens)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" >{tmp_path}/shown\nexec {program}\n')
    browser.chmod(0o755)
    made.whole(tmp_path / "a.jsonl")
    done = report(tmp_path, "a.jsonl", "--open", BROWSER=f"{browser} %s")
    assert done.returncode == status, done.stderr
    assert (tmp_path / "shown").read_text() == f"file://{tmp_path}/a.html"
    assert (tmp_path / "a.html").exists()
    assert done.stderr == ("" if status == 0 else "proctally: no browser was found; the report is a.html\n")


def test_text_needs_neither_bokeh_nor_numpy(tmp_path: Path) -> None:
    made.whole(tmp_path / "a.jsonl")
    code = (
        "import sys; from proctally.cli import main; main(['report', '-f', 'text', 'a.jsonl']);"
        "assert not {'bokeh', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(tmp_path), capture_output=True)
    assert done.returncode == 0, done.stderr


# -- real runs -------------------------------------------------------------------------------------------------------


def test_reports_of_a_real_run(tmp_path: Path) -> None:
    job = "import time, subprocess, sys; s = sum(i * i for i in range(2_000_000)); subprocess.run(['sleep', '0.3'])"
    done = subprocess.run(
        [*PROCTALLY, "run", "-q", "-i", "0.1", "-n", "real", "--", *PYTHON, "-c", job],
        env=environment(tmp_path), timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    told = report(tmp_path, "-f", "text", LANG="C.UTF-8").stdout
    assert told.startswith("real  ok: exit status 0\n")
    assert re.search(r"the job +[ ▁▂▃▄▅▆▇█]{20,} ", told)
    (one,) = json.loads(report(tmp_path, "-f", "json").stdout)["runs"]
    assert one["figures"]["cpu_seconds"] > 0.05
    assert one["figures"]["wall_seconds"] >= 0.3
    assert len(one["series"]["tree.cpu_cores"]) == one["samples"] >= 3
    assert "## <code>real</code> ✅ ok" in report(tmp_path, "-f", "markdown").stdout
