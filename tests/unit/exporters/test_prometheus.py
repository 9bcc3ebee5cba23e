"""Prometheus texts, made from lines of a run."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families as classic  # noqa: E402

from documented import check_part  # noqa: E402
from proctally.exporters.latest import COMMANDS, OTHER, PHASES, PROCESSES, Latest, Slots, described
from proctally.exporters.prometheus import (  # noqa: E402
    COUNTER,
    FAMILIES,
    OPENMETRICS,
    TEXT,
    UNITS,  # noqa: E402
    Exposition,
)
from proctally.exporters.push import without_credentials  # noqa: E402
from proctally.exporters.sink import Sink  # noqa: E402
from proctally.text.escape import label  # noqa: E402
from prometheus_lines import ALL, COMMANDS_LINE, HOST, HOSTILE, PHASE, SAMPLE, fed  # noqa: E402


def values(latest: Latest) -> dict[str, dict[tuple[str, ...], float]]:
    """By name, by the values of the labels, through the strict parser."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in strict(Exposition(latest).text(OPENMETRICS).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found  # labels come in the order of their names


@pytest.mark.parametrize("bad", [-18889465931478580723712, 1 << 1100, float("nan"), "text"])
def test_one_bad_value_costs_itself(bad: object) -> None:
    sample = SAMPLE | {"system": {"memory": {"free_bytes": 7, "swap_used_bytes": bad}, "load_1": bad}}
    found = values(fed(*(sample if line["type"] == "sample" else line for line in ALL)))
    assert found["proctally_system_memory_free_bytes"] == {(): 7.0}
    assert not {"proctally_system_swap_used_bytes", "proctally_system_load_1"} & found.keys()


# -- the text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [(), ALL[:1], ALL], ids=["nothing", "a header", "all"])
def test_both_formats_are_understood_and_say_the_same(lines: tuple[dict[str, Any], ...]) -> None:
    exposition = Exposition(fed(*lines))
    text = exposition.text(OPENMETRICS)
    assert text.endswith(b"# EOF\n")
    one = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in strict(text.decode())
        for sample in family.samples
    }
    other = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in classic(exposition.text(TEXT).decode())
        for sample in family.samples
    }
    varying = [key for key in one if "exporter_cpu" in key[0]]
    for key in varying:
        assert one.pop(key) <= other.pop(key)
    assert one == other


def test_values_are_those_of_the_lines() -> None:
    found = values(fed(*ALL))
    assert found["proctally_tree_cpu_seconds_total"] == {(): 1.5}
    assert found["proctally_process_cpu_seconds_total"] == {("user",): 1.0, ("system",): 0.5}
    assert found["proctally_process_resident_memory_bytes"] == {(): 4096}
    assert "proctally_process_proportional_memory_bytes" not in found, "unknown is left out"
    assert found["proctally_member_cpu_cores"] == {(label(f"/x{HOSTILE}"), "7"): 1.5}
    assert set(found["proctally_member_cpu_kernel_cores"].values()) == {0.5}
    assert set(found["proctally_member_cpu_user_cores"].values()) == {1.0}
    assert "proctally_member_resident_memory_limit_bytes" not in found
    assert found["proctally_gpu_up"] == {("0", "GPU-1"): 1}
    assert found["proctally_gpu_memory_size_bytes"] == {("0", "GPU-1"): 100}, "facts stay as they were told"
    assert found["proctally_process_gpu_memory_bytes"] == {("0", "GPU-1"): 40}
    assert found["proctally_gpu_mig_memory_used_bytes"] == {("0", "MIG-1", "GPU-1"): 5}
    assert found["proctally_gpu_energy_joules_total"] == {("0", "GPU-1"): 9.5}
    assert found["proctally_system_pressure_seconds_total"] == {("full", "io"): 0.25}
    assert found["proctally_source_success"] == {("procfs",): 1, ("gpu",): 0}
    assert found["proctally_system_device_read_bytes_total"] == {("sda",): 1}
    assert "proctally_system_device_written_bytes_total" not in found
    assert found["proctally_phase_active"] == {("fit",): 1}
    assert found["proctally_process_started_total"] == {(): 5}
    assert found["proctally_oom_kills_total"] == {(): 1}


