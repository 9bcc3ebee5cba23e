"""Modules that a run needs only later, loaded beforehand: an upgrade of the package during a job takes them away.

They are loaded one at a time while the job runs, so that neither its start nor its end waits for them.
"""

from __future__ import annotations

from sys import modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# What others import comes before them, which keeps each step short. A test finds what is missing here.
MODULES = (
    "select", "fcntl", "pwd", "resource", "proctally.linux.threads", "proctally.linux.arm_cores",
    "proctally.tree.kills", "proctally.tree.time", "collections", "functools", "proctally.tree.time_source",
    "proctally.tree.time_scan", "proctally.tree.memory", "proctally.tree.memory_scan", "proctally.tree.summary",
    "proctally.tree.bounds", "proctally.tree.hidden", "proctally.tree.outer_parent", "proctally.tree.phase_peaks",
    "proctally.tracking.phases", "proctally.tracking.helpers", "proctally.text.units", "proctally.text.words",
    "proctally.record.values", "proctally.analysis.memory", "proctally.analysis.time", "proctally.text.cells",
    "proctally.views.summary", "proctally.tracking.neighbours", "proctally.host.neighbours", "proctally.linux.users",
)  # fmt: skip
OF_SUMMARY = (
    "enum", "re", "signal", "unicodedata", "json", "proctally.views.summary_page",
    "proctally.views.details", "proctally.analysis.waits", "proctally.analysis.others", "proctally.record.reader",
    "proctally.analysis.evidence", "proctally.analysis.advice", "proctally.views.request",
)  # fmt: skip


def load(*, quiet: bool) -> Iterator[None]:
    """Load one of those that are missing at each step. `quiet`: whether no summary is printed at the end."""
    for name in MODULES if quiet else MODULES + OF_SUMMARY:
        if name not in modules:
            try:
                __import__(name)
            except Exception:  # what needs it reports that
                pass
            yield
