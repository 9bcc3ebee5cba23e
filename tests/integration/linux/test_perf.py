"""perf_event_open: records packed by hand, a kernel that refuses, and real counters and rings where they can be had."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
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
from struct import pack, unpack_from
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proctally.kernel import perf
from proctally.kernel.cgroup import parse_cpu_list
from proctally.kernel.child import libc
from proctally.kernel.perf import (
    Events,
    Record,
    Refused,
    Ring,
    Rings,
    Unavailable,
    decode,
    explain,
)
from proctally.roll import Roll
from tracked import PYTHON, without_name
from truth import stolen_ns

PAGE = mmap.PAGESIZE
WORKLOADS = Path(__file__).with_name("workloads.py")
SLACK_NS = 20_000_000

COMM, EXIT, FORK, READ = 3, 4, 7, 8  # enum perf_event_type
COMM_EXEC = 1 << 13


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
    except Unavailable as reason:
        return str(reason)
    except Refused as error:
        return explain(error, paranoid())
    return None


NO_PERF = refusal()
real = pytest.mark.skipif(NO_PERF is not None, reason=str(NO_PERF))


def open_fds() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


# -- records -----------------------------------------------------------------------------------------------------


def header(kind: int, size: int, misc: int = 0) -> bytes:
    return pack("<IHH", kind, misc, size)


def record(kind: int, *parts: bytes, misc: int = 0) -> bytes:
    body = b"".join(parts)
    return header(kind, 8 + len(body), misc) + body


def task(kind: int, pid: int, parent: int, tid: int, ptid: int, when: int) -> bytes:
    """FORK and EXIT: `u32 pid, ppid; u32 tid, ptid; u64 time; struct sample_id` (of which we ask for the time)."""
    return record(kind, pack("<IIIIQ", pid, parent, tid, ptid, when), pack("<Q", when))


def comm(pid: int, tid: int, name: bytes, when: int, misc: int = COMM_EXEC) -> bytes:
    """COMM: `u32 pid, tid; char comm[]; struct sample_id`; the name ends with a zero and is padded to eight bytes."""
    padded = name + bytes(8 - len(name) % 8)
    return record(COMM, pack("<II", pid, tid), padded, pack("<Q", when), misc=misc)


def read(pid: int, tid: int, *values: int, when: int) -> bytes:
    """READ: `u32 pid, tid; struct read_format; struct sample_id`."""
    return record(READ, pack(f"<II{len(values)}Q", pid, tid, *values), pack("<Q", when))


def decoded(data: bytes) -> tuple[bool, list[Record]]:
    records: list[Record] = []
    return decode(data, records), records


def both(low: int, high: int) -> int:
    return high << 32 | low


def test_fork_and_exit() -> None:
    data = task(FORK, 11, 10, 12, 13, 5_000_000_001) + task(EXIT, 21, 20, 22, 23, (1 << 63) + 5)
    assert decoded(data) == (
        True,
        [(5_000_000_001, FORK, both(11, 10), both(12, 13)), ((1 << 63) + 5, EXIT, both(21, 20), both(22, 23))],
    )


def test_fork_in_the_bytes_of_the_kernel() -> None:
    data = bytes.fromhex(
        "07000000" "0000" "2800"  # PERF_RECORD_FORK, misc, 40 bytes
        "0b000000" "0a000000" "0c000000" "0d000000"  # pid ppid tid ptid
        "0807060504030201" "0807060504030201"  # time, and time of sample_id
    )  # fmt: skip
    assert decoded(data) == (True, [(0x0102030405060708, FORK, 0x0A0000000B, 0x0D0000000C)])


def test_pids_of_another_namespace_fill_their_half() -> None:
    """A parent that is not to be seen from here is 0, a process that is gone is -1."""
    data = task(FORK, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0xFFFFFFFF, 9)
    assert decoded(data) == (True, [(9, FORK, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)])


def test_a_name_counts_when_exec_gave_it() -> None:
    given_by_exec = comm(5, 6, b"make", 7)
    assert decoded(given_by_exec) == (True, [(7, COMM, both(5, 6), b"make")])
    assert decoded(comm(5, 6, b"renamed", 7, misc=0)) == (True, [])
    assert decoded(comm(5, 6, b"renamed", 7, misc=0xFFFF & ~COMM_EXEC) + given_by_exec)[1] == [
        (7, COMM, both(5, 6), b"make")
    ]
    assert decoded(comm(5, 6, b"make", 7, misc=0xFFFF))[1] == [(7, COMM, both(5, 6), b"make")]


@given(st.binary(max_size=15).map(lambda name: name.replace(b"\0", b"\xff")), st.integers(0, (1 << 64) - 1))
def test_names_of_any_bytes(name: bytes, when: int) -> None:
    assert decoded(comm(1, 2, name, when)) == (True, [(when, COMM, both(1, 2), name)])


def test_names_of_all_lengths_lie_before_the_next_record() -> None:
    names = [b"123456789012345"[:length] for length in range(16)]
    data = b"".join(comm(1, 1, name, 1) for name in names)
    assert decoded(data) == (True, [(1, COMM, both(1, 1), name) for name in names])


def test_what_follows_the_end_of_a_name_is_not_of_it() -> None:
    data = record(COMM, pack("<II", 1, 2), b"sh\0garbage\0\0\0\0\0\0", pack("<Q", 3), misc=COMM_EXEC)
    assert decoded(data) == (True, [(3, COMM, both(1, 2), b"sh")])


def test_read_of_one_value_and_with_what_was_lost() -> None:
    data = read(1, 2, 123456789, when=50) + read(3, 4, 0, 17, when=60) + read(5, 6, (1 << 64) - 1, 0, when=70)
    assert decoded(data) == (
        True,
        [(50, READ, both(1, 2), 123456789), (60, READ, both(3, 4), 0), (70, READ, both(5, 6), (1 << 64) - 1)],
    )


def test_what_the_kernel_had_no_room_for_is_told() -> None:
    """LOST is 2: the event, how many, and when."""
    assert decoded(record(2, pack("<QQQ", 77, 5, 9))) == (True, [(9, 2, 77, 5)])


@pytest.mark.parametrize("kind", [0, 1, 5, 6, 9, 10, 11, 13, 14, 16, 99, 0xFFFFFFFF])
def test_other_kinds_are_skipped(kind: int) -> None:
    """THROTTLE is 5, UNTHROTTLE 6, and newer kernels have more."""
    for size in (0, 8, 16, 24, 1000):
        data = task(FORK, 1, 2, 3, 4, 5) + record(kind, bytes(size + 8)) + read(1, 3, 9, when=6)
        assert decoded(data) == (True, [(5, FORK, both(1, 2), both(3, 4)), (6, READ, both(1, 3), 9)])


def test_nothing() -> None:
    assert decoded(b"") == (True, [])


def test_records_are_appended() -> None:
    records: list[Record] = [(1, READ, 2, 3)]
    assert decode(read(4, 5, 6, when=7), records)
    assert records == [(1, READ, 2, 3), (7, READ, both(4, 5), 6)]


GOOD = task(FORK, 1, 2, 3, 4, 5)
BROKEN = {
    "zeros": bytes(64),
    "size 0": header(FORK, 0) + bytes(32),
    "size of the header alone": header(FORK, 8) + bytes(32),
    "beyond the end": header(FORK, 48) + bytes(32),
    "far beyond the end": header(READ, 0xFFF8) + bytes(32),
    "no multiple of eight": header(FORK, 41) + bytes(40),
    "a size of four": header(FORK, 4) + bytes(32),
    "a fork without its time": header(FORK, 24) + bytes(16),
    "a read without a value": header(READ, 24) + bytes(16),
    "half a record": GOOD[:24],
    "half a header": GOOD[:4],
    "one byte": b"\x07",
    "one byte too many": GOOD + b"\0",
    "one byte too few": GOOD + GOOD[:-1],
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_data_is_told(name: str) -> None:
    good, records = decoded(GOOD + BROKEN[name])
    assert not good
    assert records[0] == (5, FORK, both(1, 2), both(3, 4)), "what came before is good"
    assert not decoded(BROKEN[name])[0]


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_never_raise(data: bytes) -> None:
    decoded(data)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from([0, COMM_EXEC]), st.integers(0, 80), st.binary(max_size=64)),
        max_size=8,
    )
)
def test_any_headers_never_raise(parts: list[tuple[int, int, int, bytes]]) -> None:
    decoded(b"".join(header(kind, size, misc) + body for kind, misc, size, body in parts))


@given(st.lists(st.sampled_from([GOOD, comm(1, 1, b"x", 2), read(1, 1, 3, when=4)]), max_size=6), st.integers(0, 300))
def test_torn_data_gives_the_whole_records_before_the_tear(parts: list[bytes], at: int) -> None:
    data = b"".join(parts)
    good, records = decoded(data[:at])
    ends = {sum(map(len, parts[:count])) for count in range(len(parts) + 1)}
    assert good == (min(at, len(data)) in ends)
    assert records == decoded(data)[1][: len(records)]
    assert len(records) == sum(end <= at for end in ends) - 1


# -- what is said when it is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("level", [-1, 0, 1, 2, 3, 4, None])
@pytest.mark.parametrize(
    ("number", "asked_for"),
    [
        (errno.EACCES, "CAP_PERFMON"),
        (errno.EPERM, "CAP_PERFMON"),
        (errno.ENOSYS, "has no perf_event_open"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENFILE, "limit of open files"),
        (errno.ENOENT, "no such counter"),
        (errno.ENODEV, "no such counter"),
        (errno.EOPNOTSUPP, "no such counter"),
        (errno.ENOMEM, "perf_event_mlock_kb"),
        (errno.EBUSY, "no room"),
        (errno.EINVAL, "Invalid argument"),
        (errno.E2BIG, "too long"),
        (errno.ESRCH, "No such process"),
    ],
)
def test_what_is_said(number: int, asked_for: str, level: int | None) -> None:
    said = explain(Refused(number, os.strerror(number)), level)
    assert asked_for in said
    assert said == said.strip()
    assert len(said.splitlines()) == 1
    if number in (errno.EACCES, errno.EPERM):
        assert ("kernel.perf_event_paranoid" in said) == (level is not None and level > 2)
        if level is not None and level > 2:
            assert f"is {level}" in said and "ask for 2" in said


# -- the system call ---------------------------------------------------------------------------------------------


class Call:
    """What the system call was given."""

    def __init__(self, number: Any, attr: bytes, pid: Any, cpu: Any, group: Any, flags: Any) -> None:
        self.number: int = number.value
        self.attr = attr
        self.pid: int = pid.value
        self.cpu: int = cpu.value
        self.group: int = group.value
        self.flags: int = flags.value

    def word(self, at: int, size: int = 8) -> int:
        return int(unpack_from({4: "<I", 8: "<Q"}[size], self.attr, at)[0])

    @property
    def read_format(self) -> int:
        return self.word(32)

    @property
    def watermark(self) -> int:
        return self.word(48, 4)


class Library:
    """A C library whose kernel answers as it is told: an errno, or 0 for a file that can be mapped."""

    def __init__(self, answer: Callable[[Call], int]) -> None:
        self.answer = answer
        self.calls: list[Call] = []

    def syscall(self, *arguments: Any) -> int:
        call = Call(*arguments)
        self.calls.append(call)
        number = self.answer(call)
        if number:
            ctypes.set_errno(number)
            return -1
        fd = os.memfd_create("event")
        os.ftruncate(fd, PAGE + 2 * max(perf.RING_BYTES[0], PAGE))
        return fd


def fake(answer: Callable[[Call], int]) -> tuple[Library, Events]:
    library = Library(answer)
    return library, Events(library, "x86_64")


def test_an_unknown_architecture_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="x86_64 and aarch64"):
        Events(Library(lambda call: 0), "riscv64")


def test_no_library_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="ctypes"):
        Events(None, "x86_64")


@pytest.mark.parametrize(("architecture", "number"), [("x86_64", 298), ("aarch64", 241)])
def test_the_call(architecture: str, number: int) -> None:
    library = Library(lambda call: 0)
    fd = Events(library, architecture).open(-5, 7, 0)
    os.close(fd)
    call = library.calls[0]
    assert (call.number, call.pid, call.cpu, call.group, call.flags) == (number, -5, 7, -1, 8)


def test_the_attr_lies_as_in_the_header_of_the_kernel() -> None:
    """Offsets of struct perf_event_attr, include/uapi/linux/perf_event.h."""
    library, events = fake(lambda call: 0)
    os.close(
        events.open(1, 2, perf.TELL, type=0x11, config=0x2222, read_format=0x3333, sample_type=0x4444, watermark=0x5555)
    )
    call = library.calls[0]
    assert len(call.attr) == 112
    assert (call.word(0, 4), call.word(4, 4), call.word(8), call.word(16)) == (0x11, 112, 0x2222, 0)
    assert (call.word(24), call.word(32), call.word(48, 4)) == (0x4444, 0x3333, 0x5555)
    bits = (0, 1, 5, 6, 9, 12, 13, 14, 18, 24, 25)
    # disabled inherit exclude_kernel exclude_hv comm enable_on_exec task watermark sample_id_all comm_exec use_clockid
    assert call.word(40) == sum(1 << bit for bit in bits)
    assert unpack_from("<i", call.attr, 92)[0] == time.CLOCK_MONOTONIC
    known = [*range(16), *range(24, 52), *range(92, 96)]
    assert all(byte == 0 for at, byte in enumerate(call.attr) if at not in known)


@pytest.mark.parametrize(
    ("flags", "bits"),
    [
        (perf.COUNT, (0, 1, 5, 6, 12)),
        (perf.COUNT | perf.WRITE | perf.INHERIT_STAT, (0, 1, 5, 6, 11, 12, 14, 18, 25)),
        (perf.OURS | perf.WRITE, (0, 5, 6, 12, 14, 18, 25)),
    ],
)
def test_the_flags(flags: int, bits: tuple[int, ...]) -> None:
    library, events = fake(lambda call: 0)
    os.close(events.open(1, 2, flags))
    assert library.calls[0].word(40) == sum(1 << bit for bit in bits)
    assert unpack_from("<i", library.calls[0].attr, 92)[0] == (1 if 25 in bits else 0)


# -- a kernel that refuses ---------------------------------------------------------------------------------------


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that stand for events know no PERF_EVENT_IOC_SET_OUTPUT."""
    monkeypatch.setattr(perf, "ioctl", lambda fd, request, argument: 0)


