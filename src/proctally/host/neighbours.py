"""Processes that are not of the tree and use most of the CPU, for a job that waits for one.

Two readings of the CPU clocks of all processes, in steps of about a millisecond; name, user and memory only of those
that used most between them. No argument of a process is read: it could be a secret.
"""

from __future__ import annotations

from proctally.errors import UNREADABLE, AccessDenied
from proctally.linux.machine import NANOSECONDS, clock_id
from proctally.linux.proc import read_stat, scan
from proctally.linux.users import owner, read_user_names
from proctally.record.codes import COMPLETE, PARTIAL
from proctally.text.escape import decode_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from proctally.linux.machine import Machine
    from proctally.record import JsonObject

    Clocks = dict[int, tuple[int, int]]  # by pid: CPU time, and the moment of its reading

EVERY_NS = 10 * NANOSECONDS  # minimum time between two results
COST_DIVISOR = 500  # ... and at most this part of one core
WINDOW_NS = 500_000_000  # time between two readings where there is none to compare with
STALE_NS = 2 * EVERY_NS  # age of a reading that is no longer compared with
STEP_NS = 1_000_000  # maximum time for a part of a reading ...
PAUSE_NS = 20_000_000  # ... and the time until the next part
PIDS = 200  # processes after which the clock is read
MAX_PROCESSES = 10_000  # of a machine with more, none are read
MAX_NAMED = 64  # processes with the most CPU time whose names are read
LARGEST = 5
MIN_CORES = 0.005
INIT = 1  # pid of the first process: where it is not listed, others are hidden (hidepid)


