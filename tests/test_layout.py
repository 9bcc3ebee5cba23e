"""The import order and the start-up cost of the package, as a lint over its source.

Two tables hold the rules. RULES: which rooms of the package a room may import, at any depth. SLOW: what must not be
imported while a module of the start-up path is loaded. Imports under `if TYPE_CHECKING:` cost nothing and bind
nothing at run time: they are free.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "proctally"
SOURCE = Path(__file__).resolve().parent.parent / "src" / PACKAGE

KERNEL_USERS = frozenset({"kernel", "tree", "model"})
READERS = frozenset({"model", "record"})
ANYTHING_BUT_CLI = frozenset(
    {"kernel", "model", "tree", "ledger", "sampler", "job", "record", "outputs", "report", "top", "summary"}
    | {
        "options",
        "session",
        "watch",
        "enclosure",
        "ending",
        "coverage",
        "verdict",
        "gpus",
        "surroundings",
        "exports",
        "live",
    }
)

# Room (a module or a subpackage directly under the package): the rooms that it may import.
RULES: dict[str, frozenset[str]] = {
    "__init__": ANYTHING_BUT_CLI
    | {
        "process",
        "processes",
        "system",
        "gauges",
        "tracking",
        "trees",
        "magic",
    },  # in functions only, see EAGER_NOTHING
    "__main__": frozenset({"cli"}),
    "cli": ANYTHING_BUT_CLI
    | {"run", "attach", "whole", "export", "listing", "marks", "diff", "advise", "top", "report", "history"},
    "run": ANYTHING_BUT_CLI | {"marks"},
    "marks": frozenset({"kernel"}),
    "attach": ANYTHING_BUT_CLI,
    "whole": ANYTHING_BUT_CLI,
    "sidecar": ANYTHING_BUT_CLI | {"attach"},
    "tracking": frozenset({"kernel", "options", "record", "results"}),
    "trees": KERNEL_USERS | {"ledger", "sampler", "results"},
    "magic": frozenset({"kernel", "options", "results", "summary", "tracking"}),
    "pytest_plugin": frozenset({"options", "per_test"}),
    "per_test": frozenset({"options", "tracking"}),
    "results": frozenset(),
    "export": frozenset({"kernel", "history", "options", "outputs", "record", "thinning"}),
    "thinning": frozenset({"model"}),
    "lookout": KERNEL_USERS | {"record", "sampler", "watch"},
    "history": frozenset({"record"}),
    "listing": frozenset({"figures", "history", "kernel", "options", "record", "summary"}),
    "figures": frozenset(),
    "spread": frozenset(),
    "quantities": frozenset(),
    "markdown": frozenset({"summary"}),
    "gates": frozenset({"figures", "options"}),
    "comparison": frozenset({"figures", "gates", "history", "quantities", "spread"}),
    "diff": READERS
    | {"comparison", "figures", "gates", "history", "kernel", "markdown", "options", "quantities", "spread", "summary"},
    "evidence": frozenset({"figures", "history", "quantities"}),
    "advice": frozenset({"evidence", "quantities", "spread"}),
    "directives": frozenset({"advice", "evidence"}),
    "advise": READERS | {"advice", "directives", "evidence", "history", "kernel", "markdown", "options", "summary"},
    "options": frozenset(),
    "session": KERNEL_USERS | {"ledger", "sampler", "options", "outputs", "record", "summary", "exports", "live"},
    "exports": frozenset({"kernel", "options", "record"}),
    "live": frozenset({"kernel", "gauges"}),
    "exporter": frozenset({"outputs"}),
    "kernel": frozenset({"kernel"}),
    "model": frozenset(),
    "tree": frozenset({"kernel"}),
    "roll": frozenset({"kernel"}),
    "watch": frozenset({"kernel", "roll"}),
    "enclosure": frozenset({"kernel"}),
    "gpus": frozenset({"kernel"}),
    "surroundings": frozenset({"kernel", "gpus", "cloud"}),
    "cloud": frozenset({"kernel"}),
    "ending": frozenset({"kernel", "summary"}),
    "coverage": frozenset(),
    "verdict": frozenset({"kernel"}),
    "ledger": KERNEL_USERS,
    "sampler": KERNEL_USERS | {"ledger"},
    "job": frozenset({"kernel"}),
    "record": frozenset({"model"}),
    "process": frozenset({"kernel"}),
    "processes": frozenset({"kernel", "process", "sampler", "ledger"}),
    "system": frozenset({"kernel", "process"}),
    "gauges": frozenset({"kernel", "processes"}),
    "outputs": READERS | {"outputs"},
    "report": READERS | {"advice", "evidence", "history", "options", "report", "summary"},
    "top": READERS | {"history", "lookout", "options", "summary", "top"},
    "summary": READERS,
}

EAGER_NOTHING = frozenset({"__init__"})
START_UP = frozenset(
    {"__init__", "cli", "job", "kernel", "tree", "ledger", "sampler", "record", "model", "run", "options", "session"}
)
SLOW = frozenset(
    {"dataclasses", "typing", "enum", "re", "json", "argparse", "subprocess", "pathlib", "logging"},
)
FORBIDDEN_NAMES = frozenset({"utils", "util", "common"})


def is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def imports(node: ast.AST, eager: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Every import below `node`, and whether loading the module executes it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, eager
        elif isinstance(child, ast.If) and is_type_checking(child.test):
            for statement in child.orelse:
                yield from imports(ast.Module([statement], []), eager)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(child, eager and not inside)


def targets(statement: ast.Import | ast.ImportFrom, parts: list[str]) -> Iterator[str]:
    """The dotted names that an import statement of the module `parts` asks for, relative ones made absolute."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    base = statement.module or ""
    if statement.level:
        package = [PACKAGE, *parts[:-1]]
        base = ".".join(package[: len(package) - statement.level + 1] + ([base] if base else []))
    # From the package itself a name is a room; from a room, a part of it.
    yield from (f"{base}.{alias.name}" for alias in statement.names) if base == PACKAGE else (base,)


