"""perf_event_open(2): the kernel's own count of what a tree used, and a record of every fork, exec and exit.

A counter that is inherited counts a process with all it will fork, alive or dead, reaped or not; mapped, it tells what
each thread had used when it ended. Events that count nothing, one per CPU and mapped, tell who was made and what was
executed. No privilege is needed where `perf_event_paranoid` is at most 2. Layouts: include/uapi/linux/perf_event.h.
"""

from __future__ import annotations

import mmap
import os
from errno import EINVAL, ENOMEM, EPERM
from fcntl import ioctl
from struct import pack, unpack
from sys import byteorder, maxsize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from proctally.linux.c_library import CLibrary

SYSCALL = {"x86_64": 298, "aarch64": 241}
FLAG_FD_CLOEXEC = 8

TYPE_HARDWARE, TYPE_SOFTWARE = 0, 1
TASK_CLOCK, DUMMY = 1, 9  # PERF_COUNT_SW_*
CLOCK_MONOTONIC = 1

# struct perf_event_attr: the bits of its flags
DISABLED = 1 << 0
INHERIT = 1 << 1
EXCLUDE_KERNEL = 1 << 5
EXCLUDE_HV = 1 << 6
COMM = 1 << 9
INHERIT_STAT = 1 << 11
ENABLE_ON_EXEC = 1 << 12
TASK = 1 << 13
WATERMARK = 1 << 14
SAMPLE_ID_ALL = 1 << 18
COMM_EXEC = 1 << 24
USE_CLOCKID = 1 << 25

OURS = DISABLED | ENABLE_ON_EXEC | EXCLUDE_KERNEL | EXCLUDE_HV
COUNT = OURS | INHERIT
WRITE = WATERMARK | SAMPLE_ID_ALL | USE_CLOCKID
TELL = OURS | INHERIT | WRITE | TASK | COMM | COMM_EXEC
ALWAYS = INHERIT | EXCLUDE_KERNEL | EXCLUDE_HV  # from now on, not from an exec
OBSERVE = ALWAYS | WRITE | TASK

IN_KERNEL = INHERIT | DISABLED | ENABLE_ON_EXEC | EXCLUDE_HV
# name, type, config, flags: what may be counted beside the time. What happens within the kernel needs a privilege.
COUNTERS = (
    ("page_faults", TYPE_SOFTWARE, 2, COUNT),
    ("context_switches", TYPE_SOFTWARE, 3, IN_KERNEL),
    ("cpu_migrations", TYPE_SOFTWARE, 4, IN_KERNEL),
    ("cycles", TYPE_HARDWARE, 0, COUNT),
    ("instructions", TYPE_HARDWARE, 1, COUNT),
)

IOC_SET_OUTPUT = 0x2405  # PERF_EVENT_IOC_SET_OUTPUT

FORMAT_TIMES = 1 << 0 | 1 << 1  # PERF_FORMAT_TOTAL_TIME_ENABLED, _RUNNING
FORMAT_LOST = 1 << 4
SAMPLE_TIME = 1 << 2
ATTR = "<IIQQQQQIIQQQQIiQIHH"
ATTR_BYTES = 112  # PERF_ATTR_SIZE_VER5, which every kernel since 4.1 takes

RECORD_LOST, RECORD_COMM, RECORD_EXIT, RECORD_FORK, RECORD_READ = 2, 3, 4, 7, 8
MISC_COMM_EXEC = 1 << 13

# struct perf_event_mmap_page
DATA_HEAD, DATA_TAIL = 1024, 1032

RING_BYTES = (131072, 65536, 32768, 16384)  # the first that the user's pool of locked memory has room for
MOST_RINGS = 16  # each CPU more costs 2 us at every fork
FILL_NS, FEW_CPUS = 920, 4  # 30 ms for 128 KiB and up to 4 CPUs: 12,000 starts a second on each are 58 KB of ends

# five words each: the usual forks, exits and ends
USUAL_BYTES = 40
USUAL_TASKS = {USUAL_BYTES << 48 | RECORD_FORK, USUAL_BYTES << 48 | RECORD_EXIT}
USUAL_READ = {USUAL_BYTES << 48 | RECORD_READ}

