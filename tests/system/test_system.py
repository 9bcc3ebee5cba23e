"""System values in the records of runs, and the command `system`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from proctally.text.words import REASONS
from tracked import PROCTALLY, PYTHON, call, environment, of_type, reason, record, run, samples, until

HEAD = "timestamp,system_processes,system_utime,"


def columns(path: Path) -> list[list[str]]:
    return [line.split(",") for line in path.read_text().splitlines()]


# -- run -------------------------------------------------------------------------------------------------------------


def test_each_sample_but_the_first_has_the_machine(tmp_path: Path) -> None:
    done = run(tmp_path, "-q", "-i", "0.1", "--", "sleep", "0.45")
    lines = done.record()
    sections = [sample["system"] for sample in samples(lines)]
    assert sections[0] is None
    assert all(section is not None for section in sections[1:])
    forks = [section["forks"] for section in sections[1:]]
    assert forks == sorted(forks)
    cores = [section["cpu_cores"] for section in sections[1:] if section["cpu_cores"] is not None]
    assert cores and all(0 <= each <= (os.cpu_count() or 1) * 1.1 for each in cores)
    assert [sample["gpus"] is None for sample in samples(lines)][0]
    assert [line["type"] for line in lines].count("host") == 1
    first, last = of_type(lines, "devices")
    assert first["cpu_user_seconds"] <= sections[1]["cpu_user_seconds"] and lines.index(first) < 4
    assert last["cpu_user_seconds"] == sections[-1]["cpu_user_seconds"]
    assert of_type(lines, "host")[0]["kernel_release"] == os.uname().release
    assert of_type(lines, "host")[0]["cloud"] is None
    summary = lines[-1]["system"]
    assert summary["cpu_seconds"] >= 0
    assert summary["peak_memory_used_bytes"] == max(section["memory"]["used_bytes"] for section in sections[1:])


def test_a_job_of_a_moment_costs_none_of_it(tmp_path: Path) -> None:
    """It ends before the first look, unless somebody else has the CPUs: one of a few is enough."""
    for number in range(10):
        lines = run(tmp_path / str(number), "-q", "--", "true").record()
        if {line["type"] for line in lines} == {"run", "sample", "process", "summary"}:
            break
    assert [sample["system"] for sample in samples(lines)] == [None] * len(samples(lines))
    assert lines[-1]["system"] is None


def test_without_the_machine(tmp_path: Path) -> None:
    done = run(tmp_path, "-q", "-i", "0.1", "--no-system", "--no-gpu", "--", "sleep", "0.35")
    lines = done.record()
    assert {json.dumps(sample["system"]) for sample in samples(lines)} == {"null"}
    assert of_type(lines, "devices") == []
    assert lines[-1]["system"] is None


def test_a_table_beside_the_record_and_the_same_one_later(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    code = "import time\nwhile time.process_time() < 0.3: pass\ntime.sleep(0.1)"
    done = run(tmp_path, "-q", "-i", "0.1", "-f", "csv", "-o", str(table), "--", *PYTHON, "-c", code)
    rows = columns(table)
    taken = samples(done.record())
    assert len(rows) == 1 + len(taken)
    assert table.read_text().startswith(HEAD)
    assert {len(row) for row in rows} == {32}
    assert "" not in rows[1] and rows[1][2:5] == ["0.000", "0.000", "0.0000"]
    used = sum(float(row[23]) + float(row[24]) for row in rows[1:])
    assert used == pytest.approx(0.3, abs=0.06)
    exported = call(tmp_path, "export", "last")
    later = tmp_path / "later"
    assert call(tmp_path, "export", "last", "-f", "jsonl", "-o", str(later)).status == 0
    assert call(tmp_path, "export", "-o", str(later), "last").status == 1  # it is there
    assert later.read_bytes() == next(tmp_path.glob("runs/*")).read_bytes()
    assert call(tmp_path, "export", "--force", "-o", str(later), "last").status == 0
    assert later.read_bytes() == exported.stdout
    assert (exported.status, exported.stderr) == (0, b"")
    assert exported.stdout == table.read_bytes()


def test_a_table_made_later_lacks_nothing_of_the_machine(tmp_path: Path) -> None:
    code = "import time\nwhile time.process_time() < 0.6: pass"
    lines = run(tmp_path, "-q", "-i", "0.3", "--", *PYTHON, "-c", code).record()
    made = call(tmp_path, "export", "last").stdout.decode().splitlines()
    rows = [line.split(",") for line in made]
    used = sum(float(row[2]) + float(row[3]) for row in rows[2:])
    assert rows[1][2:5] == ["", "", ""]  # the job was first
    assert used == pytest.approx(lines[-1]["system"]["cpu_seconds"], abs=0.002)
    assert used > 0.4


@pytest.mark.parametrize("command", [("run", "--", "true"), ("attach", "1")])
def test_a_table_needs_the_machine_and_a_place(tmp_path: Path, command: tuple[str, ...]) -> None:
    name, *rest = command
    status = 125 if name == "run" else 2
    for options, words in (["--no-system", "-o", "x"], b"--no-system"), ([], b"--output FILE"):
        done = call(tmp_path, name, "-f", "csv", *options, *rest, cwd=tmp_path)
        assert done.status == status
        assert words in done.stderr and done.stderr.count(b"\n") == 1
    assert list(tmp_path.iterdir()) == []


# -- attach ----------------------------------------------------------------------------------------------------------


def test_attach_has_the_machine_from_the_first_sample(tmp_path: Path) -> None:
    target = subprocess.Popen(["sleep", "30"])
    try:
        done = call(tmp_path, "attach", "-q", "-i", "0.1", "--duration", "0.35", str(target.pid))
    finally:
        target.kill()
        target.wait()
    assert done.status == 0
    lines = record(tmp_path)
    taken = samples(lines)
    assert all(sample["system"] is not None for sample in taken)
    assert taken[0]["system"]["cpu_cores"] is None
    assert taken[-1]["system"]["cpu_cores"] is not None
    assert len(of_type(lines, "host")) == 1


# -- system ----------------------------------------------------------------------------------------------------------


def test_a_table_of_what_runs_already(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    target = subprocess.Popen([*PYTHON, "-c", "while True: pass"])
    try:
        options = ("-q", "-i", "0.1", "--duration", "0.35", "-f", "csv", "-o", str(table))
        assert call(tmp_path, "attach", *options, str(target.pid)).status == 0
    finally:
        target.kill()
        target.wait()
    rows = columns(table)
    assert len(rows) >= 5
    assert {row[21] for row in rows[1:]} == {str(target.pid)}
    assert float(rows[-2][25]) > 0.1
    assert call(tmp_path, "export", "last").stdout == table.read_bytes()


def test_system_for_a_time(tmp_path: Path) -> None:
    done = call(tmp_path, "system", "-i", "0.1", "--duration", "0.45")
    assert done.status == 0
    lines = record(tmp_path)
    assert (lines[0]["kind"], lines[0]["command"]) == ("system", None)
    taken = samples(lines)
    assert 5 <= len(taken) <= 7
    assert {sample["tree"] for sample in map(flat, taken)} == {"null"}
    assert [sample["interval_seconds"] is None for sample in taken] == [True] + [False] * (len(taken) - 1)
    assert lines[-1]["tracker"]["samples"] == len(taken)
    assert (lines[-1]["verdict"], reason(lines[-1])) == ("ended", {"code": "duration", "limit_seconds": 0.45})
    assert b"of all cores" in done.stderr


def test_system_tells_of_the_cgroup_that_it_lives_in(tmp_path: Path) -> None:
    """Inside a container the machine is the host's: what the container used is what its cgroup says."""
    busy = subprocess.Popen([*PYTHON, "-c", "while True: pass"])  # in this cgroup, and no child of the tracker
    try:
        done = call(tmp_path, "system", "-q", "-i", "0.2", "--duration", "0.9")
    finally:
        busy.kill()
        busy.wait()
    assert done.status == 0
    lines = record(tmp_path)
    if lines[-1]["cgroup"]["path"] is None:
        pytest.skip("no cgroup that accounts for CPU time")
    used = [sample["cgroup"]["cpu_seconds"] for sample in samples(lines)]
    assert used == sorted(used)
    assert used[-1] - used[0] > 0.3
    assert lines[-1]["cgroup"]["cpu_seconds"] >= used[-1]
    assert lines[-1]["cgroup"]["own"] is False
    assert lines[0]["limits"]["cpu_cores"] == lines[-1]["limits"]["cpu_cores"] == len(os.sched_getaffinity(0))


