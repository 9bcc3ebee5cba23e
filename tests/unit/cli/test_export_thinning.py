"""The command `export --every`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proctally.cli.main import main
from proctally.record.writer import json_line
from thinned import regular

# -- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_record_is_never_written_over_itself(tmp_path: Path, form: str, capfd: pytest.CaptureFixture[str]) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    path, other = tmp_path / "r.jsonl", tmp_path / "link"
    data = b"".join(map(json_line, regular(3)))
    path.write_bytes(data)
    other.symlink_to(path)
    for output in (path, other):
        assert main(["export", str(path), "-f", form, "-o", str(output), "--force"]) == 1
        assert capfd.readouterr().err.endswith("is the record itself\n")
        assert path.read_bytes() == data


def test_of_gzip(tmp_path: Path) -> None:
    import gzip

    packed = tmp_path / "r.jsonl.gz"
    packed.write_bytes(gzip.compress(b"".join(map(json_line, regular(20)))))
    assert main(["export", str(packed), "-f", "jsonl", "--every", "10", "-o", str(tmp_path / "few")]) == 0
    assert [json.loads(line)["type"] for line in (tmp_path / "few").read_text().splitlines()] == [
        "run",
        *["sample"] * 3,
    ]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("what", ["NaN", "1e999", "-1e999", "1" + "0" * 400, "true", '{"a":' * 300 + "1" + "}" * 300])
def test_a_record_that_holds_anything(tmp_path: Path, form: str, what: str, capfd: pytest.CaptureFixture[str]) -> None:
    """It is written, or one line tells why it is not; what is no number is none."""
    if form == "parquet":
        pytest.importorskip("pyarrow")
    path, out = tmp_path / "r.jsonl", tmp_path / "out"
    data = b"".join(map(json_line, regular(3)))
    odd = f'{{"type":"sample","elapsed_seconds":%s,"interval_seconds":%s,"tree":{{"cpu_cores":{what}}}}}\n'
    path.write_bytes(data + (odd % (what, what) + odd % ("2.5", "1.0") + odd % ("3", what)).encode())
    for every in ([], ["--every", "10"]):
        status = main(["export", str(path), "-f", form, "-o", str(out), "--force", *every])
        said = capfd.readouterr().err
        assert (status, said.count("\n")) in ((0, 0), (1, 1)), said
        assert status == 0 or (said.startswith(f"proctally: {path}: ") and not out.exists())
        if status == 0 and form == "parquet" and "{" not in what:
            from pyarrow import parquet

            cores = parquet.read_table(out).column("tree.cpu_cores").to_pylist()
            assert {value for value in cores if value is not None} <= {1.0, "1.0", "true"}
        out.unlink(missing_ok=True)


@pytest.mark.parametrize("every", ["0", "-1", "x"])
def test_no_time(tmp_path: Path, every: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "last", "--every", every]) == 2
    assert capfd.readouterr().err.startswith(f"proctally: --every {every}: ")