Record = tuple[int, int, int, "int | bytes"]
"""When (nanoseconds of CLOCK_MONOTONIC), what (`RECORD_*`), and two more by kind:

FORK and EXIT: pid with its parent's pid in the upper 32 bits, tid with that of the thread that made it;
COMM: pid with tid, the name; only what exec gave. READ: pid with tid, nanoseconds of that thread. LOST: event, count.
"""
LOWER = 0xFFFFFFFF


class Unsupported(Exception):
    """perf_event_open cannot be called: it needs the C library, on x86_64 or aarch64."""


class PerfRefused(OSError):
    """What perf_event_open(2) answered."""


class Events:
    """The system call. `library` is the C library of this process (`c_library.libc`), or None."""

    def __init__(self, library: CLibrary | None, architecture: str | None = None) -> None:
        number = SYSCALL.get(architecture or os.uname().machine)
        if library is None or number is None or byteorder != "little" or maxsize < 1 << 32:
            raise Unsupported
        from proctally.linux.c_library import Long, last_errno

        self._long, self._errno = Long, last_errno
        self._number = number
        self._call = library.syscall

    def open(
        self,
        pid: int,
        cpu: int,
        flags: int,
        *,
        type: int = TYPE_SOFTWARE,
        config: int = TASK_CLOCK,
        read_format: int = 0,
        sample_type: int = 0,
        watermark: int = 0,
    ) -> int:
        """A descriptor of an event of this process (0: ourselves) on this CPU (-1: any). Raises `PerfRefused`."""
        clock = CLOCK_MONOTONIC if flags & USE_CLOCKID else 0
        # type size config sample_period sample_type read_format flags wakeup bp_type config1 config2
        # branch_sample_type sample_regs_user sample_stack_user clockid sample_regs_intr aux_watermark max_stack -
        attr = pack(
            ATTR, type, ATTR_BYTES, config, 0, sample_type, read_format, flags, watermark, 0, 0, 0,
            0, 0, 0, clock, 0, 0, 0, 0,
        )  # fmt: skip
        long = self._long
        fd: int = self._call(long(self._number), attr, long(pid), long(cpu), long(-1), long(FLAG_FD_CLOEXEC))
        if fd < 0:
            number = self._errno()
            raise PerfRefused(number, os.strerror(number))
        return fd


