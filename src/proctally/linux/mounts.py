"""The space of file systems: `/proc/self/mountinfo` and statvfs(2); ZFS pools by their own command.

Never statvfs(2) of a file system that a server or a daemon answers for: it waits for as long as that hangs.
Layouts: fs/proc_namespace.c of the kernel, zpool-list(8).
"""

from __future__ import annotations

import os
import select

from proctally.linux.machine import NANOSECONDS, Machine
from proctally.linux.proc import unescape
from proctally.linux.sources import UNBOUNDED_NS, KeptFile
from proctally.linux.spawn import Helper, HelperClient
from proctally.text.escape import decode_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Answered by another machine, or agreed upon with others (gfs2, ocfs2). All of FUSE is left out beside these: a daemon
# answers for it.
REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "ceph", "9p", "virtiofs", "lustre", "gpfs", "mmfs"}
    | {"beegfs", "panfs", "orangefs", "pvfs2", "glusterfs", "gfs", "gfs2", "ocfs2", "wekafs", "pxd", "davfs", "vboxsf"}
)
STACKED_ROOTS = frozenset({"overlay", "aufs"})
EVERY_NS = 60 * NANOSECONDS  # between two calls of zpool
PATIENCE_NS = 5 * NANOSECONDS  # after which it is killed
MAX_BYTES = 16 << 20  # of its answer
STRIDE = 64  # mounts between two readings of the clock
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
    return list(each_mount(data))


def each_mount(data: bytes) -> Iterator[Mount]:
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
            mount.kind, mount.source = decode_name(kind[0]), decode_name(unescape(kind[1]))
        except (ValueError, IndexError):
            raise ValueError(f"mountinfo: {line[:200]!r}") from None
        yield mount


def choose(mounts: list[Mount]) -> list[Mount]:
    """One mount of each local file system that lies on a block device, and the root where it is an overlay.

    Of several of one device, the one that shows the whole of it, then the shortest. None below a remote file system,
    whose directories would have to be asked on the way; the root does not count there, nothing works when it hangs.
    """
    *_, chosen = each_choice(mounts)
    return chosen


def each_choice(mounts: list[Mount]) -> Iterator[list[Mount]]:
    """Yield an empty list for each mount that was looked at, and those that `choose` returns at the end."""
    by_id = {mount.id: mount for mount in mounts}
    places = {(mount.parent, mount.point) for mount in mounts}
    seen = {mount.point: mount for mount in mounts if mount.point == b"/" or (mount.id, mount.point) not in places}
    chosen: dict[str, Mount] = {}
    for mount in seen.values():
        yield []
        on_block = not mount.number.startswith("0:") or mount.source.startswith("/dev/")
        if not on_block or mount.is_remote or _is_virtual(mount.point) or not _is_reached(mount, by_id, places):
            continue
        other = chosen.get(mount.number)
        if other is None or _order(mount) < _order(other):
            chosen[mount.number] = mount
    root = seen.get(b"/")
    overlay = [root] if root is not None and root.kind in STACKED_ROOTS else []
    yield [*overlay, *chosen.values()]


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


