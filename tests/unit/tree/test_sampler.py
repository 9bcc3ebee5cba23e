"""What a sample says, what a look costs, and how the memory of a tree is followed, over several looks."""

from errno import ENOMEM
from pathlib import Path
from typing import Any

import pytest

from fakeroot import INIT, PAGE, FakeHost, attach_to, reap_ours
from proctally.errors import ProcessGone
from proctally.record.codes import TRACKING_FAILED
from proctally.tree.memory_scan import MemoryScan
from proctally.tree.sampler import TreeSampler
from proctally.tree.time_scan import TimeScan

OWN = 77
ROOT = 100


class Job:
    """A root on a fake host, a tracker, and the lines that it wrote."""

    def __init__(self, folder: Path, *, attached: bool = False, **options: Any) -> None:
        self.host = host = FakeHost(folder, own=None if attached else OWN)
        self.lines: list[dict[str, Any]] = []
        host.spawn(ROOT, INIT if attached else OWN, comm=b"root")
        host.advance(1)
        self.sampler = TreeSampler(host.machine(), own=host.own, emit=self.lines.append, **options)
        if attached:
            attach_to(self.sampler, ROOT)
        else:
            self.sampler.start(ROOT)

    def sample(self, seconds: float = 1.0) -> dict[str, Any]:
        self.host.advance(seconds)
        return self.sampler.sample()

    def tree(self, seconds: float = 1.0) -> dict[str, Any]:
        levels = self.sample(seconds)["tree"]
        assert isinstance(levels, dict)
        return levels


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


# -- the sample ----------------------------------------------------------------------------------------------------


def test_first_sample_has_no_interval(job: Job) -> None:
    first = job.sample()
    assert first["type"] == "sample"
    assert first["interval_seconds"] is None
    assert first["tree"]["cpu_cores"] is None
    assert all(entry["cpu_cores"] is None for entry in first["top"])
    job.host.run(ROOT, user=0.5)
    second = job.sample(2)
    assert second["interval_seconds"] == 2
    assert second["elapsed_seconds"] == first["elapsed_seconds"] + 2
    assert second["at"] == pytest.approx(first["at"] + 2)
    assert second["tree"]["cpu_cores"] == pytest.approx(0.25)


def test_early_looks_feed_peaks_and_make_no_samples(job: Job) -> None:
    host, sampler = job.host, job.sampler
    job.sample()
    host.spawn(200, ROOT, pages=1000)
    host.advance(0.005)
    sampler.scan()
    host.end(200)
    host.run(ROOT, user=0.1)
    host.advance(0.015)
    sampler.scan()
    assert sampler.samples.count == 1
    assert sampler.samples.peak_rss == 1000 * PAGE
    assert sampler.samples.peak_processes == 2
    sample = job.sample(0.98)
    assert sample["interval_seconds"] == 1
    assert sample["tree"]["cpu_cores"] == pytest.approx(0.1, abs=0.001)
    assert sample["tree"]["processes"] == 1
    assert sampler.samples.count == 2
    assert sampler.memory.peak_process_rss == 1000 * PAGE


def test_a_gap_is_no_interval(job: Job) -> None:
    job.sample()
    job.host.run(ROOT, user=0.5)
    job.sample()
    job.host.advance(1000)  # stopped
    job.sampler.gap_ended()
    job.host.run(ROOT, user=0.5)
    sample = job.sample()
    assert sample["interval_seconds"] == 1
    assert sample["tree"]["cpu_cores"] == pytest.approx(0.5)


def test_levels(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT, threads=3, pages=10)
    host.spawn(201, 200, pages=20)
    host.spawn(202, 200, pages=30)
    host.set_state(201, "R")
    host.set_state(202, "D")
    levels = job.tree()
    assert (levels["processes"], levels["threads"]) == (4, 6)
    assert (levels["running"], levels["disk_sleep"]) == (1, 1)
    assert levels["rss_bytes"] == 60 * PAGE
    host.set_state(201, "S")
    host.exit(202)
    host.run(200, pages=5)
    levels = job.tree()
    assert (levels["processes"], levels["threads"]) == (4, 6)
    assert (levels["running"], levels["disk_sleep"]) == (0, 0)
    assert levels["rss_bytes"] == 25 * PAGE
    host.reap(202)
    host.end(201)
    levels = job.tree()
    assert (levels["processes"], levels["threads"], levels["rss_bytes"]) == (2, 4, 5 * PAGE)
    assert levels["peak_threads"] == 6