class Counter:
    """One inherited counter of a tree, on any CPU; `read` is a system call."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def read(self) -> int:
        """Nanoseconds (or events) since the exec; living and ended processes together."""
        return int.from_bytes(os.read(self.fd, 8), byteorder)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)


class Ring:
    """The mapped buffer of one event."""

    __slots__ = ("_at", "_map", "fd", "size")

    def __init__(self, fd: int, size: int) -> None:
        page = mmap.PAGESIZE
        self.fd = fd
        self.size = size
        self._at = page
        self._map = mmap.mmap(fd, page + size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)

    def take(self) -> bytes:
        """The records that are there, as they stand; their room is given back."""
        ring = self._map
        head, tail = unpack("<QQ", ring[DATA_HEAD : DATA_TAIL + 8])
        length = head - tail
        if not length:
            return b""
        size = self.size
        begin = self._at + tail % size
        first = min(length, size - tail % size)
        data = ring[begin : begin + first]
        if first < length:
            data += ring[self._at : self._at + length - first]
        ring[DATA_TAIL : DATA_TAIL + 8] = pack("<Q", head)
        return data

    def written(self) -> int:
        """Return the bytes written so far."""
        return int.from_bytes(self._map[DATA_HEAD : DATA_HEAD + 8], byteorder)

    def filled(self) -> float:
        """Return the share of the ring that is filled, at least 0."""
        head, tail = unpack("<QQ", self._map[DATA_HEAD : DATA_TAIL + 8])
        return float(head - tail) / self.size

    def close(self) -> None:
        """Give memory and descriptor back."""
        self.unmap()
        os.close(self.fd)

    def unmap(self) -> None:
        """Give the memory back."""
        self._map.close()


def decode(data: bytes, records: list[Record]) -> bool:
    """Append the records of one ring; False when something else than records was met, and the rest is dropped."""
    count = len(data) >> 3
    words = unpack(f"<{count}Q", data[: count << 3])
    if not len(data) % USUAL_BYTES and _decode_usual(words, records):
        return True
    at = 0
    append = records.append
    while at < count:
        head = words[at]
        step = head >> 51  # the size in words
        kind = head & LOWER
        end = at + step
        if step < 2 or end > count or head >> 48 & 7:
            return False
        if kind == RECORD_READ:
            if step < 4:
                return False
            append((words[end - 1], kind, words[at + 1], words[at + 2]))
        elif kind in (RECORD_FORK, RECORD_EXIT):
            if step < 4:
                return False
            append((words[at + 3], kind, words[at + 1], words[at + 2]))
        elif kind == RECORD_LOST:
            if step < 4:
                return False
            append((words[end - 1], kind, words[at + 1], words[at + 2]))
        elif kind == RECORD_COMM and head >> 32 & MISC_COMM_EXEC and step > 3:
            name = data[(at + 2) << 3 : (end - 1) << 3]
            append((words[end - 1], kind, words[at + 1], name.partition(b"\0")[0]))
        at = end
    return at == count and not len(data) & 7


def _decode_usual(words: tuple[int, ...], records: list[Record]) -> bool:
    """Where nothing but ends, or nothing but forks and exits was written: without a loop. False for all else."""
    heads = set(words[::5])
    if heads == USUAL_READ:
        records += zip(words[4::5], [RECORD_READ] * (len(words) // 5), words[1::5], words[2::5], strict=False)
    elif heads <= USUAL_TASKS:
        kinds = [head & LOWER for head in words[::5]]
        records += zip(words[3::5], kinds, words[1::5], words[2::5], strict=True)
    else:
        return False
    return True


class Rings:
    """A tree's counter, and what happened in the tree in the order of time.

    One ring per CPU for who was made, executed and ended: only that CPU writes to it. One for what each thread had
    used, on any CPU. Were that written to the rings of the CPUs, by a counter on each, a thread that ends would write
    to all of them, for which they are not made: they then stop for good (kernel: perf_output_put_handle).
    """

    def __init__(self, rings: list[Ring], counter: int, *, lost_known: bool) -> None:
        self._rings = rings
        self._counter = counter
        self._held: list[Record] = []
        self._lost_known = lost_known
        self.broken = 0

    @property
    def fds(self) -> list[int]:
        """Descriptors that poll(2) reports when a ring is half full.

        For the ring of ends that of the counter, which writes into it: it lives as long as anybody of the tree.
        """
        return [ring.fd for ring in self._rings[:-1]] + ([self._counter] if self._counter >= 0 else [])

    def read(self) -> int:
        """Nanoseconds of the whole tree since the exec, living and ended processes together."""
        return int.from_bytes(os.read(self._counter, 16)[:8], byteorder)

    @property
    def pace_ns(self) -> int:
        """Nanoseconds in which CPUs that only fork fill less than half of a ring: all write their ends to one."""
        return self._rings[0].size * FILL_NS // max(FEW_CPUS, len(self._rings) - 1)

    def written(self) -> int:
        """Return the bytes that all rings were given so far."""
        return sum(ring.written() for ring in self._rings)

    def filled(self) -> float:
        """Return the share of the fullest ring that is filled."""
        return max((ring.filled() for ring in self._rings), default=0.0)

    def lost(self) -> int | None:
        """Records that found no room; None where the kernel (before 6.0) does not say."""
        if not self._lost_known:
            return None
        counts = [os.read(fd, 16) for fd in self.fds]
        return sum(int.from_bytes(data[8:16], byteorder) for data in counts)

    def drain(self, now: int | None) -> list[Record]:
        """What happened before `now` (nanoseconds of CLOCK_MONOTONIC, from before this call; None: all there is).

        What happened later stays for the next time: another ring may hold what came before it.
        """
        records = self._held
        for ring in self._rings:
            data = ring.take()
            if data and not decode(data, records):
                self.broken += 1
        records.sort(key=_when)
        self._held = []
        if now is None or not records or records[-1][0] < now:
            return records
        at = len(records)
        while at and records[at - 1][0] >= now:
            at -= 1
        self._held = records[at:]
        return records[:at]

    def close(self) -> None:
        """Give everything back."""
        for ring in self._rings:
            ring.close()
        if self._counter >= 0:
            os.close(self._counter)
        self._rings = []
        self._counter = -1


def _when(record: Record) -> int:
    return record[0]


class PerfCounters:
    """More inherited counters of a tree; each costs some 3 us at every fork. What cannot be had is None."""

    def __init__(self, events: Events, pid: int) -> None:
        self._fds: dict[str, int | None] = {}
        for name, type, config, flags in COUNTERS:
            try:
                self._fds[name] = events.open(pid, -1, flags, type=type, config=config, read_format=FORMAT_TIMES)
            except PerfRefused:
                self._fds[name] = None

    def read(self) -> dict[str, int | None]:
        """Each by its name, since the exec; scaled where the machine had to share its counters among several."""
        return {name: None if fd is None else scaled(os.read(fd, 24)) for name, fd in self._fds.items()}

    def close(self) -> None:
        """Give the descriptors back."""
        for fd in self._fds.values():
            if fd is not None:
                os.close(fd)
        self._fds = {}


def scaled(data: bytes) -> int | None:
    """A count with the times for which it was wanted and had its turn; None when it never had one."""
    count, wanted, counted = unpack("<QQQ", data)
    if wanted and not counted:
        return None
    return int(count) if counted >= wanted else round(count * wanted / counted)


def open_counter(events: Events, pid: int) -> Counter:
    """One inherited counter of CPU time for a held child, from its exec on. Raises `PerfRefused`."""
    return Counter(events.open(pid, -1, COUNT))


def open_rings(events: Events, pid: int, cpus: Iterable[int]) -> Rings:
    """Open rings on these CPUs for a held child, from its exec on. Raises `PerfRefused` if even small ones fail."""
    cpus = list(cpus)
    read_format = FORMAT_LOST
    sizes = sorted({max(size, mmap.PAGESIZE) for size in RING_BYTES}, reverse=True)
    for size in sizes:
        while True:
            try:
                return _open_rings(events, pid, cpus, size, read_format)
            except OSError as error:
                if error.errno == EINVAL and read_format:
                    read_format = 0  # before 6.0 the kernel does not count what was lost
                    continue
                number = error.errno
                if number in (EPERM, ENOMEM) and _may_open(events, pid):
                    if size > sizes[-1]:
                        break
                    number = ENOMEM  # the event may be opened: it is the memory that is refused
                raise PerfRefused(number, os.strerror(number or 0)) from None
    raise AssertionError("the last size returns or raises")


def _may_open(events: Events, pid: int) -> bool:
    """Whether it was the memory that was refused, and not the event itself."""
    try:
        os.close(events.open(pid, -1, COUNT))
    except PerfRefused:
        return False
    return True


def _open_rings(events: Events, pid: int, cpus: list[int], size: int, read_format: int) -> Rings:
    rings: list[Ring] = []
    fds: list[int] = []

    def event(cpu: int, flags: int, config: int) -> int:
        fd = events.open(
            pid,
            cpu,
            flags,
            config=config,
            read_format=read_format,
            sample_type=SAMPLE_TIME,
            watermark=size // 2,
        )
        fds.append(fd)
        return fd

    try:
        for cpu in cpus:
            rings.append(Ring(event(cpu, TELL, DUMMY), size))
        # an inherited event of any CPU cannot be mapped: it writes into the ring of one that is not inherited
        rings.append(Ring(event(-1, OURS | WRITE, DUMMY), size))
        counter = event(-1, COUNT | WRITE | INHERIT_STAT, TASK_CLOCK)
        ioctl(counter, IOC_SET_OUTPUT, rings[-1].fd)
    except OSError:
        for ring in rings:
            ring.unmap()
        for fd in fds:
            os.close(fd)
        raise
    return Rings(rings, counter, lost_known=bool(read_format))
