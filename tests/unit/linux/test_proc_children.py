"""Lists of processes and of children."""

from pathlib import Path

from fakeroot import INIT, FakeHost
from proctally.linux.proc import read_children, scan

ROOT = 100


def test_children_file_is_read_to_its_end(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    process = host.spawn(ROOT, INIT)
    pids = list(range(4_000_000, 4_020_000))
    path = process.folder / "task" / str(ROOT) / "children"
    path.write_text("".join(f"{pid} " for pid in pids))
    assert path.stat().st_size > 65536
    assert read_children(host.machine(), ROOT) == pids


def test_scan_lists_processes_and_their_folders(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.spawn(ROOT, INIT)
    machine = host.machine()
    before = dict(scan(machine))
    assert before.keys() == {INIT, ROOT}
    host.end(ROOT)
    host.spawn(ROOT, INIT)
    after = dict(scan(machine))
    assert after[INIT] == before[INIT]
    assert after[ROOT] != before[ROOT]
