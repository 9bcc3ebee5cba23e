"""Who ran under which command: scripts of perf's records, and a small kernel that writes such scripts by chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from proctally.linux.perf import RECORD_COMM, RECORD_EXIT, RECORD_FORK, RECORD_READ, Record
from proctally.tree.perf_processes import Roll

ROOT = 100
BEGUN_NS = 1000
MS = 1_000_000
OUTSIDE = 77  # a pid that is not of the tree


class Step(NamedTuple):
    """A record without its time."""

    kind: int
    ids: int
    more: int | bytes


def both(low: int, high: int) -> int:
    return high << 32 | low


def fork(pid: int, parent: int = ROOT) -> Step:
    return Step(RECORD_FORK, both(pid, parent), both(pid, parent))


def thread(pid: int, tid: int) -> Step:
    return Step(RECORD_FORK, both(pid, pid), both(tid, pid))


def execs(pid: int, name: bytes) -> Step:
    return Step(RECORD_COMM, both(pid, pid), name)


def exits(pid: int, tid: int | None = None) -> Step:
    return Step(RECORD_EXIT, both(pid, 1), both(pid if tid is None else tid, 1))


def read(pid: int, tid: int, ns: int) -> Step:
    return Step(RECORD_READ, both(pid, tid), ns)


def ends(pid: int, ns: int) -> list[Step]:
    """A process of one thread, to its end."""
    return [exits(pid), read(pid, pid, ns)]


class Script:
    """A roll that is fed with batches; each record comes 10 ns after the one before."""

    def __init__(self, command: bytes = b"root") -> None:
        self.roll = Roll(ROOT, command, BEGUN_NS)
        self.now_ns = BEGUN_NS

    def batch(self, *steps: Step) -> Script:
        records: list[Record] = []
        for step in steps:
            self.now_ns += 10
            records.append((self.now_ns, *step))
        self.roll.take(records)
        return self

    def commands(self, total_ns: int = 0, clocks: Mapping[int, int] | None = None) -> dict[bytes, tuple[int, int]]:
        """(processes, CPU nanoseconds) of each command."""
        tallies = self.roll.commands(total_ns, self.now_ns, clocks or {})
        return {name: (tally.processes, tally.cpu_ns) for name, tally in tallies.items()}

    def walls(self, now_ns: int) -> dict[bytes, int]:
        return {name: tally.wall_ns for name, tally in self.roll.commands(0, now_ns, {}).items()}


# -- commands ----------------------------------------------------------------------------------------------------


def test_what_execs_stands_under_its_own_name() -> None:
    script = Script().batch(fork(1), execs(1, b"cc1"), *ends(1, 70), fork(2), execs(2, b"as"), *ends(2, 5))
    script.batch(exits(ROOT))
    assert script.commands(100) == {b"root": (1, 25), b"cc1": (1, 70), b"as": (1, 5)}


def test_several_of_one_name_are_one_command() -> None:
    script = Script()
    for pid in range(1, 6):
        script.batch(fork(pid), execs(pid, b"cc1"), *ends(pid, pid))
    assert script.commands() == {b"root": (1, 0), b"cc1": (5, 15)}


def test_what_never_execs_stands_under_its_parents_command_at_the_fork() -> None:
    script = Script(b"sh").batch(fork(1), execs(ROOT, b"make"), fork(2), *ends(1, 3), *ends(2, 4), exits(ROOT))
    assert script.commands(7) == {b"make": (2, 4), b"sh": (1, 3)}


def test_a_grandchild_without_exec_inherits_through_its_parent() -> None:
    script = Script().batch(fork(1), execs(1, b"sh"), fork(2, 1), fork(3, 2), *ends(3, 5), *ends(2, 6), *ends(1, 7))
    assert script.commands() == {b"root": (1, 0), b"sh": (3, 18)}


def test_of_two_execs_the_last_gives_the_name_and_gets_all() -> None:
    script = Script().batch(fork(1), execs(1, b"env"), execs(1, b"cc"), *ends(1, 9))
    assert script.commands() == {b"root": (1, 0), b"cc": (1, 9)}


def test_the_root_is_named_by_its_exec() -> None:
    assert Script(b"held").batch(execs(ROOT, b"job"), exits(ROOT)).commands(8) == {b"job": (1, 8)}


@pytest.mark.parametrize("name", [b"", b"\xff\xfe\x80", b"a\nb\tc", b" ", b"\xc3(", b"(sd-pam)", b"exactly15bytes."])
def test_hostile_names_stand_as_they_are(name: bytes) -> None:
    script = Script().batch(fork(1), execs(1, name), *ends(1, 2))
    assert script.commands() == {b"root": (1, 0), name: (1, 2)}


def test_a_fork_by_a_parent_that_is_unknown_has_no_name_until_it_execs() -> None:
    script = Script().batch(fork(1, OUTSIDE), fork(2, OUTSIDE), execs(2, b"known"), *ends(1, 1), *ends(2, 2))
    assert script.commands() == {b"root": (1, 0), b"": (1, 1), b"known": (1, 2)}
    assert script.roll.started == 3


# -- threads -----------------------------------------------------------------------------------------------------


def test_threads_are_folded_into_their_process() -> None:
    script = Script().batch(fork(1), execs(1, b"job"), thread(1, 2), thread(1, 3))
    script.batch(exits(1, 2), read(1, 2, 20), exits(1, 3), read(1, 3, 30), exits(1), read(1, 1, 10))
    assert script.roll.started == 2
    assert script.commands() == {b"root": (1, 0), b"job": (1, 60)}


def test_a_leader_that_ends_before_another_thread_does_not_end_its_process() -> None:
    script = Script().batch(fork(1), execs(1, b"job"), thread(1, 2), *ends(1, 10))
    assert script.roll.living() == [ROOT, 1]
    for _ in range(5):
        script.batch()
    script.batch(exits(1, 2))
    assert script.roll.living() == [ROOT]
    script.batch(read(1, 2, 32))
    assert script.commands() == {b"root": (1, 0), b"job": (1, 42)}


def test_exec_of_another_thread_than_the_leader() -> None:
    """The leader ends, and the thread that calls exec takes its number."""
    script = Script().batch(fork(1), thread(1, 2), exits(1), read(1, 1, 10), execs(1, b"job"))
    assert script.roll.living() == [ROOT, 1]
    script.batch(*ends(1, 7), exits(ROOT))
    assert script.commands(17) == {b"root": (1, 0), b"job": (1, 17)}


def test_exec_of_another_thread_than_the_roots_leader() -> None:
    """Two tasks end under one number, and the first of them has no READ."""
    script = Script().batch(thread(ROOT, 2), exits(ROOT), execs(ROOT, b"job"), exits(ROOT), read(ROOT, ROOT, 7))
    assert script.commands(17) == {b"job": (1, 17)}


# -- when a READ comes -------------------------------------------------------------------------------------------


def test_a_read_in_the_batch_after_its_exit_is_counted() -> None:
    script = Script().batch(fork(1), execs(1, b"late"), exits(1)).batch(read(1, 1, 9)).batch().batch(exits(ROOT))
    assert script.commands(10) == {b"root": (1, 1), b"late": (1, 9)}


def test_a_read_in_the_batch_after_its_exit_at_the_very_end_is_counted() -> None:
    script = Script().batch(fork(1), execs(1, b"late"), exits(ROOT), exits(1)).batch(read(1, 1, 9))
    assert script.commands(10) == {b"root": (1, 1), b"late": (1, 9)}


def test_all_in_one_batch() -> None:
    script = Script().batch(fork(1), execs(1, b"cc"), *ends(1, 9), exits(ROOT))
    assert script.commands(10) == {b"root": (1, 1), b"cc": (1, 9)}


# -- what no known command used ---


def test_the_root_gets_no_more_than_its_clock_says() -> None:
    script = Script().batch(fork(1), execs(1, b"cc"), *ends(1, 10 * MS), exits(ROOT))
    tallies = script.roll.commands(1000 * MS, script.now_ns, {}, 30 * MS)
    used = {name: (tally.processes, tally.cpu_ns // MS) for name, tally in tallies.items()}
    assert used == {b"root": (1, 30), b"cc": (1, 10), b"": (0, 960)}


@pytest.mark.parametrize(("total", "root"), [(60, 60), (61, 40)])
def test_a_little_that_is_in_no_record_is_the_roots(total: int, root: int) -> None:
    script = Script().batch(exits(ROOT))
    tallies = script.roll.commands(total * MS, script.now_ns, {}, 40 * MS)
    assert tallies[b"root"].cpu_ns == root * MS
    assert sum(tally.cpu_ns for tally in tallies.values()) == total * MS


def test_a_fork_that_was_lost_takes_the_name_of_a_scan() -> None:
    script = Script()
    script.roll.name_of = {1: b"seen"}.get  # type: ignore[assignment]
    assert script.batch(fork(1, OUTSIDE), *ends(1, 1)).commands() == {b"root": (1, 0), b"seen": (1, 1)}


def test_threads_that_ended_before_their_process() -> None:
    script = Script().batch(fork(1), execs(1, b"job"), thread(1, 2), thread(1, 3))
    script.batch(exits(1, 2), exits(1, 3), exits(1), exits(ROOT))
    assert script.roll.threads_ended == 2
    assert {name: use.threads_ended for name, use in script.roll.commands(0, 1, {}).items()} == {b"root": 0, b"job": 2}


def test_an_end_costs_no_more_than_its_memory() -> None:
    """30 processes of 128 MiB, and 0.9 s that wait4 has and perf does not."""
    script = Script()
    for pid in range(1, 31):
        script.batch(fork(pid), execs(pid, b"fill"), *ends(pid, 60 * MS))
    script.batch(exits(ROOT)).commands(1801 * MS)
    peaks = {b"fill": 128 << 20}
    most = 30 * 11_580_000
    assert script.roll.teardowns(most, 2000 * MS, peaks)[b"fill"] > most * 99 // 100
    found = script.roll.teardowns(900 * MS, 2700 * MS, peaks)
    assert (found[b"fill"], sum(found.values())) == (most, 900 * MS)
    assert found[b""] > 500 * MS
    assert script.roll.teardowns(900 * MS, 2700 * MS, None)[b"fill"] > 890 * MS, "a list that is whole"


# -- numbers that are given out again ----------------------------------------------------------------------------


@pytest.mark.parametrize("pauses", range(5))
def test_a_pid_that_is_used_again_is_another_process(pauses: int) -> None:
    script = Script().batch(fork(1), execs(1, b"first"), *ends(1, 10))
    for _ in range(pauses):
        script.batch()
    script.batch(fork(1), execs(1, b"second")).batch(*ends(1, 20)).batch().batch()
    assert script.roll.started == 3
    assert script.commands() == {b"root": (1, 0), b"first": (1, 10), b"second": (1, 20)}


def test_a_pid_that_is_used_again_at_once_is_another_process() -> None:
    script = Script().batch(
        fork(1), execs(1, b"first"), *ends(1, 10), fork(1), execs(1, b"second"), *ends(1, 20), fork(1), *ends(1, 30)
    )
    assert script.roll.started == 4
    assert script.commands() == {b"root": (2, 30), b"first": (1, 10), b"second": (1, 20)}


def test_a_pid_that_is_used_again_while_it_is_remembered_waits_for_its_own_read() -> None:
    """The first ended one batch ago, the second ends in this one: it is the second whose READ is missing."""
    script = Script().batch(fork(1), execs(1, b"first"), *ends(1, 10))
    script.batch(fork(1), execs(1, b"second"), exits(1))
    script.batch(read(1, 1, 20))
    assert script.commands(30) == {b"root": (1, 0), b"first": (1, 10), b"second": (1, 20)}


def test_the_roots_pid_that_is_used_again_takes_nothing_from_it() -> None:
    script = Script().batch(fork(1), execs(1, b"daemon"), exits(ROOT)).batch().batch()
    script.batch(fork(ROOT, 1), execs(ROOT, b"other"), *ends(ROOT, 20), *ends(1, 5))
    assert script.commands(100) == {b"root": (1, 75), b"daemon": (1, 5), b"other": (1, 20)}


def test_the_roots_pid_that_is_used_again_at_once_takes_nothing_from_it() -> None:
    script = Script().batch(fork(1), exits(ROOT), fork(ROOT, 1), execs(ROOT, b"other"), execs(1, b"daemon"))
    assert script.roll.living() == [ROOT, 1]
    assert script.commands(100, {1: 5, ROOT: 20}) == {b"root": (1, 75), b"daemon": (1, 5), b"other": (1, 20)}


# -- what is in no record ----------------------------------------------------------------------------------------


def test_the_root_gets_what_is_in_no_record() -> None:
    script = Script().batch(fork(1), execs(1, b"cc"), fork(2), *ends(2, 30), *ends(1, 10), exits(ROOT)).batch()
    assert script.commands(100) == {b"cc": (1, 10), b"root": (2, 90)}


def test_the_root_gets_the_rest_also_long_after_its_end() -> None:
    script = Script().batch(fork(1), execs(1, b"daemon"), exits(ROOT))
    for pid in range(2, 20):
        script.batch(fork(pid, 1), *ends(pid, 1))
    script.batch(*ends(1, 2))
    assert script.commands(100) == {b"root": (1, 80), b"daemon": (19, 20)}


def test_the_root_gets_the_rest_under_its_last_name() -> None:
    script = Script().batch(execs(ROOT, b"sh"), fork(1), execs(1, b"cc"), *ends(1, 10), execs(ROOT, b"make"))
    assert script.commands(100) == {b"make": (1, 90), b"cc": (1, 10)}


def test_a_process_that_lives_on_gets_what_its_clock_says() -> None:
    script = Script().batch(fork(1), execs(1, b"daemon"), exits(ROOT))
    assert script.commands(100, {1: 40}) == {b"root": (1, 60), b"daemon": (1, 40)}


def test_threads_that_ended_are_not_counted_again_by_the_clock() -> None:
    script = Script().batch(fork(1), execs(1, b"daemon"), thread(1, 2), exits(1, 2), read(1, 2, 30), exits(ROOT))
    assert script.commands(100, {1: 40}) == {b"root": (1, 60), b"daemon": (1, 40)}


@pytest.mark.parametrize("clock", [101, 10**15])
def test_a_clock_gives_no_more_than_what_is_in_no_record(clock: int) -> None:
    script = Script().batch(fork(1), execs(1, b"daemon"), fork(2), *ends(2, 90), exits(ROOT))
    assert script.commands(100, {1: clock}) == {b"root": (2, 90), b"daemon": (1, 10)}


def test_a_clock_below_the_records_takes_nothing_away() -> None:
    script = Script().batch(fork(1), execs(1, b"daemon"), thread(1, 2), exits(1, 2), read(1, 2, 30), exits(ROOT))
    assert script.commands(100, {1: 4}) == {b"root": (1, 70), b"daemon": (1, 30)}


def test_a_total_below_the_records_takes_nothing_away() -> None:
    script = Script().batch(fork(1), *ends(1, 50), exits(ROOT))
    assert script.commands(20, {}) == {b"root": (2, 50)}


def test_clocks_of_unknown_and_ended_pids_are_ignored() -> None:
    script = Script().batch(fork(1), execs(1, b"cc"), *ends(1, 5), exits(ROOT))
    assert script.commands(10, {1: 50, OUTSIDE: 50, ROOT: 50}) == {b"root": (1, 5), b"cc": (1, 5)}


# -- kernels that tell no time of single processes ---------------------------------------------------------------


def test_without_times_processes_are_counted_and_all_time_is_left_to_the_root() -> None:
    script = Script()
    for pid in range(1, 61):
        script.batch(fork(pid), execs(pid, b"cc"), exits(pid))
    script.batch(exits(ROOT)).batch()
    assert (script.roll.unread(), script.roll.tells_time()) == (60, False)
    assert (script.roll.started, script.roll.strays, script.roll.living()) == (61, 0, [])
    assert script.commands(1000) == {b"root": (1, 1000), b"cc": (60, 0)}
    assert script.roll.teardowns(70, 1000, {}) == {b"root": 70, b"cc": 0}


@pytest.mark.parametrize(("missing", "tells"), [(0, True), (1, True), (2, True), (3, False), (100, False)])
def test_a_few_times_may_be_missing(missing: int, tells: bool) -> None:
    script = Script()
    for pid in range(1, 101):
        script.batch(fork(pid), exits(pid), *([] if pid <= missing else [read(pid, pid, 1)]))
    script.batch(exits(ROOT))
    assert (script.roll.unread(), script.roll.tells_time()) == (missing, tells)


def test_a_root_alone_has_nothing_unread() -> None:
    """Its first thread never has a READ, whatever the kernel."""
    script = Script().batch(exits(ROOT))
    assert (script.roll.unread(), script.roll.tells_time()) == (0, True)


# -- the rest ----------------------------------------------------------------------------------------------------


def test_unknown_pids_are_ignored() -> None:
    script = Script().batch(
        exits(OUTSIDE), read(OUTSIDE, OUTSIDE, 50), execs(OUTSIDE, b"x"), thread(OUTSIDE, 78), read(OUTSIDE, 78, 1)
    )
    assert (script.roll.started, script.roll.living()) == (1, [ROOT])
    assert script.batch(exits(ROOT)).commands(10) == {b"root": (1, 10)}


def test_records_of_other_kinds_are_ignored() -> None:
    script = Script().batch(*(Step(kind, both(ROOT, ROOT), 5) for kind in (1, 2, 5, 6, 9, 10, 99)), exits(ROOT))
    assert script.commands(3) == {b"root": (1, 3)}


def test_started_counts_processes_and_no_threads() -> None:
    script = Script()
    assert script.roll.started == 1
    script.batch(fork(1), thread(1, 2), thread(ROOT, 3), fork(4, 1), execs(4, b"x"), execs(4, b"y"))
    assert script.roll.started == 3
    script.batch(*ends(4, 1), fork(4))
    assert script.roll.started == 4


def test_lives_are_summed_by_command() -> None:
    script = Script().batch(fork(1), fork(2), execs(1, b"x"), execs(2, b"x"), exits(1), exits(2))
    # forked at 1010 and 1020, ended at 1050 and 1060; the root lives on
    assert script.walls(2000) == {b"root": 1000, b"x": 80}


def test_only_the_living_and_those_that_ended_last_are_kept() -> None:
    script = Script()
    for pid in range(1000, 6000):
        script.batch(fork(pid), execs(pid, b"true"), *ends(pid, 1))
        assert len(script.roll._entries) <= 3
    assert len(script.roll._tallies) == 1
    script.batch().batch()
    assert script.roll.living() == list(script.roll._entries) == [ROOT]
    assert script.commands() == {b"root": (1, 0), b"true": (5000, 5000)}


def test_no_records_at_all() -> None:
    script = Script()
    script.roll.take([])
    assert script.commands(100, {ROOT: 100}) == {b"root": (1, 100)}


# -- by chance ---------------------------------------------------------------------------------------------------


class Task:
    """A thread as the kernel knows it. `cpu_ns`: what it used."""

    def __init__(self, tid: int) -> None:
        self.tid = tid
        self.cpu_ns = 0


class Process:
    def __init__(self, pid: int, command: bytes, begun_ns: int, task: Task) -> None:
        self.pid = pid
        self.command = command
        self.begun_ns = begun_ns
        self.ended_ns: int | None = None
        self.tasks = [task]
        self.cpu_ns = 0  # of all its threads, alive or not


class Kernel:
    """A tree that forks, executes and ends, and what perf would write of it.

    A READ comes with its EXIT, later, or in the next batch at the latest; a number is given out again only after that.
    The root's first task has no READ.
    """

    def __init__(self) -> None:
        self.now_ns = BEGUN_NS
        self.given = [ROOT]  # numbers, of threads and processes
        self.roll = Roll(ROOT, b"root", BEGUN_NS)
        self.records: list[Record] = []
        self.missing: list[tuple[int, Process, Task]] = []  # READs that did not come so far, with their batch
        self.batches = 0
        self.owner = Task(ROOT)
        self.read_ns = 0
        self.living = [Process(ROOT, b"root", BEGUN_NS, self.owner)]
        self.ended: list[Process] = []

    def task(self, again: bool) -> Task:
        used = {process.pid for process in self.living} | {process.pid for _, process, _ in self.missing}
        used |= {task.tid for process in self.living for task in process.tasks}
        used |= {task.tid for _, _, task in self.missing}
        free = [number for number in self.given if number not in used]
        number = free[-1] if again and free else max(self.given) + 1
        self.given.append(number)
        return Task(number)

    def write(self, step: Step) -> None:
        self.now_ns += 1
        self.records.append((self.now_ns, *step))

    def fork(self, process: Process, again: bool) -> None:
        task = self.task(again)
        self.write(fork(task.tid, process.pid))
        self.living.append(Process(task.tid, process.command, self.now_ns, task))

    def thread(self, process: Process, again: bool) -> None:
        task = self.task(again)
        self.write(thread(process.pid, task.tid))
        process.tasks.append(task)

    def burn(self, process: Process, task: Task, ns: int) -> None:
        task.cpu_ns += ns
        process.cpu_ns += ns

    def execs(self, process: Process, survivor: Task, name: bytes) -> None:
        for task in [task for task in process.tasks if task is not survivor]:
            self.exits(process, task)
        self.settle(lambda batch, whose: whose is process)
        survivor.tid = process.pid  # whoever calls exec becomes the leader
        process.command = name
        self.write(execs(process.pid, name))

    def exits(self, process: Process, task: Task) -> None:
        self.write(exits(process.pid, task.tid))
        process.tasks.remove(task)
        if not process.tasks:
            process.ended_ns = self.now_ns
            self.living.remove(process)
            self.ended.append(process)
        self.missing.append((self.batches, process, task))

    def settle(self, which: Callable[[int, Process], bool]) -> None:
        """READs that were missing come."""
        for entry in list(self.missing):
            batch, process, task = entry
            if which(batch, process):
                self.missing.remove(entry)
                if task is not self.owner:
                    self.write(read(process.pid, task.tid, task.cpu_ns))
                    self.read_ns += task.cpu_ns

    def batch(self) -> None:
        self.settle(lambda batch, process: batch < self.batches)
        self.roll.take(self.records)
        self.records = []
        self.batches += 1

    def step(self, what: str, who: int, which: int, again: bool) -> None:
        if what == "batch":
            self.batch()
        elif what == "settle":
            self.settle(lambda batch, process: True)
        elif self.living:
            process = self.living[who % len(self.living)]
            task = process.tasks[which % len(process.tasks)]
            if what == "fork":
                self.fork(process, again)
            elif what == "thread":
                self.thread(process, again)
            elif what == "burn":
                self.burn(process, task, 1 + 10 * who + which)
            elif what == "exec":
                self.execs(process, task, b"command %d" % (which % 3))
            else:
                self.exits(process, task)

    def finish(self) -> None:
        self.settle(lambda batch, process: True)
        self.batch()

    def total_ns(self) -> int:
        return sum(process.cpu_ns for process in self.living + self.ended)

    def clocks(self) -> dict[int, int]:
        return {process.pid: process.cpu_ns for process in self.living}

    def commands(self) -> dict[bytes, tuple[int, int, int]]:
        """(processes, CPU nanoseconds, nanoseconds of life) of each command."""
        found: dict[bytes, tuple[int, int, int]] = {}
        for process in self.living + self.ended:
            count, cpu_ns, wall_ns = found.get(process.command, (0, 0, 0))
            ended_ns = self.now_ns if process.ended_ns is None else process.ended_ns
            found[process.command] = (count + 1, cpu_ns + process.cpu_ns, wall_ns + ended_ns - process.begun_ns)
        return found


ACTIONS = ["fork", "fork", "thread", "exec", "exit", "exit", "burn", "burn", "settle", "batch"]
STEPS = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(0, 7), st.integers(0, 7), st.booleans()), min_size=5, max_size=60
)


def play(steps: list[tuple[str, int, int, bool]]) -> Kernel:
    kernel = Kernel()
    for step in steps:
        kernel.step(*step)
    kernel.finish()
    return kernel


@settings(deadline=None, max_examples=examples(1000))
@given(STEPS)
def test_every_command_of_any_tree_gets_what_it_used(steps: list[tuple[str, int, int, bool]]) -> None:
    kernel = play(steps)
    assert sorted(kernel.roll.living()) == sorted(process.pid for process in kernel.living)
    assert kernel.roll.started == len(kernel.living) + len(kernel.ended)
    tallies = kernel.roll.commands(kernel.total_ns(), kernel.now_ns, kernel.clocks())
    assert {
        name: (tally.processes, tally.cpu_ns, tally.wall_ns) for name, tally in tallies.items()
    } == kernel.commands()


@settings(deadline=None, max_examples=examples(500))
@given(STEPS, st.integers(0, 5000))
def test_sums_are_kept_whatever_the_total(steps: list[tuple[str, int, int, bool]], total_ns: int) -> None:
    kernel = play(steps)
    tallies = kernel.roll.commands(total_ns, kernel.now_ns, kernel.clocks())
    assert sum(tally.processes for tally in tallies.values()) == kernel.roll.started
    assert sum(tally.cpu_ns for tally in tallies.values()) == max(total_ns, kernel.read_ns)


NUMBERS = st.integers(0, 5) | st.integers(ROOT, ROOT + 2)
IDS = st.builds(both, NUMBERS, NUMBERS)
STRAY = st.one_of(
    st.builds(Step, st.sampled_from([RECORD_FORK, RECORD_EXIT]), IDS, IDS),
    st.builds(Step, st.just(RECORD_COMM), IDS, st.binary(max_size=15)),
    st.builds(Step, st.just(RECORD_READ), IDS, st.integers(0, 1000)),
    st.builds(Step, st.integers(0, 20).filter(lambda kind: kind not in (3, 4, 7, 8)), IDS, st.integers(0, 1000)),
)


@settings(deadline=None, max_examples=examples(500))
@given(st.lists(st.lists(STRAY, max_size=12), max_size=6), st.integers(0, 5000), st.dictionaries(NUMBERS, NUMBERS))
def test_records_without_sense_never_raise_and_invent_nothing(
    batches: list[list[Step]], total_ns: int, clocks: dict[int, int]
) -> None:
    script = Script()
    for steps in batches:
        script.batch(*steps)
    made = [step for steps in batches for step in steps if step.kind == RECORD_FORK]
    processes = [step for step in made if isinstance(step.more, int) and (step.ids ^ step.more) & 0xFFFFFFFF == 0]
    reads = sum(
        step.more for steps in batches for step in steps if step.kind == RECORD_READ and isinstance(step.more, int)
    )
    assert script.roll.started == 1 + len(processes)
    commands = script.commands(total_ns, clocks)
    assert sum(count for count, _ in commands.values()) == script.roll.started
    assert total_ns <= sum(cpu_ns for _, cpu_ns in commands.values()) <= max(total_ns, reads)


# -- how many live at once -----------------------------------------------------------------------------------------


def test_how_many_lived_at_once_is_of_the_last_two_intervals() -> None:
    script = Script().batch(fork(1), fork(2), *ends(1, 3), *ends(2, 3), fork(3), *ends(3, 1))
    assert script.roll.take_lived() == (3, 3)
    assert script.roll.take_lived() == (3, 0), "records of the last moments come later"
    assert script.roll.take_lived() == (1, 0)
    script.batch(thread(ROOT, 7), fork(4), exits(ROOT, 7), *ends(4, 1))
    assert script.roll.take_lived() == (2, 1)
