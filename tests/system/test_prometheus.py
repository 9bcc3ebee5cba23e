"""A run that exports to the real Pushgateway and node_exporter."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")
from prometheus_client.parser import text_string_to_metric_families as classic  # noqa: E402

from daemons import daemon, free_port, get  # noqa: E402
from tracked import Puppet, environment, run, shell, until  # noqa: E402

pytestmark = pytest.mark.timeout(120)  # several waits for a server, of at most 20 s each

# -- a Pushgateway and node_exporter ---------------------------------------------------------------------------------


@contextmanager
def pushgateway() -> Iterator[str]:
    if shutil.which("prometheus-pushgateway") is None:
        pytest.skip("no Pushgateway is installed (Debian: prometheus-pushgateway)")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # Debian's build keeps what was pushed in a file of its own
    arguments = (f"--web.listen-address=127.0.0.1:{port}", "--persistence.file=")
    with daemon("prometheus-pushgateway", *arguments, ready=f"{url}/-/ready"):
        yield url


def test_pushgateway_has_it_while_it_runs_and_not_afterwards(tmp_path: Path) -> None:
    with pushgateway() as url, Puppet(tmp_path, "-i", "0.05", "-n", "a job/1", "--pushgateway", url) as puppet:
        until(lambda: "proctally_run_info" in get(f"{url}/metrics"), "it was pushed")
        text = get(f"{url}/metrics")
        [info] = [
            sample for family in classic(text) for sample in family.samples if sample.name == "proctally_run_info"
        ]
        assert info.labels["job"] == info.labels["name"] == "a job/1"
        assert info.labels["instance"] == os.uname().nodename
        assert len(info.labels["run_id"]) == 32
        [failure] = [
            sample.value for family in classic(text) for sample in family.samples
            if sample.name == "push_failure_time_seconds"
        ]  # fmt: skip
        assert failure == 0
        assert puppet.exit(0) == 0
        assert puppet.stderr() == b""
        assert "proctally_run_info" not in get(f"{url}/metrics")


def test_pushgateway_keeps_the_end_when_told_to(tmp_path: Path) -> None:
    with pushgateway() as url:
        done = shell(tmp_path, "exit 4", "--pushgateway", url, "--pushgateway-keep")
        assert (done.status, done.stderr) == (4, b"")
        [code] = [
            sample.value for family in classic(get(f"{url}/metrics")) for sample in family.samples
            if sample.name == "proctally_run_exit_code"
        ]  # fmt: skip
        assert code == 4


def test_group_of_a_name_that_would_be_a_folder(tmp_path: Path) -> None:
    with pushgateway() as url:
        for name in ("..", "a b/é"):
            done = shell(tmp_path, "true", "-n", name, "--pushgateway", f"{url}/", "--pushgateway-keep")
            assert (done.status, done.stderr) == (0, b"")
        text = get(f"{url}/metrics")
    jobs = {sample.labels["job"] for family in classic(text) for sample in family.samples if "run_id" in sample.labels}
    assert jobs == {"proctally", "a b/é"}


def test_pushgateway_that_is_gone_is_told_of_after_the_job(tmp_path: Path) -> None:
    begun = time.monotonic()
    done = run(tmp_path, "-q", "--pushgateway", f"http://me:secret@127.0.0.1:{free_port()}", "--pushgateway-keep",
               "--", "true")  # fmt: skip
    assert time.monotonic() - begun < 6
    assert done.status == 0
    assert b"--pushgateway http://***@127.0.0.1:" in done.stderr
    assert b"refused" in done.stderr
    assert b"secret" not in done.stderr


def test_node_exporter_takes_the_file(tmp_path: Path) -> None:
    if shutil.which("prometheus-node-exporter") is None:
        pytest.skip("no node_exporter is installed (Debian: prometheus-node-exporter)")
    folder = tmp_path / "textfiles"
    folder.mkdir()
    for name in ("first", "second"):
        shell(tmp_path, "sleep 0.3", "-i", "0.1", "-n", name, "--textfile", str(folder / "{name}.prom"),
              env=environment(tmp_path, SLURM_JOB_ID="77"))  # fmt: skip
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = (
        f"--web.listen-address=127.0.0.1:{port}", "--collector.disable-defaults", "--collector.textfile",
        f"--collector.textfile.directory={folder}",
    )  # fmt: skip
    with daemon("prometheus-node-exporter", *arguments, ready=url):
        text = get(f"{url}/metrics")
    found = {sample.name: sample for family in classic(text) for sample in family.samples}
    assert found["node_textfile_scrape_error"].value == 0
    assert found["proctally_run_info"].labels["scheduler_job_id"] == "77"
    assert found["proctally_run_info"].labels["scheduler"] == "slurm"
    assert found["proctally_run_duration_seconds"].value > 0.2
    runs = {sample.labels["run"] for family in classic(text) for sample in family.samples if "run" in sample.labels}
    assert runs == {"first", "second"}, "two jobs of one machine"
