"""Files of the machine that a daemon serves, as lxcfs does in a container: a separate process reads them.

Nothing waits for it: a reading has the last answer, which can be one interval old.
"""

from __future__ import annotations

import os

from proctally.errors import FileServed
from proctally.linux.spawn import HelperClient, python

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proctally.linux.machine import Machine

FILES = (
    "stat", "meminfo", "loadavg", "diskstats", "cpuinfo", "net/dev", "pressure/cpu", "pressure/memory", "pressure/io",
)  # fmt: skip
CPUS = "devices/system/cpu/online"
MAX_BYTES = 16 << 20  # of one answer


def served_files(machine: Machine) -> list[str]:
    """Return the paths that the readers of the machine want and a daemon serves."""
    if not machine.served:
        return []
    paths = [f"{machine.proc}/{name}" for name in FILES] + [f"{machine.sys}/{CPUS}"]
    return [path for path in paths if machine.is_served(path)]


class ServedFiles(HelperClient):
    """Asks for all of these paths at once."""

    def __init__(
        self,
        machine: Machine,
        paths: list[str],
        environment: Mapping[str, str] | None = None,
        started: Callable[[int], object] | None = None,
    ) -> None:
        # without that number glibc reads a file of sysfs when a program starts many threads (malloc: arena_get2)
        super().__init__(machine, {**(environment or {}), "MALLOC_ARENA_MAX": "1"}, started)
        self.paths = paths
        self._found: dict[str, str | int] = {}
        self._is_asked = False
        self._was_started = False

    def ask(self) -> None:
        """Have them read, unless an answer is still awaited. The helper is started once."""
        self.take()
        if self._is_asked or (self.helper is None and self._was_started):
            return
        try:
            if self.helper is None:
                self._was_started = True
                self.begin(python("proctally.host.served_helper", str(os.getpid()), *self.paths))
            assert self.helper is not None
            self.helper.send(b"\n")
            self._is_asked = True
        except (OSError, NotImplementedError):
            self.drop()

    def take(self) -> bool:
        """Receive what was answered; return True if something was."""
        helper = self.helper
        if helper is None:
            return False
        goes_on = helper.receive(MAX_BYTES)
        *lines, helper.incoming = helper.incoming.split(b"\n")
        if lines:
            import json

            self._found = json.loads(lines[-1])
            self._is_asked = False
        if not goes_on:
            self._found = {}
            self.drop()
        self.reap()
        return bool(lines)

    def read(self, path: str) -> bytes:
        """Return the last answer for a path below `proc`. Raises `FileServed` without one, OSError that it was."""
        full = f"{self.machine.proc}/{path}"
        found = self._found.get(full)
        if isinstance(found, str):
            return found.encode("latin-1")
        if found is None:
            raise FileServed(full)
        raise OSError(found, os.strerror(found), full)

    def has(self, path: str) -> bool:
        """Return whether the last answer has the content of this path."""
        return isinstance(self._found.get(path), str)

    __del__ = HelperClient.close
