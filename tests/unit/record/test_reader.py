"""Reading: records of schema 1 become schema 2 without loss, whatever they hold."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from places import GOLDEN
from proctally.errors import NoRecord
from proctally.record import codes
from proctally.record.catalogue import glance
from proctally.record.reader import lines, read
from proctally.record.schema1 import GAP, REASON, SINCE, upgrade

SCHEMA_1 = GOLDEN / "schema1"
NO_CGROUP = {"cgroup": "not_requested"}
BOUND = {"high_seconds": 0.1}
EXIT = ("exit_status", {})
SAMPLED = ("processes", "processes_sampled", {})
MARKS = ("memory", "last_moments", {})
ATTACH = {"cgroup": "already_running"}
ATTACHED = [MARKS, ("io", "last_moments", BOUND), SAMPLED]

# name: how it ended, why sources are missing, gaps
EXPECTED: dict[str, tuple[tuple[str, dict[str, Any]], dict[str, str] | None, list[tuple[str, str, dict[str, Any]]]]] = {
    "attach": (("all_exited", {}), ATTACH, [("cpu", "last_moments", {}), *ATTACHED]),
    "attach_duration": (
        ("duration", {"limit_seconds": 0.5}),
        ATTACH | {"perf": "not_requested"},
        [("cpu", "last_moments", BOUND), *ATTACHED],
    ),
    "attach_tree": (("all_exited", {}), ATTACH, [("cpu", "last_moments", {}), *ATTACHED]),
    "attach_user": (
        ("duration", {"limit_seconds": 0.4}),
        ATTACH | {"perf": "other_users"},
        [
            ("cpu", "last_moments", BOUND),
            MARKS,
            ("memory", "pss_denied", {"count": 161}),
            ("io", "last_moments", BOUND),
            ("io", "io_denied", {"count": 316}),
            SAMPLED,
        ],
    ),
    "before": (EXIT, NO_CGROUP, [("cpu", "earlier_children", {"count": 1})]),
    "cgroup": (EXIT, {}, []),
    "client": (EXIT, NO_CGROUP, [("cpu", "client_only", {})]),
    "failed": (EXIT, NO_CGROUP, []),
    "ignored": (
        EXIT,
        NO_CGROUP,
        [("memory", "pss_stale", {"count": 3}), ("io", "unreaped_unseen", {"count": 21})],
    ),
    "ignored_procfs": (
        EXIT,
        NO_CGROUP | {"perf": "not_requested"},
        [("cpu", "unreaped_unseen", {"count": 10}), ("io", "unreaped_unseen", {"count": 10}), SAMPLED],
    ),
    "killed": (("signal", {"signal": 11, "core_dumped": False}), NO_CGROUP, []),
    "left": (EXIT, NO_CGROUP, [("cpu", "left_running", {"count": 1})]),
    "limit": (
        ("memory_limit", {"measure": "pss", "used_bytes": 64592282, "limit_bytes": 20027802}), NO_CGROUP, [],
    ),
    "no_commands": (EXIT, NO_CGROUP | {"commands": "switched_off"}, [SAMPLED]),
    "oom": (
        (
            "oom_kill",
            {"oom_kills": 1, "oom_place": "cgroup", "memory_limit_bytes": 40 << 20, "last_rss_bytes": 428 << 10},
        ),
        NO_CGROUP,
        [],
    ),
    "oom_child": (
        (
            "exit_status",
            {"oom_kills": 1, "oom_place": "cgroup", "memory_limit_bytes": 40 << 20, "last_rss_bytes": 41 << 20},
        ),
        NO_CGROUP,
        [],
    ),
    "perf_only": (EXIT, NO_CGROUP, [("cpu", "teardown", {})]),
    "procfs": (
        EXIT,
        NO_CGROUP | {"perf": "not_requested"},
        [("cpu", "unreaped_unknown", {}), ("io", "unreaped_unknown", {}), SAMPLED],
    ),
    "run": (EXIT, NO_CGROUP, []),
    "setuid": (
        EXIT,
        NO_CGROUP,
        [
            ("cpu", "setuid", {"count": 2}),
            ("memory", "pss_denied", {"count": 1}),
            ("io", "io_denied", {"count": 1}),
            ("processes", "setuid", {"count": 2}),
        ],
    ),
    "system": (("duration", {"limit_seconds": 1.0}), None, []),
    "throttled": (EXIT, NO_CGROUP, []),
    "timeout": (("timeout", {"limit_seconds": 0.3}), NO_CGROUP, []),
    "track": (
        ("block_ended", {}),
        ATTACH,
        [("cpu", "last_moments", {}), *ATTACHED],
    ),
}  # fmt: skip


def gaps_of(found: list[tuple[str, str, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [dict.fromkeys(GAP) | {"section": section, "code": code} | values for section, code, values in found]


def test_schema_1_has_each_golden_record() -> None:
    assert {path.stem for path in SCHEMA_1.glob("*.jsonl")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_schema_1_golden_record_has_exact_codes(name: str) -> None:
    (code, values), unavailable, gaps = EXPECTED[name]
    *_, summary = lines(str(SCHEMA_1 / f"{name}.jsonl"))
    assert summary["reason"] == dict.fromkeys(REASON) | {"code": code} | values
    assert (summary.get("cpu") or {}).get("unavailable") == unavailable
    assert summary["gaps"] == gaps_of(gaps)
    partial = {gap["section"] for gap in summary["gaps"]}
    for section in ("cpu", "memory", "io", "processes") if "cpu" in summary else ():
        assert summary[section]["coverage"] == ("partial" if section in partial else "complete")


RENAMED = {
    "run": {"schema"},
    "process": {"start", "start_ticks"},
    "host": {"troubles", "unavailable"},
    "devices": {"troubles", "unavailable"},
    "sample": {"gpus_skipped", "gpus_trouble", "gpus_unavailable"},
    "summary": {"evidence", "reason", "gaps", "cpu", "memory", "io", "processes", "system"},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_schema_1_golden_record_loses_nothing(name: str) -> None:
    path = SCHEMA_1 / f"{name}.jsonl"
    before = [json.loads(line) for line in path.read_bytes().splitlines()]
    after = list(read(str(path)))
    assert after[0]["schema"] == "proctally/2"
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        kept = {key: value for key, value in old.items() if key not in RENAMED.get(old["type"], ())}
        assert {key: value for key, value in new.items() if key not in RENAMED.get(old["type"], ())} == kept
        if old["type"] == "process":
            assert new["start_ticks"] == old["start"]
            assert "start" not in new
        if old["type"] in ("host", "devices"):
            assert (new["unavailable"], "troubles" in new) == (old["troubles"], False)
        if old["type"] == "summary":
            for section in ("cpu", "memory", "io", "processes", "system"):
                if isinstance(old.get(section), dict):
                    assert new[section].keys() == old[section].keys()
                    same = old[section].keys() - {"coverage", "unavailable"}
                    assert {key: new[section][key] for key in same} == {key: old[section][key] for key in same}
    assert glance(str(path)).summary == after[-1]
    assert glance(str(path)).run == after[0]


def test_schema_2_record_stays_as_it_is(tmp_path: Path) -> None:
    made = [
        {"type": "run", "schema": "proctally/2"},
        {"type": "process", "start": 1},
        {"type": "summary", "evidence": "exit status 0", "cpu": {"coverage": "all but the first look"}},
    ]
    path = tmp_path / "made.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in made), encoding="utf-8")
    assert list(read(str(path))) == made
    assert glance(str(path)).summary == made[-1]


def test_schema_1_gzip_record_is_upgraded(tmp_path: Path) -> None:
    packed = tmp_path / "run.jsonl.gz"
    packed.write_bytes(gzip.compress((SCHEMA_1 / "failed.jsonl").read_bytes()))
    assert list(read(str(packed))) == list(read(str(SCHEMA_1 / "failed.jsonl")))
    assert glance(str(packed)).summary == list(read(str(packed)))[-1]


# -- sentences -------------------------------------------------------------------------------------------------------

LAST = "the last moments (about 50 us, and giving back its memory) of each process"
UP_TO = "up to 0.5 s at the end of a process whose parent is outside the tree, or did not wait for it"
UNWAITED = "children that nobody waits for (SIGCHLD ignored, or set to be), of which none was seen"
PEAKS = "peaks as sampled; the largest process by its high-water mark"
FAULT = "; tracking ended before, by a fault of its own"


@pytest.mark.parametrize(
    ("section", "sentence", "coverage", "gaps"),
    [
        ("cpu", "complete", "complete", []),
        ("cpu", f"all but {LAST}", "partial", [("cpu", "teardown", {})]),
        ("cpu", f"since the attach, all but {LAST}", "partial", [("cpu", "last_moments", {})]),
        (
            "cpu",
            f"all but {LAST}: perf alone has seen those that nobody waited for",
            "partial",
            [("cpu", "unreaped", {})],
        ),
        (
            "cpu",
            "all but perhaps 0.123 s that perf alone counted: its clock goes on while interrupts and other machines"
            " have the CPU",
            "partial",
            [("cpu", "unreaped", {"low_seconds": 0.0, "high_seconds": 0.123})],
        ),
        ("cpu", f"all but {UNWAITED}", "partial", [("cpu", "unreaped_unknown", {})]),
        (
            "cpu",
            "all but what children of 2 processes that ignore SIGCHLD used after they were last seen",
            "partial",
            [("cpu", "unreaped_unseen", {"count": 2})],
        ),
        (
            "cpu",
            "all but what was used outside of its cgroup; its cgroup has not all: process 7 left it for another cgroup",
            "partial",
            [("cpu", "cgroup_left", {})],
        ),
        (
            "cpu",
            "complete; its cgroup has not all: processes left it for another cgroup: others have seen more than was"
            " used in it; 2 children from before the start are left out, not all they leave; as process 1, strangers"
            " that were adopted may be counted",
            "partial",
            [("cpu", "cgroup_left", {}), ("cpu", "earlier_children", {"count": 2}), ("cpu", "adopted_unrelated", {})],
        ),
        (
            "cpu",
            "all but what ssh has others do: it is only their client; orphans after they were last seen: becoming a"
            " subreaper was refused",
            "partial",
            [("cpu", "client_only", {}), ("cpu", "no_subreaper", {})],
        ),
        (
            "cpu",
            "all but what 1 processes used that may have executed a program with rights of its own",
            "partial",
            [("cpu", "setuid", {"count": 1})],
        ),
        ("cpu", f"incomplete{FAULT}", "partial", [("cpu", "tracking_failed", {})]),
        (
            "cpu",
            f"since the start of the block, all but {LAST}; threads that were made during the attach",
            "partial",
            [("cpu", "last_moments", {}), ("cpu", "attach_threads", {})],
        ),
        ("cpu", "all but the first look", "partial", []),
        ("cpu", "complete; whatever", "partial", []),
        ("cpu", 7, "unknown", []),
        (
            "io",
            f"since the attach, all but {UP_TO}; 3 processes whose io is denied",
            "partial",
            [("io", "last_moments", {"high_seconds": 0.5}), ("io", "io_denied", {"count": 3})],
        ),
        (
            "io",
            "all but processes that nobody waited for, after they were last seen; 1 processes whose io is denied, until"
            " they were reaped",
            "partial",
            [("io", "unreaped", {}), ("io", "io_denied", {"count": 1})],
        ),
        ("io", "not available from this kernel", "unknown", [("io", "io_unavailable", {})]),
        ("io", "denied, or not available from this kernel", "unknown", [("io", "io_unavailable", {})]),
        ("memory", PEAKS, "complete", []),
        ("memory", f"{PEAKS} as last read", "partial", [("memory", "last_moments", {})]),
        ("memory", f"{PEAKS}; PSS of 2 processes is denied", "partial", [("memory", "pss_denied", {"count": 2})]),
        (
            "memory",
            f"{PEAKS}; PSS of 2 processes had not been read at the peak{FAULT}",
            "partial",
            [("memory", "pss_stale", {"count": 2}), ("memory", "tracking_failed", {})],
        ),
        (
            "memory",
            "too short to be sampled; the largest process had at most 4096 bytes",
            "partial",
            [("memory", "not_sampled", {"high_bytes": 4096})],
        ),
        (
            "memory",
            f"{PEAKS}; run delay of processes with very many threads is left out",
            "complete",
            [("time", "delay_sampled", {})],
        ),
        (
            "processes",
            "seen or reaped: those of less than an interval that others waited for are missing (not asked for)",
            "partial",
            [SAMPLED],
        ),
        ("processes", "those seen: what began and ended between two samples is missing", "partial", [SAMPLED]),
        (
            "processes",
            "all but what 3 lost records of perf would have told; what 1 unreadable buffers of perf would have told;"
            " what was forked on 2 CPUs that came online meanwhile",
            "partial",
            [
                ("processes", "lost_records", {"count": 3}),
                ("processes", "buffers_unreadable", {"count": 1}),
                ("processes", "new_cpus", {"count": 2}),
            ],
        ),
        (
            "processes",
            f"complete, unless records were lost: this kernel does not say{FAULT}",
            "partial",
            [("processes", "lost_unknown", {}), ("processes", "tracking_failed", {})],
        ),
        (
            "processes",
            "all but processes of 4 threads whose fork was not told; what 2 processes started that may have executed a"
            " program with rights of its own; the CPU time of 9 threads, which stands with the command itself",
            "partial",
            [
                ("processes", "forks_unseen", {"count": 4}),
                ("processes", "setuid", {"count": 2}),
                ("processes", "thread_time_merged", {"count": 9}),
            ],
        ),
        (
            "processes",
            "all but the CPU time of single processes, which this kernel does not tell: commands have it as sampled",
            "partial",
            [("processes", "command_time_sampled", {})],
        ),
    ],
)
def test_schema_1_coverage_becomes_codes(section: str, sentence: object, coverage: str, gaps: Any) -> None:
    line = upgrade({"type": "summary", "evidence": "", section: {"coverage": sentence}})
    assert line[section]["coverage"] == coverage
    assert line["gaps"] == gaps_of(gaps)


@pytest.mark.parametrize(
    ("sentence", "code"),
    [
        ("not asked for", "not_requested"),
        ("not asked for (--cgroup)", "not_requested"),
        ("perf_event_open is known on x86_64 and aarch64 only, and needs ctypes", "unsupported"),
        ("kernel.perf_event_paranoid is 4: ask for 2 (sysctl -w), or for CAP_PERFMON", "perf_paranoid"),
        ("perf_event_open is refused: ask for CAP_PERFMON, or for a seccomp profile that allows it", "perf_refused"),
        ("refused for some of its threads: those of other users need CAP_PERFMON", "other_users"),
        ("this kernel, or the sandbox, has no perf_event_open", "no_syscall"),
        ("no descriptor is left for perf: raise the limit of open files (ulimit -n)", "no_descriptors"),
        ("no descriptor is left for the machine: raise the limit of open files (ulimit -n)", "no_descriptors"),
        ("this machine has no such counter", "no_counter"),
        (
            "no locked memory is left for rings: ask for more kernel.perf_event_mlock_kb or ulimit -l",
            "no_locked_memory",
        ),
        ("the kernel has no room for another counter", "no_counter_left"),
        ("perf_event_open: Input/output error", "EIO"),
        ("a process that runs already is not moved into one", "already_running"),
        (
            "cgroups are mounted read-only here: have the v2 hierarchy mounted writable in this container",
            "cgroup_read_only",
        ),
        (
            "this cgroup is not this user's to divide: start inside a delegated one (systemd: Delegate=yes)",
            "cgroup_not_delegated",
        ),
        (
            "the cgroup of this process was removed or is not visible here: start in one that exists",
            "cgroup_missing",
        ),
        (
            "no more cgroups are allowed here: raise cgroup.max.descendants or cgroup.max.depth, or remove unused ones",
            "cgroup_limit",
        ),
        ("the kernel has no room for another cgroup: remove unused ones", "cgroup_full"),
        ("the kernel has no memory for another cgroup: remove unused ones", "no_kernel_memory"),
        ("another run took the new cgroup for one that was left over: start again", "cgroup_taken"),
        (
            "this cgroup gives controllers to those below it and may hold no process: clear its cgroup.subtree_control",
            "cgroup_busy",
        ),
        ("/proc does not show this process: have the procfs of its pid namespace mounted", "no_own_procfs"),
        ("this cgroup is threaded or has no v2 hierarchy: start in a domain cgroup of v2", "cgroup_unfit"),
        ("a cgroup was refused: Too many links", "EMLINK"),
        ("process 12 left it for another cgroup", "cgroup_left"),
        ("[Errno 13] Permission denied: '/sys/fs/cgroup/cpu.max'", "EACCES"),
        ("cpu.max: b'nonsense'", "invalid"),
        ("Permission denied", "EACCES"),
        ("no such sentence", None),
        (None, None),
    ],
)
def test_schema_1_missing_source_becomes_a_code(sentence: object, code: str | None) -> None:
    line = upgrade({"type": "summary", "cpu": {"unavailable": {"perf": sentence}}})
    assert line["cpu"]["unavailable"] == {"perf": code}


@pytest.mark.parametrize(
    ("sentence", "code"),
    [
        ("the job has just begun", "just_started"),
        ("no GPU driver is loaded", "no_driver"),
        ("no answer yet", "no_answer"),
        ("the run ended before the answer", "no_answer"),
        ("the process that asks ended without an answer", "helper_failed"),
        ("no longer listed", "device_lost"),
        ("no answer from the driver in 2.5 s", "no_answer"),
        ("the driver hung: no answer in 10.0 s, the helper was killed, for the last time", "no_answer"),
        ("the helper ended", "helper_failed"),
        ("the helper answered nonsense (KeyError)", "helper_failed"),
        ("the helper cannot be started: Resource temporarily unavailable", "helper_failed"),
        ("a fault of the reader (ValueError)", "helper_failed"),
        ("NVML: its binding nvidia-ml-py cannot be loaded (No module named 'pynvml')", "no_binding"),
        ("NVML: Driver Not Loaded", "nvml_9"),
        ("NVML: error 77", "nvml_77"),
        (
            "NVML: driver/library version mismatch: the driver was updated and its module not loaded anew",
            "nvml_18",
        ),
        ("NVML: something else", "driver_error"),
    ],
)
def test_schema_1_gpu_problem_becomes_a_code(sentence: str, code: str) -> None:
    line = upgrade({"type": "sample", "gpus_skipped": sentence, "gpus_trouble": sentence})
    assert line == {"type": "sample", "gpus_skipped": code, "gpus_unavailable": code}
    device = {"index": 0, "trouble": f"device: {sentence}; Clock: NVML: Timeout"}
    line = upgrade({"type": "sample", "gpus": [device, {"trouble": None}, 7]})
    assert line["gpus"] == [
        {"index": 0, "unavailable": {"device": code, "Clock": "nvml_10"}},
        {"unavailable": None},
        7,
    ]


@pytest.mark.parametrize(
    ("verdict", "evidence", "values"),
    [
        ("ok", "exit status 0", {"code": "exit_status"}),
        ("killed", "killed by signal 6 (SIGABRT), core dumped", {"code": "signal", "signal": 6, "core_dumped": True}),
        (
            "timeout",
            "still running after 2.5 s (--timeout); something of it could not be killed; exit status 1",
            {"code": "timeout", "limit_seconds": 2.5, "left_alive": True},
        ),
        (
            "limit",
            "cgroup memory 2.0 GiB over --max-memory 512 B in two samples; killed by signal 9 (SIGKILL)",
            {"code": "memory_limit", "measure": "cgroup", "used_bytes": 2 << 30, "limit_bytes": 512},
        ),
        (
            "killed",
            "killed by signal 9 (SIGKILL); the machine's oom_kill count rose by 2, which need not be of this job",
            {"code": "signal", "signal": 9, "core_dumped": False, "oom_kills": 2, "oom_place": "machine"},
        ),
        (
            "oom",
            "exit status 137; the run's own cgroup's oom_kill count rose by 3, last sample 1.5 GiB",
            {"code": "oom_kill", "oom_kills": 3, "oom_place": "own_cgroup", "last_rss_bytes": 3 << 29},
        ),
        ("ended", "not ended when tracking did", {"code": "not_ended"}),
        ("ended", "stopped by signal 2 (SIGINT)", {"code": "stopped", "signal": 2}),
        ("ended", "the duration of 1.5 s is over", {"code": "duration", "limit_seconds": 1.5}),
        ("ended", "nobody reads its output any more", {"code": "readers_gone"}),
        (
            "ended",
            "its root and all known members ended; the cgroup's oom_kill count rose by 1",
            {"code": "all_exited", "oom_kills": 1, "oom_place": "cgroup"},
        ),
        ("ok", "the block ended", {"code": "block_ended"}),
        ("ok", "the block ended by SystemExit", {"code": "block_ended", "exception": "SystemExit"}),
        ("failed", "ValueError was raised in the block", {"code": "block_ended", "exception": "ValueError"}),
        ("ended", "the block was cancelled before it began", {"code": "block_cancelled"}),
        ("ended", "its block was left without a word", {"code": "block_left"}),
        ("ended", "its process ended inside the block", {"code": "program_exited"}),
        (
            "ended",
            "its process executed another program inside the block, or closed all its descriptors",
            {"code": "program_replaced"},
        ),
        ("failed", "no such sentence", {}),
        ("failed", None, {}),
    ],
)
def test_schema_1_evidence_becomes_a_reason(verdict: str, evidence: object, values: dict[str, Any]) -> None:
    line = upgrade({"type": "summary", "verdict": verdict, "evidence": evidence})
    assert line["reason"] == dict.fromkeys(REASON) | values
    assert "evidence" not in line


def test_schema_1_row_of_all_other_commands_is_marked() -> None:
    rows = [{"command": f"c{number}"} for number in range(50)]
    others = {"command": "(others)", "processes": 3}
    assert upgrade({"type": "summary", "commands": [*rows, others]})["commands"] == [*rows, others | {"folded": True}]
    for commands in ([*rows[:3], others], [others], [], [None], [*rows, {"command": "make"}]):
        assert upgrade({"type": "summary", "commands": commands})["commands"] == commands


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(SINCE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
SUMMARY = st.fixed_dictionaries(
    {"type": st.just("summary")},
    optional={
        "evidence": ANYTHING, "verdict": ANYTHING, "limits": ANYTHING, "commands": ANYTHING,
        "cpu": ANYTHING | st.fixed_dictionaries({"coverage": ANYTHING, "unavailable": ANYTHING}),
        "processes": ANYTHING | st.fixed_dictionaries({"coverage": ANYTHING, "left": ANYTHING}),
        "system": ANYTHING | st.fixed_dictionaries({"unavailable": ANYTHING}),
    },
)  # fmt: skip
OTHER = st.fixed_dictionaries(
    {"type": st.sampled_from(("run", "host", "devices", "sample", "process", "phase")) | ANYTHING},
    optional={
        "troubles": ANYTHING, "start": ANYTHING, "gpus_skipped": ANYTHING, "gpus_trouble": ANYTHING,
        "gpus": ANYTHING | st.lists(st.fixed_dictionaries({"trouble": ANYTHING})),
    },
)  # fmt: skip


@given(SUMMARY | OTHER)
def test_schema_1_line_with_any_value_is_upgraded(line: dict[str, Any]) -> None:
    upgraded = upgrade(line)
    assert upgraded["type"] == line["type"]
    if line["type"] == "summary":
        assert set(upgraded["reason"]) == set(REASON)
        assert upgraded["reason"]["code"] in (None, *codes.REASONS)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_number_that_is_not_finite_is_unknown(tmp_path: Path, value: str) -> None:
    path = tmp_path / "a.jsonl"
    first, last = (
        '{"type":"run","schema":"proctally/2"}',
        f'{{"type":"summary","cpu":{{"a":{value},"b":[1.5,{value}]}}}}',
    )
    path.write_text(f"{first}\n{last}\n")
    expected = {"a": None, "b": [1.5, None]}
    assert list(lines(str(path)))[-1]["cpu"] == expected
    assert (glance(str(path)).summary or {})["cpu"] == expected


@pytest.mark.parametrize("schema", ["other/2", ["proctally/2"], 2, {}])
def test_schema_of_others_is_refused(tmp_path: Path, schema: object) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"type": "run", "schema": schema}) + '\n{"type":"summary"}\n')
    for reading in (glance, lambda path: list(lines(path)), lambda path: list(read(path))):
        with pytest.raises(NoRecord):
            reading(str(path))


@pytest.mark.parametrize("schema", ["proctally/3", "proctally/10", "proctally/1.5", "proctally/x"])
def test_schema_of_a_later_version_is_refused(tmp_path: Path, schema: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"type":"run","schema":"{schema}"}}\n{{"type":"summary"}}\n')
    for reading in (glance, lambda path: list(lines(path))):
        with pytest.raises(NoRecord, match=f"a.jsonl: schema {schema} is unknown; update proctally"):
            reading(str(path))
