"""Where the files of this repository are that tests read."""

from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
TESTS = SUPPORT.parent
GOLDEN = TESTS / "golden"
DATA = TESTS / "data"
ROOT = TESTS.parent
DOCS = ROOT / "docs"
