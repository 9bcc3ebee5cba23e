"""Trees of a fake host for the tests of the ledger. A file with another `job` has a fixture of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger_job import Job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    job = Job(tmp_path)
    job.start()
    return job


@pytest.fixture
def attached(tmp_path: Path) -> Job:
    return Job(tmp_path, attached=True)
