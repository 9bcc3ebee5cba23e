"""The live view: what is told of a scene at any size, records that are followed, trees that are sampled, plain text."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proctally.history import NoRecord
from proctally.lookout import Lookout, NoProcess
from proctally.record import json_line
from proctally.top.followed import Followed
from proctally.top.layout import CHOSEN, Signs, View, columns, columns_of, page, rows, sparkline
from proctally.top.living import Living
from proctally.top.scene import KEPT, Figures, Scene
from tracked import PROCTALLY, PYTHON, Puppet, environment, until

BLOCKS, ASCII = Signs(ascii_only=False), Signs(ascii_only=True)
BURN = "end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
EVIL = "\x1b]0;owned\x07\x1b[2J[red]bold[/]<b>\n\r\x9b31m"


def told(pid: int, parent: int | None = None, **more: Any) -> dict[str, Any]:
    figures = {"pid": pid, "parent": parent, "command": f"p{pid}", "state": "S", "threads": 1, "cpu_seconds": 1.0}
    levels = {"cpu_cores": 0.0, "rss_bytes": 1 << 20, "pss_bytes": None}
    return figures | levels | {"read_bytes_per_second": 0.0, "write_bytes_per_second": 0.0} | more


def sample(at: float = 1.0, members: list[dict[str, Any]] | None = None, **tree: Any) -> dict[str, Any]:
    levels = {"cpu_seconds": at, "cpu_cores": 1.0, "rss_bytes": 2 << 20, "pss_bytes": 1 << 20, "processes": 3}
    counted = {"read_bytes": 0, "write_bytes": 0, "threads": 3, "running": 1, "disk_sleep": 0, "swap_bytes": 0}
    line = {"type": "sample", "at": 1767225600.0 + at, "elapsed_seconds": at, "interval_seconds": 1.0}
    return line | {"tree": levels | counted | tree, "processes": members or []}


def scene(*processes: dict[str, Any], title: str = "job", **tree: Any) -> Scene:
    made = Scene(title)
    made.is_whole = True
    made.sources = {"perf": 12.5, "procfs": 12.25}
    made.enter(sample(1.0, list(processes), **tree))
    return made


def text(lines: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(piece for _, piece in line) for line in lines]


def shown(what: Scene, view: View | None = None, width: int = 80, height: int = 24) -> list[str]:
    return text(page(what, view or View(), width, height, BLOCKS))


FAMILY = (told(10), told(11, 10, cpu_cores=0.2), told(12, 10, rss_bytes=9 << 20), told(13, 12, cpu_cores=0.9))


def pids(what: Scene, view: View) -> list[int]:
    return [row.process.pid for row in rows(what, view)]


# -- rows ------------------------------------------------------------------------------------------------------------


def test_a_tree_is_sorted_by_what_descends_from_each() -> None:
    assert pids(scene(*FAMILY), View("cpu")) == [10, 12, 13, 11], "12 does nothing, and 13 below it most"
    assert pids(scene(*FAMILY), View("pid")) == [10, 11, 12, 13]
    assert pids(scene(*FAMILY), View("memory")) == [10, 12, 13, 11]


def test_a_list_is_sorted_by_each_alone() -> None:
    view = View("cpu")
    view.is_tree = False
    assert pids(scene(*FAMILY), view) == [13, 11, 10, 12]
    view.sort = "name"
    assert pids(scene(*FAMILY), view) == [10, 11, 12, 13]


def test_io_sorts_by_both_directions() -> None:
    busy = [
        told(1, read_bytes_per_second=5.0, write_bytes_per_second=5.0),
        told(2, write_bytes_per_second=8.0),
        told(3),
    ]
    assert pids(scene(*busy), View("io")) == [1, 2, 3]


def test_a_folded_row_has_the_sums() -> None:
    view = View("pid")
    view.folded = {12}
    found = {row.process.pid: row for row in rows(scene(*FAMILY), view)}
    assert list(found) == [10, 11, 12]
    folded = found[12].figures
    assert (folded.cores, folded.rss, folded.threads, found[12].hidden) == (0.9, 10 << 20, 2, 1)
    assert found[10].figures.cores == 0.0, "what is not folded is told of itself alone"
    view.folded = {10}
    assert rows(scene(*FAMILY), view)[0].figures.cores == pytest.approx(1.1)
    assert any("p10 (+3)" in line for line in shown(scene(*FAMILY), view))


def test_unknown_is_no_zero() -> None:
    assert (Figures([None] * 7) + Figures([1.0, None, None, None, None, None, 2])).rss is None
    lines = shown(scene(told(1, cpu_cores=None, rss_bytes=None, read_bytes_per_second=None), cpu_cores=None))
    row = next(line for line in lines if "p1" in line).split()
    assert row[:9] == ["1", "S", "1", "-", "1.0", "-", "-", "-", "0B"]


def test_who_is_nobodys_child_is_at_the_top() -> None:
    lost = [told(5, 4), told(6, 6), told(7, None)]
    assert [(row.process.pid, row.depth) for row in rows(scene(*lost), View("pid"))] == [(5, 0), (6, 0), (7, 0)]


def test_places_change_only_for_a_difference_that_matters() -> None:
    for first, second in ((0.98, 0.99), (0.99, 0.98)):
        assert pids(scene(told(1, cpu_cores=first), told(2, cpu_cores=second)), View("cpu")) == [1, 2]


@given(
    st.lists(st.tuples(st.integers(1, 30), st.one_of(st.none(), st.integers(1, 30))), max_size=30),
    st.sets(st.integers(1, 30)),
)
def test_whatever_the_parents_are_each_process_has_one_place(
    who: list[tuple[int, int | None]], folded: set[int]
) -> None:
    """A process that is its own ancestor there cannot be: pids are looked up one after the other."""
    parents = {pid: parent for pid, parent in who if parent is None or parent < pid}
    what = scene(*(told(pid, parent) for pid, parent in parents.items()))
    view = View("pid")
    assert sorted(pids(what, view)) == sorted(parents)
    view.folded = folded
    found = rows(what, view)
    assert sum(1 + row.hidden for row in found) == len(parents)


# -- the page --------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 250), st.integers(1, 70), st.sampled_from(["", "ending", "help", "notes"]))
def test_it_fits_whatever_the_size(width: int, height: int, what: str) -> None:
    made = scene(*FAMILY, told(99, 10, command="変な名前" + EVIL), title="長い" * 60)
    made.phases = ["fit"]
    made.notes = ["x" * 300] if what == "notes" else []
    made.ending = ["ended" * 40] * 5 if what == "ending" else None
    view = View()
    view.helps = what == "help"
    for signs in (BLOCKS, ASCII):
        lines = text(page(made, view, width, height, signs))
        assert len(lines) <= height
        assert all(columns_of(line) <= width for line in lines)


def test_80_by_24() -> None:
    lines = shown(scene(*FAMILY))
    assert len(lines) == 24
    assert lines[0].startswith("job")
    assert lines[1].split()[:3] == ["CPU", "1.00", "cores"]
    assert lines[2].split()[:3] == ["mem", "1.0", "MiB"] and "PSS most 1.0 MiB, RSS 2.0 MiB" in lines[2]
    assert "RSS most 2.0 MiB" in shown(scene(*FAMILY, pss_bytes=None))[2], "the next best"
    assert "CPU by perf 12.5 s, procfs 12.2 s" in lines[4]
    heading = next(line for line in lines if line.lstrip().startswith("PID"))
    assert heading.split() == ["PID", "S", "THR", "CPU↓", "TIME", "RSS", "PSS", "READ/s", "WRITE/s", "COMMAND"]
    assert lines[-1].startswith("q quit")


def test_narrow_and_low_terminals_have_what_matters_most() -> None:
    assert [column[0] for column in columns(40, of_record=False)] == ["PID", "CPU", "RSS"]
    assert [column[0] for column in columns(20, of_record=False)] == ["CPU"]
    assert [column[0] for column in columns(80, of_record=False, whole_lines=True)] == [
        "PID", "CPU", "RSS", "READ/s", "WRITE/s",
    ]  # fmt: skip
    lines = shown(scene(*FAMILY), width=40, height=8)
    assert lines[0].startswith("job") and any("p12" in line for line in lines)


def test_the_chosen_row_is_in_sight() -> None:
    many = scene(*(told(pid) for pid in range(1, 200)))
    view = View("pid")
    view.is_tree = False
    for chosen in (1, 100, 199, 50, 1):
        view.chosen = chosen
        lines = page(many, view, 80, 24, BLOCKS)
        assert [piece for line in lines for style, piece in line if style == CHOSEN][0].split()[0] == str(chosen)


def test_names_are_shown_and_never_sent() -> None:
    made = scene(told(1, command=EVIL), title=EVIL)
    made.phases, made.identity, made.sources = [EVIL], EVIL, {EVIL: 1.0}
    lines = shown(made, width=200)
    assert all(line.isprintable() for line in lines)
    assert sum("\\x1b]0;owned\\x07" in line for line in lines) >= 3
    assert any("[red]bold[/]<b>" in line for line in lines), "no text is markup"


def test_a_graph_is_from_0_to_the_largest() -> None:
    assert sparkline([0.0, 1.0, 2.0, None, 4.0], BLOCKS) == "▁▃▅ █"
    assert sparkline([0.0, 0.0], BLOCKS) == "▁▁"
    assert sparkline([None], BLOCKS) == " " and sparkline([], BLOCKS) == ""
    assert sparkline([0, 7], ASCII) == "_@"


def test_rates_are_over_the_time_between_samples() -> None:
    made = Scene("job")
    made.enter(sample(1.0, read_bytes=1000, write_bytes=0))
    made.enter(sample(3.0, read_bytes=3000, write_bytes=500))
    assert list(made.history.io) == [None, 1250.0]
    made.enter(sample(4.0, read_bytes=None, write_bytes=1500))
    assert made.history.io[-1] == 1000.0, "what is not known is left out"
    made.enter(sample(5.0, read_bytes=0, write_bytes=0))
    assert made.history.io[-1] == 0.0, "nothing is read backwards"


def test_history_has_an_end() -> None:
    made = Scene("job")
    for at in range(KEPT + 50):
        made.enter(sample(float(at)))
    assert len(made.history.cores) == KEPT


# -- a record --------------------------------------------------------------------------------------------------------


def header(**more: Any) -> dict[str, Any]:
    run = {"type": "run", "schema": "proctally/1", "run_id": "ab" * 16, "kind": "run", "name": "job", "tags": {}}
    limits = {"cpu_cores": 2.0, "memory_bytes": 1 << 30}
    return (
        run
        | {"started_at": time.time(), "interval_seconds": 1.0, "command": ["job", "-x"], "pid": 42}
        | {"limits": limits}
        | more
    )


class Written:
    """A record that is written as the test wants it."""

    def __init__(self, path: Path, **more: Any) -> None:
        self.path = path
        self.add(header(**more))

    def add(self, *lines: dict[str, Any]) -> None:
        self.raw(b"".join(map(json_line, lines)))

    def raw(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path / "r.jsonl")


@pytest.fixture
def followed(written: Written) -> Iterator[Followed]:
    made = Followed(str(written.path), "r.jsonl")
    yield made
    made.close()


def of_record(at: float, **tree: Any) -> dict[str, Any]:
    line = sample(at, **tree)
    del line["processes"]
    top = [{"pid": 42, "command": "job", "cpu_cores": 1.0, "rss_bytes": 1 << 20}]
    return line | {"cgroup": {"cpu_seconds": at + 1}, "top": top}


def test_what_is_added_is_seen(written: Written, followed: Followed) -> None:
    assert followed.tick() and not followed.tick()
    written.add(of_record(1.0), of_record(2.0))
    assert followed.tick()
    assert followed.scene.figure("elapsed_seconds") == 2.0
    assert list(followed.scene.history.cores) == [1.0, 1.0]
    assert followed.scene.sources == {"the best source": 2.0, "cgroup": 3.0}
    lines = shown(followed.scene)
    assert lines[0].startswith("job: job -x  run abababab, pid 42")
    assert any("proctally top 42" in line for line in lines), "how to see all of its processes"


def test_a_line_that_is_not_whole_yet_is_waited_for(written: Written, followed: Followed) -> None:
    line = json_line(of_record(1.0))
    for place in range(0, len(line), 100):
        assert followed.scene.sample == {}
        written.raw(line[place : place + 100])
        followed.tick()
    assert followed.scene.figure("elapsed_seconds") == 1.0


def test_a_record_that_is_emptied_goes_on(written: Written, followed: Followed) -> None:
    """Its tracker appends: what follows stands at the beginning, and where it was read last there is nothing yet."""
    written.add(of_record(1.0))
    written.raw(b'{"type":"sam')
    followed.tick()
    os.truncate(written.path, 0)
    assert not followed.tick()
    written.add(of_record(2.0))
    assert followed.tick() and followed.scene.figure("elapsed_seconds") == 2.0
    os.truncate(written.path, 0)
    written.add({"type": "summary", "verdict": "ok"})
    followed.tick()
    assert followed.has_ended


def test_lines_of_strangers_are_passed_over(written: Written, followed: Followed) -> None:
    written.raw(
        b'not json\n[1]\n"x"\n{"type":"sample","tree":[],"top":3,"gpus":7}\n{"type":"phase"}\n'
        b'{"type":"devices","memory":1}\n'
    )
    written.raw(
        b'{"type":"sample","elapsed_seconds":"x","tree":{"cpu_cores":NaN,"rss_bytes":true},"top":[1,{"pid":"x","parent":[]}]}\n'
    )
    written.add(of_record(3.0))
    followed.tick()
    assert followed.scene.figure("elapsed_seconds") == 3.0
    assert shown(followed.scene)


def test_open_phases(written: Written, followed: Followed) -> None:
    def mark(name: str, event: str) -> None:
        written.add({"type": "phase", "name": name, "event": event, "at": 1.0})
        followed.tick()

    mark("load", "begin")
    mark("inner", "begin")
    assert followed.scene.phases == ["load", "inner"]
    mark("inner", "begin")
    mark("inner", "end")
    assert followed.scene.phases == ["load", "inner"], "it was begun twice"
    mark("inner", "end")
    mark("load", "end")
    assert followed.scene.phases == []


def test_the_end_is_shown(written: Written, followed: Followed) -> None:
    written.add(of_record(1.0), {"type": "summary", "verdict": "oom", "evidence": "killed by \x1b[31m"})
    followed.tick()
    assert followed.has_ended
    assert any("oom" in line and "\\x1b[31m" in line for line in shown(followed.scene))


def test_a_record_that_has_ended_is_named(written: Written) -> None:
    written.add({"type": "summary", "verdict": "ok", "wall_seconds": 12.0})
    with pytest.raises(NoRecord, match=r"has ended after 12.0 s \(ok\); see it by: proctally report last"):
        Followed(str(written.path), "last")


def test_a_record_that_nobody_writes_is_named(written: Written) -> None:
    os.utime(written.path, (time.time() - 60, time.time() - 60))
    with pytest.raises(NoRecord, match="nothing was written for 1 min"):
        Followed(str(written.path), "last")


def test_silence_is_told(written: Written, followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    followed.tick()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 9)
    followed.tick()
    assert not followed.is_silent and not followed.scene.notes
    monkeypatch.setattr(time, "monotonic", lambda: now + 11)
    assert followed.tick(), "that is news"
    assert followed.is_silent and "nothing is written any more" in followed.scene.notes[0]
    written.add(of_record(1.0))
    followed.tick()
    assert not followed.is_silent


def test_no_file_that_grows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoRecord, match="No such file"):
        Followed(str(tmp_path / "none"), "none")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Neither where records are, nor where it is named."""
    path = tmp_path / "runs" / "20260101T000000Z-x-1.jsonl"
    path.parent.mkdir()
    os.mkfifo(path)
    for word in ("", "last", str(path)):
        done = top(tmp_path, *[word] * bool(word))
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stdout == ""
    assert done.stderr == f"proctally: {path}: is no file\n"


