"""The order of exception handlers: `ProcessGone` and the other errors of a process are OSErrors.

A handler of OSError that is listed before one of them takes it: the process would be reported as one that cannot be
read. Python accepts such an order without a warning.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator

from places import ROOT
from proctally import errors

SOURCE = ROOT / "src" / "proctally"
SCOPE = {**vars(builtins), **vars(errors)}


def kinds(handler: ast.ExceptHandler) -> list[type[BaseException]]:
    """Return the classes that a handler takes, as far as they are Python's or ours."""
    if handler.type is None:
        return [BaseException]
    parts = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    found: list[type[BaseException]] = []
    for part in parts:
        known = SCOPE.get(ast.unparse(part).removeprefix("*"))
        each = known if isinstance(known, tuple) else (known,)
        found += [kind for kind in each if isinstance(kind, type) and issubclass(kind, BaseException)]
    return found


def unreachable(tree: ast.AST) -> Iterator[int]:
    """Yield the lines of handlers with a class that an earlier handler takes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            taken: tuple[type[BaseException], ...] = ()
            for handler in node.handlers:
                found = kinds(handler)
                if any(issubclass(kind, taken) for kind in found):
                    yield handler.lineno
                taken += tuple(found)


def test_no_handler_is_behind_one_that_takes_its_error() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{line}"
        for path in SOURCE.rglob("*.py")
        for line in unreachable(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


def test_wrong_order_is_found() -> None:
    wrong = "try: pass\nexcept (OSError, ValueError): pass\nexcept (KeyError, ProcessGone): pass\n"
    assert list(unreachable(ast.parse(wrong))) == [3]
    assert list(unreachable(ast.parse("try: pass\nexcept ProcessGone: pass\nexcept OSError: pass\n"))) == []
