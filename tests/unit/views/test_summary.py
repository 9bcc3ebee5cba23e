"""The terminal summary of a literal summary line."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from made import GIB, MIB, gap, reason
from proctally.analysis.others import OtherUser
from proctally.text import words
from proctally.text.cells import columns_of
from proctally.text.terminal import WIDTH, Look
from proctally.views.summary import render, title

MACHINE = {
    "peak_cores": None, "peak_memory_used_bytes": None, "memory_total_bytes": None, "unavailable": {},
}  # fmt: skip
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
proctally build  ok  1 min 23 s
  memory     peak PSS 1.2 GiB, RSS 2.1 GiB, of 2.0 GiB
  cores      3.61 of 8 used, peak 7.98
  CPU        at least 5 min 02 s (user 280.2, system 21.3)
  disk       read 50.0 MiB, written 1.0 GiB
  processes  12,345 seen, 42 at once
  commands   4 min 10 s cc1plus x 1,204, 30.5 s ld, 20.9 s too short to sample
  request    8 cores, 1.516 GiB, 3 min; from one run (more: proctally advise)
  record     runs/build.jsonl
"""
NARROW = """\
  memory     1.71 GiB held, 36.0 MiB mapped files, of 2.0 GiB
             at 11.5 s: python3 (5) 1.45 to 1.50 GiB, sh 300 KiB
"""
WIDE = """\
  memory     0.90 to 1.20 GiB held, 36.0 MiB mapped files, 80.0 MiB swap, of
             2.0 GiB
             at 11.5 s: gunicorn: worker (forks) (5) 400 to 700 MiB, …
"""
VERBOSE = """\
  memory     sampled sums: PSS 1.2 GiB, RSS 2.1 GiB; high-water mark of the
             largest process: 700 MiB
  waited     1.5 s of threads for a CPU
  tracking   0.250 s CPU (0.1 %), 12.5 MiB, 85 samples
  sources    procfs 301.200 s, rusage 301.504 s; total by rusage
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
TIME = {
    "running_seconds": 2.0, "ready_seconds": 7.0, "throttled_seconds": 0.0, "disk_seconds": 0.0, "asleep_seconds": 1.0,
    "wanted_cores": 1.9,
}  # fmt: skip


def changed(**parts: Any) -> dict[str, Any]:
    """The summary with other values: `cpu={"total_seconds": 0}` changes one of its part."""
    summary = copy.deepcopy(SUMMARY)
    for name, value in parts.items():
        if isinstance(value, dict):
            summary.setdefault(name, {}).update(value)
        else:
            summary[name] = value
    return summary


def shown(
    summary: dict[str, Any], name: str = "build", path: str | None = None, *, verbose: bool = False, **look: Any
) -> str:
    return render(name, summary, path, Look(**look), verbose=verbose)


def part(low: Any, high: Any, command: Any = "python3", kind: Any = "private") -> dict[str, Any]:
    return {"pid": 5, "command": command, "low_bytes": low, "high_bytes": high, "kind": kind}


def bounded(low: Any, high: Any, *parts: dict[str, Any], gaps: Any = (), **more: Any) -> dict[str, Any]:
    apart = {"at_seconds": 11.5, "mapped_file_bytes": 36 * MIB, "kernel_bytes": 3 * MIB, "swap_bytes": 0}
    bounds = {"peak_low_bytes": low, "peak_high_bytes": high, "at_peak": list(parts)}
    return changed(memory=bounds | apart | more, gaps=list(gaps))


def line_of(text: str, label: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith(f"  {label} ")]
    return line


@pytest.mark.parametrize(
    ("parts", "processes", "holders"),
    [
        (3, 4, "between two scans 83.7 to 122 MiB, sh 112 KiB, "),
        (5, 5, "between two scans 83.5 to 121 MiB, sh 112 KiB, …"),
        (5, 5000, "sh 112 KiB, sh 112 KiB, "),
        (5, None, "sh 112 KiB, sh 112 KiB, "),
    ],
)
def test_parts_that_explain_little_of_the_peak_follow_what_was_held_between_two_scans(
    parts: int, processes: Any, holders: str
) -> None:
    small = [part(112 << 10, 112 << 10, "sh") | {"pid": None}] * parts
    summary = bounded(84 * MIB, 122 * MIB, *small) | {"processes": SUMMARY["processes"] | {"peak": processes}}
    assert f"at 11.5 s: {holders}" in shown(summary)


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


def test_denied_files_are_named_beside_their_figures() -> None:
    denied = changed(memory={"pss_denied": 1}, io={"denied": 1200})
    assert line_of(shown(denied), "disk") == ("  disk       read 50.0 MiB, written 1.0 GiB, without 1,200 processes")
    assert "\n             PSS without 1 process (denied)\n" in shown(denied, verbose=True)
    assert "without" not in shown(changed(memory={"pss_denied": 0}, io={"denied": 0}), verbose=True)


def test_counters_that_were_asked_for() -> None:
    counters = {"page_faults": 1234567, "context_switches": None, "cycles": 0, "instructions": 98765432109876}
    text = shown(changed(counters=counters))
    assert line_of(text, "counters") == (
        "  counters   1,234,567 page faults, 0 cycles, 98,765,432,109,876 instructions"
    )
    assert "counters" not in shown(changed(counters=dict.fromkeys(counters)))


def test_long_title_continues_below() -> None:
    over = reason("memory_limit", measure="pss", used_bytes=612 << 20, limit_bytes=500 << 20)
    first, second, *_ = shown(changed(verdict="limit", exit_code=None, signal=15, reason=over)).splitlines()
    words = "PSS 612 MiB over --max-memory 500 MiB in two samples, then killed by signal 15 (SIGTERM)"
    assert first.startswith("proctally build  limit  1 min 23 s: PSS 612 MiB")
    assert len(first) <= WIDTH
    assert second.startswith("    ")
    assert f"{first} {second.strip()}".endswith(f": {words}")


def test_share_of_tracking_in_idle_job_is_left_out() -> None:
    idle = changed(cpu={"total_seconds": 0.2})
    assert line_of(shown(idle, verbose=True), "tracking").startswith("  tracking   0.250 s CPU, ")


def test_starved_run_says_so_in_its_title() -> None:
    starved = changed(time=TIME, cpu={"mean_cores": 0.37}, limits={"cpu_cores": 2}, wall_seconds=10.0)
    text = shown(starved)
    assert text.startswith("proctally build  ok, but starved  10.0 s: got 19 % of the CPU time it wanted\n")
    assert "  time       computing 20 %, waiting for a CPU 70 %, asleep 10 %\n             █████████" in text
    assert "; time unknown (on 2 cores about 3.0 s) " in " ".join(shown(starved, path="x").split())
    for part in ({"time": TIME | {"ready_seconds": 0.2}}, {"cpu": {"mean_cores": 1.86}}):
        assert shown(changed(**(starved | part))).startswith("proctally build  ok  10.0 s\n")


def test_job_wants_at_most_the_cores_that_it_may_use_without_a_quota() -> None:
    crowd = {"time": TIME | {"wanted_cores": 9.0}, "system": {"cpus": 4, "mean_cores": None} | MACHINE}
    assert line_of(shown(changed(**crowd, limits={"cpu_cores": 2})), "cores").endswith("wanted 2.00")
    quota = changed(**crowd, limits={"cpu_cores": 0.2}, waiting={"throttled_seconds": 1.0})
    assert line_of(shown(quota), "cores").endswith("wanted 4.00")


def test_others_are_named_where_the_job_waited() -> None:
    user = {"user": "ci", "command": "python", "processes": 1, "cpu_cores": 0.84, "rss_bytes": MIB}
    users = [user, user | {"user": "root", "command": "cc1", "processes": 4, "cpu_cores": 0.41}]
    others = {"interval_seconds": 10.0, "cpu_cores": 1.63, "largest": users}
    crowded = changed(time=TIME, others=others, system={"cpus": 2, "mean_cores": None} | MACHINE)
    assert line_of(shown(crowded), "others") == "  others     1.63 of 2 cores: ci python 0.84, root cc1 x 4 0.41"
    least = crowded | {"others": others | {"coverage": "partial"}}
    assert "others     at least 1.63 of 2 cores: " in shown(least)
    starved = least | {"cpu": SUMMARY["cpu"] | {"mean_cores": 0.2}}
    few = starved | {"others": least["others"] | {"largest": users[1:]}}
    lack = "\n             the rest ended between two readings, or cannot be read\n"
    all_seen = few | {"others": few["others"] | {"coverage": "complete"}}
    assert lack in shown(few) and lack not in shown(starved) + shown(all_seen)
    for part in ({"others": None}, {"time": TIME | {"ready_seconds": 0.1}}):
        assert "others" not in shown(crowded | part)


def test_limit_of_address_space_is_shown_where_the_job_failed() -> None:
    limits = {"memory_bytes": None, "address_space_bytes": 400_000 << 10}
    failed = bounded(60 * MIB, 60 * MIB, mapped_file_bytes=0) | {"limits": SUMMARY["limits"] | limits}
    failed |= {"verdict": "failed", "exit_code": 1}
    limit = "no limit but 391 MiB of address space each (ulimit -v)"
    assert line_of(shown(failed), "memory") == f"  memory     60 MiB held, {limit}"
    assert "address" not in shown(failed | {"verdict": "ok"})


def test_peak_near_its_limit_shows_the_share() -> None:
    near = bounded(int(1.7 * GIB), int(1.9 * GIB), mapped_file_bytes=0)
    assert line_of(shown(near), "memory") == "  memory     1.70 to 1.90 GiB held, 95 % of 2.0 GiB"


def test_lines_give_way_where_there_are_more_than_16() -> None:
    parts = part(400 * MIB, 700 * MIB), part(251 * MIB, 258 * MIB)
    full = bounded(
        int(0.9 * GIB), int(1.2 * GIB), *parts, swap_bytes=80 * MIB, oom_kills=1,
        ooms=[{"elapsed_seconds": 1.0, "cgroup": "/x", "limit_bytes": 1, "count": 1, "at_peak": list(parts)}],
    ) | {
        "time": TIME, "counters": {"cycles": 5}, "phases": [{"name": "fit", "wall_seconds": 3.0}],
        "gpu": {"mean_utilization_ratio": 0.5, "peak_utilization_ratio": 1.0, "peak_tree_memory_bytes": MIB},
        "reason": reason("exit_status", oom_kills=1, oom_place="cgroup"),
    }  # fmt: skip
    text = shown(full, path="x")
    assert len(text.splitlines()) <= 16
    for label in ("killed", "time", "memory", "phases", "GPUs", "request", "record"):
        assert f"\n  {label} " in text
    assert "\n  processes " not in text and "\n  processes " in shown(full | {"gpu": None, "counters": None})


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
    assert line_of(text, "memory") == "  memory     peak PSS unknown, RSS unknown, of 2.0 GiB"
    assert line_of(text, "disk") == "  disk       read unknown, written unknown"


def test_a_job_of_nothing() -> None:
    summary = changed(wall_seconds=0.0, commands=[], cpu={"total_seconds": 0.0, "mean_cores": 0.0, "peak_cores": 0.0})
    text = shown(summary, verbose=True)
    assert line_of(text, "tracking") == "  tracking   0.250 s CPU, 12.5 MiB, 85 samples"
    assert "commands" not in text
    assert "too short" not in text


def test_why_it_ended() -> None:
    failed = "proctally build  failed  1 min 23 s: exit status 3\n"
    assert shown(changed(verdict="failed", exit_code=3)).startswith(failed)
    killed = shown(changed(verdict="killed", exit_code=None, signal=9, reason=reason("signal", signal=9)))
    assert killed.splitlines()[0] == "proctally build  killed by signal 9 (SIGKILL)  1 min 23 s"


def test_what_was_left_and_lost() -> None:
    text = shown(changed(processes={"left": 3}, tracker={"lost_samples": 7}), verbose=True)
    assert line_of(text, "processes").endswith("at once, 3 left running")
    assert line_of(text, "tracking").endswith("85 samples, 7 lost")


def test_at_most_five_commands_the_idle_left_out() -> None:
    commands = [{"command": f"c{number}", "processes": 1, "cpu_seconds": 9.0 - number} for number in range(9)]
    text = shown(changed(commands=commands, cpu={"total_seconds": 45.0}))
    assert re.findall(r" (c\d)", line_of(text, "commands")) == ["c0", "c1", "c2", "c3", "c4"]
    assert "too short" not in text


# -- names of strangers ------------------------------------------------------------------------------------------


HOSTILE = ["\x1b[31mred\x1b[0m", "a\nb\rc", "\x07\x08\x7f", "\x9b31m", "\u202eevil", "\udcff", "\u2028", "\x00", "a\tb"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_and_never_sent(name: str) -> None:
    command = {"command": name, "processes": 1, "cpu_seconds": 150.0, "peak_rss_bytes": None}
    summary = changed(commands=[command, command])
    text = shown(summary, name=name, path=f"/tmp/{name}", verbose=True)
    assert all(sign.isprintable() for sign in text.replace("\n", ""))
    assert len(text.splitlines()) == len(shown(SUMMARY, path="x", verbose=True).splitlines())
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
    attached = changed(verdict="ended", reason=reason("all_exited"))
    assert "coverage   totals count from the attach\n" in shown(attached, verbose=True)
    assert "; time unknown\n" in shown(attached)


KILLS = {"oom_place": "cgroup", "oom_cgroup": "/batch/42", "memory_limit_bytes": 200 << 20}


def killed(count: int, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    oom = {"elapsed_seconds": 1.25, "cgroup": "/batch/42", "limit_bytes": 200 << 20, "count": count}
    ooms = [oom | {"at_peak": list(parts) or None}]
    return changed(
        reason=reason("exit_status", oom_kills=count, **KILLS), memory={"oom_kills": count, "ooms": ooms}, **more
    )


def test_oom_kills_of_good_run_are_in_the_title_and_show_who_held_the_memory() -> None:
    one = shown(killed(1, part(199 * MIB, 199 * MIB), part(300 << 10, 300 << 10, "sh")))
    assert one.splitlines()[:2] == [
        "proctally build  ok, but 1 process was killed for memory  1 min 23 s",
        "  killed     python3 (5) with 199 MiB, by the kernel's OOM killer",
    ]
    several = shown(killed(4, part(60 * MIB, 60 * MIB), part(50 * MIB, 50 * MIB, "sh")), verbose=True)
    assert several.startswith("proctally build  ok, but 4 processes were killed for memory  1 min 23 s\n")
    assert "  killed     4 processes by the kernel's OOM killer; before: python3 (5) 60 MiB\n" in several
    assert "  killed     4 processes at 1.2 s in /batch/42 (limit 200 MiB)\n" in several
    assert "  killed     3 processes by the kernel's OOM killer\n" in shown(killed(3))
    assert "killed" not in shown(changed(memory={"oom_kills": 0, "ooms": []}))


def test_job_killed_for_memory_shows_the_limit_in_its_title() -> None:
    oom = killed(1, part(199 * MIB, 199 * MIB), verdict="oom", exit_code=None, signal=9)
    first, *_ = shown(oom, width=100).splitlines()
    assert first == "proctally build  KILLED FOR MEMORY  1 min 23 s, at the limit of 200 MiB (/batch/42)"


def test_signals_of_children_are_in_the_line_of_processes() -> None:
    text = shown(changed(processes={"killed_by": {"SIGKILL": 3}}))
    assert "42 at once, 3 children ended by SIGKILL\n" in text


def test_title_is_one_line() -> None:
    assert title("a\nb", killed(4)) == "proctally a\\nb  ok, but 4 processes were killed for memory  1 min 23 s\n"


@pytest.mark.parametrize("seconds", [0.0001, 0.01, 1.0])
def test_short_jobs_keep_to_80_columns(seconds: float) -> None:
    assert len(widest(shown(changed(wall_seconds=seconds, cpu={"total_seconds": seconds})))) <= WIDTH


# -- bounds of memory ------------------------------------------------------------------------------------------------


def test_narrow_bounds_are_one_figure() -> None:
    parts = part(int(1.45 * GIB), int(1.50 * GIB)), part(300 << 10, 300 << 10, "sh")
    summary = bounded(int(1.70 * GIB), int(1.71 * GIB), *parts, gaps=[gap("memory", "pss_stale", count=2)])
    assert NARROW in shown(summary) and "wide:" not in shown(summary, verbose=True)


def test_wide_bounds_show_the_gap_that_makes_them_wide() -> None:
    gaps = [gap("memory", "pss_stale", count=2, high_bytes=MIB), gap("memory", "unclaimed_shmem", high_bytes=300 * MIB)]
    parts = part(400 * MIB, 700 * MIB, "gunicorn: worker", "family"), part(251 * MIB, 258 * MIB)
    summary = bounded(int(0.9 * GIB), int(1.2 * GIB), *parts, gaps=gaps, swap_bytes=80 * MIB)
    assert WIDE in shown(summary)
    wide = "wide: shared memory might belong to another job (at most 300 MiB)"
    assert f"\n             {wide}\n" in shown(summary, verbose=True)


def test_bounds_that_are_null_leave_the_sums() -> None:
    assert "peak PSS 1.2 GiB, RSS 2.1 GiB" in shown(bounded(None, None))


def test_bounds_without_anything_else_are_one_line() -> None:
    lines = shown(bounded(GIB, GIB, mapped_file_bytes=None, kernel_bytes=None, swap_bytes=None)).splitlines()
    place = lines.index("  memory     1 GiB held, of 2.0 GiB")
    assert lines[place + 1].startswith("  cores")


@pytest.mark.parametrize("command", ["\x1b[31m", "a" * 5000, "名" * 40, None, 7, ["x"], "", "\ud800", "{0.__class__}"])
@pytest.mark.parametrize("kind", ["private", "family", "shared", "spike", None])
def test_hostile_part_of_the_peak_stays_in_its_line(command: Any, kind: Any) -> None:
    parts = [part(5 * MIB, 700 * MIB, command, kind)] * 9
    text = shown(bounded(GIB, 2 * GIB, *parts))
    assert all(columns_of(line) <= WIDTH for line in text.splitlines())
    assert "\x1b" not in text and text.encode()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("blocks", [True, False])
def test_wide_names_keep_to_the_width(width: int, blocks: bool) -> None:
    name = "名é\u0301" * 40
    command = {"command": name, "processes": 1, "cpu_seconds": 150.0, "peak_rss_bytes": None}
    user = {"user": name, "command": name, "processes": 1, "cpu_cores": 0.8, "rss_bytes": MIB}
    others = {"interval_seconds": 1.0, "cpu_cores": 1.0, "largest": [user] * 5}
    changes = {"commands": [command] * 3, "time": TIME, "others": others}
    text = shown(
        changed(**changes, phases=[{"name": name, "wall_seconds": 1.0}] * 3), name=name, width=width, blocks=blocks
    )
    assert max(map(columns_of, text.splitlines())) <= width
    assert len(text.splitlines()) <= 16


def test_escaped_name_of_another_user_keeps_to_its_width() -> None:
    user = {"user": "名" * 40, "command": "e\u0301" * 7, "processes": 1, "cpu_cores": 0.8}
    text = OtherUser(user).text("~", 12, Look(blocks=False).encoded)
    assert (text.isascii(), columns_of(text)) == (True, 12 + 1 + 12 + len(" 0.80"))
