"""The programs that the benches run: small ones in C, compiled for this run, and the installed `proctally`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests" / "support"
sys.path.insert(0, str(TESTS))  # the jobs and the second truth are those of the tests


class Missing(Exception):
    """This machine lacks what a bench needs; the message says what."""


class Programs:
    """Where they are. `folder` is a place for what they write, `environment` what they are started with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"PROCTALLY_HOME": str(folder / "home")}
        self.python = sys.executable

    @property
    def proctally(self) -> str:
        """The command as it was installed beside this interpreter."""
        path = Path(sys.executable).with_name("proctally")
        if not os.access(path, os.X_OK):
            raise Missing(f"no command {path}: install proctally for this interpreter first")
        return str(path)

    def compiled(self, name: str) -> str:
        """The program of bench/NAME.c."""
        program = self.folder / name
        if not program.exists():
            compiler = shutil.which("cc")
            if compiler is None:
                raise Missing("no C compiler")
            subprocess.run([compiler, "-O2", "-o", program, HERE / f"{name}.c"], check=True)
        return str(program)

    def tracked(self, *command: str, options: tuple[str, ...] = ()) -> list[str]:
        return [self.proctally, "run", "-q", *options, "--", *command]

    @contextmanager
    def tree(self, count: int, rate: float) -> Iterator[int]:
        """The pid of the parent of so many small children that wake so many times a second."""
        parent = subprocess.Popen(
            [self.compiled("children"), str(count), str(rate)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert parent.stdin is not None and parent.stdout is not None
        try:
            if parent.stdout.readline() != b"ready\n":
                raise Missing(f"a tree of {count} processes cannot be made here")
            yield parent.pid
        finally:
            parent.stdin.close()
            parent.wait()
            parent.stdout.close()
