"""The terminal summary: a literal summary against the text a person reads, and names of strangers."""

from __future__ import annotations

import copy
import os
import pty
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proctally.summary import WIDTH, colour_wanted, duration, printable, render, size

patient = settings(deadline=None)
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")

SUMMARY: dict[str, Any] = {
    "type": "summary",
    "ended_at": 1_700_000_100.0,
    "wall_seconds": 83.4071,
    "exit_code": 0,
    "signal": None,
    "verdict": "ok",
    "evidence": "exit status 0",
    "cpu": {
        "total_seconds": 301.5042,
        "user_seconds": 280.25,
        "system_seconds": 21.254,
        "mean_cores": 3.6148,
        "peak_cores": 7.98,
        "source": "rusage",
        "sources": {"procfs": 301.2, "rusage": 301.5042},
        "unavailable": {"perf": "kernel.perf_event_paranoid is 3: ask for 2 (sysctl -w), or for CAP_PERFMON"},
        "coverage": "all but what nobody waits for",
    },
    "memory": {
        "peak_pss_bytes": 1_288_490_189,
        "peak_rss_bytes": 2_254_857_830,
        "peak_process_rss_bytes": 734_003_200,
        "cgroup_peak_bytes": None,
        "coverage": "peaks as sampled",
    },
    "io": {
        "read_bytes": 52_428_800,
        "write_bytes": 1_073_741_824,
        "read_chars": 1,
        "write_chars": 2,
        "coverage": "complete",
    },
    "processes": {"started": 12_345, "source": "procfs", "peak": 42, "left": 0, "coverage": "seen or reaped"},
    "commands": [
        {"command": "cc1plus", "processes": 1204, "cpu_seconds": 250.111, "peak_rss_bytes": 1},
        {"command": "ld", "processes": 1, "cpu_seconds": 30.5, "peak_rss_bytes": 1},
        {"command": "idle", "processes": 9, "cpu_seconds": 0.004, "peak_rss_bytes": 1},
    ],
    "waiting": {"run_delay_seconds": 1.5, "throttled_seconds": None},
    "limits": {"cpu_cores": 8, "memory_bytes": 2 << 30, "from": "affinity; memory.max of /a"},
    "tracker": {
        "cpu_seconds": 0.25,
        "peak_rss_bytes": 13_107_200,
        "samples": 85,
        "late_samples": 0,
        "lost_samples": 0,
    },
}

PLAIN = """\
proctally build  ok
  wall       1 min 23.4 s
  CPU        5 min 01.5 s (user 280.25, system 21.25), by rusage
  cores      mean 3.61, peak 7.98, of 8
  memory     peak PSS 1.2 GiB, RSS 2.1 GiB, largest process 700 MiB
             of 2.0 GiB that it may use
  disk       read 50.0 MiB, written 1.0 GiB
  processes  12,345 seen, at most 42 at once
  commands      250.11 s  cc1plus x 1,204
                 30.50 s  ld
                 20.89 s  at ends of processes, or in those too short to see
  tracking   0.250 s CPU (0.1 %), 12.5 MiB, 85 samples
  record     runs/build.jsonl
"""

VERBOSE = """\
  sources    procfs 301.200 s, rusage 301.504 s
             no perf: kernel.perf_event_paranoid is 3: ask for 2 (sysctl -w), or
             for CAP_PERFMON
  coverage   cpu: all but what nobody waits for
  coverage   memory: peaks as sampled
  coverage   io: complete
  coverage   processes: seen or reaped
"""


def changed(**parts: Any) -> dict[str, Any]:
    """The summary with other values: `cpu={"total_seconds": 0}` changes one of its part."""
    summary = copy.deepcopy(SUMMARY)
    for name, value in parts.items():
        if isinstance(value, dict):
            summary.setdefault(name, {}).update(value)
        else:
            summary[name] = value
    return summary


def shown(summary: dict[str, Any], name: str = "build", path: str | None = None, **options: bool) -> str:
    return render(name, summary, path, **({"colour": False} | options))


