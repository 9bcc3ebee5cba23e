"""Take the pictures of docs/images from real runs: the first screen of a report, and `proctally top` (`make pictures`).

Chromium of the system draws both; `pyte` is the terminal in which `top` runs.
"""

from __future__ import annotations

import fcntl
import html
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from functools import partial
from itertools import groupby
from pathlib import Path

import pyte
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
JOB = ["sh", "examples/build.sh"]
CHROMIUM = shutil.which("chromium")
PROCTALLY = [sys.executable, "-m", "proctally"]
COLUMNS, ROWS = 80, 24
TOP_SECONDS = 3.0  # in which the job runs its two heavy steps
WIDTH, HEIGHT = 1200, 800  # of the first screen of a report
DRAWN_MS = 2000  # until its charts are drawn
COLOURS = {
    "black": "#3c3c3c", "red": "#e06c75", "green": "#7fc98f", "brown": "#d9b23a", "blue": "#61a5f0",
    "magenta": "#bb8fe3", "cyan": "#56b6c2", "white": "#e8ebee", "brightblack": "#8a94a0", "brightred": "#ff8a9b",
    "brightgreen": "#98e0a8", "brightbrown": "#f5d76e", "brightblue": "#8cc4ff", "brightmagenta": "#d7b5f5",
    "brightcyan": "#80d8e0", "brightwhite": "#ffffff", "default": "#e8ebee",
}  # fmt: skip
PAPER = "#14171b"
PAGE = "<body style='margin:0'><pre style='{style}'>{text}</pre>"
STYLE = f"display:inline-block;margin:0;padding:14px;background:{PAPER};font:15px/1.3 DejaVu Sans Mono,monospace"


def track(folder: Path) -> Path:
    """Track the job and return the page of its report."""
    subprocess.run(
        [*PROCTALLY, "run", "-q", "-n", "build", "--", *JOB], check=True, cwd=folder, stdout=subprocess.DEVNULL
    )
    path = folder / "report.html"
    subprocess.run([*PROCTALLY, "report", "last", "-o", str(path)], check=True, stdout=subprocess.DEVNULL)
    return path


def watch(folder: Path) -> str:
    """Watch the job with `top` in a terminal, and return the screen as HTML."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    lead = partial(fcntl.ioctl, theirs, termios.TIOCSCTTY, 0)  # it is the terminal of the session
    terminal = {"stdin": theirs, "stdout": theirs, "start_new_session": True, "preexec_fn": lead}
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
    with subprocess.Popen(JOB, cwd=folder, stdout=subprocess.DEVNULL) as job:
        command = [*PROCTALLY, "top", "-i", "0.5", str(job.pid)]
        with subprocess.Popen(command, env=environment, **terminal) as shown:
            os.close(theirs)
            os.set_blocking(ours, False)
            end = time.monotonic() + TOP_SECONDS
            while time.monotonic() < end:
                try:
                    stream.feed(os.read(ours, 65536))
                except BlockingIOError:
                    time.sleep(0.05)
            shown.terminate()
        os.close(ours)
    return "\n".join(line(screen, row) for row in range(ROWS))


def line(screen: pyte.Screen, row: int) -> str:
    """Return a row of the screen as HTML."""
    cells = [screen.buffer[row][column] for column in range(COLUMNS)]
    return "".join(
        f"<span style='{style}'>{html.escape(''.join(cell.data for cell in part))}</span>"
        for style, part in groupby(cells, look)
    )


def look(cell: pyte.screens.Char) -> str:
    """Return the style of a cell for CSS."""
    ink, paper = colour(cell.fg, COLOURS["default"]), colour(cell.bg, PAPER)
    if cell.reverse:
        ink, paper = paper, ink
    return f"color:{ink};background:{paper};font-weight:{'bold' if cell.bold else 'normal'}"


def colour(name: str, default: str) -> str:
    """Return a colour of the terminal for CSS."""
    return default if name == "default" else COLOURS.get(name, f"#{name}")


def draw(page_of_report: Path, screen_of_top: str) -> None:
    """Write both pictures."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(page_of_report.as_uri())
        page.wait_for_timeout(DRAWN_MS)
        page.screenshot(path=IMAGES / "report.png")
        page = browser.new_page()
        page.set_content(PAGE.format(style=STYLE, text=screen_of_top))
        page.locator("pre").screenshot(path=IMAGES / "top.png")
        browser.close()


def main() -> None:
    """Take both."""
    if CHROMIUM is None:
        sys.exit("make pictures needs chromium (Debian, Ubuntu: apt install chromium)")
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pictures-") as name:
        folder = Path(name)
        os.environ["PROCTALLY_HOME"] = name
        (folder / "examples").mkdir()
        shutil.copy(ROOT / "examples" / "build.sh", folder / "examples")
        draw(track(folder), watch(folder))
    for path in sorted(IMAGES.iterdir()):
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
