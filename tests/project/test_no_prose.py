"""No decision hangs on a sentence: nothing compares with prose, searches in it, cuts it or replaces a part of it.

A decision compares codes (`record/codes.py`); the words are made where a person reads them (`text/words.py`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from places import ROOT

SOURCE = ROOT / "src" / "proctally"
METHODS = (
    "replace", "startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition", "split", "rsplit",
    "find", "rfind", "index", "rindex", "count", "match", "fullmatch", "search", "sub",
)  # fmt: skip
WORDS = re.compile(r"[^\W\d_]{2,}\W*\s\W*[^\W\d_]{2,}")  # two words with a space between them
ALLOWED = {
    "record/schema1.py": "turns the sentences of schema 1 into codes, and alone knows them",
}
IDENTIFIERS = {  # names of two words that another program defines
    "model name": "/proc/cpuinfo",
    "Model Name": "/proc/cpuinfo",
    "cpu model": "/proc/cpuinfo",
    "CPU implementer": "/proc/cpuinfo",
    "CPU part": "/proc/cpuinfo",
    "/dev/zero (deleted)": "link of a shared anonymous area (shmem_zero_setup)",
    "Microsoft Corporation": "DMI vendor",
    "Virtual Machine": "DMI product",
    "text/plain; version=0.0.4; charset=utf-8": "content type of Prometheus",
    "application/openmetrics-text; version=1.0.0; charset=utf-8": "content type of OpenMetrics",
}
Named = dict[str, list[str]]  # texts by the name that holds them


def texts_of(node: ast.AST, named: Named) -> Iterator[str]:
    """The text constants of an expression, also those behind a name."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str | bytes):
            yield part.value if isinstance(part.value, str) else part.value.decode("latin-1")
        elif isinstance(part, ast.Name | ast.Attribute):
            yield from named.get(ast.unparse(part), ())


def constants(tree: ast.Module) -> Named:
    """The constants of a module that hold texts."""
    found: Named = {}
    for statement in tree.body:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Constant | ast.Tuple):
            continue
        for target in statement.targets:
            pairs = [(target, statement.value)]
            if isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
                pairs = list(zip(target.elts, statement.value.elts, strict=True))
            found |= {name.id: list(texts_of(value, {})) for name, value in pairs if isinstance(name, ast.Name)}
    return found


def names_of(tree: ast.Module, modules: dict[str, Named]) -> Named:
    """The constants that a module can name: its own, and those that it imports."""
    named = constants(tree)
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            name, source = alias.asname or alias.name, modules.get(node.module or "", {})
            if alias.name in source:
                named[name] = source[alias.name]
            module = modules.get(f"{node.module}.{alias.name}", {})
            named |= {f"{name}.{constant}": texts for constant, texts in module.items()}
    return named


def prose(source: str, modules: dict[str, Named] | None = None) -> list[tuple[int, str]]:
    """Line and text of each decision by a sentence. `modules`: constants that can be imported, by module."""
    tree = ast.parse(source)
    named = names_of(tree, modules or {})
    found = []
    for node in ast.walk(tree):
        parts: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            parts = node.args
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        texts = [text for part in parts for text in texts_of(part, named)]
        found += [(node.lineno, text) for text in texts if WORDS.search(text) and text not in IDENTIFIERS]
    return found


def test_no_module_decides_by_prose() -> None:
    sources = {path.relative_to(SOURCE).as_posix(): path.read_text("utf-8") for path in SOURCE.rglob("*.py")}
    modules = {
        f"proctally.{name.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}": constants(ast.parse(text))
        for name, text in sources.items()
    }
    found = [
        f"{name}:{line}: {text!r}"
        for name, source in sources.items()
        if name not in ALLOWED
        for line, text in prose(source, modules)
    ]
    assert found == []


def test_allowed_modules_exist() -> None:
    assert all((SOURCE / name).is_file() for name in ALLOWED)


@pytest.mark.parametrize(
    "line",
    [
        "x.replace('complete for', 'incomplete for')",
        "x.startswith('all but ')",
        "x.startswith(('one', 'all but one'))",
        "'had not been' in covered",
        "covered == 'exit status'",
        "covered in ('exit status', 'a')",
        "LEFT = 'its block was left'\nif why == LEFT: pass",
        "A, B = 'a', 'the machine'\nwhere != B",
        "match x:\n    case 'exit status': pass",
        "re.fullmatch('exit status [0-9]', x)",
    ],
)
def test_prose_finds_decision(line: str) -> None:
    assert prose(line)


def test_prose_finds_imported_constant() -> None:
    modules = {"proctally.record.codes": {"LEFT": ["its block was left"]}}
    for source in (
        "from proctally.record.codes import LEFT as GONE\nwhy == GONE",
        "from proctally.record import codes\nwhy == codes.LEFT",
    ):
        assert prose(source, modules) == [(2, "its block was left")]


SHOWN = ["print('exit status')", "x = 'the machine'", "x == 'ok'", "x.replace('a', 'b')", "f'a b {x}'", "'a b'.split()"]


@pytest.mark.parametrize("line", SHOWN)
def test_prose_passes_words_that_are_shown(line: str) -> None:
    assert not prose(line)