def line_of(text: str, label: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith(f"  {label} ")]
    return line


def test_plain() -> None:
    assert shown(SUMMARY, path="runs/build.jsonl") == PLAIN


def test_verbose_has_every_source_and_what_it_cannot_see() -> None:
    assert shown(SUMMARY, path="runs/build.jsonl", verbose=True) == PLAIN + VERBOSE


def test_without_a_record() -> None:
    assert shown(SUMMARY) == PLAIN.replace("  record     runs/build.jsonl\n", "")


def test_rendering_leaves_the_summary_alone() -> None:
    before = copy.deepcopy(SUMMARY)
    shown(SUMMARY, verbose=True)
    assert before == SUMMARY


def test_what_may_not_be_read_is_told() -> None:
    text = shown(changed(memory={"pss_denied": 1}, io={"denied": 1200}))
    assert "  memory     peak PSS 1.2 GiB" in text
    assert "\n             without PSS of 1 process that this user may not read\n" in text
    assert "\n             without I/O of 1,200 processes that this user may not read\n" in text
    assert "without" not in shown(changed(memory={"pss_denied": 0}, io={"denied": 0}))


def test_counters_that_were_asked_for() -> None:
    counters = {"page_faults": 1234567, "context_switches": None, "cycles": 0, "instructions": 98765432109876}
    text = shown(changed(counters=counters))
    assert line_of(text, "counters") == (
        "  counters   1,234,567 page faults, 0 cycles, 98,765,432,109,876 instructions"
    )
    assert "counters" not in shown(changed(counters=dict.fromkeys(counters)))


def test_long_evidence_goes_on_below() -> None:
    evidence = "it used 612 MiB of memory, more than --max-memory 500 MiB, and was ended by SIGTERM and SIGKILL"
    first, second, *_ = shown(changed(verdict="limit", evidence=evidence)).splitlines()
    assert first.startswith("proctally build  limit: it used")
    assert len(first) <= WIDTH
    assert second.startswith("    ")
    assert f"{first} {second.strip()}".endswith(f": {evidence}")


def test_a_share_of_an_idle_job_is_none() -> None:
    idle = changed(cpu={"total_seconds": 0.2})
    assert line_of(shown(idle), "tracking").startswith("  tracking   0.250 s CPU, ")


def test_the_record_on_standard_output_is_not_named() -> None:
    assert "record" not in shown(SUMMARY, path="-")


# -- colour ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verdict", "code"), [("ok", 32), ("failed", 31), ("killed", 31), ("ended", 33)])
def test_colour_is_only_paint(verdict: str, code: int) -> None:
    summary = changed(verdict=verdict)
    plain = shown(summary, path="x", verbose=True)
    coloured = shown(summary, path="x", verbose=True, colour=True)
    assert "\x1b" not in plain
    assert ESCAPES.sub("", coloured) == plain
    assert f"\x1b[{code}m{verdict}\x1b[0m" in coloured
    for line in coloured.splitlines():
        if "\x1b" in line:
            assert ESCAPES.findall(line)[-1] == "\x1b[0m", "no colour runs over the end of its line"