class NeighbourReader:
    """Reads the other processes part by part, while they are wanted.

    `is_ours(pid)`: whether a process is of the tree or of proctally. `pauses`: whether others are served
    between two parts. `is_hidden`: others are hidden from this user, or there are too many: nothing more is read.
    """

    def __init__(self, machine: Machine, is_ours: Callable[[int], bool], *, pauses: bool = True) -> None:
        self.machine = machine
        self.is_hidden = machine.procfs_missing is not None or machine.clock_gettime_ns is None
        self._is_ours = is_ours
        self._pause_ns = PAUSE_NS if pauses else 0
        self._before: Clocks = {}
        self._before_ns = 0
        self._last_pid: int | None = None  # at the last reading
        self._parts: Generator[None, None, None] | None = None
        self._due_ns = 0  # of the next part
        self._next_ns = 0  # of the next result, at the earliest
        self._cost_ns = 0
        self._users: dict[int, str] | None = None
        self._found: JsonObject | None = None

    def want(self) -> None:
        """Have a result made, unless there was one a short time ago."""
        now = self.machine.monotonic_ns()
        if self._parts is None and not self.is_hidden and now >= self._next_ns:
            self._parts, self._due_ns, self._cost_ns = self._make(), now, 0

    def timeout(self, now: int) -> int | None:
        """Return the nanoseconds until the next part; None while nothing is wanted."""
        return None if self._parts is None else max(0, self._due_ns - now)

    def step(self, now: int) -> None:
        """Read the next part, if that is due."""
        if self._parts is None or now < self._due_ns:
            return
        started = self.machine.monotonic_ns()
        self._due_ns = now + self._pause_ns
        if next(self._parts, self) is self:
            self._parts = None
        ended = self.machine.monotonic_ns()
        self._cost_ns += ended - started
        if self._parts is None:
            self._next_ns = ended + max(EVERY_NS, self._cost_ns * COST_DIVISOR)

    def take(self) -> JsonObject | None:
        """Return the result that was not taken yet."""
        found, self._found = self._found, None
        return found

    def _make(self) -> Generator[None, None, None]:
        clock = self.machine.monotonic_ns
        if not self._before or clock() - self._before_ns > STALE_NS:
            self._last_pid = self.machine.last_pid()
            self._before = yield from self._read()
            self._before_ns = clock()
            self._due_ns = self._before_ns + WINDOW_NS
            yield
        if self.is_hidden:
            return
        before, self._last_pid = self._last_pid, self.machine.last_pid()
        now = yield from self._read()
        made = 0 if before is None or self._last_pid is None else self._last_pid - before
        yield
        if not self.is_hidden:
            found = self._compare(self._before, now, made)
            self._found = None if self.is_hidden else found
        self._before, self._before_ns = now, max((at for _, at in now.values()), default=0)

    def _read(self) -> Generator[None, None, Clocks]:
        """Return the CPU clock of every process that is not ours."""
        machine = self.machine
        clocks: Clocks = {}
        ended = machine.monotonic_ns() + STEP_NS
        pids: list[int] = []
        try:
            for pid, _ in scan(machine):
                pids.append(pid)
                if len(pids) % PIDS == 0 and machine.monotonic_ns() > ended:
                    yield
                    ended = machine.monotonic_ns() + STEP_NS
        except UNREADABLE:
            pids = []
        if INIT not in pids or len(pids) > MAX_PROCESSES:
            self.is_hidden = True
            return {}
        for first in range(0, len(pids), PIDS):
            part = pids[first : first + PIDS]
            read = machine.clocks([clock_id(pid) for pid in part])
            now = machine.monotonic_ns()
            clocks.update((pid, (used, now)) for pid, used in zip(part, read, strict=True) if used is not None)
            if now > ended:
                yield
                ended = machine.monotonic_ns() + STEP_NS
        return clocks

    def _compare(self, before: Clocks, now: Clocks, made: int) -> JsonObject:
        """Return the cores of all others between two readings, and the largest of them.

        `made`: pids that were given out in between; those of threads and of processes that exited are not in `now`.
        """
        is_partial = made != len(now.keys() - before.keys()) or any(
            pid not in now and not self._is_ours(pid) for pid in before
        )
        used: list[tuple[float, int]] = []
        start = self._before_ns
        for pid, (clock, at) in now.items():
            earlier, since = before.get(pid, (0, start))
            grown = clock - earlier if clock >= earlier else clock  # a smaller one is of another process
            if grown and at > since and not self._is_ours(pid):
                used.append((grown / (at - since), pid))
        used.sort(reverse=True)
        total = sum(cores for cores, _ in used)
        groups: dict[tuple[str, str], list[float]] = {}
        for cores, pid in used[:MAX_NAMED]:
            try:
                stat, user = read_stat(self.machine, pid), self._user(owner(self.machine, pid))
            except AccessDenied:
                self.is_hidden = True  # hidepid=noaccess lists processes that it hides
                continue
            except UNREADABLE:
                is_partial = True
                continue
            if self._is_ours(stat.ppid):  # started since the last scan of the tree
                total -= cores
                continue
            group = groups.setdefault((user, decode_name(stat.comm)), [0.0, 0, 0])
            for place, value in enumerate((cores, 1, stat.rss * self.machine.page_size)):
                group[place] += value
        elapsed = max(at for _, at in now.values()) - start if now else 0
        return section(elapsed / NANOSECONDS, total, groups, is_partial=is_partial)

    def _user(self, uid: int) -> str:
        if self._users is None:
            self._users = read_user_names()
        return self._users.get(uid, str(uid))


def section(
    interval: float, total: float, groups: dict[tuple[str, str], list[float]], *, is_partial: bool
) -> JsonObject:
    """Return the largest groups as a record has them: cores, number and bytes by user and command."""
    order = sorted(groups, key=lambda key: -groups[key][0])
    return {
        "interval_seconds": round(interval, 3),
        "cpu_cores": round(max(0.0, total), 3),
        "coverage": PARTIAL if is_partial else COMPLETE,
        "largest": [
            {
                "user": user,
                "command": command,
                "processes": int(groups[user, command][1]),
                "cpu_cores": round(groups[user, command][0], 3),
                "rss_bytes": int(groups[user, command][2]),
            }
            for user, command in order[:LARGEST]
            if groups[user, command][0] >= MIN_CORES
        ],
    }
