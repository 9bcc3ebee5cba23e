"""perf_event_open: real counters and rings, and a kernel that refuses them."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import pickle
import resource
import select
import shutil
import signal
import subprocess
import time
from collections import Counter as Counts
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perf_made import (
    COMM,
    EXIT,
    FORK,
    OPENED,
    PAGE,
    READ,
    SHORT_FORK_NS,
    Call,
    Library,
    Making,
    fake,
    is_closed_to_new_ones,
    tight,
    without_witnesses,
)
from places import SUPPORT
from proctally.linux import perf, perf_attach
from proctally.linux.c_library import libc
from proctally.linux.perf import (
    Events,
    PerfRefused,
    Record,
    Rings,
    Unsupported,
)
from proctally.linux.proc import parse_cpu_list
from proctally.tree.perf_processes import Roll
from tracked import PYTHON, without_name
from truth import stolen_ns

WORKLOADS = SUPPORT / "workloads.py"
SLACK_NS = 20_000_000


def paranoid() -> int | None:
    try:
        return int(Path("/proc/sys/kernel/perf_event_paranoid").read_text())
    except (OSError, ValueError):
        return None


def online() -> list[int]:
    return sorted(parse_cpu_list(Path("/sys/devices/system/cpu/online").read_bytes()))


def refusal() -> str | None:
    """None, or in one line why there are no real counters here."""
    try:
        os.close(Events(libc()).open(0, -1, perf.OURS))
    except (Unsupported, PerfRefused) as error:
        return f"no perf: {error!r}"
    return None


NO_PERF = refusal()
real = pytest.mark.skipif(NO_PERF is not None, reason=str(NO_PERF))


@pytest.fixture(scope="module", autouse=True)
def collections_are_small() -> Iterator[None]:
    """There are some in each test, and each would look at all that the session has loaded."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def open_fds() -> list[str]:
    gc.collect()  # what earlier tests left open
    return sorted(os.listdir("/proc/self/fd"))


