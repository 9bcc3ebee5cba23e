"""Records and rings of perf, without the kernel."""

from __future__ import annotations

import errno
import mmap
import os
import time
from collections.abc import Iterator
from struct import pack, unpack_from

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from perf_made import (
    COMM,
    EXIT,
    FORK,
    OPENED,
    PAGE,
    READ,
    SHORT_FORK_NS,
    Library,
    Making,
    fake,
    header,
    is_closed_to_new_ones,
    record,
    task,
    tight,
    without_witnesses,
)
from proctally.linux import perf, perf_attach
from proctally.linux.perf import (
    Events,
    PerfRefused,
    Record,
    Ring,
    Rings,
    Unsupported,
    decode,
)

COMM_EXEC = 1 << 13


# -- records -----------------------------------------------------------------------------------------------------


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


# -- the system call ---------------------------------------------------------------------------------------------


def test_an_unknown_architecture_is_unavailable() -> None:
    with pytest.raises(Unsupported):
        Events(Library(lambda call: 0), "riscv64")


def test_no_library_is_unavailable() -> None:
    with pytest.raises(Unsupported):
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
    monkeypatch.setattr(perf_attach, "ioctl", lambda fd, request, argument: 0)
    monkeypatch.setattr(perf_attach, "FORK_NS", SHORT_FORK_NS)


def test_what_is_not_for_want_of_memory_is_not_tried_again() -> None:
    library, events = fake(lambda call: errno.EACCES)
    with pytest.raises(PerfRefused):
        perf.open_rings(events, 1, range(4))
    assert len(library.calls) == 1
    library, events = fake(lambda call: errno.EPERM)  # also what refused memory says: one more event tells them apart
    with pytest.raises(PerfRefused):
        perf.open_rings(events, 1, range(4))
    assert len(library.calls) == 2


