"""A small fake host: processes that a script starts, runs, ends and reaps, shown as a `/proc` in a folder.

    host = FakeHost(folder, own=77)      # this process is 77 and a subreaper, as in `run`
    host.spawn(100, 77)                  # the root of a family
    host.spawn(101, 100, comm=b"cc1")
    host.run(101, user=0.25)
    host.exit(101)                       # a zombie
    host.reap(101)                       # its parent waited: its times move into the parent's
    host.used(100)                       # the truth: what the family of 100 used, dead or alive

It follows the kernel where totals depend on it: a zombie keeps its files, what was reaped shows in the parent's
waited-for counters, kept descriptors of the dead answer nothing, a pid that is used again has another folder and a
later start, orphans go to the nearest subreaper. Times are kept in nanoseconds and shown in ticks, each counter cut.
Forking, ending and reaping move the CPU clock of who does it, as they do on a host: by a few nanoseconds, so that a
script's figures stay readable.

Counters are lists in the places of the ledger (`ledger.CPU`, `ledger.IO + 4`, ...).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from errno import EACCES, EINVAL
from pathlib import Path
from types import SimpleNamespace

from proctally.errors import AccessDenied
from proctally.linux.machine import Machine
from proctally.linux.proc_memory import STATUS_KEYS
from proctally.tree.member import CPU, DELAY, IO, IO_FIELDS, MAJOR, MINOR, SIZE, SWITCHES, SYSTEM, USER
from proctally.tree.sampler import TreeSampler

TICKS = 100
TICK_NS = 1_000_000_000 // TICKS
PAGE = 4096
INIT = 1
NO_PID = 1 << 22  # PID_MAX_LIMIT: never given out
SECOND = 1_000_000_000
PROGRAMS = 1 << 20  # above each pid


def nanoseconds(seconds: float) -> int:
    return round(seconds * SECOND)


@dataclass(eq=False)
class FakeThread:
    tid: int
    delay: int = 0
    children: list[int] = field(default_factory=list)


@dataclass(eq=False)
class FakeProcess:
    """`used` is its own, `waited` what it got from children it waited for, and they from theirs."""

    pid: int
    ppid: int
    start: int
    comm: bytes
    family: int | None
    folder: Path
    threads: dict[int, FakeThread]
    state: str = "S"
    pages: int = 0
    peak_pages: int = 0
    pss_pages: int = 0
    shmem_pages: int = 0
    swap_pages: int = 0
    slices: int = 1
    program: int = 0
    ignores: bool = False
    subreaper: bool = False
    leader_ended: bool = False
    hidden: bool = False
    reaping: bool = False
    used: list[int] = field(default_factory=lambda: [0] * SIZE)
    waited: list[int] = field(default_factory=lambda: [0] * SIZE)
    peak_waited: int = 0
    written: dict[str, bytes] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return self.state in "ZX" and not self.leader_ended


@dataclass
class Reaped:
    """What wait4 and the growth of this process's own `io` said of a child."""

    usage: SimpleNamespace
    io: list[int]


class FakeMachine(Machine):
    """A Machine whose accesses the host is told of before they happen."""

    def __init__(self, host: FakeHost, *, clocks: bool) -> None:
        super().__init__(
            str(host.proc),
            ticks=TICKS,
            page_size=PAGE,
            clock_gettime_ns=host.cpu_clock if clocks else None,
            monotonic_ns=host.monotonic_ns,
            boottime_ns=host.monotonic_ns,
            now=host.unix_time,
        )
        self.host = host

    def read(self, path: str, *, to_end: bool = False) -> bytes:
        self.host.accessed(path)
        return super().read(self.host.locate(path), to_end=to_end)

    def open(self, path: str) -> int:
        self.host.accessed(path)
        return super().open(self.host.locate(path))


