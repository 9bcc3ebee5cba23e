"""Who writes a record, found in `/proc`."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from proctally.errors import NoRecord
from proctally.views.top.followed import Followed
from scenes import Written

# -- a record --------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path / "r.jsonl")


def test_a_record_that_nobody_writes_is_named(written: Written) -> None:
    written.leave()
    os.utime(written.path, (time.time() - 60, time.time() - 60))
    with pytest.raises(NoRecord, match="nothing was written for 1 min"):
        Followed(str(written.path), "last")
