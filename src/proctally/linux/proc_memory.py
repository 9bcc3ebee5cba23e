"""Memory of one process: `status`, `stat`, `statm` and `smaps_rollup`.

Layouts: fs/proc/task_mmu.c (task_mem, show_smap) and fs/proc/array.c (do_task_stat) of the kernel. Every size is in
bytes. Parsers take bytes and do no I/O; readers are a few lines each.
"""

from __future__ import annotations

import os

from proctally.errors import ProcessGone
from proctally.linux.proc import kilobytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.linux.c_library import CLibrary
    from proctally.linux.machine import Machine

    # peak (VmHWM), anon, file, shmem, page tables, swap, hugetlb
    Sizes = tuple[int, int, int, int, int, int, int]

NO_PROGRAM = b"0 0 0"  # addresses of a process without an address space
HIDDEN_PROGRAM = b"1 0 0"  # addresses of a process that this user cannot inspect

# Lines since 4.14: seq_put_decimal_ull_width() pads a number to 8 digits. Older kernels have VmPMD before VmSwap, some
# lack HugetlbPages.
STATUS_KEYS = (
    b"VmHWM:", b"VmRSS:", b"RssAnon:", b"RssFile:", b"RssShmem:", b"VmData:", b"VmStk:", b"VmExe:", b"VmLib:",
    b"VmPTE:", b"VmSwap:", b"HugetlbPages:",
)  # fmt: skip
LAYOUT = b"".join(key + b"\tkB\n" for key in STATUS_KEYS)
DIGITS = b"0123456789 "  # not in the layout
NEWLINE = 10
WIDTH = 9  # of a number and the blank behind it


def _place(key: bytes) -> slice:
    """Return where the number of a line is, from the first byte of VmHWM on."""
    at = LAYOUT.index(key)
    begin = at + len(key) + LAYOUT.count(b"\n", 0, at) * WIDTH
    return slice(begin, begin + WIDTH - 1)


PEAK, ANON, FILE, SHMEM = map(_place, (b"VmHWM:\t", b"RssAnon:\t", b"RssFile:\t", b"RssShmem:\t"))
TABLES, SWAP, HUGETLB = map(_place, (b"VmPTE:\t", b"VmSwap:\t", b"HugetlbPages:\t"))
LENGTH = len(LAYOUT) + WIDTH * LAYOUT.count(b"\n")

KCMP = {"x86_64": 312, "aarch64": 272}.get(os.uname().machine)  # number of kcmp(2)
KCMP_VM = 1  # include/uapi/linux/kcmp.h


def parse_memory(data: bytes) -> Sizes | None:
    """Return the sizes of `/proc/PID/status` in bytes.

    They are peak (VmHWM), anon, file, shmem, page tables, swap, hugetlb. None without an address space: a zombie, a
    kernel thread, a process whose memory is being released, a main thread that exited before the others; and before
    kernel 4.5, which has no RssAnon. Raises ValueError for a size that is not a number.
    """
    at = data.find(b"\nVmHWM:") + 1
    if not at:
        return None
    lines = data[at : at + LENGTH]
    if lines[-1] != NEWLINE or lines.translate(None, DIGITS) != LAYOUT:
        return _memory_by_key(data)
    try:
        return (
            int(lines[PEAK]) << 10,
            int(lines[ANON]) << 10,
            int(lines[FILE]) << 10,
            int(lines[SHMEM]) << 10,
            int(lines[TABLES]) << 10,
            int(lines[SWAP]) << 10,
            int(lines[HUGETLB]) << 10,
        )
    except ValueError:
        raise ValueError(f"status: {lines!r}") from None


def _memory_by_key(data: bytes) -> Sizes | None:
    peak = kilobytes(data, b"\nVmHWM:")
    anon = kilobytes(data, b"\nRssAnon:")
    file = kilobytes(data, b"\nRssFile:")
    shmem = kilobytes(data, b"\nRssShmem:")
    tables = kilobytes(data, b"\nVmPTE:")
    if peak is None or anon is None or file is None or shmem is None or tables is None:
        return None
    # A kernel without swap or huge pages has no such line: the process has none.
    return peak, anon, file, shmem, tables, kilobytes(data, b"\nVmSwap:") or 0, kilobytes(data, b"\nHugetlbPages:") or 0


def parse_program(stat: bytes, head: int) -> bytes:
    """Return startcode, startstack and start_brk of `/proc/PID/stat`.

    `head` is the length of `Stat.head`. Fork keeps the three and exec draws new ones, so processes with the same three
    descend from one exec. See `NO_PROGRAM` and `HIDDEN_PROGRAM`. Raises ValueError where a field is missing.
    """
    fields = stat[head:].split(None, 23)  # field 25 of proc(5) is the first of them
    try:
        return b"%b %b %b" % (fields[1], fields[3], fields[22])
    except IndexError:
        raise ValueError(f"stat: {stat[:400]!r}") from None


def parse_statm(data: bytes, page_size: int) -> int:
    """Return the anonymous bytes of `/proc/PID/statm`: resident - shared."""
    words = data.split(None, 3)
    try:
        return (int(words[1]) - int(words[2])) * page_size
    except (ValueError, IndexError):
        raise ValueError(f"statm: {data[:200]!r}") from None


class Rollup:
    """One `smaps_rollup` in bytes.

    `pss_*` are proportional sizes; `anon` is RssAnon as the same walk found it. `private_hugetlb` and `shared_hugetlb`
    are in no RSS and in no PSS.
    """

    __slots__ = ("anon", "private_hugetlb", "pss_anon", "pss_file", "pss_shmem", "shared_hugetlb")

    def __init__(
        self,
        pss_anon: int,
        pss_file: int,
        pss_shmem: int,
        anon: int,
        private_hugetlb: int = 0,
        shared_hugetlb: int = 0,
    ) -> None:
        self.pss_anon = pss_anon
        self.pss_file = pss_file
        self.pss_shmem = pss_shmem
        self.anon = anon
        self.private_hugetlb = private_hugetlb
        self.shared_hugetlb = shared_hugetlb


def parse_rollup(data: bytes) -> Rollup | None:
    """Return the sizes of `/proc/PID/smaps_rollup`; None without Pss_Anon (4.18)."""
    anon, file, shmem, own = (_rollup_size(data, key) for key in (b"Pss_Anon", b"Pss_File", b"Pss_Shmem", b"Anonymous"))
    if anon is None or file is None or shmem is None or own is None:
        return None
    private, shared = (_rollup_size(data, key) or 0 for key in (b"Private_Hugetlb", b"Shared_Hugetlb"))
    return Rollup(anon, file, shmem, own, private, shared)


def _rollup_size(data: bytes, key: bytes) -> int | None:
    return kilobytes(data, b"\n%b:" % key)


def read_rollup(machine: Machine, pid: int, tid: int | None = None) -> Rollup | None:
    """Read `smaps_rollup`; None without an address space. Raises `AccessDenied`.

    The file belongs to the address space of the moment when it was opened, so it is opened each time.
    """
    path = f"{pid}/smaps_rollup" if tid is None else f"{pid}/task/{tid}/smaps_rollup"
    try:
        return parse_rollup(machine.read(path))
    except ProcessGone:
        return None


def share_address_space(library: CLibrary | None, pid: int, other: int) -> bool | None:
    """Return whether two processes have one address space, as after vfork.

    It calls kcmp(2). `library` is the C library (`c_library.libc`), or None. None where the kernel or a filter refuses
    the call.
    """
    result = -1 if library is None or KCMP is None else library.syscall(KCMP, pid, other, KCMP_VM, 0, 0)
    return None if result < 0 else result == 0
