"""What a test file in each folder may import, which modules only one file of the source imports, and sizes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from places import ROOT, TESTS

# From below. A unit test of a room may also import the rooms that its room may import.
LAYERS = [
    {"errors"},
    {"text"},
    {"linux", "record"},
    {"analysis", "exporters", "host", "tree"},
    {"public"},
    {"tracking", "views"},
    {"library"},
    {"cli"},
]
CODES = "proctally.record.codes"  # constants: `text` has words for them
PUBLIC = {"process", "processes", "system", "gauges"}
ONE_IMPORTER = {
    "_ctypes": "linux/c_library.py", "_json": "record/writer.py", "_signal": "linux/child.py",
    "_socket": "linux/channel.py", "resource": "linux/descriptors.py",
}  # fmt: skip
MOST_OF_CLASS, MOST_OF_FUNCTION = 350, 60  # lines
SOURCE = ROOT / "src" / "proctally"
FILES = sorted(TESTS.rglob("test_*.py"))
UNIT = [path for path in FILES if path.is_relative_to(TESTS / "unit")]


def imports(path: Path, *, types: bool = True) -> Iterator[str]:
    """Yield the name of each module or member that a file imports, also within functions; `types`: for types too."""
    tree = ast.parse(path.read_bytes())
    if not types:
        tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_" in ast.dump(node.test))]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)


def level(room: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms)


@pytest.mark.parametrize("path", UNIT, ids=lambda path: str(path.relative_to(TESTS)))
def test_unit_test_imports_its_room_and_those_below(path: Path) -> None:
    room = path.relative_to(TESTS / "unit").parts[0]
    names = [name for name in imports(path) if name.startswith("proctally.") and not name.startswith(CODES)]
    rooms = {name.split(".")[1] for name in names}
    rooms = {"public" if name in PUBLIC else name for name in rooms} - {room}
    assert [name for name in rooms if level(name) >= level(room)] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_imports_another_test(path: Path) -> None:
    tests = {each.stem for each in FILES}
    assert [name for name in imports(path) if name.split(".")[0] in tests] == []


def test_one_file_imports_each_of_some_modules() -> None:
    found = {
        (name, str(path.relative_to(SOURCE)))
        for path in SOURCE.rglob("*.py")
        for name in (each.split(".")[0] for each in imports(path, types=False))
        if name in ONE_IMPORTER
    }
    assert found == set(ONE_IMPORTER.items())


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_classes_and_functions_fit_in_a_head(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= (MOST_OF_CLASS if isinstance(node, ast.ClassDef) else MOST_OF_FUNCTION), node.name
