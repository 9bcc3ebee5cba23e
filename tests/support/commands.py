"""The command, run for its result."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

CANNOT_RUN = 125
ENDS_WITHIN_SECONDS = 30


def proctally(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proctally", *arguments]
    return subprocess.run(command, **({"capture_output": True, "text": True, "timeout": ENDS_WITHIN_SECONDS} | options))