def test_top_has_those_that_ran_most_then_the_largest(job: Job) -> None:
    host = job.host
    for pid in range(200, 206):
        host.spawn(pid, ROOT, comm=b"worker%d" % pid, pages=pid)
    job.sample()
    host.run(201, user=0.5)
    host.run(203, user=0.75)
    top = job.sample(2)["top"]
    assert [entry["pid"] for entry in top] == [203, 201, 205]
    assert top[0] == {"pid": 203, "command": "worker203", "cpu_cores": 0.375, "rss_bytes": 203 * PAGE}
    assert top[2]["cpu_cores"] == 0
    for pid in range(200, 206):
        host.run(pid, user=0.1 * (pid - 199))
    assert [entry["pid"] for entry in job.sample()["top"]] == [205, 204, 203]


def test_top_of_a_process_with_an_odd_name(job: Job) -> None:
    job.host.spawn(200, ROOT, comm=b"a) R 1 (b\n\xff")
    job.host.run(200, user=0.5)
    assert "a) R 1 (b\n\\xff" in [entry["command"] for entry in job.sample()["top"]]


def test_unknown_is_null(tmp_path: Path) -> None:
    job = Job(tmp_path, attached=True)
    host = job.host
    host.spawn(200, ROOT)
    host.deny(f"{ROOT}/smaps_rollup", "200/smaps_rollup")
    host.run(ROOT, pages=10)
    host.run(200, pages=10)
    levels = job.tree()
    assert levels["pss_bytes"] is None
    assert levels["pss_age_seconds"] is None
    assert levels["pss_unread"] == 2
    assert levels["rss_bytes"] == 20 * PAGE


def test_start_of_a_process_that_is_gone(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, own=OWN)
    with pytest.raises(ProcessGone):
        TreeSampler(host.machine(), own=OWN).start(ROOT)
    with pytest.raises(ProcessGone):
        attach_to(TreeSampler(host.machine()), ROOT)


# -- what a look costs ---------------------------------------------------------------------------------------------


def reads(host: FakeHost) -> dict[int, int]:
    """How often a file of each process was opened since the last call: nothing is kept open here."""
    count: dict[int, int] = {}
    for path in host.opened():
        pid = path.partition("/")[0]
        if pid.isdecimal() and int(pid) != OWN:
            count[int(pid)] = count.get(int(pid), 0) + 1
    return count


def idle_tree(folder: Path, count: int) -> Job:
    job = Job(folder, descriptors=0)
    for pid in range(200, 200 + count):
        job.host.spawn(pid, ROOT, pages=10)
    for _ in range(25):  # until each was read once, status included
        job.sample(0.01)
    reads(job.host)
    return job


def test_a_look_at_idle_members_opens_none_of_their_files(tmp_path: Path) -> None:
    job = idle_tree(tmp_path, 100)
    for _ in range(3):
        assert job.tree(0.01)["processes"] == 101
        assert reads(job.host) == {}


def test_only_those_that_ran_are_read(tmp_path: Path) -> None:
    job = idle_tree(tmp_path, 100)
    for pid in (210, 250):
        job.host.run(pid, user=0.001)
    job.sample(0.01)
    assert reads(job.host).keys() == {210, 250}
    job.sample(0.01)
    assert reads(job.host) == {}


def test_idle_members_are_refreshed_once_in_ten_seconds(tmp_path: Path) -> None:
    job = idle_tree(tmp_path, 99)
    refreshed: list[int] = []
    for _ in range(20):
        job.sample(0.5)
        now = reads(job.host)
        assert len(now) <= 6
        refreshed += now
    assert sorted(refreshed) == [ROOT, *range(200, 299)]


def test_memory_that_is_reclaimed_from_an_idle_process(job: Job) -> None:
    job.host.spawn(200, ROOT, pages=1000)
    job.sample()
    job.host.reclaim(200, 100)
    for _ in range(11):
        levels = job.tree()
    assert levels["rss_bytes"] == 100 * PAGE