def test_names_of_strangers_are_escaped() -> None:
    text = Exposition(fed(*ALL)).text(TEXT).decode()
    assert not [line for line in text.splitlines() if line.startswith("evil")]
    found = values(fed(*ALL))
    assert list(found["proctally_command_cpu_seconds_total"]) == [(label(HOSTILE),)]
    info = next(family for family in strict(Exposition(fed(*ALL)).text(OPENMETRICS).decode()) if family.type == "info")
    assert info.samples[0].labels["tag_learning_rate"] == label(HOSTILE)
    assert info.samples[0].labels["tag_k_"] == "v"
    assert info.samples[0].labels["command"] == "train", "no argument is exported"
    assert "password" not in text


def test_end_of_a_run() -> None:
    summary = {
        "type": "summary", "ended_at": 1003.0, "wall_seconds": 2.5, "verdict": "oom", "exit_code": None, "signal": 9,
        "cpu": {"total_seconds": 2.0, "user_seconds": 1.0, "system_seconds": 0.5}, "tracker": {"samples": 3},
        "commands": [{"command": "a", "processes": 9, "cpu_seconds": 1.0},
                     {"command": "(others)", "processes": 5, "cpu_seconds": 7.0}],
        "memory": {"peak_process_rss_bytes": 5}, "processes": {"started": 9},
    }  # fmt: skip
    found = values(fed(*ALL, summary))
    assert {key for key, value in found["proctally_run_state"].items() if value} == {("oom",)}
    assert found["proctally_tree_cpu_seconds_total"] == {(): 2.0}
    assert found["proctally_run_exit_signal"] == {(): 9}
    assert "proctally_run_exit_code" not in found
    assert found["proctally_process_started_total"] == {(): 9}
    assert "proctally_member_threads" not in found, "a series whose process is gone disappears"
    assert found["proctally_command_cpu_seconds_total"][("a",)] == 1.0


@pytest.mark.parametrize("change", [{"state": "asleep"}, {"unavailable": {"device": "device_lost"}}])
def test_gpu_that_cannot_be_read_is_not_up(change: dict[str, str]) -> None:
    gpu = SAMPLE["gpus"][0] | change  # type: ignore[index]
    assert values(fed(HOST, SAMPLE | {"gpus": [gpu]}))["proctally_gpu_up"] == {("0", "GPU-1"): 0}


def test_total_of_a_summary_that_is_lower_than_the_last_sample() -> None:
    found = values(fed(*ALL, {"type": "summary", "cpu": {"total_seconds": 1.4}, "wall_seconds": 0.5}))
    assert found["proctally_tree_cpu_seconds_total"] == {(): 1.5}
    assert found["proctally_run_duration_seconds"] == {(): 0.5}


def test_line_that_is_not_known_changes_nothing() -> None:
    latest = fed(*ALL)
    before = latest.version
    for kind in ("process", "tomorrow", "__init__", "", None):
        latest.feed({"type": kind})
    assert latest.version == before


def test_phases_that_are_open() -> None:
    end = PHASE | {"event": "end"}
    assert fed(PHASE, PHASE, end).phases == {"fit": 1}
    assert fed(PHASE, end, end).phases == {"fit": 0}


def test_tracker_that_is_lost() -> None:
    latest = fed(*ALL)
    assert latest.state == "running"
    latest.tracker_lost(1001.0)
    assert latest.state == "lost"


def test_names_are_as_prometheus_wants_them() -> None:
    names = [family.name for family in FAMILIES]
    assert len(names) == len(set(names))
    for family in FAMILIES:
        assert family.name.startswith("proctally_")
        assert not family.name.endswith(("_total", "_count", "_percent"))
        assert family.help.endswith("."), family.name
        if family.kind == COUNTER:
            assert not family.name.endswith("_info")


def test_kind_and_unit_are_those_of_the_fields() -> None:
    for family in FAMILIES:
        paths = family.source if isinstance(family.source, tuple) else [(family.source,)]
        found = [known for path, *_ in paths if (known := described(path))]
        assert found or not isinstance(family.source, tuple), family.name
        for each in found:
            assert (family.kind == COUNTER) == (each.kind == COUNTER), family.name
            assert family.unit in ("", UNITS.get(each.unit)), family.name
            assert family.unit or each.unit not in UNITS or family.name == "proctally_system_cpus", family.name


