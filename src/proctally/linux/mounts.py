"""The space of file systems: `/proc/self/mountinfo` and statvfs(2); ZFS pools by their own command.

Never statvfs(2) of a file system that a server or a daemon answers for: it waits for as long as that hangs.
Layouts: fs/proc_namespace.c of the kernel, zpool-list(8).
"""

from __future__ import annotations

import os
import select

from proctally.kernel.aside import Aside
from proctally.kernel.cgroup import unescape
from proctally.kernel.machine import NANOSECONDS, Gone, Machine
from proctally.kernel.proc import text
from proctally.kernel.sources import KeptFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Answered by another machine, or agreed upon with others (gfs2, ocfs2). All of FUSE is left out beside these: a daemon
# answers for it.
REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "ceph", "9p", "virtiofs", "lustre", "gpfs", "mmfs"}
    | {"beegfs", "panfs", "orangefs", "pvfs2", "glusterfs", "gfs", "gfs2", "ocfs2", "wekafs", "pxd", "davfs", "vboxsf"}
)
STACKED_ROOTS = frozenset({"overlay", "aufs"})
VIRTUAL = (b"/proc/", b"/sys/", b"/dev/", b"/run/")


class Mount:
    """One line of mountinfo. `number`: `major:minor` of the device; `root`: which directory of it is mounted."""

    __slots__ = ("id", "kind", "number", "parent", "point", "root", "source")

    id: int
    parent: int
    number: str
    root: bytes
    point: bytes
    kind: str
    source: str

    @property
    def is_remote(self) -> bool:
        return self.kind in REMOTE or self.kind.startswith("fuse")


def parse_mounts(data: bytes) -> list[Mount]:
    """All mounts of `/proc/self/mountinfo`, in its order: that in which they were made, not moved."""
    mounts = []
    for line in data.split(b"\n"):
        if not line:
            continue
        head, _, tail = line.partition(b" - ")
        fields, kind = head.split(b" "), tail.split(b" ")
        mount = Mount()
        try:
            mount.id, mount.parent = int(fields[0]), int(fields[1])
            major, minor = map(int, fields[2].split(b":"))
            mount.number = f"{major}:{minor}"
            mount.root, mount.point = unescape(fields[3]), unescape(fields[4])
            mount.kind, mount.source = text(kind[0]), text(unescape(kind[1]))
        except (ValueError, IndexError):
            raise ValueError(f"mountinfo: {line[:200]!r}") from None
        mounts.append(mount)
    return mounts


def choose(mounts: list[Mount]) -> list[Mount]:
    """One mount of each local file system that lies on a block device; without any, the root where it is an overlay.

    Of several of one device, the one that shows the whole of it, then the shortest. None below a remote file system,
    whose directories would have to be asked on the way; the root does not count there, nothing works when it hangs.
    """
    by_id = {mount.id: mount for mount in mounts}
    places = {(mount.parent, mount.point) for mount in mounts}
    seen = {mount.point: mount for mount in mounts if mount.point == b"/" or (mount.id, mount.point) not in places}
    chosen: dict[str, Mount] = {}
    for mount in seen.values():
        on_block = not mount.number.startswith("0:") or mount.source.startswith("/dev/")
        if not on_block or mount.is_remote or _is_virtual(mount.point) or not _is_reached(mount, by_id, places):
            continue
        other = chosen.get(mount.number)
        if other is None or _order(mount) < _order(other):
            chosen[mount.number] = mount
    if chosen:
        return list(chosen.values())
    root = seen.get(b"/")
    return [root] if root is not None and root.kind in STACKED_ROOTS else []


def _order(mount: Mount) -> tuple[bool, int, bytes]:
    return mount.root != b"/", len(mount.point), mount.point


def _is_virtual(point: bytes) -> bool:
    return (point + b"/").startswith(VIRTUAL)


def _is_reached(mount: Mount, by_id: dict[int, Mount], places: set[tuple[int, bytes]]) -> bool:
    """Whether the path of its directory leads to it, by local file systems alone.

    `places`: parent and point of every mount. What was mounted later on a directory of that path hides it, and answers
    in its place. Not so over the root: every process keeps the one that it began with.
    """
    for _ in range(len(by_id)):
        end = mount.point.rfind(b"/")
        while end > 0:
            if (mount.parent, mount.point[:end]) in places:
                return False
            end = mount.point.rfind(b"/", 0, end)
        above = by_id.get(mount.parent)
        if above is None or above.point == b"/":
            return True
        if above.is_remote:
            return False
        mount = above
    return True  # the parents go round in a circle: no kernel wrote that


