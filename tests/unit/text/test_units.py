"""Numbers with units."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from made import GIB
from proctally.text.units import brief, cores, cpu_time, duration, number, percentage, short_time, size, with_unit

# -- the views -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "s", "0 s"), (0.0123, "s", "0.012 s"), (99.5, "s", "99.50 s"), (599, "s", "599 s"), (660, "s", "11 min"),
        (7300, "s", "2.028 h"), (864000, "s", "10 days"), (1023, "By", "1,023 B"), (1 << 20, "By", "1 MiB"),
        (1.5 * GIB, "By", "1.500 GiB"), (3.25, "1", "3.250"), (12345, "1", "12,345"),
    ],
)  # fmt: skip
def test_quantities(value: float, unit: str, text: str) -> None:
    assert with_unit(value, unit) == text


def test_numbers_beside_each_other_have_the_same_digits() -> None:
    assert number(1.0, 1.05) == "1.000" and number(1.0, 2.0) == "1"


def test_one_core_is_singular() -> None:
    assert [cores(1), cores(0.5), cores(2.0), cores(1, "CPU")] == ["1 core", "0.5 cores", "2 cores", "1 CPU"]


@pytest.mark.parametrize(
    "shown",
    [
        percentage(-0.0), percentage(-1e-5), number(-0.0), number(-1e-5), size(-0.1), duration(-0.0), short_time(-0.0),
        cpu_time(-0.0),
    ],
)  # fmt: skip
def test_zero_has_no_sign(shown: str) -> None:
    assert not re.match(r"-0(\.0+)?\b", shown)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown"), (0, "0.000 s"), (0.0421, "0.042 s"), (0.2, "0.2 s"), (6.24, "6.2 s"), (59.94, "59.9 s"),
        (59.96, "1 min 00 s"), (104, "1 min 44 s"), (7504, "2 h 05 min 04 s"),
    ],
)  # fmt: skip
def test_brief_duration_has_few_digits(seconds: float | None, text: str) -> None:
    assert brief(seconds) == text


patient = settings(deadline=None)


# -- units -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (None, "unknown"),
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (99 * 1024, "99.0 KiB"),
        (102_348, "99.9 KiB"),
        (102_349, "100 KiB"),
        (1023 * 1024, "1.0 MiB"),
        (999 * 1024, "999 KiB"),
        (1 << 20, "1.0 MiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (1 << 30, "1.0 GiB"),
        ((1 << 30) - 1, "1.0 GiB"),
        (1 << 40, "1.0 TiB"),
        (5000 << 40, "5000 TiB"),
        (1 << 60, "1048576 TiB"),
    ],
)
def test_size(count: int | None, said: str) -> None:
    assert size(count) == said


UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


@patient
@given(st.integers(0, 1 << 50))
def test_size_is_near(count: int) -> None:
    number, unit = size(count).split()
    assert abs(float(number) * UNITS[unit] - count) <= max(0.05 * UNITS[unit], 0.005 * count) * 1.001
    assert len(size(count)) <= len("1023 KiB")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.000 s"),
        (0.0004, "0.000 s"),
        (0.0123, "0.012 s"),
        (9.5, "9.500 s"),
        (10, "10.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 00.0 s"),
        (61.25, "1 min 01.2 s"),
        (119.94, "1 min 59.9 s"),
        (119.97, "2 min 00.0 s"),
        (3599.9, "59 min 59.9 s"),
        (3599.97, "1 h 00 min 00 s"),
        (3600, "1 h 00 min 00 s"),
        (7199.7, "2 h 00 min 00 s"),
        (86400, "24 h 00 min 00 s"),
        (360_061, "100 h 01 min 01 s"),
    ],
)
def test_duration(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@patient
@given(st.floats(0, 1e6))
@example(119.97)
@example(59.97)
def test_duration_is_near_and_carries(seconds: float) -> None:
    said = duration(seconds)
    parts: dict[str, float] = {unit: float(number) for number, unit in re.findall(r"([\d.]+) (h|min|s)", said)}
    total = parts.get("h", 0) * 3600 + parts.get("min", 0) * 60 + parts["s"]
    assert abs(total - seconds) <= (0.51 if "h" in parts else 0.051 if seconds >= 9.9995 else 0.00051)
    assert parts["s"] < 60 or parts.keys() == {"s"}, said
    assert parts.get("min", 0) < 60, said
