"""The terminal summary of a literal summary line."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from made import GIB, MIB, gap, reason
from proctally.text import words
from proctally.text.cells import columns_of
from proctally.text.terminal import WIDTH
from proctally.views.summary import render, title

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
SUMMARY: dict[str, Any] = {
    "type": "summary",
    "ended_at": 1_700_000_100.0,
    "wall_seconds": 83.4071,
    "exit_code": 0,
    "signal": None,
    "verdict": "ok",
    "reason": reason("exit_status"),
    "gaps": [
        gap("cpu", "unreaped_unknown"),
        gap("memory", "pss_stale", count=2),
        gap("processes", "processes_sampled"),
    ],
    "cpu": {
        "total_seconds": 301.5042,
        "user_seconds": 280.25,
        "system_seconds": 21.254,
        "mean_cores": 3.6148,
        "peak_cores": 7.98,
        "source": "rusage",
        "sources": {"procfs": 301.2, "rusage": 301.5042},
        "unavailable": {"perf": "perf_paranoid"},
        "coverage": "partial",
    },
    "memory": {
        "peak_pss_bytes": 1_288_490_189,
        "peak_rss_bytes": 2_254_857_830,
        "peak_process_rss_bytes": 734_003_200,
        "cgroup_peak_bytes": None,
        "coverage": "partial",
    },
    "io": {
        "read_bytes": 52_428_800,
        "write_bytes": 1_073_741_824,
        "read_chars": 1,
        "write_chars": 2,
        "coverage": "complete",
    },
    "processes": {"started": 12_345, "source": "procfs", "peak": 42, "left": 0, "coverage": "partial"},
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
                 20.89 s  in processes too short to sample, or at their exit
  tracking   0.250 s CPU (0.1 %), 12.5 MiB, 85 samples
  record     runs/build.jsonl
"""
NARROW = """\
  memory     1.71 GiB, of 2.0 GiB that it may use
             mapped files 36.0 MiB, kernel 3.0 MiB
             at the peak: python3 251 to 258 MiB, sh 300 KiB
"""
WIDE = """\
  memory     between 0.90 and 1.20 GiB, of 2.0 GiB that it may use
             wide: shared memory might belong to another job (at most 300 MiB)
             mapped files 36.0 MiB, kernel 3.0 MiB, swap 80.0 MiB
             at the peak: gunicorn: worker (forks) 400 to 700 MiB, …
"""
SUMS = "  sums       PSS 1.2 GiB, RSS 2.1 GiB; largest process 700 MiB\n"
VERBOSE = """\
  sources    procfs 301.200 s, rusage 301.504 s
             no perf: kernel.perf_event_paranoid is above 2; set it to 2 (sysctl
             -w) or grant CAP_PERFMON
  coverage   CPU time: partial; CPU time of unreaped processes (SIGCHLD ignored)
             would be missing; proctally saw none
  coverage   I/O: complete
  coverage   memory: peaks as sampled; the largest process by its high-water
             mark; PSS of 2 processes was not up to date at the peak
  coverage   processes: partial; sampled: processes shorter than the interval
             are missing
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


def part(low: Any, high: Any, command: Any = "python3", kind: Any = "private") -> dict[str, Any]:
    return {"pid": 5, "command": command, "low_bytes": low, "high_bytes": high, "kind": kind}


def bounded(low: Any, high: Any, *parts: dict[str, Any], gaps: Any = (), **more: Any) -> dict[str, Any]:
    apart = {"mapped_file_bytes": 36 * MIB, "kernel_bytes": 3 * MIB, "swap_bytes": 0}
    bounds = {"peak_low_bytes": low, "peak_high_bytes": high, "at_peak": list(parts)}
    return changed(memory=bounds | apart | more, gaps=list(gaps))


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
    over = reason("memory_limit", measure="pss", used_bytes=612 << 20, limit_bytes=500 << 20)
    first, second, *_ = shown(changed(verdict="limit", exit_code=None, signal=15, reason=over)).splitlines()
    words = "PSS 612 MiB over --max-memory 500 MiB in two samples, then killed by signal 15 (SIGTERM)"
    assert first.startswith("proctally build  limit: PSS 612 MiB")
    assert len(first) <= WIDTH
    assert second.startswith("    ")
    assert f"{first} {second.strip()}".endswith(f": {words}")


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
    assert shown(changed(verdict="failed", exit_code=3)).startswith("proctally build  failed: exit status 3\n")
    killed = shown(changed(verdict="killed", exit_code=None, signal=9, reason=reason("signal", signal=9)))
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


# -- 80 columns --------------------------------------------------------------------------------------------------


def widest(text: str) -> str:
    """The widest line; a path is never cut, so that it can be copied."""
    return max((line for line in text.splitlines() if not line.startswith("  record ")), key=len)


LONG = "a-name-that-goes-on-and-on-for-much-longer-than-a-line-has-room-for-it"
ENDS = [
    ("ok", "exit status 0", reason("exit_status")),
    ("failed", "exit status 255", reason("exit_status")),
    ("killed", "killed by signal 11 (SIGSEGV), core dumped", reason("signal", signal=11, core_dumped=True)),
    ("ended", "all processes exited", reason("all_exited")),
    ("ended", "stopped by signal 15 (SIGTERM)", reason("stopped", signal=15)),
]


@pytest.mark.parametrize(("verdict", "text", "why"), ENDS)
@pytest.mark.parametrize("name", ["sh", "fifteen-letters", LONG])
def test_title_keeps_to_80_columns(verdict: str, text: str, why: dict[str, Any], name: str) -> None:
    title = shown(changed(verdict=verdict, exit_code=255, reason=why), name=name).splitlines()[0]
    assert len(title) <= WIDTH == 80
    assert verdict in title
    assert text in title or verdict == "ok"


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
    gaps = [gap("cpu", "unreaped_unseen", count=12), gap("cpu", "no_subreaper"), gap("cpu", "cgroup_left")]
    text = shown(changed(cpu={"coverage": "partial"}, gaps=gaps), verbose=True)
    assert len(widest(text)) <= WIDTH
    assert "".join(words.coverage("partial", gaps).split()) in "".join(text.split())


def test_verbose_summary_of_attach_says_from_when_totals_count() -> None:
    assert "from the attach" not in shown(changed(), verbose=True)
    assert "coverage   totals count from the attach\n" in shown(changed(reason=reason("all_exited")), verbose=True)


def test_oom_kills_of_a_good_run_are_in_the_title() -> None:
    kills = reason("exit_status", oom_kills=4, oom_place="cgroup", memory_limit_bytes=100 << 20)
    title = shown(changed(reason=kills)).partition("\n  wall")[0]
    assert " ".join(title.split()) == (
        "proctally build ok, but the kernel's OOM killer ended 4 processes in its cgroup (limit 100 MiB)"
    )


def test_oom_kills_show_who_held_the_memory() -> None:
    held = part(251 * MIB, 251 * MIB), part(300 << 10, 300 << 10, "sh")
    kills = [
        {"elapsed_seconds": 1.25, "cgroup": "/x", "limit_bytes": 1, "count": count, "at_peak": parts}
        for count, parts in ((1, list(held)), (3, None))
    ]
    text = shown(changed(memory={"oom_kills": 4, "ooms": kills}))
    assert f"  OOM kills  at 1.250 s, 4 in all; before it {held[0]['command']} 251 MiB, sh 300 KiB\n" in text
    assert "  OOM kills  at 1.250 s\n" in shown(changed(memory={"oom_kills": 3, "ooms": kills[1:]}))
    assert "OOM" not in shown(changed(memory={"oom_kills": 0, "ooms": []}))


def test_signals_of_children_are_below_the_processes() -> None:
    text = shown(changed(processes={"killed_by": {"SIGKILL": 3}}))
    assert "at once\n             3 children ended by SIGKILL\n" in text


def test_title_is_one_line() -> None:
    kills = reason("exit_status", oom_kills=4, oom_place="cgroup", oom_cgroup="/x", memory_limit_bytes=100 << 20)
    assert title("a\nb", changed(reason=kills)) == (
        "proctally a\\nb  ok, but the kernel's OOM killer ended 4 processes (limit 100 MiB of /x)\n"
    )


@pytest.mark.parametrize("seconds", [0.0001, 0.01, 1.0])
def test_short_jobs_keep_to_80_columns(seconds: float) -> None:
    assert len(widest(shown(changed(wall_seconds=seconds, cpu={"total_seconds": seconds})))) <= WIDTH


# -- bounds of memory ------------------------------------------------------------------------------------------------


def test_narrow_bounds_are_one_figure() -> None:
    parts = part(251 * MIB, 258 * MIB), part(300 << 10, 300 << 10, "sh")
    text = shown(bounded(int(1.70 * GIB), int(1.71 * GIB), *parts, gaps=[gap("memory", "pss_stale", count=2)]))
    assert NARROW in text and "wide:" not in text and "PSS" not in text


def test_wide_bounds_show_the_gap_that_makes_them_wide() -> None:
    gaps = [gap("memory", "pss_stale", count=2, high_bytes=MIB), gap("memory", "unclaimed_shmem", high_bytes=300 * MIB)]
    parts = part(400 * MIB, 700 * MIB, "gunicorn: worker", "family"), part(251 * MIB, 258 * MIB)
    summary = bounded(int(0.9 * GIB), int(1.2 * GIB), *parts, gaps=gaps, swap_bytes=80 * MIB)
    assert WIDE in shown(summary)
    assert SUMS in shown(summary, verbose=True)


def test_bounds_that_are_null_leave_the_sums() -> None:
    assert "peak PSS 1.2 GiB, RSS 2.1 GiB" in shown(bounded(None, None))


def test_bounds_without_anything_else_are_one_line() -> None:
    lines = shown(bounded(GIB, GIB, mapped_file_bytes=None, kernel_bytes=None, swap_bytes=None)).splitlines()
    place = lines.index("  memory     1 GiB, of 2.0 GiB that it may use")
    assert lines[place + 1].startswith("  disk")


@pytest.mark.parametrize("command", ["\x1b[31m", "a" * 5000, "名" * 40, None, 7, ["x"], "", "\ud800", "{0.__class__}"])
@pytest.mark.parametrize("kind", ["private", "family", "shared", "spike", None])
def test_hostile_part_of_the_peak_stays_in_its_line(command: Any, kind: Any) -> None:
    parts = [part(5 * MIB, 700 * MIB, command, kind)] * 9
    text = shown(bounded(GIB, 2 * GIB, *parts))
    assert all(columns_of(line) <= WIDTH for line in text.splitlines())
    assert "\x1b" not in text and text.encode()
