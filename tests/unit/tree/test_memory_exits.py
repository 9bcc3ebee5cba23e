"""Faults of members after their last reading."""

from __future__ import annotations

from pathlib import Path

from fakeroot import INIT, PAGE, FakeHost, attach_to
from proctally.tree.member import Member
from proctally.tree.memory_exits import Exits
from proctally.tree.sampler import TreeSampler

ROOT, CHILD = 100, 101


class Job:
    """A root with one child, both read once."""

    def __init__(self, folder: Path) -> None:
        self.host = FakeHost(folder, own=None)
        self.host.spawn(ROOT, INIT)
        self.host.spawn(CHILD, ROOT)
        self.sampler = TreeSampler(self.host.machine(), memory=False)
        attach_to(self.sampler, ROOT)
        self.host.run(CHILD, minor=100)
        self.sampler.scan()
        self.child: Member = self.sampler.members[CHILD]

    def faults(self) -> int | None:
        """Return what the child faulted in after its last reading, in pages."""
        exits = Exits(PAGE)
        exits.add(self.child, 100 * PAGE)
        found = exits.take_faults()
        assert exits.take_faults() == (0, 0)
        return None if found is None else sum(found) // PAGE


def test_faults_show_in_the_parent_that_reaped_it(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.host.run(CHILD, minor=7)
    job.host.end(CHILD)
    job.host.run(ROOT, minor=50)
    job.sampler.scan()
    assert job.faults() == 7


def test_faults_show_in_a_zombie(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.host.run(CHILD, minor=7)
    job.host.exit(CHILD)
    job.sampler.scan()
    assert job.faults() == 7


def test_faults_are_unknown_until_it_is_reaped(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.host.run(CHILD, minor=7)
    assert job.faults() is None