# -- a kernel that refuses ---------------------------------------------------------------------------------------


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that stand for events know no PERF_EVENT_IOC_SET_OUTPUT."""
    monkeypatch.setattr(perf, "ioctl", lambda fd, request, argument: 0)
    monkeypatch.setattr(perf_attach, "ioctl", lambda fd, request, argument: 0)
    monkeypatch.setattr(perf_attach, "FORK_NS", SHORT_FORK_NS)


@pytest.mark.parametrize(
    "number",
    [errno.EACCES, errno.EPERM, errno.ENOSYS, errno.EMFILE, errno.EINVAL, errno.ENOENT, errno.ENOMEM, errno.ESRCH],
)
@pytest.mark.parametrize("after", range(6))
@pytest.mark.usefixtures("output")
def test_a_refusal_leaves_nothing_open(number: int, after: int) -> None:
    """Four CPUs take six events; the kernel has had enough after some."""
    left = [after]

    def answer(call: Call) -> int:
        left[0] -= 1
        return number if left[0] < 0 else 0

    before = open_fds()
    _, events = fake(answer)
    with pytest.raises(PerfRefused) as caught:
        perf.open_rings(events, 1, range(4))
    assert caught.value.errno == number
    assert open_fds() == before


def test_a_refused_output_leaves_nothing_open() -> None:
    before = open_fds()
    _, events = fake(lambda call: 0)
    with pytest.raises(PerfRefused) as caught:
        perf.open_rings(events, 1, range(2))
    assert caught.value.errno == errno.ENOTTY
    assert open_fds() == before


def test_a_refused_counter() -> None:
    before = open_fds()
    _, events = fake(lambda call: errno.EACCES)
    with pytest.raises(PerfRefused) as caught:
        perf.open_counter(events, 1)
    assert (caught.value.errno, caught.value.strerror) == (errno.EACCES, os.strerror(errno.EACCES))
    assert open_fds() == before


@pytest.mark.usefixtures("output")
def test_all_that_is_open_is_closed() -> None:
    before = open_fds()
    library, events = fake(lambda call: 0)
    rings = perf.open_rings(events, 1, [0, 3])
    assert [(call.cpu, call.word(8)) for call in library.calls] == [(0, 9), (3, 9), (-1, 9), (-1, 1)]
    assert perf.RING_BYTES[0] == 131072
    assert all(call.watermark == 131072 // 2 for call in library.calls)
    assert (len(rings.fds), rings.lost(), rings.drain(None), rings.read()) == (3, 0, [], 0)
    assert open_fds() != before
    rings.close()
    rings.close()
    assert open_fds() == before
    counter = perf.open_counter(events, 1)
    assert counter.read() == 0
    counter.close()
    assert open_fds() == before


@pytest.mark.usefixtures("output")
def test_a_kernel_that_does_not_count_what_was_lost() -> None:
    before = open_fds()
    library, events = fake(lambda call: errno.EINVAL if call.read_format else 0)
    rings = perf.open_rings(events, 1, range(2))
    assert rings.lost() is None
    assert rings.read() == 0
    assert library.calls[-1].watermark == perf.RING_BYTES[0] // 2
    assert [call.read_format for call in library.calls] == [16, 0, 0, 0, 0]
    rings.close()
    assert open_fds() == before


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOMEM])
@pytest.mark.parametrize("most", [131072, 65536, 32768, 16384])
@pytest.mark.usefixtures("output")
def test_where_memory_is_short_rings_are_smaller(
    monkeypatch: pytest.MonkeyPatch, most: int, number: int, after: int
) -> None:
    before = open_fds()
    tried = tight(monkeypatch, most, number, after)
    library, events = fake(lambda call: 0)
    rings = perf.open_rings(events, 1, range(2))
    assert list(dict.fromkeys(tried)) == [size for size in (131072, 65536, 32768, 16384) if size >= most]
    assert {call.watermark for call in library.calls[-4:]} == {most // 2}
    rings.close()
    assert open_fds() == before


@pytest.mark.usefixtures("output")
def test_where_memory_is_too_short_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_fds()
    tried = tight(monkeypatch, 0)
    _, events = fake(lambda call: 0)
    with pytest.raises(PerfRefused) as caught:
        perf.open_rings(events, 1, range(2))
    assert caught.value.errno == errno.ENOMEM
    assert list(dict.fromkeys(tried)) == [131072, 65536, 32768, 16384]
    assert open_fds() == before


# -- attaching to threads while they make others -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "counted", "unsure"),
    [
        (None, [1, 2], False),
        (50, [1, 2], False),
        (250, [1], False),
        (OPENED[1] + SHORT_FORK_NS, [1], False),
    ],
)
@pytest.mark.usefixtures("output")
def test_a_new_thread_counts_where_it_has_inherited_and_by_itself_where_not(
    when: int | None, counted: list[int], unsure: bool
) -> None:
    before = open_fds()
    library = Making()
    attached = perf_attach.Attached(Events(library, "x86_64"), [0])
    clock = iter([*OPENED, 300, 400]).__next__
    assert attached.take_in([1], clock) == 1
    if when is not None:
        library.make(2, 1, when)
    assert attached.take_in([1, 2], clock) == 1
    assert attached.take_in([1, 2], clock) == 0
    assert (library.counted(), len(attached), attached.unsure) == (counted, len(counted), unsure)
    attached.settle()
    attached.close()
    assert open_fds() == before


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOMEM])
@pytest.mark.usefixtures("output")
def test_where_no_witness_can_be_mapped_nobody_new_is_opened(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    tight(monkeypatch, 0, number, after=0)
    before = open_fds()
    library = Making()
    attached = perf_attach.Attached(Events(library, "x86_64"), [0, 1])
    assert attached.take_in([1, 2, 3], lambda: 0) == 3
    assert len(open_fds()) == len(before) + 3, "the counters alone"
    is_closed_to_new_ones(library, attached, [1, 2, 3])
    assert open_fds() == before


@pytest.mark.parametrize("after", [0, 1, 2, 3])
@pytest.mark.usefixtures("output")
def test_where_no_descriptor_is_left_for_witnesses_nobody_new_is_opened(after: int) -> None:
    before = open_fds()
    library = Making()
    without_witnesses(library, after)
    attached = perf_attach.Attached(Events(library, "x86_64"), [0, 1])
    assert attached.take_in([1, 2, 3], lambda: 0) == 3
    assert len(open_fds()) == len(before) + 3, "the witnesses are given up for the counters"
    is_closed_to_new_ones(library, attached, [1, 2, 3])
    assert open_fds() == before


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_attaching_needs_descriptors(number: int) -> None:
    before = open_fds()
    left = [3]

    def answer(call: Call) -> int:
        left[0] -= 1
        return number if left[0] < 0 else 0

    library = Library(answer)
    attached = perf_attach.Attached(Events(library, "x86_64"), [0])
    with pytest.raises(PerfRefused) as caught:
        attached.take_in([1, 2, 3], lambda: 0)
    assert caught.value.errno == number
    attached.close()
    assert open_fds() == before


# -- real counters -----------------------------------------------------------------------------------------------


HOLD = 'echo >&9; read line <&8; exec "$0" "$@" 8<&- 9>&-'


class Held:
    """A child that waits, as a small shell, before it calls exec; it says and is told lines by two pipes."""

    def __init__(self, *argv: str, before: Callable[[], object] | None = None) -> None:
        hold, self._release = os.pipe()
        stdin, self._stdin = os.pipe()
        self._stdout, stdout = os.pipe()
        held, ready = os.pipe()
        self.usage: resource.struct_rusage | None = None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (stdin, stdout, hold, ready)]
                for fd, number in zip(high, (0, 1, 8, 9), strict=True):
                    os.dup2(fd, number)
                if before is not None:
                    before()
                os.execv("/bin/sh", ["/bin/sh", "-c", HOLD, *argv])
            finally:
                os._exit(127)
        for fd in (hold, stdin, stdout, ready):
            os.close(fd)
        assert os.read(held, 1) == b"\n"
        os.close(held)

    def release(self) -> None:
        self._begun_stolen_ns = stolen_ns()
        os.close(self._release)

    def tell(self) -> None:
        """Have it do its next step, and wait until it is done."""
        os.write(self._stdin, b"\n")
        assert os.read(self._stdout, 100) == b"done\n"

    def ended(self) -> bool:
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        return bool(pid) and self._note(status, usage)

    def _note(self, status: int, usage: resource.struct_rusage) -> bool:
        assert status == 0, f"wait status {status}"
        self.usage = usage
        self.stolen_ns = stolen_ns() - self._begun_stolen_ns
        for fd in (self._stdin, self._stdout):
            os.close(fd)
        return True

    def wait(self) -> float:
        """Nanoseconds of CPU of it and of the children it waited for."""
        if self.usage is None:
            _, status, usage = os.wait4(self.pid, 0)
            self._note(status, usage)
        assert self.usage is not None
        return (self.usage.ru_utime + self.usage.ru_stime) * 1e9

    def kill(self) -> None:
        if self.usage is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


FORKS = """
import os
for _ in range({count}):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
"""
STEPS = """
import os, sys
while os.read(0, 1):
    for _ in range({count}):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    os.write(1, b"done\\n")
