"""Peaks, spikes between scans, parts of the peak and gaps, on hand-made readings in MiB."""

from __future__ import annotations

from memory_job import FILE, MIB, MemoryJob
from proctally.tree.memory_peaks import Peaks, gaps


def peak(job: MemoryJob) -> tuple[float, float]:
    return job.model.peaks.low / MIB, job.model.peaks.high / MIB


def entries(job: MemoryJob) -> list[tuple[str, float, float]]:
    candidate = job.model.peaks.candidate
    assert candidate is not None
    return [(entry.kind, entry.low / MIB, entry.high / MIB) for entry in candidate.parts()]


def found(job: MemoryJob) -> dict[str, float | None]:
    return {code: None if size is None else size / MIB for code, _, size in gaps(job.model.peaks)}


# -- memory that is made and released again ----------------------------------------------------------------------------


def test_memory_that_members_made_again_below_their_marks_is_in_the_peak() -> None:
    """Each of two workers had 30 MiB more once; it can have held that again, as far as its faults go."""
    job = MemoryJob()
    workers = [job.start(anon=100, command=b"worker") for _ in range(2)]
    job.scan()
    for worker in workers:
        job.read(worker, anon=100, faults=140, peak=100 + FILE + 30)
    job.scan()
    assert peak(job)[1] == 260, "the marks rose"
    for faults in (160, 250):
        high = peak(job)[1]
        for worker in workers:
            job.read(worker, anon=130, faults=faults, peak=100 + FILE + 30)
        job.scan()
        assert peak(job)[1] == high == 260, "they hold it now"
    other = job.start(anon=50)
    job.scan()
    assert peak(job) == (310, 310)
    job.read(other, anon=50, faults=60)
    for worker, faults in zip(workers, (270, 300), strict=True):
        job.read(worker, anon=100, faults=faults)
    job.scan()
    assert peak(job) == (310, 310)
    job.start(anon=100)
    for worker, faults in zip(workers, (280, 400), strict=True):
        job.read(worker, anon=100, faults=faults)
    job.scan()
    assert peak(job) == (350, 350 + 10 + 30), "10 of faults, and no more than up to the mark"
    assert found(job) == {"spike_between_samples": 40}
    assert job.model.peaks.refilled == 40 * MIB


def test_copies_for_a_member_that_left_are_in_the_peak() -> None:
    """A server saves by a fork: it copies what it writes to, and the copies show in no size once the fork is gone."""
    job = MemoryJob()
    root = job.start(anon=100)
    job.scan()
    child = job.fork(root)
    job.read(root)
    job.scan()
    job.read(root, faults=100 + FILE + 20)
    job.scan()
    assert peak(job) == (100, 120)
    job.read(root, faults=100 + FILE + 60)
    job.model.leave(child)
    assert job.scan(exiting=0) == (100, 100)
    assert peak(job) == (100, 160)
    job.read(root, faults=100 + FILE + 300)
    job.scan()
    assert peak(job) == (100, 160), "nothing is shared"


def test_member_that_leaves_can_have_grown_to_its_mark() -> None:
    job = MemoryJob()
    worker, other = job.start(anon=100), job.start(anon=10)
    for _ in range(4):
        job.scan()
    job.read(worker, anon=100, faults=140, peak=100 + FILE + 30)
    job.read(other, anon=40)
    job.scan()
    assert peak(job)[1] == 170
    job.read(other, anon=60)
    job.scan()
    job.model.leave(worker)
    job.scan(unseen=25, exiting=20)
    assert peak(job)[1] == 160 + 20 + 5


# -- memory that no scan sees ------------------------------------------------------------------------------------------


def test_faults_of_parents_can_be_of_unseen_children() -> None:
    job = MemoryJob()
    root, child = job.start(anon=100), job.start(anon=10)
    for _ in range(4):
        job.scan()
    job.model.leave(child)
    job.scan(unseen=30, exiting=0, of_parents=30, lived=(2, 1))
    assert root.living and peak(job) == (110, 140)


def test_unseen_of_members_that_left_is_in_the_peak() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    workers = [job.fork(root, faults=5) for _ in range(3)]
    assert job.scan() == (100, 108 + 15)
    for worker in workers:
        job.model.leave(worker)
    assert job.scan(unseen=20) == (100, 100)
    assert peak(job) == (100, 108 + 15 + 20)
    assert found(job) == {"pss_stale": 23, "spike_between_samples": 20, "surroundings_hidden": 23}


