"""A machine that lacks files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from captured import machine_in
from proctally import system


def test_what_a_machine_does_not_have_is_none(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    found = system.stats(machine=machine)
    expected: dict[str, Any] = dict.fromkeys(found._fields)
    assert found._replace(at=0.0, processes=0)._asdict() == {**expected, "at": 0.0, "processes": 0}
    assert system.sector_sizes(machine=machine) == {}
    with pytest.raises(OSError, match="mountinfo"):
        system.disk_spaces(machine=machine)
