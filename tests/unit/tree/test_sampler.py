"""What a sample says, what a look costs, and how the memory of a tree is followed, over several looks."""

from pathlib import Path
from typing import Any

import pytest

from fakeroot import INIT, PAGE, SECOND, FakeHost, attach_to, reap_ours
from proctally.kernel.machine import Gone
from proctally.sampler import PSS_BURST_NS, Sampler

OWN = 77
ROOT = 100


class Job:
    """A root on a fake host, a tracker, and the lines that it wrote."""

    def __init__(self, folder: Path, *, attached: bool = False, **options: Any) -> None:
        self.host = host = FakeHost(folder, own=None if attached else OWN)
        self.lines: list[dict[str, Any]] = []
        host.spawn(ROOT, INIT if attached else OWN, comm=b"root")
        host.advance(1)
        self.sampler = Sampler(host.machine(), own=host.own, emit=self.lines.append, **options)
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
    sampler.look()
    host.end(200)
    host.run(ROOT, user=0.1)
    host.advance(0.015)
    sampler.look()
    assert sampler.samples == 1
    assert sampler.peak_rss == 1000 * PAGE
    assert sampler.peak_processes == 2
    sample = job.sample(0.98)
    assert sample["interval_seconds"] == 1
    assert sample["tree"]["cpu_cores"] == pytest.approx(0.1, abs=0.001)
    assert sample["tree"]["processes"] == 1
    assert sampler.samples == 2
    assert sampler.peak_process_rss == 1000 * PAGE


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
    with pytest.raises(Gone):
        Sampler(host.machine(), own=OWN).start(ROOT)
    with pytest.raises(Gone):
        attach_to(Sampler(host.machine()), ROOT)


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
    assert job.sampler.files.open_count == 2


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
    assert job.sampler.peak_rss == 700 * PAGE
    host.end_thread(200, 20001)
    assert job.tree()["rss_bytes"] == 700 * PAGE
    host.exit(200)
    assert job.tree()["rss_bytes"] == 0


def test_pss_of_a_process_whose_main_thread_ended(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT, threads=2, pages=500)
    assert job.tree()["pss_bytes"] == 500 * PAGE
    host.end_leader(200)
    host.run(200, pages=900)
    assert job.tree(11)["pss_bytes"] == 900 * PAGE


def test_pss_and_swap_of_a_zombie_are_gone(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT, pages=500)
    host.reclaim(200, 400)
    host.run(200)
    levels = job.tree()
    assert (levels["pss_bytes"], levels["swap_bytes"]) == (400 * PAGE, 100 * PAGE)
    host.exit(200)
    levels = job.tree()
    assert levels["processes"] == 2
    assert (levels["rss_bytes"], levels["pss_bytes"], levels["swap_bytes"]) == (0, 0, 0)


def test_a_zombie_hides_no_unread_pss(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT, pages=10)
    host.spawn(201, ROOT, pages=10)
    host.deny("201/smaps_rollup")
    host.run(ROOT, pages=10)
    assert job.tree()["pss_unread"] == 1
    host.exit(200)
    assert job.tree()["pss_unread"] == 1


def pss_reads(host: FakeHost) -> list[str]:
    return [path for path in host.opened() if path.endswith("smaps_rollup")]


def test_pss_is_read_when_rss_moved_or_the_reading_is_old(tmp_path: Path) -> None:
    job = Job(tmp_path, pss_budget=1.0)
    host = job.host
    host.spawn(200, ROOT, pages=10)
    host.spawn(201, ROOT, pages=20)
    assert job.tree()["pss_bytes"] == 30 * PAGE
    pss_reads(host)
    for _ in range(5):
        host.run(200, user=0.1)
        host.run(201, user=0.1)
        assert job.tree()["pss_bytes"] == 30 * PAGE
    assert pss_reads(host) == []
    host.run(200, pages=15)
    assert job.tree()["pss_bytes"] == 35 * PAGE
    assert pss_reads(host) == ["200/smaps_rollup"]
    host.run(201, user=0.1)
    job.tree(6)
    assert pss_reads(host) == ["201/smaps_rollup"]


def test_pss_age_is_that_of_the_oldest(tmp_path: Path) -> None:
    job = Job(tmp_path, pss_budget=1.0)
    host = job.host
    host.spawn(200, ROOT, pages=10)
    host.spawn(201, ROOT, pages=10)
    assert job.tree()["pss_age_seconds"] == 0
    host.run(200, pages=20)
    assert job.tree(4)["pss_age_seconds"] == 4
    host.run(201, pages=20)
    assert job.tree(3)["pss_age_seconds"] == 3