def test_an_idle_parent_is_not_read_again_and_again(tmp_path: Path) -> None:
    """Its child's last milliseconds hide below a tick of its counters: it can show more only after it ran."""
    job = idle_tree(tmp_path, 3)
    host = job.host
    host.spawn(300, 200)
    host.run(300, user=0.008)
    job.sample(0.01)
    host.end(300)
    for _ in range(4):
        job.sample(0.01)
    reads(host)
    job.sample(0.01)
    assert reads(host) == {}


def test_an_idle_parent_of_an_auto_reaped_child_is_not_read_again_and_again(tmp_path: Path) -> None:
    job = idle_tree(tmp_path, 3)
    host = job.host
    host.spawn(300, 200)
    host.run(300, user=1.0)
    job.sample(0.01)
    host.auto_reap(300)
    for _ in range(4):
        job.sample(0.01)
    reads(host)
    job.sample(0.01)
    assert reads(host) == {}


def test_kept_descriptors_stay_within_their_number(tmp_path: Path) -> None:
    job = Job(tmp_path, descriptors=20)
    host = job.host
    for pid in range(200, 250):
        host.spawn(pid, ROOT)
    for _ in range(5):
        for pid in range(200, 250):
            host.run(pid, user=0.001)
        levels = job.tree()
        assert job.sampler.files.open_count <= 20
        assert levels["cpu_seconds"] == pytest.approx(host.cpu_seconds(ROOT), abs=1e-4)
    for pid in range(200, 250):
        host.end(pid)
    job.sample()
    host.exit(ROOT)
    reap_ours(host, job.sampler, ROOT)
    assert job.sampler.files.open_count == 0


def test_descriptors_are_given_back(job: Job) -> None:
    host = job.host
    for pid in range(200, 220):
        host.spawn(pid, ROOT)
        host.run(pid, user=0.01)
    job.sample()
    assert job.sampler.files.open_count == 42
    for pid in range(200, 220):
        host.end(pid)
    job.sample()
    assert job.sampler.files.open_count == 3  # `stat`, `io` and, since its memory was read, `status`


# -- memory ------------------------------------------------------------------------------------------------------


def test_memory_of_a_process_whose_main_thread_ended(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT, threads=3, pages=500)
    assert job.tree()["rss_bytes"] == 500 * PAGE
    host.end_leader(200)
    levels = job.tree()
    assert levels["rss_bytes"] == 500 * PAGE
    assert levels["processes"] == 2
    host.run(200, pages=700)
    assert job.tree()["rss_bytes"] == 700 * PAGE
    assert job.sampler.samples.peak_rss == 700 * PAGE
    host.end_thread(200, 20001)
    assert job.tree()["rss_bytes"] == 700 * PAGE
    host.exit(200)
    assert job.tree()["rss_bytes"] == 0


def test_swap_of_a_zombie_is_gone(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT, pages=500)
    host.reclaim(200, 400)
    host.run(200)
    assert job.tree()["swap_bytes"] == 100 * PAGE
    host.exit(200)
    levels = job.tree()
    assert levels["processes"] == 2
    assert (levels["rss_bytes"], levels["pss_bytes"], levels["swap_bytes"]) == (0, 0, 0)


def test_swap_and_the_high_water_mark(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT, pages=10)
    job.sample()
    host.run(200, pages=5000)
    host.run(200, pages=20)  # between two looks: only VmHWM tells
    host.reclaim(200, 5)
    host.run(200)
    assert job.tree()["swap_bytes"] == 15 * PAGE
    host.end(200)
    assert job.tree()["swap_bytes"] == 0
    assert job.sampler.memory.peak_process_rss == 5000 * PAGE


# -- processes and commands ------------------------------------------------------------------------------------------


def test_a_line_for_each_process_that_ended(job: Job) -> None:
    host = job.host
    job.sample()
    host.spawn(200, ROOT, comm=b"sh", pages=30)
    host.run(200, user=0.25, io=(1, 2, 3, 4, 4096, 512, 0))
    host.exec(200, b"cc1")
    job.sample()
    host.end(200)
    job.sample()
    assert len(job.lines) == 1
    line = job.lines[0]
    assert (line["type"], line["pid"], line["parent"], line["command"]) == ("process", 200, ROOT, "cc1")
    assert line["cpu_seconds"] == 0.25
    assert line["peak_rss_bytes"] == 30 * PAGE
    assert (line["read_bytes"], line["write_bytes"]) == (4096, 512)
    assert line["exit"] is None
    assert line["started_at"] == pytest.approx(line["ended_at"] - 2, abs=0.02)
    host.run(ROOT, user=0.5)
    host.exit(ROOT)
    reap_ours(host, job.sampler, ROOT, status=3)
    assert (job.lines[1]["pid"], job.lines[1]["exit"], job.lines[1]["cpu_seconds"]) == (ROOT, 3, 0.5)
    assert [entry["command"] for entry in job.sampler.commands.largest()] == ["root", "cc1"]


