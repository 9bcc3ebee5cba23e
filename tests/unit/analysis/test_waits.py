"""Shares of the time in which a run had no CPU."""

from __future__ import annotations

from proctally.analysis.waits import ready_share, throttled_share


def test_ready_share_of_no_time_is_zero() -> None:
    assert (ready_share(0.0, 0.0), ready_share(1.0, 3.0)) == (0.0, 0.25)


def test_throttled_share_is_of_periods_where_known() -> None:
    assert throttled_share(9.0, 10.0, 2, 8) == 0.25
    assert throttled_share(9.0, 10.0, None, 8) == 0.9
    assert throttled_share(90.0, 10.0, 1, None) == 1.0  # summed over CPUs
    assert throttled_share(9.0, None, None, None) == 0.0
