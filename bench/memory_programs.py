"""The real programs of `bench/memory.py`: how each is had, and the command that drives it.

What is not installed comes from apt and PyPI. A package that would start a service is only unpacked, in a cache that
every user can read.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from memory_setting import Owner
from peers import cache, quietly
from programs import Missing

SECONDS = 12
INSTALL_SECONDS = 600


def shelf() -> Path:
    """A cache that other users can read: root's own one is private."""
    if os.geteuid():
        return cache()
    folder = Path("/var/cache/proctally-bench")
    folder.mkdir(exist_ok=True)
    return folder


def installed(command: str, package: str) -> str:
    """The folder of a command, installed by apt where it is missing."""
    if shutil.which(command) is None:
        if os.geteuid() or shutil.which("apt-get") is None:
            raise Missing(f"no {command} on PATH")
        quietly(["apt-get", "-qq", "update"], INSTALL_SECONDS)
        quietly(["apt-get", "-qq", "install", "-y", "--no-install-recommends", package], INSTALL_SECONDS)
    found = shutil.which(command)
    if found is None:
        raise Missing(f"the package {package} has no {command}")
    return str(Path(found).parent)


def unpacked(pattern: str, package: str) -> str:
    """The folder of a command, found below `/` by a pattern, else in packages that are unpacked and not installed."""
    target = shelf() / package
    for top in (Path("/"), target):
        for found in sorted(top.glob(pattern), reverse=True):
            return str(found.parent)
    if shutil.which("apt-get") is None:
        raise Missing(f"no {package}")
    archives = target / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        quietly(["apt-get", "-qq", "update"], INSTALL_SECONDS)
    download = ["apt-get", "-qq", "install", "-y", "--no-install-recommends", "--download-only"]
    quietly([*download, "-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=1", package], INSTALL_SECONDS)
    for archive in archives.glob("*.deb"):
        quietly(["dpkg", "-x", str(archive), str(target)], INSTALL_SECONDS)
    shutil.rmtree(archives)
    for found in target.glob(pattern):
        return str(found.parent)
    raise Missing(f"the package {package} has no {pattern}")


def from_pypi(*names: str) -> str:
    """A folder of Python packages, for any interpreter of this version."""
    folder = shelf() / f"packages{sys.version_info.major}.{sys.version_info.minor}"
    made = folder / "-".join(("made", *names))
    if not made.exists():
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--upgrade"]
        quietly([*pip, "--target", str(folder), *names], INSTALL_SECONDS)
        made.touch()
    return str(folder)


def java() -> str:
    """The JDK: the JRE does not compile."""
    found = shutil.which("javac")
    if found is None:
        installed("javac", "openjdk-17-jdk-headless")
        found = shutil.which("javac")
    assert found is not None
    return str(Path(found).resolve().parent)


def compiler() -> str:
    installed("gcc", "gcc")
    return installed("make", "make")


PLACES: dict[str, Callable[[], str]] = {
    "postgres": lambda: unpacked("usr/lib/postgresql/*/bin/postgres", "postgresql"),
    "redis": lambda: unpacked("usr/bin/redis-server", "redis-server"),
    "chromium": lambda: installed("chromium", "chromium"),
    "gunicorn": lambda: from_pypi("gunicorn"),
    "numpy": lambda: from_pypi("numpy", "joblib"),
    "loky": lambda: from_pypi("numpy", "joblib"),
    "java": java,
    "node": lambda: installed("node", "nodejs"),
    "make": compiler,
}


def command(name: str) -> Callable[[Owner], list[str]]:
    """How a program is driven by a user; calling it installs what is missing and might raise Missing."""

    def of(owner: Owner) -> list[str]:
        place = PLACES[name]()
        drive = owner.shapes.parent / "drive" / "drive.py"
        return [owner.python, "-S", str(drive), name, str(SECONDS), place]

    return of


PROGRAMS = {name: command(name) for name in PLACES}
