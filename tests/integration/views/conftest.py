"""One Chromium for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from browsing import launched, limited


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests of a file: its start takes longer than most of them."""
    with launched() as browser:
        yield browser


@pytest.fixture
def limited_browser(browser: Any) -> Iterator[None]:
    """A limit of time for each test; `BROWSER_MARKS` asks for it."""
    with limited():
        yield
