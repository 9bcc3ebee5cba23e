"""Whole readings of families: what they say, how they are carried on, which family is next. MiB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from memory_job import MIB, MemoryJob
from proctally.linux.proc_memory import Rollup
from proctally.tree.memory_families import Family, ProcessMemory
from proctally.tree.memory_pss import BURST_NS, MAX_POSTPONED, PssBudget, shared_most, snapshot

if TYPE_CHECKING:
    from proctally.tree.memory_pss import Readings, Snapshot

MS = 1_000_000


def pool(job: MemoryJob, workers: int = 2) -> tuple[ProcessMemory, list[ProcessMemory]]:
    """An attached family of 100 MiB each, of which nothing is known."""
    root = job.start(anon=100)
    root.forked = True
    return root, [job.fork(root, faults=100) for _ in range(workers)]


def family_of(process: ProcessMemory) -> Family:
    assert process.family is not None
    return process.family


def begun(job: MemoryJob, pss: int) -> tuple[list[ProcessMemory], Family, Snapshot, Readings]:
    """Three members whose PSS was read and not yet taken: they, their family, it before, and the readings."""
    root, workers = pool(job)
    job.scan()
    family = family_of(root)
    before = snapshot(family)
    readings = {member: (member.faults, Rollup(pss * MIB, 0, 0, 100 * MIB)) for member, _, _ in before}
    return [root, *workers], family, before, readings


# -- what a reading says -------------------------------------------------------------------------------------------


def test_reading_of_whole_family_is_exact() -> None:
    job = MemoryJob()
    root, (first, second) = pool(job)
    assert job.scan() == (100, 300)
    job.read_pss(root, {root: 40, first: 40, second: 40})
    assert job.scan() == (120, 120)


def test_reading_low_follows_rss_and_high_follows_copies() -> None:
    job = MemoryJob()
    root, (first, second) = pool(job)
    job.scan()
    job.read_pss(root, {root: 90, first: 90, second: 90})  # 270: at most 20 of each are shared
    job.read(first, anon=105, faults=200)
    assert job.scan() == (275, 295)
    job.read(first, anon=95, faults=210)
    assert job.scan() == (265, 285)


def test_reading_few_faults_bound_high() -> None:
    job = MemoryJob()
    root, (first, second) = pool(job)
    job.scan()
    job.read_pss(root, {root: 40, first: 40, second: 40})
    job.read(first, faults=103)
    assert job.scan() == (120, 123)


def test_reading_exit_takes_pss_from_low_and_own_from_high() -> None:
    job = MemoryJob()
    root, (first, second) = pool(job)
    job.scan()
    job.read_pss(root, {root: 90, first: 70, second: 90})
    job.model.leave(first)
    assert job.scan() == (180, 200)  # 40 of first were its own at least


def test_reading_who_forked_is_bounded_by_faults_alone() -> None:
    job = MemoryJob()
    root, (first, second) = pool(job)
    job.scan()
    job.read_pss(root, {root: 100, first: 100, second: 100})
    child = job.fork(root)
    job.read(root, faults=108 + 60)
    assert job.scan() == (300, 360)
    job.model.leave(child)
    assert job.scan() == (300, 300)


def test_reading_denied_member_counts_whole_in_high() -> None:
    job = MemoryJob()
    root, (first, second) = pool(job)
    job.scan()
    job.read_pss(root, {root: 40, first: 40})
    assert job.scan() == (100, 180)
    job.read(second, faults=130)
    assert job.scan() == (100, 210)


def test_reading_all_denied_is_not_repeated() -> None:
    job = MemoryJob()
    root, _ = pool(job)
    job.scan()
    job.scan()
    assert job.model.families_to_read() == [root.family]
    job.read_pss(root, {})
    job.scan()
    assert job.model.families_to_read() == []


def test_reading_member_that_exited_during_it() -> None:
    job = MemoryJob()
    (root, first, second), family, before, readings = begun(job, 40)
    job.model.leave(second)
    job.model.take(family, before, readings)
    assert job.scan() == (100, 120)


def test_reading_member_that_exited_before_its_turn() -> None:
    job = MemoryJob()
    (root, first, second), family, before, readings = begun(job, 40)
    del readings[second]
    job.model.leave(second)
    job.model.take(family, before, readings)
    assert job.scan() == (100, 120)


def test_reading_member_that_forked_during_it() -> None:
    job = MemoryJob()
    (root, first, second), family, before, readings = begun(job, 40)
    job.fork(root, faults=1)
    job.model.take(family, before, readings)
    low, high = job.scan()
    assert low == 120
    assert high == 120 + 40 + 1


def test_reading_member_that_moved_before_its_turn_widens() -> None:
    job = MemoryJob()
    (root, first, second), family, before, readings = begun(job, 40)
    readings[second] = (second.faults + 10 * MIB, Rollup(40 * MIB, 0, 0, 80 * MIB))
    job.read(second, anon=80, faults=110)
    job.model.take(family, before, readings)
    assert job.scan() == (120, 120 + (10 + 20) / 2)


def test_reading_parent_that_forked_during_it_can_copy() -> None:
    job = MemoryJob()
    (root, first, second), family, before, readings = begun(job, 100)
    job.fork(root)
    job.model.take(family, before, readings)
    job.scan()
    job.read(root, faults=108 + 60)
    assert job.scan() == (300, 400)  # the sum of RssAnon
    job.read(first, anon=0)
    job.read(second, anon=0)
    assert job.scan() == (100, 200 + 50 - 50)


def exited_parent(job: MemoryJob) -> tuple[ProcessMemory, list[ProcessMemory]]:
    """A root of 0, and two children of an exited process that made 100 MiB."""
    root = job.start(anon=0, faults=0)
    job.scan()
    middle = job.fork(root, anon=100, faults=100)
    children = [job.fork(middle) for _ in range(2)]
    job.read(middle)
    job.scan()
    job.model.leave(middle)
    return root, children


def test_reading_keeps_bound_of_exited_parent() -> None:
    job = MemoryJob()
    root, (first, second) = exited_parent(job)
    job.read_pss(root, {root: 0, first: 50, second: 50})
    assert job.scan() == (100, 100)
    job.read(first, faults=60)
    assert job.scan() == (100, 160)


def test_reading_exited_parent_is_not_taken_out_twice() -> None:
    job = MemoryJob()
    root, (middle, first, second) = pool(job, workers=3)
    job.scan()
    job.read_pss(root, {root: 40, middle: 100, first: 60, second: 60})
    child = job.fork(middle)
    job.read(middle)
    job.scan()
    job.model.leave(middle)
    job.scan()
    job.read_pss(root, {root: 40, child: 90, first: 60, second: 60})
    assert job.scan() == (250, 250)
    job.model.leave(child)
    assert job.scan() == (160, 170)


def test_reading_huge_pages_can_hide_copies() -> None:
    job = MemoryJob()
    root, (first, second) = pool(job)
    job.scan()
    job.read_pss(root, {root: 40, first: 40, second: 40})
    job.levels.anon_huge = 30 * MIB
    job.read(first, faults=100.5)
    assert job.scan() == (120, 120.5 + 30)
    job.levels.anon_huge = 900 * MIB
    job.read(second, faults=100.125)
    assert job.scan() == (120, 120 + 100 + 64 + 0.125)  # all that the first shares, 512 pages for a fault of the second


def test_reading_shared_most_is_twice_what_pss_lacks() -> None:
    assert shared_most(100, 100) == 0
    assert shared_most(100, 90) == 20
    assert shared_most(100, 20) == 100


# -- which family is next ------------------------------------------------------------------------------------------


def test_next_none_where_bracket_is_narrow() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    job.scan()
    job.fork(root, faults=1)
    job.scan()
    job.scan()
    assert job.model.families_to_read() == []


def test_next_widest_family_first() -> None:
    job = MemoryJob()
    small, _ = pool(job, workers=2)
    large, _ = pool(job, workers=5)
    job.scan()
    job.bracket()
    assert job.model.families_to_read() == [large.family, small.family]


def test_next_family_that_forks_is_postponed() -> None:
    job = MemoryJob()
    root, _ = pool(job)
    wanted = []
    for _ in range(2 * MAX_POSTPONED + 2):
        for _ in range(len(job.model.members) // 4 + 1):
            job.fork(root, faults=100)
        job.bracket()
        wanted.append(len(job.model.families_to_read()))
        job.model.settle(1.0)
    assert wanted == [0] * MAX_POSTPONED + [1] + [0] * MAX_POSTPONED + [1]


def test_next_family_whose_pss_proves_shared_memory() -> None:
    job = MemoryJob()
    root = job.start(anon=1)
    child = job.fork(root, anon=1)
    for process in (root, child):
        job.read(process, shmem=40)
    job.levels.shmem = 80 * MIB
    job.scan()
    job.bracket()
    assert job.model.families_to_read() == [root.family]
    job.claimed = 80
    job.bracket()
    assert job.model.families_to_read() == []


# -- the budget ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wide", "early", "gained"), [(False, False, 5), (True, False, 20), (False, True, 50), (True, True, 50)]
)
def test_budget_fills_with_time(wide: bool, early: bool, gained: int) -> None:
    budget = PssBudget(0)
    budget.credit_ns = 0
    budget.fill(1000 * MS, 10, wide=wide, early=early)
    assert budget.credit_ns == gained * MS


def test_budget_is_capped() -> None:
    budget = PssBudget(0)
    budget.fill(10**15, 10, wide=False)
    assert budget.credit_ns == BURST_NS
    budget.fill(2 * 10**15, 1000, wide=False)
    assert budget.credit_ns == 150 * MS


def test_budget_known_cost_must_fit() -> None:
    job = MemoryJob()
    family = family_of(pool(job)[0])
    budget = PssBudget(0)
    assert budget.allows(family)  # first reading
    budget.spend(family, 48 * MS)
    assert not budget.allows(family)
    budget.fill(10_000 * MS, 3, wide=False)
    assert budget.allows(family)


def test_budget_unknown_cost_is_estimated() -> None:
    job = MemoryJob()
    family = family_of(pool(job)[0])
    budget = PssBudget(0)
    budget.credit_ns = 3 * 60_000 + 3 * 108 * 10_000
    assert budget.allows(family)
    budget.credit_ns -= 1
    assert not budget.allows(family)
