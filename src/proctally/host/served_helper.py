"""The process that reads files for which a daemon answers (lxcfs): one that is silent stalls nothing but its reader.

It reads them at each line from its socket and answers with one line of JSON; it ends when the socket does, or its
parent. It is started by `served`, knows nothing of the tracker, and is killed at the end.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from proctally.host.gpu_helper import die_with

SOCKET = 0
MAX_BYTES = 1 << 20  # of one file
ANSWER_SECONDS = 0.2  # after which those that are still read are left out of an answer


class Reader:
    """Reads one file, in a separate thread."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.answer: str | int | None = None  # latin-1 text or errno of the last reading, None while it is read
        self._wanted = threading.Event()
        self.done = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def begin(self) -> None:
        """Read it, unless the last reading has not ended."""
        if self._wanted.is_set():
            return
        self.answer = None
        self.done.clear()
        self._wanted.set()

    def _run(self) -> None:
        while self._wanted.wait():
            try:
                with open(self.path, "rb", buffering=0) as file:
                    self.answer = _whole(file.fileno()).decode("latin-1")
            except OSError as error:
                self.answer = error.errno or 0
            self._wanted.clear()
            self.done.set()


def _whole(fd: int) -> bytes:
    data = b""
    while len(data) < MAX_BYTES and (piece := os.read(fd, 1 << 16)):
        data += piece
    return data


def main() -> None:
    """`sys.argv`: pid of the parent, the files."""
    import json

    die_with(int(sys.argv[1]))
    readers = [Reader(path) for path in sys.argv[2:]]
    try:
        while os.read(SOCKET, 4096):
            for reader in readers:
                reader.begin()
            ends = time.monotonic() + ANSWER_SECONDS
            for reader in readers:
                reader.done.wait(max(0.0, ends - time.monotonic()))
            found = {reader.path: reader.answer for reader in readers if reader.answer is not None}
            left = json.dumps(found).encode() + b"\n"
            while left:
                left = left[os.write(SOCKET, left) :]
    except OSError:
        pass
    os._exit(0)  # a thread may never return
