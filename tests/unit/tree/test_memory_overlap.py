"""Processes that follow each other between two scans, on hand-made readings in MiB."""

from __future__ import annotations

import pytest

from memory_job import FILE, MIB, MemoryJob


def high(job: MemoryJob) -> float:
    return job.model.peaks.high / MIB


@pytest.mark.parametrize(("alive", "expected"), [(2, 170), (3, 170), (4, 210), (9, 210), (None, 170)])
def test_processes_that_left_and_entered_count_as_many_as_lived_at_once(alive: int | None, expected: int) -> None:
    """At least as many lived at once as a scan met; without perf no more are expected."""
    job = MemoryJob()
    job.start(anon=10)
    first = job.start(anon=60)
    job.scan()
    job.model.leave(first)
    job.model.leave(job.start(anon=1000))  # in no scan
    job.start(anon=100)
    job.start(anon=40)
    job.scan(lived=None if alive is None else (alive, 0))
    assert high(job) == expected


@pytest.mark.parametrize("lived", [(2, 1), None])
def test_processes_one_after_the_other_do_not_add_up(lived: tuple[int, int] | None) -> None:
    job = MemoryJob()
    job.start(anon=10)
    for anon in (100, 40, 70):
        step = job.start(anon=anon)
        job.scan(lived=lived)
        job.model.leave(step)
    job.scan(lived=lived)
    assert high(job) == 110


def test_processes_that_left_and_entered_had_no_more_than_was_filled_since() -> None:
    job = MemoryJob()
    job.start(anon=10)
    first = job.start(anon=100)
    job.scan()
    job.model.leave(first)
    job.start(anon=30, faults=20)
    job.scan(lived=(3, 1))
    assert high(job) == 130


def test_fork_that_left_adds_what_its_family_lost() -> None:
    """The parent leaves, its children hold all of its pages; then a child leaves that copied 20 of them."""
    job = MemoryJob()
    root = job.start(anon=5)
    parent = job.start(anon=300, faults=300)
    children = [job.fork(parent) for _ in range(4)]
    job.scan(lived=(6, 5))
    job.read(parent, anon=300)
    job.scan(lived=(6, 0))
    job.scan(lived=(6, 0))
    assert high(job) == 305
    job.model.leave(parent)
    job.scan(lived=(6, 0))
    assert high(job) == 305
    job.read(children[0], faults=20)
    job.scan(lived=(5, 0))
    assert high(job) == 325
    job.model.leave(children[0])
    job.read(root, anon=45, faults=53)
    job.scan(lived=(5, 0))
    assert high(job) == 305 + 40 + 20


def test_process_that_grew_until_it_left_counts_with_more_than_was_read() -> None:
    """Others of its command grow as well, so their marks do not bound it; its faults do."""
    grown = {}
    for is_growing in (True, False):
        job = MemoryJob()
        job.start(anon=10)
        workers = [job.start(anon=20, command=b"worker") for _ in range(2)]
        for anon in (30, 40, 50):
            job.scan()
            for worker in workers:
                job.read(worker, anon=anon if is_growing else 50, faults=anon + FILE)
        job.scan()
        assert high(job) == 110
        job.model.leave(workers[0])
        job.scan(unseen=15, exiting=15)
        grown[is_growing] = high(job)
    assert grown == {True: 125, False: 110}
