"""Directives for one advice."""

from __future__ import annotations

from proctally.analysis.advice import Advice
from proctally.analysis.evidence import CORES, GPUS, MEMORY, RESOURCES, TIME

# -- the rules -------------------------------------------------------------------------------------------------------


def made(cores: float | None, memory: float | None, seconds: float | None, gpus: float | None) -> dict[str, Advice]:
    found = {resource: Advice(resource) for resource in RESOURCES}
    for resource, value in zip((CORES, MEMORY, TIME, GPUS), (cores, memory, seconds, gpus), strict=True):
        found[resource].request = value
    return found
