"""What a report costs: a day at 1 Hz made, its size, and in a browser: drawn, a move of the pointer, a zoom."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from programs import Missing, Programs
from table import Row

if TYPE_CHECKING:
    from playwright.sync_api import Page

SAMPLES = 86_400
PROCESSES = 2000
PHASES = 40
MOVES = 40
ZOOM = 40_000_500, 40_042_500  # milliseconds
START = 1_790_000_000.0
MIB = 1 << 20
PARTS = ("running", "ready", "throttled", "disk", "asleep")


def sample(second: int, chance: random.Random, total: dict[str, float]) -> dict[str, object]:
    """One sample of a job of waves and bursts beside a machine with a GPU, as large as a real one."""
    wave = 4 + 3 * math.sin(second / 3000) + chance.random()
    burst = chance.random() < 0.01
    for name, rise in (
        ("cpu", wave), ("delay", chance.random() / 5), ("read", burst * 3e7), ("write", chance.random() * 1e6),
        ("received", chance.random() * 1e5), ("pressure", chance.random() / 3),
    ):  # fmt: skip
        total[name] = total.get(name, 0.0) + rise
    shares = [chance.random() for _ in PARTS]
    for part, share in zip(PARTS, shares, strict=True):
        total[part] = total.get(part, 0.0) + share / sum(shares)
    memory = int((600 + 300 * math.sin(second / 9000) + 50 * burst) * MIB)
    tree = {
        "cpu_seconds": round(total["cpu"], 4), "cpu_user_seconds": round(total["cpu"] * 0.9, 2),
        "cpu_system_seconds": round(total["cpu"] * 0.1, 2), "cpu_cores": round(wave, 4), "processes": 12, "threads": 40,
        "running": 5, "disk_sleep": int(burst), "run_delay_seconds": round(total["delay"], 4), "rss_bytes": 2 * memory,
        "pss_bytes": memory, "pss_age_seconds": 0.2, "swap_bytes": 0, "read_bytes": int(total["read"]),
        "write_bytes": int(total["write"]), "cancelled_write_bytes": 0, "read_chars": int(total["read"]),
        "write_chars": int(total["write"]), "read_syscalls": second * 7, "write_syscalls": second * 3,
        "minor_faults": second * 11, "major_faults": 3, "context_switches": second * 40, "throttled_seconds": None,
        "gpu_utilization_ratio": round(chance.random(), 3), "gpu_memory_bytes": 9 << 30, "gpu_processes": 1,
        "gpu_used": 1, "gpu_unread": 0, "memory_low_bytes": memory, "memory_high_bytes": memory + int(burst * MIB),
        "mapped_file_bytes": 30 * MIB + second % 4096, "kernel_bytes": 3 * MIB,
        "time": {f"{part}_seconds": round(total[part], 4) for part in PARTS},
    }  # fmt: skip
    system = {
        "cpu_cores": round(wave + 1, 4), "per_core_ratio": [0.5] * 8, "cpu_user_seconds": second * 5.0,
        "cpu_system_seconds": second * 0.5, "cpu_iowait_seconds": second * 0.01, "cpu_softirq_seconds": 1.0,
        "cpu_steal_seconds": 0.5, "context_switches": second * 4000, "forks": second * 3, "processes_running": 6,
        "processes_blocked": 0, "process_count": 300, "load_1": 5.1, "load_5": 5.2, "load_15": 5.3,
        "memory": {
            "free_bytes": 40 << 30, "available_bytes": 50 << 30, "used_bytes": (8 << 30) + memory,
            "buffers_bytes": 1 << 30, "cached_bytes": 9 << 30, "active_bytes": 3 << 30, "inactive_bytes": 5 << 30,
            "swap_used_bytes": 0,
        },
        "disk": {
            "read_bytes": int(total["read"] * 1.1), "write_bytes": int(total["write"] * 1.3),
            "space_total_bytes": 1 << 40, "space_free_bytes": 1 << 39, "space_used_bytes": 1 << 39,
        },
        "network": {"received_bytes": int(total["received"]), "sent_bytes": int(total["received"] / 3)},
        "disks": [{"name": "nvme0n1", "read_bytes_per_second": 1.0, "write_bytes_per_second": 2.0, "busy_ratio": 0.1}],
        "interfaces": [{"name": "eth0", "received_bytes_per_second": 1.0, "sent_bytes_per_second": 2.0}],
        "pressure": {
            "cpu_some_seconds": round(total["pressure"], 4), "memory_some_seconds": 1.0, "memory_full_seconds": 0.5,
            "io_some_seconds": round(total["pressure"] / 9, 4), "io_full_seconds": round(total["pressure"] / 20, 4),
        },
    }  # fmt: skip
    gpu = {
        "index": 0, "name": "A GPU", "uuid": "GPU-0", "state": "ok", "utilization_ratio": round(chance.random(), 2),
        "memory_used_bytes": 10 << 30, "power_watts": 200 + 100 * chance.random(), "temperature_celsius": 60,
    }  # fmt: skip
    top = [{"pid": pid, "command": "python", "cpu_cores": 1.0, "rss_bytes": memory} for pid in (11, 12, 13)]
    return {
        "type": "sample", "at": START + second, "elapsed_seconds": float(second),
        "interval_seconds": 1.0 if second else None, "tree": tree, "system": system, "gpus": [gpu], "cgroup": None,
        "top": top,
    }  # fmt: skip


def write_day(path: Path) -> None:
    """A record of a day at 1 Hz, with its phases and processes."""
    chance = random.Random(6)
    total: dict[str, float] = {}
    with path.open("w", encoding="utf-8") as file:

        def put(line: dict[str, object]) -> None:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")

        put(
            {
                "type": "run", "schema": "proctally/2", "version": "0", "run_id": "0" * 32, "kind": "run",
                "name": "day", "command": ["python", "train.py"], "started_at": START, "interval_seconds": 1.0,
                "limits": {"cpu_cores": 8, "memory_bytes": 2 << 30, "from": "made up"}, "tags": {},
            }
        )  # fmt: skip
        for second in range(SAMPLES):
            if second % (SAMPLES // PHASES) == 0:
                number = second // (SAMPLES // PHASES)
                if number:
                    put({"type": "phase", "name": f"epoch {number - 1}", "event": "end", "at": START + second})
                put({"type": "phase", "name": f"epoch {number}", "event": "begin", "at": START + second})
            put(sample(second, chance, total))
        for number in range(PROCESSES):
            begun = chance.random() * SAMPLES
            life = chance.random() * 2000
            put(
                {
                    "type": "process", "pid": number + 100, "start_ticks": number, "parent": 1,
                    "command": f"worker{number % 9}",
                    "started_at": START + begun, "ended_at": START + min(SAMPLES, begun + life),
                    "cpu_seconds": life * chance.random(), "peak_rss_bytes": 50 * MIB, "exit": 0,
                }
            )  # fmt: skip


class Drawn:
    """What one look at a page in headless Chromium cost."""

    def __init__(self, tab: Page) -> None:
        self.ready_ms = float(tab.evaluate("document.documentElement.dataset.ready"))
        tab.wait_for_function("document.documentElement.dataset.samples")
        self.session = tab.context.new_cdp_session(tab)
        self.session.send("Performance.enable", {"timeDomain": "threadTicks"})
        tab.locator("#chart-memory").scroll_into_view_if_needed()
        box = tab.locator("#chart-memory").bounding_box()
        assert box is not None
        tab.mouse.move(box["x"] + 100, box["y"] + 40)
        tab.wait_for_timeout(500)
        before = self._busy_ms()
        for move in range(MOVES):
            tab.mouse.move(box["x"] + 110 + 15 * move, box["y"] + 40)
            tab.wait_for_timeout(30)
        self.move_ms = (self._busy_ms() - before) / MOVES
        before = self._busy_ms()
        tab.evaluate(f"Bokeh.documents[0].get_model_by_name('time').setv({{start: {ZOOM[0]}, end: {ZOOM[1]}}})")
        tab.wait_for_timeout(1000)
        self.zoom_ms = self._busy_ms() - before
        in_sight = f"((time) => time >= {ZOOM[0]} && time <= {ZOOM[1]})"
        source = "Bokeh.documents[0].get_model_by_name('table0').data.time"
        self.samples = int(tab.evaluate(f"Array.from({source}).filter({in_sight}).length"))

    def _busy_ms(self) -> float:
        """CPU time of the main thread in tasks so far."""
        metrics = self.session.send("Performance.getMetrics")["metrics"]
        return 1e3 * float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


def drawn(page: Path, times: int = 5) -> list[Drawn]:
    """Open a page, move the pointer over its charts and zoom to 42 seconds."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise Missing("no playwright") from None
    if chromium is None:
        raise Missing("no chromium")
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(times):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            tab.goto(page.as_uri())
            tab.wait_for_function("document.documentElement.dataset.ready")
            found.append(Drawn(tab))
            tab.close()
        browser.close()
    return found


