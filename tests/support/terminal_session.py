"""A terminal (pty) that a test types into."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
from typing import Any

from tracked import until

CTRL_C, CTRL_Z, CTRL_BACKSLASH = b"\x03", b"\x1a", b"\x1c"


class Terminal:
    """A pseudo-terminal and, once `lead` is called, the one process that leads its session."""

    def __init__(self) -> None:
        self.ours, self.theirs = os.openpty()
        self._shown = b""
        self.resize(24, 80)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def popen(self) -> dict[str, Any]:
        """What subprocess needs for a process that leads the session of this terminal."""
        return {
            "stdin": self.theirs,
            "stdout": self.theirs,
            "stderr": self.theirs,
            "start_new_session": True,
            "preexec_fn": lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        }

    def shown(self) -> bytes:
        """What was written to it and not asked for so far."""
        while select.select([self.ours], [], [], 0)[0]:
            try:
                self._shown += os.read(self.ours, 65536)
            except OSError:  # nobody has it open any more
                break
        shown, self._shown = self._shown, b""
        return shown

    def shows(self, text: bytes) -> bytes:
        """Wait until this is written to it; what came up to then."""

        def came() -> bool:
            self._shown = self.shown()
            return text in self._shown

        until(came, f"{text!r} on the terminal")
        before, _, self._shown = self._shown.partition(text)
        return before + text

    def close(self) -> None:
        os.close(self.theirs)
        os.close(self.ours)
