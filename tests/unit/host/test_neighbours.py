"""Other processes that use CPUs while a job waits: read part by part, on a fake host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakeroot import PAGE, FakeHost
from proctally.host import neighbours
from proctally.host.neighbours import NeighbourReader

OWN = 77
OURS = {OWN, 100, 101}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHost]:
    monkeypatch.setattr(neighbours, "read_user_names", lambda: {os.getuid(): "ci"})
    host = FakeHost(tmp_path, own=OWN)
    host.spawn(100, OWN, comm=b"job")
    for pid, comm in ((200, b"cc1"), (201, b"cc1"), (202, b"a (b)\xff"), (203, b"idle")):
        host.spawn(pid, 1, comm=comm, pages=10)
    yield host


def found_in(host: FakeHost, reader: NeighbourReader, seconds: float, **cores: float) -> dict[str, Any] | None:
    """Have a result made, while each process runs on these cores."""
    reader.want()
    ended = host.now_ns + seconds * 1e9
    while host.now_ns < ended and reader.timeout(host.now_ns) is not None:
        host.advance(0.02)
        for pid, share in cores.items():
            host.run(int(pid[1:]), user=share * 0.02)
        reader.step(host.now_ns)
    return reader.take()


def test_neighbours_are_the_users_of_cpu_that_are_not_ours(host: FakeHost) -> None:
    reader = NeighbourReader(host.machine(), OURS.__contains__)
    found = found_in(host, reader, 2.0, p100=0.5, p200=0.25, p201=0.5, p202=0.1)
    assert found is not None and found["coverage"] == "complete"
    assert found["interval_seconds"] == pytest.approx(0.5, abs=0.05)
    assert found["cpu_cores"] == pytest.approx(0.85, abs=0.05)
    assert [(row["user"], row["command"], row["processes"], row["rss_bytes"]) for row in found["largest"]] == [
        ("ci", "cc1", 2, 20 * PAGE), ("ci", "a (b)\\xff", 1, 10 * PAGE),
    ]  # fmt: skip
    assert [row["cpu_cores"] for row in found["largest"]] == pytest.approx([0.75, 0.1], abs=0.05)
    assert not [path for path in host.accesses if "cmdline" in path or "environ" in path]


@pytest.mark.parametrize("made", [0, 1])
def test_cores_of_neighbours_are_a_lower_bound_where_some_exited(
    host: FakeHost, made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = host.machine()
    monkeypatch.setattr(machine, "last_pid", iter((300, 300 + made)).__next__)
    reader = NeighbourReader(machine, OURS.__contains__)
    reader.want()
    reader.step(host.now_ns)
    if not made:
        host.exit(203)
        host.reap(203)
    found = found_in(host, reader, 2.0, p200=0.25)
    assert found is not None and found["coverage"] == "partial"


def test_neighbours_are_read_at_most_each_ten_seconds(host: FakeHost) -> None:
    reader = NeighbourReader(host.machine(), OURS.__contains__)
    assert found_in(host, reader, 2.0, p200=0.5) is not None
    assert found_in(host, reader, 5.0, p200=0.5) is None and reader.timeout(host.now_ns) is None
    host.advance(11.0)
    host.run(201, user=5.0)
    again = found_in(host, reader, 1.0)
    assert again is not None and again["interval_seconds"] > 10, "the last reading is compared with"
    host.advance(60.0)
    later = found_in(host, reader, 2.0, p200=0.5)
    assert later is not None and later["interval_seconds"] < 1, "one that is too old is not"


def test_neighbours_are_read_in_short_parts(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "PIDS", 2)
    monkeypatch.setattr(neighbours, "STEP_NS", -1)
    reader = NeighbourReader(host.machine(), OURS.__contains__)
    reader.want()
    host.accesses.clear()
    reader.step(host.now_ns)
    assert reader.timeout(host.now_ns) == neighbours.PAUSE_NS, "one part, and a pause"


def test_new_child_of_ours_and_reused_pid_are_no_neighbours(host: FakeHost) -> None:
    reader = NeighbourReader(host.machine(), OURS.__contains__)
    host.run(203, user=50.0)
    reader.want()
    reader.step(host.now_ns)
    host.exit(203)
    host.reap(203)
    host.advance(0.6)
    host.spawn(203, 1, comm=b"new")
    host.spawn(300, 100, comm=b"ours")
    for pid in (203, 300):
        host.run(pid, user=0.3)
    while reader.timeout(host.now_ns) is not None:
        host.advance(0.02)
        reader.step(host.now_ns)
    found = reader.take()
    assert found is not None
    assert [row["command"] for row in found["largest"]] == ["new"]
    assert found["cpu_cores"] == found["largest"][0]["cpu_cores"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("reason", ["no clocks", "init is hidden", "too many", "denied"])
def test_hidden_processes_leave_neighbours_unknown(
    host: FakeHost, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = host.machine(clocks=reason != "no clocks")
    if reason == "init is hidden":
        monkeypatch.setattr(neighbours, "scan", lambda _: iter([(200, 1), (201, 2)]))
    host.denied = {"200/stat"} if reason == "denied" else set()
    if reason == "too many":
        monkeypatch.setattr(neighbours, "MAX_PROCESSES", 3)
    reader = NeighbourReader(machine, OURS.__contains__)
    assert found_in(host, reader, 2.0, p200=0.5) is None
    assert reader.is_hidden and reader.timeout(host.now_ns) is None
