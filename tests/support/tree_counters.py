"""Counters that a sample of `Tree` counts since its first one."""

from __future__ import annotations

from proctally.library import tree as library_tree

COUNTED = set(library_tree.COUNTERS) - {"throttled_seconds"}  # that is of a cgroup: a Tree reads none