def served(data: bytes, roots: Iterable[str]) -> frozenset[str]:
    """Return the places of a mountinfo below these roots, or above, for which a daemon or another machine answers.

    A later mount hides what is mounted there or below. A file that is bound over another is a mount like any other.
    """
    below = tuple(root + "/" for root in roots)
    found: set[str] = set()
    try:
        for mount in each_mount(data):
            point = os.fsdecode(mount.point)
            if not (point + "/").startswith(below):
                continue
            found = {each for each in found if not (each + "/").startswith(point + "/")}
            if mount.is_remote:
                found.add(point)
    except ValueError:
        pass
    return frozenset(found)


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

    def __init__(self, machine: Machine, statvfs: Callable[[str], os.statvfs_result]) -> None:
        self.file = KeptFile(machine, "self/mountinfo", records=True)
        self._machine = machine
        self._pending: Iterator[None] | None = None  # what is left of `_choose`
        self._statvfs = statvfs
        self._poll: select.poll | None = None
        self._known: bytes | None = None
        self._chosen: list[tuple[Mount, str | None]] = []
        self._version = -1

    def read(
        self, owner: Callable[[str, str], str | None], version: int, end_ns: int = UNBOUNDED_NS
    ) -> list[Space] | None:
        """None where the file cannot be read or understood, or not all of it was read until the moment `end_ns`.

        `owner`: which device a number or a source belongs to; its answers are kept until `version` changes.
        """
        if self._has_changed():
            known, self._known = self._known, None
            data = self.file.read()
            if data is None:
                return None
            if data != known:
                self._machine.note_mounts(data)
                self._pending = self._choose(data)
            self._known = data
        if self.discover(end_ns) or self._known is None:
            return None
        if version != self._version:
            self._pending = self._own(owner, version)
            if self.discover(end_ns) or self._known is None:
                return None
        spaces = [self._space(mount, device) for mount, device in self._chosen]
        return [space for space in spaces if space is not None]

    def discover(self, end_ns: int) -> bool:
        """Choose more mounts; True while some are left."""
        clock = self._machine.monotonic_ns
        try:
            while self._pending is not None:
                self._machine.attend()
                if next(self._pending, self) is self:
                    self._pending = None
                elif clock() >= end_ns:
                    return True
        except ValueError as error:
            self.file.error = error.with_traceback(None)
            self._known = self._pending = None
        return False

    def _choose(self, data: bytes) -> Iterator[None]:
        mounts = []
        for mount in each_mount(data):
            mounts.append(mount)
            if len(mounts) % STRIDE == 0:
                yield
        chosen: list[Mount] = []
        for place, found in enumerate(each_choice(mounts)):
            chosen = found
            if place % STRIDE == 0:
                yield
        self._chosen, self._version = [(mount, None) for mount in chosen], -1

    def _own(self, owner: Callable[[str, str], str | None], version: int) -> Iterator[None]:
        owned = []
        for place, (mount, _) in enumerate(self._chosen):
            owned.append((mount, owner(mount.number, mount.source)))
            if place % STRIDE == 0:
                yield
        self._chosen, self._version = owned, version

    def _has_changed(self) -> bool:
        if self._known is None or self._poll is None:
            try:
                fd = self.file.fileno()
            except OSError:
                return True  # reading it will say why
            if os.fstat(fd).st_size == 0 and hasattr(select, "poll"):  # eventlet removes it: read each time then
                self._poll = select.poll()
                self._poll.register(fd, select.POLLPRI)
                self._poll.poll(0)
            return True
        return bool(self._poll.poll(0))

    def _space(self, mount: Mount, device: str | None) -> Space | None:
        point = decode_name(mount.point)
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
                pools.append(Pool(decode_name(name), int(total), int(free)))
        except ValueError:
            raise ValueError(f"zpool: {line[:200]!r}") from None
    return pools


class ZpoolCommand(HelperClient):
    """Asks `zpool` for the pools every minute: it is started, and its answer is read the next time.

    It hangs where a pool hangs: it is then killed, and as long as it does not end no other one is started.
    """

    def __init__(self, machine: Machine, command: str = "", *, started: Callable[[int], object] | None = None) -> None:
        super().__init__(machine, {"LC_ALL": "C"}, started)
        self._command = command
        self._pools: list[Pool] | None = None
        self._due_ns = 0

    def poll(self) -> list[Pool] | None:
        """Return the last answer, at once; None before the first one, and where there is no ZFS."""
        now = self.machine.monotonic_ns()
        if self.helper is not None:
            self._collect(self.helper, now)
        elif now >= self._due_ns and self.reap():
            self._due_ns = now + EVERY_NS
            if os.path.isdir(f"{self.machine.proc}/spl/kstat/zfs"):
                self._start()
        self.reap()
        return self._pools

    __del__ = HelperClient.close

    def _start(self) -> None:
        command = self._command or _find("zpool")
        if command:
            try:
                self.begin([command, "list", "-Hp", "-o", "name,size,free"], end=1)
            except (OSError, NotImplementedError):
                pass

    def _collect(self, helper: Helper, now: int) -> None:
        if helper.receive(MAX_BYTES):
            if now <= self._due_ns - EVERY_NS + PATIENCE_NS:
                return
            self._pools = None
        else:
            try:
                self._pools = parse_zpool_list(helper.incoming) or None  # without the right to ask it says nothing
            except ValueError:
                self._pools = None
        self.drop()


def _find(command: str) -> str:
    for place in (*os.get_exec_path(), "/usr/local/sbin", "/usr/sbin", "/sbin"):
        path = f"{place}/{command}"
        if os.access(path, os.X_OK):
            return path
    return ""
