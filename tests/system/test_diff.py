"""The command `diff`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from made import GIB, MIB, record
from tracked import Done, call, run
from writing import held

# -- the command -----------------------------------------------------------------------------------------------------


def test_the_status_of_the_command(tmp_path: Path) -> None:
    for number_ in range(5):
        record(tmp_path, name="base", number=number_, wall=100.0 + number_)
        record(tmp_path, name="new", number=10 + number_, wall=150.0 + number_, memory=GIB + MIB)
    running = held(record(tmp_path, name="running", number=30, end=False))

    def status(*arguments: str) -> Done:
        return call(tmp_path, "diff", *arguments)

    assert status("name:base", "name:new").status == 0
    failed = status("name:base", "name:new", "--fail-on", "wall=+20%,memory=+5%")
    assert failed.status == 1 and failed.stderr == b""
    assert b"failed: wall 102 s to 152 s (+49.0 %): beyond wall=+20%" in failed.stdout
    assert status("name:base", "name:new", "--fail-on", "wall=+60%").status == 0
    marked = status("name:base", "name:new", "--fail-on", "wall=+20%", "-f", "markdown")
    assert marked.status == 1 and marked.stdout.startswith(b"**failed**")
    assert marked.stderr == b"proctally: wall 102 s to 152 s (+49.0 %): beyond wall=+20%\n"
    for arguments, expected, why in (
        (("name:base",), 2, b"which two?"),
        (("name:base", "name:new", "x"), 2, b"which two?"),
        (("name:base", "name:new", "--fail-on", "nothing=+1%"), 2, b"no figure 'nothing'"),
        (("name:base", "name:new", "-f", "csv"), 2, b"text or markdown or json"),
        (("name:base", "name:nobody"), 1, b"no past run with the name"),
        (("name:base", str(tmp_path / "none.jsonl")), 1, b"No such file"),
        (("name:base", "name:running"), 1, b"NEW name:running: nothing to compare: running"),
        (("name:base", str(tmp_path)), 1, b"directory"),
        (("name:base", ","), 1, b"names no record"),
    ):
        done = status(*arguments)
        assert (done.status, done.stdout) == (expected, b""), arguments
        assert why in done.stderr and done.stderr.startswith(b"proctally: ") and done.stderr.count(b"\n") == 1
    running.close()


def test_two_real_runs(tmp_path: Path) -> None:
    for megabytes in (20, 120):
        script = f"import time; a = bytearray({megabytes * MIB}); a[::4096] = b'x' * len(a[::4096]); time.sleep(0.2)"
        run(tmp_path, "-q", "-i", "0.05", "-n", f"m{megabytes}", "--", sys.executable, "-S", "-c", script)
    done = call(tmp_path, "diff", "name:m20", "name:m120", "-f", "json", "--fail-on", "memory=+50MB")
    found = json.loads(done.stdout)
    memory = next(row for row in found["figures"] if row["name"] == "memory")
    assert 90 * MIB < memory["change"] < 110 * MIB
    assert memory["differs"] is None and done.status == 1
    assert call(tmp_path, "diff", "name:m120", "name:m20", "--fail-on", "memory=+50MB").status == 0
    assert call(tmp_path, "diff", "name:m20", "name:m120", "--fail-on", "memory=+200MB").status == 0
