"""The command `advise`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from made import GIB, MIB, record
from tracked import Done, call, run
from writing import held

# -- the command -----------------------------------------------------------------------------------------------------


def told(done: Done) -> str:
    assert done.status == 0, done.stderr
    assert done.stderr == b""
    return done.stdout.decode()


def test_advise_of_a_name(tmp_path: Path) -> None:
    for number in range(4):
        record(tmp_path, name="train", number=number, memory=4 * GIB + number * MIB, wall=1000.0 + number)
    record(tmp_path, name="other", number=9, memory=40 * GIB)
    said = told(call(tmp_path, "advise", "--name", "tra*"))
    assert said.startswith("proctally advise  train, 4 runs\n")
    assert all(f"\n{name}:\n" in said for name in ("slurm", "pbs", "kubernetes", "docker", "nextflow", "snakemake"))
    assert said == told(call(tmp_path, "advise", "name:train"))
    assert max(len(line) for line in said.splitlines()) <= 90
    quiet = told(call(tmp_path, "advise", "-q", "--for", "docker,slurm", "name:train"))
    assert [line.split("=")[0] for line in quiet.splitlines()] == [
        "docker run --cpus",
        "#SBATCH --cpus-per-task",
        "#SBATCH --mem",
        "#SBATCH --time",
    ]
    assert told(call(tmp_path, "advise")).startswith("proctally advise  other ")  # without a word: the last


def test_advise_as_json_and_markdown(tmp_path: Path) -> None:
    record(
        tmp_path,
        name="a|b<i>`",
        memory=4 * GIB,
        verdict="failed",
        why={"code": "block_ended", "exception": "<script>|`x` \x1b[31m"},
    )
    found = json.loads(told(call(tmp_path, "advise", "-f", "json", "--for", "slurm")))
    assert found["advice"]["memory"]["enough_evidence"] is False
    assert found["advice"]["memory"]["at_least"] == 4 * GIB
    assert found["runs"][0]["verdict"] == "failed"
    assert list(found["directives"]) == ["slurm"]
    said = told(call(tmp_path, "advise", "-f", "markdown"))
    assert "<" not in said.replace("```", "") and "\x1b" not in said and "a&#124;b" in said
    assert all(line.count("|") == 4 for line in said.splitlines() if line.startswith("| "))
    assert "\x1b" not in told(call(tmp_path, "advise"))


def test_advise_without_anything_to_go_by(tmp_path: Path) -> None:
    record(tmp_path, name="machine", kind="system", number=1)
    running = held(record(tmp_path, name="running", number=2, end=False))
    for arguments, status, why in (
        (["--name", "nobody"], 1, b"no past run"),
        (["name:machine"], 1, b"whole machine"),
        (["name:running"], 1, b"still runs"),
        (["nothing-such"], 1, b"no record"),
        (["--for", "cray"], 2, b"'cray' is not known; use slurm, "),
        (["--for", ","], 2, b"for which"),
        (["-f", "csv"], 2, b"text or markdown or json"),
        (["--since", "yesterday"], 2, b"no age"),
    ):
        done = call(tmp_path, "advise", *arguments)
        assert (done.status, done.stdout) == (status, b""), arguments
        assert why in done.stderr and done.stderr.startswith(b"proctally: ") and done.stderr.count(b"\n") == 1
    running.close()  # nobody writes it any more: what is there are lower bounds
    assert "more than" in told(call(tmp_path, "advise", "name:running"))


def test_advise_of_a_real_run(tmp_path: Path) -> None:
    held = 100 * MIB
    script = f"import time; a = bytearray({held}); a[::4096] = b'x' * len(a[::4096]); time.sleep(0.3)"
    assert run(tmp_path, "-q", "-i", "0.05", "--", sys.executable, "-S", "-c", script).status == 0
    found = json.loads(told(call(tmp_path, "advise", "-f", "json")))["advice"]
    assert held < found["memory"]["used"] < held + 60 * MIB
    assert found["memory"]["request"] >= found["memory"]["used"] + 32 * MIB
    time = found["time"]
    is_starved = time["request"] is None and time["why"]["next_step"] == "free_machine"  # a busy machine
    assert time["request"] in (120, 180) or is_starved
    assert 0 < (found["cores"]["request"] or found["cores"]["at_least"]) <= 2


def test_advise_of_a_run_that_its_limit_ended(tmp_path: Path) -> None:
    script = f"import time; a = bytearray({80 * MIB}); a[::4096] = b'x' * len(a[::4096]); time.sleep(20)"
    options = ("-q", "-i", "0.05", "--max-memory", "30MiB")
    run(tmp_path, *options, "--", sys.executable, "-S", "-c", script)
    found = json.loads(told(call(tmp_path, "advise", "-f", "json")))["advice"]
    assert found["memory"]["request"] is None and found["memory"]["at_least"] > 30 * MIB
    assert found["time"]["request"] is None


def test_advise_of_a_run_that_its_timeout_ended(tmp_path: Path) -> None:
    run(tmp_path, "-q", "-i", "0.05", "--timeout", "0.4", "--", "sleep", "20")
    found = json.loads(told(call(tmp_path, "advise", "-f", "json")))["advice"]
    assert found["time"]["request"] is None and found["time"]["at_least"] >= 0.4
    assert found["time"]["why"]["verdict"] == "timeout" and found["time"]["trial"] == 60
