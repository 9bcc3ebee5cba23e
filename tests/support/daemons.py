"""Other people's servers on loopback ports, and asking them."""

from __future__ import annotations

import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from tracked import until


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def answers(url: str) -> bool:
    try:
        get(url)
    except OSError:
        return False
    return True


@contextmanager
def daemon(*command: str, ready: str) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: answers(ready) or process.poll() is not None, f"{command[0]} answers")
            assert process.poll() is None
            yield
        finally:
            process.terminate()
