"""Records with hostile names, and with values of any type in any place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import strategies as st

import made
from made import gap
from proctally.views.report.run_facts import Facts
from proctally.views.report.series import collect

HOSTILE = "<script>alert(1)</script>\x1b[31m`|*@someone"


def facts(path: Path) -> Facts:
    return Facts(collect(str(path)))


# -- forms -----------------------------------------------------------------------------------------------------------


def hostile(path: Path) -> Path:
    end = made.summary(commands=[{"command": HOSTILE, "processes": 1, "cpu_seconds": 1.0}])
    end["verdict"] = HOSTILE
    end["reason"] |= {"code": "block_ended", "exception": HOSTILE}
    end["gaps"] = [gap("cpu", HOSTILE), gap(HOSTILE, "setuid")]
    end["cpu"]["unavailable"] = {HOSTILE: HOSTILE}
    lines = [
        made.process(5, 1, 4, 2.0, command=HOSTILE),
        made.phase(HOSTILE, "begin", 1),
        made.phase(HOSTILE, "end", 4),
    ]
    part = {"pid": 7, "command": HOSTILE, "low_bytes": 1, "high_bytes": 1, "kind": HOSTILE}
    end["memory"] |= made.bounded_summary(100, 200)["memory"] | {"at_peak": [part]}
    samples = [made.sample(float(n), made.bounds(100, 200)) for n in range(11)]
    begun = made.run(run_id=HOSTILE[::-1], name=HOSTILE, command=[HOSTILE], tags={HOSTILE: HOSTILE}, user=HOSTILE)
    host = {"type": "host", "hostname": HOSTILE, "gpus": [{"name": HOSTILE}], "unavailable": {HOSTILE: HOSTILE}}
    return made.written(path, begun, host, *samples, *lines, end)


# -- records that are not as they should be --------------------------------------------------------------------------


LINES = [
    made.run(), {"type": "host", "hostname": "h", "cpus_online": 4, "memory_bytes": 1 << 30, "gpus": [], "cloud": {}},
    made.sample(0.0), made.sample(1.0, made.bounds(100, 200), gpus=[{"index": 0, "utilization_ratio": 0.5}]),
    made.process(3, 0.5, 1.0, 0.1),
    made.phase("a", "begin", 0.5, 0.0), made.phase("a", "end", 1.5, 1.0), made.sample(2.0),
    made.bounded_summary(100, 200, 2.0),
]  # fmt: skip
STRANGE = st.sampled_from([None, "x", "", -1, 0, 10**400, 1e308, True, [], {}, [None], {"a": None}, "\ud800", HOSTILE])


def spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where anything stands in a value, the type of a line and what says that it is a record left out."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [
        spot for key, part in inner if key not in ("type", "schema") for spot in spots(part, (*path, key))
    ]


SPOTS = [(number, *spot) for number, line in enumerate(LINES) for spot in spots(line)]


@st.composite
def strange_records(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The lines of a record in which a few values are something else, or missing."""
    lines: list[dict[str, Any]] = json.loads(json.dumps(LINES))
    for number, *path, last in draw(st.lists(st.sampled_from(SPOTS), min_size=1, max_size=6)):
        place: Any = lines[number]
        for step in path:
            if not isinstance(place, dict | list) or step not in (
                place if isinstance(place, dict) else range(len(place))
            ):
                break  # another change took it away
            place = place[step]
        else:
            if isinstance(place, dict) and draw(st.integers(0, 4)) == 0:
                place.pop(last, None)
            elif isinstance(place, dict) or isinstance(place, list) and isinstance(last, int) and last < len(place):
                place[last] = draw(STRANGE)
    return lines


@contextmanager
def told(lines: list[dict[str, Any]]) -> Iterator[Facts]:
    with TemporaryDirectory() as folder:
        yield facts(made.written(Path(folder, "a.jsonl"), *lines))
