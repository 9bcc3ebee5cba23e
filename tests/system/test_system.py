"""The machine in the records of run, attach and system: what is there and when; CSV is the same live and later."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from captured import unpack
from proctally.summary import render
from proctally.surroundings import Peaks, Surroundings, joined, slim
from tracked import PROCTALLY, PYTHON, call, environment, of_type, record, run, samples, until

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
    for options, words in (["--no-system", "-o", "x"], b"--no-system"), ([], b"-o FILE"):
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
    assert (lines[-1]["verdict"], lines[-1]["evidence"]) == ("ended", "the duration of 0.45 s is over")
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
    assert record(tmp_path)[-1]["evidence"].startswith(f"stopped by signal {int(number)} ")


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
    assert record(tmp_path)[-1]["evidence"].startswith("stopped by signal 15 ")


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
            assert b"nobody reads its output any more" in tracker.stderr.read()
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
    assert record(tmp_path)[-1]["evidence"] == "the duration of 0.8 s is over"


def test_system_takes_no_command(tmp_path: Path) -> None:
    done = call(tmp_path, "system", "make")
    assert done.status == 2
    assert b"proctally run" in done.stderr


# -- what is said of it ----------------------------------------------------------------------------------------------


def derived(used: int, busy: float, read: int) -> dict[str, Any]:
    from proctally.kernel.machine import host_machine
    from proctally.kernel.system import SystemReader, derive

    reader = SystemReader(host_machine())
    said: dict[str, Any] = dict(derive(None, reader.read(), facts=False))
    reader.close()
    said |= {"cpu_user_seconds": busy, "cpu_system_seconds": 0.0, "disks": [], "interfaces": []}
    said["memory"] = (said["memory"] or {}) | {"used_bytes": used}
    said["disk"] = dict.fromkeys(said["disk"] or {}) | {"read_bytes": read, "write_bytes": None}
    return said


def test_peaks_and_growth() -> None:
    peaks = Peaks()
    assert (peaks.system(), peaks.gpu()) == (None, None)
    peaks.begin(derived(5, 100.0, 1000))
    peaks.note(derived(9, 101.5, 1500), 0.0)
    peaks.note(derived(7, 102.5, 1800) | {"cpu_cores": 2.0}, 1.0)
    peaks.note(derived(7, 102.5, 1800) | {"cpu_cores": 0.5}, 2.0)
    said = peaks.system()
    assert said is not None
    assert (said["mean_cores"], said["peak_cores"]) == (1.0, 2.0)
    assert (said["cpu_seconds"], said["peak_memory_used_bytes"], said["disk_read_bytes"]) == (2.5, 9, 800)
    assert said["disk_write_bytes"] is None


def test_the_use_of_some_gpus_is_not_that_of_all() -> None:
    def entry(ratio: float | None, state: str = "ok") -> dict[str, Any]:
        return {"utilization_ratio": ratio, "memory_used_bytes": None if ratio is None else 10, "state": state}

    tree = {"memory_bytes": None}
    peaks = Peaks()
    peaks.note_gpus([entry(0.5), entry(None, "lost")], tree)
    said = peaks.gpu() or {}
    assert (said["mean_utilization_ratio"], said["peak_memory_used_bytes"]) == (None, None)
    peaks.note_gpus([entry(0.5), entry(None, "asleep")], tree)
    peaks.note_gpus([entry(0.5), entry(1.0)], tree)
    said = peaks.gpu() or {}
    assert (said["mean_utilization_ratio"], said["peak_utilization_ratio"]) == (1.0, 1.5)
    assert (said["peak_memory_used_bytes"], said["peak_tree_memory_bytes"]) == (20, None)


def test_gpus_of_which_nothing_is_known_did_not_do_nothing() -> None:
    peaks = Peaks()
    peaks.note_gpus([], {"memory_bytes": None}, whole=False)  # NVIDIA's driver is there, and its library is not
    said = peaks.gpu() or {}
    assert set(said.values()) == {None} and len(said) == 4
    one = {"utilization_ratio": 0.5, "memory_used_bytes": 10, "state": "ok"}
    peaks.note_gpus([one], {"memory_bytes": None}, whole=False)  # another's is there as well
    assert set((peaks.gpu() or {}).values()) == {None}


def test_a_driver_without_a_gpu_is_no_gpu() -> None:
    peaks = Peaks()
    peaks.note_gpus([], {"memory_bytes": 0})
    assert peaks.gpu() is None


def test_only_what_did_something_is_told_of_single_devices() -> None:
    section = derived(1, 1.0, 1)
    idle = {"name": "sda", "read_bytes_per_second": 0.0, "write_bytes_per_second": 0.0, "busy_ratio": 0.0}
    section["disks"] = [idle, idle | {"name": "sdb", "busy_ratio": 0.123456}]
    section["interfaces"] = None
    told = slim(section)
    assert [(disk["name"], disk["busy_ratio"]) for disk in told["disks"]] == [("sdb", 0.1235)]
    assert told["interfaces"] is None


class Told:
    """Surroundings that say this."""

    def __init__(self, **sections: Any) -> None:
        self.sections = sections
        self.asked: list[bool] = []

    def sample(self, members: object, *, first: bool) -> dict[str, Any]:
        self.asked.append(first)
        return dict(self.sections)


def test_what_gpus_tell_of_the_tree_is_the_trees() -> None:
    sample = {"type": "sample", "interval_seconds": None, "tree": {"cpu_seconds": 1.0}, "system": None, "gpus": None}
    around: Any = Told(system={}, gpus=[], tree={"gpu_used": 1})
    assert joined(sample, around, ()) == {
        "type": "sample",
        "interval_seconds": None,
        "tree": {"cpu_seconds": 1.0, "gpu_used": 1},
        "system": {},
        "gpus": [],
    }
    joined(sample | {"interval_seconds": 1.0}, around, ())
    assert around.asked == [True, False]


def test_pools_are_asked_for_by_a_process_that_is_none_of_the_job(tmp_path: Path, monkeypatch: Any) -> None:
    """As `run` has it: it reaps every child itself, and tells whose time that was."""
    machine, _ = unpack("server", tmp_path)
    (tmp_path / "proc/spl/kstat/zfs").mkdir(parents=True)
    command = tmp_path / "bin/zpool"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\nprintf 'tank\\t1000\\t400\\n'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    strangers: list[int] = []
    around = Surroundings(machine, {}, system=True, gpu=False, cloud=False, stranger=strangers.append)
    try:
        assert [line["disk"]["pools"] for line in around.lines() if line["type"] == "devices"] == [None]
        assert len(strangers) == 1
        pid, _, usage = os.wait4(strangers[0], 0)
        cpu_ns = round((usage.ru_utime + usage.ru_stime) * 1e9)
        assert around.reaped(pid, cpu_ns)
        assert not around.reaped(pid, cpu_ns)
        around.sample((), first=False)
        assert around.cpu_ns() == cpu_ns
        devices = [line for line in around.lines() if line["type"] == "devices"][0]
        assert devices["disk"]["pools"] == [{"name": "tank", "total_bytes": 1000, "free_bytes": 400, "used_bytes": 600}]
    finally:
        around.close()


def test_what_could_not_be_read_is_told(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    (tmp_path / "proc/net/dev").write_text("eth0: many\n")
    around = Surroundings(machine, {}, system=True, gpu=False, cloud=False)
    try:
        around.sample((), first=True)
        host, devices = around.lines(last=True)
        section = around.system() or {}
    finally:
        around.close()
    assert "many" in devices["troubles"]["net/dev"]
    assert devices["interfaces"] is None
    assert section["unavailable"] == devices["troubles"]
    assert host["troubles"]  # this machine lacks much of what a host has
    tracker = {"cpu_seconds": 0.1, "samples": 2, "lost_samples": 0, "peak_rss_bytes": 1}
    summary = {"verdict": "ended", "evidence": "", "wall_seconds": 1.0, "system": section, "tracker": tracker}
    assert "no net/dev: " in render("name", summary, None, colour=False, verbose=True)
    assert "no net/dev: " not in render("name", summary, None, colour=False)


@pytest.mark.parametrize("kind", ["run", "attach"])
def test_too_few_descriptors_are_told(tmp_path: Path, kind: str) -> None:
    what = ["--duration", "0.3", str(os.getpid())] if kind == "attach" else ["sleep", "0.3"]
    words = ["sh", "-c", 'ulimit -n 16; exec "$@"', "sh", *PROCTALLY, kind, "-v", "-i", "0.1", *what]
    done = subprocess.run(words, env=environment(tmp_path), capture_output=True, timeout=20)
    assert done.returncode == 0
    assert b"no system: no descriptor is left" in done.stderr
    assert record(tmp_path)[-1]["system"] is None


EARLY = """
import sys, time
from proctally import cli, session, surroundings
surroundings.DEVICES_NS = 300_000_000
opened = session.Session.open_default
def slow(self):
    opened(self)
    time.sleep(float(sys.argv[1]))