def tight(monkeypatch: pytest.MonkeyPatch, most: int, number: int = errno.EPERM, after: int = 1) -> list[int]:
    """Refuse the memory of rings larger than `most` when `after` of that size are made; the sizes that are tried."""
    tried: list[int] = []
    made = Counts[int]()

    class Tight(Ring):
        __slots__ = ()

        def __init__(self, fd: int, size: int) -> None:
            tried.append(size)
            made[size] += 1
            if size > most and made[size] > after:
                raise OSError(number, os.strerror(number))
            super().__init__(fd, size)

    monkeypatch.setattr(perf, "Ring", Tight)
    return tried


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
    with pytest.raises(Refused) as caught:
        perf.open_rings(events, 1, range(4))
    assert caught.value.errno == number
    assert open_fds() == before


def test_what_is_not_for_want_of_memory_is_not_tried_again() -> None:
    library, events = fake(lambda call: errno.EACCES)
    with pytest.raises(Refused):
        perf.open_rings(events, 1, range(4))
    assert len(library.calls) == 1
    library, events = fake(lambda call: errno.EPERM)  # also what refused memory says: one more event tells them apart
    with pytest.raises(Refused):
        perf.open_rings(events, 1, range(4))
    assert len(library.calls) == 2


def test_a_refused_output_leaves_nothing_open() -> None:
    before = open_fds()
    _, events = fake(lambda call: 0)
    with pytest.raises(Refused) as caught:
        perf.open_rings(events, 1, range(2))
    assert caught.value.errno == errno.ENOTTY
    assert open_fds() == before


