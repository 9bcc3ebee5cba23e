"""`diff` and `advise` of records in which anything may stand anywhere: null, text for a number, lists for objects."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from examples import examples
from made import admitted, gpu, lines
from proctally.analysis.advice import request_rows
from proctally.analysis.comparison import Diff, Side
from proctally.analysis.directives import SCHEDULERS, directives
from proctally.analysis.evidence import Evidence
from proctally.analysis.gates import gates
from proctally.record.catalogue import Past
from proctally.text.terminal import Look
from proctally.views import advise
from proctally.views.diff import as_json, as_markdown, as_text

RECORD = lines(
    cores=[1.0, 2.0, 0.5],
    gpus=[gpu(0, ratio=0.5, memory=5)],
    waiting={"throttled_seconds": 1.0, "periods": 10, "throttled_periods": 5},
    cgroup={"memory_pressure_seconds": 1.0, "cpu_pressure_seconds": 1.0},
    system={"cpus": 8, "mean_cores": 1.0},
)
strange = st.one_of(
    st.none(), st.booleans(), st.just([]), st.just({}), st.just([None]), st.text(max_size=3), st.just(-1), st.just(0),
    st.floats(allow_nan=True), st.integers(-(1 << 70), 1 << 70), st.just({"command": None}), st.just([{"command": []}]),
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where anything stands."""
    if isinstance(value, dict):
        return [found for key, each in value.items() for found in ((*path, key), *places(each, (*path, key)))]
    if isinstance(value, list):
        return [found for key, each in enumerate(value) for found in ((*path, key), *places(each, (*path, key)))]
    return []


# the type of a line, and the version, are what makes it a line of a record; and a moment is read by catalogue.py
PLACES = [path for path in places(RECORD) if len(path) > 1 and path[-1] not in ("type", "schema", "started_at")]


@example([((1, "tree", "pss_bytes"), 2.7e154)])  # its square is no number
@settings(deadline=None, max_examples=examples(200))
@given(st.lists(st.tuples(st.sampled_from(PLACES), strange), min_size=1, max_size=4))
def test_anything_may_stand_anywhere(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    made = copy.deepcopy(RECORD)
    for path, value in changes:
        where: Any = made
        try:
            for key in path[:-1]:
                where = where[key]
            where[path[-1]] = copy.deepcopy(value)
        except (KeyError, IndexError, TypeError):  # an earlier change has taken that place away
            continue
    made = admitted(*made)
    runs = [Evidence.of(made), Evidence.of(RECORD)]
    for name, text in directives(request_rows(runs), list(SCHEDULERS)).items():
        assert not re.search(r"nan|inf\b|=-|:-|: -|e\+", "".join(text)), (name, text)
    sides = [
        Side(title, "w", [Past("p", each[0], each[-1], 1, 0.0)]) for title, each in (("BASE", made), ("NEW", RECORD))
    ]
    found = Diff(*sides, gates("cpu=+10%,memory=+1MB,verdict"))
    assert as_text(found, verbose=True, colour=True) and as_markdown(found, verbose=True)
    for text in (as_json(found), advise.as_json(advise.Found(runs, []), list(SCHEDULERS))):
        json.loads(text, parse_constant=pytest.fail)
    assert advise.as_text(advise.Found(runs, []), ["slurm"], Look(colour=True))
    assert advise.as_markdown(advise.Found(runs, []), ["slurm"])
