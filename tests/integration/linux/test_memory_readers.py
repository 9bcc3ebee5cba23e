"""Readers of memory against this host: processes of known size, shared memory of this process."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from proctally.errors import UNREADABLE, ProcessGone
from proctally.linux.c_library import libc
from proctally.linux.machine import Machine
from proctally.linux.memory_levels import read_machine_levels, read_sysvipc_shm
from proctally.linux.proc import parse_stat
from proctally.linux.proc_memory import (
    NO_PROGRAM,
    parse_memory,
    parse_program,
    parse_statm,
    read_rollup,
    share_address_space,
)
from proctally.linux.shared_files import SharedFiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.linux.proc_memory import Sizes

MIB = 1 << 20
MACHINE = Machine()


@contextmanager
def forked(work: Callable[[], None] | None = None) -> Iterator[int]:
    """A forked child that does this and waits."""
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        if work is not None:
            work()
        os.write(done, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(done)


def program(pid: int) -> bytes:
    raw = MACHINE.read(f"{pid}/stat")
    return parse_program(raw, len(parse_stat(raw).head))


def sizes_of(pid: int) -> Sizes | None:
    return parse_memory(MACHINE.read(f"{pid}/status"))


def test_memory_of_every_process_reads() -> None:
    read = 0
    for pid in psutil.pids():
        try:
            sizes = sizes_of(pid)
        except UNREADABLE:
            continue
        read += sizes is not None
    assert read > 0


def test_memory_of_follows_growth_and_mark() -> None:
    before = sizes_of(os.getpid())
    area = mmap.mmap(-1, 32 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area[:: mmap.PAGESIZE] = b"x" * len(range(0, len(area), mmap.PAGESIZE))
    now = sizes_of(os.getpid())
    anon = parse_statm(MACHINE.read("self/statm"), mmap.PAGESIZE)
    area.close()
    after = sizes_of(os.getpid())
    assert before is not None and now is not None and after is not None
    assert now[1] - before[1] == pytest.approx(32 * MIB, abs=MIB)
    assert now[1] == pytest.approx(anon, abs=MIB)
    assert after[0] >= now[1] > after[1]


def test_memory_of_ended_process_is_gone() -> None:
    with forked() as pid:
        pass
    with pytest.raises(ProcessGone):
        sizes_of(pid)
    assert read_rollup(MACHINE, pid) is None


def test_program_is_kept_by_fork_and_changed_by_exec() -> None:
    with forked() as pid:
        assert program(pid) == program(os.getpid())
    executed = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    try:
        deadline = time.monotonic() + 10
        while program(executed) in (program(os.getpid()), NO_PROGRAM) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert program(executed) not in (program(os.getpid()), NO_PROGRAM)
    finally:
        os.kill(executed, signal.SIGKILL)
        os.waitpid(executed, 0)


def test_read_rollup_forked_child_shares() -> None:
    area = mmap.mmap(-1, 16 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area[:: mmap.PAGESIZE] = b"x" * len(range(0, len(area), mmap.PAGESIZE))
    with forked() as pid:
        rollup = read_rollup(MACHINE, pid)
    assert rollup is not None
    assert rollup.anon > 16 * MIB
    assert rollup.pss_anon < rollup.anon - 7 * MIB


def test_share_address_space_tells_vfork_from_fork() -> None:
    library = libc()
    with forked() as pid:
        assert share_address_space(library, os.getpid(), os.getpid()) in (True, None)
        assert share_address_space(library, pid, os.getpid()) in (False, None)
    assert share_address_space(None, 1, 2) is None


def test_read_machine_levels_hold_this_process() -> None:
    levels = read_machine_levels(MACHINE)
    own = sizes_of(os.getpid())
    assert levels is not None and own is not None
    assert levels.anon > own[1] // 2


def test_shared_files_count_each_file_once(tmp_path: Path) -> None:
    files = SharedFiles(MACHINE, time.time() - 1)
    path = f"/dev/shm/proctally-test-{os.getpid()}"
    memory = os.memfd_create("proctally-test")
    try:
        os.ftruncate(memory, 4 * MIB)
        os.pwrite(memory, b"x" * 4 * MIB, 0)
        again = os.dup(memory)
        with open(path, "wb", buffering=0) as file, open(tmp_path / "on-disk", "wb", buffering=0) as disk:
            file.write(b"x" * 2 * MIB)
            disk.write(b"x" * MIB)
            before = files.size()
            files.search([os.getpid()])
        assert before == 0
        assert files.size() >= 6 * MIB  # this process may hold more
        whole = files.size()
        os.unlink(path)
        assert whole - files.size() == 2 * MIB
        os.close(again)
    finally:
        os.close(memory)
        if os.path.exists(path):
            os.unlink(path)


def test_shared_files_read_only_or_old_is_not_claimed() -> None:
    path = f"/dev/shm/proctally-test-old-{os.getpid()}"
    try:
        with open(path, "wb", buffering=0) as file:
            file.write(b"x" * MIB)
            late = SharedFiles(MACHINE, time.time() + 60)
            late.search([os.getpid()])
            assert not any(path in paths for paths in late._paths.values())
        files = SharedFiles(MACHINE, time.time() - 60)
        with open(path, "rb"):
            files.search([os.getpid()])
        assert not any(path in paths for paths in files._paths.values())
    finally:
        os.unlink(path)


def test_read_sysvipc_shm_finds_own_segment() -> None:
    library = libc()
    library.shmat.restype = ctypes.c_void_p
    number = library.shmget(0, ctypes.c_size_t(MIB), 0o1600)
    if number < 0:
        pytest.skip("no System V shared memory here")
    try:
        ctypes.memset(library.shmat(number, None, 0), 0x5A, MIB)
        assert (number, os.getpid(), MIB) in read_sysvipc_shm(MACHINE)
    finally:
        library.shmctl(number, 0, None)
