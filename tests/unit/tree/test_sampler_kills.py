"""When the sampler notices OOM kills, and what it keeps of them."""

from __future__ import annotations

from pathlib import Path

from fakeroot import PAGE, FakeHost, reap_ours
from proctally.linux.machine import Machine
from proctally.tree.cgroups import Enclosure
from proctally.tree.sampler import TreeSampler

OWN, ROOT, CHILD = 77, 100, 101
MIB = 1 << 20
PAGES = MIB // PAGE


class Job:
    """A job in `/job` of a v1 host, sampled twice, so that memory is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = host = FakeHost(folder, own=OWN)
        mount = f"30 22 0:27 / {folder}/cg rw - cgroup cgroup rw,memory\n"
        (host.proc / "self").mkdir(exist_ok=True)
        (host.proc / "self/mountinfo").write_text(mount)
        host.spawn(ROOT, OWN, comm=b"root", pages=PAGES)
        self.live(ROOT, "/job")
        self.killed("/job", 0)
        self.enclosure = Enclosure(Machine(str(host.proc)))
        self.enclosure.look_around(ROOT)
        self.sampler = TreeSampler(host.machine(), own=OWN, enclosure=self.enclosure)
        self.sampler.start(ROOT)
        self.sample()
        host.run(ROOT, minor=1)
        self.sample()

    def live(self, pid: int, path: str) -> None:
        folder = self.host.processes[pid].folder
        (folder / "cgroup").write_text(f"4:memory:{path}\n")
        (folder / "statm").write_text("10 1 1 0 0 0 0\n")

    def killed(self, path: str, count: int) -> None:
        directory = self.folder / f"cg{path}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "memory.oom_control").write_text(f"oom_kill {count}\n")

    def sample(self) -> None:
        self.host.advance(1)
        self.sampler.sample()

    def kills(self) -> list[tuple[str, int, list[int] | None]]:
        assert self.sampler.kills.reader is not None
        return [
            (each["cgroup"], each["count"], each["at_peak"] and [part["pid"] for part in each["at_peak"]])
            for each in self.sampler.kills.reader.ooms
        ]


def test_first_scan_of_a_run_counts_nothing(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, own=OWN)
    host.spawn(ROOT, OWN, comm=b"root")
    sampler = TreeSampler(host.machine(), own=OWN, enclosure=Enclosure(host.machine()))
    sampler.start(ROOT)
    host.advance(1)
    sampler.sample()
    assert sampler.kills.reader is None, "a job of a few milliseconds is not kept waiting"
    assert sampler.settle_kills() is None


def test_victim_is_among_those_who_held_the_memory(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.host.spawn(CHILD, ROOT, comm=b"eat", pages=40 * PAGES)
    job.host.processes[CHILD].program = 7  # it executed another
    job.live(CHILD, "/job")
    job.host.run(CHILD, minor=40 * PAGES)
    job.sample()
    job.killed("/job", 1)
    job.host.exit(CHILD)
    job.host.reap(CHILD)
    job.sample()
    assert job.kills() == [("/job", 1, [CHILD, ROOT])]


def test_member_in_another_cgroup_is_counted_there(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.killed("/other", 5)
    job.host.spawn(CHILD, ROOT, comm=b"eat", pages=PAGES)
    job.live(CHILD, "/other")
    job.host.run(CHILD, minor=1)
    job.sample()
    job.killed("/other", 7)
    job.sample()
    assert [entry[:2] for entry in job.kills()] == [("/other", 2)]
    kills = job.sampler.settle_kills()
    assert kills is not None and kills.found() == (2, "cgroup", "/other", None)


def test_kill_of_the_root_is_noticed_before_it_is_reaped(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.killed("/job", 1)
    job.host.exit(ROOT)
    reap_ours(job.host, job.sampler, ROOT, -9)
    assert job.kills() == [("/job", 1, [ROOT])]
    kills = job.sampler.kills.reader
    assert kills is not None and kills.killed_by() == {}, "the root is not a child"


def test_short_job_that_was_killed_is_counted_at_the_end(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.sampler.kills.reader = None
    assert job.sampler.settle_kills() is None
    job.killed("/job", 1)
    kills = job.sampler.settle_kills()
    assert kills is not None and kills.found() == (1, "cgroup", "/job", None)
