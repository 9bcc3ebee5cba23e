"""The command `mark`."""

from __future__ import annotations

import pytest

from proctally.cli.main import main

# -- real jobs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["mark"], ["mark", " "], ["mark", "--begin", "--end", "x"], ["mark", "--no", "x"]]
)
def test_mistakes(capfd: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert not out and err.startswith("proctally: ") and err.count("\n") == 1
