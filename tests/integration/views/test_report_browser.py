"""The page of a report in a real browser: headless Chromium, driven through Playwright."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import made
from browsing import BROWSER_MARKS

pytest.importorskip("bokeh", reason="the extra report is not installed")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from proctally.views.report.page import page  # noqa: E402
from proctally.views.report.series import collect  # noqa: E402

pytestmark = BROWSER_MARKS
HOSTILE = "<script>alert(1)</script>"
READY = "document.documentElement.dataset.ready"
PATIENCE_MS = 30_000
FOCUSED = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"
FRAME = 0.06, 0.99  # where in the place of a chart its time begins and ends, about


def changing(second: int) -> dict[str, Any]:
    """Return a tree in which all that a chart shows changes, and whose parts are unknown from 60 to 79 s."""
    time = {f"{part}_seconds": 0.0 for part in ("throttled", "disk", "asleep")}
    time |= {"running_seconds": second - 0.25 * min(second, 30), "ready_seconds": 0.25 * min(second, 30)}
    memory = made.bounds((100 + second) * made.MIB, (110 + second) * made.MIB)
    return memory | {
        "cpu_cores": 3.0 if second == 50 else 1.0, "processes": 2 + second % 3, "write_bytes": second**2 * made.MIB,
        "run_delay_seconds": 0.0, "time": time if not 60 <= second < 80 else None,
    }  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run with phases, processes and hostile names; two runs laid over each other; a long one that is thinned."""
    folder = tmp_path_factory.mktemp("pages")
    samples = [made.sample(float(n), changing(n)) for n in range(101)]
    for number, line in enumerate(samples):
        line["system"]["network"]["received_bytes"] = 1000 * number**2
        line["gpus"] = [
            {"index": 0, "name": HOSTILE, "utilization_ratio": 0.5 + number / 1000},
            {"index": 1, "name": "B", "utilization_ratio": 0.1},
        ]
    lines = [
        made.process(1, 0, 100, 50.0, command=HOSTILE), made.process(2, 10, 60, 45.0, command="worker"),
        made.phase(HOSTILE, "begin", 5, 1.0), made.phase(HOSTILE, "end", 60, 50.0),
    ]  # fmt: skip
    end = made.summary(100.0, commands=[{"command": HOSTILE, "processes": 3, "cpu_seconds": 9.0}])
    one = made.written(folder / "one.jsonl", made.run(name=HOSTILE, command=[HOSTILE]), *samples, *lines, end)
    other = made.whole(folder / "other.jsonl", seconds=40)
    long = made.written(
        folder / "long.jsonl",
        made.run(name="long"),
        *(made.sample(float(n), {"cpu_cores": 9.0 if n == 7777 else 0.5}) for n in range(12_000)),
    )
    found = {}
    for name, paths in (("one", [one]), ("two", [one, other]), ("long", [long])):
        found[name] = folder / f"{name}.html"
        found[name].write_text(page([collect(str(path)) for path in paths]), encoding="utf-8")
    return found


@contextmanager
def shown(browser: Any, path: Path, **options: Any) -> Iterator[Any]:
    """The page when its charts are drawn; whatever it complains of, or asks the network for, fails the test."""
    context = browser.new_context(**({"viewport": {"width": 1200, "height": 900}} | options))
    tab = context.new_page()
    trouble: list[str] = []
    tab.on("console", lambda message: message.type in ("error", "warning") and trouble.append(message.text))
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
    tab.on("request", lambda request: request.url == path.as_uri() or trouble.append(request.url))
    try:
        tab.goto(path.as_uri())
        tab.wait_for_function(READY, timeout=PATIENCE_MS)
        yield tab
        tab.wait_for_timeout(50)
        assert trouble == []
    finally:
        context.close()


def over(tab: Any, chart: str, share: float, *, drag_to: float | None = None, down: float | None = None) -> None:
    """Point at a share of a chart's time, and maybe drag from there to another."""
    place = tab.locator(f"#chart-{chart}")
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    height = box["y"] + (box["height"] / 2 if down is None else down)

    def x(at: float) -> float:
        return box["x"] + box["width"] * (FRAME[0] + at * (FRAME[1] - FRAME[0]))

    tab.mouse.move(x(share) - 3, height)
    tab.mouse.move(x(share), height)
    if drag_to is not None:
        tab.mouse.down()
        tab.mouse.move(x(drag_to), height, steps=4)
        tab.mouse.up()


def wait(tab: Any, condition: str) -> None:
    tab.wait_for_function(condition, timeout=PATIENCE_MS)


