"""The public face: what `help` and `dir` show, and that each public name has a docstring with its errors."""

from __future__ import annotations

import ast
import inspect
import pydoc
import re
from collections.abc import Iterator
from typing import Any

import pytest

import proctally
from fakeroot import INIT, FakeHost
from places import ROOT
from proctally import gauges, process, processes, system
from proctally.record.section import Section

MODULES = (process, processes, system, gauges)
ERRORS = {"AccessDenied", "AlreadyClosed", "NoDescriptors", "ProcessGone", "TrackingWarning"}
FACE = {"process", "processes", "system", "gauges", "Tree", "track", "Run", "preload"} | ERRORS
HOOKS = {"load_ipython_extension", "unload_ipython_extension"}
NOT_RAISED = {"classify", "self.classify"}  # they return the error
MAX_REPR = 200


def members(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a public name, and the public methods and properties of a class."""
    yield name, value
    if inspect.isclass(value):
        for inner, each in vars(value).items():
            fields = getattr(value, "_fields", ())
            is_public = not inner.startswith("_") or inner == "__init__"
            each = each.__func__ if isinstance(each, classmethod) else each
            if is_public and inner not in fields and (inspect.isfunction(each) or isinstance(each, property)):
                yield f"{name}.{inner}", each


def public() -> Iterator[tuple[str, Any]]:
    for name in sorted(FACE):
        yield from members(name, getattr(proctally, name))
    for module in MODULES:
        for name in module.__all__:
            yield from members(f"{module.__name__.rpartition('.')[2]}.{name}", getattr(module, name))


PUBLIC = dict(public())


def test_names_of_the_package() -> None:
    assert set(proctally.__all__) == FACE
    assert set(dir(proctally)) == FACE | {"__version__"}
    for name in HOOKS:
        assert callable(getattr(proctally, name))


def test_help_shows_the_public_names_only() -> None:
    text = pydoc.render_doc(proctally, renderer=pydoc.plaintext)
    classes = set(re.findall(r"^    class (\w+)", text, re.M))
    functions = set(re.findall(r"^    (\w+)\(", text, re.M))
    assert classes | functions == FACE - {module.__name__.rpartition(".")[2] for module in MODULES}
    assert "\nDATA\n" not in text
    for name in FACE - ERRORS:
        assert f"    proctally.{name} " in text, "the head has a line for each"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.__name__))
def test_modules_show_no_imports(module: Any) -> None:
    assert sorted(dir(module)) == sorted(module.__all__)
    for name in module.__all__:
        where = getattr(module, name).__module__
        assert where == module.__name__ or name == "Machine", "Machine is public as proctally.process.Machine alone"


def test_public_names_have_docstrings() -> None:
    assert [name for name, value in PUBLIC.items() if not value.__doc__] == []
    short = [name for name, value in PUBLIC.items() if not re.match(r"[A-Z`0-9].*[.:]$", value.__doc__.splitlines()[0])]
    assert short == []


# -- errors ----------------------------------------------------------------------------------------------------------


def raised(value: Any) -> set[str]:
    """Return the names of the errors that the body of a function raises itself."""
    function = value.fget if isinstance(value, property) else value
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(function)))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = ast.unparse(node.exc.func)
            found.add({"no_process": "ProcessGone", "closed": "AlreadyClosed"}.get(name, name))
    return found - NOT_RAISED


@pytest.mark.parametrize("name", [name for name, value in PUBLIC.items() if not inspect.isclass(value)])
def test_docstring_names_what_the_body_raises(name: str) -> None:
    value = PUBLIC[name]
    if not inspect.ismodule(value):
        assert {error for error in raised(value) if error not in value.__doc__} == set()


TAKES_PID = [
    name
    for name, value in PUBLIC.items()
    if inspect.isfunction(value) and {"pid", "machine"} <= set(inspect.signature(value).parameters)
]
BY_MAP = {"processes.descendants", "processes.is_descendant"}  # empty for a pid that is not in the map


@pytest.mark.parametrize("name", sorted({*TAKES_PID} - BY_MAP))
def test_docstring_names_the_errors_of_a_process(name: str, tmp_path: Any) -> None:
    """Call it for a process that does not exist, and for one whose files are all denied."""
    function = PUBLIC[name]
    if name.endswith("__init__"):
        module, kind, _ = name.split(".")
        function = getattr(getattr(proctally, module), kind)
    host = FakeHost(tmp_path)
    with pytest.raises(proctally.ProcessGone):
        function(99, machine=host.machine())
    assert "Raises `ProcessGone`" in " ".join(PUBLIC[name].__doc__.split())
    host.spawn(100, INIT)
    files = ("stat", "statm", "status", "io", "smaps_rollup", "comm", "cmdline", "environ", "limits", "cgroup", "exe")
    host.deny(*(f"100/{file}" for file in files))
    try:
        function(100, machine=host.machine(clocks=False))
    except proctally.AccessDenied:
        assert "`AccessDenied`" in PUBLIC[name].__doc__
    except (proctally.ProcessGone, FileNotFoundError):
        pass  # this host does not have the file


# -- reprs -----------------------------------------------------------------------------------------------------------

LARGE = 1 << 63


def made(kind: Any) -> Any:
    return kind(*([LARGE] * len(kind._fields)))


def test_reprs_of_tuples_are_one_short_line() -> None:
    kinds = [value for value in PUBLIC.values() if hasattr(value, "_fields")]
    assert len(kinds) > 15
    for kind in kinds:
        assert len(repr(made(kind))) < MAX_REPR, kind
        assert repr(made(kind)).startswith(f"{kind.__name__}(")
    many = processes.TreeStats((made(processes.ProcessInfo),) * 1000, *([LARGE] * 8))
    assert len(repr(many)) < MAX_REPR
    assert len(repr(Section({"command": ["\n" * 500]}))) < MAX_REPR
    assert "\n" not in repr(Section({"command": "\n"}))


def test_parameters_have_one_vocabulary() -> None:
    """`parent`, `start_ticks`, a unit in each name: the kernel's `ppid` and a bare `start` are not public."""
    names: set[str] = set()
    for value in PUBLIC.values():
        names |= set(getattr(value, "_fields", ()))
        if inspect.isfunction(value):
            names |= set(inspect.signature(value).parameters)
    assert not names & {"ppid", "start", "begun", "user", "seconds", "bytes", "rss", "vsize", "kernel_cpu_percent"}


def test_documents_say_which_tracker_to_take() -> None:
    text = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    table = text.partition("## Which tracker to take when")[2].partition("\n## ")[0]
    for name in ("snapshot_tree", "snapshot_tree_from_scan", "CumulativeTracker", "DeltaTracker", "Tree", "Gauges"):
        assert f"`{name}" in table or f".{name}" in table, name
    assert "proctally.track" in table