def violations(path: str, source: str) -> list[str]:
    """What breaks the rules in the module at `path`, relative to the package: `kernel/proc.py`."""
    parts = path.removesuffix(".py").split("/")
    room = parts[0]
    found = [f"{path}: no module is called {part}" for part in parts if part in FORBIDDEN_NAMES]
    if room not in RULES:
        return [*found, f"{path}: the room {room} is not in RULES"]
    for statement, eager in imports(ast.parse(source, path)):
        for name in targets(statement, parts):
            where = f"{path}:{statement.lineno}: {room} imports {name}"
            top, _, rest = name.partition(".")
            if eager and room in EAGER_NOTHING and name != "__future__":
                found.append(f"{where} while it is loaded")
            elif top == PACKAGE and rest != "__version__" and rest.split(".")[0] not in RULES[room]:
                found.append(where)
            elif eager and room in START_UP and top in SLOW:
                found.append(f"{where} while it is loaded: slow")
    return found


def modules() -> list[str]:
    return sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))


def test_there_is_something_to_check() -> None:
    assert "__init__.py" in modules()


@pytest.mark.parametrize("path", modules())
def test_module_keeps_the_rules(path: str) -> None:
    assert violations(path, (SOURCE / path).read_text(encoding="utf-8")) == []


def test_rules_name_known_rooms_and_have_no_cycle() -> None:
    done: set[str] = set()
    while left := RULES.keys() - done:
        free = {room for room in left if RULES[room] - {room} <= done}
        assert free, f"unknown room or cycle among {sorted(left)}"
        done |= free


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("model.py", "from proctally.kernel import proc"),
        ("model.py", "from . import tree"),
        ("model.py", "def f():\n    import proctally.record"),
        ("model.py", "import proctally"),
        ("kernel/proc.py", "from ..model import Reading"),
        ("kernel/proc.py", "from .. import ledger"),
        ("kernel/deep/er.py", "from ...model import Reading"),
        ("tree.py", "from .ledger import Ledger"),
        ("tree.py", "from .model import Sample"),
        ("ledger.py", "from .sampler import Sampler"),
        ("sampler.py", "from .record import Writer"),
        ("record.py", "from .kernel.machine import Machine"),
        ("job.py", "from . import kernel, sampler"),
        ("job.py", "from .model import Sample"),
        ("summary.py", "from .ledger import Ledger"),
        ("outputs/csv.py", "from ..sampler import Sampler"),
        ("report/html.py", "from ..kernel import proc"),
        ("run.py", "from .cli import main"),
        ("run.py", "from .attach import attach"),
        ("__init__.py", "from .model import Sample"),
        ("__init__.py", "import os"),
        ("tree.py", "import re"),
        ("tree.py", "from typing import Any"),
        ("kernel/child.py", "import os, subprocess"),
        ("job.py", "try:\n    import logging\nexcept ImportError:\n    pass"),
        ("record.py", "class A:\n    import json"),
        ("cli.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import argparse"),
        ("cli.py", "if not TYPE_CHECKING:\n    import argparse"),
        ("misc.py", ""),
        ("utils.py", ""),
        ("kernel/common.py", ""),
    ],
)
def test_lint_refuses(path: str, source: str) -> None:
    assert violations(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("model.py", "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    import typing\n    from .tree import Tree"),
        ("model.py", "import os"),
        ("kernel/proc.py", "from .machine import Gone\nfrom ..kernel import child\nfrom proctally.kernel import a"),
        ("tree.py", "from .kernel import proc"),
        ("ledger.py", "from . import kernel, model, tree"),
        ("sampler.py", "from .ledger import Ledger"),
        ("record.py", "from . import __version__, model\ndef f():\n    import json"),
        ("attach.py", "import json\nfrom .sampler import Sampler\nfrom . import record"),
        ("cli.py", "def main():\n    import argparse\n    from . import run"),
        ("__main__.py", "import sys\nfrom .cli import main"),
        ("__init__.py", "from __future__ import annotations\ndef __getattr__(name):\n    from .tree import Tree"),
        ("outputs/csv.py", "import json\nfrom . import table\nfrom ..model import FIELDS"),
    ],
)
def test_lint_accepts(path: str, source: str) -> None:
    assert violations(path, source) == []