def in_sight(tab: Any) -> list[list[float]]:
    """Begin and end of the time axis of every chart, in seconds."""
    code = "Bokeh.documents[0].roots().map((plot) => [plot.x_range.start / 1000, plot.x_range.end / 1000])"
    return list(tab.evaluate(code))


def test_every_chart_is_drawn(browser: Any, pages: dict[str, Path]) -> None:
    with shown(browser, pages["one"]) as tab:
        assert tab.locator("h1").inner_text().split("\n") == [HOSTILE, "ok"]
        names = tab.evaluate("Bokeh.documents[0].roots().map((plot) => plot.name)")
        assert {"phases", "timeline", "cpu", "memory", "disk", "gpu", "processes", "network"} <= set(names)
        assert len(names) == tab.locator(".drawing").count()
        assert not tab.locator("#chart-network").is_visible()
        tab.get_by_text("Charts of the machine").click()
        tab.wait_for_function("document.querySelector('#chart-network').clientHeight > 100", timeout=PATIENCE_MS)
        tab.wait_for_timeout(200)
        for name in names:
            # something of what is drawn is not transparent
            inked = tab.evaluate(
                """(name) => {
                    const plot = Bokeh.documents[0].roots().find((one) => one.name === name);
                    const canvas = Bokeh.index.get_by_id(plot.id).export("png", false).canvas;
                    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
                    return pixels.some((value, index) => index % 4 === 3 && value > 0);
                }""",
                name,
            )
            assert inked, name


def test_pointing_shows_values_of_all_charts(browser: Any, pages: dict[str, Path]) -> None:
    with shown(browser, pages["one"]) as tab:
        assert tab.locator(".now").first.inner_text() == ""
        assert not tab.locator(".cursor").is_visible()
        over(tab, "memory", 0.3)
        wait(tab, "document.querySelector('[data-column=\"tree.cpu_cores\"]').textContent === '1'")
        assert tab.locator("#at").inner_text().startswith(("29.", "30.", "31."))
        held = tab.locator('[data-column="tree.memory_high_bytes"]').inner_text()
        assert held in ("129 to 139 MiB", "130 to 140 MiB", "131 to 141 MiB")
        assert tab.locator('[data-column="tree.swap_bytes"]').count() == 0
        cursor, chart = tab.locator(".cursor").bounding_box(), tab.locator("#chart-memory").bounding_box()
        share = (cursor["x"] - chart["x"]) / chart["width"]
        assert share == pytest.approx(FRAME[0] + 0.3 * (FRAME[1] - FRAME[0]), abs=0.01)
        over(tab, "timeline", 0.3, down=12)
        wait(tab, "document.querySelector('#bar-timeline').textContent.includes('pid 1: ')")
        tools = "Bokeh.documents[0].roots().flatMap((plot) => plot.toolbar.tools.map((tool) => tool.type))"
        assert set(tab.evaluate(tools)) == {"BoxZoomTool", "WheelZoomTool"}


def test_arrow_keys_move_the_cursor_by_a_sample(browser: Any, pages: dict[str, Path]) -> None:
    with shown(browser, pages["one"]) as tab:
        slider = tab.locator("#cursor")
        slider.focus()
        tab.keyboard.press("End")
        assert tab.locator("#at").inner_text().startswith("1:40.0")
        assert tab.locator('[data-column="tree.cpu_cores"]').inner_text() == "1"
        tab.keyboard.press("ArrowLeft")
        assert tab.locator("#at").inner_text().startswith("1:39.0")
        tab.keyboard.press("Home")
        assert tab.locator('[data-column="tree.write_bytes"]').inner_text() == "unknown"  # a rate has no first value
        tab.keyboard.press("ArrowRight")
        assert tab.locator("#bar-timeline").inner_text() == HOSTILE
        assert slider.get_attribute("aria-valuetext").startswith("1.0")


def test_part_of_the_time_is_a_gap_where_unknown(browser: Any, pages: dict[str, Path]) -> None:
    with shown(browser, pages["one"]) as tab:
        over(tab, "parts", 0.2)
        wait(tab, "document.querySelector('[data-column=\"tree.time.ready_seconds\"]').textContent === '25 %'")
        inked = """(share) => {
            const plot = Bokeh.index.get_by_id(Bokeh.documents[0].roots().find((one) => one.name === "parts").id);
            const box = plot.frame.bbox, canvas = plot.export("png", false).canvas;
            const scale = canvas.width / plot.bbox.width;
            const place = [(box.left + share * box.width) * scale, (box.top + 0.6 * box.height) * scale, 1, 1];
            return canvas.getContext("2d").getImageData(...place).data[3] > 100;
        }"""
        assert [tab.evaluate(inked, share) for share in (0.3, 0.72, 0.9)] == [True, False, True]


