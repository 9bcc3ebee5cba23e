"""Pages of `top` at any size, from made-up scenes and from records that grow."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peak_memory import peak_mib
from proctally.errors import NoProcess, NoRecord
from proctally.record.writer import json_line
from proctally.text.cells import columns_of, sparkline
from proctally.views.top.followed import Followed
from proctally.views.top.layout import page
from proctally.views.top.line import CHOSEN
from proctally.views.top.scene import KEPT, Figures, Scene
from proctally.views.top.table import View, columns, placed, rows
from scenes import EVIL, FAMILY, Written, header, of_record, sample, scene, told, training
from top_views import ASCII, BLOCKS, shown, text


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


def test_wait_sorts_and_is_shown() -> None:
    family = (told(1, wait_cores=0.2), told(2, cpu_cores=0.42, wait_cores=0.58), told(3, wait_cores=None))
    assert pids(scene(*family), View("wait")) == [2, 1, 3]
    row = next(line for line in shown(scene(*family)) if "p2" in line)
    assert row.split()[1:3] == ["0.42", "0.58"]


def test_find_takes_names_and_pids_and_shows_a_list() -> None:
    view = View("pid", wanted="P1")
    assert pids(scene(*FAMILY), view) == [10, 11, 12, 13]
    view.wanted = "13"
    assert [(row.process.pid, row.depth) for row in rows(scene(*FAMILY), view)] == [(13, 0)]


def test_order_is_made_once_while_nothing_changes() -> None:
    what, view = scene(*FAMILY), View("cpu")
    first = placed(what, view)
    what.show(list(what.rows))
    assert placed(what, view) is first
    what.show([*FAMILY[:3], told(13, 12)])
    assert placed(what, view) is not first
    assert what.processes[0].row is FAMILY[0], "what did not change is kept"


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
    assert (folded.cores, folded.high, folded.threads, found[12].hidden) == (0.9, 10 << 20, 2, 1)
    assert found[10].figures.cores == 0.0, "what is not folded is told of itself alone"
    view.folded = {10}
    assert rows(scene(*FAMILY), view)[0].figures.cores == pytest.approx(1.1)
    assert any("p10 (+3)" in line for line in shown(scene(*FAMILY), view))


def test_unknown_is_no_zero() -> None:
    assert (Figures([None] * 8) + Figures([1.0, None, None, None, None, None, None, 2])).high is None
    unread = dict.fromkeys(("cpu_cores", "wait_cores", "rss_bytes", "memory_high_bytes", "read_bytes_per_second"))
    lines = shown(scene(told(1, **unread), cpu_cores=None), width=120)
    row = next(line for line in lines if "p1" in line).split()
    assert row[:9] == ["1", "S", "1", "-", "-", "1.0", "-", "-", "0B"]
    assert any(line.startswith("cores ") and "unknown of" not in line and "unknown used" in line for line in lines)


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
    made = scene(*FAMILY, told(99, 10, command="変な名前" + EVIL), name="長い" * 60)
    made.phases = {"fit": None}
    made.notes = ["x" * 300] if what == "notes" else []
    made.ending = ["ended" * 40] * 5 if what == "ending" else None
    view = View()
    view.helps = what == "help"
    for signs in (BLOCKS, ASCII):
        lines = text(page(made, view, width, height, signs))
        assert len(lines) <= height
        assert all(columns_of(line) <= width for line in lines)


def test_narrow_and_low_terminals_have_what_matters_most() -> None:
    def headings(width: int, **how: bool) -> list[str]:
        return [column.heading for column in columns(width, of_record=False, **how)]

    assert headings(100)[:3] == ["PID", "S", "THR"] and "S" not in headings(99)
    assert headings(40) == ["PID", "USED", "WAIT", "MEMORY"]
    assert headings(20) == ["USED"]
    assert headings(80, whole_lines=True) == ["PID", "USED", "WAIT", "TIME", "MEMORY"]


def test_an_oom_kill_is_bad_news() -> None:
    what = training()
    what.sample["cgroup"] = {"oom_kills": 1}
    assert "1 process was killed for memory" in shown(what)


def test_the_bar_is_of_the_last_minute() -> None:
    what = Scene("job", is_whole=True)
    for at in range(121):
        computed = float(min(at, 60))
        parts = {"running": computed, "ready": 0.0, "throttled": 0.0, "disk": 0.0, "asleep": at - computed}
        what.enter(sample(float(at), time={f"{part}_seconds": value for part, value in parts.items()}))
    lines = shown(what)
    assert lines[1].split() == ["time", "asleep", "100", "%", "last", "60", "s"]
    assert lines[2].strip() == "░" * 60
    covered, spans = what.history.parts(600.0, 2)
    assert covered == 120.0
    assert [span["running_seconds"] for span in spans] == [60.0, 0.0]


def test_the_chosen_row_is_in_sight() -> None:
    many = scene(*(told(pid) for pid in range(1, 200)))
    view = View("pid")
    view.is_tree = False
    for chosen in (1, 100, 199, 50, 1):
        view.chosen = chosen
        lines = page(many, view, 80, 24, BLOCKS)
        assert [piece for line in lines for style, piece in line if style == CHOSEN][0].split()[0] == str(chosen)


def test_names_are_shown_and_never_sent() -> None:
    made = scene(told(1, command=EVIL), name=EVIL)
    made.phases, made.run_id, made.command = {EVIL: 0.0}, EVIL, EVIL
    lines = shown(made, width=300)
    assert all(line.isprintable() for line in lines)
    assert sum("\\x1b]0;owned\\x07" in line for line in lines) >= 3
    assert "\n".join(text(page(made, View(), 80, 24, ASCII))).isascii()
    assert any("[red]bold[/]<b>" in line for line in lines), "no text is markup"


def test_others_are_shown_while_they_are_recent() -> None:
    user = {"user": "ci\n", "command": "cc1", "processes": 2, "cpu_cores": 0.84, "rss_bytes": 1}
    what = scene(*FAMILY)
    what.cpus = 2
    what.enter(sample(1.0) | {"neighbours": {"interval_seconds": 1.0, "cpu_cores": 1.5, "largest": [user]}})
    others = "others 1.50 of 2 cores: ci\\n cc1 x 2 0.84"
    assert others in shown(what)
    what.enter(sample(30.0))
    assert others in shown(what)
    what.enter(sample(40.0))
    assert others not in shown(what)


def test_a_graph_is_from_0_to_the_largest() -> None:
    assert sparkline([0.0, 1.0, 2.0, None, 4.0], BLOCKS.levels) == "▁▃▅ █"
    assert sparkline([0.0, 0.0], BLOCKS.levels) == "▁▁"
    assert sparkline([None], BLOCKS.levels) == " " and sparkline([], BLOCKS.levels) == ""
    assert sparkline([0, 7], ASCII.levels) == "_@"


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


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path / "r.jsonl")


@pytest.fixture
def followed(written: Written) -> Iterator[Followed]:
    made = Followed(str(written.path), "r.jsonl")
    yield made
    made.close()


def test_what_is_added_is_seen(written: Written, followed: Followed) -> None:
    assert followed.tick() and not followed.tick()
    written.add(of_record(1.0), of_record(2.0))
    assert followed.tick()
    assert followed.scene.figure("elapsed_seconds") == 2.0
    assert list(followed.scene.history.cores) == [1.0, 1.0]
    lines = shown(followed.scene, width=120)
    assert lines[0].startswith("job  job -x  ") and "run abababab   pid 42   running 2.0 s" in lines[0]
    assert any("largest processes only" in line for line in lines)


def test_a_run_on_this_machine_has_its_whole_tree(written: Written) -> None:
    class Tree:
        is_gone = False

        def sample(self) -> dict[str, Any]:
            if self.is_gone:
                raise NoProcess("gone")
            return {"processes": list(FAMILY)}

        def command_line(self, pid: int) -> str:
            return f"p{pid} --all"

        def close(self) -> None:
            pass

    tree: Any = Tree()
    followed = Followed(str(written.path), "last", lambda root, started_at: tree)
    written.add(of_record(1.0))
    followed.tick()
    assert pids(followed.scene, View("pid")) == [10, 11, 12, 13]
    assert any("p13 --all" in line for line in shown(followed.scene, View(whole_lines=True)))
    tree.is_gone = True
    written.add(of_record(2.0))
    followed.tick()
    assert pids(followed.scene, View("pid")) == [42], "those of the record"
    followed.close()


def test_a_tree_that_cannot_be_opened_leaves_the_record(written: Written) -> None:
    def refuse(root: int, started_at: float) -> Any:
        raise NoProcess("another one")

    followed = Followed(str(written.path), "last", refuse)
    written.add(of_record(1.0))
    followed.tick()
    assert pids(followed.scene, View("pid")) == [42]
    followed.close()


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
        written.add({"type": "phase", "name": name, "event": event, "at": 1.0, "elapsed_seconds": 0.5})
        followed.tick()

    mark("load", "begin")
    mark("inner", "begin")
    assert followed.scene.phases == {"load": 0.5, "inner": 0.5}
    mark("inner", "begin")
    mark("inner", "end")
    assert list(followed.scene.phases) == ["load", "inner"], "it was begun twice"
    mark("inner", "end")
    mark("load", "end")
    assert followed.scene.phases == {}


def test_record_made_to_take_much_takes_little(written: Written, followed: Followed) -> None:
    for number in range(1500):
        written.add({"type": "phase", "name": f"{number} {'x' * 9000}", "event": "begin", "at": 1.0})
    for at in range(30):
        written.add(of_record(float(at)) | {"x": ["y" * 9000] * 100})
    assert peak_mib(followed.tick) < 10
    assert len(followed.scene.phases) == 1000 and max(map(len, followed.scene.phases)) == 128
    assert followed.scene.figure("elapsed_seconds") == 29.0


def test_the_end_is_shown(written: Written, followed: Followed) -> None:
    written.add(of_record(1.0), {"type": "summary", "verdict": "\x1b[31m", "reason": {"code": "signal"}})
    followed.tick()
    assert followed.has_ended
    assert any("killed" in line and "\\x1b[31m" in line for line in shown(followed.scene))


def test_a_record_that_has_ended_is_named(written: Written) -> None:
    written.add({"type": "summary", "verdict": "ok", "wall_seconds": 12.0})
    with pytest.raises(NoRecord, match=r"has ended after 12.0 s \(ok\); see it by: proctally report last"):
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


def test_tracker_that_is_killed_is_told_at_once(written: Written, followed: Followed) -> None:
    written.add(of_record(1.0))
    followed.tick()
    assert not followed.is_silent
    written.leave()
    assert followed.tick() and followed.is_silent and "was killed" in followed.scene.notes[0]


def test_summary_before_the_end_of_the_tracker_is_an_end(written: Written, followed: Followed) -> None:
    written.add({"type": "summary", "verdict": "ok"})
    written.leave()
    followed.tick()
    assert followed.has_ended and not followed.is_silent


def test_no_file_that_grows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoRecord, match="No such file"):
        Followed(str(tmp_path / "none"), "none")


def test_what_is_compressed_is_not_written_any_more(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(gzip.compress(json_line(header())))
    with pytest.raises(NoRecord, match="is no file that is still written"):
        Followed(str(path), "last")


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
    assert lines[1].startswith("cores ") and "3.00 of 8 used" in lines[1]
    assert "4.0 GiB of 16.0 (25 %)" in lines[2]
    assert any(line.startswith("each   ▁█ ") for line in lines)
    assert any("received 4.0 KiB/s" in line for line in lines)
    followed.close()