def test_unseen_of_processes_that_no_scan_met_is_in_the_peak() -> None:
    job = MemoryJob()
    job.start(anon=10)
    job.scan()
    job.scan(unseen=50)
    assert peak(job) == (10, 60)
    job.scan(unseen=70)
    assert peak(job) == (10, 60), "20 more were made in this interval"
    job.scan(unseen=130)
    assert peak(job) == (10, 70)


def test_unseen_is_bounded_by_how_many_lived_at_once() -> None:
    job = MemoryJob()
    root = job.start(anon=10)
    job.scan(lived=(1, 1))
    job.scan(unseen=500, lived=(3, 100))  # two beside the root, of 5 each in the mean
    assert peak(job) == (10, 10 + 2 * 2 * 5)
    job.read(root, anon=200, faults=700)
    job.scan(unseen=503, lived=(5, 1))
    assert peak(job) == (200, 203), "four lived at once, and all of them made 3"


def test_unseen_is_as_large_as_what_a_scan_met_of_short_life() -> None:
    job = MemoryJob()
    job.start(anon=10)
    met = job.start(anon=40)
    job.scan(lived=(2, 1))
    job.model.leave(met)
    job.scan(exiting=0, lived=(2, 0))
    job.scan(unseen=500, lived=(3, 100))  # two beside the root
    assert peak(job) == (50, 10 + 2 * 40)


def test_nothing_is_unseen_where_only_members_lived() -> None:
    job = MemoryJob()
    job.start(anon=10)
    job.scan(lived=(1, 1))
    job.scan(unseen=50, lived=(1, 0))
    assert peak(job) == (10, 10)


def test_unseen_faults_that_made_shared_memory_count_once() -> None:
    """A process writes 30 MiB of shared memory, and exits; its faults show in that scan or in the next."""
    for delay in (0, 1, 2):
        job = MemoryJob()
        job.start(anon=10)
        job.scan()
        job.levels.shmem = 30 * MIB
        for _ in range(delay):
            job.scan()
        job.scan(unseen=34)
        assert peak(job) == (10, 10 + 30 + (4 if delay < 2 else 34))


def test_shared_memory_of_members_explains_no_unseen_faults() -> None:
    job = MemoryJob()
    root = job.start(anon=10)
    job.scan()
    job.levels.shmem = 30 * MIB
    job.read(root, shmem=30)
    job.scan(unseen=34)
    assert peak(job) == (40, 10 + 30 + 34)


def test_shared_memory_before_an_attach_explains_no_unseen_faults() -> None:
    job = MemoryJob(attached=True)
    root = job.start(anon=10)
    job.levels.shmem = 30 * MIB
    job.read(root, shmem=30)
    job.scan()
    job.scan(unseen=34)
    assert peak(job) == (40, 10 + 30 + 34)


def test_young_member_that_left_grew_as_large_as_others_of_its_command() -> None:
    job = MemoryJob()
    job.start(anon=10)
    large, small = job.start(anon=45), job.start(anon=20)
    job.scan()
    job.model.leave(small)
    job.scan(unseen=90, exiting=90)
    assert peak(job) == (75, 75 + 25)
    for _ in range(3):
        job.scan(unseen=90)
    job.model.leave(large)
    job.scan(unseen=190, exiting=100)
    assert peak(job) == (75, 100)


def test_unseen_around_a_wide_scan_falls_with_it() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    workers = [job.fork(root, faults=100) for _ in range(3)]
    job.scan()
    job.scan(unseen=5)
    assert peak(job) == (100, 405)
    job.read_pss(root, dict.fromkeys((root, *workers), 30))
    job.scan(unseen=5)
    assert peak(job) == (120, 125)


def test_faults_of_the_tree_that_lag_behind_are_not_unseen() -> None:
    job = MemoryJob()
    job.start(anon=100)
    job.scan(unseen=-90)
    job.scan(unseen=0)
    assert peak(job) == (100, 100)


def test_spike_after_the_peak_keeps_its_moment_and_parts() -> None:
    job = MemoryJob()
    root = job.start(anon=300)
    worker = job.fork(root, faults=0)
    job.scan()
    small = job.start(anon=5)
    job.read(root, anon=20)
    job.model.leave(worker)
    job.scan(unseen=0.5)
    assert peak(job) == (300, 308.5)
    candidate = job.model.peaks.candidate
    assert candidate is not None and candidate.seconds == 1
    assert entries(job) == [("family", 300, 308)]
    assert "spike_between_samples" not in found(job)
    assert small.living


