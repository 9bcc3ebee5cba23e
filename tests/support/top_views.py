"""Pages of `top` as text."""

from __future__ import annotations

from proctally.views.top.layout import page
from proctally.views.top.line import Signs
from proctally.views.top.scene import Scene
from proctally.views.top.table import View

BLOCKS, ASCII = Signs(ascii_only=False), Signs(ascii_only=True)


def text(lines: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(piece for _, piece in line) for line in lines]


def shown(what: Scene, view: View | None = None, width: int = 80, height: int = 24) -> list[str]:
    return text(page(what, view or View(), width, height, BLOCKS))
