"""Counts that only fall: words that plain English does without, loose types, long files.

The committed counts are exact, so that no change gives away what another one gained. After a fall, or a merge of two,
PROCTALLY_REFRESH_GOLDEN=1 writes the smaller count. A count that rises is never written: find other words, or a type.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from documented import REFRESH
from places import GOLDEN, ROOT, TESTS

COUNTS = GOLDEN / "ratchet.txt"
WORDS = Path(__file__).with_name("words.txt")  # a regular expression a line, and what to write instead
SEARCHED = ("src", "docs", "README.md", "CHANGELOG.md")
SOURCE = ROOT / "src"
LONG_MODULE = 600
LONG_TEST = 900
TABLE = SOURCE / "proctally" / "record" / "schema.py"  # one row a field


def patterns() -> list[re.Pattern[str]]:
    lines = WORDS.read_text(encoding="utf-8").splitlines()
    return [re.compile(line.partition("  # ")[0], re.I | re.M) for line in lines]


def texts() -> Iterator[Path]:
    for name in SEARCHED:
        path = ROOT / name
        files = path.rglob("*") if path.is_dir() else [path]
        yield from sorted(file for file in files if file.suffix in (".py", ".md", ".js"))


def joined(text: str) -> tuple[str, list[int]]:
    """Return the text with wrapped lines joined, and the offset at which each of its lines starts."""
    parts: list[str] = []
    starts: list[int] = []
    size = 0
    before = ""
    for line in map(str.strip, text.splitlines()):
        wraps = bool(line and before) and line.startswith("#") == before.startswith("#")
        parts.append(f" {line.lstrip('# ')}" if wraps else f"\n{line}")
        starts.append(size + 1)
        size += len(parts[-1])
        before = line
    return "".join(parts), starts


def lines_with_words() -> set[tuple[str, int]]:
    """Return file and number of each line that has one of the words."""
    found = set()
    wanted = patterns()
    for path in texts():
        text, starts = joined(path.read_text(encoding="utf-8"))
        for pattern in wanted:
            found |= {(str(path), bisect.bisect(starts, hit.start())) for hit in pattern.finditer(text)}
    return found


def code() -> str:
    """Return all of the source but its import lines."""
    lines = [line for path in SOURCE.rglob("*.py") for line in path.read_text(encoding="utf-8").splitlines()]
    return "\n".join(line for line in lines if not line.lstrip().startswith(("import ", "from ")))


def longer_than(limit: int, folder: Path) -> int:
    return sum(path != TABLE and len(path.read_bytes().splitlines()) > limit for path in folder.rglob("*.py"))


COUNTED = {
    "lines-with-words": lambda: len(lines_with_words()),
    "any": lambda: len(re.findall(r"\bAny\b", code())),
    "dict-of-any": lambda: code().count("dict[str, Any]"),
    "long-modules": lambda: longer_than(LONG_MODULE, SOURCE),
    "long-test-files": lambda: longer_than(LONG_TEST, TESTS),
}


def test_counts_only_fall() -> None:
    before = {name: int(count) for name, count in (line.split() for line in COUNTS.read_text().splitlines())}
    now = {name: count() for name, count in COUNTED.items()}
    if REFRESH:
        before = {name: min(count, before.get(name, count)) for name, count in now.items()}
        COUNTS.write_text("".join(f"{name}  {count}\n" for name, count in before.items()))
    assert now == before, "a count that fell is committed by PROCTALLY_REFRESH_GOLDEN=1; one that rose has to fall"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("It tells more.", [1]),
        ("no\nstrange\nwords", []),
        ("# It goes\n# on", [1]),
        ("It goes\n# on", []),
        ("told\n\ntold", [1, 3]),
    ],
)
def test_words_are_found_also_over_two_lines(text: str, lines: list[int]) -> None:
    found, starts = joined(text)
    assert [bisect.bisect(starts, hit.start()) for each in patterns() for hit in each.finditer(found)] == lines