# -- levels --------------------------------------------------------------------------------------------------------


def test_peak_is_largest_scan() -> None:
    job = MemoryJob()
    root = job.start(anon=10)
    for anon in (50, 300, 20):
        job.read(root, anon=anon, faults=500)
        job.scan()
    assert peak(job) == (300, 300)
    candidate = job.model.peaks.candidate
    assert candidate is not None and candidate.seconds == 2
    assert candidate.bracket.mapped_file == FILE * MIB


def test_peak_wide_scan_is_narrowed_by_later_one() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    workers = [job.fork(root, faults=100) for _ in range(3)]
    assert job.scan() == (100, 400)
    assert peak(job) == (100, 400)
    job.read_pss(root, dict.fromkeys((root, *workers), 30))
    job.scan()
    assert peak(job) == (120, 120)


def test_peak_wide_scan_keeps_what_was_released_since() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    workers = [job.fork(root, faults=100) for _ in range(3)]
    job.scan()
    job.read(workers[0], anon=50)
    job.read(workers[1], faults=120)  # it can have released and filled 20
    job.model.leave(workers[2])
    job.read_pss(root, dict.fromkeys((root, *workers[:2]), 30))
    job.scan()
    assert peak(job) == (100, 100 + 50 + 20 + 100 + 20), "or it copied them, for the one that left"


def test_peak_release_can_be_hidden_by_huge_pages() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    root.forked = True
    worker = job.fork(root, faults=100)
    job.scan()
    assert peak(job) == (100, 200)
    job.levels.anon_huge = 40 * MIB
    job.read(worker, faults=100.1)  # it released 40, and filled them by huge pages
    job.read_pss(root, {root: 50, worker: 50})
    job.scan()
    assert 140 <= peak(job)[1] <= 141


def test_peak_many_wide_scans_stay_a_bound() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    worker = job.fork(root, faults=100)
    for step in range(40, 0, -1):
        job.read(worker, anon=100 + step, faults=1000 * (41 - step))
        job.scan()
    assert peak(job)[1] == 240
    assert len(job.model.peaks.candidates) <= 8


# -- spikes (rule 7) -----------------------------------------------------------------------------------------------


def test_spike_with_faults_counts_in_both_bounds() -> None:
    job = MemoryJob()
    root = job.start(anon=7)
    job.start(anon=50)
    job.scan()
    job.read(root, anon=7, faults=415, peak=400 + 7 + FILE)
    job.scan()
    assert peak(job) == (457, 457)
    assert entries(job)[0] == ("spike", 407, 407)
    assert found(job) == {"spike_between_samples": 400}


def test_spike_with_few_faults_can_be_a_mapped_file() -> None:
    job = MemoryJob()
    root = job.start(anon=7)
    job.scan()
    job.read(root, anon=7, faults=40, peak=400 + 7 + FILE)
    job.scan()
    assert peak(job) == (7, 407)


def test_spike_is_added_to_larger_neighbouring_scan() -> None:
    job = MemoryJob()
    root, other = job.start(anon=7), job.start(anon=200)
    job.scan()
    job.read(root, anon=7, faults=100, peak=107 + FILE)
    job.read(other, anon=50)
    job.scan()
    assert peak(job) == (207, 307)  # the other can have fallen before the spike


def test_spike_before_fork_is_not_one_of_the_child() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    job.read(root, anon=10, peak=108)
    job.scan()
    assert peak(job) == (100, 100)
    child = job.model.enter(70, 1, b"job", b"1", root)
    job.read(child, anon=10, faults=200, peak=108)
    job.scan()
    assert peak(job) == (100, 100)


def test_spike_is_not_proved_to_meet_later_growth() -> None:
    job = MemoryJob()
    root, other = job.start(anon=7), job.start(anon=50)
    job.scan()
    job.read(root, anon=7, faults=515, peak=500 + FILE)
    job.read(other, anon=400)
    job.scan()
    assert peak(job) == (50 + 500, 400 + 500)


def test_spike_before_attach_does_not_count() -> None:
    job = MemoryJob(attached=True)
    root = job.start(anon=10)
    job.read(root, anon=10, faults=900, peak=500)
    job.scan()
    assert peak(job) == (10, 10)
    job.read(root, anon=10, faults=1500, peak=510)
    job.scan()
    assert peak(job) == (510 - FILE, 502)


