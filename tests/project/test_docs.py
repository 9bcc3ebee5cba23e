"""The documents say what the code does: tables that are generated from it, and the options that the README names.

With PROCTALLY_REFRESH_GOLDEN=1 the generated ones are written anew.
"""

import os

from places import ROOT
from proctally.analysis.measures import FIGURES
from proctally.cli.options import TABLE, specs
from proctally.tracking.config import NOT_PASSED_ON

DECIDE = ROOT / "docs" / "decide.md"
REFRESH = os.environ.get("PROCTALLY_REFRESH_GOLDEN") == "1"


def figures() -> str:
    """The table of figures, as docs/decide.md has it between two comments."""
    rows = [f"| `{each.name}` | {each.unit} | {each.better} | {each.help} |" for each in FIGURES]
    return "\n".join(["", "| figure | unit | better | meaning |", "|---|---|---|---|", *rows, ""])


def test_figures_are_the_table() -> None:
    before, begin, rest = DECIDE.read_text(encoding="utf-8").partition(
        "<!-- figures: written by tests/project/test_docs.py -->\n"
    )
    found, end, after = rest.partition("\n<!-- end of figures -->")
    assert begin and end
    if REFRESH:
        DECIDE.write_text(before + begin + figures() + end + after, encoding="utf-8")
        found = figures()
    assert found == figures()


def test_readme_names_every_option() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [
        spec.name
        for command in ("run", "attach", "system", "serve", "export", "diff", "advise", "report")
        for spec in specs(command)
        if f"--{spec.name}" not in readme
    ]
    assert missing == []


def test_what_is_not_passed_on_is_an_option() -> None:
    names = {row[1].replace("-", "_").upper() for row in TABLE}
    assert set(NOT_PASSED_ON) <= names
