"""Directives for one advice."""

from __future__ import annotations

from proctally.analysis.advice import Advice
from proctally.analysis.evidence import CORES, GPUS, MEMORY, TIME

# -- the rules -------------------------------------------------------------------------------------------------------


def made(cores: float | None, memory: float | None, seconds: float | None, *gpus: float | None) -> list[Advice]:
    """Rows of these requests; of GPUs only where they are given."""
    found = []
    for resource, value in zip((CORES, MEMORY, TIME, GPUS), (cores, memory, seconds, *gpus), strict=False):
        found.append(Advice(resource))
        found[-1].request = value
    return found