def test_spike_of_new_process() -> None:
    job = MemoryJob()
    job.start(anon=10)
    job.scan()
    child = job.start(anon=5, faults=300)
    job.read(child, anon=5, faults=300, peak=205 + FILE)
    job.scan()
    assert peak(job) == (215, 223)


def test_mark_within_noise_is_no_spike() -> None:
    job = MemoryJob()
    root = job.start(anon=10)
    job.scan()
    job.read(root, anon=10, peak=10 + FILE + 0.2)
    job.scan()
    assert peak(job) == (10, 10)


# -- the end (rule 9) ----------------------------------------------------------------------------------------------


def test_finish_maxrss_of_unseen_process_raises_high() -> None:
    job = MemoryJob()
    job.start(anon=10)
    job.scan()
    job.model.peaks.finish(400 * MIB, 9 * MIB)
    assert peak(job) == (10, 400)
    assert found(job) == {"spike_between_samples": 390}


def test_finish_maxrss_of_seen_process_says_nothing() -> None:
    job = MemoryJob()
    job.start(anon=10)
    job.scan()
    job.model.peaks.finish((10 + FILE) * MIB, 9 * MIB)
    assert peak(job) == (10, 10)


def test_finish_maxrss_below_launcher_says_nothing() -> None:
    job = MemoryJob()
    job.start(anon=1, faults=1)
    job.scan()
    job.model.peaks.finish(50 * MIB, 60 * MIB)
    assert peak(job) == (1, 1)


def test_finish_without_scan_is_an_interval() -> None:
    peaks = Peaks()
    peaks.finish(2 * MIB, 9 * MIB)
    assert (peaks.low, peaks.high, peaks.sampled) == (0, 9 * MIB, False)
    assert gaps(peaks) == [("not_sampled", None, 9 * MIB)]
    assert gaps(Peaks()) == []


# -- parts and gaps ------------------------------------------------------------------------------------------------


def test_entries_are_five_largest_parts() -> None:
    job = MemoryJob()
    for anon in range(10, 80, 10):
        job.start(anon=anon)
    root = job.start(anon=100)
    job.fork(root)
    job.levels.shmem = 90 * MIB
    job.claimed = 85
    job.scan()
    assert entries(job) == [
        ("family", 100, 108),
        ("shared", 85, 90),
        ("private", 70, 70),
        ("private", 60, 60),
        ("private", 50, 50),
    ]
    candidate = job.model.peaks.candidate
    assert candidate is not None
    assert candidate.parts()[0].pid == root.pid
    assert candidate.parts()[1].pid is None


def test_entries_are_no_larger_than_the_peak() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    worker = job.fork(root, faults=100)
    job.scan()
    assert entries(job) == [("family", 100, 200)]
    job.read(worker, anon=90)
    job.read_pss(root, {root: 60, worker: 55})
    job.scan()
    assert entries(job) == [("family", 100, 125)]


def test_entries_name_living_member_of_family() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    job.scan()
    child = job.fork(root)
    job.fork(root)
    job.read(root)
    job.scan()
    job.model.leave(root)
    job.read(child, anon=150, faults=50)
    job.scan()
    candidate = job.model.peaks.candidate
    assert candidate is not None
    assert candidate.parts()[0].pid == child.pid


def test_gaps_wide_family_is_stale_or_denied() -> None:
    job = MemoryJob()
    root = job.start(anon=100)
    job.fork(root, faults=100)
    job.scan()
    assert found(job) == {"pss_stale": 100, "surroundings_hidden": 100}
    assert ("pss_denied", 2, 100 * MIB) in gaps(job.model.peaks, denied=2)


def test_gaps_unclaimed_shared_memory() -> None:
    job = MemoryJob()
    job.start(anon=100)
    job.levels.shmem = 40 * MIB
    job.scan()
    assert found(job) == {"unclaimed_shmem": 40}
    assert [code for code, _, _ in gaps(job.model.peaks, anonymous_hidden=True, late_scans=3)] == [
        "unclaimed_shmem",
        "anonymous_shmem",
        "late_look",
    ]


def test_gaps_none_where_peak_is_exact() -> None:
    job = MemoryJob()
    job.start(anon=100)
    job.scan()
    assert gaps(job.model.peaks) == []