"""
STORM_C = """
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv) {
    int parents = atoi(argv[1]), count = atoi(argv[2]);
    for (int i = 0; i < parents; i++)
        if (fork() == 0) {
            for (int j = 0; j < count; j++) {
                pid_t pid = fork();
                if (pid == 0)
                    _exit(0);
                if (pid < 0 || waitpid(pid, NULL, 0) != pid)
                    _exit(1);
            }
            _exit(0);
        }
    int status, failed = 0;
    while (wait(&status) > 0)
        failed |= status != 0;
    return failed;
}
"""
STORM = """
import os, sys
parents, count = map(int, sys.argv[1:])
def many():
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
for _ in range(parents):
    if os.fork() == 0:
        many()
        os._exit(0)
for _ in range(parents):
    os.wait()
"""


def python(code: str, *arguments: str) -> list[str]:
    return [*PYTHON, "-c", code, *arguments]


@pytest.fixture
def storm(tmp_path: Path) -> list[str]:
    """A command that takes two numbers: parents, and how often each forks."""
    compiler = shutil.which("cc")
    if compiler is None:
        return python(STORM)
    source, program = tmp_path / "storm.c", tmp_path / "storm"
    source.write_text(STORM_C)
    subprocess.run([compiler, "-O1", "-o", str(program), str(source)], check=True)
    return [str(program)]


def events() -> Events:
    return Events(libc())


def kinds(records: list[Record]) -> Counts[int]:
    return Counts(kind for _, kind, _, _ in records)


def in_order(records: list[Record]) -> bool:
    times = [when for when, *_ in records]
    return times == sorted(times)


def same_cpu(counted: float, used: float, stolen: float = 0, processes: int = 1) -> bool:
    """Within 1 % and 20 ms; below by 1 ms for each process more, above by what was stolen.

    Since Linux 6.16 a counter stops before the memory of its process is taken down; what is stolen from a running
    thread is in its counter, and not in its usage.
    """
    least = 0.99 * used - SLACK_NS - 1_000_000 * (processes - 1)
    return least <= counted <= 1.01 * used + SLACK_NS + stolen


JOBS = {
    "busy": python("i = 0\nwhile i < 5_000_000: i += 1"),
    "threads": [*PYTHON, str(WORKLOADS), "threads", "0.4"],
    "preforked": [*PYTHON, str(WORKLOADS), "preforked", "0.4"],
    "thread_execs": [*PYTHON, str(WORKLOADS), "thread_execs", "0.4"],
    "forks": python(FORKS.format(count=20) + "import time\nwhile time.process_time() < 0.2: pass"),
    "shell": ["/bin/sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; /bin/true; (:)"],
}


@real
@pytest.mark.parametrize("name", JOBS)
def test_counter_and_rings_say_what_the_kernel_says_of_its_usage(name: str) -> None:
    before = open_fds()
    held = Held(*JOBS[name])
    counter = perf.open_counter(events(), held.pid)
    rings = perf.open_rings(events(), held.pid, online())
    assert (counter.read(), rings.read()) == (0, 0), "it counts from the exec on"
    held.release()
    used = held.wait()
    assert used > 20e6
    processes = kinds(rings.drain(None))[FORK] + 1  # and threads
    assert same_cpu(counter.read(), used, held.stolen_ns, processes)
    assert same_cpu(rings.read(), used, held.stolen_ns, processes)
    assert (rings.lost(), rings.broken) in [(0, 0), (None, 0)]
    counter.close()
    rings.close()
    assert open_fds() == before


@real
def test_children_that_nobody_waits_for_are_counted() -> None:
    held = Held(*PYTHON, str(WORKLOADS), "sigchld_ignored", "0.5")
    counter = perf.open_counter(events(), held.pid)
    rings = perf.open_rings(events(), held.pid, online())
    held.release()
    used = held.wait()
    assert used < 0.4e9, "it is the parent's own"
    for counted in (counter.read(), rings.read()):
        assert 0.5e9 - SLACK_NS <= counted - used <= 0.6e9 + held.stolen_ns
    counter.close()
    rings.close()


@real
@pytest.mark.parametrize("count", [0, 1, 40])
def test_every_process_is_told(count: int) -> None:
    held = Held(*python(FORKS.format(count=count)))
    rings = perf.open_rings(events(), held.pid, online())
    begun = time.monotonic_ns()
    held.release()
    used = held.wait()
    records = rings.drain(None)
    ended = time.monotonic_ns()
    assert kinds(records) == Counts({FORK: count, EXIT: count + 1, READ: count, COMM: 1})
    assert in_order(records)
    assert all(begun < when < ended for when, *_ in records)
    forks = [(ids & perf.LOWER, ids >> 32) for _, kind, ids, _ in records if kind == FORK]
    assert all(parent == held.pid for _, parent in forks)
    exits = [ids & perf.LOWER for _, kind, ids, _ in records if kind == EXIT]
    assert exits == [*(pid for pid, _ in forks), held.pid]
    name = next(more for _, kind, _, more in records if kind == COMM)
    assert name == os.path.basename(PYTHON[0]).encode()[:15]
    assert sum(int(more) for _, kind, _, more in records if kind == READ) <= used + held.stolen_ns
    assert (rings.broken, rings.drain(None)) == (0, [])
    rings.close()


@real
def test_the_roll_of_a_real_tree() -> None:
    script = (
        "/bin/true; /bin/true; (:); /bin/sleep 0; exec /bin/sh -c 'i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done'"
    )
    held = Held("/bin/sh", "-c", script)
    rings = perf.open_rings(events(), held.pid, online())
    roll = Roll(held.pid, b"held", time.monotonic_ns())
    held.release()
    used = held.wait()
    roll.take(rings.drain(None))
    total = rings.read()
    tallies = roll.commands(total, time.monotonic_ns(), {})
    assert {name: tally.processes for name, tally in tallies.items()} == {b"sh": 2, b"true": 2, b"sleep": 1}
    assert sum(tally.cpu_ns for tally in tallies.values()) == total
    assert same_cpu(total, used, held.stolen_ns)
    assert all(tally.cpu_ns > 0 and tally.wall_ns > 0 for tally in tallies.values())
    rings.close()


@real
def test_exec_by_another_thread_keeps_one_process() -> None:
    held = Held(*JOBS["thread_execs"])
    rings = perf.open_rings(events(), held.pid, online())
    roll = Roll(held.pid, b"held", time.monotonic_ns())
    held.release()
    held.wait()
    roll.take(rings.drain(None))
    assert (roll.started, roll.living()) == (1, [])
    total = rings.read()
    assert sum(tally.cpu_ns for tally in roll.commands(total, time.monotonic_ns(), {}).values()) == total
    rings.close()


@real
def test_a_storm_of_forks_is_told_whole(storm: list[str]) -> None:
    """More than the rings hold, from four parents at once. The storm gives way to whoever takes its records."""
    parents, count = 4, 2000
    held = Held(*storm, str(parents), str(count), before=lambda: os.nice(19))
    counter = perf.open_counter(events(), held.pid)
    rings = perf.open_rings(events(), held.pid, online())
    held.release()
    poller = select.poll()
    for fd in rings.fds:
        poller.register(fd, select.POLLIN)
    records: list[Record] = []
    while not held.ended():
        poller.poll(50)
        records += rings.drain(time.monotonic_ns() - 1_000_000)
    records += rings.drain(None)
    assert rings.lost() in (0, None)
    assert rings.broken == 0
    forks = parents * (count + 1)
    assert kinds(records) == {FORK: forks, EXIT: forks + 1, READ: forks, COMM: 1}
    assert in_order(records)
    assert same_cpu(rings.read(), counter.read())
    assert sum(int(more) for _, kind, _, more in records if kind == READ) <= rings.read()
    assert rings.read() <= 1.01 * held.wait() + SLACK_NS + held.stolen_ns
    counter.close()
    rings.close()


@real
def test_drain_holds_back_what_is_not_before_now() -> None:
    held = Held(*python(STEPS.format(count=5)))
    rings = perf.open_rings(events(), held.pid, online())
    early = time.monotonic_ns()
    held.release()
    held.tell()
    between = time.monotonic_ns()
    held.tell()
    assert rings.drain(early) == []
    first = rings.drain(between)
    assert kinds(first) == {COMM: 1, FORK: 5, EXIT: 5, READ: 5}
    assert all(when < between for when, *_ in first)
    assert rings.drain(between) == []
    second = rings.drain(time.monotonic_ns())
    assert kinds(second) == {FORK: 5, EXIT: 5, READ: 5}
    assert all(when >= between for when, *_ in second)
    held.kill()
    assert kinds(rings.drain(None)) == {EXIT: 1}
    rings.close()


@real
def test_a_small_ring_that_is_read_in_time_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perf, "RING_BYTES", (PAGE,))
    held = Held(*python(STEPS.format(count=PAGE // 400)))
    rings = perf.open_rings(events(), held.pid, online())
    held.release()
    records: list[Record] = []
    for _ in range(200):
        held.tell()
        records += rings.drain(None)
    forks = 200 * (PAGE // 400)
    assert kinds(records) == {COMM: 1, FORK: forks, EXIT: forks, READ: forks}
    assert forks * 80 > 5 * len(rings.fds) * PAGE or len(online()) > 8, "each ring began again many times"
    assert (rings.lost(), rings.broken) in [(0, 0), (None, 0)]
    assert in_order(records)
    held.kill()
    rings.close()


@real
def test_a_small_ring_that_nobody_reads_says_what_it_lost(monkeypatch: pytest.MonkeyPatch, storm: list[str]) -> None:
    monkeypatch.setattr(perf, "RING_BYTES", (PAGE,))
    held = Held(*storm, "2", "1500")
    counter = perf.open_counter(events(), held.pid)
    rings = perf.open_rings(events(), held.pid, online())
    held.release()
    held.wait()
    lost = rings.lost()
    records = rings.drain(None)
    if lost is not None:
        told = 3 * 2 * 1501 + 2  # of each fork FORK, EXIT and READ, and the root's exec and end
        assert lost > 0
        assert len(records) + lost >= told
    assert 0 < len(records) <= (len(rings.fds) * PAGE) // 32
    assert (rings.broken, in_order(records)) == (0, True)
    assert same_cpu(rings.read(), counter.read()), "the count itself loses nothing"
    assert (rings.drain(None), rings.broken) == ([], 0)
    counter.close()
    rings.close()


# -- an ordinary user --------------------------------------------------------------------------------------------


def as_ordinary_user(body: Callable[[], Any]) -> Any:
    """What `body` returns when somebody calls it who is not root and has no other process; its failure is ours."""
    if os.geteuid() != 0:
        return body()
    number = without_name()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read_end)
            os.setgroups([])
            os.setgid(number)
            os.setuid(number)
            try:
                answer = (True, body())
            except BaseException as error:
                answer = (False, f"{type(error).__name__}: {error}")
            os.write(write_end, pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as file:
        good, answer = pickle.loads(file.read())
    os.waitpid(pid, 0)
    assert good, answer
    return answer


LEVEL = paranoid()
for_all = pytest.mark.skipif(
    NO_PERF is not None or (LEVEL is not None and LEVEL > 2),
    reason=NO_PERF or f"perf is not for ordinary users: kernel.perf_event_paranoid is {LEVEL}",
)


@for_all
def test_an_ordinary_user_has_counter_and_rings() -> None:
    def body() -> tuple[float, int, int, int, Counts[int], int | None, int]:
        held = Held(*JOBS["shell"])
        counter = perf.open_counter(events(), held.pid)
        rings = perf.open_rings(events(), held.pid, online())
        held.release()
        used = held.wait()
        return used, held.stolen_ns, counter.read(), rings.read(), kinds(rings.drain(None)), rings.lost(), rings.broken

    used, stolen, counted, by_rings, found, lost, broken = as_ordinary_user(body)
    assert used > 20e6
    assert same_cpu(counted, used, stolen)
    assert same_cpu(by_rings, used, stolen)
    assert (found, lost or 0, broken) == ({FORK: 2, EXIT: 3, READ: 2, COMM: 2}, 0, 0)


@for_all
@pytest.mark.skipif(LEVEL is not None and LEVEL < 0, reason="kernel.perf_event_paranoid < 0: no limit of memory")
@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to become a user who has no ring yet")
def test_rings_become_smaller_as_the_users_memory_is_used_up() -> None:
    """The pool of kernel.perf_event_mlock_kb is the user's; what is beyond it is bound by RLIMIT_MEMLOCK."""

    def body() -> tuple[list[int], int | None, int, int]:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        held = Held("/bin/true")
        sizes: list[int] = []
        kept: list[Rings] = []
        while True:
            before = len(open_fds())
            try:
                rings = perf.open_rings(events(), held.pid, online())
            except PerfRefused as error:
                after = len(open_fds())
                number = error.errno
                break
            sizes.append(rings._rings[0].size)
            kept.append(rings)
        counter = perf.open_counter(events(), held.pid)  # the counter alone needs no memory
        held.release()
        held.wait()
        return sizes, number, after - before, counter.read()

    sizes, number, left_open, counted = as_ordinary_user(body)
    assert (number, left_open) == (errno.ENOMEM, 0)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == max(perf.RING_BYTES[0], PAGE)
    assert len(set(sizes)) > 1
    assert counted > 0


@for_all
def test_another_users_process_is_refused() -> None:
    if os.geteuid() != 0:
        pytest.skip("it takes root to become another user")
    held = Held("/bin/true")

    def body() -> int | None:
        try:
            perf.open_rings(events(), held.pid, online())
        except PerfRefused as error:
            return error.errno
        return None

    assert as_ordinary_user(body) in (errno.EACCES, errno.EPERM)
    held.release()
    held.wait()


@real
def test_a_process_that_is_gone_is_refused() -> None:
    before = open_fds()
    held = Held("/bin/true")
    held.release()
    held.wait()
    with pytest.raises(PerfRefused) as caught:
        perf.open_rings(events(), held.pid, online())
    assert caught.value.errno == errno.ESRCH
    with pytest.raises(PerfRefused):
        perf.open_counter(events(), held.pid)
    assert open_fds() == before
