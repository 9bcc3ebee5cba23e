"""Readings of the memory of members: `stat` and `status` of each whose faults or RSS moved, for the memory model."""

from __future__ import annotations

from proctally.errors import UNREADABLE, ProcessGone
from proctally.linux.c_library import libc
from proctally.linux.proc import parse_stat, read_threads
from proctally.linux.proc_memory import parse_memory, parse_program, share_address_space

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from proctally.linux.machine import Machine
    from proctally.linux.proc import Files, Stat
    from proctally.linux.proc_memory import Sizes
    from proctally.tree.member import Member
    from proctally.tree.memory import MemoryModel
    from proctally.tree.memory_around import Around
    from proctally.tree.memory_families import ProcessMemory

    Key = tuple[int, int, int]  # minor faults, major faults, RSS: what moves with each size of a process
    Reading = tuple[bytes, Stat, bytes]  # `stat`, parsed, and `status`


class MemberReadings:
    """Reads members into a model. `root`: the process that a run started; `known`: the members in the model."""

    def __init__(self, machine: Machine, files: Files, model: MemoryModel, around: Around, root: Member | None) -> None:
        self._machine = machine
        self._files = files
        self._model = model
        self._around = around
        self._root = root
        # pids of another procfs are not those of kcmp(2)
        self.library = libc() if machine.proc == "/proc" else None
        self.known: dict[Member, ProcessMemory] = {}
        self._keys: dict[Member, Key] = {}
        self._taken: dict[Member, Reading] = {}  # readings of this scan, made when the sampler read a member
        self._sharing: dict[Member, int] = {}  # members in the address space of their parents -> bytes of their faults
        self.is_starting = False  # True if this scan met such a member: it can execute during the scan

    def begin(self) -> None:
        """Start a scan."""
        self._taken.clear()
        self.is_starting = False

    def moved(self, members: Collection[Member]) -> list[Member]:
        """Return those whose faults or RSS are not those of their last reading."""
        keys = self._keys
        return [
            member
            for member in members
            if ((key := keys.get(member)) is None or _has_moved(key, member.stat, member.rss)) and member.alive
        ]

    def is_to_read(self, member: Member) -> bool:
        """Return whether the memory of a member in the model moved, by its new `stat`."""
        stat, key = member.stat, self._keys.get(member)
        return (
            key is not None and _has_moved(key, stat, stat.rss * self._machine.page_size) and stat.state not in b"ZXx"
        )

    def take(self, member: Member, raw: bytes) -> None:
        """Read `status` of a member whose new `stat` is `raw`: faults and sizes of one moment bound each other."""
        try:
            self._taken[member] = raw, member.stat, self._files.status_bytes(member, member.pid)
        except UNREADABLE:
            pass

    def leave(self, member: Member) -> ProcessMemory | None:
        """Remove a member that exited, or that is a zombie; return what the model knew of it."""
        self._keys.pop(member, None)
        self._sharing.pop(member, None)
        process = self.known.pop(member, None)
        if process is not None:
            self._model.leave(process)
        return process

    def has_ended(self, member: Member) -> bool:
        """Return whether a member exited or became a zombie."""
        try:
            raw = self._files.stat_bytes(member, member.pid)
            if not raw.startswith(b"Z", raw.rfind(b") ") + 2):
                return False
            stat = parse_stat(raw)
        except ProcessGone:
            return True
        except UNREADABLE:
            return False
        return stat.threads <= 1

    def read_all(self, moved: Iterable[Member]) -> None:
        """Read these members, and again the parents of those that are new."""
        parents: dict[Member, None] = {}
        for member in moved:
            is_new = member not in self.known
            if self._read(member) and is_new and member.parent is not None:
                parents[member.parent] = None
        for parent in parents:
            if parent in self.known:
                self._read(parent)

    def _read(self, member: Member) -> bool:
        """Read one; return whether it is in the model.

        Whether a new one shares the address space of its parent is asked before its sizes are read: they are
        its own if it executes its program in between.
        """
        process = self.known.get(member)
        taken = self._taken.pop(member, None)
        try:
            shares = process is None and self._shares_address_space(member)
            if taken is not None and process is not None:
                raw, stat, status = taken
                tid = None
            else:
                raw = self._files.stat_bytes(member, member.pid)
                stat = parse_stat(raw)
                if stat.start != member.start or (stat.state in b"ZXx" and stat.threads <= 1):
                    return False
                tid = self.living_thread(member.pid) if stat.state == b"Z" else None
                status = b"" if shares else self._status(member, tid)
            sizes = None if shares else parse_memory(status)
            program = parse_program(raw, len(stat.head)) if tid is None else self._program_of(member, tid)
        except UNREADABLE:
            return False
        self._keys[member] = stat.minor_faults, stat.major_faults, stat.rss * self._machine.page_size
        if shares:
            self._note_sharing(member, stat)
            return False
        if sizes is None:
            if process is not None:
                self._model.fade(process)
            return False
        if process is None:
            process = self._enter(member, program)
        elif not process.living:
            return False
        self._update(process, program, sizes, stat)
        return True

    def _shares_address_space(self, member: Member) -> bool:
        parent = None if member.parent is None else self.known.get(member.parent)
        return (
            parent is not None
            and parent.family is not None
            and bool(share_address_space(self.library, member.pid, parent.pid))
        )

    def _enter(self, member: Member, program: bytes) -> ProcessMemory:
        """Add a new member."""
        parent = None if member.parent is None else self.known.get(member.parent)
        self._around.check(member.pid)
        process = self.known[member] = self._model.enter(
            member.pid, member.start, member.command, program, parent, is_root=member is self._root
        )
        process.faults = self._sharing.pop(member, 0)
        return process

    def _note_sharing(self, member: Member, stat: Stat) -> None:
        """Note the faults of a member in the address space of its parent: the sizes of that show what they made."""
        faults = (stat.minor_faults + stat.major_faults) * self._machine.page_size
        self._model.turnover.faulted += faults - self._sharing.get(member, 0)
        self._sharing[member] = faults
        self.is_starting = True

    def _update(self, process: ProcessMemory, program: bytes, sizes: Sizes, stat: Stat) -> None:
        faults = (stat.minor_faults + stat.major_faults) * self._machine.page_size
        process.command = stat.comm
        self._model.update(process, program, sizes, faults, stat.threads)

    def _status(self, member: Member, tid: int | None) -> bytes:
        if tid is None:
            return self._files.status_bytes(member, member.pid)
        return self._machine.read(f"{member.pid}/task/{tid}/status")

    def living_thread(self, pid: int) -> int | None:
        """Return a thread of a process whose main thread exited; None without one."""
        return next((tid for tid in read_threads(self._machine, pid) if tid != pid), None)

    def _program_of(self, member: Member, tid: int) -> bytes:
        """Return the program of a process whose main thread exited: its `stat` has none."""
        process = self.known.get(member)
        if process is not None and process.family is not None:
            return process.family.program
        raw = self._machine.read(f"{member.pid}/task/{tid}/stat")
        return parse_program(raw, len(parse_stat(raw).head))


def _has_moved(key: Key, stat: Stat, rss: int) -> bool:
    return key[0] != stat.minor_faults or key[2] != rss or key[1] != stat.major_faults
