"""Installations of this package as installers lay them out, and what may surround their interpreter."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from places import ROOT

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
BASE = Path(sys.base_exec_prefix) / "bin" / VERSION
QUIET = ["run", "-q", "--no-record", "--"]
JOB = ["sh", "-c", "sleep 0.05; exit 7"]


def put(prefix: Path, python: Path, *, editable: bool = False) -> Path:
    """Write the package and its command below a prefix, as pip does it; return the command."""
    site = prefix / "lib" / VERSION / "site-packages"
    site.mkdir(parents=True, exist_ok=True)
    if editable:
        (site / "editable.pth").write_text(f"{ROOT / 'src'}\n", encoding="utf-8")
    else:
        shutil.copytree(ROOT / "src" / "proctally", site / "proctally")
    command = prefix / "bin" / "proctally"
    command.parent.mkdir(exist_ok=True)
    text = (ROOT / "scripts" / "proctally").read_text(encoding="utf-8")
    command.write_text(text.replace("#!python", f"#!{python}", 1), encoding="utf-8")
    command.chmod(0o755)
    return command


def environment_of_its_own(folder: Path, *, editable: bool = False) -> Path:
    """Make a virtual environment; return its command."""
    subprocess.run([BASE, "-m", "venv", "--without-pip", folder], check=True)
    return put(folder, folder / "bin" / "python", editable=editable)


def hostile_modules(folder: Path, *without: str) -> Path:
    """Write a module that raises for each of the standard library that an interpreter finds by a path."""
    folder.mkdir()
    names = sys.stdlib_module_names - set(sys.builtin_module_names) - {"encodings", *without}
    for name in names:
        (folder / f"{name}.py").write_text("raise RuntimeError(f'{__name__} of another program')\n", encoding="utf-8")
    return folder
