"""`track` blocks that are nested or concurrent."""

from __future__ import annotations

from pathlib import Path

from track_programs import near, program
from tracked import records, whole

# -- several at once -------------------------------------------------------------------------------------------------


def test_nested(tmp_path: Path) -> None:
    said = program(
        tmp_path,
        """
        with proctally.track(interval=0.05, name="outer") as outer:
            busy(0.1)
            with proctally.track(interval=0.05, name="inner") as inner:
                busy(0.15)
            busy(0.05)
        say(outer=outer.summary.cpu.total_seconds, inner=inner.summary.cpu.total_seconds, ids=[outer.id, inner.id],
            cost=[outer.summary.tracker.cpu_seconds, inner.summary.tracker.cpu_seconds],
            most=max(sample.tree.processes for sample in outer.samples))
        """,
    )
    near(said["outer"], 0.3)
    near(said["inner"], 0.15)
    assert said["most"] == 1
    assert said["cost"][1] < said["cost"][0] - 0.01, "without the start of the sampler"
    headers = {lines[0]["name"]: lines[0] for lines in records(tmp_path)}
    assert [headers[name]["run_id"] for name in ("outer", "inner")] == said["ids"]
    assert headers["inner"]["parent_run_id"] == said["ids"][0]
    assert headers["outer"]["parent_run_id"] is None


def test_concurrent_in_threads(tmp_path: Path) -> None:
    said = program(
        tmp_path,
        """
        found = {}
        def work(number):
            with proctally.track(interval=0.05, name=f"t{number}") as run:
                time.sleep(0.02 * number)
                busy(0.05)
            found[number] = run
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        say(totals=[found[number].summary.cpu.total_seconds for number in range(8)],
            missing=[found[number].missing for number in range(8)],
            parents=[run.path is not None for run in found.values()])
        """,
    )
    assert said["missing"] == [[]] * 8
    assert all(total >= 0.045 for total in said["totals"]), "each counts the whole process while it lasts"
    assert {lines[0]["parent_run_id"] for lines in records(tmp_path)} == {None}
    assert sorted(lines[0]["name"] for lines in records(tmp_path)) == [f"t{number}" for number in range(8)]
    assert all(whole(lines)["verdict"] == "ok" for lines in records(tmp_path))


def test_tasks(tmp_path: Path) -> None:
    """The event loop goes on while the sampler begins and ends; each task knows its own enclosing run."""
    said = program(
        tmp_path,
        """
        import asyncio
        ticks = []
        async def tick():
            while True:
                ticks.append(time.monotonic())
                await asyncio.sleep(0.002)
        @proctally.track(interval=0.05)
        async def inner(number):
            await asyncio.sleep(0.1)
            return number
        async def work(number):
            async with proctally.track(interval=0.05, name=f"outer{number}") as run:
                assert await inner(number) == number
            return run
        async def main():
            ticker = asyncio.ensure_future(tick())
            await asyncio.sleep(0.01)
            found = await asyncio.gather(*(work(number) for number in range(4)))
            ticker.cancel()
            return found
        found = asyncio.run(main())
        deadline = time.monotonic() + 5
        while threading.active_count() > 1 and time.monotonic() < deadline: time.sleep(0.001)
        say(missing=[run.missing for run in found], ids={run.name: run.id for run in found},
            threads=threading.active_count(), longest=max(b - a for a, b in zip(ticks, ticks[1:])))
        """,
    )
    assert said["missing"] == [[]] * 4
    assert said["threads"] == 1
    headers = [lines[0] for lines in records(tmp_path)]
    assert sorted(line["parent_run_id"] for line in headers if line["name"] == "inner") == sorted(said["ids"].values())
    assert len(headers) == 8
