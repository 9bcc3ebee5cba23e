"""Keys of the list of runs."""

from __future__ import annotations

from made import GIB, lines
from proctally.analysis.measures import figure


def test_memory_is_the_larger_of_two_and_never_that_of_the_cgroup() -> None:
    summary = lines(memory=3 * GIB, process=2 * GIB)[-1]
    assert figure("memory").of(summary) == 3 * GIB
    assert summary["memory"]["cgroup_peak_bytes"] > 3 * GIB
    assert figure("memory").of(lines(memory=2 * GIB, process=3 * GIB)[-1]) == 3 * GIB
    assert figure("memory").of({"memory": {"peak_pss_bytes": None, "peak_process_rss_bytes": 5}}) == 5
