"""Files of /proc that a FUSE daemon serves, mounted by hand (fuse(4)): it answers, is stuck, silent or dead.

Run as a program in a mount namespace of its own, as root: `fuse_files.py MODE SECONDS FILE... -- COMMAND...` mounts
each FILE, runs the command, and says its exit status and wall time on the last line of stdout. The daemon goes
away after SECONDS. `answers` serves what the file held, `stuck` takes requests and `silent` does not; `later` is
silent, and mounts them while the command runs.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

LOOKUP, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT = 1, 3, 14, 15, 18, 25, 26  # include/uapi/linux/fuse.h
IN_HEADER = struct.Struct("IIQQIIII")
OUT_HEADER = struct.Struct("IiQ")
ENOSYS = 38
LATER_SECONDS = 0.6


def unavailable() -> str | None:
    """Return why no such file can be mounted here, in one line; None where it can."""
    if os.getuid() or not os.access("/dev/fuse", os.R_OK | os.W_OK) or shutil.which("unshare") is None:
        return "a FUSE file takes root, /dev/fuse and unshare(1)"
    done = served("dead", 0.0, ("/proc/uptime",), "true")
    return None if done.returncode == 0 else "no FUSE file can be mounted in a new mount namespace"


def served(mode: str, seconds: float, files: tuple[str, ...], *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command where a daemon serves these files."""
    words = [sys.executable, str(Path(__file__)), mode, str(seconds), *files, "--", *command]
    return subprocess.run(["unshare", "-m", *words], capture_output=True, text=True, timeout=60)


def mount(path: str) -> int:
    """Mount a FUSE file over this one; return the descriptor of its daemon."""
    fd = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    kind = 0o040000 if os.path.isdir(path) else 0o100000
    options = f"fd={fd},rootmode={kind:o},user_id=0,group_id=0,allow_other".encode()
    if libc.mount(b"none", path.encode(), b"fuse", 0, options):
        raise OSError(ctypes.get_errno(), "mount", path)
    return fd


def answer(contents: dict[int, bytes | None], seconds: float) -> None:
    """Serve a file of each content by its descriptor; without content, nothing but the first request is answered.

    After some time all go away. One thread for all: glibc reads a file of sysfs when a program has more of them.
    """
    poll = select.poll()
    for fd in contents:
        poll.register(fd, select.POLLIN)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for fd, _ in poll.poll(100):
            reply(fd, os.read(fd, 1 << 20), contents[fd])
    for fd in contents:
        os.close(fd)


def reply(fd: int, request: bytes, content: bytes | None) -> None:
    """Answer one request."""
    _, operation, unique, *_ = IN_HEADER.unpack_from(request)
    body = request[IN_HEADER.size :]
    error, data = 0, b""
    if operation == INIT:
        data = struct.pack("IIIIHHIIHHI28x", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, 0)
    elif content is None:
        return
    elif operation == GETATTR:
        data = struct.pack("QII", 0, 0, 0) + struct.pack(
            "QQQQQQIIIIIIIIII", 1, 4096, 8, *(0,) * 6, 0o100444, 1, *(0,) * 5
        )
    elif operation == OPEN:
        data = struct.pack("QII", 1, 1, 0)  # FOPEN_DIRECT_IO: the size is not known
    elif operation == READ:
        _, offset, size = struct.unpack_from("QQI", body)
        data = content[offset : offset + size]
    elif operation not in (RELEASE, FLUSH):
        error = -ENOSYS
    os.write(fd, OUT_HEADER.pack(OUT_HEADER.size + len(data), error, unique) + data)


def main() -> None:
    mode, seconds, *rest = sys.argv[1:]
    at = rest.index("--")
    files, command = rest[:at], rest[at + 1 :]
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    contents = [Path(path).read_bytes() if mode == "answers" else None for path in files]
    fds = [] if mode == "later" else [mount(path) for path in files]
    if mode in ("answers", "stuck"):
        daemon = threading.Thread(target=answer, args=(dict(zip(fds, contents, strict=True)), float(seconds)))
        daemon.daemon = True
        daemon.start()
    elif mode == "dead":
        for fd in fds:
            os.close(fd)
    begun = time.monotonic()
    with subprocess.Popen(command) as process:
        if mode == "later":
            time.sleep(LATER_SECONDS)
            fds += [mount(path) for path in files]
        status = process.wait()
    print(status, round(time.monotonic() - begun, 3))
    sys.stdout.flush()
    os._exit(0)  # a thread may wait for requests


if __name__ == "__main__":
    main()