session.Session.open_default = slow
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("kind", ["system", "attach", "run"])
def test_every_device_is_told_now_and_then(tmp_path: Path, kind: str) -> None:
    """Also where nobody wakes between samples."""
    for_long = ["--duration", "1.5"] if kind != "run" else []
    what = {"system": [], "attach": [str(os.getpid())], "run": ["sleep", "1.5"]}[kind]
    words = [sys.executable, "-c", EARLY, "0", kind, "-q", "-i", "0.1", *for_long, *what]
    assert subprocess.run(words, env=environment(tmp_path), timeout=20).returncode == 0
    told = [line["at"] for line in of_type(record(tmp_path), "devices")]
    assert 4 <= len(told) <= 8 and told == sorted(told)


def test_a_run_that_begins_slowly_has_the_machine_as_well(tmp_path: Path) -> None:
    """The moments of the early looks are over by then, if samples are as frequent."""
    words = [sys.executable, "-c", EARLY, "0.1", "run", "-q", "-i", "0.05", "sleep", "0.5"]
    assert subprocess.run(words, env=environment(tmp_path), timeout=20).returncode == 0
    assert [sample["system"] is None for sample in samples(record(tmp_path))][2:].count(True) == 0
    assert record(tmp_path)[-1]["system"] is not None


BROKEN = """
import sys
from proctally import cli, surroundings
calls = 0
def broken(self, *rest, **named):
    global calls
    calls += 1
    if calls >= int(sys.argv[2]):
        raise RuntimeError("broken on purpose")
    return kept(self, *rest, **named)
kept = getattr(surroundings.Surroundings, sys.argv[1])
setattr(surroundings.Surroundings, sys.argv[1], broken)
sys.exit(cli.main(sys.argv[3:]))
"""