class FakeHost:
    """The processes, the clocks, and the folder that shows them.

    `own`: the pid of the tracker itself, a subreaper; None where it is not of this host's processes (`attach`).
    `children_files`: whether this kernel has them. `last_pid`: whether `loadavg` tells the pid given out last; scripts
    should then give them out in ascending order, threads included.
    """

    def __init__(
        self, folder: Path, *, own: int | None = None, children_files: bool = True, last_pid: bool = False
    ) -> None:
        self.proc = folder / "proc"
        self._graves = folder / "graves"  # a folder that is kept keeps its inode from being used again
        self.proc.mkdir()
        (self.proc / "self").mkdir()
        self._graves.mkdir()
        self.children_files = children_files
        self.last_pid = last_pid
        self.own = own
        self.now_ns = 1000 * SECOND
        self.processes: dict[int, FakeProcess] = {}
        self.accesses: list[str] = []
        self.denied: set[str] = set()
        self.pss_cost_ns: dict[int, int] = {}
        self.on_access: Callable[[str], None] | None = None
        self._once: dict[str, list[Callable[[], object]]] = {}
        self._truth: dict[int, list[int]] = {}
        self._last_start: dict[int, int] = {}
        self.serial = 0
        if children_files:
            (self.proc / "thread-self").mkdir()
            (self.proc / "thread-self" / "children").touch()
        self._add(INIT, 0, b"init", None)
        if own is not None:
            self._add(own, INIT, b"proctally", None).subreaper = True

    # -- clocks and files ----------------------------------------------------------------------------------------

    def machine(self, *, clocks: bool = True) -> Machine:
        """This host as the product sees it; without `clocks` there are no CPU clocks and only `stat` tells times."""
        return FakeMachine(self, clocks=clocks)

    def advance(self, seconds: float) -> None:
        self.now_ns += nanoseconds(seconds)

    def monotonic_ns(self) -> int:
        return self.now_ns

    def unix_time(self) -> float:
        return 1_700_000_000 + self.now_ns / SECOND

    def cpu_clock(self, clock: int) -> int:
        """clock_gettime(2) of the CPU clock of a process."""
        assert clock & 7 == 2, "the scheduler's clock of a whole process"
        pid = ~(clock >> 3)
        self._announce(f"{pid}/clock")
        process = self.processes.get(pid)
        if process is None:
            raise OSError(EINVAL, "Invalid argument")
        return process.used[CPU]

    def accessed(self, path: str) -> None:
        """A file is about to be opened."""
        self.accesses.append(path)
        self._announce(path)
        pid, _, name = path.partition("/")
        if name == "smaps_rollup" or name.endswith("/smaps_rollup"):
            self.now_ns += self.pss_cost_ns.get(int(pid), 0)
        if path in self.denied and (self.proc / path).exists():
            raise AccessDenied(EACCES, "Permission denied", path)

    def locate(self, path: str) -> str:
        """A thread has a folder of its own that is listed nowhere: `/proc/TID/stat` can be opened."""
        name, _, rest = path.partition("/")
        if name.isdecimal() and int(name) not in self.processes:
            for process in self.processes.values():
                if int(name) in process.threads:
                    return f"{process.pid}/task/{name}/{rest}"
        return path

    def once(self, path: str, action: Callable[[], object]) -> None:
        """Do this right before the first access to a file (`"101/stat"`) or to a clock (`"101/clock"`).

        Kept descriptors are read without asking: sample with `descriptors=0` to have every reading announced.
        """
        self._once.setdefault(path, []).append(action)

    def _announce(self, path: str) -> None:
        for action in self._once.pop(path, ()):
            action()
        if self.on_access is not None:
            self.on_access(path)

    # -- what processes do ---------------------------------------------------------------------------------------

    def spawn(
        self,
        pid: int,
        ppid: int,
        *,
        comm: bytes = b"job",
        threads: int = 1,
        pages: int = 0,
        by: int | None = None,
        subreaper: bool = False,
        ignores: bool = False,
    ) -> FakeProcess:
        """Fork. A child of init or of the tracker founds a family. `by`: the thread of the parent that forks.

        Further threads get the ids `pid * 100 + 1` and so on.
        """
        parent = self.processes[ppid]
        assert not parent.ended
        family = pid if ppid in (INIT, self.own) else parent.family
        if family == pid:
            self._truth[pid] = [0] * SIZE
        process = self._add(pid, ppid, comm, family, threads=threads)
        process.subreaper = subreaper
        process.ignores = ignores
        process.pages = process.peak_pages = process.pss_pages = pages
        process.program = parent.program if family != pid else pid
        if by is None and parent.leader_ended:
            by = next(tid for tid in parent.threads if tid != ppid)
        parent.threads[ppid if by is None else by].children.append(pid)
        self.serial += 1
        self._spend(process, SYSTEM, self.serial)  # no two processes have the same clock
        self._spend(parent, SYSTEM, 1)
        self.write(process)
        self.write(parent)
        return process

    def run(
        self,
        pid: int,
        user: float = 0.0,
        system: float = 0.0,
        *,
        minor: int = 0,
        major: int = 0,
        switches: int = 0,
        io: tuple[int, ...] = (),
        pages: int | None = None,
    ) -> None:
        """Seconds of CPU, faults, context switches, the counters of `io`; `pages`: its resident pages from now on,
        anonymous but for `shmem_pages`."""
        process = self.processes[pid]
        assert not process.ended
        self._spend(process, USER, nanoseconds(user))
        self._spend(process, SYSTEM, nanoseconds(system) + 1)
        for place, value in [(MINOR, minor), (MAJOR, major), (SWITCHES, switches)]:
            self._spend(process, place, value)
        for place, value in enumerate(io):
            self._spend(process, IO + place, value)
        if pages is not None:
            self._set_pages(process, pages)
        self.write(process)

    def reclaim(self, pid: int, pages: int) -> None:
        """The kernel takes memory from a process that does not run."""
        process = self.processes[pid]
        process.swap_pages += process.pages - pages
        self._set_pages(process, pages)
        self.write(process)

    def waits(self, tid: int, seconds: float, pid: int | None = None) -> None:
        """A thread waited for a CPU before it ran."""
        process = self.processes[tid if pid is None else pid]
        process.threads[tid].delay += nanoseconds(seconds)
        self._spend(process, DELAY, nanoseconds(seconds))
        self.run(process.pid)

    def start_thread(self, pid: int, tid: int) -> None:
        self.processes[pid].threads[tid] = FakeThread(tid)
        self._give_out(tid)
        self.run(pid)

    def end_thread(self, pid: int, tid: int) -> None:
        """A thread that is not the main one ends; another one has its children."""
        process = self.processes[pid]
        thread = process.threads.pop(tid)
        next(iter(process.threads.values())).children += thread.children
        self._remove_thread(process, tid)
        self.run(pid)

    def end_leader(self, pid: int) -> None:
        """The main thread ends and others live on: state Z, and no memory in its `stat`."""
        process = self.processes[pid]
        leader, *others = process.threads.values()
        assert others
        others[0].children += leader.children
        leader.children = []
        process.state = "Z"
        process.leader_ended = True
        self.run(pid)

    def exec(self, pid: int, comm: bytes, *, pages: int | None = None) -> None:
        """Another program; with `pages` also another address space."""
        process = self.processes[pid]
        process.comm = comm
        if pages is not None:
            self.serial += 1
            process.peak_waited = max(process.peak_waited, process.peak_pages)  # ru_maxrss goes on through exec
            process.program, process.peak_pages = PROGRAMS + self.serial, 0
        self.run(pid, pages=pages)

    def set_state(self, pid: int, state: str) -> None:
        """Running, in disk sleep, or `X`: its parent is just reaping it."""
        process = self.processes[pid]
        process.state = state
        if state == "X":
            self.write(process)
        else:
            self.run(pid)

    def exit(self, pid: int) -> None:
        """It ends: a zombie, or nothing at all where its parent ignores SIGCHLD. Its children get another parent."""
        process = self.processes[pid]
        assert not process.ended
        self._spend(process, SYSTEM, 1)
        for tid in [tid for tid in process.threads if tid != pid]:
            thread = process.threads.pop(tid)
            process.threads[pid].children += thread.children
            self._remove_thread(process, tid)
        process.state = "Z"
        process.leader_ended = False
        process.pages = process.pss_pages = process.swap_pages = 0
        orphans, process.threads[pid].children = process.threads[pid].children, []
        self.write(process)
        for orphan in orphans:
            self.reparent(orphan, self._reaper_of(process))
        if self.processes[process.ppid].ignores:
            self._disappear(process)

    def reparent(self, pid: int, ppid: int) -> None:
        """Another parent, without any of the two having run."""
        process, parent = self.processes[pid], self.processes[ppid]
        if before := self.processes.get(process.ppid):
            self._forget_child(before, pid)
            self.write(before)
        process.ppid = ppid
        parent.threads[next(reversed(parent.threads)) if parent.leader_ended else ppid].children.append(pid)
        self.write(process)
        self.write(parent)

    def begin_reap(self, pid: int) -> None:
        """Its parent has its times, and it is still there, in state X (kernel: wait_task_zombie, release_task)."""
        process = self.processes[pid]
        assert process.ended
        parent = self.processes[process.ppid]
        for place, value in enumerate(process.used):
            parent.waited[place] += value + process.waited[place]
        parent.peak_waited = max(parent.peak_waited, process.peak_pages, process.peak_waited)
        process.state, process.reaping = "X", True
        self._spend(parent, SYSTEM, 1)
        self.write(process)
        self.write(parent)

    def reap(self, pid: int) -> Reaped:
        """Its parent waits for it: what it used, and what it had waited for, moves into the parent's counters."""
        process = self.processes[pid]
        if not process.reaping:
            self.begin_reap(pid)
        whole = [own + waited for own, waited in zip(process.used, process.waited, strict=True)]
        self._disappear(process)
        usage = SimpleNamespace(
            ru_utime=whole[USER] // 1000 / 1e6,
            ru_stime=whole[SYSTEM] // 1000 / 1e6,
            ru_minflt=whole[MINOR],
            ru_majflt=whole[MAJOR],
            ru_nvcsw=whole[SWITCHES],
            ru_nivcsw=0,
            ru_maxrss=max(process.peak_pages, process.peak_waited) * PAGE // 1024,
        )
        return Reaped(usage, whole[IO:])

    def end(self, pid: int) -> Reaped:
        """Exit, and reaped at once."""
        self.exit(pid)
        return self.reap(pid)

    def auto_reap(self, pid: int) -> None:
        """It ends and its parent ignores SIGCHLD: gone, and nothing is added to the parent."""
        if not self.processes[pid].ended:
            self.exit(pid)
        if pid in self.processes:
            self._disappear(self.processes[pid])

    def hide(self, pid: int) -> None:
        """Under hidepid it became another user's: its folder cannot be found any more, what is open reads on."""
        process = self.processes[pid]
        process.hidden = True
        self._bury_folder(process)

    def show(self, pid: int) -> None:
        """It is of this user again, as the child of su(1) that has become the user."""
        process = self.processes[pid]
        process.hidden = False
        process.folder = process.folder.rename(self.proc / str(pid))

    def deny(self, *paths: str) -> None:
        self.denied.update(paths)

    # -- the truth -----------------------------------------------------------------------------------------------

    def used(self, root: int) -> list[int]:
        """What the family of this root has used, the dead included."""
        return list(self._truth[root])

    def cpu_seconds(self, root: int) -> float:
        return self._truth[root][CPU] / SECOND

    def family(self, root: int) -> list[FakeProcess]:
        """Its living processes and zombies."""
        return [process for process in self.processes.values() if process.family == root]

    def opened(self) -> list[str]:
        """The files that were opened since the last call."""
        opened, self.accesses = self.accesses, []
        return opened

    # -- inside --------------------------------------------------------------------------------------------------

    def _add(self, pid: int, ppid: int, comm: bytes, family: int | None, threads: int = 1) -> FakeProcess:
        assert pid not in self.processes
        start = max(self.now_ns // TICK_NS, self._last_start.get(pid, -1) + 1)
        self._last_start[pid] = start
        folder = self.proc / str(pid)
        folder.mkdir()
        (folder / "task").mkdir()
        tids = [pid, *(pid * 100 + number for number in range(1, threads))]
        process = FakeProcess(pid, ppid, start, comm, family, folder, {tid: FakeThread(tid) for tid in tids})
        self.processes[pid] = process
        self._give_out(pid)
        self.write(process)
        return process

    def _give_out(self, pid: int) -> None:
        if self.last_pid:
            (self.proc / "loadavg").write_bytes(b"0.00 0.01 0.05 1/%d %d\n" % (len(self.processes), pid))

    def _spend(self, process: FakeProcess, place: int, value: int) -> None:
        places = (place, CPU) if place in (USER, SYSTEM) else (place,)
        for each in places:
            process.used[each] += value
            if process.family is not None:
                self._truth[process.family][each] += value

    def _set_pages(self, process: FakeProcess, pages: int) -> None:
        process.pages = process.pss_pages = pages
        process.peak_pages = max(process.peak_pages, pages)

    def _reaper_of(self, process: FakeProcess) -> int:
        """Who gets its orphans: the nearest ancestor that lives and is a subreaper, else init."""
        pid = process.ppid
        while pid in self.processes and pid != INIT:
            ancestor = self.processes[pid]
            if ancestor.subreaper and not ancestor.ended:
                return pid
            pid = ancestor.ppid
        return INIT

    def _forget_child(self, parent: FakeProcess, pid: int) -> None:
        for thread in parent.threads.values():
            if pid in thread.children:
                thread.children.remove(pid)

    def _disappear(self, process: FakeProcess) -> None:
        parent = self.processes[process.ppid]
        self._forget_child(parent, process.pid)
        del self.processes[process.pid]
        for name in ("stat", "io"):
            os.truncate(process.folder / name, 0)  # who keeps it open reads nothing any more
        if not process.hidden:
            self._bury_folder(process)
        self.write(parent)

    def _bury_folder(self, process: FakeProcess) -> None:
        process.folder = process.folder.rename(self._graves / f"{process.pid}-{process.start}")

    def _remove_thread(self, process: FakeProcess, tid: int) -> None:
        shutil.rmtree(process.folder / "task" / str(tid))
        process.written = {name: data for name, data in process.written.items() if not name.startswith(f"task/{tid}/")}

    def write(self, process: FakeProcess) -> None:
        """Show it: files that changed are written over in place, so that kept descriptors read the new text."""
        for name, data in self._files(process):
            if process.written.get(name) != data:
                path = process.folder / name
                if name.startswith("task/"):
                    path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
                process.written[name] = data
        if process.ended:  # without an address space the kernel answers ESRCH
            process.written.pop("smaps_rollup", None)
            (process.folder / "smaps_rollup").unlink(missing_ok=True)

    def _files(self, process: FakeProcess) -> Iterator[tuple[str, bytes]]:
        pid = process.pid
        memory = 0 if process.state == "Z" else process.pages
        yield "stat", _stat(process, pid, process.state, memory)
        yield "io", _io(process)
        yield "status", _status(process, pid)
        yield "schedstat", b"%d %d %d\n" % (process.used[CPU], process.threads[pid].delay, max(0, process.slices))
        if not process.ended:
            yield "smaps_rollup", b"" if process.leader_ended else _smaps_rollup(process)
        for tid, thread in process.threads.items():
            if self.children_files:
                yield f"task/{tid}/children", b"".join(b"%d " % child for child in thread.children)
            own = (process.used[CPU], thread.delay, max(0, process.slices)) if tid == pid else (0, thread.delay, 1)
            yield f"task/{tid}/schedstat", b"%d %d %d\n" % own
            if tid != pid:
                yield f"task/{tid}/stat", _stat(process, tid, "S", process.pages)
                yield f"task/{tid}/status", _status(process, tid)
                yield f"task/{tid}/smaps_rollup", _smaps_rollup(process)


def _stat(process: FakeProcess, tid: int, state: str, pages: int) -> bytes:
    used, waited = process.used, process.waited
    program = 0 if state in "ZX" else process.program
    layout = [0, program, 0, program, *[0] * 18, program, *[0] * 5]  # startcode, startstack, start_brk
    fields = [
        process.ppid, process.pid, process.pid, 0, -1, 4194304, used[MINOR], waited[MINOR], used[MAJOR], waited[MAJOR],
        used[USER] // TICK_NS, used[SYSTEM] // TICK_NS, waited[USER] // TICK_NS, waited[SYSTEM] // TICK_NS, 20, 0,
        len(process.threads), 0, process.start, pages * PAGE, pages, *layout,
    ]  # fmt: skip
    return b"%d (%s) %s %s\n" % (tid, process.comm, state.encode(), " ".join(map(str, fields)).encode())


def _io(process: FakeProcess) -> bytes:
    names = (b"rchar", b"wchar", b"syscr", b"syscw", b"read_bytes", b"write_bytes", b"cancelled_write_bytes")
    values = [process.used[IO + place] + process.waited[IO + place] for place in range(IO_FIELDS)]
    return b"".join(b"%s: %d\n" % pair for pair in zip(names, values, strict=True))


def _status(process: FakeProcess, tid: int) -> bytes:
    lines = [b"Name:\t" + process.comm.replace(b"\n", b"\\n"), b"Tgid:\t%d" % process.pid, b"Pid:\t%d" % tid]
    if process.state not in "ZX" or tid != process.pid:
        anon = process.pages - process.shmem_pages
        sizes = (
            process.peak_pages,
            process.pages,
            anon,
            0,
            process.shmem_pages,
            anon,
            0,
            0,
            0,
            0,
            process.swap_pages,
            0,
        )
        for key, pages in zip(STATUS_KEYS, sizes, strict=True):
            lines.append(b"%b\t%8d kB" % (key, pages * PAGE // 1024))
    lines.append(b"SigIgn:\t%016x" % (process.ignores << 16))
    lines.append(b"voluntary_ctxt_switches:\t%d" % process.used[SWITCHES])
    lines.append(b"nonvoluntary_ctxt_switches:\t0\n")
    return b"\n".join(lines)


def _smaps_rollup(process: FakeProcess) -> bytes:
    pss, shmem, rss = (pages * PAGE // 1024 for pages in (process.pss_pages, process.shmem_pages, process.pages))
    sizes = (("Rss", rss), ("Pss", pss), ("Pss_Anon", pss - shmem), ("Pss_File", 0), ("Pss_Shmem", shmem))
    lines = [f"{key}: {size:8d} kB\n" for key, size in (*sizes, ("Anonymous", rss - shmem))]
    return b"00400000-7ffe0000 ---p 00000000 00:00 0    [rollup]\n" + "".join(lines).encode()


def reap_ours(host: FakeHost, sampler: TreeSampler, pid: int, status: int = 0) -> Reaped:
    """A zombie child of the tracker is read, waited for and told of, as `job` and `run` do it."""
    seen = sampler.ended(pid)
    reaped = host.reap(pid)
    sampler.reaped(seen, status, reaped.usage, reaped.io)
    return reaped


def attach_to(sampler: TreeSampler, root: int) -> None:
    """Attach as a tracker whose own pid is none of the fake host's."""
    sampler.attach(root, NO_PID)