@pytest.mark.parametrize("page", [16384, 65536])
@pytest.mark.usefixtures("output")
def test_where_pages_are_large_rings_are_no_smaller_than_one(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(mmap, "PAGESIZE", page)
    tried = tight(monkeypatch, 0)
    _, events = fake(lambda call: 0)
    with pytest.raises(PerfRefused):
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


@settings(deadline=None, max_examples=examples(30))
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


@pytest.mark.parametrize("when", [OPENED[0], OPENED[1] - 1, OPENED[1] + SHORT_FORK_NS - 1])
@pytest.mark.usefixtures("output")
def test_the_counter_of_a_maker_is_opened_again_where_its_fork_may_have_begun_before(when: int) -> None:
    """The kernel may have put that counter in place before it or after it."""
    library = Making()
    attached = perf_attach.Attached(Events(library, "x86_64"), [0])
    clock = iter([*OPENED, *range(300, 2000, 100)]).__next__
    attached.take_in([1], clock)
    os.pwrite(library.fds[-1], (7).to_bytes(8, "little"), 0)
    library.make(4, 1, OPENED[1] + SHORT_FORK_NS)  # it has that counter until it is closed
    attached.take_in([1, 4], clock)
    library.make(2, 1, when)
    attached.take_in([1, 2, 4], clock)
    assert library.counted() == [1, 2]
    assert attached.take_in([1, 2, 4], clock) == 2
    assert attached.take_in([1, 2, 4], clock) == 0
    attached.finish(clock)
    assert (library.counted(), len(attached), attached.unsure) == ([1, 2, 1, 4], 3, False)
    assert attached.read() == 7, "what the first counter had"
    attached.close()


@pytest.mark.usefixtures("output")
def test_only_the_first_fork_after_an_opening_can_have_begun_before() -> None:
    library = Making()
    attached = perf_attach.Attached(Events(library, "x86_64"), [0])
    clock = iter(range(100, 1000, 100)).__next__
    attached.take_in([1], clock)
    library.make(2, 1, OPENED[1])
    library.make(3, 1, OPENED[1] + 1)
    attached.take_in([1, 3], clock)
    assert (library.counted(), attached.unsure) == ([1], False)
    attached.close()


@pytest.mark.usefixtures("output")
def test_a_counter_is_opened_again_a_few_times_and_never_left_closed() -> None:
    library = Making()
    attached = perf_attach.Attached(Events(library, "x86_64"), [0])
    clock = iter(range(100, 10_000, 100)).__next__
    tids = [1]
    attached.take_in(tids, clock)
    while not attached.unsure:
        opened = attached._opened.get(1)
        if opened is not None:
            library.make(len(tids) + 1, 1, opened[1])
            tids.append(len(tids) + 1)
        attached.take_in(tids, clock)
        assert len(tids) < 10
    attached.finish(clock)
    assert library.counted().count(1) == 1 + perf_attach.REOPENINGS
    assert 1 in attached._counters
    attached.close()


@pytest.mark.usefixtures("output")
def test_who_is_closed_at_the_end_is_opened_again() -> None:
    library = Making()
    attached = perf_attach.Attached(Events(library, "x86_64"), [0])
    clock = iter(range(100, 10_000, 100)).__next__
    attached.take_in([1], clock)
    library.make(2, 1, OPENED[1])
    attached.take_in([1, 2], clock)
    attached.finish(clock)
    assert library.counted() == [1, 2, 1]
    attached.close()


@pytest.mark.usefixtures("output")
def test_who_made_it_may_have_inherited_as_well() -> None:
    library = Making()
    attached = perf_attach.Attached(Events(library, "x86_64"), [0])
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
    attached = perf_attach.Attached(Events(library, "x86_64"), [0])
    clock = iter([*OPENED, 300, 400]).__next__
    attached.take_in([1], clock)
    library.make(2, 1, first)
    library.make(3, 2, second)
    attached.take_in([1, 3], clock)
    assert (library.counted(), attached.unsure) == (counted, False)
    attached.close()


@pytest.mark.usefixtures("output")
def test_who_ended_before_it_had_a_counter_hands_none_on() -> None:
    library = Making()
    gone = 2
    library.answer = lambda call: errno.ESRCH if (call.pid, call.word(8)) == (gone, perf.TASK_CLOCK) else 0
    attached = perf_attach.Attached(Events(library, "x86_64"), [0])
    clock = iter(range(100, 2000, 100)).__next__
    attached.take_in([1, gone], clock)
    library.make(3, gone, 1000)
    attached.take_in([1, gone, 3], clock)
    attached.close()
    assert library.counted() == [1, gone, 3]
    assert not attached.unsure


def test_without_rings_nobody_new_is_opened() -> None:
    library = Making()
    attached = perf_attach.Attached(Events(library, "x86_64"), ())
    assert attached.take_in([1, 2], lambda: 0) == 2
    is_closed_to_new_ones(library, attached, [1, 2])


@pytest.mark.usefixtures("output")
def test_after_lost_records_nobody_new_is_opened() -> None:
    library = Making()
    attached = perf_attach.Attached(Events(library, "x86_64"), [0])
    assert attached.take_in([1, 2], lambda: 0) == 2
    assert not attached.unsure
    library.write(record(2, pack("<QQQ", 77, 5, 9)))
    assert attached.take_in([1, 2, 7], lambda: 0) == 0
    is_closed_to_new_ones(library, attached, [1, 2])


@pytest.mark.usefixtures("output")
def test_where_descriptors_run_out_in_the_second_listing_nothing_counts_twice() -> None:
    """2 has no counter; 3 has that of 1, as a record says that was read before the witnesses were given up."""
    library = Making()
    without_witnesses(library, 1)
    attached = perf_attach.Attached(Events(library, "x86_64"), [0])
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
    attached = perf_attach.Attached(Events(library, "x86_64"), [0])
    assert attached.take_in([1, 2], lambda: 0) == 2
    assert (attached.denied, len(attached)) == (2, 0)
    assert attached.take_in([1, 2], lambda: 0) == 0
    attached.close()
