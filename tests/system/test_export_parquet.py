"""The command `export -f parquet` with real runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pyarrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
from pyarrow import parquet  # noqa: E402

from proctally.cli.main import main  # noqa: E402
from proctally.record.section import flat  # noqa: E402
from scenes import EVIL  # noqa: E402
from terminal_session import Terminal  # noqa: E402
from tracked import PROCTALLY, environment, record, run, samples  # noqa: E402


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run with a phase."""
    home = tmp_path_factory.mktemp("job")
    script = "echo fit >> $PROCTALLY_MARKS; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 0.3"
    assert run(home, "-q", "-i", "0.05", "-n", EVIL, "--tag", "a=b", "--", "sh", "-c", script).status == 0
    return home


def path_of(home: Path) -> Path:
    (path,) = (home / "runs").iterdir()
    return path


@pytest.fixture(scope="module")
def exported(job: Path) -> Path:
    path = job / "run.parquet"
    assert main(["export", str(path_of(job)), "-f", "parquet", "-o", str(path)]) == 0
    return path


def test_every_value_is_that_of_the_record(job: Path, exported: Path) -> None:
    table = parquet.read_table(exported)
    rows = [flat(sample) for sample in samples(record(job))]
    assert table.num_rows == len(rows)
    names = {name for row in rows for name, value in row.items() if value is not None}
    assert names <= set(table.column_names)
    for name in table.column_names:
        assert table.column(name).to_pylist() == [row.get(name) for row in rows], name


def test_types_are_those_of_the_table(exported: Path) -> None:
    kinds = {field.name: str(field.type) for field in parquet.read_schema(exported)}
    assert kinds["tree.rss_bytes"] == kinds["tree.processes"] == kinds["system.memory.used_bytes"] == "int64"
    assert kinds["at"] == kinds["tree.cpu_seconds"] == kinds["system.load_1"] == kinds["tree.cpu_cores"] == "double"
    for name, kind in kinds.items():
        whole = name.endswith(("_bytes", "_chars", "_syscalls", "_faults", "_switches"))
        assert kind == ("int64" if whole else kind), name
        assert kind == ("double" if name.endswith(("_seconds", "_cores", "_ratio")) else kind), name
    assert not {"system", "cgroup", "gpus", "top", "type"} & set(kinds), "a section is no column"


def test_pandas_and_polars_see_the_same_sums(job: Path, exported: Path) -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    frames = pandas.read_parquet(exported), polars.read_parquet(exported)
    taken = samples(record(job))
    for name in ("cpu_seconds", "read_chars", "rss_bytes", "context_switches"):
        truth = sum(sample["tree"][name] for sample in taken)
        for frame in frames:
            assert float(frame[f"tree.{name}"].sum()) == pytest.approx(truth), name
    assert frames[0]["interval_seconds"].isna().sum() == frames[1]["interval_seconds"].null_count() == 1


def test_the_run_is_in_the_metadata(job: Path, exported: Path) -> None:
    told = {key.decode(): value.decode() for key, value in parquet.read_schema(exported).metadata.items()}
    lines = record(job)
    assert json.loads(told["proctally.run"]) == lines[0]
    assert json.loads(told["proctally.summary"]) == lines[-1]
    assert json.loads(told["proctally.host"]) == next(line for line in lines if line["type"] == "host")
    assert [line["name"] for line in json.loads(told["proctally.phases"])][0] == "fit"
    assert told["proctally.name"] == lines[0]["name"] and told["proctally.verdict"] == "ok"
    assert told["proctally.run_id"] == lines[0]["run_id"] and told["proctally.schema"] == "proctally/2"


def test_it_has_the_columns_of_a_dataframe(job: Path, exported: Path) -> None:
    rows = [flat(sample) for sample in samples(record(job))]
    sections = ("system", "cgroup", "gpus", "tree.time")  # null in the first samples
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in sections]
    assert parquet.read_schema(exported).names == names


def test_thinned_out(job: Path, tmp_path: Path) -> None:
    path = tmp_path / "few.parquet"
    assert main(["export", str(path_of(job)), "-f", "parquet", "--every", "0.2", "-o", str(path)]) == 0
    table, taken = parquet.read_table(path), samples(record(job))
    assert table.num_rows < len(taken)
    assert table.column("tree.cpu_seconds").to_pylist()[-1] == taken[-1]["tree"]["cpu_seconds"]
    assert max(table.column("tree.rss_bytes").to_pylist()) == max(sample["tree"]["rss_bytes"] for sample in taken)
    assert table.schema.metadata[b"proctally.thinned_seconds"] == b"0.2"


# -- where it goes ---------------------------------------------------------------------------------------------------


def test_into_a_pipe(job: Path, exported: Path) -> None:
    command = [*PROCTALLY, "export", str(path_of(job)), "-f", "parquet"]
    done = subprocess.run(command, env=environment(job), capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert parquet.read_table(pyarrow.BufferReader(done.stdout)).equals(parquet.read_table(exported))


def test_not_onto_a_terminal(job: Path) -> None:
    terminal = Terminal()
    command = [*PROCTALLY, "export", str(path_of(job)), "-f", "parquet"]
    done = subprocess.run(command, env=environment(job), stdout=terminal.theirs, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 2
    assert done.stderr == b"proctally: --format parquet: not for a terminal; use --output FILE\n"
    assert terminal.shown() == b""
    terminal.close()


def test_a_file_that_exists_is_kept(job: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine"
    path.write_text("mine")
    words = ["export", str(path_of(job)), "-f", "parquet", "-o", str(path)]
    assert main(words) == 1 and "File exists; use --force" in capfd.readouterr().err
    assert path.read_text() == "mine"
    assert main([*words, "--force"]) == 0
    assert parquet.read_table(path).num_rows


def test_a_full_disk_is_one_line(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    assert main(["export", str(path_of(job)), "-f", "parquet", "-o", "/dev/full"]) == 1
    assert capfd.readouterr().err == "proctally: /dev/full: No space left on device\n"


def test_without_its_extra(job: Path) -> None:
    code = (
        "import importlib.util as u, sys\n"
        "was = u.find_spec; u.find_spec = lambda name, *a: None if name == 'pyarrow' else was(name, *a)\n"
        "from proctally.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "export", str(path_of(job)), "-f", "parquet", "-o", str(job / "never")]
    done = subprocess.run(command, env=environment(job), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "proctally: --format parquet needs the package pyarrow: pip install 'proctally[parquet]'\n"
    assert not (job / "never").exists()


def test_csv_loads_nothing_of_it(job: Path) -> None:
    code = "import sys; from proctally.cli.main import main; main(sys.argv[1:]); sys.exit('pyarrow' in sys.modules)"
    command = [sys.executable, "-c", code, "export", str(path_of(job))]
    assert subprocess.run(command, env=environment(job), capture_output=True).returncode == 0
