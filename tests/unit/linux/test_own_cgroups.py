"""The cgroups of a run on v1, v2 and hybrid hosts, in folders: who is made, what is read, what a refusal costs."""

from __future__ import annotations

from errno import EACCES, EXDEV
from pathlib import Path

import pytest

from hybrid_host import JOB, Hybrid
from proctally.linux.cgroup import V2, CpuStat
from proctally.linux.own_cgroups import CPUACCT, MEMORY

MS = 1_000_000


@pytest.fixture
def hybrid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hybrid:
    return Hybrid(tmp_path, monkeypatch, unified=None, cpuacct="cpuacct", memory="memory")


def test_hybrid_host_has_one_in_each(hybrid: Hybrid) -> None:
    own = hybrid.own()
    assert list(own.by_name) == [V2, CPUACCT, MEMORY]
    assert own.missing == {}
    assert own.holds(own.by_name[MEMORY].directory)
    assert not own.holds(str(hybrid.host.folder))
    assert own.remove()
    assert [path.name for path in (hybrid.host.folder / "cg").rglob("proctally-*")] == []


def test_cpu_time_alone_takes_one(hybrid: Hybrid) -> None:
    assert list(hybrid.own(memory=False).by_name) == [V2]


def test_v1_host_without_v2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hybrid = Hybrid(tmp_path, monkeypatch, cpuacct="cpuacct", memory="memory")
    own = hybrid.own()
    assert list(own.by_name) == [CPUACCT, MEMORY]
    assert (own.used_ns(), own.split_ns) == (0, (0, 0))
    hybrid.write(own, CPUACCT, "cpuacct.usage", "19000000")
    hybrid.write(own, CPUACCT, "cpuacct.usage_sys", "9000000")
    assert (own.used_ns(), own.split_ns) == (12 * MS, (0, 6 * MS))
    assert own.read().cpu.system_ns == 9 * MS


def test_largest_growth_is_the_most_complete(hybrid: Hybrid) -> None:
    """A process that leaves one of them is still counted in the other."""
    own = hybrid.own()
    hybrid.write(own, V2, "cpu.stat", "usage_usec 9000\nuser_usec 6000\nsystem_usec 3000\n")
    assert (own.used_ns(), own.split_ns) == (4 * MS, (3 * MS, MS))
    hybrid.write(own, CPUACCT, "cpuacct.usage", "12000000")
    assert (own.used_ns(), own.split_ns) == (5 * MS, (3 * MS, MS)), "read later, not more complete"
    hybrid.write(own, CPUACCT, "cpuacct.usage", "92000000")
    hybrid.write(own, CPUACCT, "cpuacct.usage_user", "89000000")
    assert (own.used_ns(), own.split_ns) == (85 * MS, (85 * MS, 0))


def test_memory_of_v1(hybrid: Hybrid) -> None:
    own = hybrid.own()
    hybrid.write(own, MEMORY, "memory.usage_in_bytes", "900")
    hybrid.write(own, MEMORY, "memory.max_usage_in_bytes", "950")
    hybrid.write(
        own, MEMORY, "memory.stat",
        "rss 1\ntotal_rss 300\ntotal_cache 500\ntotal_active_file 100\ntotal_inactive_file 250\ntotal_swap 7\n",
    )  # fmt: skip
    hybrid.write(own, MEMORY, "memory.oom_control", "oom_kill_disable 0\noom_kill 2\n")
    reading = own.read()
    assert (reading.memory_bytes, reading.memory_peak_bytes) == (900, 950)
    assert (reading.anon_bytes, reading.file_bytes, reading.cache_bytes, reading.swap_bytes) == (300, 500, 350, 7)
    assert reading.oom_kills == 2
    assert reading.cpu.usage_ns == 5 * MS


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [V2, CPUACCT, MEMORY])
def test_refusal_costs_that_one_alone(hybrid: Hybrid, name: str) -> None:
    hybrid.refuse[name] = EACCES
    own = hybrid.own()
    assert own.missing == {name: EACCES}
    assert list(own.by_name) == [each for each in (V2, CPUACCT, MEMORY) if each != name]
    assert own.counts_cpu
    assert own.used_ns() == 0


def test_cpuacct_beside_cpu_would_change_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Hybrid(tmp_path, monkeypatch, unified=None, both="rw,cpu,cpuacct", memory="memory").own()
    assert own.missing == {CPUACCT: EXDEV}
    assert list(own.by_name) == [V2, MEMORY]


@pytest.mark.parametrize(("hierarchy", "made"), [("0", False), ("1", True)])
def test_memory_below_a_limit_that_would_not_hold_is_refused(hybrid: Hybrid, hierarchy: str, made: bool) -> None:
    hybrid.host.write("cg/memory/memory.use_hierarchy", f"{hierarchy}\n")
    assert (MEMORY in hybrid.own().by_name) is made


# -- who left ------------------------------------------------------------------------------------------------------


def test_one_that_left_memory_is_still_counted_for_cpu(hybrid: Hybrid) -> None:
    own = hybrid.own()
    for cgroup in own.by_name.values():
        Path(cgroup.directory, "cgroup.procs").write_text("")
    path = own.by_name[V2].path
    inside = f"0::{path}\n1:cpuacct:{own.by_name[CPUACCT].path}\n"
    hybrid.host.write(f"proc/{JOB}/cgroup", f"{inside}2:memory:{own.by_name[MEMORY].path}/in\n")
    hybrid.host.write(f"proc/{JOB}/statm", "0 0 0 0 0 0 0\n")
    own.check([JOB])
    assert own.left == set()
    hybrid.host.write(f"proc/{JOB}/cgroup", f"{inside}2:memory:/\n")
    own.check([JOB])
    assert own.left == set(), "v1 shows / for a process that exits"
    hybrid.host.write(f"proc/{JOB}/statm", "5 1 1 0 0 0 0\n")
    own.check([JOB])
    assert (own.left, own.memory_left, own.has_left) == ({MEMORY}, True, False)
    hybrid.host.write(f"proc/{JOB}/cgroup", f"0::/\n1:cpuacct:{own.by_name[CPUACCT].path}\n")
    own.check([JOB])
    assert not own.has_left
    hybrid.host.write(f"proc/{JOB}/cgroup", "0::/\n1:cpuacct:/else\n")
    own.check([JOB])
    assert own.has_left


def test_v2_alone_counts_memory_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Hybrid(tmp_path, monkeypatch, unified=None).own()
    Path(own.by_name[V2].directory, "cgroup.procs").write_text("")
    hybrid_proc = tmp_path / f"proc/{JOB}"
    hybrid_proc.mkdir()
    (hybrid_proc / "cgroup").write_text("0::/\n")
    own.check([JOB])
    assert own.memory_left and own.has_left


def test_cgroup_that_counts_nothing_is_removed_at_the_end(hybrid: Hybrid) -> None:
    """A cgroup with the job in it cannot be removed before the job has exited."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proctally.linux.own_cgroup._listed", lambda _: [JOB])
        patch.setattr("proctally.linux.own_cgroups.usage", lambda _: CpuStat())
        own = hybrid.own()
        assert (own.counts_cpu, list(own.by_name)) == (False, [MEMORY])
    assert own.remove()
    assert [path.name for path in (hybrid.host.folder / "cg").rglob("proctally-*")] == []
