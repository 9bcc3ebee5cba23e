"""Bounds by the surroundings: anonymous memory with neighbours, shared memory with proofs. MiB."""

from __future__ import annotations

import pytest

from memory_job import MIB, MemoryJob
from proctally.linux.memory_levels import MemoryLevels
from proctally.linux.proc_memory import Rollup
from proctally.tree.memory_peaks import PROCESSES, SURROUNDINGS
from proctally.tree.memory_pss import snapshot
from proctally.tree.memory_surroundings import MAX_NEIGHBOURS, SLACK_BYTES, Surroundings, filled

NEIGHBOUR = (7, 1)


def copying_pool(job: MemoryJob) -> None:
    """A family whose own bounds are [100, 200]: the parent and a child that took 100 MiB of faults."""
    root = job.start(anon=100)
    job.scan()
    job.fork(root, faults=100)


# -- anonymous memory (rule 3) -------------------------------------------------------------------------------------


def test_surroundings_bound_what_family_hides() -> None:
    job = MemoryJob(neighbours=True)
    job.levels.anon = 1100 * MIB
    copying_pool(job)
    job.levels.anon = 1160 * MIB
    assert job.scan() == (160, 160)
    assert job.model.last is not None and job.model.last.source == SURROUNDINGS


def test_surroundings_never_prove_more_than_the_families_can_hold() -> None:
    """What a neighbour gained and no reading of it shows, such as huge pages that it filled again."""
    job = MemoryJob(neighbours=True)
    job.levels.anon = 1100 * MIB
    copying_pool(job)
    job.levels.anon = 1500 * MIB
    assert job.scan() == (200, 200)


def test_surroundings_bound_what_a_blurred_scan_misses() -> None:
    """Processes that started or grew after their turn are in the level, and in no size."""
    job = MemoryJob(neighbours=True)
    job.levels.anon = 1100 * MIB
    copying_pool(job)
    job.model.surroundings.is_blurred = True
    job.levels.anon = 1500 * MIB
    assert job.scan() == (200, 500)
    job.levels.anon = 1050 * MIB
    low, high = job.scan()
    assert low <= 100 <= high, "some ended after their turn"
    job.model.surroundings.is_blurred = False
    job.levels.anon = 1160 * MIB
    assert job.scan() == (160, 160), "it set no anchor"


def test_surroundings_neighbour_that_fell_widens_high() -> None:
    job = MemoryJob(neighbours=True)
    job.others = {NEIGHBOUR: (50 * MIB, 50 * MIB)}
    job.levels.anon = 1100 * MIB
    copying_pool(job)
    job.others = {NEIGHBOUR: (20 * MIB, 50 * MIB)}
    job.levels.anon = 1130 * MIB
    assert job.scan() == (130, 160)


@pytest.mark.parametrize(
    ("reading", "low"),
    [((70, 70), 140), ((50, 70), 140), ((50, 50), 160)],
    ids=["growth", "copies", "unchanged"],
)
def test_surroundings_neighbour_that_rose_widens_low(reading: tuple[int, int], low: int) -> None:
    job = MemoryJob(neighbours=True)
    job.others = {NEIGHBOUR: (50 * MIB, 50 * MIB)}
    job.levels.anon = 1100 * MIB
    copying_pool(job)
    job.others = {NEIGHBOUR: (reading[0] * MIB, reading[1] * MIB)}
    job.levels.anon = 1160 * MIB
    assert job.scan() == (low, 160)


def test_surroundings_new_neighbour_can_have_taken_all_it_has() -> None:
    job = MemoryJob(neighbours=True)
    job.levels.anon = 1100 * MIB
    copying_pool(job)
    job.others = {NEIGHBOUR: (30 * MIB, 0)}
    job.levels.anon = 1160 * MIB
    assert job.scan() == (130, 160)


def test_surroundings_members_are_no_neighbours() -> None:
    job = MemoryJob(neighbours=True)
    job.levels.anon = 1100 * MIB
    root = job.start(anon=100)
    job.others = {(root.pid, root.start): (100 * MIB, 100 * MIB)}
    job.scan()
    assert (job.model.surroundings.rose, job.model.surroundings.fell) == (0, 0)


