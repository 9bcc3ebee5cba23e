"""`%%track` in its real hosts: a kernel of Jupyter (ipykernel, by nbclient) and IPython in a terminal."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proctally.library import ipython
from proctally.record.objects import Summary
from tracked import environment, records, whole

nbclient = pytest.importorskip("nbclient", reason="needs the extras of the tests: nbclient, ipykernel")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")
UsageError = pytest.importorskip("IPython.core.error").UsageError

BUSY = "import time\nend = time.thread_time() + 0.4\nwhile time.thread_time() < end: pass\n"


CELLS = {
    "load": "%load_ext proctally",
    "fit": f"%%track -i 0.05 --name fit --record --into mine\n{BUSY}answer = 6 * 7\nanswer",
    "kept": "s = mine.summary\nprint(answer, mine is proctally_run, s.cpu.total_seconds, len(mine.samples), s.verdict)",
    "waited": "import resource; print(sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]))",
    "quiet line": "%track -q --tag a=b sum(range(10))",
    "no record": "print(proctally_run.summary.verdict, proctally_run.path)",
    "line": "%track --no-system --no-gpu import time; time.sleep(0.1)",
    "no system": "print(proctally_run.samples[-1].system)",
    "output": "%track -q -o 'a file.jsonl' 1",
    "where": "print(proctally_run.path, proctally_run.missing)",
    "semicolon": "%track -q 6 * 7;",
    "failing": "%%track\nvalue = 1\n1 / 0",
    "option that is none": "%%track --nothing\n1",
    "short interval": "%%track -i 0.001\n1",
    "no number": "%%track -i soon\n1",
    "nothing": "%track",
    "code behind options": "%%track x = 1\n1",
    "unload": "%unload_ext proctally",
    "unloaded": "%%track\n1",
}


class Notebook:
    """The cells, as a kernel has run them one after the other."""

    def __init__(self, home: Path) -> None:
        self.home = home
        cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS.values()]
        # its native kernel runs under this interpreter
        client = nbclient.NotebookClient(
            nbformat.v4.new_notebook(cells=cells), kernel_name="python3", timeout=60, allow_errors=True
        )
        client.execute(env=environment(home, IPYTHONDIR=str(home / "ipython")), cwd=str(home))
        self._outputs = {name: cell.outputs for name, cell in zip(CELLS, client.nb.cells, strict=True)}

    def outputs(self, cell: str) -> list[Any]:
        return list(self._outputs[cell])

    def text(self, cell: str) -> str:
        return "".join(output.get("text", "") for output in self.outputs(cell))

    def of_type(self, cell: str, kind: str) -> Any:
        """The one output of this kind."""
        (found,) = [output for output in self.outputs(cell) if output.output_type == kind]
        return found


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Notebook:
    return Notebook(tmp_path_factory.mktemp("home"))


def test_cell(notebook: Notebook) -> None:
    shown = notebook.of_type("fit", "display_data").data
    assert shown["text/plain"].startswith("fit: ok")
    assert re.search(r"CPU +0\.4\d\d s", shown["text/plain"])
    assert "<table" in shown["text/html"] and "peak RSS" in shown["text/html"]
    assert notebook.of_type("fit", "execute_result").data["text/plain"] == "42", (
        "the value of the cell is shown as ever"
    )
    answer, same, total, samples, verdict = notebook.text("kept").split()
    assert (answer, same, verdict) == ("42", "True", "ok")
    assert float(total) == pytest.approx(0.4, abs=0.05)
    assert int(samples) >= 5
    assert float(notebook.text("waited")) < 0.02, "the kernel has waited for nothing of ours"
    (lines,) = records(notebook.home)
    assert whole(lines)["cpu"]["total_seconds"] == float(total)
    assert lines[0]["name"] == "fit"


def test_line_and_no_record(notebook: Notebook) -> None:
    assert [output.output_type for output in notebook.outputs("quiet line")] == ["execute_result"]
    assert notebook.text("no record").split() == ["ok", "None"]
    assert "wall" in notebook.of_type("line", "display_data").data["text/plain"]
    assert notebook.text("no system").strip() == "None"
    assert notebook.outputs("semicolon") == []
    assert notebook.text("where").strip() == f"{notebook.home / 'a file.jsonl'} []"
    assert len(records(notebook.home)) == 1, "that of the cell which asked for one"


def test_cell_that_fails_fails(notebook: Notebook) -> None:
    """The report is shown all the same, and who runs the notebook sees the error."""
    assert notebook.of_type("failing", "error").ename == "ZeroDivisionError"
    assert notebook.of_type("failing", "display_data").data["text/plain"].startswith("cell: failed")


@pytest.mark.parametrize(
    "cell", ["option that is none", "short interval", "no number", "nothing", "code behind options"]
)  # fmt: skip
def test_mistakes_are_told(notebook: Notebook, cell: str) -> None:
    assert notebook.text(cell).startswith("UsageError: ")


def test_unloaded(notebook: Notebook) -> None:
    assert "not found" in "".join(str(output) for output in notebook.outputs("unloaded"))


def test_ipython_in_a_terminal(tmp_path: Path) -> None:
    code = f"%load_ext proctally\nget_ipython().run_cell_magic('track', '-i 0.05', {BUSY!r})\n"
    script = tmp_path / "script.ipy"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", str(script)],
        env=environment(tmp_path, IPYTHONDIR=str(tmp_path / "ipython")), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert re.search(r"cell: ok\n +wall .*\n +CPU +0\.4", done.stdout), done.stdout + done.stderr


def test_nothing_of_ipython_is_needed_to_import_it() -> None:
    code = "import sys; sys.modules['IPython'] = None; import proctally; proctally.load_ipython_extension"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("line", "statement", "values"),
    [
        ("x = 1", "x = 1", {}),
        ("-q x = -1", "x = -1", {"quiet": True}),
        ("-i 2 -n 'a b' --record f('-q')", "f('-q')", {"interval": 2.0, "name": "a b", "record": True}),
        ("--name='a b' -q\tf('-q', 1)", "f('-q', 1)", {"name": "a b", "quiet": True}),
        ("--interval=0.5 --tag=a=b=c f()", "f()", {"interval": 0.5, "tag": [("a", "b=c")]}),
        ("-q x = 'a   b'  # isn't", "x = 'a   b'  # isn't", {"quiet": True}),
    ],
)
def test_options(line: str, statement: str, values: dict[str, Any]) -> None:
    options, rest = ipython.parse(line)
    assert rest == statement
    assert {name: getattr(options, name) for name in values} == values


@pytest.mark.parametrize("line", ["--nothing x", "-i", "--tag a x", "--quiet=1 x"])
def test_options_that_are_none(line: str) -> None:
    with pytest.raises(UsageError):
        ipython.parse(line)


def test_names_of_strangers_are_escaped() -> None:
    class Run:
        name = "<script>\x1b[31m"
        path = "/tmp/<b>&\x07"
        summary = Summary({"verdict": "ok", "cpu": {"total_seconds": 1.0}})
        missing = ["<i>"]

    report = ipython.Report(Run())  # type: ignore[arg-type]
    html, text = report._repr_html_(), repr(report)
    assert "<script>" not in html and "<i>" not in html and "<b>" not in html
    assert "\x1b" not in html + text and "\x07" not in html + text
    assert "unknown" in text
