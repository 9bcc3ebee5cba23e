"""Programs in another pid namespace under the old /proc, or in a mount namespace without /proc."""

from __future__ import annotations

import shutil
import subprocess
import sys

PIDS = ("unshare", "-pf", "--kill-child", "--")  # /proc stays that of the outer pid namespace
MOUNTS = ("unshare", "-m", "sh", "-c")
WITHOUT_PROC = (*MOUNTS, 'mount --make-rprivate / && umount -l /proc && exec "$0" "$@"')
LIMIT_SECONDS = 30


def unavailable() -> str | None:
    """Return why there can be no such namespaces here, in one line; None where there can."""
    if shutil.which("unshare") is None:
        return "unshare(1) is not installed"
    for words in ((*PIDS, "true"), (*WITHOUT_PROC, "true")):
        if subprocess.run(words, capture_output=True).returncode:
            return "no new pid and mount namespaces for this user"
    return None


def inside(namespace: tuple[str, ...], *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command there."""
    return subprocess.run([*namespace, *command], capture_output=True, text=True, timeout=LIMIT_SECONDS)


def proctally_inside(namespace: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run proctally there."""
    return inside(namespace, sys.executable, "-m", "proctally", *arguments)
