"""A unit test starts no process, opens no socket and reads nothing of this machine but a temporary folder."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FORBIDDEN = {
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen",
    "socket.bind", "socket.connect", "socket.getaddrinfo",
}  # fmt: skip
READS = {"open", "os.listdir", "os.scandir"}
OF_THIS_MACHINE = ("/proc", "/sys", "/etc", "/run", "/var")

running = False


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Fail the test that runs, at the call that the rule forbids."""
    if not running:
        return
    if event in READS:
        path = os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes)) else ""
        allowed = not any(path == folder or path.startswith(f"{folder}/") for folder in OF_THIS_MACHINE)
    else:
        path = ""
        allowed = event not in FORBIDDEN
    if not allowed:
        pytest.fail(f"a unit test calls {event} {path}: move it to tests/integration or tests/system")


sys.addaudithook(watch)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    global running
    running = Path(__file__).parent in item.path.parents
    try:
        return (yield)
    finally:
        running = False
