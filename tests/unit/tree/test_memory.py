"""The memory bracket rule by rule, on hand-made readings in MiB."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_job import FILE, MIB, MemoryJob
from proctally.linux.memory_levels import MemoryLevels
from proctally.linux.proc_memory import HIDDEN_PROGRAM, Rollup
from proctally.tree.memory import PROCESS_BYTES, THREAD_BYTES, MemoryModel
from proctally.tree.memory_pss import snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.tree.memory_families import ProcessMemory

# -- families (rule 2) ---------------------------------------------------------------------------------------------


def test_family_of_one_is_exact() -> None:
    job = MemoryJob()
    first, second = job.start(anon=100), job.start(anon=30)
    assert job.scan() == (130, 130)
    job.read(first, anon=250, faults=900)
    job.read(second, anon=10)
    assert job.scan() == (260, 260)


def test_family_exec_leaves_family() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    job.scan()
    child = job.fork(root)
    assert job.scan() == (100, 100)
    job.execute(child, anon=7)
    assert job.scan() == (107, 107)
    assert len(job.model.families) == 2


def test_family_hidden_programs_are_one() -> None:
    job = MemoryJob()
    job.start(anon=40, program=HIDDEN_PROGRAM)
    job.start(anon=60, program=HIDDEN_PROGRAM)
    assert job.scan() == (60, 100)


def test_family_last_member_leaves_nothing() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    job.scan()
    job.model.leave(root)
    assert job.scan() == (0, 0)
    assert not job.model.families and not job.model.members


def deep_chain(job: MemoryJob) -> list[ProcessMemory]:
    chain = [job.start(anon=1)]
    for _ in range(sys.getrecursionlimit()):
        chain.append(job.fork(chain[-1]))
        job.scan()
    return chain


def test_family_chain_deeper_than_stack_is_left() -> None:
    job = MemoryJob()
    for process in deep_chain(job):
        job.model.leave(process)
    assert not job.model.families and not job.model.members


def test_family_chain_deeper_than_stack_loses_its_head() -> None:
    job = MemoryJob()
    chain = deep_chain(job)
    job.scan()
    for process in chain[1:-1]:
        job.model.leave(process)
    job.execute(chain[0], anon=3)
    assert job.scan() == (4, 4)


# -- fork (rule 4) -------------------------------------------------------------------------------------------------


def test_fork_copies_no_page() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    workers = [job.fork(root, faults=1) for _ in range(4)]
    assert job.scan() == (100, 112)  # the root's file pages are faults too
    for worker in workers:
        job.read(worker, faults=50)
    low, high = job.scan()
    assert low == 100
    assert high == 108 + 200


def test_fork_growth_of_child_is_its_own() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    job.scan()
    job.fork(root, anon=160, faults=60)
    assert job.scan() == (160, 160)


def test_fork_inherits_what_no_reading_of_parent_showed() -> None:
    """It had 500 MiB for a moment, forked twice, and maps a file by now: its mark does not tell the two apart."""
    job = MemoryJob()
    root = job.start(anon=100)
    job.scan()
    for _ in range(2):
        job.fork(root, anon=500, faults=1)
    job.read(root, anon=100, faults=508, file=450, peak=560)
    low, high = job.scan()
    assert low == 500  # the two hold the same 500
    assert high >= 502


def test_fork_copies_of_parent_are_bounded_by_its_faults() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    job.scan()
    job.fork(root)
    job.read(root, faults=108 + 80)  # RssAnon does not move while it copies
    assert job.scan() == (100, 180)


def test_fork_child_that_forks_can_hand_on_what_it_made() -> None:
    job = MemoryJob()
    root = job.start(anon=0)
    job.scan()
    child = job.fork(root, anon=100, faults=100)
    job.fork(child)
    job.read(child, faults=200)  # it copied all that it made, and its child holds the originals
    assert job.scan() == (100, 200)


def test_fork_orphan_counts_whole() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    job.scan()
    job.orphan(root, anon=70)
    assert job.scan() == (100, 170)


def test_fork_mark_of_parent_limits_what_child_must_own() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    job.scan()
    job.read(root, anon=10, peak=300)  # it was larger in between: at a fork, perhaps
    job.fork(root, anon=290, faults=0)
    low, high = job.scan()
    assert low == 290
    assert high >= 290


def test_fork_after_reading_of_parent_is_not_counted_twice() -> None:
    job = MemoryJob()
    root = job.start(anon=5)
    job.scan()
    job.fork(root, anon=300)  # the parent grew after it was read, and forked
    job.scan()
    job.read(root, anon=300, faults=400)
    low, _ = job.scan()
    assert low == 300


def test_fork_exited_parent_keeps_children_bounded() -> None:
    job = MemoryJob()
    root = job.start(anon=5)
    job.scan()
    middle = job.fork(root, anon=105, faults=100)
    children = [job.fork(middle, faults=1) for _ in range(4)]
    job.read(middle)
    job.scan()
    job.model.leave(middle)
    assert job.scan() == (105, 109 + 8 - FILE)
    for child in children:
        job.model.leave(child)
    assert job.scan() == (5, 5)


def test_fork_child_of_exited_parent_is_whole_if_parent_was_not_read_after() -> None:
    job = MemoryJob()
    root = job.start(anon=5)
    job.scan()
    middle = job.fork(root, anon=5)
    job.scan()
    job.fork(middle, anon=105)
    job.model.leave(middle)
    assert job.scan() == (105, 110)


def test_fork_exited_child_is_not_confirmed() -> None:
    job = MemoryJob()
    root = job.start(anon=0)
    job.scan()
    child = job.fork(root, anon=100, faults=100)
    grandchild = job.fork(child)
    job.read(child)
    job.scan()
    job.model.leave(child)
    job.read(root, anon=10, faults=10)
    job.read(grandchild, anon=20)
    assert job.scan() == (20, 30)


def test_fork_exec_of_ancestor_frees_descendants_of_exited_child() -> None:
    job = MemoryJob()
    root = job.start(anon=0)
    job.scan()
    middle = job.fork(root, anon=100, faults=100)
    child = job.fork(middle)
    job.fork(child)
    job.read(child)
    job.scan()
    job.model.leave(child)
    job.execute(middle, anon=0)  # the grandchild holds what it made
    job.read(root, anon=50, faults=50)
    assert job.scan() == (100, 150)


def test_fork_unknown_head_can_hold_more_than_its_faults() -> None:
    job = MemoryJob()
    head = job.model.enter(70, 1, b"job", b"unknown", None)
    job.read(head, anon=100, faults=100)  # it was forked, released what it had, and filled 100
    job.fork(head)
    job.read(head, faults=150)
    assert job.scan() == (100, 200)


@pytest.mark.parametrize(("known", "high"), [(True, 150), (False, 200)])
def test_fork_program_unlike_that_of_parent_was_executed(known: bool, high: int) -> None:
    job = MemoryJob()
    shell = job.start(anon=0, faults=0)
    if known:
        job.scan()
    head = job.model.enter(70, 1, b"job", b"other", shell)
    job.read(head, anon=100, faults=100)
    job.fork(head)
    job.read(head, faults=150)
    assert job.scan() == (100, high)


# -- huge pages ----------------------------------------------------------------------------------------------------


def test_huge_pages_widen_by_their_rise() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    job.scan()
    child = job.fork(root, faults=1)
    assert job.scan() == (100, 101)
    job.levels.anon_huge = 30 * MIB
    job.read(child, faults=2)
    assert job.scan() == (100, 132)


def test_huge_pages_count_once_for_all_families() -> None:
    job = MemoryJob()
    families = []
    for _ in range(2):
        root = job.start(anon=100, faults=100)
        families.append(root.family)
        job.scan()
        job.fork(root, faults=1)
    alone = job.start(anon=500)
    job.levels.anon_huge = 30 * MIB
    assert job.scan() == (700, 702 + 30)
    assert [family.high / MIB for family in families if family is not None] == [131, 131]
    job.model.leave(alone)
    assert job.scan() == (200, 202 + 30)


def test_huge_pages_of_others_at_start_do_not_count() -> None:
    model = MemoryModel(0, start=MemoryLevels(0, 0, 500 * MIB))
    model.bracket(0, MemoryLevels(0, 0, 500 * MIB))
    assert model.huge == 0
    model.bracket(0, MemoryLevels(0, 0, 300 * MIB))
    model.bracket(0, MemoryLevels(0, 0, 350 * MIB))
    assert model.huge == 50 * MIB


# -- what is being released ----------------------------------------------------------------------------------------


def test_fading_counts_in_high_alone() -> None:
    job = MemoryJob()
    job.start(anon=50)
    leaving = job.start(anon=100)
    job.scan()
    job.model.fade(leaving)
    assert job.scan() == (50, 150)
    job.model.fade(leaving)
    job.model.leave(leaving)
    assert job.scan() == (50, 50)


def test_fading_children_share_once() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    children = [job.fork(root, faults=1) for _ in range(5)]
    job.scan()
    for child in children:
        job.model.fade(child)
    assert job.scan() == (100, 108 + 5)  # what the root faulted in, and each child
    job.model.leave(children[0])
    assert job.scan() == (100, 108 + 5)
    for child in children[1:]:
        job.model.leave(child)
    assert job.scan() == (100, 100)


def test_fading_counts_whole_where_nobody_else_holds_its_memory() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    child = job.fork(root, faults=1)
    job.scan()
    job.read(root, anon=10)
    job.scan()
    job.model.fade(child)
    assert job.scan() == (10, 108 + 1)
    second = job.fork(root, faults=2)
    job.scan()
    job.model.fade(second)
    low, high = job.scan()
    assert (low, high) == (10, 108 + 1 + 2)
    job.model.leave(child)
    job.model.leave(second)
    assert job.scan() == (10, 10)


# -- separate figures (rule 8) -------------------------------------------------------------------------------------


def test_kernel_memory_is_tables_threads_and_processes() -> None:
    job = MemoryJob()
    root = job.start(anon=1)
    job.read(root, tables=3, threads=5)
    assert job.bracket().kernel == 3 * MIB + 5 * THREAD_BYTES + PROCESS_BYTES
    job.model.leave(root)
    assert job.bracket().kernel == 0


def test_swap_is_a_sum() -> None:
    job = MemoryJob()
    for swap in (10, 20):
        job.read(job.start(anon=1), swap=swap)
    assert job.bracket().swap == 30 * MIB


def test_swap_of_a_family_leaves_valid_bounds() -> None:
    """Both processes lose 60 shared MiB to swap, and the child brings 10 back as copies of its own."""
    job = MemoryJob()
    root = job.start(anon=100)
    child = job.fork(root)
    job.scan()
    job.read_pss(root, {root: 50, child: 50})
    job.read(root, anon=40, swap=60)
    job.read(child, anon=40, swap=60)
    low, high = job.scan()
    assert low <= 40 <= high
    job.read(child, anon=50, swap=50, faults=10)
    low, high = job.scan()
    assert low <= 50 <= high
    assert job.bracket().swap == 110 * MIB


def test_mapped_files_are_largest_family_of_each_command() -> None:
    job = MemoryJob()
    for command, file in ((b"cc1", 30), (b"cc1", 40), (b"make", 5)):
        job.read(job.start(anon=1, command=command), file=file)
    assert job.bracket().mapped_file == 45 * MIB


def test_mapped_files_follow_exit() -> None:
    job = MemoryJob()
    job.read(job.start(anon=1), file=10)
    large = job.read(job.start(anon=1), file=40)
    assert job.bracket().mapped_file == 40 * MIB
    job.model.leave(large)
    assert job.bracket().mapped_file == 10 * MIB


def test_mapped_files_use_pss_of_whole_family() -> None:
    job = MemoryJob()
    root = job.start(anon=1)
    child = job.fork(root)
    for process in (root, child):
        job.read(process, file=30)
    job.scan()
    assert root.family is not None
    readings = {process: (process.faults, Rollup(MIB // 2, 25 * MIB, 0, MIB)) for process in (root, child)}
    job.model.take(root.family, snapshot(root.family), readings)
    assert job.bracket().mapped_file == 50 * MIB


def test_hugetlb_is_largest_to_sum_until_read() -> None:
    job = MemoryJob()
    root = job.start(anon=1)
    child = job.fork(root)
    for process in (root, child):
        job.read(process, hugetlb=32)
    bracket = job.bracket()
    assert (bracket.hugetlb_low, bracket.hugetlb_high) == (32 * MIB, 64 * MIB)
    assert bracket.low == bracket.anon_low + 32 * MIB
    assert root.family is not None
    readings = {process: (process.faults, Rollup(MIB // 2, 0, 0, MIB, 24 * MIB, 8 * MIB)) for process in (root, child)}
    job.model.take(root.family, snapshot(root.family), readings)
    bracket = job.bracket()
    assert (bracket.hugetlb_low, bracket.hugetlb_high) == (56 * MIB, 56 * MIB)


def test_hugetlb_of_two_programs_can_be_the_same() -> None:
    """A database executes each of its processes, and all of them map one segment of huge pages."""
    job = MemoryJob()
    for _ in range(3):
        job.read(job.start(anon=1), hugetlb=1024)
    bracket = job.bracket()
    assert (bracket.hugetlb_low, bracket.hugetlb_high) == (1024 * MIB, 3072 * MIB)
    assert bracket.low == bracket.anon_low + 1024 * MIB


# -- a cgroup of the run -------------------------------------------------------------------------------------------


def test_run_cgroup_is_exact() -> None:
    job = MemoryJob(run_cgroup=True)
    root = job.start(anon=100)
    job.fork(root)
    job.levels = MemoryLevels(130 * MIB, 7 * MIB)
    bracket = job.bracket()
    assert (bracket.low, bracket.high, bracket.source) == (137 * MIB, 137 * MIB, "cgroup")
    job.model.run_cgroup = False
    assert job.bracket().source == "processes"


def test_run_cgroup_scan_is_bounded_by_its_ends() -> None:
    job = MemoryJob(run_cgroup=True)
    job.levels = MemoryLevels(130 * MIB, 0)
    job.anon_before = 100 * MIB
    bracket = job.bracket()
    assert (bracket.low, bracket.high) == (100 * MIB, 130 * MIB)


SLACK = 4 * MIB
LAGGING = {  # level -> low, high, with one process that has 100 MiB
    0: (4, 4),
    98: (100, 100),
    100: (100, 100),
    102: (100, 102),
    130: (126, 130),
}


@pytest.mark.parametrize("level", LAGGING)
def test_run_cgroup_whose_level_lags(level: int) -> None:
    job = MemoryJob(run_cgroup=True)
    job.model.surroundings.slack = SLACK
    job.start(anon=100)
    job.levels = MemoryLevels(level * MIB, 0)
    job.anon_before = level * MIB
    bracket = job.bracket()
    assert (bracket.low, bracket.high) == tuple(bound * MIB for bound in LAGGING[level])


def test_run_cgroup_that_lags_behind_a_wide_family() -> None:
    job = MemoryJob(run_cgroup=True)
    job.model.surroundings.slack = SLACK
    job.fork(job.start(anon=100), faults=50)
    job.levels = MemoryLevels(110 * MIB, 0)
    job.anon_before = 110 * MIB
    bracket = job.bracket()
    assert (bracket.low, bracket.high) == (110 * MIB, 114 * MIB)


def test_levels_missing_leave_families() -> None:
    job = MemoryJob()
    root = job.start(anon=10)
    job.read(root, shmem=5)
    bracket = job.model.bracket(0, None)
    assert (bracket.low, bracket.high, bracket.source) == (15 * MIB, 15 * MIB, "processes")


# -- properties ----------------------------------------------------------------------------------------------------

SIZE = st.integers(0, 400)
STEP = st.tuples(
    st.sampled_from(["start", "fork", "orphan", "read", "read", "read", "execute", "leave", "fade", "pss", "scan"]),
    st.integers(0, 9),
    SIZE,
    SIZE,
)


def take_step(job: MemoryJob, step: tuple[str, int, int, int]) -> None:
    """Pass on one reading, whether it makes sense or not."""
    action, which, size, faults = step
    if action == "start":
        job.start(anon=size, faults=faults)
    elif action == "scan":
        job.levels = MemoryLevels(faults * MIB, size * MIB, which * MIB)
        job.scan()
    members = list(job.model.members.values())
    if not members:
        return
    process = members[which % len(members)]
    if action == "fork":
        job.fork(process, anon=size, faults=faults)
    elif action == "orphan":
        job.orphan(process, anon=size)
    elif action == "read":
        job.read(process, anon=size, faults=faults, shmem=which, peak=faults, hugetlb=which % 2)
    elif action == "execute":
        job.execute(process, anon=size)
    elif action == "leave":
        job.model.leave(process)
    elif action == "fade":
        job.model.fade(process)
    elif action == "pss" and process.family is not None:
        job.read_pss(process, {member: member.anon / MIB / (which + 1) for member in process.family.members})


@given(st.lists(STEP, max_size=40), st.booleans(), st.booleans())
def test_memory_any_readings_give_ordered_bounds(
    steps: list[tuple[str, int, int, int]], neighbours: bool, attached: bool
) -> None:
    job = MemoryJob(neighbours=neighbours, attached=attached)
    for step in steps:
        take_step(job, step)
        if step[0] != "scan":
            continue
        bracket = job.model.last
        assert bracket is not None
        assert 0 <= bracket.low <= bracket.high
        assert 0 <= bracket.anon_low <= bracket.anon_high
        assert 0 <= bracket.shmem_low <= bracket.shmem_high
        assert 0 <= bracket.hugetlb_low <= bracket.hugetlb_high
        assert min(bracket.mapped_file, bracket.kernel, bracket.swap, bracket.unclaimed_shmem) >= 0
        assert job.model.peaks.low <= job.model.peaks.high
        assert job.model.peaks.low >= bracket.low


@given(st.lists(STEP, max_size=40))
def test_memory_unchanged_readings_leave_bracket(steps: list[tuple[str, int, int, int]]) -> None:
    job = MemoryJob()
    for step in steps:
        take_step(job, step)
    job.bracket()
    bracket = job.bracket()
    job.model.settle(1.0)
    for process in job.model.members.values():
        family = process.family
        assert family is not None
        job.model.update(process, family.program, process.sizes, process.faults, 1)
    again = job.bracket()
    assert (again.anon_low, again.anon_high) == (bracket.anon_low, bracket.anon_high)
    assert (again.low, again.high, again.mapped_file) == (bracket.low, bracket.high, bracket.mapped_file)


@given(st.lists(STEP, max_size=40))
def test_memory_sums_are_those_of_members(steps: list[tuple[str, int, int, int]]) -> None:
    job = MemoryJob()
    for step in steps:
        take_step(job, step)
    bracket = job.bracket()
    families = job.model.families.values()
    for family in families:
        assert family.anon == sum(process.anon for process in family.members)
        assert family.own_low == sum(process.own_low for process in family.members)
        assert set(family.heads) >= {process for process in family.members if process.parent is None}
    assert bracket.kernel == sum(process.kernel for process in job.model.members.values())
    assert bracket.hugetlb_high <= sum(process.hugetlb for process in job.model.members.values())
    assert bracket.anon_low == sum(family.low for family in families)
    small = sum(family.high_small for family in families) + job.model.huge
    fading = job.model._fading.most()
    assert bracket.anon_high == min(sum(family.high for family in families), small) + fading


@given(st.lists(st.tuples(SIZE, SIZE), min_size=1, max_size=8), st.integers(0, 1))
def test_memory_families_of_one_are_exact(readings: list[tuple[int, int]], huge: int) -> None:
    job = MemoryJob()
    root = job.start(anon=3)
    job.levels.anon_huge = huge * MIB
    for anon, faults in readings:
        job.read(root, anon=anon, faults=faults)
        assert job.scan() == (anon, anon)


@pytest.mark.parametrize("order", [1, -1])
def test_memory_order_of_members_does_not_matter(order: int) -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    job.scan()
    workers = [job.fork(root, faults=1) for _ in range(3)]
    for worker in workers[::order]:
        job.read(worker, faults=10)
    assert job.scan() == (100, 130)
