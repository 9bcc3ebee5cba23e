"""What surrounds a job, in trees of files as a host would show them: kills, memory, and files that make no sense."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proctally.enclosure import Enclosure
from proctally.kernel.own_cgroup import Reading
from test_cgroup import NO_PID, Host

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
    assert enclosure.kills() == (0, None)
    kills(host, a=7, machine=12)
    assert enclosure.kills() == (0, None), "a neighbour was taken"
    kills(host, b=3)
    assert enclosure.kills() == (2, "the cgroup")


def test_the_innermost_that_has_a_count(host: Host) -> None:
    """As below a cgroup whose memory controller is not enabled for those in it."""
    kills(host, a=5, machine=9)
    enclosure = around(host)
    kills(host, machine=10)
    assert enclosure.kills() == (0, None)
    kills(host, a=6)
    assert enclosure.kills() == (1, "the cgroup")


def test_the_machine_is_asked_only_where_no_cgroup_has_a_count(host: Host) -> None:
    kills(host, machine=9)
    enclosure = around(host)
    assert enclosure.kills() == (0, None)
    kills(host, machine=11)
    assert enclosure.kills() == (2, "the machine")
    (host.folder / "proc/vmstat").unlink()
    assert enclosure.kills() == (0, None)


def test_its_own_is_named(host: Host) -> None:
    kills(host, b=0)
    enclosure = around(host)
    own: Any = SimpleNamespace(directory=str(host.folder / "cg/a/b"))
    enclosure.own = own
    kills(host, b=1)
    assert enclosure.kills() == (1, "the run's own cgroup")


def test_a_cgroup_that_is_gone_says_nothing(host: Host) -> None:
    kills(host, a=5, b=1, machine=9)
    enclosure = around(host)
    kills(host, a=6, machine=10)
    (host.folder / "cg/a/b/memory.events").unlink()
    assert enclosure.kills() == (0, None)


# -- memory ------------------------------------------------------------------------------------------------------


def with_own(host: Host) -> Enclosure:
    enclosure = around(host)
    folder = str(host.folder / "cg/a/b")
    own: Any = SimpleNamespace(directory=folder, read=lambda: Reading(folder))
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
    enclosure.left = "process 1 left it for another cgroup"
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
    assert enclosure.trouble is not None
    assert text.strip() in enclosure.trouble
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
    assert enclosure.trouble is None
    host.write(f"cg/a/b/{name}", text)
    enclosure.kills()
    enclosure.throttled()
    enclosure.summary()


def test_places_that_cannot_be_understood(host: Host) -> None:
    host.write(f"proc/{NO_PID}/cgroup", "nonsense\n")
    enclosure = Enclosure(host.machine)
    enclosure.look_around(NO_PID)
    assert enclosure.trouble is not None
    enclosure.enclose(NO_PID, NO_PID)
    assert enclosure.own is None and enclosure.why is not None


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
    assert enclosure.trouble is not None
    assert enclosure.summary()["memory_bytes"] is None