@pytest.mark.parametrize("method", ["_begin", "_fds", "_timeout", "_sample", "_ask", "_devices", "_host_line"])
@pytest.mark.parametrize("number", [1, 3])
def test_a_fault_with_the_machine_costs_the_machine_alone(tmp_path: Path, method: str, number: int) -> None:
    job = [
        "run",
        "-i",
        "0.1",
        "--",
        *PYTHON,
        "-c",
        "import time\nwhile time.process_time() < 0.2: pass\nraise SystemExit(3)",
    ]
    words = [sys.executable, "-c", BROKEN, method, str(number), *job]
    done = subprocess.run(words, env=environment(tmp_path), capture_output=True, timeout=20)
    assert done.returncode == 3
    lines = record(tmp_path)
    assert lines[-1]["cpu"]["total_seconds"] == pytest.approx(0.22, abs=0.05)
    assert lines[-1]["tracker"]["cpu_seconds"] < 0.3  # and nobody is woken again and again
    assert len(samples(lines)) >= 3
    if number == 1 or method in ("_fds", "_timeout", "_sample"):  # the others may not be called so often
        assert b"reading the machine ended before the run did, by a fault of its own (RuntimeError" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["system", "attach"])
def test_the_same_for_those_that_start_nothing(tmp_path: Path, command: str) -> None:
    what = [str(os.getpid())] if command == "attach" else []
    words = [sys.executable, "-c", BROKEN, "_sample", "2", command, "-i", "0.1", "--duration", "0.4", *what]
    done = subprocess.run(words, env=environment(tmp_path), capture_output=True, timeout=20)
    assert done.returncode == 0
    sections = [sample["system"] for sample in samples(record(tmp_path))]
    assert sections[0] is not None and set(map(str, sections[1:])) == {"None"}
    assert b"by a fault of its own (RuntimeError: broken on purpose)" in done.stderr