def report_cost(programs: Programs) -> Iterator[Row]:
    """A day at 1 Hz, made up."""
    record, page = programs.folder / "day.jsonl", programs.folder / "day.html"
    write_day(record)
    size = record.stat().st_size / 1e6
    how = f"{SAMPLES:,} samples, {PROCESSES:,} processes, {size:.0f} MB of record"
    for form, limit in (("html", 8.0), ("text", None), ("json", None)):
        begun = time.perf_counter()
        done = subprocess.run(
            [programs.python, "-m", "proctally", "report", "-f", form, "--force", "-o", str(page), str(record)],
            env=programs.environment, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Missing(done.stderr.strip())
        yield Row(f"s to make a report of a day at 1 Hz, -f {form}", time.perf_counter() - begun, limit, how)
        if form == "html":
            yield Row("MB of that file", page.stat().st_size / 1e6, 6.0, "one file, script included")
            looks = drawn(page)
            taken = [look.ready_ms for look in looks]
            yield Row("s until a browser has drawn it", median(taken) / 1e3, 2.0, f"worst {max(taken) / 1e3:.2f} s")
            moves = [look.move_ms for look in looks]
            how = f"{MOVES} moves, all values follow; worst page {max(moves):.1f} ms"
            yield Row("ms of its main thread for a move of the pointer", median(moves), 10.0, how)
            zooms = [look.zoom_ms for look in looks]
            yield Row("ms of its main thread to zoom to 42 s", median(zooms), None, f"worst {max(zooms):.0f} ms")
            yield Row("samples in sight of these 42", min(look.samples for look in looks), None, "one a second")
