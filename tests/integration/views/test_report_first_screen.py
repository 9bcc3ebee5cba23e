"""The first screen of a report: its looks as committed, its size, and what axe-core finds.

With PROCTALLY_REFRESH_GOLDEN=1 the committed images are written; look at each before it is committed.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from browsing import BROWSER_MARKS
from documented import REFRESH
from places import GOLDEN

pytest.importorskip("bokeh", reason="the extra report is not installed")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from PIL import Image, ImageChops  # noqa: E402

from proctally.views.report.page import page  # noqa: E402
from proctally.views.report.series import collect  # noqa: E402

pytestmark = BROWSER_MARKS
KINDS = ("ok", "build", "starved", "quota", "oom", "oom_child", "asleep", "attach")
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
LEAST = 8  # an image is compared in blocks of so many pixels: fonts differ a little between machines
DIFFERENT, MOST_DIFFERENT = 48, 0.02  # grey levels of a block, and the share of blocks that may differ by more
FIRST_SCREEN = 700  # pixels from the top, in which time, memory and request of an ordinary job are
BOTTOM = "document.querySelector('#request').parentElement.getBoundingClientRect().bottom"
# by axe: what is wrong, and what it cannot decide
AXE = "axe.run().then((found) => [...found.violations, ...found.incomplete].map((one) =>"
AXE += " [one.id, ...one.nodes.map((node) => node.html.slice(0, 200))]))"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A page of each kind of job, and one of two; times are of UTC."""
    folder = tmp_path_factory.mktemp("pages")
    records = {name: collect(str(GOLDEN / "summary" / f"{name}.jsonl")) for name in KINDS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        found = {name: page([story]) for name, story in records.items()}
        found["two"] = page([records["build"], records["starved"]], 1)
    time.tzset()
    for name, text in found.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    yield {name: folder / f"{name}.html" for name in found}


@contextmanager
def shown(browser: Any, path: Path, **options: Any) -> Iterator[Any]:
    context = browser.new_context(**options)
    try:
        tab = context.new_page()
        tab.goto(path.as_uri())
        yield tab
    finally:
        context.close()


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return the share of blocks that differ."""
    size = (max(1, one.width // LEAST), max(1, one.height // LEAST))
    small = [image.convert("L").resize(size, Image.Resampling.BOX) for image in (one, other)]
    counts = ImageChops.difference(*small).histogram()
    return sum(counts[DIFFERENT:]) / sum(counts)


@pytest.mark.parametrize("name", KINDS)
def test_first_screen_looks_as_committed(browser: Any, pages: dict[str, Path], name: str) -> None:
    with shown(browser, pages[name], viewport={"width": 1100, "height": 900}, java_script_enabled=False) as tab:
        end = tab.locator(".over-time").bounding_box()["y"]
        data = tab.screenshot(clip={"x": 0, "y": 0, "width": 1100, "height": end}, full_page=True)
    image = Image.open(io.BytesIO(data)).convert("RGB")
    golden = GOLDEN / "report" / f"{name}.png"
    if REFRESH:
        image.quantize(48, dither=Image.Dither.NONE).save(golden, optimize=True)
    committed = Image.open(golden).convert("RGB")
    assert abs(image.height - committed.height) <= 0.1 * committed.height
    assert difference(image.resize(committed.size), committed) <= MOST_DIFFERENT


@pytest.mark.parametrize("name", ["ok", "build", "asleep"])
def test_time_memory_and_request_are_in_the_first_screen(browser: Any, pages: dict[str, Path], name: str) -> None:
    with shown(browser, pages[name], viewport=DESK) as tab:
        assert tab.evaluate(BOTTOM) <= FIRST_SCREEN


def test_page_of_a_build_is_short(browser: Any, pages: dict[str, Path]) -> None:
    with shown(browser, pages["build"], viewport=DESK) as tab:
        tab.wait_for_function("document.documentElement.dataset.ready", timeout=30_000)
        assert tab.evaluate("document.documentElement.scrollHeight") <= 2600


@pytest.mark.parametrize("name", [*KINDS, "two"])
def test_axe_finds_nothing(browser: Any, pages: dict[str, Path], name: str) -> None:
    axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    script = resources.files(axe).joinpath("axe.min.js").read_text(encoding="utf-8")
    for size in (DESK, PHONE):
        with shown(browser, pages[name], viewport=size) as tab:
            tab.evaluate(script)
            for scheme in ("light", "dark"):
                tab.emulate_media(color_scheme=scheme)
                assert tab.evaluate(AXE) == [], (size, scheme)
            assert tab.evaluate("document.documentElement.scrollWidth") <= size["width"]