def test_surroundings_level_that_moves_during_scan_blurs_anchor() -> None:
    surroundings = Surroundings(0)
    surroundings.update({}, [], False)
    surroundings.start(0, 40 * MIB)
    assert surroundings.narrow(0, 900 * MIB, 100 * MIB, 100 * MIB) == (60 * MIB, 100 * MIB)
    surroundings.start(0, 0)
    assert surroundings.narrow(0, 900 * MIB, 90 * MIB, 130 * MIB) == (90 * MIB, 130 * MIB)


def test_surroundings_hold_at_least_the_tree() -> None:
    job = MemoryJob(neighbours=True)
    job.start(anon=100)
    job.levels.anon = 60 * MIB
    assert job.scan() == (60, 60)


def test_surroundings_late_scan_is_no_anchor() -> None:
    job = MemoryJob(neighbours=True, attached=True)
    job.model.surroundings._anchor = job.model.surroundings._start = None
    root = job.start(anon=100)
    job.model.surroundings.is_blurred = True
    job.levels.anon = 1100 * MIB  # 50 of them are of a child that is not read yet
    job.scan()
    job.model.surroundings.is_blurred = False
    child = job.fork(root, faults=50)
    assert job.scan()[1] >= 150
    assert child.living


def test_surroundings_hidden_leave_families() -> None:
    job = MemoryJob(neighbours=True)
    job.levels.anon = 1100 * MIB
    copying_pool(job)
    job.others = None
    job.levels.anon = 1160 * MIB
    assert job.scan() == (100, 200)
    assert job.model.last is not None and job.model.last.source == PROCESSES
    job.others = {}
    assert job.scan() == (100, 200)  # visible again, with nothing to count from
    job.levels.anon = 1170 * MIB
    assert job.scan() == (110, 200)


def test_surroundings_too_many_neighbours_are_off() -> None:
    surroundings = Surroundings(2)
    surroundings.update({(pid, 1): (1, 1) for pid in range(MAX_NEIGHBOURS)}, [], False)
    assert surroundings.visible
    surroundings.update({(pid, 1): (1, 1) for pid in range(MAX_NEIGHBOURS + 1)}, [], False)
    assert not surroundings.visible


def test_surroundings_counters_lag_by_cpu() -> None:
    surroundings = Surroundings(4)
    surroundings.update({}, [], False)
    surroundings.start(0, 0)
    assert surroundings.narrow(0, 900 * MIB, 500 * MIB, 500 * MIB) == (
        500 * MIB - 4 * SLACK_BYTES,
        500 * MIB + 4 * SLACK_BYTES,
    )


def test_surroundings_better_anchor_replaces_worse() -> None:
    surroundings = Surroundings(0)
    surroundings.update({NEIGHBOUR: (0, 0)}, [], False)
    surroundings.start(0, 0)
    surroundings.update({NEIGHBOUR: (0, 400 * MIB)}, [], False)  # its faults hide 400 MiB
    assert surroundings.narrow(90 * MIB, 110 * MIB, 500 * MIB, 500 * MIB) == (90 * MIB, 110 * MIB)
    assert surroundings.narrow(0, 900 * MIB, 550 * MIB, 550 * MIB) == (140 * MIB, 160 * MIB)


def test_filled_huge_pages_count_growth_and_faults() -> None:
    assert filled(30, 50, False) == 50
    assert filled(30, 50, True) == 80
    assert filled(30, -50, True) == 30


# -- shared memory (rule 6) ----------------------------------------------------------------------------------------


def shared(job: MemoryJob) -> tuple[float, float]:
    bracket = job.bracket()
    return bracket.shmem_low / MIB, bracket.shmem_high / MIB


def test_shmem_mapped_by_many_counts_once() -> None:
    job = MemoryJob()
    root = job.start(anon=1)
    for process in (root, job.fork(root), job.fork(root)):
        job.read(process, shmem=64)
    job.levels.shmem = 64 * MIB
    assert shared(job) == (64, 64)


def test_shmem_without_mapper_is_unclaimed() -> None:
    job = MemoryJob()
    job.start(anon=1)
    job.levels.shmem = 200 * MIB
    assert shared(job) == (0, 200)
    assert job.bracket().unclaimed_shmem == 200 * MIB


