"""docs/library.md names every public function, and every function of those whose users come here."""

from __future__ import annotations

import re

import pytest

import proctally
from places import DOCS
from proctally import gauges, process, processes, system

DOCUMENT = DOCS / "library.md"

# The functions and types of the Rust process statistics crate, and the functions of the procfs module.
CRATE = frozenset(
    {"AllStats", "CpuTime", "CumulativeTracker", "DeltaTracker", "DiskIo", "LivenessInfo", "ProcessInfo"}
    | {"ProcessStats", "TreeStats", "CpuPercent", "build_children_map", "build_parent_map", "get_all_stats"}
    | {"collect_descendants_from_map", "collect_tree_pids", "get_children", "get_cpu_time", "get_disk_io"}
    | {"get_cpu_time_with_children", "get_liveness_info", "get_memory", "get_memory_virtual", "get_ppid", "get_tty"}
    | {"get_process_comm", "get_process_environ", "get_process_path", "get_start_time", "is_descendant_of"}
    | {"list_all_pids", "scan_all_processes", "snapshot_process", "snapshot_tree", "snapshot_tree_from_scan"}
)
MODULE = frozenset(
    {"get_sector_sizes", "get_pid_children", "get_pid_rss", "get_pid_pss_rollup", "get_pid_proc_times"}
    | {"get_pid_proc_io", "get_pid_stats", "get_system_stats"}
)
SAMPLER = frozenset(
    {"rss_bytes", "rsslim_bytes", "vsize_bytes", "num_threads", "num_processes", "RSS_BYTES"}
    | {"cpu_percentage", "kernel_cpu_percentage", "user_cpu_percentage"}
)
HERE = re.compile(r"`(process|processes|system|gauges)\.(\w+)`")


def rows() -> list[list[str]]:
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_every_function_has_its_row() -> None:
    named = {word for row in rows() for word in re.findall(r"`(\w+)", row[0])}
    for module in (process, processes, system):
        functions = {name for name in module.__all__ if name[0].islower()}
        assert functions <= named, module.__name__
    assert {"Scanner", "DeltaTracker", "CumulativeTracker", "Monitor"} <= named
    assert set(gauges.ProcessGauges._fields) <= named


@pytest.mark.parametrize("names", [CRATE, MODULE])
def test_every_function_of_others_has_its_place(names: frozenset[str]) -> None:
    places = {word: row[1] for row in rows() if len(row) == 2 for word in re.findall(r"`(\w+)`", row[0])}
    assert names <= places.keys()
    for name in names:
        assert HERE.search(places[name]) or "Delta" in places[name], name


def test_every_gauge_of_the_sampler_has_its_place() -> None:
    places = {word: row[1] for row in rows() if len(row) == 2 for word in re.findall(r"`(\w+)`", row[0])}
    known = {*gauges.ProcessGauges._fields, *gauges.TreeGauges._fields}
    for name in SAMPLER:
        named = re.findall(r"`\.(\w+)`", places[name])
        assert named and set(named) <= known, name


def test_what_is_named_is_there() -> None:
    found = HERE.findall(DOCUMENT.read_text(encoding="utf-8"))
    assert len(found) > 40
    for module, name in found:
        assert hasattr(getattr(proctally, module), name), f"{module}.{name}"
