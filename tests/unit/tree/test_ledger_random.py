"""Totals of random trees, scanned at random moments."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from examples import examples
from fakeroot import INIT
from ledger_job import IO_OF, OWN, ROOT, Job

# -- random scripts ------------------------------------------------------------------------------------------------


PLACES = st.integers(0, 999)
CALM = ["spawn", "run", "run", "run", "end", "end", "exit", "reap", "thread", "look", "look"]
ORPHANS = [*CALM, "orphan", "exit"]
STEP = st.tuples(st.sampled_from(CALM), PLACES, PLACES)
ORPHAN_STEP = st.tuples(st.sampled_from(ORPHANS), PLACES, PLACES)
AUTO_STEP = st.tuples(st.sampled_from([*ORPHANS, "auto", "auto"]), PLACES, PLACES)
# Making a failing script smaller takes minutes: add Phase.shrink for that.
RANDOM = settings(
    max_examples=examples(100),
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Script:
    """A random script: each step picks among what can be done at that moment."""

    def __init__(self, job: Job, *, again: bool = False, subreapers: bool = False) -> None:
        self.job = job
        self.host = job.host
        self.again = again  # a pid is given out again as soon as it is free
        self.last_pid = 299
        self.subreapers = subreapers
        self.looking = False

    def living(self) -> list[int]:
        return [process.pid for process in self.host.family(ROOT) if not process.ended]

    def step(self, action: str, which: int, amount: int) -> None:
        living = self.living()
        if not living:
            return
        pid = living[which % len(living)]
        others = [other for other in living if other != ROOT]
        other = others[which % len(others)] if others else None
        if action == "spawn":
            self.host.spawn(self.next_pid(), pid, subreaper=self.subreapers and amount % 3 == 0, pages=amount)
        elif action == "run":
            io = (amount, which, 1, 1, amount * 512, which * 512, 0)
            self.host.run(
                pid, user=amount / 1000, system=which / 5000, minor=amount, switches=which % 7, io=io, pages=amount
            )
        elif action == "thread":
            process = self.host.processes[pid]
            extra = [tid for tid in process.threads if tid != pid]
            if extra and amount % 2:
                self.host.end_thread(pid, extra[-1])
            else:
                tid = pid * 1000 + amount
                if tid not in process.threads:
                    self.host.start_thread(pid, tid)
        elif action == "look" and not self.looking:
            self.look(amount)
        elif action in ("end", "exit", "auto", "orphan") and other is not None:
            self.finish(action, other)
        elif action == "reap":
            self.reap(which)

    def next_pid(self) -> int:
        free = [pid for pid in range(200, 206) if pid not in self.host.processes]
        if self.again and free:
            return free[0]
        self.last_pid += 1
        return self.last_pid

    def finish(self, action: str, pid: int) -> None:
        process = self.host.processes[pid]
        if any(thread.children for thread in process.threads.values()) and action != "orphan":
            return
        if process.ppid in (OWN, INIT):
            if self.looking:
                return
            self.host.exit(pid)
            if process.ppid == OWN:
                self.job.reap(pid)
            else:
                self.host.reap(pid)
        elif action == "auto":
            self.host.auto_reap(pid)
        else:
            self.host.exit(pid)
            if action != "exit":
                self.host.reap(pid)

    def reap(self, which: int) -> None:
        zombies = [process for process in self.host.family(ROOT) if process.ended]
        if zombies:
            zombie = zombies[which % len(zombies)]
            if zombie.ppid != OWN:
                self.host.reap(zombie.pid)
            elif not self.looking:
                self.job.reap(zombie.pid)

    def look(self, amount: int) -> None:
        self.looking = True
        self.job.look(0.02 + amount / 1000)
        self.looking = False

    def play(self, steps: list[tuple[str, int, int]]) -> None:
        """Take these steps; the levels are right after each look."""
        for step in steps:
            self.step(*step)
            if step[0] == "look":
                self.check_levels()

    def check_levels(self) -> None:
        family = self.host.family(ROOT)
        sampler = self.job.sampler
        assert sampler.members.keys() == {process.pid for process in family}
        assert sampler.readings.rss == sum(process.pages for process in family) * 4096
        assert sampler.readings.threads == sum(len(process.threads) for process in family)
        zombies = sum(process.ended for process in family)
        assert sampler.readings.states.get(b"Z", 0) == zombies
        assert sum(sampler.readings.states.values()) == len(family)


def grow(script: Script) -> None:
    """A tree of seven to begin with: 200 to 203 and 204 to 205 are chains below the root."""
    for number, parent in enumerate([ROOT, 200, 201, 202, ROOT, 204]):
        pid = 200 + number
        script.host.spawn(pid, parent, subreaper=script.subreapers and number == 0)
        script.host.run(pid, user=0.5 + number / 10, io=IO_OF, minor=number)


@contextmanager
def random_job(*, attached: bool = False, descriptors: int = 512, clocks: bool = True) -> Iterator[Job]:
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder), attached=attached, descriptors=descriptors, clocks=clocks)
        yield job
        for member in list(job.sampler.members.values()):
            job.sampler.files.close(member)


@given(st.lists(ORPHAN_STEP, min_size=15, max_size=50), st.booleans())
@RANDOM
def test_random_scripts_between_looks(steps: list[tuple[str, int, int]], clocks: bool) -> None:
    with random_job(clocks=clocks) as job:
        job.start()
        script = Script(job)
        grow(script)
        script.play(steps)
        job.look()
        script.check_levels()
        job.finish()
        if clocks:
            job.exact()
            assert job.sampler.ledger.dropped == 0, "everything was reaped"
        assert not job.sampler.members


@given(st.lists(ORPHAN_STEP, min_size=15, max_size=50))
@RANDOM
def test_random_scripts_with_inner_subreapers(steps: list[tuple[str, int, int]]) -> None:
    with random_job() as job:
        job.start()
        script = Script(job, subreapers=True)
        grow(script)
        for step in steps:
            script.step(*step)
        job.finish()
        job.exact()


@given(st.lists(STEP, min_size=15, max_size=50))
@RANDOM
def test_random_scripts_with_pids_used_again(steps: list[tuple[str, int, int]]) -> None:
    with random_job() as job:
        job.start()
        script = Script(job, again=True)
        grow(script)
        script.play(steps)
        job.finish()
        job.exact()


@given(st.lists(AUTO_STEP, min_size=15, max_size=50))
@RANDOM
def test_random_scripts_with_auto_reaped_children(steps: list[tuple[str, int, int]]) -> None:
    with random_job() as job:
        job.start()
        script = Script(job)
        grow(script)
        script.play(steps)
        job.finish()


@given(st.lists(ORPHAN_STEP, max_size=30), st.lists(ORPHAN_STEP, min_size=15, max_size=50))
@RANDOM
def test_random_scripts_of_an_attached_tree(
    before: list[tuple[str, int, int]], steps: list[tuple[str, int, int]]
) -> None:
    with random_job(attached=True) as job:
        script = Script(job)
        grow(script)
        for step in before:
            if step[0] != "look":
                script.step(*step)
        job.host.advance(1)
        job.start()
        for step in steps:
            script.step(*step)
        job.settle()
        lost = [process for process in job.host.family(ROOT) if process.pid not in job.sampler.members]
        if not lost:
            script.check_levels()


@given(
    st.lists(st.tuples(STEP, st.lists(st.tuples(st.integers(0, 40), STEP), max_size=4)), min_size=6, max_size=30),
    st.booleans(),
)
@RANDOM
def test_random_scripts_within_looks(
    steps: list[tuple[tuple[str, int, int], list[tuple[int, tuple[str, int, int]]]]], attached: bool
) -> None:
    """Things happen before any reading of a clock or a file: the scan is not atomic."""
    with random_job(attached=attached, descriptors=0) as job:
        job.start()
        host = job.host
        script = Script(job)
        grow(script)
        for step, races in steps:
            script.step(*step)
            pending = sorted(races, reverse=True)
            accesses = 0

            def happens(path: str, pending: list[tuple[int, tuple[str, int, int]]] = pending) -> None:
                nonlocal accesses
                accesses += 1
                while pending and pending[-1][0] <= accesses:
                    script.step(*pending.pop()[1])

            host.on_access = happens if races else None
            if races:
                script.look(100)
            host.on_access = None
            script.look(10)
        job.settle()
        if not attached:
            job.finish()
            job.exact()