@pytest.mark.parametrize("limit", [0, 3])
def test_no_more_process_lines_than_asked_for(tmp_path: Path, limit: int) -> None:
    job = Job(tmp_path, process_lines=limit)
    host = job.host
    for pid in range(200, 210):
        host.spawn(pid, ROOT, comm=b"cc1")
        host.run(pid, user=0.05)
    job.sample()
    for pid in range(200, 210):
        host.end(pid)
    job.sample()
    assert job.sampler.finish() == 1
    assert len(job.lines) == limit
    commands = {entry["command"]: entry for entry in job.sampler.commands.largest()}
    assert commands["cc1"]["processes"] == 10
    assert commands["cc1"]["cpu_seconds"] == pytest.approx(0.5, abs=1e-4)


def test_those_that_live_at_the_end(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT)
    host.spawn(201, ROOT)
    host.exit(201)
    job.sample()
    assert job.sampler.finish() == 2  # a zombie does not live on
    lines = {line["pid"]: line for line in job.lines}
    assert lines.keys() == {ROOT, 200, 201}
    assert lines[200]["ended_at"] is None


def test_processes_that_ignore_their_children_are_known(job: Job) -> None:
    job.host.spawn(200, ROOT, ignores=True)
    job.sample()
    assert job.sampler.readings.ignores_children == {200}


def test_peak_cores_come_from_whole_intervals(job: Job) -> None:
    host = job.host
    job.sample()
    host.run(ROOT, user=0.5)
    job.sample()
    host.run(ROOT, user=0.09)
    job.sample(0.1)
    assert job.sampler.samples.peak_cores == pytest.approx(0.5)


def test_readings_that_took_long_are_brought_to_one_moment(tmp_path: Path) -> None:
    job = Job(tmp_path, descriptors=0)
    host = job.host
    host.spawn(101, ROOT)
    host.spawn(102, ROOT)
    for pid in (ROOT, 101, 102):
        host.run(pid, user=0.5)
    job.sample()
    host.advance(1)

    def kept_from_running() -> None:
        """Between the clocks and the files of the root 50 ms go by, in which it reaps one and the other goes on."""
        host.advance(0.05)
        host.run(101, user=0.03)
        host.end(101)
        host.run(102, user=0.05)

    host.run(ROOT, user=0.5)
    host.run(102, user=0.5)
    host.once(f"{ROOT}/stat", kept_from_running)
    sample = job.sampler.sample()
    assert sample["interval_seconds"] == pytest.approx(1.05, abs=0.001)
    assert sample["tree"]["cpu_seconds"] == pytest.approx(1.5 + 1.0 + 0.08, abs=0.021)
    assert sample["tree"]["cpu_cores"] == pytest.approx(1.08 / 1.05, abs=0.025)


def test_cores_after_a_slow_reading_are_within_the_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    job = Job(tmp_path, descriptors=0)
    host = job.host
    host.spawn(101, ROOT)
    host.spawn(102, ROOT)

    def work(seconds: float) -> None:
        host.advance(seconds)
        host.run(ROOT, user=seconds)
        host.run(101, user=seconds)

    job.sample()
    host.once("102/clock", lambda: work(0.9))
    job.sample(0.1)
    work(1)
    sample = job.sample(0)
    assert sample["interval_seconds"] == pytest.approx(1)
    assert sample["tree"]["cpu_seconds"] == pytest.approx(3.8, abs=0.001)
    assert sample["tree"]["cpu_cores"] == pytest.approx(2.0, abs=0.001)