def test_what_is_compressed_is_not_written_any_more(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(gzip.compress(json_line(header())))
    with pytest.raises(NoRecord, match="is no file that is still written"):
        Followed(str(path), "last")


def test_its_cgroup(written: Written, followed: Followed) -> None:
    charged = {"cpu_seconds": 1.0, "memory_bytes": 3 << 20, "memory_peak_bytes": 5 << 20, "oom_kills": 1}
    written.add(of_record(1.0) | {"cgroup": charged})
    followed.tick()
    assert "cgroup memory 3.0 MiB, most 5.0 MiB, 1 taken by the OOM killer" in shown(followed.scene)


def test_the_machine_alone(tmp_path: Path) -> None:
    written = Written(tmp_path / "m.jsonl", kind="system", command=None, name="system", pid=1)
    followed = Followed(str(written.path), "last")
    written.add({"type": "devices", "cpus": 8, "memory": {"total_bytes": 16 << 30}})
    for at, received in ((1.0, 0), (2.0, 4096)):
        system = {"cpu_cores": 3.0, "memory": {"used_bytes": 4 << 30}, "per_core_ratio": [0.0, 1.0, None]}
        system |= {
            "disk": {"read_bytes": 0, "write_bytes": 0},
            "network": {"received_bytes": received, "sent_bytes": 0},
        }
        written.add({"type": "sample", "at": at, "elapsed_seconds": at, "tree": None, "top": None, "system": system})
    followed.tick()
    lines = shown(followed.scene)
    assert lines[1].split()[:2] == ["CPU", "3.00"] and "of 8" in lines[1]
    assert "4.0 GiB" in lines[2] and "of 16.0 GiB" in lines[2]
    assert any(line.startswith("cores  ▁█ ") for line in lines)
    assert any("network in 4.0 KiB/s" in line for line in lines)
    followed.close()


# -- a tree that runs ------------------------------------------------------------------------------------------------


def of(pid: int, taken: dict[str, Any]) -> dict[str, Any]:
    return next(process for process in taken["processes"] if process["pid"] == pid)


def test_each_process_is_told_apart(tmp_path: Path) -> None:
    with Puppet(tmp_path, tracker=[]) as puppet:
        puppet.do("child = os.fork() or (time.sleep(60), os._exit(0))")
        child = int(puppet.ask("child"))
        puppet.do(f"exec({BURN!r})")
        lookout = Lookout(puppet.job, 1.0)
        first = lookout.sample()
        assert of(puppet.job, first)["cpu_seconds"] < 0.1, "what it used before is not told"
        assert {process["pid"] for process in first["processes"]} == {puppet.job, child}
        assert of(child, first)["parent"] == puppet.job
        assert of(child, first)["cpu_cores"] is None, "there is nothing to compare with"
        puppet.do(f"exec({BURN!r})")
        second = lookout.sample()
        assert of(puppet.job, second)["cpu_cores"] > 0.1
        assert of(child, second)["cpu_cores"] < 0.05, "the end of its fork, at most"
        assert second["sources"]["procfs"] >= 0.15
        assert not lookout.has_ended
        assert lookout.command_line(puppet.job).startswith(PYTHON[0])
        lookout.close()
        puppet.do("os.kill(child, 9)")


def test_io_of_a_child_that_was_waited_for_is_no_news(tmp_path: Path) -> None:
    path = tmp_path / "written"
    script = f"(dd if=/dev/zero of={path} bs=1M count=8 conv=fsync 2>/dev/null; echo done; read x); echo waited; read y"
    job = subprocess.Popen(["sh", "-c", f"{script}; :"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert job.stdin is not None and job.stdout is not None
    try:
        lookout = Lookout(job.pid, 1.0)
        lookout.sample()
        assert job.stdout.readline() == b"done\n"
        shell = {process["pid"]: process for process in lookout.sample()["processes"]}
        if shell[job.pid]["write_bytes_per_second"] is None:
            pytest.skip("no I/O accounting here")
        wrote = [process["write_bytes_per_second"] for pid, process in shell.items() if pid != job.pid]
        if not wrote[0]:
            pytest.skip("nothing is written to storage here")
        before = lookout.sample()["tree"]["write_bytes"]
        job.stdin.write(b"x\n")
        job.stdin.flush()
        assert job.stdout.readline() == b"waited\n"
        after = lookout.sample()
        assert after["tree"]["write_bytes"] - before < 1 << 20
        assert of(job.pid, after)["write_bytes_per_second"] < 1 << 20, "8 MiB of its child's are its own by the kernel"
        lookout.close()
    finally:
        job.kill()
        job.wait()
        job.stdin.close()
        job.stdout.close()


def test_the_end_of_a_tree() -> None:
    job = subprocess.Popen(["sleep", "60"])
    living = Living(job.pid, 1.0)
    try:
        assert living.tick() and not living.has_ended
    finally:
        job.kill()
        job.wait()
    until(lambda: living.tick() and living.has_ended, "its end")
    assert not living.tick()
    assert any("ended" in line for line in shown(living.scene))
    living.close()


def test_no_such_process() -> None:
    job = subprocess.Popen(["true"])
    job.wait()
    with pytest.raises(NoProcess, match=f"there is no process {job.pid}"):
        Lookout(job.pid, 1.0)


def test_secrets_of_command_lines_are_masked() -> None:
    job = subprocess.Popen(
        [*PYTHON, "-c", "import time; print(flush=True); time.sleep(60)", "--password=hunter2"], stdout=-1
    )
    try:
        assert job.stdout is not None
        job.stdout.readline()
        lookout = Lookout(job.pid, 1.0)
        assert "--password=***" in lookout.command_line(job.pid) and "hunter2" not in lookout.command_line(job.pid)
        lookout.close()
        job.stdout.close()
    finally:
        job.kill()
        job.wait()


# -- plain text ------------------------------------------------------------------------------------------------------


def top(home: Path, *arguments: str, **popen: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROCTALLY, "top", *arguments],
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        **popen,
    )


def test_blocks_of_a_tree(tmp_path: Path) -> None:
    done = top(tmp_path, str(os.getpid()), "--count", "2", "-i", "0.1", "--limit", "1")
    assert (done.returncode, done.stderr) == (0, "")
    blocks = done.stdout.split("\n\n")
    assert len(blocks) == 3 and blocks[2] == ""
    for block in blocks[:2]:
        lines = block.splitlines()
        assert lines[2].startswith("CPU ") and "cores" in lines[2]
        assert [line.split()[0] for line in lines[-2:]] == ["PID", str(os.getpid())]
    assert not (tmp_path / "runs").exists(), "nothing is written"


def test_what_ends_before_it_was_seen(tmp_path: Path) -> None:
    job = subprocess.Popen(["true"])
    os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOWAIT)
    done = top(tmp_path, str(job.pid), "--count", "1", "-i", "0.1")
    job.wait()
    assert (done.returncode, done.stderr) == (0, "")
    assert "ended: the process and all that descended from it" in done.stdout


def test_a_run_of_another_shell(tmp_path: Path) -> None:
    """Found by `last`, by its id and by its file, listed while it runs; at its end so is that."""
    output = tmp_path / "own.jsonl"
    with Puppet(tmp_path, "-i", "0.1", "-n", "watched") as puppet, Puppet(tmp_path, "-o", str(output)) as other:
        runs = tmp_path / "runs"
        until(lambda: runs.is_dir() and list(runs.iterdir()) and output.exists(), "records")
        (path,) = runs.iterdir()
        listed = top(tmp_path)
        assert listed.returncode == 0 and [line.split()[4] for line in listed.stdout.splitlines()[1:]] == ["watched:"]
        for word in ("last", path.stem.rpartition("-")[2], str(path), str(output)):
            done = top(tmp_path, word, "--count", "1", "-i", "0.05")
            assert (done.returncode, done.stderr) == (0, "")
            assert f"pid {other.job if word == str(output) else puppet.job}" in done.stdout
        following = subprocess.Popen(
            [*PROCTALLY, "top", "last", "-i", "0.1"], env=environment(tmp_path), stdin=-3, stdout=-1, text=True
        )
        assert following.stdout is not None
        assert following.stdout.readline()
        puppet.exit(3)
        said = following.communicate(timeout=60)[0]
        assert following.returncode == 0
        assert "failed: exit status 3" in said.split("\n\n")[-2]
    done = top(tmp_path, "last")
    assert done.returncode == 1
    assert done.stderr.endswith("(failed); see it by: proctally report last\n") and done.stderr.count("\n") == 1


def test_the_last_sample_of_a_run_is_told_at_once(tmp_path: Path) -> None:
    """The next one of this run comes in a minute."""
    written = Written(tmp_path / "r.jsonl", interval_seconds=60.0)
    written.add(of_record(0.0), of_record(60.0))
    begun = time.monotonic()
    done = top(tmp_path, str(written.path), "--count", "1", "-i", "30")
    assert done.returncode == 0 and "1 min 00.0 s" in done.stdout
    assert time.monotonic() - begun < 20


def test_a_reader_that_has_enough(tmp_path: Path) -> None:
    command = [*PROCTALLY, "top", str(os.getpid()), "-i", "0.05"]
    job = subprocess.Popen(command, env=environment(tmp_path), stdin=-3, stdout=-1, stderr=-1)
    assert job.stdout is not None and job.stderr is not None
    job.stdout.readline()
    job.stdout.close()
    assert job.wait(60) == 1
    assert job.stderr.read() == b""
    job.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["4194305"], 1, "there is no process 4194305"),
        (["nothing"], 1, "there is no record 'nothing'"),
        ([], 1, "no tracked job of yours is running"),
        (["1", "2"], 2, "top takes one process id or one record"),
        (["--sort", "wall"], 2, "use cpu or memory or io or pid or name"),
        (["-i", "0.01"], 2, "too short"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], status: int, said: str) -> None:
    done = top(tmp_path, *arguments)
    assert done.returncode == status
    assert said in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""


def test_without_its_extra_plain_text_is_left(tmp_path: Path) -> None:
    """In an interpreter that has no urwid, and says so."""
    code = (
        "import sys; sys.modules['urwid'] = None\n"
        "from proctally.cli import main; import importlib.util as u\n"
        "was = u.find_spec; u.find_spec = lambda name, *a: None if name == 'urwid' else was(name, *a)\n"
        "import os; os.isatty = lambda fd: True\n"
        "sys.exit(main(['top', *sys.argv[1:]]))"
    )
    command = [sys.executable, "-c", code, str(os.getpid()), "--count", "1", "-i", "0.05"]
    popen: dict[str, Any] = {"env": environment(tmp_path) | {"TERM": "xterm"}, "capture_output": True, "text": True}
    done = subprocess.run(command, **popen)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "pip install 'proctally[top]'" in done.stderr
    assert subprocess.run([*command, "--plain"], **popen).returncode == 0
