"""Where the files of this repository are that tests read, and where they keep many small ones."""

import os
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
TESTS = SUPPORT.parent
GOLDEN = TESTS / "golden"
DATA = TESTS / "data"
ROOT = TESTS.parent
DOCS = ROOT / "docs"
# None: where every temporary file is
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