def on_a_terminal(environment: dict[str, str]) -> bool:
    """What `colour_wanted` says in a process whose stderr is a terminal."""
    child, terminal = pty.fork()
    if child == 0:
        os._exit(40 + colour_wanted(environment))
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.WEXITSTATUS(status) in (40, 41)
    return os.WEXITSTATUS(status) == 41


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"TERM": "xterm"}, True),
        ({}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm", "NO_COLOR": "0"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colour_on_a_terminal(environment: dict[str, str], wanted: bool) -> None:
    assert on_a_terminal(environment) is wanted


def test_no_colour_where_there_is_no_terminal() -> None:
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        assert colour_wanted({"TERM": "xterm"}) is False
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


# -- what is not known -------------------------------------------------------------------------------------------


def test_unknown_is_not_zero() -> None:
    summary = changed(
        memory={"peak_pss_bytes": None, "peak_rss_bytes": None, "peak_process_rss_bytes": None},
        io={"read_bytes": None, "write_bytes": None},
        commands=[],
    )
    text = shown(summary)
    assert line_of(text, "memory") == "  memory     peak PSS unknown, RSS unknown, largest process unknown"
    assert line_of(text, "disk") == "  disk       read unknown, written unknown"


def test_a_job_of_nothing() -> None:
    summary = changed(wall_seconds=0.0, commands=[], cpu={"total_seconds": 0.0, "mean_cores": 0.0, "peak_cores": 0.0})
    text = shown(summary)
    assert line_of(text, "tracking") == "  tracking   0.250 s CPU, 12.5 MiB, 85 samples"
    assert "commands" not in text
    assert "too short" not in text


def test_why_it_ended() -> None:
    assert shown(changed(verdict="failed", evidence="exit status 3")).startswith("proctally build  failed: exit status")
    killed = shown(changed(verdict="killed", evidence="killed by signal 9 (SIGKILL)"))
    assert killed.splitlines()[0] == "proctally build  killed by signal 9 (SIGKILL)"


def test_what_was_left_and_lost() -> None:
    text = shown(changed(processes={"left": 3}, tracker={"lost_samples": 7}))
    assert line_of(text, "processes").endswith("at once, 3 left running")
    assert line_of(text, "tracking").endswith("85 samples, 7 lost")


def test_at_most_five_commands_the_idle_left_out() -> None:
    commands = [{"command": f"c{number}", "processes": 1, "cpu_seconds": 9.0 - number} for number in range(9)]
    text = shown(changed(commands=commands, cpu={"total_seconds": 45.0}))
    assert re.findall(r" (c\d)$", text, re.MULTILINE) == ["c0", "c1", "c2", "c3", "c4"]
    assert "too short" not in text


# -- names of strangers ------------------------------------------------------------------------------------------

HOSTILE = ["\x1b[31mred\x1b[0m", "a\nb\rc", "\x07\x08\x7f", "\x9b31m", "\u202eevil", "\udcff", "\u2028", "\x00", "a\tb"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_and_never_sent(name: str) -> None:
    summary = changed(commands=[{"command": name, "processes": 1, "cpu_seconds": 300.0, "peak_rss_bytes": None}])
    text = shown(summary, name=name, path=f"/tmp/{name}", verbose=True)
    assert all(sign.isprintable() for sign in text.replace("\n", ""))
    assert len(text.splitlines()) == len(shown(SUMMARY, path="x", verbose=True).splitlines()) - 2
    text.encode("utf-8")
    assert repr(name)[1:-1] in text


@patient
@given(st.text(max_size=30))
def test_printable(name: str) -> None:
    safe = printable(name)
    assert safe.isprintable()
    assert printable(safe) == safe
    if name.isprintable():
        assert safe == name


# -- 80 columns --------------------------------------------------------------------------------------------------


def widest(text: str) -> str:
    """The widest line; a path is never cut, so that it can be copied."""
    return max((line for line in text.splitlines() if not line.startswith("  record ")), key=len)


LONG = "a-name-that-goes-on-and-on-for-much-longer-than-a-line-has-room-for-it"

ENDS = [
    ("ok", "exit status 0"),
    ("failed", "exit status 255"),
    ("killed", "killed by signal 11 (SIGSEGV), core dumped"),
    ("ended", "its root and all known members ended"),
    ("ended", "stopped by signal 15 (SIGTERM)"),
]


@pytest.mark.parametrize(("verdict", "evidence"), ENDS)
@pytest.mark.parametrize("name", ["sh", "fifteen-letters", LONG])
def test_title_keeps_to_80_columns(verdict: str, evidence: str, name: str) -> None:
    title = shown(changed(verdict=verdict, evidence=evidence), name=name).splitlines()[0]
    assert len(title) <= WIDTH == 80
    assert verdict in title
    assert evidence in title or verdict == "ok"


def test_large_numbers_keep_to_80_columns() -> None:
    most = 1023 << 40
    command = {"command": LONG, "processes": 10_000_000, "cpu_seconds": 999_999.0, "peak_rss_bytes": most}
    summary = changed(
        wall_seconds=30 * 86400.0,
        cpu={"total_seconds": 9e6, "user_seconds": 8e6, "system_seconds": 1e6, "mean_cores": 347.2, "peak_cores": 1e3},
        memory={"peak_pss_bytes": most, "peak_rss_bytes": most, "peak_process_rss_bytes": most},
        io={"read_bytes": most, "write_bytes": most},
        processes={"started": 10_000_000, "source": "perf", "peak": 4_000_000, "left": 4_000_000},
        commands=[command] * 5,
        tracker={"cpu_seconds": 9999.0, "samples": 10_000_000, "lost_samples": 10_000_000},
    )
    assert len(widest(shown(summary))) <= WIDTH


def test_long_coverage_is_wrapped_and_whole() -> None:
    coverage = "all but what children of 12 processes that ignore SIGCHLD used after they were last seen; " * 3
    text = shown(changed(cpu={"coverage": coverage}), verbose=True)
    assert len(widest(text)) <= WIDTH
    assert "".join(coverage.split()) in "".join(text.split())


@pytest.mark.parametrize("seconds", [0.0001, 0.01, 1.0])
def test_short_jobs_keep_to_80_columns(seconds: float) -> None:
    assert len(widest(shown(changed(wall_seconds=seconds, cpu={"total_seconds": seconds})))) <= WIDTH


# -- units -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (None, "unknown"),
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (99 * 1024, "99.0 KiB"),
        (102_348, "99.9 KiB"),
        (102_349, "100 KiB"),
        (1023 * 1024, "1.0 MiB"),
        (999 * 1024, "999 KiB"),
        (1 << 20, "1.0 MiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (1 << 30, "1.0 GiB"),
        ((1 << 30) - 1, "1.0 GiB"),
        (1 << 40, "1.0 TiB"),
        (5000 << 40, "5000 TiB"),
        (1 << 60, "1048576 TiB"),
    ],
)
def test_size(count: int | None, said: str) -> None:
    assert size(count) == said


UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


@patient
@given(st.integers(0, 1 << 50))
def test_size_is_near(count: int) -> None:
    number, unit = size(count).split()
    assert abs(float(number) * UNITS[unit] - count) <= max(0.05 * UNITS[unit], 0.005 * count) * 1.001
    assert len(size(count)) <= len("1023 KiB")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.000 s"),
        (0.0004, "0.000 s"),
        (0.0123, "0.012 s"),
        (9.5, "9.500 s"),
        (10, "10.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 00.0 s"),
        (61.25, "1 min 01.2 s"),
        (119.94, "1 min 59.9 s"),
        (119.97, "2 min 00.0 s"),
        (3599.9, "59 min 59.9 s"),
        (3599.97, "1 h 00 min 00 s"),
        (3600, "1 h 00 min 00 s"),
        (7199.7, "2 h 00 min 00 s"),
        (86400, "24 h 00 min 00 s"),
        (360_061, "100 h 01 min 01 s"),
    ],
)
def test_duration(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@patient
@given(st.floats(0, 1e6))
@example(119.97)
@example(59.97)
def test_duration_is_near_and_carries(seconds: float) -> None:
    said = duration(seconds)
    parts: dict[str, float] = {unit: float(number) for number, unit in re.findall(r"([\d.]+) (h|min|s)", said)}
    total = parts.get("h", 0) * 3600 + parts.get("min", 0) * 60 + parts["s"]
    assert abs(total - seconds) <= (0.51 if "h" in parts else 0.051 if seconds >= 9.9995 else 0.00051)
    assert parts["s"] < 60 or parts.keys() == {"s"}, said
    assert parts.get("min", 0) < 60, said
