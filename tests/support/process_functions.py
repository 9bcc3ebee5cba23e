"""Functions of one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proctally import process

FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(process, name) for name in process.__all__ if name[0].islower() and name != "this_machine"
}