class Space:
    """How full a file system is. `device`: the whole block device it lies on, None where that is not known.

    `free_bytes` is what an ordinary user may still take (f_bavail). Both are None where statvfs(2) was refused.
    """

    __slots__ = ("device", "free_bytes", "kind", "point", "total_bytes")

    def __init__(self, point: str, kind: str, device: str | None, total: int | None, free: int | None) -> None:
        self.point = point
        self.kind = kind
        self.device = device
        self.total_bytes = total
        self.free_bytes = free

    def entry(self) -> dict[str, object]:
        total, free = self.total_bytes, self.free_bytes
        return {
            "mount_point": self.point,
            "filesystem": self.kind,
            "total_bytes": total,
            "free_bytes": free,
            "used_bytes": None if total is None or free is None else total - free,
        }


class MountReader:
    """Follows the mounts of this process, and reads the space of the chosen ones.

    The kernel tells by poll(2) that a mount was made or removed (mounts_poll); an ordinary file, as in a captured
    machine, tells nothing and is read each time.
    """

    __slots__ = ("_chosen", "_known", "_poll", "_statvfs", "_version", "file")

    def __init__(self, machine: Machine, statvfs: Callable[[str], os.statvfs_result]) -> None:
        self.file = KeptFile(machine, "self/mountinfo", records=True)
        self._statvfs = statvfs
        self._poll: select.poll | None = None
        self._known: bytes | None = None
        self._chosen: list[tuple[Mount, str | None]] = []
        self._version = -1

    def read(self, owner: Callable[[str, str], str | None], version: int) -> list[Space] | None:
        """None where the file cannot be read or understood.

        `owner`: which device a number or a source belongs to; its answers are kept until `version` changes.
        """
        if self._has_changed():
            known, self._known = self._known, None
            data = self.file.read()
            if data is None:
                return None
            if data != known:
                try:
                    self._chosen = [(mount, None) for mount in choose(parse_mounts(data))]
                except ValueError as error:
                    self.file.trouble = str(error)
                    return None
                self._version = -1
            self._known = data
        if version != self._version:
            self._chosen = [(mount, owner(mount.number, mount.source)) for mount, _ in self._chosen]
            self._version = version
        spaces = [self._space(mount, device) for mount, device in self._chosen]
        return [space for space in spaces if space is not None]

    def _has_changed(self) -> bool:
        if self._known is None or self._poll is None:
            try:
                fd = self.file.fileno()
            except (OSError, Gone):
                return True  # reading it will say why
            if os.fstat(fd).st_size == 0:
                self._poll = select.poll()
                self._poll.register(fd, select.POLLPRI)
                self._poll.poll(0)
            return True
        return bool(self._poll.poll(0))

    def _space(self, mount: Mount, device: str | None) -> Space | None:
        point = text(mount.point)
        try:
            found = self._statvfs(os.fsdecode(mount.point))
        except (OSError, ValueError):  # ValueError: a NUL in it
            return Space(point, mount.kind, device, None, None)
        if not found.f_blocks:
            return None
        size = found.f_frsize
        return Space(point, mount.kind, device, found.f_blocks * size, found.f_bavail * size)


class Pool:
    """A ZFS pool: bytes of its devices, and those not allocated, redundancy included (zpool-list(8))."""

    __slots__ = ("free_bytes", "name", "total_bytes")

    def __init__(self, name: str, total: int, free: int) -> None:
        self.name = name
        self.total_bytes = total
        self.free_bytes = free

    def entry(self) -> dict[str, object]:
        total, free = self.total_bytes, self.free_bytes
        return {"name": self.name, "total_bytes": total, "free_bytes": free, "used_bytes": total - free}