def test_pss_keeps_to_its_budget(tmp_path: Path) -> None:
    budget = 0.01
    job = Job(tmp_path, pss_budget=budget)
    host = job.host
    cost = 2_000_000
    host.run(ROOT, pages=10)
    job.sample()
    for pid in range(200, 240):
        host.spawn(pid, ROOT, pages=10)
        host.pss_cost_ns[pid] = cost
    begun = host.now_ns
    spent = 0
    ages = []
    pss_reads(host)
    for number in range(120):
        host.run(ROOT, user=0.001)
        for pid in range(200, 240):
            host.run(pid, user=0.001, pages=10 + number % 2)
        levels = job.tree(0.5)
        spent += cost * sum(not path.startswith(f"{ROOT}/") for path in pss_reads(host))
        ages.append(levels["pss_age_seconds"])
        assert spent <= PSS_BURST_NS + (host.now_ns - begun) * budget + cost
    assert spent >= (host.now_ns - begun) * budget * 0.5  # and uses it
    assert levels["pss_bytes"] == pytest.approx((10 + 40 * 10.5) * PAGE, rel=0.06)
    assert "pss_unread" not in levels
    assert max(age for age in ages if age is not None) < 30  # the longest unread first


def test_pss_of_an_idle_process_is_read_although_others_use_up_the_budget(tmp_path: Path) -> None:
    job = Job(tmp_path, pss_budget=0.01)
    host = job.host
    host.run(ROOT, pages=10)
    for pid in range(200, 220):
        host.spawn(pid, ROOT, pages=10)
        host.pss_cost_ns[pid] = 2_000_000
    job.sample()
    for number in range(200):
        for pid in range(200, 220):
            host.run(pid, user=0.001, pages=10 + number % 2)
        assert (job.tree()["pss_age_seconds"] or 0) <= 60


def test_pss_says_how_many_are_unread(tmp_path: Path) -> None:
    job = Job(tmp_path, pss_budget=0.001)
    host = job.host
    for pid in range(200, 210):
        host.spawn(pid, ROOT, pages=10)
        host.pss_cost_ns[pid] = 6_000_000
    levels = job.tree()
    read = len(pss_reads(host))
    assert 0 < read < 10
    assert levels["pss_bytes"] == read * 10 * PAGE
    assert levels["pss_unread"] >= 10 - read


def test_a_stall_is_not_repeated_within_a_minute(tmp_path: Path) -> None:
    job = Job(tmp_path, pss_budget=1.0)
    host = job.host
    host.spawn(200, ROOT, pages=10)
    host.spawn(201, ROOT, pages=10)
    host.pss_cost_ns = {200: 60_000_000, 201: 40_000_000}
    job.sample()
    assert pss_reads(host) == ["200/smaps_rollup"]
    begun = host.now_ns
    again: list[int] = []
    others = 0
    number = 0
    while host.now_ns < begun + 150 * SECOND:
        number += 1
        for pid in (200, 201):
            host.run(pid, pages=10 + number % 2)
        job.sample()
        for path in pss_reads(host):
            if path == "200/smaps_rollup":
                again.append(host.now_ns - begun)
            else:
                others += 1
    assert len(again) == 2
    assert again[0] >= 60 * SECOND
    assert again[1] - again[0] >= 60 * SECOND
    assert others > 20


def test_pss_that_is_denied_is_counted(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT, pages=10)
    host.spawn(201, ROOT, pages=10)
    host.deny("201/smaps_rollup")
    levels = job.tree()
    assert levels["pss_bytes"] == 10 * PAGE
    assert levels["pss_unread"] >= 1
    assert job.sampler.pss_denied == {201}
    assert "PSS of 1 processes is denied" in job.sampler.memory_coverage()
    pss_reads(host)
    for _ in range(3):
        host.run(201, user=0.1, pages=20)
        job.sample()
    assert pss_reads(host) == []


def test_without_a_budget_no_pss_is_read(tmp_path: Path) -> None:
    job = Job(tmp_path, pss_budget=0.0)
    job.host.pss_cost_ns[ROOT] = PSS_BURST_NS
    for number in range(20):
        job.host.run(ROOT, pages=10 + number)
        job.sample()
    assert len(pss_reads(job.host)) <= 1


# -- the memory that a limit is about ------------------------------------------------------------------------------


