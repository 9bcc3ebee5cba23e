"""Thinning of long series that keeps peaks: of each span of time the smallest and the largest value."""

from __future__ import annotations

from array import array
from bisect import bisect_left

from proctally.record.values import NAN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence


def thin(
    times: Sequence[float], columns: Mapping[str, Sequence[float]], buckets: int, means: Container[str] = ()
) -> tuple[array[float], dict[str, array[float]]]:
    """At most two rows for each of `buckets` equal spans of time, in the order in which they came.

    `times` ascend. The two rows of a span stand at its first and its last time; each column has there its smallest and
    its largest value, whichever came first, those in `means` their mean. NaN is nothing: a span in which a column has
    nothing else stays NaN.
    Series that are short enough are given back as they are.
    """
    if len(times) <= 2 * buckets:
        return array("d", times), {key: array("d", column) for key, column in columns.items()}
    edges = _edges(times, buckets)
    kept = array("d")
    for low, high in edges:
        kept.append(times[low])
        if high - low > 1:
            kept.append(times[high - 1])
    return kept, {key: _column(column, edges, is_mean=key in means) for key, column in columns.items()}


def _edges(times: Sequence[float], buckets: int) -> list[tuple[int, int]]:
    """The spans that have anything in them, as slices."""
    first, width = times[0], (times[-1] - times[0]) / buckets
    edges = []
    low = 0
    for bucket in range(1, buckets + 1):
        high = len(times) if bucket == buckets else bisect_left(times, first + bucket * width, low)
        if high > low:
            edges.append((low, high))
            low = high
    return edges


def _column(column: Sequence[float], edges: list[tuple[int, int]], *, is_mean: bool) -> array[float]:
    kept = array("d")
    for low, high in edges:
        if high - low == 1:
            kept.append(column[low])
            continue
        part = [value for value in column[low:high] if value == value]
        if not part:
            kept.extend((NAN, NAN))
            continue
        if is_mean:
            kept.extend((sum(part) / len(part),) * 2)
            continue
        smallest, largest = min(part), max(part)
        kept.extend((smallest, largest) if part.index(smallest) <= part.index(largest) else (largest, smallest))
    return kept