def test_one_that_ran_and_whose_stat_says_the_same(tmp_path: Path) -> None:
    job = Job(tmp_path)
    host = job.host
    host.run(ROOT, user=0.5, pages=7)
    job.sample()
    before = job.sampler.members[ROOT].stat
    for _ in range(3):
        host.run(ROOT, user=0.001, io=(1, 2, 3, 4, 5, 6, 7))
        levels = job.tree()
    assert job.sampler.members[ROOT].stat is before
    assert levels["cpu_seconds"] == pytest.approx(0.503, abs=1e-4)
    assert levels["read_chars"] == 3
    host.reclaim(ROOT, 5)  # seen at the slow pace, by which its stat is no longer the one that was parsed
    for _ in range(12):
        levels = job.tree()
    assert levels["rss_bytes"] == 5 * PAGE
    host.run(ROOT, user=0.0001, pages=7)
    assert job.tree()["rss_bytes"] == 7 * PAGE


# -- files that fail -----------------------------------------------------------------------------------------------


def failing() -> None:
    raise OSError(ENOMEM, "Cannot allocate memory")


@pytest.mark.parametrize("name", ["stat", "io", "status", "task/100/schedstat", "smaps_rollup"])
def test_error_of_one_file_costs_one_reading(tmp_path: Path, name: str) -> None:
    """The kernel lacks memory for it where a tracker is in the cgroup of a job that is at its limit."""
    host = FakeHost(tmp_path, own=77)
    host.spawn(100, 77, pages=100)
    sampler = TreeSampler(host.machine(), own=77, descriptors=0, time=True)
    sampler.start(100)
    sampler.sample()
    for _ in range(3):
        host.advance(1.0)
        host.run(100, user=0.5, minor=10, pages=1000)
        host.once(f"100/{name}", failing)
        sampler.sample()
    host.advance(1.0)
    host.run(100, user=0.5, minor=10)
    tree = sampler.sample()["tree"]
    assert (tree["cpu_seconds"], tree["minor_faults"], tree["processes"]) == (2.0, 40, 1)
    assert tree["memory_low_bytes"] == tree["memory_high_bytes"] == 1000 * PAGE
    assert tree["time"] is not None
    assert (sampler.memory.fault, sampler.time.fault) == (None, None)


def test_text_of_one_file_costs_one_reading(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, own=77)
    root = host.spawn(100, 77)
    sampler = TreeSampler(host.machine(), own=77, descriptors=0, time=True)
    sampler.start(100)
    sampler.sample()
    for name in ("stat", "io", "status"):
        host.advance(1.0)
        host.run(100, user=0.5)
        (root.folder / name).write_bytes(b"SigIgn:\tx\n")
        sampler.sample()
        root.written.clear()
    host.advance(1.0)
    host.run(100, user=0.5)
    assert sampler.sample()["tree"]["cpu_seconds"] == 2.0


@pytest.mark.parametrize("name", ["begin", "read_moved", "scan", "leave", "finish", "summary", "gaps"])
def test_fault_in_memory_costs_memory_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    sampler = faulty(tmp_path, monkeypatch, MemoryScan, name)
    assert sampler.memory.summary()["peak_low_bytes"] is None
    assert sampler.memory.gaps() == [(TRACKING_FAILED, None, None)]
    assert sampler.time.summary() is not None


@pytest.mark.parametrize("name", ["scan", "enter", "leave", "end", "sample", "summary", "gaps"])
def test_fault_in_time_costs_time_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    sampler = faulty(tmp_path, monkeypatch, TimeScan, name)
    assert sampler.time.summary() is None
    assert sampler.time.gaps() == []
    assert isinstance(sampler.time.fault, ZeroDivisionError)
    assert sampler.memory.summary()["peak_low_bytes"] == 1000 * PAGE


def faulty(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type, name: str) -> TreeSampler:
    """Return a sampler at the end of a job, in which one step of memory or time fails."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(kind, name, fail)
    job = Job(folder, time=True)
    host, sampler = job.host, job.sampler
    host.spawn(200, ROOT)
    job.sample()
    for pid in (200, ROOT):
        host.run(pid, user=0.1, minor=10, pages=1000)
    job.sample()
    host.end(200)
    host.exit(ROOT)
    reap_ours(host, sampler, ROOT)
    assert job.tree()["cpu_seconds"] == pytest.approx(0.2)
    sampler.finish()
    sampler.memory.gaps()
    sampler.time.gaps()
    return sampler
