"""Memory of a record: bounds, what is apart, parts of the peak; and its values from a hostile file."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import GIB, MIB, admitted, bounded, gap, lines
from memory_recording import recordings
from proctally.analysis.advice import Advice, advise_on
from proctally.analysis.evidence import MEMORY, Evidence
from proctally.analysis.measures import figure
from proctally.analysis.memory import HeldMemory
from strange_lines import STRANGE

UNCLAIMED = gap("memory", "unclaimed_shmem", low_bytes=0, high_bytes=300 * MIB)
STALE = gap("memory", "pss_stale", count=3, low_bytes=0, high_bytes=20 * MIB)
LATE = gap("memory", "late_look", count=2)


def of(low: Any = None, high: Any = None, *, gaps: Any = (), **more: Any) -> HeldMemory:
    return HeldMemory.of_summary(
        {"memory": {"peak_low_bytes": low, "peak_high_bytes": high} | more, "gaps": list(gaps)}
    )


def advice(*made: list[dict[str, Any]]) -> Advice:
    return advise_on([Evidence.of(each) for each in made])[MEMORY]


# -- bounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (int(1.70 * GIB), int(1.71 * GIB), "1.71 GiB"),
        (98 * MIB, 100 * MIB, "100 MiB"),  # 2 % of the upper bound
        (97 * MIB, 100 * MIB, "between 97 and 100 MiB"),
        (int(0.9 * GIB), int(1.2 * GIB), "between 0.90 and 1.20 GiB"),
        (20 * MIB, 2 * GIB, "between 20 MiB and 2 GiB"),
        (0, 300 * MIB, "at most 300 MiB"),
        (None, 300 * MIB, "at most 300 MiB"),
        (300 * MIB, None, "at least 300 MiB"),
        (None, None, "unknown"),
        (0, 0, "0 B"),
        (int(1023.9 * MIB), int(1.1 * GIB), "between 1.00 and 1.10 GiB"),
    ],
)
def test_bounds_are_one_figure_only_where_they_are_narrow(low: int | None, high: int | None, text: str) -> None:
    assert of(low, high).text == text


@given(st.integers(1, 1 << 50), st.integers(1, 1 << 50))
def test_bounds_that_differ_by_more_than_2_percent_show_two_figures(first: int, second: int) -> None:
    low, high = sorted((first, second))
    text = of(low, high).short
    if high - low > 0.02 * high:
        least, most = text.split(" to ")
        assert least != most.split()[0]
    else:
        assert " to " not in text


def test_lower_bound_above_the_upper_one_is_unknown() -> None:
    memory = of(2 * GIB, GIB)
    assert (memory.low, memory.high, memory.text) == (None, GIB, "at most 1 GiB")


def test_cause_is_the_widest_gap_and_only_of_wide_bounds() -> None:
    assert "another job (at most 300 MiB)" in of(GIB, 2 * GIB, gaps=[STALE, UNCLAIMED, LATE]).cause
    assert of(GIB, 2 * GIB, gaps=[LATE, gap("cpu", "teardown")]).cause == ""
    assert of(GIB, GIB, gaps=[UNCLAIMED]).cause == ""
    assert "2 took more than 50 ms" in of(GIB, GIB, gaps=[LATE]).late().replace("2 scans", "2")


def test_parts_have_names_by_kind() -> None:
    kinds = ("private", "family", "shared", "spike", "later", ["x"])
    parts = [
        {"pid": 7, "command": "a\x1b[31m", "low_bytes": MIB, "high_bytes": 2 * MIB, "kind": each} for each in kinds
    ]
    names = [part.name for part in of(GIB, GIB, at_peak=parts).parts]
    assert names == [r"a\x1b[31m", r"a\x1b[31m (forks)", "shared memory", r"a\x1b[31m (briefly)", r"a\x1b[31m"]


@given(STRANGE)
def test_no_value_of_a_record_raises(value: Any) -> None:
    parts = [value, {"command": value, "low_bytes": value, "kind": value, "pid": value}]
    names = ("peak_low_bytes", "peak_high_bytes", "mapped_file_bytes", "unclaimed_shmem_bytes", "at_seconds")
    section = dict.fromkeys(names, value) | {"at_peak": parts}
    tree = {"memory_low_bytes": value, "memory_high_bytes": value}
    full, empty, sample = admitted(
        {"type": "summary", "memory": section, "gaps": [value, {"section": "memory", "code": value}]},
        {"type": "summary", "memory": value, "gaps": value},
        {"type": "sample", "tree": tree},
    )
    held = (HeldMemory.of_summary(full), HeldMemory.of_summary(empty), HeldMemory.of_sample(sample["tree"]))
    for memory in held:
        assert isinstance(memory.text + memory.short + memory.cause + memory.late(), str)
        assert memory.low is None or memory.high is None or 0 <= memory.low <= memory.high
        assert all(part.name and part.text for part in memory.parts)
        assert all(value >= 0 for _, value in memory.apart)


# -- measures --------------------------------------------------------------------------------------------------------


def test_memory_is_the_upper_bound_where_it_is_known() -> None:
    old = lines(memory=3 * GIB)[-1]
    assert (figure("memory").of(old), figure("memory-low").of(old)) == (3 * GIB, None)
    new = bounded(lines(memory=3 * GIB, process=4 * GIB), GIB, 2 * GIB)[-1]
    assert (figure("memory").of(new), figure("memory-low").of(new)) == (2 * GIB, GIB)
    unknown = bounded(lines(memory=3 * GIB), None, None)[-1]
    assert figure("memory").of(unknown) == 3 * GIB


# -- advice ----------------------------------------------------------------------------------------------------------


def test_request_is_of_three_parts_that_the_basis_shows() -> None:
    made = bounded(lines(), 4 * GIB, 4 * GIB, mapped_file_bytes=1 * GIB, kernel_bytes=64 * MIB)
    found = advice(made)
    assert found.proven == 5 * GIB + 64 * MIB
    assert found.note.text == "4 GiB held, 1 GiB of files, 64 MiB of kernel, 1.27 GiB more"
    assert found.request is not None and found.request >= 1.25 * found.proven
    assert any("can drop the 1 GiB of mapped files" in note.text for note in found.notes)


def test_unknown_part_is_not_zero_in_the_basis() -> None:
    assert advice(bounded(lines(), GIB, GIB)).note.text == "1 held, 0.25 GiB more; files and kernel unknown"


def test_swap_is_added_where_there_is_any() -> None:
    found = advice(bounded(lines(), GIB, GIB, mapped_file_bytes=0, kernel_bytes=0, swap_bytes=GIB))
    assert found.proven == 2 * GIB and found.note.text == "1 held, 1 of swap, 0.50 GiB more"


def test_sample_that_needs_more_than_the_peak_counts() -> None:
    made = bounded(lines(), GIB, GIB, mapped_file_bytes=0, kernel_bytes=0)
    made[2]["tree"] |= {"memory_high_bytes": GIB // 2, "mapped_file_bytes": 3 * GIB}
    found = advice(made)
    assert found.proven == 3.5 * GIB and found.note.text.startswith("0.50 held, 3 of files, 0.88 GiB more")


def test_sample_above_the_peak_was_narrowed_later() -> None:
    made = bounded(lines(), GIB, GIB, mapped_file_bytes=0, kernel_bytes=0)
    made[2]["tree"] |= {"memory_high_bytes": 3 * GIB, "mapped_file_bytes": MIB}
    found = advice(made)
    assert found.proven == GIB + MIB and found.note.text == "1 held, 0.25 GiB more"


def test_record_without_an_end_has_the_bounds_of_its_samples() -> None:
    found = advice(bounded(lines(end=False), GIB, 2 * GIB, mapped_file_bytes=MIB, kernel_bytes=MIB))
    assert found.request is None and found.at_least == GIB


def test_unclaimed_shared_memory_is_noted_apart() -> None:
    made = bounded(lines(gaps=[UNCLAIMED]), GIB, GIB + 300 * MIB, unclaimed_shmem_bytes=300 * MIB)
    notes = [note.text for note in advice(made).notes]
    assert "300 MiB of it is shared memory that might belong to another job" in notes
    assert any("between 1.00 and 1.29 GiB" in note and "another job" in note for note in notes)
    assert not advice(bounded(lines(), GIB, GIB, unclaimed_shmem_bytes=0)).notes


def test_denied_pss_is_evidence_where_there_is_an_upper_bound() -> None:
    denied = gap("memory", "pss_denied", count=3, high_bytes=GIB)
    assert advice(lines(gaps=[denied])).request is None
    found = advice(bounded(lines(gaps=[denied]), GIB, 2 * GIB))
    assert found.request is not None and found.proven == 2 * GIB
    assert any("PSS of 3 processes is denied" in note.text for note in found.notes)


def test_scan_that_took_long_is_noted() -> None:
    assert any("50 ms" in note.text for note in advice(bounded(lines(gaps=[LATE]), GIB, GIB)).notes)


def test_limit_of_an_oom_kill_above_the_peak_has_no_parts() -> None:
    made = bounded(lines(verdict="oom", limits={"memory_bytes": 4 * GIB}), GIB, GIB, mapped_file_bytes=MIB)
    found = advice(made)
    assert found.request is None and found.at_least == 4 * GIB


# -- never below the truth -------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(*[st.integers(0, 1 << 36)] * 4), min_size=1, max_size=5),
    st.sampled_from(["ok", "oom", "limit", "killed", "failed"]),
)
def test_request_is_never_below_what_a_run_held(sizes: list[tuple[int, int, int, int]], verdict: str) -> None:
    """That is the upper bound with what is apart; the trial of a run that was killed is above its limit, too."""
    runs = []
    for number, (high, mapped, kernel, swap) in enumerate(sizes):
        cut = {"verdict": verdict} if number == 0 else {}
        made = lines(number=number, limits={"memory_bytes": high}, **cut)
        runs.append(bounded(made, high // 2, high, mapped_file_bytes=mapped, kernel_bytes=kernel, swap_bytes=swap))
    found = advice(*runs)
    truth = max(sum(each) for each in sizes)
    value = found.trial if found.request is None else found.request
    assert value is None or value >= truth
    assert found.request is not None or verdict != "ok"
    if verdict == "oom" and len(sizes) == 1:
        assert found.request is None and (found.trial or 0) >= 2 * sizes[0][0]


@pytest.mark.slow
def test_request_is_never_below_the_truth_of_a_recorded_run() -> None:
    for recording in recordings():
        low, high = recording.model.peaks.low, recording.model.peaks.high
        found = advice(bounded(lines(), low, high, mapped_file_bytes=0, kernel_bytes=0))
        assert found.request is not None and found.request >= recording.truth, recording.name
