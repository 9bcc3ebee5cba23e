"""A tree without procfs: the CPU clock of the root, wait4 and perf are all there is, and nothing of strangers."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakeroot import SECOND, FakeHost, attach_to, reap_ours
from proctally.errors import NoProcfs
from proctally.tree.gaps import coverage, of_machine
from proctally.tree.sampler import TreeSampler

OWN, ROOT = 77, 100
CODES = ("procfs_foreign", "procfs_missing")


def made(folder: Path, code: str, *, clocks: bool = True, own: int | None = OWN) -> tuple[FakeHost, TreeSampler]:
    """A host whose /proc shows other processes under the same pids."""
    host = FakeHost(folder, own=own)
    host.spawn(ROOT, own or 1)
    machine = host.machine(clocks=clocks)
    machine.procfs_missing = code
    return host, TreeSampler(machine, own=own, memory=True, time=True)


@pytest.mark.parametrize("clocks", [True, False])
@pytest.mark.parametrize("code", CODES)
def test_totals_are_those_of_clock_and_wait4(tmp_path: Path, code: str, clocks: bool) -> None:
    host, sampler = made(tmp_path, code, clocks=clocks)
    sampler.start(ROOT)
    host.run(ROOT, user=2.0)
    host.advance(1.0)
    shown = sampler.sample()["tree"]
    assert shown["cpu_seconds"] == pytest.approx(2.0 if clocks else 0.0, abs=0.01)
    assert {shown[name] for name in ("processes", "threads", "rss_bytes", "swap_bytes", "memory_low_bytes")} == {None}
    host.exit(ROOT)
    reap_ours(host, sampler, ROOT)
    sampler.sample()
    assert sampler.cpu_by_source() == ("rusage", {"rusage": pytest.approx(2 * SECOND, rel=0.01)})
    assert sampler.finish() == 0


def test_helper_is_not_of_the_tree(tmp_path: Path) -> None:
    host, sampler = made(tmp_path, "procfs_foreign")
    sampler.start(ROOT)
    host.spawn(200, OWN)
    sampler.exclude(200)
    host.run(200, user=5.0)
    host.exit(200)
    reap_ours(host, sampler, 200)
    sampler.sample()
    assert sampler.cpu_seconds() < 0.01


def test_attach_is_refused(tmp_path: Path) -> None:
    _, sampler = made(tmp_path, "procfs_foreign", own=None)
    with pytest.raises(NoProcfs):
        attach_to(sampler, ROOT)


@pytest.mark.parametrize("code", CODES)
def test_one_gap_makes_all_unknown_that_needs_procfs(tmp_path: Path, code: str) -> None:
    _, sampler = made(tmp_path, code)
    found = of_machine(sampler.machine)
    assert [gap["code"] for gap in found] == [code]
    said = coverage(found)
    assert (said["cpu"], said["memory"], said["processes"]) == ("complete", "unknown", "unknown")
    assert said["io"] == ("unknown" if code == "procfs_missing" else "complete")
