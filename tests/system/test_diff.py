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
    assert b"gate wall=+20%   FAILS        +49.0 % (+45.6..+52.5)" in failed.stdout
    assert status("name:base", "name:new", "--fail-on", "wall=+60%").status == 0
    marked = status("name:base", "name:new", "--fail-on", "wall=+20%", "-f", "markdown")
    assert marked.status == 1 and marked.stdout.startswith(b"**fails**")
    assert marked.stderr == b"proctally: gate wall=+20%: FAILS: +49.0 % (+45.6..+52.5)\n"
    open_gate = ("name:base", "name:new", "--fail-on", "wall=+49%,memory=+5%")
    undecided = status(*open_gate)
    assert undecided.status == 3 and b"gate wall=+49%   CANNOT TELL  +49.0 % (" in undecided.stdout
    assert undecided.stderr == b"proctally: exit status 3: not every limit is decided; see --undecided pass|fail\n"
    assert [status(*open_gate, "--undecided", word).status for word in ("pass", "fail")] == [0, 1]
    assert status("name:base", "name:new", "--fail-on", "wall=+49%,cpu=+20%", "--undecided", "pass").status == 1
    for arguments, expected, why in (
        (("name:base",), 2, b"diff: expected two sides"),
        (("name:base", "name:new", "x"), 2, b"diff: expected two sides"),
        (("name:base", "name:new", "--fail-on", "nothing=+1%"), 2, b"--fail-on nothing=+1%: unknown figure"),
        (("name:base", "name:new", "-f", "csv"), 2, b"text, markdown or json"),
        (("name:base", "name:base"), 2, b"both sides have the same runs"),
        (("last", "last"), 2, b"both sides are the same run"),
        (("name:base", "name:new", "--undecided", "maybe"), 2, b"pass or fail"),
        (("name:base", "name:nobody"), 2, b"no past run has this name"),
        (("name:base", str(tmp_path / "none.jsonl")), 2, b"No such file"),
        (("name:base", "name:running"), 2, b"NEW name:running: nothing to compare: running"),
        (("name:base", str(tmp_path)), 2, b"directory"),
        (("name:base", ","), 2, b",: names no record; list runs with proctally ls"),
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
    assert memory["p"] is None and done.status == 1
    assert call(tmp_path, "diff", "name:m120", "name:m20", "--fail-on", "memory=+50MB").status == 0
    assert call(tmp_path, "diff", "name:m20", "name:m120", "--fail-on", "memory=+200MB").status == 0
