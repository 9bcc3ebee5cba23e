"""Words of codes: each code has some, and each has its sentence in the golden file.

PROCTALLY_REFRESH_GOLDEN=1 writes the golden file.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documented import REFRESH
from places import GOLDEN
from proctally.record import codes
from proctally.text import words

PATH = GOLDEN / "words.txt"
NOTHING = dict.fromkeys(("section", "code", "count", "low_seconds", "high_seconds", "low_bytes", "high_bytes"))
NO_REASON = dict.fromkeys(
    (
        "code", "signal", "core_dumped", "exception", "limit_seconds", "measure", "used_bytes", "limit_bytes",
        "oom_kills", "oom_place", "oom_cgroup", "memory_limit_bytes", "last_rss_bytes", "left_alive",
    )
)  # fmt: skip
VALUES = {
    "signal": 15,
    "core_dumped": True,
    "exception": "ValueError",
    "limit_seconds": 0.3,
    "measure": "pss",
    "used_bytes": 64 << 20,
    "limit_bytes": 20 << 20,
    "oom_kills": 1,
    "oom_place": "cgroup",
    "oom_cgroup": "/batch/42",
    "memory_limit_bytes": 40 << 20,
    "last_rss_bytes": 428 << 10,
    "left_alive": True,
}


HOMES = {
    codes.IO_DENIED: codes.IO, codes.IO_UNAVAILABLE: codes.IO, codes.LOST_RECORDS: codes.PROCESSES,
    codes.LOST_UNKNOWN: codes.PROCESSES, codes.PROCESSES_SAMPLED: codes.PROCESSES, codes.DELAY_OF_DEAD: codes.TIME,
    codes.DELAY_SAMPLED: codes.TIME, codes.DISK_BY_LOOKS: codes.TIME,
}  # fmt: skip
MEMORY = codes.GAPS[codes.GAPS.index(codes.PSS_STALE) : codes.GAPS.index(codes.DELAY_OF_DEAD)]


def golden() -> list[str]:
    lines = []
    for code in codes.GAPS:
        home = codes.MEMORY if code in MEMORY else HOMES.get(code, codes.CPU)
        for section in (home, *(section for section, each in words.IN_SECTION if each == code)):
            found = NOTHING | {"section": section, "code": code}
            size = {"high_bytes": 1 << 20} if section == codes.MEMORY else {"low_seconds": 0.5, "high_seconds": 2}
            lines.append(f"gap {section} {code}: {words.gap(found)}")
            lines.append(f"gap {section} {code}, values: {words.gap(found | {'count': 3} | size)}")
    for code in codes.REASONS:
        lines.append(f"reason {code}: {words.reason({'reason': NO_REASON | {'code': code}})}")
        killed = code in (codes.SIGNALLED, codes.OOM_KILLED, codes.TIMED_OUT, codes.MEMORY_LIMIT)
        summary: dict[str, Any] = {"exit_code": None if killed else 3, "signal": 9 if killed else None}
        lines.append(
            f"reason {code}, values: {words.reason(summary | {'reason': NO_REASON | VALUES | {'code': code}})}"
        )
    lines += [
        f"missing {code}: {words.missing(code)}" for code in (*codes.MISSING, "EIO", "nvml_9", "nvml_77", "other")
    ]
    lines.append(f"missing cgroup not_requested: {words.missing('not_requested', 'cgroup')}")
    return lines


def test_words_are_those_of_golden_file() -> None:
    text = "".join(f"{line}\n" for line in golden())
    if REFRESH:
        PATH.write_text(text, encoding="utf-8")
    assert text == PATH.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("table", "wanted"),
    [(words.GAPS, codes.GAPS), (words.REASONS, codes.REASONS), (words.MISSING, codes.MISSING)],
    ids=["gaps", "reasons", "missing"],
)
def test_words_and_codes_are_the_same_set(table: dict[str, Any], wanted: tuple[str, ...]) -> None:
    assert set(table) == set(wanted)
    assert len(set(wanted)) == len(wanted)
    assert set(words.SECTIONS) == set(codes.SECTIONS)


@pytest.mark.parametrize(
    ("low", "high", "amount"),
    [
        (None, 2, " (at most 2 s)"),
        (0, 2, " (at most 2 s)"),
        (0.5, None, " (at least 0.5 s)"),
        (0.5, 2, " (0.5 s to 2 s)"),
        (None, None, ""),
        (float("nan"), -1, ""),
    ],
)
def test_gap_shows_known_bounds(low: float | None, high: float | None, amount: str) -> None:
    found = NOTHING | {"section": "io", "code": "io_denied", "count": 1, "low_seconds": low, "high_seconds": high}
    assert words.gap(found) == f"I/O of 1 process is denied to this user{amount}"


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        ({"exit_code": 3, "reason": {"code": "exit_status"}}, "exit status 3"),
        ({"signal": 11, "reason": {"code": "signal", "signal": 11}}, "killed by signal 11 (SIGSEGV)"),
        (
            {"signal": 11, "reason": {"code": "signal", "signal": 11, "core_dumped": True}},
            "killed by signal 11 (SIGSEGV), core dumped",
        ),
        (
            {"signal": 15, "reason": {"code": "timeout", "limit_seconds": 0.3}},
            "still running after 0.3 s (--timeout), then killed by signal 15 (SIGTERM)",
        ),
        (
            {"exit_code": 1, "reason": {"code": "exit_status", "oom_kills": 2, "oom_place": "machine"}},
            "exit status 1; the kernel's OOM killer ended 2 processes on this machine, maybe of another job",
        ),
        ({"reason": {"code": "stopped", "signal": 2}}, "stopped by signal 2 (SIGINT)"),
        ({"signal": 99, "reason": {"code": "signal"}}, "killed by signal 99"),
        ({}, "unknown"),
        ({"reason": "exit status 3"}, "unknown"),
        ({"reason": {"code": "sunshine"}}, "unknown"),
    ],
)
def test_reason_takes_exit_from_summary(summary: dict[str, Any], text: str) -> None:
    assert words.reason(summary) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"oom_place": "cgroup", "oom_cgroup": "/x", "memory_limit_bytes": 100 << 20}, " (limit 100 MiB of /x)"),
        ({"oom_place": "cgroup", "oom_cgroup": "/x"}, " in its cgroup"),
        ({"oom_place": "cgroup", "oom_cgroup": 7, "memory_limit_bytes": 1 << 20}, " in its cgroup (limit 1.0 MiB)"),
        ({"oom_place": "own_cgroup", "oom_cgroup": "/x", "memory_limit_bytes": 1 << 20},
         " in the run cgroup (limit 1.0 MiB)"),
        ({"oom_place": "cgroup", "oom_cgroup": "/a\x1b[31m\nb", "memory_limit_bytes": 1 << 20},
         " (limit 1.0 MiB of /a\\x1b[31m\\nb)"),
    ],
)  # fmt: skip
def test_oom_kills_name_the_limited_cgroup(values: dict[str, Any], text: str) -> None:
    summary = {"verdict": "ok", "reason": {"code": "exit_status", "oom_kills": 4} | values}
    sentence = f"the kernel's OOM killer ended 4 processes{text}"
    assert words.oom_kills(summary) == sentence
    assert words.headline(summary) == ("ok", ", but 4 processes were killed for memory", "")


@pytest.mark.parametrize(
    ("summary", "got", "texts"),
    [
        ({"verdict": "ok"}, None, ("ok", "", "")),
        ({"verdict": "ok"}, (0.204, 0.204), ("ok", ", but starved", ": got 20 % of the CPU time it wanted")),
        ({"verdict": "failed", "exit_code": 3, "reason": {"code": "exit_status", "oom_kills": 1}}, (0.2, 0.2),
         ("failed", ", and 1 process was killed for memory", ": exit status 3")),
        ({"verdict": "killed", "signal": 9, "reason": {"code": "signal"}}, None,
         ("killed by signal 9 (SIGKILL)", "", "")),
        ({"verdict": "oom", "reason": {"memory_limit_bytes": 200 << 20, "oom_cgroup": "/b", "oom_place": "cgroup"}},
         None, ("KILLED FOR MEMORY", "", ", at the limit of 200 MiB (/b)")),
        ({"verdict": "oom", "reason": {"memory_limit_bytes": 1 << 20, "oom_cgroup": "/b", "oom_place": "own_cgroup"}},
         None, ("KILLED FOR MEMORY", "", ", at the limit of 1.0 MiB")),
        ({"verdict": "ok", "reason": {"oom_kills": 4, "oom_place": "machine"}}, None, ("ok", "", "")),
        ({}, None, ("None", "", ": unknown")),
    ],
)  # fmt: skip
def test_headline_has_bad_news_after_a_good_verdict(
    summary: dict[str, Any], got: float | None, texts: tuple[str, str, str]
) -> None:
    assert words.headline(summary, got) == texts


@pytest.mark.parametrize(
    ("killed_by", "text"),
    [
        ({"SIGKILL": 3}, "3 children ended by SIGKILL"),
        ({"SIGKILL": 1, "SIGSEGV": 2}, "1 child ended by SIGKILL, 2 by SIGSEGV"),
        ({"SIGKILL": "3"}, ""),
        ({}, ""),
        (None, ""),
        ([1], ""),
    ],
)
def test_killed_children(killed_by: object, text: str) -> None:
    assert words.killed_children(killed_by) == text


def test_sections_list_completeness_and_gaps() -> None:
    late = {"section": "time", "code": "late_look", "count": 2}
    denied = {"section": "memory", "code": "pss_denied", "count": 1}
    summary = {
        "cpu": {"coverage": "complete"},
        "memory": {"coverage": "partial"},
        "io": {"coverage": "unknown"},
        "gaps": [late, denied],
    }
    assert words.sections(summary) == [
        ("CPU time", "complete"),
        ("I/O", "unknown"),
        ("memory", f"{words.SAMPLED_MEMORY}; PSS of 1 process is denied to this user"),
        ("time", "2 scans took more than 50 ms: the peak might be higher"),
    ]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data(), ANYTHING)
def test_words_of_any_value_raise_nothing(data: st.DataObject, anything: Any) -> None:
    hostile = {name: data.draw(ANYTHING) for name in NOTHING} | {"code": data.draw(st.sampled_from(codes.GAPS))}
    values = {name: data.draw(ANYTHING) for name in NO_REASON} | {"code": data.draw(st.sampled_from(codes.REASONS))}
    summary = {"exit_code": anything, "signal": data.draw(ANYTHING), "reason": values, "gaps": [hostile, anything]}
    summary |= dict.fromkeys(("cpu", "memory"), anything)
    for text in (
        words.gap(hostile), words.gap(anything), words.reason(summary), words.reason({"reason": anything}),
        words.missing(anything), words.missing(anything, anything), words.coverage(anything, [hostile, anything]),
    ):  # fmt: skip
        assert text
        assert text.isprintable()
    words.sections(summary)
    words.sections(anything)
