"""Runs that export to a file or by HTTP."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from beside import exporter  # noqa: E402
from daemons import answers, free_port, get  # noqa: E402
from exported import parsed, state, value, values  # noqa: E402
from proctally.tracking.exporting import ExporterLimits  # noqa: E402
from tracked import (  # noqa: E402
    Puppet,
    call,
    environment,
    of_type,
    record,
    records,
    run,
    runs,
    samples,
    shell,
    until,
    whole,
)

pytestmark = pytest.mark.timeout(120)  # several waits for a server, of at most 20 s each
SLOW_END = ExporterLimits().finish_ns / 1e9 + 2


def sampled(url: str) -> str:
    """What is scraped after a further sample."""
    name = ("proctally_samples_total", ())
    before = parsed(get(f"{url}/metrics"))[name]
    until(lambda: parsed(get(f"{url}/metrics"))[name] > before + 1, "it is sampled")
    return get(f"{url}/metrics")


def found_exporter(parent: int) -> int:
    until(lambda: exporter(parent), "there is an exporter")
    pid = exporter(parent)
    assert pid is not None
    return pid


# -- a run with a file -----------------------------------------------------------------------------------------------


def test_last_state_of_a_short_job_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    done = shell(tmp_path, "exit 3", "--textfile", str(path), "-n", 'na"me\\')
    assert (done.status, done.stderr) == (3, b"")
    assert state(path) == "failed"
    assert value(path, "run_exit_code") == 3
    assert value(path, "exporter_lines_dropped_total") == 0
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir() if each.name != "runs"] == ["x.prom"]
    info = next(dict(labels) for name, labels in values(path) if name == "proctally_run_info")
    assert info["name"] == 'na"me\\'
    assert info["run_id"] == done.record()[0]["run_id"]


def test_file_says_what_the_summary_says(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    script = "for i in 1 2 3; do (i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; sleep 0.1); done"
    done = shell(tmp_path, script, "--textfile", str(path), "-i", "0.1", "--tag", "a-b=1")
    summary = done.summary()
    assert value(path, "tree_cpu_seconds_total") == pytest.approx(summary["cpu"]["total_seconds"], abs=1e-6)
    assert value(path, "process_started_total") == summary["processes"]["started"]
    assert value(path, "run_duration_seconds") == pytest.approx(summary["wall_seconds"])
    assert value(path, "process_resident_memory_peak_bytes") == summary["memory"]["peak_rss_bytes"]
    assert value(path, "samples_total") == summary["tracker"]["samples"]
    by_command = {
        dict(labels)["command"]: seconds
        for (name, labels), seconds in values(path).items()
        if name == "proctally_command_cpu_seconds_total"
    }
    told = {each["command"]: each["cpu_seconds"] for each in summary["commands"]}
    assert set(by_command) <= {*told, "other"}
    assert sum(by_command.values()) == pytest.approx(sum(told.values()), rel=0.1, abs=0.03)


def test_counters_never_fall_while_it_runs(tmp_path: Path) -> None:
    path, url = tmp_path / "x.prom", f"http://127.0.0.1:{free_port()}"
    seen: list[dict[Any, float]] = []
    options = ("-i", "0.05", "--textfile", str(path), "--serve", url.removeprefix("http://"))
    with Puppet(tmp_path, *options) as puppet:
        until(lambda: answers(f"{url}/metrics"), "it answers")
        for _ in range(3):
            puppet.do(
                "import subprocess; subprocess.run(['sh', '-c', 'i=0; while [ $i -lt 99999 ]; do i=$((i+1)); done'])"
            )
            text = sampled(url)
            seen.append(parsed(text))
        assert puppet.exit(0) == 0
    seen.append(values(path))
    kinds = {family.name: family.type for family in text_string_to_metric_families(text)}
    fallen = [
        (key, before[key], after[key])
        for before, after in zip(seen, seen[1:], strict=False)
        for key in before
        if kinds.get(key[0].removesuffix("_total")) == "counter" and after.get(key, 0) < before[key]
    ]
    assert fallen == []
    total = ("proctally_tree_cpu_seconds_total", ())
    assert seen[0][total] < seen[1][total] < seen[2][total] <= seen[3][total]


# -- it is no part of the job ----------------------------------------------------------------------------------------


def test_it_is_not_in_the_tree(tmp_path: Path) -> None:
    with Puppet(tmp_path, "-i", "0.05", "--textfile", str(tmp_path / "x.prom"), "--wait-all") as puppet:
        helper = found_exporter(puppet.tracker)
        puppet.do("time.sleep(0.5)" if puppet.do("import time") == [] else "")
        assert os.getpgid(helper) == helper, "Ctrl-C does not reach it"
        assert puppet.exit(0) == 0
    until(lambda: not runs(helper), "it ended")
    lines = record(tmp_path)
    assert helper not in {line["pid"] for line in of_type(lines, "process")}
    assert helper not in {each["pid"] for sample in samples(lines) for each in sample["top"]}
    summary = whole(lines)
    assert summary["processes"]["peak"] == summary["processes"]["started"] == 1
    assert summary["processes"]["left"] == 0


def test_its_time_is_that_of_the_tracker(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    with Puppet(tmp_path, "-i", "0.1", "--textfile", str(path)) as puppet:
        helper = found_exporter(puppet.tracker)
        until(path.exists, "the file is there")
        used, own = (time.clock_gettime((~pid << 3) | 2) for pid in (helper, puppet.tracker))
        assert puppet.exit(0) == 0
    assert used > 0.01
    assert record(tmp_path)[-1]["tracker"]["cpu_seconds"] >= round(used + own, 4) - 0.001


def test_job_inherits_nothing_of_it(tmp_path: Path) -> None:
    listing = "import os; print(sorted(os.listdir('/proc/self/fd')), sorted(k for k in os.environ if 'PROC' in k))"
    plain = run(tmp_path, "-q", "--", sys.executable, "-S", "-c", listing)
    serving = run(tmp_path, "-q", "--serve", "127.0.0.1:0", "--", sys.executable, "-S", "-c", listing,
                  env=environment(tmp_path, PROCTALLY_TEXTFILE=str(tmp_path / "x.prom")))  # fmt: skip
    assert (tmp_path / "x.prom").exists()
    assert serving.stdout == plain.stdout


# -- whatever becomes of it ------------------------------------------------------------------------------------------


def test_one_that_hangs_holds_nothing_up(tmp_path: Path) -> None:
    with Puppet(tmp_path, "-i", "0.05", "--textfile", str(tmp_path / "x.prom")) as puppet:
        helper = found_exporter(puppet.tracker)
        os.kill(helper, signal.SIGSTOP)
        puppet.do("import time; time.sleep(0.5)")
        begun = time.monotonic()
        assert puppet.exit(7) == 7
        took = time.monotonic() - begun
        assert took < SLOW_END
        until(lambda: not runs(helper), "it is not left behind")
        assert b"exporter: was not done in time" in puppet.stderr()
    whole(record(tmp_path))
    intervals = [sample["interval_seconds"] for sample in samples(record(tmp_path))[1:]]
    assert len(intervals) >= 4
    assert max(intervals) < 0.8, "no sample waited for it"


def test_one_that_is_killed_costs_itself(tmp_path: Path) -> None:
    with Puppet(tmp_path, "-i", "0.05", "--textfile", str(tmp_path / "x.prom")) as puppet:
        os.kill(found_exporter(puppet.tracker), signal.SIGKILL)
        puppet.do("import time; time.sleep(0.3)")
        begun = time.monotonic()
        assert puppet.exit(7) == 7
        assert time.monotonic() - begun < 2
        assert b"exporter: ended before the run did" in puppet.stderr()
    assert whole(record(tmp_path))["exit_code"] == 7


def test_it_ends_with_a_tracker_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    with Puppet(tmp_path, "-i", "0.05", "--textfile", str(path)) as puppet:
        helper = found_exporter(puppet.tracker)
        until(path.exists, "the file is there")
        os.kill(puppet.tracker, signal.SIGKILL)
        puppet.process.wait()
        until(lambda: not runs(helper), "it ended")
        assert runs(puppet.job), "the job goes on"
        assert state(path) == "lost"


def test_terminating_it_is_left_to_its_tracker(tmp_path: Path) -> None:
    """Who ends a service ends all of its processes at once: the last word is said all the same."""
    path = tmp_path / "x.prom"
    with Puppet(tmp_path, "-i", "0.05", "--textfile", str(path)) as puppet:
        helper = found_exporter(puppet.tracker)
        until(path.exists, "it is ready")
        os.kill(helper, signal.SIGTERM)
        os.kill(puppet.job, signal.SIGTERM)
        puppet.wait()
    assert state(path) == "killed"
    assert value(path, "run_exit_signal") == signal.SIGTERM


def test_a_file_that_cannot_be_replaced_is_told_of(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    with Puppet(tmp_path, "-i", "0.05", "--textfile", str(folder / "x.prom")) as puppet:
        until((folder / "x.prom").exists, "the file is there")
        shutil.rmtree(folder)
        assert puppet.exit(0) == 0
        assert f"proctally: --textfile {folder}/x.prom: No such file or directory".encode() in puppet.stderr()


def test_attach_and_system_export_too(tmp_path: Path) -> None:
    path = tmp_path / "{name}.prom"
    with subprocess.Popen(["sleep", "30"]) as job:
        done = call(
            tmp_path,
            "attach",
            "-q",
            "-n",
            "a",
            "-i",
            "0.1",
            "--duration",
            "0.25",
            "--textfile",
            str(path),
            str(job.pid),
        )
        job.kill()
    assert (done.status, done.stderr) == (0, b"")
    assert state(tmp_path / "a.prom") == "ended"
    assert value(tmp_path / "a.prom", "source_success", source="procfs") == 1
    done = call(tmp_path, "system", "-q", "-n", "s", "-i", "0.1", "--duration", "0.25", "--textfile", str(path))
    assert (done.status, done.stderr) == (0, b"")
    assert value(tmp_path / "s.prom", "source_success", source="system") == 1
    assert value(tmp_path / "s.prom", "system_memory_size_bytes") > 1e6
    assert "proctally_tree_cpu_seconds_total" not in (tmp_path / "s.prom").read_text(encoding="utf-8")


# -- what is said before anything starts -----------------------------------------------------------------------------


@pytest.mark.parametrize(("option", "wrong"), [("--serve", ""), ("--textfile", "/nowhere/x"), ("--pushgateway", "h")])
def test_it_is_said_in_one_line_before_anything_starts(tmp_path: Path, option: str, wrong: str) -> None:
    done = run(tmp_path, option, wrong, "--", "touch", str(tmp_path / "ran"))
    assert done.status == 125
    assert done.stderr.startswith(b"proctally: ")
    assert done.stderr.count(b"\n") == 1
    assert not (tmp_path / "ran").exists()
    assert records(tmp_path) == []
    assert call(tmp_path, "system", option, wrong).status == 2
    assert call(tmp_path, "attach", option, wrong, str(os.getpid())).status == 2


def test_address_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run(tmp_path, "--serve", address, "--", "touch", str(tmp_path / "ran"))
        assert done.status == 125
        assert done.stderr == f"proctally: --serve {address}: Address already in use\n".encode()
        assert not (tmp_path / "ran").exists()
        assert call(tmp_path, "serve", "--listen", address).status == 2