def test_shmem_claim_is_proof() -> None:
    job = MemoryJob()
    job.levels.shmem = 200 * MIB
    job.claimed = 150
    assert shared(job) == (150, 200)
    job.claimed = 900  # more than there is: made before, charged elsewhere
    assert shared(job) == (200, 200)


def test_shmem_fall_below_proof_is_fall_of_others() -> None:
    job = MemoryJob()
    job.claimed = 100
    job.levels.shmem = 100 * MIB
    assert shared(job) == (100, 100)
    job.levels = MemoryLevels(0, 100 * MIB)
    job.model.shared.start = 30 * MIB  # another program had 30 MiB, and freed them
    assert shared(job) == (100, 100)
    job.levels.shmem = 110 * MIB
    assert shared(job) == (100, 110)


def test_shmem_pss_of_one_family_adds_up() -> None:
    job = MemoryJob()
    root = job.start(anon=1)
    child = job.fork(root)
    for process in (root, child):
        job.read(process, shmem=40)
    job.levels.shmem = 100 * MIB
    assert shared(job) == (40, 100)
    assert root.family is not None
    readings = {process: (process.faults, Rollup(MIB, 0, 35 * MIB, MIB)) for process in (root, child)}
    job.model.take(root.family, snapshot(root.family), readings)
    assert shared(job) == (70, 100)
    job.read(child, shmem=10)
    assert shared(job) == (40, 100)
    job.model.leave(child)
    assert shared(job) == (40, 100)


def test_shmem_pss_of_part_of_family_is_no_sum() -> None:
    job = MemoryJob()
    root = job.start(anon=1)
    members = [root, job.fork(root), job.fork(root)]
    for process in members:
        job.read(process, shmem=40)
    job.levels.shmem = 100 * MIB
    assert root.family is not None
    readings = {process: (process.faults, Rollup(MIB, 0, 35 * MIB, MIB)) for process in members[:2]}
    job.model.take(root.family, snapshot(root.family), readings)
    assert shared(job) == (40, 100)


def test_shmem_pss_of_mappers_that_grow_is_no_sum() -> None:
    """Each page counts whole where one process maps it, and then by half."""
    job = MemoryJob()
    root = job.start(anon=1)
    child = job.fork(root)
    job.read(root, shmem=40)
    job.read(child, shmem=10)
    job.levels.shmem = 100 * MIB
    assert root.family is not None
    first = snapshot(root.family)
    job.read(child, shmem=40)
    readings = {
        process: (process.faults, Rollup(MIB, 0, size * MIB, MIB)) for process, size in ((root, 40), (child, 20))
    }
    job.model.take(root.family, first, readings)
    assert shared(job) == (40, 100)


def test_shmem_is_at_most_the_level() -> None:
    job = MemoryJob()
    job.read(job.start(anon=1), shmem=40)
    job.levels.shmem = 30 * MIB
    assert shared(job) == (30, 30)
    job.levels.shmem = 40 * MIB
    assert shared(job) == (40, 40)


def test_shmem_of_exited_process_is_not_proved() -> None:
    job = MemoryJob()
    process = job.read(job.start(anon=1), shmem=40)
    job.levels.shmem = 40 * MIB
    assert shared(job) == (40, 40)
    job.model.leave(process)
    assert shared(job) == (0, 40)


def test_shmem_of_attached_tree_starts_at_what_it_maps() -> None:
    job = MemoryJob(attached=True)
    for _ in range(2):
        job.read(job.start(anon=1), shmem=30)
    job.levels.shmem = 500 * MIB
    assert shared(job) == (30, 60)
    job.levels.shmem = 520 * MIB
    assert shared(job) == (30, 80)


def test_shmem_released_mapping_is_forgotten() -> None:
    job = MemoryJob()
    process = job.read(job.start(anon=1), shmem=30)
    job.levels.shmem = 30 * MIB
    assert shared(job) == (30, 30)
    job.read(process, shmem=0)
    assert shared(job) == (0, 30)
    assert not job.model.shared.mapping
