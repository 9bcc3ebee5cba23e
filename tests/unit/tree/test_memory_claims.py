"""Shared memory that a tree claims, from made files and brackets."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakeroot import INIT, FakeHost
from proctally.linux.shared_files import SharedFiles
from proctally.tree.memory_claims import Claims
from proctally.tree.memory_families import ProcessMemory
from proctally.tree.memory_moments import Bracket

MIB = 1 << 20


def unclaimed(mib: float) -> Bracket:
    return Bracket((10 * MIB, 10 * MIB), (0, round(mib * MIB)), (0, 0), 0, 0, 0, "surroundings")


def write_segments(host: FakeHost, *segments: tuple[int, int, int]) -> None:
    lines = [f"{number} {creator} {size}" for number, creator, size in segments]
    (host.proc / "sysvipc").mkdir(exist_ok=True)
    (host.proc / "sysvipc" / "shm").write_text("\n".join(["shmid cpid rss", *lines]) + "\n")


def test_segment_of_a_member_is_claimed_after_its_exit(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    claims = Claims(host.machine(), 0)
    assert claims.size([7]) == 0
    write_segments(host, (1, 7, 100), (2, 8, 50))
    assert claims.size([7]) == 100
    assert claims.size([]) == 100
    write_segments(host, (2, 8, 50))
    assert claims.size([]) == 0
    (host.proc / "sysvipc" / "shm").write_text("shmid cpid rss\n1 x 3\n")
    assert claims.size([7]) == 0


def test_segment_of_a_dead_process_is_not_that_of_a_member_with_its_pid(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    claims = Claims(host.machine(), 0)
    write_segments(host, (1, 8, 100))
    assert claims.size([7]) == 0
    write_segments(host, (1, 8, 100), (2, 8, 10))
    assert claims.size([7, 8]) == 10  # by now 8 is another
    write_segments(host)
    claims.size([7, 8])
    assert not claims._segments


def test_files_are_searched_where_more_is_unclaimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost(tmp_path)
    host.spawn(7, INIT)
    claims = Claims(host.machine(), 0)
    member = ProcessMemory(7, 1, b"x", 1)
    assert not claims.search(unclaimed(20), [member])  # no mountinfo
    (host.proc / "self" / "mountinfo").write_text("")
    searched: list[list[int]] = []
    monkeypatch.setattr(SharedFiles, "search", lambda self, pids: searched.append(list(pids)))
    host.advance(11)
    found = []
    for mib, seconds in [(4.4, 0), (20, 0), (20, 1), (21, 1), (23, 1), (23, 9), (23, 2)]:
        host.advance(seconds)
        found.append(claims.search(unclaimed(mib), [member]))
    assert found == [False, True, False, False, True, False, True]
    assert searched == [[7]] * 3
    assert not claims.is_hidden
