"""A headless Chromium, driven through Playwright."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psutil
import pytest

CHROMIUM = shutil.which("chromium")
LIMIT_SECONDS = 60
# A call into the driver that hangs swallows the exception of a signal. So `limited` kills the driver. If that does not
# help, the thread of pytest-timeout ends the whole session.
BROWSER_MARKS = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.timeout(180, method="thread"),
    pytest.mark.usefixtures("limited_browser"),
]


@contextmanager
def limited() -> Iterator[None]:
    """Kill the driver and the browser at the limit: each call into them then raises."""
    late = threading.Event()

    def kill() -> None:
        late.set()
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    timer = threading.Timer(LIMIT_SECONDS, kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if late.is_set():
            pytest.fail(f"the browser took more than {LIMIT_SECONDS} s and was killed")


@contextmanager
def launched() -> Iterator[Any]:
    """A browser, until the block ends."""
    from playwright.sync_api import sync_playwright

    with ExitStack() as stack:
        with limited():
            playwright = stack.enter_context(sync_playwright())
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        with limited():
            browser.close()
