"""The command `report`, without a process."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings

import made
from examples import examples
from proctally.cli.commands.report import as_json
from proctally.views.report.markdown import markdown
from proctally.views.report.text import text
from strange_lines import strange_records, told

# -- forms -----------------------------------------------------------------------------------------------------------


# -- records that are not as they should be --------------------------------------------------------------------------


@settings(deadline=None, max_examples=examples(150))
@given(strange_records())
def test_anything_may_stand_in_a_record(lines: list[dict[str, Any]]) -> None:
    with told(lines) as one:
        assert text([one], blocks=False).isascii()
        text([one, one], blocks=True).encode()
        markdown([one]).encode()
        markdown([one, one]).encode()
        json.dumps(as_json(one), allow_nan=False)


def test_json_of_a_record_with_numbers_that_are_not_finite() -> None:
    begun = made.run(limits={"cpu_cores": float("inf")})
    with told([begun, made.sample(0.0), made.summary(1.0)]) as one:
        assert json.loads(json.dumps(as_json(one), allow_nan=False))["run"]["limits"] == {"cpu_cores": None}
