"""The command `advise`."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from made import GIB, MIB, record
from proctally.analysis.directives import SCHEDULERS
from tracked import Done, call, environment, run
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
    assert said.startswith("proctally advise  train, 4 runs\n") and "\n#SBATCH --mem=" in said
    assert said == told(call(tmp_path, "advise", "name:train"))
    assert max(len(line) for line in said.splitlines()) <= 80
    said = told(call(tmp_path, "advise", "--for", "all", "name:train"))
    assert all(f"\n{name}:\n" in said for name in SCHEDULERS)
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
    assert all(line.count("|") == 6 for line in said.splitlines() if line.startswith("| "))
    assert "\x1b" not in told(call(tmp_path, "advise"))


def test_advise_without_anything_to_go_by(tmp_path: Path) -> None:
    record(tmp_path, name="machine", kind="system", number=1)
    running = held(record(tmp_path, name="running", number=2, end=False))
    for arguments, status, why in (
        (["--name", "nobody"], 1, b"advise: no past run has this name, tag or date; list runs"),
        (["name:machine"], 1, b"whole machine"),
        (["name:running"], 1, b"still runs"),
        (["nothing-such"], 1, b"no such record"),
        (["--for", "cray"], 2, b"--for cray: unknown scheduler; use slurm, "),
        (["--for", ","], 2, b"--for: no scheduler given"),
        (["-f", "csv"], 2, b"text, markdown or json"),
        (["--since", "yesterday"], 2, b"--since yesterday: not an age or a date"),
    ):
        done = call(tmp_path, "advise", *arguments)
        assert (done.status, done.stdout) == (status, b""), arguments
        assert why in done.stderr and done.stderr.startswith(b"proctally: ") and done.stderr.count(b"\n") == 1
    running.close()  # nobody writes it any more: what is there are lower bounds
    assert "  > 1 min 40 s " in told(call(tmp_path, "advise", "name:running"))


def test_scheduler_that_ran_it_comes_first_with_what_it_gave(tmp_path: Path) -> None:
    given = {"PBS_JOBID": "7.host", "NCPUS": "64", "PBS_WALLTIME": "7200", "PBS_QUEUE": "long"}
    assert run(tmp_path, "-q", "--", "sleep", "0.2", env=environment(tmp_path) | given).status == 0
    said = told(call(tmp_path, "advise"))
    assert "  64 " in said and "  2 h 00 min " in said and "\n#PBS -l select=1:" in said
    found = json.loads(told(call(tmp_path, "advise", "-f", "json", env=environment(tmp_path) | {"SLURM_CONF": "x"})))
    assert next(iter(found["directives"])) == "pbs" and found["advice"]["cores"]["had"] == 64
    strange = given | dict.fromkeys(("NCPUS", "PBS_WALLTIME"), "-1e9 \udcff")
    assert run(tmp_path, "-q", "--", "sleep", "0.2", env=environment(tmp_path) | strange).status == 0
    assert json.loads(told(call(tmp_path, "advise", "-f", "json")))["advice"]["time"]["had"] is None


def test_all_has_the_most_wasteful_name_first(tmp_path: Path) -> None:
    for number, (name, cores, wall) in enumerate((("small", 1.0, 100.0), ("large", 1.0, 9e4), ("a\x1b[31m", 7.0, 9e4))):
        record(tmp_path, name=name, number=number, cores=[cores] * 10, wall=wall, limits={"memory_bytes": 8 * GIB})
    killed = {"verdict": "oom", "limits": {"memory_bytes": 2 * GIB}}
    record(tmp_path, name="killed", number=9, wall=1.0, **killed)
    lines = told(call(tmp_path, "advise", "--all")).splitlines()
    assert lines[0].split() == ["NAME", "RUNS", "CORES", "MEMORY", "TIME", "CORE-H", "GIB-H"]
    assert [line.split()[0] for line in lines[1:]] == ["large", "a\\x1b[31m", "small", "killed"]
    assert lines[1].split()[-2:] == ["175.0", "175.0"] and "4 GiB?" in lines[4]
    found = [json.loads(line) for line in told(call(tmp_path, "advise", "--all", "-f", "json")).splitlines()]
    assert found[0]["wasted_core_hours"] == 175.0 and found[0]["advice"]["cores"]["request"] == 1
    assert call(tmp_path, "advise", "--all", "name:large").status == 2
    assert told(call(tmp_path, "advise", "--all", "-f", "markdown", "--name", "large")).count("\n") == 3


def test_cheapest_server_that_fits(tmp_path: Path) -> None:
    record(tmp_path, cores=[3.5] * 10, memory=4 * GIB)
    path = tmp_path / "servers #1.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "CREATE TABLE server (vendor_id, server_id, api_reference, vcpus, memory_amount, accelerator_count, status)"
        )
        database.execute(
            "CREATE TABLE server_price (vendor_id, server_id, region_id, allocation, unit, price, currency, status)"
        )
        servers = [("tiny", 2, 8192), ("fits", 4, 8192), ("large", 64, 65536), ("gone", 4, 8192)]
        for name, cores, memory in servers:
            status = "INACTIVE" if name == "gone" else "ACTIVE"
            database.execute(
                "INSERT INTO server VALUES ('aws', ?, ?, ?, ?, NULL, ?)", (name, name, cores, memory, status)
            )
        prices = [("tiny", "HOUR", 0.01), ("fits", "HOUR", 0.25), ("fits", "MONTH", 146.0), ("large", "HOUR", 3.0),
                  ("gone", "HOUR", 0.02), ("fits", "GB", 0.001), ("fits", "HOUR", None)]  # fmt: skip
        for name, unit, price in prices:
            row = (name, "us-1", "ONDEMAND", unit, price)
            database.execute("INSERT INTO server_price VALUES ('aws', ?, ?, ?, ?, ?, 'USD', 'ACTIVE')", row)
    said = told(call(tmp_path, "advise", f"--servers={path}"))
    assert "  server: USD 0.2 an hour, on demand: aws fits (us-1), 4 cores, 8 GiB\n" in said
    found = json.loads(told(call(tmp_path, "advise", f"--servers={path}", "-f", "json")))
    assert found["servers"][0]["price"] == 0.2
    with closing(sqlite3.connect(tmp_path / "empty.db")) as database, database:
        database.execute("CREATE TABLE server (vendor_id)")
    (tmp_path / "text.db").write_text("no database, but long enough to be looked at" * 9)
    for name, why in (
        ("nothing.db", b"no such file"),
        ("empty.db", b"has no server_id, "),
        ("text.db", b"not a database"),
    ):
        done = call(tmp_path, "advise", f"--servers={tmp_path / name}")
        assert (done.status, done.stdout) == (1, b"") and why in done.stderr and done.stderr.count(b"\n") == 1
    assert b"sparecores-data/sc-data-all.db: no such file" in call(tmp_path, "advise", "--servers").stderr
    record(tmp_path, number=5, name="huge", cores=[500.0] * 10, limits={"cpu_cores": 512})
    assert b"no server has all" in call(tmp_path, "advise", f"--servers={path}", "name:huge").stderr


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