def test_document_has_every_metric() -> None:
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for family in FAMILIES:
        name = f"{family.name}_total" if family.kind == COUNTER else family.name
        lines.append(f"| `{name}` | {family.kind} | {', '.join(family.labels)} | {family.help} |")
    check_part("exporters.md", "prometheus", lines)


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_sets_of_labels_are_bounded() -> None:
    latest = fed(*ALL)
    latest.feed({"type": "gauges", "processes": [{"pid": pid, "exe": "x", "rss_bytes": pid} for pid in range(1500)]})
    latest.feed({
        "type": "commands",
        "commands": [{"command": f"c{number}", "processes": 1, "cpu_seconds": 1.0} for number in range(1000)],
    })  # fmt: skip
    for number in range(1000):
        latest.feed({"type": "phase", "name": f"p{number}", "event": "begin"})
    found = values(latest)
    assert len(found["proctally_member_resident_memory_bytes"]) == PROCESSES
    assert found["proctally_members_omitted"] == {(): 500}
    assert ("x", "1499") in found["proctally_member_resident_memory_bytes"], "the largest stay"
    assert len(found["proctally_command_cpu_seconds_total"]) == COMMANDS + 1
    assert sum(found["proctally_command_cpu_seconds_total"].values()) == pytest.approx(1000.5)
    assert len(found["proctally_phase_active"]) == PHASES + 1
    assert found["proctally_phase_active"][(OTHER,)] == 1000 + 1 - PHASES


def system(iowait: float, received: int | None) -> dict[str, Any]:
    network = None if received is None else {"received_bytes": received, "sent_bytes": None}
    return SAMPLE | {"system": {"cpu_iowait_seconds": iowait, "network": network, "disk": None}}


def test_counters_of_the_machine_do_not_fall() -> None:
    """A fall would be a new beginning to Prometheus, and the whole value growth."""
    latest = Latest()
    told = []
    for iowait, received in ((10.0, 1000), (9.99, 1100), (10.2, None), (10.1, 300), (10.3, 350), (10.3, 1000)):
        latest.feed(system(iowait, received))
        told.append((latest.value("system.cpu_iowait_seconds"), latest.value("system.network.received_bytes")))
    # the interface with 800 bytes has gone: what the others grow by is counted on
    assert told == [(10.0, 1000), (10.0, 1100), (10.2, None), (10.2, 1100), (10.3, 1150), (10.3, 1800)]


def test_processes_that_started_and_ended_do_not_become_less() -> None:
    latest = fed(*ALL, COMMANDS_LINE | {"started": 4, "ended": 2})
    assert (latest.started, latest.ended) == (5, 3)
    latest.feed({"type": "summary", "processes": {"started": 9, "left": 2}})
    assert (latest.started, latest.ended) == (9, 7)
    latest.feed({"type": "summary", "processes": {"started": 8, "left": None}})
    assert (latest.started, latest.ended) == (9, 7)


def entries(totals: dict[str, float]) -> list[dict[str, Any]]:
    return [{"command": name, "processes": 1, "cpu_seconds": cpu} for name, cpu in totals.items()]


@given(st.lists(st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 10), max_size=8), max_size=12))
def test_counters_of_commands_never_fall_and_grow_as_the_whole(growths: list[dict[str, float]]) -> None:
    """Growth as Prometheus has it: from scrape to scrape of a series; one that is lower than before began anew."""
    slots = Slots(3)
    totals: dict[str, float] = {}
    before: dict[str, float] = {}
    last_seen: dict[str, float] = {}
    for growth in growths:
        for name, more in growth.items():
            totals[name] = totals.get(name, 0.0) + more
        slots.feed(entries(totals))
        rows = {name: cpu for name, _, cpu in slots.rows()}
        assert len(rows) <= 4
        for name in rows.keys() & before.keys():
            assert rows[name] >= before[name]
        for name in rows.keys() - before.keys() & last_seen.keys():
            assert rows[name] == 0.0, "one that comes again begins anew"
        grown = sum(cpu - before.get(name, 0.0) for name, cpu in rows.items())
        assert grown == pytest.approx(sum(growth.values()), abs=1e-9)
        before = rows
        last_seen |= rows


