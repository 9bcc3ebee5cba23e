"""Sides of a comparison."""

from __future__ import annotations

from typing import Any

from made import lines
from proctally.analysis.comparison import Diff, Side
from proctally.analysis.gates import gates
from proctally.record.catalogue import Past


def past(made: dict[str, Any], index: int = 0) -> Past:
    found = lines(number=index, **made)
    return Past(f"{index}.jsonl", found[0], found[-1] if found[-1]["type"] == "summary" else None, 1, 0.0)


def diff(base: list[dict[str, Any]], new: list[dict[str, Any]], limits: str | None = None) -> Diff:
    return Diff(
        Side("BASE", "b", [past(made, i) for i, made in enumerate(base)]),
        Side("NEW", "n", [past(made, 100 + i) for i, made in enumerate(new)]),
        [] if limits is None else gates(limits),
    )


def noisy(value: float, count: int = 5, share: float = 0.01) -> list[dict[str, Any]]:
    """Runs around a wall time."""
    return [{"wall": value * (1 + share * (i - count // 2))} for i in range(count)]
