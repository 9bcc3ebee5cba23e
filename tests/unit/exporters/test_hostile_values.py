"""Values that no tracker writes, in each place of each line: what is exported is without them, and else as ever."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")
pytest.importorskip("opentelemetry.proto", reason="the extra otlp is not installed")
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families as classic  # noqa: E402

from otlp_lines import MEMBER  # noqa: E402
from proctally.exporters import otlp  # noqa: E402
from proctally.exporters.latest import Latest  # noqa: E402
from proctally.exporters.otlp import request  # noqa: E402
from proctally.exporters.prometheus import OPENMETRICS, TEXT, Exposition  # noqa: E402
from prometheus_lines import ALL, SAMPLE, fed  # noqa: E402

SUMMARY = {
    "type": "summary", "ended_at": 1003.0, "wall_seconds": 2.5, "verdict": "ok", "exit_code": 0,
    "cpu": {"total_seconds": 2.0, "user_seconds": 1.0, "system_seconds": 0.5}, "tracker": {"samples": 3},
    "commands": [{"command": "a", "processes": 9, "cpu_seconds": 1.0}], "memory": {"peak_process_rss_bytes": 5},
    "processes": {"started": 9, "left": 1}, "io": {"read_bytes": 4},
}  # fmt: skip
Lines = tuple[dict[str, Any], ...]
LINES = (*ALL, {"type": "members", "processes": [MEMBER | {"pid": 7}]})
HOSTILE = (float("nan"), 2**64, "\ud800\x1b[31m\n\u202e", [], -float("inf"), 10**400, {"a": None}, -1, [None], True)
MOST_LOST = 12  # the families of a GPU


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in pairs:
        yield (*path, key)
        yield from places(each, (*path, key))


def changed() -> Iterator[tuple[str, Lines, Lines]]:
    """Where a value was changed, the lines before, and after."""
    values = itertools.cycle(HOSTILE)
    for lines in (LINES, (*ALL, SUMMARY)):
        for number, line in enumerate(lines):
            for path in places({key: value for key, value in line.items() if key != "type"}):
                for value in itertools.islice(values, 1):
                    new = copy.deepcopy(line)
                    holder: Any = new
                    for key in path[:-1]:
                        holder = holder[key]
                    holder[path[-1]] = value
                    yield f"{line['type']} {path} {value!r:.30}", lines, (*lines[:number], new, *lines[number + 1 :])


def test_hostile_value_costs_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "MACHINE_IDS", ())
    cases = 0
    for what, before, lines in changed():
        cases += 1
        latest = Latest()
        for line in lines:
            try:
                latest.feed(line)
            except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
                pass  # as the exporter does: the line costs itself
        text = Exposition(latest).text(TEXT)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text.decode()), what
        found = len(list(strict(Exposition(latest).text(OPENMETRICS).decode())))
        assert len(list(classic(text.decode()))) >= found, what
        expected = fed(*before)
        assert found >= len(Exposition(expected).collect()) - MOST_LOST, what
        assert request(latest, {})[1] > request(expected, {})[1] / 2, what
    assert cases > 200


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 2**64, 1 << 1100])
def test_hostile_value_has_passed_next_one_is_exported(bad: float) -> None:
    names = {"rss_bytes": bad, "pss_bytes": bad, "memory_low_bytes": bad, "memory_high_bytes": bad}
    system = {"cpu_user_seconds": bad, "network": {"received_bytes": bad}}
    good = {"cpu_user_seconds": 3.0, "network": {"received_bytes": 4}}
    latest = fed(SAMPLE | {"tree": names, "system": system})
    latest.feed(SAMPLE | {"tree": dict.fromkeys(names, 5), "system": good})
    assert (latest.peak_rss, latest.peak_pss, latest.peak_low, latest.peak_high) == (5, 5, 5, 5)
    assert latest.value("system.cpu_user_seconds") == 3.0
    assert latest.value("system.network.received_bytes") == 4