def test_command_that_grew_large_gets_a_series_of_its_own() -> None:
    slots = Slots(2)
    slots.feed(entries({"configure": 1.0, "conftest": 1.0}))
    slots.feed(entries({"configure": 1.0, "conftest": 1.0, "cc1": 0.5}))
    assert {name for name, _, _ in slots.rows()} == {"configure", "conftest", OTHER}
    slots.feed(entries({"configure": 2.0, "conftest": 1.5, "cc1": 50.0}))
    assert slots.rows() == [("configure", 1, 2.0), ("cc1", 0, 0.0), (OTHER, 1, 50.5)]
    slots.feed(entries({"configure": 2.0, "conftest": 3.5, "cc1": 60.0}))
    assert slots.rows() == [("configure", 1, 2.0), ("cc1", 0, 10.0), (OTHER, 1, 52.5)]


def test_command_that_is_called_other_is_one_of_the_others() -> None:
    slots = Slots(2)
    for grown in (0.0, 1.0):
        slots.feed([*entries({"a": 5.0 + grown, OTHER: 1.0}), *entries({OTHER: 50.0 + grown})])
    assert slots.rows() == [("a", 1, 6.0), (OTHER, 2, 52.0)]


def test_time_that_goes_along_to_another_command_is_counted_once() -> None:
    slots = Slots(5)
    slots.feed(entries({"sh": 3.0, "cc1": 1.0}))
    slots.feed(entries({"sh": 0.5, "gzip": 4.0, "cc1": 1.0}))  # it has 2.5 of sh, and 1.5 of its own
    assert {name: cpu for name, _, cpu in slots.rows()} == {"sh": 3.0, "cc1": 1.0, "gzip": 1.5}


def test_slots_folded_row_counts_as_other() -> None:
    slots = Slots(5)
    rest = {"command": "ld", "folded": True, "processes": 7, "cpu_seconds": 3.0}
    slots.feed([{"command": "ld", "processes": 1, "cpu_seconds": 2.0}, rest])
    assert slots.rows() == [("ld", 1, 2.0), (OTHER, 7, 3.0)]
    slots.feed([{"command": "ld", "processes": 1, "cpu_seconds": 2.0}, rest | {"cpu_seconds": 3.5}])
    assert slots.rows()[-1] == (OTHER, 7, 3.5)


def test_summary_folded_row_adds_nothing_to_series() -> None:
    latest = Latest()
    rows = [{"command": "(others)", "processes": 1, "cpu_seconds": 2.0}]
    latest.feed({"type": "summary", "commands": [*rows, rows[0] | {"folded": True, "cpu_seconds": 9.0}]})
    assert latest.commands.rows() == [("(others)", 1, 2.0)]


def test_total_that_is_told_lower_does_not_fall() -> None:
    slots = Slots(2)
    slots.feed(entries({"a": 5.0}))
    slots.feed(entries({"a": 4.0}))
    slots.feed(entries({"a": 5.5}))
    assert slots.rows() == [("a", 1, 5.5)]


# -- a Pushgateway and node_exporter ---------------------------------------------------------------------------------


def test_credentials_do_not_stay_in_a_url() -> None:
    assert without_credentials("http://u%40x:p%3A@h:1/a") == ("http://h:1/a", "u@x", "p:")
    assert without_credentials("http://h:1") == ("http://h:1", None, None)


def test_a_receiver_is_told_at_most_every_so_often() -> None:
    class Counting(Sink):
        name, seconds, count = "counting", 60.0, 0

        def write(self) -> None:
            self.count += 1

    sink = Counting(Latest())
    sink.start()
    for _ in range(50):
        sink.sampled()
        time.sleep(0.002)
    assert sink.count == sink.delivery.done == 1
    sink.end(time.monotonic() + 10)
    assert sink.join(10)
    assert sink.count == 2, "the last word does not wait"


def test_last_word_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Sink):
        name, tries, count = "failing", 3, 0

        def last(self) -> None:
            self.count += 1
            if self.count < 3:
                raise OSError(111, "Connection refused")

    monkeypatch.setattr("proctally.exporters.sink.AGAIN_SECONDS", 0.01)
    for seconds, count, failed, trouble in ((10, 3, 2, None), (-1, 1, 1, "Connection refused")):
        sink = Failing(Latest())
        sink.start()
        sink.end(time.monotonic() + seconds)
        assert sink.join(10)
        assert (sink.count, sink.delivery.failed, sink.delivery.trouble) == (count, failed, trouble)