# -- on a machine of files, whose clock goes on when it is told ------------------------------------------------------


def test_rates_are_of_what_the_record_has(tmp_path: Path) -> None:
    machine, clock = unpack("server", tmp_path)
    around = Surroundings(machine, {}, system=True, gpu=False, cloud=False)
    try:
        clock.advance(1.0)
        assert around.sample((), first=True)["system"]["cpu_cores"] is None  # of the time before the record
        clock.advance(1.0)
        assert around.sample((), first=False)["system"]["cpu_cores"] == 0.0
        clock.advance(0.01)
        assert around.sample((), first=False)["system"]["cpu_cores"] is None  # less than a tick or two
        clock.advance(1.0)
        assert around.sample((), first=False)["system"]["cpu_cores"] == 0.0
    finally:
        around.close()


def test_what_others_did_while_the_job_was_stopped_is_in_no_interval(tmp_path: Path) -> None:
    machine, clock = unpack("server", tmp_path)

    def at(busy: int, idle: int) -> None:
        times = f"{busy} 0 0 {idle} 0 0 0 0 0 0"
        (tmp_path / "proc/stat").write_text(f"cpu  {times}\ncpu0 {times}\n")

    at(100, 100)
    around = Surroundings(machine, {}, system=True, gpu=False, cloud=False)
    try:
        clock.advance(10.0)
        at(1100, 100)
        around.gap_ended()
        clock.advance(1.0)
        at(1125, 175)
        assert around.sample((), first=False)["system"]["cpu_cores"] == 0.25
    finally:
        around.close()


def test_devices_are_told_again_when_they_change_and_each_minute(tmp_path: Path) -> None:
    machine, clock = unpack("server", tmp_path)
    around = Surroundings(machine, {}, system=True, gpu=False, cloud=False)

    def told(seconds: float) -> list[list[str]]:
        clock.advance(seconds)
        around.sample((), first=False)
        return [[disk["name"] for disk in line["disks"]] for line in around.lines() if line["type"] == "devices"]

    try:
        (at_first,) = told(0.0)
        assert told(1.0) == []
        assert told(60.0) == [at_first]
        (tmp_path / "sys/class/block/vdz").mkdir()
        (tmp_path / "sys/class/block/vdz/size").write_text("1000\n")
        with (tmp_path / "proc/diskstats").open("a") as file:
            file.write(" 252 16 vdz 1 0 8 0 2 0 8 0 0 1 0 0 0 0 0\n")
        assert told(1.0) == [[*at_first, "vdz"]]
        assert told(1.0) == []
    finally:
        around.close()


class FakeGpus:
    """GPUs that answer at once, and note what they are asked."""

    present = True
    awaited = False
    took_ns = 0
    trouble = skipped = fileno = None

    def __init__(self) -> None:
        self.asked = 0
        self.names = ["a"]
        self.with_facts: list[bool] = []

    def ask(self, members: object) -> bool:
        self.asked += 1
        return True

    def take(self) -> object:
        return object()

    def facts(self) -> list[dict[str, object]]:
        return [{"name": name} for name in self.names]

    def derive(self, members: object, *, facts: bool) -> tuple[list[dict[str, object]], dict[str, object]]:
        self.with_facts.append(facts)
        return [], {"memory_bytes": None}

    def age_seconds(self) -> float:
        return 0.0

    def close(self) -> None:
        pass


