"""Statistics of the columns of a run: of each number of its samples, how it was over time."""

from __future__ import annotations

from typing import NamedTuple

from proctally.record.section import flat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class ColumnStats(NamedTuple):
    """One column, in its unit of docs/fields.md. `samples`: those with a value; `mean`: of these, each counts alike.

    `least`, `most`: the smallest and the largest value; `last`: of a counter, its total.
    """

    samples: int
    least: float
    mean: float
    most: float
    last: float


def column_stats(samples: Iterable[Mapping[str, object]]) -> dict[str, ColumnStats]:
    """Return the statistics of each column that has a number, by its path, such as `tree.cpu_cores`."""
    columns: dict[str, list[float]] = {}
    for sample in samples:
        for path, value in flat(sample).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                columns.setdefault(path, []).append(value)
    return {
        path: ColumnStats(len(values), min(values), sum(values) / len(values), max(values), values[-1])
        for path, values in columns.items()
    }
