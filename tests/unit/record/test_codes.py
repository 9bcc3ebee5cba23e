"""Codes of errors."""

from __future__ import annotations

import errno

import pytest

from proctally.errors import AccessDenied, ProcessGone
from proctally.record import codes


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.EIO, "Input/output error"), "EIO"),
        (ProcessGone(errno.ESRCH, "No such process"), "ESRCH"),
        (AccessDenied(errno.EACCES, "Permission denied", "/proc/1/io"), "EACCES"),
        (OSError(0, "no interpreter is known"), "invalid"),
        (OSError("no number"), "invalid"),
        (ValueError("stat: b'x'"), "invalid"),
        (UnicodeDecodeError("ascii", b"\xff", 0, 1, "no text"), "invalid"),
        (KeyError(5), "invalid"),
        (ProcessGone(), "invalid"),
    ],
)
def test_of_error(error: Exception, code: str) -> None:
    assert codes.of_error(error) == code


def test_nvml_code() -> None:
    assert codes.nvml_code(15) == "nvml_15"


@pytest.mark.parametrize("group", [codes.GAPS, codes.REASONS, codes.MISSING, codes.SECTIONS])
def test_each_code_stands_once(group: tuple[str, ...]) -> None:
    assert len(group) == len(set(group))