def test_the_estimate_is_the_last_pss_and_what_rss_has_grown(tmp_path: Path) -> None:
    job = Job(tmp_path, pss_budget=0.0)
    host, sampler = job.host, job.sampler
    host.spawn(200, ROOT, pages=10)
    host.processes[200].pss_pages = 4
    host.pss_cost_ns[200] = PSS_BURST_NS  # it is read once
    host.run(200, user=0.1)
    job.sample()
    assert sampler.memory_estimate() == 4 * PAGE
    host.run(200, pages=12)
    job.sample()
    assert sampler.memory_estimate() == 6 * PAGE
    host.run(200, pages=9)
    job.sample()
    assert sampler.memory_estimate() == 4 * PAGE
    host.spawn(201, ROOT, pages=20)  # unread
    job.sample()
    assert sampler.memory_estimate() == 24 * PAGE
    host.exit(201)
    job.sample()
    assert sampler.memory_estimate() == 4 * PAGE


def test_the_estimate_where_pss_is_denied_is_the_rss(job: Job) -> None:
    host = job.host
    host.spawn(200, ROOT, pages=10)
    host.deny("200/smaps_rollup")
    job.sample()
    assert job.sampler.pss_denied == {200}
    assert job.sampler.memory_estimate() == 10 * PAGE


def test_a_limit_is_made_sure_of_only_when_the_estimate_is_over_it(tmp_path: Path) -> None:
    job = Job(tmp_path, pss_budget=0.0)
    host, sampler = job.host, job.sampler
    sampler.pss_wanted_above = 8 * PAGE

    def grow(pages: int) -> int:
        """To so many pages, of which half are its own: how often PSS was read for that."""
        host.run(200, pages=pages)
        host.processes[200].pss_pages = pages // 2
        host.run(200, user=0.001)
        job.sample()
        return len(pss_reads(host))

    host.spawn(200, ROOT)
    host.pss_cost_ns[200] = PSS_BURST_NS
    assert grow(10) == 1
    assert grow(13) == 0, "RSS is over the limit, the estimate of 5 + 3 pages is not"
    assert grow(14) == 1
    assert sampler.memory_estimate() == 7 * PAGE
    assert grow(14) == 0
    assert grow(20) == 1
    assert grow(20) == 0, "over the limit, and nothing has changed"


def test_over_a_limit_a_stall_is_risked_again_only_when_rss_has_moved(tmp_path: Path) -> None:
    job = Job(tmp_path, pss_budget=0.0)
    host = job.host
    job.sampler.pss_wanted_above = PAGE
    host.spawn(200, ROOT, pages=10)
    host.pss_cost_ns[200] = 60_000_000
    job.sample()
    assert pss_reads(host) == ["200/smaps_rollup"]
    for _ in range(3):
        host.run(200, user=0.1)
        job.sample(15)
    assert pss_reads(host) == []
    host.run(200, pages=11)
    job.sample()
    assert pss_reads(host) == ["200/smaps_rollup"]


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
    assert job.sampler.peak_process_rss == 5000 * PAGE


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
    assert [entry["command"] for entry in job.sampler.largest_commands()] == ["root", "cc1"]


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
    commands = {entry["command"]: entry for entry in job.sampler.largest_commands()}
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
    assert job.sampler.ignores_children == {200}


def test_peak_cores_come_from_whole_intervals(job: Job) -> None:
    host = job.host
    job.sample()
    host.run(ROOT, user=0.5)
    job.sample()
    host.run(ROOT, user=0.09)
    job.sample(0.1)
    assert job.sampler.peak_cores == pytest.approx(0.5)


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


def test_one_that_ran_and_whose_stat_says_the_same(tmp_path: Path) -> None:
    job = Job(tmp_path)
    host = job.host
    host.run(ROOT, user=0.5, pages=7)
    job.sample()
    before = job.sampler.tree.members[ROOT].stat
    for _ in range(3):
        host.run(ROOT, user=0.001, io=(1, 2, 3, 4, 5, 6, 7))
        levels = job.tree()
    assert job.sampler.tree.members[ROOT].stat is before
    assert levels["cpu_seconds"] == pytest.approx(0.503, abs=1e-4)
    assert levels["read_chars"] == 3
    host.reclaim(ROOT, 5)  # seen at the slow pace, by which its stat is no longer the one that was parsed
    for _ in range(12):
        levels = job.tree()
    assert levels["rss_bytes"] == 5 * PAGE
    host.run(ROOT, user=0.0001, pages=7)
    assert job.tree()["rss_bytes"] == 7 * PAGE