def test_a_refused_counter() -> None:
    before = open_fds()
    _, events = fake(lambda call: errno.EACCES)
    with pytest.raises(Refused) as caught:
        perf.open_counter(events, 1)
    assert (caught.value.errno, caught.value.strerror) == (errno.EACCES, os.strerror(errno.EACCES))
    assert open_fds() == before


@pytest.mark.usefixtures("output")
def test_all_that_is_open_is_closed() -> None:
    before = open_fds()
    library, events = fake(lambda call: 0)
    rings = perf.open_rings(events, 1, [0, 3])
    assert [(call.cpu, call.word(8)) for call in library.calls] == [(0, 9), (3, 9), (-1, 9), (-1, 1)]
    assert rings._rings[0]._size == perf.RING_BYTES[0] == 131072
    assert all(call.watermark == rings._rings[0]._size // 2 for call in library.calls)
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
    assert rings._rings[0]._size == perf.RING_BYTES[0]
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
    assert rings._rings[0]._size == most
    assert list(dict.fromkeys(tried)) == [size for size in (131072, 65536, 32768, 16384) if size >= most]
    assert {call.watermark for call in library.calls[-4:]} == {most // 2}
    rings.close()
    assert open_fds() == before


@pytest.mark.usefixtures("output")
def test_where_memory_is_too_short_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_fds()
    tried = tight(monkeypatch, 0)
    _, events = fake(lambda call: 0)
    with pytest.raises(Refused) as caught:
        perf.open_rings(events, 1, range(2))
    assert caught.value.errno == errno.ENOMEM
    assert list(dict.fromkeys(tried)) == [131072, 65536, 32768, 16384]
    assert open_fds() == before


@pytest.mark.parametrize("page", [16384, 65536])
@pytest.mark.usefixtures("output")
def test_where_pages_are_large_rings_are_no_smaller_than_one(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(mmap, "PAGESIZE", page)
    tried = tight(monkeypatch, 0)
    _, events = fake(lambda call: 0)
    with pytest.raises(Refused):
        perf.open_rings(events, 1, range(2))
    assert min(tried) == page


# -- one ring ----------------------------------------------------------------------------------------------------


class Writer:
    """A ring of one page as the kernel sees it, in a file of memory."""

    def __init__(self) -> None:
        fd = os.memfd_create("ring")
        os.ftruncate(fd, 2 * PAGE)
        self.map = mmap.mmap(fd, 2 * PAGE)
        self.head = 0
        self.ring = Ring(fd, PAGE)

    def tail(self) -> int:
        return int(unpack_from("<Q", self.map, 1032)[0])

    def move(self, to: int) -> None:
        """As if so many bytes had been written and read."""
        self.head = to
        self.map[1024:1040] = pack("<QQ", to, to)

    def write(self, data: bytes) -> None:
        for byte in data:
            self.map[PAGE + self.head % PAGE] = byte
            self.head += 1
        self.map[1024:1032] = pack("<Q", self.head)

    def close(self) -> None:
        self.map.close()
        self.ring.close()


@pytest.fixture
def writer() -> Iterator[Writer]:
    made = Writer()
    yield made
    made.close()


def test_a_ring_gives_what_was_written_and_its_room_back(writer: Writer) -> None:
    assert writer.ring.take() == b""
    writer.write(b"12345678")
    assert writer.tail() == 0
    assert writer.ring.take() == b"12345678"
    assert writer.tail() == 8
    assert writer.ring.take() == b""
    writer.write(b"abcdefgh" * 2)
    assert writer.ring.take() == b"abcdefgh" * 2
    assert writer.tail() == 24


@pytest.mark.parametrize("begin", [0, 8, PAGE - 8, PAGE - 40, PAGE, 7 * PAGE - 16, (1 << 63) + PAGE - 24])
@pytest.mark.parametrize("length", [8, 16, 40, PAGE - 8, PAGE])
def test_a_ring_goes_on_at_its_beginning(writer: Writer, begin: int, length: int) -> None:
    writer.move(begin)
    data = (bytes(range(256)) * (PAGE // 256))[:length]
    writer.write(data)
    assert writer.ring.take() == data
    assert writer.tail() == begin + length
    assert writer.ring.take() == b""


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 60), min_size=10, max_size=25))
def test_records_are_whole_across_the_end(batches: list[int]) -> None:
    writer = Writer()
    count = 0
    for batch in batches:
        writer.write(b"".join(task(FORK, count + n, 1, count + n, 1, count + n) for n in range(batch)))
        good, records = decoded(writer.ring.take())
        assert good
        assert [when for when, *_ in records] == list(range(count, count + batch))
        count += batch
    writer.close()


def test_the_ring_of_ends_is_waited_for_by_the_counter() -> None:
    """Its own event ends with the first thread of the root, and poll(2) reports nothing of it any more."""
    made, counter = [Writer(), Writer(), Writer()], os.memfd_create("counter")
    rings = Rings([writer.ring for writer in made], counter, lost_known=False)
    assert rings.fds == [made[0].ring.fd, made[1].ring.fd, counter]
    for writer in made:
        writer.map.close()
    rings.close()
    assert rings.fds == []


def test_drain_orders_by_time_and_holds_back_what_is_too_new() -> None:
    first, second = Writer(), Writer()
    rings = Rings([first.ring, second.ring], -1, lost_known=False)

    def times(now: int | None) -> list[int]:
        return [when for when, *_ in rings.drain(now)]

    first.write(task(FORK, 1, 1, 1, 1, 30) + task(FORK, 1, 1, 1, 1, 50))
    second.write(task(EXIT, 1, 1, 1, 1, 20) + task(EXIT, 1, 1, 1, 1, 40))
    assert times(40) == [20, 30], "what happened at that very moment waits"
    assert times(40) == []
    second.write(task(EXIT, 1, 1, 1, 1, 35) + task(EXIT, 1, 1, 1, 1, 60))
    assert times(41) == [35, 40]
    first.write(task(FORK, 1, 1, 1, 1, 55))
    assert times(None) == [50, 55, 60]
    assert times(None) == []
    assert rings.broken == 0
    first.write(bytes(16))
    second.write(task(FORK, 1, 1, 1, 1, 70))
    assert times(None) == [70]
    assert rings.broken == 1
    assert rings.lost() is None
    first.map.close()
    second.map.close()
    rings.close()


# -- attaching to threads while they make others -----------------------------------------------------------------


class Making(Library):
    """A kernel under which threads are made, as is told."""

    def __init__(self) -> None:
        super().__init__(lambda call: 0)
        self.fds: list[int] = []
        self.head = 0

    def syscall(self, *arguments: Any) -> int:
        self.fds.append(super().syscall(*arguments))
        return self.fds[-1]

    def make(self, tid: int, maker: int, when: int) -> None:
        self.write(task(FORK, 1, 1, tid, maker, when))

    def write(self, data: bytes) -> None:
        """A record in the ring of the first witness."""
        with mmap.mmap(self.fds[0], 2 * PAGE) as ring:
            ring[PAGE + self.head : PAGE + self.head + len(data)] = data
            self.head += len(data)
            ring[1024:1032] = pack("<Q", self.head)

    def counted(self) -> list[int]:
        return [call.pid for call in self.calls if call.word(8) == perf.TASK_CLOCK]


OPENED = (100, 200)  # before and after the counter of the first thread was opened


@pytest.mark.parametrize(
    ("when", "counted", "unsure"),
    [
        (None, [1, 2], False),
        (50, [1, 2], False),
        (250, [1], False),
        (OPENED[1], [1], False),
    ],
)
@pytest.mark.usefixtures("output")
def test_a_new_thread_counts_where_it_has_inherited_and_by_itself_where_not(
    when: int | None, counted: list[int], unsure: bool
) -> None:
    before = open_fds()
    library = Making()
    attached = perf.Attached(Events(library, "x86_64"), [0])
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


@pytest.mark.usefixtures("output")
def test_a_thread_that_was_made_while_its_makers_counter_was_opened_may_be_missing() -> None:
    """The kernel may have put that counter in place before it or after it."""
    library = Making()
    attached = perf.Attached(Events(library, "x86_64"), [0])
    clock = iter([*OPENED, 300, 400]).__next__
    attached.take_in([1], clock)
    library.make(2, 1, (OPENED[0] + OPENED[1]) // 2)
    attached.take_in([1, 2], clock)
    attached.close()
    assert attached.unsure


@pytest.mark.usefixtures("output")
def test_who_made_it_may_have_inherited_as_well() -> None:
    library = Making()
    attached = perf.Attached(Events(library, "x86_64"), [0])
    clock = iter(range(100, 1000, 100)).__next__
    attached.take_in([1], clock)
    library.make(2, 1, 250)
    library.make(3, 2, 260)
    attached.take_in([1, 2, 3], clock)
    assert library.counted() == [1]
    attached.close()


@pytest.mark.parametrize(
    ("first", "second", "counted"),
    [
        (250, 260, [1]),
        (50, 60, [1, 3]),
        (50, 260, [1, 3]),  # its maker had no counter when it made it
    ],
)
@pytest.mark.usefixtures("output")
def test_who_made_it_may_have_ended_between_two_listings(first: int, second: int, counted: list[int]) -> None:
    library = Making()
    attached = perf.Attached(Events(library, "x86_64"), [0])
    clock = iter([*OPENED, 300, 400]).__next__
    attached.take_in([1], clock)
    library.make(2, 1, first)
    library.make(3, 2, second)
    attached.take_in([1, 3], clock)
    assert (library.counted(), attached.unsure) == (counted, False)
    attached.close()


# Where it is not told who inherited, the first listing is all that is opened.


def is_closed_to_new_ones(library: Making, attached: perf.Attached, first: list[int]) -> None:
    assert attached.unsure
    assert attached.take_in([*first, 7, 8], lambda: 0) == 0
    assert library.counted() == first
    assert len(attached) == len(first)
    attached.close()


def test_without_rings_nobody_new_is_opened() -> None:
    library = Making()
    attached = perf.Attached(Events(library, "x86_64"), ())
    assert attached.take_in([1, 2], lambda: 0) == 2
    is_closed_to_new_ones(library, attached, [1, 2])


@pytest.mark.usefixtures("output")
def test_after_lost_records_nobody_new_is_opened() -> None:
    library = Making()
    attached = perf.Attached(Events(library, "x86_64"), [0])
    assert attached.take_in([1, 2], lambda: 0) == 2
    assert not attached.unsure
    library.write(record(2, pack("<QQQ", 77, 5, 9)))
    assert attached.take_in([1, 2, 7], lambda: 0) == 0
    is_closed_to_new_ones(library, attached, [1, 2])


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOMEM])
@pytest.mark.usefixtures("output")
def test_where_no_witness_can_be_mapped_nobody_new_is_opened(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    tight(monkeypatch, 0, number, after=0)
    before = open_fds()
    library = Making()
    attached = perf.Attached(Events(library, "x86_64"), [0, 1])
    assert attached.take_in([1, 2, 3], lambda: 0) == 3
    assert len(open_fds()) == len(before) + 3, "the counters alone"
    is_closed_to_new_ones(library, attached, [1, 2, 3])
    assert open_fds() == before


def without_witnesses(library: Making, after: int) -> None:
    """After so many witnesses no descriptor is left for another one."""

    def answer(call: Call) -> int:
        witnesses = sum(1 for call in library.calls if call.word(8) == perf.DUMMY)
        return errno.EMFILE if call.word(8) == perf.DUMMY and witnesses > after else 0

    library.answer = answer


@pytest.mark.parametrize("after", [0, 1, 2, 3])
@pytest.mark.usefixtures("output")
def test_where_no_descriptor_is_left_for_witnesses_nobody_new_is_opened(after: int) -> None:
    before = open_fds()
    library = Making()
    without_witnesses(library, after)
    attached = perf.Attached(Events(library, "x86_64"), [0, 1])
    assert attached.take_in([1, 2, 3], lambda: 0) == 3
    assert len(open_fds()) == len(before) + 3, "the witnesses are given up for the counters"
    is_closed_to_new_ones(library, attached, [1, 2, 3])
    assert open_fds() == before


@pytest.mark.usefixtures("output")
def test_where_descriptors_run_out_in_the_second_listing_nothing_counts_twice() -> None:
    """2 has no counter; 3 has that of 1, as a record says that was read before the witnesses were given up."""
    library = Making()
    without_witnesses(library, 1)
    attached = perf.Attached(Events(library, "x86_64"), [0])
    clock = iter(range(100, 1000, 100)).__next__
    attached.take_in([1], clock)
    library.make(2, 1, 50)
    library.make(3, 1, 250)
    attached.take_in([1, 2, 3], clock)
    assert attached.unsure
    assert 3 not in library.counted()
    attached.close()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_thread_of_somebody_else_is_denied(number: int) -> None:
    library = Library(lambda call: number)
    attached = perf.Attached(Events(library, "x86_64"), [0])
    assert attached.take_in([1, 2], lambda: 0) == 2
    assert (attached.denied, len(attached)) == (2, 0)
    assert attached.take_in([1, 2], lambda: 0) == 0
    attached.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_attaching_needs_descriptors(number: int) -> None:
    before = open_fds()
    left = [3]

    def answer(call: Call) -> int:
        left[0] -= 1
        return number if left[0] < 0 else 0

    library = Library(answer)
    attached = perf.Attached(Events(library, "x86_64"), [0])
    with pytest.raises(Refused) as caught:
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
            except Refused as error:
                after = len(open_fds())
                number = error.errno
                break
            sizes.append(rings._rings[0]._size)
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
        except Refused as error:
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
    with pytest.raises(Refused) as caught:
        perf.open_rings(events(), held.pid, online())
    assert caught.value.errno == errno.ESRCH
    with pytest.raises(Refused):
        perf.open_counter(events(), held.pid)
    assert open_fds() == before