def flat(sample: dict[str, Any]) -> dict[str, str]:
    return {name: json.dumps(value) for name, value in sample.items()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_system_until_it_is_stopped(tmp_path: Path, number: int) -> None:
    tracker = subprocess.Popen(
        [*PROCTALLY, "system", "-q", "-i", "0.1"], env=environment(tmp_path), stderr=subprocess.PIPE
    )
    until(lambda: list(tmp_path.glob("runs/*")) and len(samples(record(tmp_path))) > 2, "samples")
    tracker.send_signal(number)
    assert tracker.communicate(timeout=20) == (None, b"")
    assert tracker.returncode == 0
    assert reason(record(tmp_path)[-1]) == {"code": "stopped", "signal": int(number)}


@pytest.mark.parametrize("kind", ["system", "attach"])
def test_nohup_is_respected(tmp_path: Path, kind: str) -> None:
    """A blocked signal is queued although it is ignored (sig_ignored in the kernel's signal.c)."""
    what = [str(os.getpid())] if kind == "attach" else []
    command = ["nohup", *PROCTALLY, kind, "-q", "-i", "0.1", *what]
    tracker = subprocess.Popen(
        command, env=environment(tmp_path), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )  # no terminal, for which nohup would make a file
    until(lambda: list(tmp_path.glob("runs/*")) and len(samples(record(tmp_path))) > 2, "samples")
    tracker.send_signal(signal.SIGHUP)
    taken = len(samples(record(tmp_path)))
    until(lambda: len(samples(record(tmp_path))) > taken + 2, "more samples")
    tracker.send_signal(signal.SIGTERM)
    assert tracker.wait(timeout=20) == 0
    assert reason(record(tmp_path)[-1]) == {"code": "stopped", "signal": 15}


def test_system_as_a_table_on_stdout(tmp_path: Path) -> None:
    begun = time.time()
    done = call(tmp_path, "system", "-q", "-i", "0.1", "--duration", "0.3", "-f", "csv", "-o", "-")
    rows = [line.split(",") for line in done.stdout.decode().splitlines()]
    assert {len(row) for row in rows} == {32}
    assert len(rows) >= 4
    assert all(row[21:] == [""] * 11 for row in rows[1:])
    assert abs(int(rows[1][0]) - begun) <= 2
    assert call(tmp_path, "export", "last").stdout == done.stdout


@pytest.mark.parametrize("kind", ["system", "attach"])
def test_who_has_no_reader_left_ends(tmp_path: Path, kind: str) -> None:
    target = subprocess.Popen(["sleep", "30"])
    what = [str(target.pid)] if kind == "attach" else []
    try:
        command = [*PROCTALLY, kind, "-i", "0.1", "-o", "-", "--no-record", *what]
        with subprocess.Popen(
            command, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as tracker:
            assert tracker.stdout is not None
            tracker.stdout.readline()
            tracker.stdout.close()
            try:
                assert tracker.wait(timeout=20) == 0
            finally:
                tracker.kill()
            assert tracker.stderr is not None
            assert REASONS["readers_gone"].encode() in tracker.stderr.read()
    finally:
        target.kill()
        target.wait()


def test_a_record_that_is_kept_is_reason_to_go_on(tmp_path: Path) -> None:
    command = [*PROCTALLY, "system", "-i", "0.1", "--duration", "0.8", "-f", "csv", "-o", "-"]
    with subprocess.Popen(
        command, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as tracker:
        assert tracker.stdout is not None
        tracker.stdout.readline()
        tracker.stdout.close()
        assert tracker.wait(timeout=20) == 0
    assert reason(record(tmp_path)[-1]) == {"code": "duration", "limit_seconds": 0.8}


def test_system_takes_no_command(tmp_path: Path) -> None:
    done = call(tmp_path, "system", "make")
    assert done.status == 2
    assert b"proctally run" in done.stderr


# -- what is said of it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["run", "attach"])
def test_too_few_descriptors_are_told(tmp_path: Path, kind: str) -> None:
    what = ["--duration", "0.3", str(os.getpid())] if kind == "attach" else ["sleep", "0.3"]
    words = ["sh", "-c", 'ulimit -n 16; exec "$@"', "sh", *PROCTALLY, kind, "-v", "-i", "0.1", *what]
    done = subprocess.run(words, env=environment(tmp_path), capture_output=True, timeout=20)
    assert done.returncode == 0
    summary = record(tmp_path)[-1]
    assert (summary["system"], summary["cpu"]["unavailable"]["system"]) == (None, "no_descriptors")