def parse_zpool_list(data: bytes) -> list[Pool]:
    """`zpool list -Hp -o name,size,free`: three columns apart by tabs; `-` in a pool that cannot be opened."""
    pools = []
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        try:
            name, total, free = line.split(b"\t")
            if b"-" not in (total, free.strip()):
                pools.append(Pool(text(name), int(total), int(free)))
        except ValueError:
            raise ValueError(f"zpool: {line[:200]!r}") from None
    return pools


class ZpoolCommand:
    """Asks `zpool` for the pools, now and then, beside the sampling: it is started, and looked at the next time.

    It hangs where a pool hangs: after `patience` seconds it is killed, and as long as it does not end no other one is
    started. `started` is called with its pid each time. Who reaps children of any kind has to tell `reaped`.
    """

    __slots__ = (
        "_child",
        "_due_ns",
        "_ended_ns",
        "_machine",
        "_output",
        "_pipe",
        "_pools",
        "_started",
        "command",
        "every_ns",
        "patience_ns",
    )

    def __init__(
        self,
        machine: Machine,
        command: str = "",
        *,
        every: float = 60.0,
        patience: float = 5.0,
        started: Callable[[int], object] | None = None,
    ) -> None:
        self._machine = machine
        self.command = command
        self.every_ns = int(every * NANOSECONDS)
        self.patience_ns = int(patience * NANOSECONDS)
        self._started = started
        self._child: Aside | None = None
        self._ended_ns = 0  # CPU nanoseconds of those that are reaped
        self._pipe = -1
        self._output = b""
        self._pools: list[Pool] | None = None
        self._due_ns = 0

    @property
    def pid(self) -> int:
        """The child that runs, or 0."""
        return 0 if self._child is None else self._child.pid

    def cpu_ns(self) -> int:
        """The CPU time of all of them."""
        return self._ended_ns + (0 if self._child is None else self._child.cpu_ns())

    def poll(self) -> list[Pool] | None:
        """What was last heard, at once; None as long as nothing was, and where there is no ZFS."""
        now = self._machine.monotonic_ns()
        if self._child is not None:
            self._collect(self._child, now)
        elif now >= self._due_ns:
            self._due_ns = now + self.every_ns
            if os.path.isdir(f"{self._machine.proc}/spl/kstat/zfs"):
                self._start()
        return self._pools

    def reaped(self, pid: int, cpu_ns: int | None = None) -> bool:
        """This process reaped a child: whether it was the one that was asked."""
        return self._child is not None and self._child.reaped(pid, cpu_ns)

    def reap(self) -> bool:
        """Reap it if it ended, without waiting; True when there is nothing to be reaped."""
        return self._child is None or self._child.reap()

    def close(self) -> None:
        """Do not wait for one that runs, and hear no more of it."""
        self._hang_up()
        if self._child is not None:
            self._child.kill()
            self._child.reap()

    __del__ = close

    def _start(self) -> None:
        command = self.command or _find("zpool")
        if not command:
            return
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.set_blocking(write, True)
            self._child = Aside(
                self._machine,
                [command, "list", "-Hp", "-o", "name,size,free"],
                {"LC_ALL": "C"},
                [
                    (os.POSIX_SPAWN_DUP2, write, 1),
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
                    (os.POSIX_SPAWN_DUP2, 0, 2),
                ],
            )
        except (OSError, NotImplementedError):
            os.close(read)
            return
        finally:
            os.close(write)
        self._pipe = read
        self._output = b""
        if self._started is not None:
            self._started(self._child.pid)

    def _collect(self, child: Aside, now: int) -> None:
        if self._pipe >= 0:
            try:
                while piece := os.read(self._pipe, 65536):
                    self._output += piece
            except BlockingIOError:
                if now > self._due_ns - self.every_ns + self.patience_ns:
                    self._hang_up()
                    self._pools = None
                    child.kill()
            else:
                self._hang_up()
                try:
                    self._pools = (
                        parse_zpool_list(self._output) or None
                    )  # nothing is also what it says that may not ask
                except ValueError:
                    self._pools = None
        if child.reap() and self._pipe < 0:
            self._ended_ns += child.cpu_ns()
            self._child = None

    def _hang_up(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1


def _find(command: str) -> str:
    for place in (*os.get_exec_path(), "/usr/local/sbin", "/usr/sbin", "/sbin"):
        path = f"{place}/{command}"
        if os.access(path, os.X_OK):
            return path
    return ""
