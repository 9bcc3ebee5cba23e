"""Sockets: messages between a process and one that it started (and descriptors), streams, and an address.

Messages are in the format of `marshal`, which is built in: `json` may be another module in a program that is tracked.

No message is ever half there, no SIGPIPE kills the sender because the other side is gone, and each wait has a limit.
No other module imports `_socket`, the module below `socket`: that one builds enumerations, and its import takes 7.4 ms
instead of 0.4, while the job or the tracked block waits.
"""

from __future__ import annotations

import _socket
import marshal
import os
from errno import EAGAIN, EBADF, EMSGSIZE
from sys import byteorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

BUFFER = 1 << 20  # asked for; what the kernel gives (net.core.wmem_max) is at least 200 KiB
FD_BYTES = 4  # of an int, in which a descriptor travels
MOST_FDS = 4
BACKLOG = 32
HIGHEST_STANDARD = 2

Socket = _socket.socket


class Closed(ConnectionError):
    """The other side has gone."""


class Lost(Closed):
    """The descriptor of this side was closed by somebody else in this process; by now it may be another file's."""


class Late(TimeoutError):
    """Nothing came, or could be sent, in the time that was given."""


class Channel:
    """One end. Raises `Closed`, `Lost` and `Late`, and OSError for what else is wrong with the socket.

    A program that closes all descriptors (`os.closerange`) closes this one as well, and the next file it opens has its
    number: nothing is sent to that, nor is it closed.
    """

    __slots__ = ("_identity", "_socket")

    def __init__(self, socket: _socket.socket) -> None:
        self._socket = socket
        self._identity = identity(socket.fileno())

    @classmethod
    def of_descriptor(cls, fd: int) -> Channel:
        """The end that was handed over as this descriptor."""
        return cls(_socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd))

    def fileno(self) -> int:
        """Its descriptor; -1 once it is closed."""
        return int(self._socket.fileno())

    def send(self, message: dict[str, Any], timeout: float, fds: Sequence[int] = ()) -> None:
        """One message, whole or not at all, within so many seconds; 0: at once or `Late`."""
        try:
            data = marshal.dumps(message)
        except ValueError:  # a subclass of str or float, such as one of NumPy
            import json

            data = marshal.dumps(json.loads(json.dumps(message)))
        beside = []
        if fds:
            packed = b"".join(fd.to_bytes(FD_BYTES, byteorder) for fd in fds)
            beside = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)]
        self._hold()
        self._socket.settimeout(timeout)
        try:
            self._socket.sendmsg([data], beside, _socket.MSG_NOSIGNAL)
        except (TimeoutError, BlockingIOError):
            raise Late(EAGAIN, "the other side does not read") from None
        except ConnectionError as error:
            raise Closed(*error.args) from None

    def receive(self, timeout: float) -> tuple[dict[str, Any], list[int]]:
        """The next message and the descriptors beside it, within so many seconds; 0: if it is there."""
        self._hold()
        self._socket.settimeout(timeout)
        try:
            room = _socket.CMSG_LEN(MOST_FDS * FD_BYTES)
            data, beside, flags, _ = self._socket.recvmsg(BUFFER, room, _socket.MSG_CMSG_CLOEXEC)
        except (TimeoutError, BlockingIOError):
            raise Late(EAGAIN, "the other side says nothing") from None
        except ConnectionError as error:
            raise Closed(*error.args) from None
        fds = [
            int.from_bytes(packed[at : at + FD_BYTES], byteorder)
            for level, kind, packed in beside
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)
            for at in range(0, len(packed) - FD_BYTES + 1, FD_BYTES)
        ]
        if not data:
            raise Closed
        if flags & _socket.MSG_TRUNC:
            raise OSError(EMSGSIZE, "a message was cut")
        message: dict[str, Any] = marshal.loads(data)
        return message, fds

    def close(self) -> None:
        """Close it; the other side then has `Closed`, unless a process that was forked meanwhile has a copy."""
        try:
            self._hold()
        except Lost:
            return
        self._socket.close()

    def end(self) -> None:
        """Close it, and whatever copies there are."""
        try:
            self._hold()
            self._socket.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass
        self.close()

    def _hold(self) -> None:
        """Make sure that the descriptor is still the one that was made."""
        if self._identity is None or identity(self._socket.fileno()) != self._identity:
            self._socket.detach()
            raise Lost(EBADF, "the descriptor of its channel was closed")


def identity(fd: int) -> tuple[int, int] | None:
    """What tells the file that is open there from every other; None where nothing is."""
    try:
        stat = os.fstat(fd)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def pair() -> tuple[Channel, Channel]:
    """Two ends, both close-on-exec. Raises OSError."""
    ends = []
    for socket in _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET):
        try:
            socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, BUFFER)
        except OSError:
            pass
        ends.append(Channel.of_descriptor(above_standard(socket.detach())))
    return ends[0], ends[1]


def stream_pair() -> tuple[Socket, Socket]:
    """Return two ends of a stream, close-on-exec; the first never blocks. Raises OSError."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    ours.setblocking(False)
    ours.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, BUFFER)
    return ours, theirs


def send(socket: Socket, data: bytes) -> int:
    """Send what a stream takes, without SIGPIPE; return how many bytes. Raises BlockingIOError, OSError."""
    return socket.send(data, _socket.MSG_NOSIGNAL)


def end_sending(socket: Socket) -> bool:
    """Shut down the sending side; the other side can still answer. Return False when it is gone."""
    try:
        socket.shutdown(_socket.SHUT_WR)
    except OSError:
        return False
    return True


def listen(host: str, port: int) -> tuple[Socket, int]:
    """Return a TCP socket that listens at a numeric address, and its port. Raises ValueError, OSError."""
    family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
    try:
        _socket.inet_pton(family, host)
    except OSError:
        raise ValueError(f"{host!r} is not an address") from None
    listening = _socket.socket(family, _socket.SOCK_STREAM)
    try:
        listening.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if family == _socket.AF_INET6:
            listening.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        listening.bind((host.encode(), port))  # as text it would load the codec for names of hosts: 15 ms
        listening.listen(BACKLOG)
        return listening, listening.getsockname()[1]
    except OSError:
        listening.close()
        raise


def above_standard(fd: int) -> int:
    """This descriptor, or a copy in its place that is none of 0 to 2: a program that closed those may still print."""
    if fd > HIGHEST_STANDARD:
        return fd
    import fcntl

    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGHEST_STANDARD + 1)
    finally:
        os.close(fd)


def interface_indices() -> dict[str, int]:
    """Return the index of each network interface of this namespace by its name. Raises OSError."""
    return {name: index for index, name in _socket.if_nameindex()}
