"""Ways to sum up a tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proctally import processes
from proctally.gauges import Gauges

# -- snapshots -------------------------------------------------------------------------------------------------------


OF_ONE: tuple[Callable[..., Any], ...] = (
    processes.snapshot,
    processes.snapshot_tree,
    processes.tree_pids,
    processes.DeltaTracker,
    processes.CumulativeTracker,
    Gauges,
)