def test_gpus_are_asked_at_first_and_once_before_each_sample(tmp_path: Path) -> None:
    machine, clock = unpack("server", tmp_path)
    around = Surroundings(machine, {}, system=False, gpu=False, cloud=False)
    gpus: Any = FakeGpus()
    around._gpus = gpus
    next_ns = clock.now_ns + 1_000_000_000
    asked = []
    for _ in range(100):
        around.go_on(clock.now_ns, next_ns, ())
        asked.append(gpus.asked)
        clock.advance(0.0099)
    assert asked[0] == 1 and asked[80] == 1  # once the host was read, which takes no time by this clock
    assert asked[95:] == [2] * 5
    around.go_on(clock.now_ns, next_ns + 1_000_000_000, ())
    assert gpus.asked == 2


def test_what_does_not_change_of_gpus_is_told_once_and_when_it_changed(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    around = Surroundings(machine, {}, system=False, gpu=False, cloud=False)
    gpus: Any = FakeGpus()
    around._gpus = gpus
    around.sample((), first=True)
    around.sample((), first=False)
    gpus.names = ["a", "b"]
    around.sample((), first=False)
    around.sample((), first=False)
    assert gpus.with_facts == [True, False, True, False]


def test_a_reading_that_two_samples_have_counts_once(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    around = Surroundings(machine, {}, system=False, gpu=False, cloud=False)
    gpus: Any = FakeGpus()
    around._gpus = gpus
    readings = iter([1, 1, 2])
    ratios = iter([0.5, 0.5, 1.0])
    entry = {"memory_used_bytes": 1, "state": "ok"}
    gpus.take = lambda: next(readings)
    gpus.derive = lambda *_, **__: ([entry | {"utilization_ratio": next(ratios)}], {"memory_bytes": None})
    for _ in range(3):
        around.sample((), first=False)
    assert (around.peaks.gpu() or {})["mean_utilization_ratio"] == 0.75


def test_the_time_of_helpers_is_ours() -> None:
    from proctally.kernel.machine import host_machine
    from proctally.options import Options
    from proctally.session import Schedule, Session

    class Busy:
        def cpu_ns(self) -> int:
            return 1_000_000_000_000

    session = Session("run", Options(), {}, host_machine(), "name")
    around: Any = Busy()
    session.surroundings = around
    assert session._tracker(0, Schedule(0, 1))["cpu_seconds"] > 1000


DEAF = """
import sys
from proctally import cli, surroundings
surroundings.SHORT_NS = 0
surroundings.Surroundings.go_on = lambda self, *rest: []
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", ["run", "run -f csv", "attach", "system"])
def test_the_first_sample_of_a_record_has_no_rates(tmp_path: Path, command: str) -> None:
    """However long it took to get there; and where the machine begins later, its counters at that moment are told."""
    options = ["-q", "-i", "0.2", *(["-f", "csv", "-o", str(tmp_path / "table")] if "csv" in command else [])]
    what = {"attach": ["--duration", "0.5", str(os.getpid())], "system": ["--duration", "0.5"]}
    words = [*options, *what.get(command, ["--", "sleep", "0.5"])]
    done = subprocess.run(
        [sys.executable, "-c", DEAF, command.split()[0], *words], env=environment(tmp_path), timeout=20
    )
    assert done.returncode == 0
    lines = record(tmp_path)
    first, second = samples(lines)[:2]
    assert first["system"] is None or first["system"]["cpu_cores"] is None
    assert second["system"]["cpu_cores"] is not None
    if command == "run":
        assert lines.index(of_type(lines, "devices")[0]) < lines.index(second)
