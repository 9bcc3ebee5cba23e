"""Regular samples, and the first line of a thinned record."""

from __future__ import annotations

from typing import Any

from scenes import header, of_record


def first() -> dict[str, Any]:
    return of_record(0.0, cpu_cores=None) | {"interval_seconds": None}


def regular(count: int, jitter: float = 0.0) -> list[dict[str, Any]]:
    return [header(), first(), *(of_record(at + jitter * (-1) ** at) for at in range(1, count + 1))]
