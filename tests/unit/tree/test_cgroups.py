"""What surrounds a job, in trees of files as a host would show them: kills, memory, and files that make no sense."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cgroup_host import NO_PID, Host
from hybrid_host import JOB, Hybrid
from proctally.linux.cgroup import V2
from proctally.linux.own_cgroup import CgroupReading, CgroupRefused
from proctally.linux.own_cgroups import CPUACCT, MEMORY
from proctally.tree.cgroups import Enclosure

MB = 1_000_000


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.mount("cg")
    return host


def around(host: Host, path: str = "/a/b") -> Enclosure:
    (host.folder / f"cg{path}").mkdir(parents=True, exist_ok=True)
    host.process(NO_PID, f"0::{path}")
    enclosure = Enclosure(host.machine)
    enclosure.look_around(NO_PID)
    return enclosure


def kills(host: Host, **counts: int) -> None:
    """So many processes were taken by now: in the cgroup `a`, in `b` below it, and on the machine."""
    places = {"a": "cg/a/memory.events", "b": "cg/a/b/memory.events"}
    for name, count in counts.items():
        if name == "machine":
            host.write("proc/vmstat", f"nr_free_pages 1\noom_kill {count}\nballoon_inflate 0\n")
        else:
            host.write(places[name], f"low 0\noom 9\noom_kill {count}\n")


# -- whom the OOM killer took ------------------------------------------------------------------------------------


def test_the_innermost_count_decides(host: Host) -> None:
    kills(host, a=5, b=1, machine=9)
    enclosure = around(host)
    assert enclosure.kills() is None
    kills(host, a=7, machine=12)
    assert enclosure.kills() is None, "a neighbour was taken"
    kills(host, b=3)
    assert enclosure.kills() == (2, "cgroup")


def test_the_innermost_that_has_a_count(host: Host) -> None:
    """As below a cgroup whose memory controller is not enabled for those in it."""
    kills(host, a=5, machine=9)
    enclosure = around(host)
    kills(host, machine=10)
    assert enclosure.kills() is None
    kills(host, a=6)
    assert enclosure.kills() == (1, "cgroup")


def test_the_machine_is_asked_only_where_no_cgroup_has_a_count(host: Host) -> None:
    kills(host, machine=9)
    enclosure = around(host)
    assert enclosure.kills() is None
    kills(host, machine=11)
    assert enclosure.kills() == (2, "machine")
    (host.folder / "proc/vmstat").unlink()
    assert enclosure.kills() is None


def test_its_own_is_named(host: Host) -> None:
    kills(host, b=0)
    enclosure = around(host)
    own: Any = SimpleNamespace(holds=lambda directory: directory == str(host.folder / "cg/a/b"))
    enclosure.own = own
    kills(host, b=1)
    assert enclosure.kills() == (1, "own_cgroup")


def test_a_cgroup_that_is_gone_says_nothing(host: Host) -> None:
    kills(host, a=5, b=1, machine=9)
    enclosure = around(host)
    kills(host, a=6, machine=10)
    (host.folder / "cg/a/b/memory.events").unlink()
    assert enclosure.kills() is None


# -- memory ------------------------------------------------------------------------------------------------------


def with_own(host: Host) -> Enclosure:
    enclosure = around(host)
    folder = str(host.folder / "cg/a/b")
    own: Any = SimpleNamespace(
        holds=lambda directory: directory == folder,
        read=lambda: CgroupReading(folder),
        used_ns=lambda: None,
        memory_left=False,
    )
    enclosure.own = own
    return enclosure


def test_what_the_kernel_can_drop_is_no_use_of_memory(host: Host) -> None:
    host.write("cg/a/b/memory.current", f"{500 * MB}\n")
    host.write(
        "cg/a/b/memory.stat",
        f"anon {80 * MB}\nfile {400 * MB}\nshmem 0\ninactive_file {300 * MB}\nactive_file {100 * MB}\n",
    )
    enclosure = with_own(host)
    assert enclosure.memory_bytes() == 100 * MB
    sample = enclosure.sample()
    assert sample is not None
    assert (sample["memory_bytes"], sample["file_bytes"]) == (500 * MB, 400 * MB)
    enclosure.own.memory_left = True  # type: ignore[union-attr,misc]
    assert enclosure.memory_bytes() is None


def test_memory_without_a_cgroup_or_its_controller_is_unknown(host: Host) -> None:
    assert around(host).memory_bytes() is None
    assert with_own(host).memory_bytes() is None


# -- files that make no sense ------------------------------------------------------------------------------------

BROKEN = [
    ("cpuset.cpus.effective", "0-3 (isolated)\n"),
    ("memory.events", "oom_kill many\n"),
    ("memory.max", "a lot\n"),
    ("cpu.max", "100000\n"),
    ("cpu.stat", "usage_usec x\n"),
]


def sound(host: Host) -> None:
    host.write("cg/a/b/cpuset.cpus.effective", "0-3\n")
    host.write("cg/a/b/memory.events", "oom_kill 0\n")
    host.write("cg/a/b/memory.max", f"{64 * MB}\n")
    host.write("cg/a/b/cpu.max", "150000 100000\n")
    host.write("cg/a/b/cpu.stat", "usage_usec 1000000\nnr_periods 1\nnr_throttled 1\nthrottled_usec 5\n")


@pytest.mark.parametrize(("name", "text"), BROKEN)
def test_a_file_that_cannot_be_understood_is_named(host: Host, name: str, text: str) -> None:
    sound(host)
    host.write(f"cg/a/b/{name}", text)
    enclosure = around(host)
    assert enclosure.limits_missing == "invalid"
    enclosure.kills()
    enclosure.throttled()
    enclosure.summary()
    enclosure.check([NO_PID])
    enclosure.compare(10**9)
    assert enclosure.close()


@pytest.mark.parametrize(("name", "text"), BROKEN)
def test_one_that_becomes_so(host: Host, name: str, text: str) -> None:
    sound(host)
    enclosure = around(host)
    assert enclosure.limits_missing is None
    host.write(f"cg/a/b/{name}", text)
    enclosure.kills()
    enclosure.throttled()
    enclosure.summary()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EROFS, "cgroup_read_only"),
        (errno.EACCES, "cgroup_not_delegated"),
        (errno.EPERM, "cgroup_not_delegated"),
        (errno.ENOENT, "cgroup_missing"),
        (errno.ENODEV, "cgroup_missing"),
        (errno.EAGAIN, "cgroup_limit"),
        (errno.ENOSPC, "cgroup_full"),
        (errno.ENOMEM, "no_kernel_memory"),
        (errno.ESTALE, "cgroup_taken"),
        (errno.EBUSY, "cgroup_busy"),
        (errno.ESRCH, "no_own_procfs"),
        (errno.EOPNOTSUPP, "cgroup_unfit"),
        (errno.EIO, "EIO"),
        (0, "invalid"),
    ],
)
def test_own_cgroup_that_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch, number: int, code: str) -> None:
    def refuse(*_: object) -> None:
        raise CgroupRefused(number)

    monkeypatch.setattr("proctally.linux.own_cgroups.RunCgroup", refuse)
    enclosure = Enclosure(host.machine)
    assert enclosure.missing == "not_requested"
    enclosure.enclose(NO_PID, NO_PID)
    assert (enclosure.own, enclosure.missing) == (None, code)


def test_places_that_cannot_be_understood(host: Host) -> None:
    host.write(f"proc/{NO_PID}/cgroup", "nonsense\n")
    enclosure = Enclosure(host.machine)
    enclosure.look_around(NO_PID)
    assert enclosure.limits_missing == "invalid"
    enclosure.enclose(NO_PID, NO_PID)
    assert (enclosure.own, enclosure.missing) == (None, "cgroup_unfit")


@pytest.mark.parametrize(("name", "text"), BROKEN)
def test_it_costs_only_what_it_would_have_told(host: Host, name: str, text: str) -> None:
    sound(host)
    host.write(f"cg/a/b/{name}", text)
    enclosure = around(host)
    found = {
        "cpuset.cpus.effective": enclosure.cpus() == {0, 1, 2, 3},
        "memory.max": enclosure.limits.memory_bytes == 64 * MB,
        "cpu.max": enclosure.limits.cpu_cores == 1.5,
        "memory.events": list(enclosure._kills) == [str(host.folder / "cg/a/b")],
        "cpu.stat": enclosure._enclosing_ns == 10**9,
    }
    assert [file for file, known in found.items() if not known] == [name]


def test_one_broken_file_of_its_own_cgroup(host: Host) -> None:
    host.write("cg/a/b/memory.current", f"{500 * MB}\n")
    host.write("cg/a/b/memory.stat", "active_file x\n")
    enclosure = with_own(host)
    assert enclosure.memory_bytes() is None
    assert enclosure.sample() is None
    assert enclosure.limits_missing == "invalid"
    assert enclosure.summary()["memory_bytes"] is None


# -- memory before the start -------------------------------------------------------------------------------------


def test_memory_before_the_start_is_that_of_the_nearest(host: Host) -> None:
    host.write("proc/meminfo", "AnonPages: 1 kB\n")
    enclosure = around(host)
    assert enclosure.memory_before is None
    enclosure.note_memory()
    assert enclosure.memory_before == b"AnonPages: 1 kB\n"
    host.write("cg/a/memory.stat", "anon 7\n")
    enclosure.note_memory()
    assert enclosure.memory_before == b"anon 7\n"


def test_memory_before_the_start_that_cannot_be_read(host: Host) -> None:
    enclosure = around(host)
    enclosure.note_memory()
    assert enclosure.memory_before is None


# -- cgroups of its own on a hybrid host ---------------------------------------------------------------------------


@pytest.fixture
def hybrid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hybrid:
    return Hybrid(tmp_path, monkeypatch, unified=None, cpuacct="cpuacct", memory="memory")


def test_codes_of_refusals(hybrid: Hybrid) -> None:
    enclosure = Enclosure(hybrid.host.machine)
    hybrid.refuse = {MEMORY: errno.EACCES}
    enclosure.enclose(JOB, NO_PID)
    assert (enclosure.missing, enclosure.missing_memory) == (None, "cgroup_not_delegated")
    assert enclosure.own is not None and enclosure.close()
    hybrid.refuse = {V2: errno.EACCES, CPUACCT: errno.EXDEV}
    enclosure.enclose(JOB, NO_PID)
    assert (enclosure.missing, enclosure.missing_memory) == ("cgroup_not_delegated", None)
    assert enclosure.own is not None and enclosure.used_ns() is None and enclosure.close()
    hybrid.refuse = {V2: errno.EACCES, CPUACCT: errno.EXDEV, MEMORY: errno.EOPNOTSUPP}
    enclosure.enclose(JOB, NO_PID)
    assert (enclosure.own, enclosure.missing_memory) == (None, "cgroup_unfit")


def test_job_that_is_gone_leaves_nothing(hybrid: Hybrid) -> None:
    hybrid.refuse[MEMORY] = -1
    enclosure = Enclosure(hybrid.host.machine)
    enclosure.enclose(JOB, NO_PID)
    assert (enclosure.own, enclosure.missing) == (None, "invalid")
    assert [path.name for path in (hybrid.host.folder / "cg").rglob("proctally-*")] == []
