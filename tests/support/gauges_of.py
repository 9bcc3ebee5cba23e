"""Gauges of one process."""

from __future__ import annotations

from proctally import gauges
from proctally.gauges import ProcessGauges


def only(sample: gauges.TreeGauges) -> ProcessGauges:
    (found,) = sample.members.values()
    return found