def test_a_drag_zooms_every_chart(browser: Any, pages: dict[str, Path]) -> None:
    with shown(browser, pages["one"]) as tab:
        whole = in_sight(tab)
        assert len({tuple(one) for one in whole}) == 1
        over(tab, "memory", 0.4, drag_to=0.6)
        wait(tab, "Bokeh.documents[0].get_model_by_name('time').start > 1000")
        ranges = in_sight(tab)
        assert len(ranges) == len(whole) > 7
        assert all(one == ranges[0] for one in ranges)
        assert ranges[0] == pytest.approx([40, 60], abs=2)
        tab.get_by_role("button", name="Show all").click()
        assert in_sight(tab) == whole
        tab.get_by_role("button", name="Zoom in").press("Enter")
        assert in_sight(tab)[0][1] - in_sight(tab)[0][0] == pytest.approx((whole[0][1] - whole[0][0]) / 2)
        tab.get_by_role("button", name="Later").click()
        tab.get_by_role("button", name="Zoom out").click()
        tab.get_by_role("button", name="Zoom out").click()
        assert in_sight(tab) == whole  # there is nothing beyond


def test_names_of_strangers_are_text(browser: Any, pages: dict[str, Path]) -> None:
    with shown(browser, pages["one"]) as tab:  # a dialog would fail it
        assert tab.locator(".command summary").inner_text().startswith(f"'{HOSTILE}' · ")
        assert tab.locator(".phases th").inner_text() == HOSTILE
        assert tab.locator(".legend").get_by_text(f"GPU 0 {HOSTILE}").count() == 1
        assert tab.evaluate("Bokeh.documents[0].get_model_by_name('bars-timeline').data.name[0]") == HOSTILE
        over(tab, "phases", 0.2, down=12)
        wait(tab, "document.querySelector('#bar-phases').textContent.startsWith('<script>alert(1)</script>: ')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_scheme_and_can_be_changed(browser: Any, pages: dict[str, Path], scheme: str) -> None:
    lightness = "Math.max(...getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number))"
    ink = """(() => {  // of the labels of an axis, as they stand on the screen
        const plot = Bokeh.documents[0].roots().find((one) => one.name === "memory");
        const canvas = Bokeh.index.get_by_id(plot.id).canvas.primary.canvas;
        const copy = new OffscreenCanvas(60, canvas.height).getContext("2d", { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        const pixels = copy.getImageData(0, 0, 60, canvas.height).data;
        let most = 0, at = 0;
        for (let i = 3; i < pixels.length; i += 4) if (pixels[i] > most) { most = pixels[i]; at = i; }
        return pixels[at - 1];
    })()"""
    with shown(browser, pages["one"], color_scheme=scheme) as tab:
        dark = scheme == "dark"
        assert (tab.evaluate(lightness) < 60) is dark
        assert (tab.evaluate(ink) > 130) is dark
        tab.get_by_role("button", name="Dark / light").click()
        assert (tab.evaluate(lightness) < 60) is not dark
        wait(tab, f"({ink} > 130) === {str(not dark).lower()}")


@pytest.mark.parametrize("name", ["one", "two"])
def test_a_phone_has_no_horizontal_overflow(browser: Any, pages: dict[str, Path], name: str) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    with shown(browser, pages[name], **phone) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
        assert tab.evaluate("innerWidth") == 360
        wide = "[...document.querySelectorAll('.drawing > div')].map((one) => one.getBoundingClientRect().right)"
        assert max(tab.evaluate(wide)) <= 360
        actions = """Bokeh.documents[0].roots().map((plot) =>
            getComputedStyle(Bokeh.index.get_by_id(plot.id).canvas.events_el).touchAction)"""
        assert "none" not in tab.evaluate(actions)  # a finger on a chart scrolls the page
        chart = tab.locator("#chart-memory" if name == "one" else "#chart-tree-cpu_cores")
        chart.evaluate("(one) => one.scrollIntoView({ block: 'end' })")
        place = chart.bounding_box()
        tab.touchscreen.tap(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        wait(tab, "document.querySelector('.now').textContent !== ''")


def test_on_paper_it_is_light_and_has_pictures_of_the_charts(browser: Any, pages: dict[str, Path]) -> None:
    with shown(browser, pages["one"], color_scheme="dark") as tab:
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")
        tab.emulate_media(media="print", color_scheme="dark")
        assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(22, 25, 29)"
        assert tab.locator(".drawing img").count() == tab.locator(".drawing").count()
        assert all(tab.evaluate("[...document.querySelectorAll('.drawing img')].map((one) => one.naturalWidth > 500)"))
        assert not tab.locator(".tools").is_visible()
        tab.emulate_media(media="screen")
        assert tab.evaluate("document.documentElement.dataset.theme") is None


def test_what_a_screen_reader_finds(browser: Any, pages: dict[str, Path]) -> None:
    with shown(browser, pages["one"]) as tab:
        levels = tab.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((one) => Number(one.tagName[1]))")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
        chart = tab.locator("#chart-cpu")
        assert (chart.get_attribute("role"), chart.get_attribute("aria-label")) == ("img", "Cores over time")
        told = " ".join(tab.locator(f"#{key}").inner_text() for key in chart.get_attribute("aria-describedby").split())
        assert "used mean 1.02 cores, peak 3.00 cores at 50.0 s" in told
        lost = "[...document.querySelectorAll('[aria-describedby], [aria-labelledby]')].flatMap((one) =>"
        lost += " ((one.getAttribute('aria-describedby') ?? '') + ' ' + (one.getAttribute('aria-labelledby') ?? ''))"
        lost += ".split(' ').filter((key) => key && !document.getElementById(key)))"
        assert tab.evaluate(lost) == []
        assert tab.locator("table:not(:has(caption, thead th[scope=col]))").count() == 0
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.textContent") == "Skip to the charts"
        tab.keyboard.press("Enter")
        focused = []
        for _ in range(10):
            tab.keyboard.press("Tab")
            focused.append(tab.evaluate(FOCUSED))
        assert focused[:5] == ["Zoom in", "Zoom out", "Earlier", "Later", "Show all"]
        assert focused[5].startswith("Cursor")
        # no chart holds the focus
        assert focused[6:] == ["Dark / light", "Values at the cursor", "Charts of the machine", "Command: table"]


def test_runs_are_laid_over_each_other(browser: Any, pages: dict[str, Path]) -> None:
    with shown(browser, pages["two"]) as tab:
        values = tab.locator('[data-column="tree.cpu_cores"]')
        assert values.count() == 2
        over(tab, "tree-cpu_cores", 0.3)
        wait(tab, "document.querySelector('.now').textContent !== ''")
        assert values.all_inner_texts() == ["1", "2"]
        over(tab, "tree-cpu_cores", 0.8)
        wait(tab, "document.querySelectorAll('[data-column=\"tree.cpu_cores\"]')[1].textContent === 'ended'")


def test_a_peak_of_one_sample_is_drawn(browser: Any, pages: dict[str, Path]) -> None:
    with shown(browser, pages["long"]) as tab:
        rows = "Bokeh.documents[0].get_model_by_name('table0').data"
        assert tab.evaluate(f"{rows}.time.length") == 2000
        most = f"Math.max(...Array.from({rows}['tree.cpu_cores']).filter((one) => !Number.isNaN(one)))"
        assert tab.evaluate(most) == 9
        wait(tab, "document.documentElement.dataset.samples === '12000'")
        tab.evaluate("Bokeh.documents[0].get_model_by_name('time').setv({start: 3e6, end: 11e6})")
        wait(tab, f"{rows}.time[0] >= 2.99e6")
        assert tab.evaluate(f"{rows}.time.length") < 2400  # two a pixel
        assert tab.evaluate(most) == pytest.approx(9, rel=1.3e-4)


def test_a_zoom_shows_each_sample(browser: Any, pages: dict[str, Path]) -> None:
    with shown(browser, pages["long"]) as tab:
        wait(tab, "document.documentElement.dataset.samples === '12000'")
        dots = "Bokeh.documents[0].roots()[0].renderers.find((one) => one.name === 'dots0').visible"
        assert tab.evaluate(dots) is False
        tab.evaluate("Bokeh.documents[0].get_model_by_name('time').setv({start: 7759500, end: 7801500})")
        wait(tab, dots)
        times = tab.evaluate("Array.from(Bokeh.documents[0].get_model_by_name('table0').data.time)")
        assert [time for time in times if 7759500 <= time <= 7801500] == pytest.approx(
            [1000 * n for n in range(7760, 7802)]
        )
        tab.get_by_role("button", name="Show all").click()
        wait(tab, "Bokeh.documents[0].get_model_by_name('table0').data.time.length === 2000")
        assert tab.evaluate(dots) is False


def test_without_scripts_all_but_the_charts_is_there(browser: Any, pages: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(pages["one"].as_uri())
    assert "need JavaScript" in tab.inner_text("main")
    assert "Commands\n" in tab.inner_text("main")
    assert tab.locator(".figures dd").count() >= 5
    context.close()
