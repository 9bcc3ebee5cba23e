"""The documents say what the code does: tables that are generated from it, and the options that the README names.

With PROCTALLY_REFRESH_GOLDEN=1 the generated ones are written anew.
"""

import os
from pathlib import Path

from proctally.figures import FIGURES
from proctally.model import CSV, SOURCES, fields
from proctally.options import NOT_PASSED_ON, TABLE, specs
from proctally.outputs.csv import COLUMNS

ROOT = Path(__file__).resolve().parent.parent
FIELDS = ROOT / "docs" / "fields.md"
DECIDE = ROOT / "docs" / "decide.md"
REFRESH = os.environ.get("PROCTALLY_REFRESH_GOLDEN") == "1"

INTRODUCTION = """\
# Fields of a record

Generated from the table in `src/proctally/model.py`; `proctally fields` prints the same. Units are those of UCUM as
OpenTelemetry writes them: `s` seconds, `By` bytes, `1` a count or a ratio. What is not known is null.
"""


def markdown() -> str:
    lines = [INTRODUCTION]
    scope = None
    for field in fields():
        if field.scope != scope:
            scope = field.scope
            lines += [
                f"## {scope}",
                "",
                "| field | unit | kind | meaning | source | CSV |",
                "|---|---|---|---|---|---|",
            ]
        elif lines[-1] == "":
            lines.pop()
        lines += [f"| `{field.name}` | {field.unit} | {field.kind} | {field.help} | {field.source} | {field.csv} |", ""]
    return "\n".join(lines)


def test_fields_document_is_the_table() -> None:
    if REFRESH:
        FIELDS.parent.mkdir(exist_ok=True)
        FIELDS.write_text(markdown(), encoding="utf-8")
    assert FIELDS.read_text(encoding="utf-8") == markdown()


def figures() -> str:
    """The table of figures, as docs/decide.md has it between two comments."""
    rows = [f"| `{each.name}` | {each.unit} | {each.better} | {each.help} |" for each in FIGURES]
    return "\n".join(["", "| figure | unit | better | meaning |", "|---|---|---|---|", *rows, ""])


def test_figures_are_the_table() -> None:
    before, begin, rest = DECIDE.read_text(encoding="utf-8").partition(
        "<!-- figures: written by tests/test_docs.py -->\n"
    )
    found, end, after = rest.partition("\n<!-- end of figures -->")
    assert begin and end
    if REFRESH:
        DECIDE.write_text(before + begin + figures() + end + after, encoding="utf-8")
        found = figures()
    assert found == figures()


def test_every_column_of_the_table_is_made_of_a_field() -> None:
    made = [column for field in fields() for column in field.csv.split(", ") if column]
    assert sorted(made) == sorted(name for name, _ in COLUMNS)


def test_sources_are_those_of_fields() -> None:
    known = {field.scope for field in fields()} | {f"{field.scope}.{field.name}" for field in fields()}
    assert set(SOURCES) <= known
    assert set(CSV) <= known


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
