"""Damaged files of processes: what is shown is the right value or nothing, and the next good reading mends it."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EFAULT, EINTR, EIO, ENOMEM, ENOTCONN, EOPNOTSUPP, ESTALE
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from damage import KIND, damaged
from fakeroot import FakeHost
from places import IN_MEMORY
from proctally import process, processes
from proctally.errors import ProcessGone
from proctally.gauges import Gauges
from proctally.tree.sampler import TreeSampler

OWN, ROOT, CHILD = 77, 100, 101
FILES = ("stat", "io", "status", "schedstat", "smaps_rollup", "children", "thread")
ERRNOS = (ENOMEM, EIO, EFAULT, ENOTCONN, EOPNOTSUPP, ESTALE, EINTR)


def path_of(host: FakeHost, pid: int, name: str) -> Path:
    names = {"children": f"task/{pid}/children", "thread": f"task/{pid}/schedstat"}
    return host.processes[pid].folder / names.get(name, name)


class Case:
    """A tree of two processes, read by a sampler that started it or attached to it."""

    def __init__(self, folder: Path, *, descriptors: int, attached: bool = False, clocks: bool = True) -> None:
        folder.mkdir()
        host = self.host = FakeHost(folder, own=None if attached else OWN)
        host.spawn(ROOT, 1 if attached else OWN, pages=100)
        own = None if attached else OWN
        machine = host.machine(clocks=clocks)
        self.sampler = TreeSampler(machine, own=own, descriptors=descriptors, time=True, memory=True)
        if attached:
            host.run(ROOT, user=3, minor=50, switches=4, io=(900, 900, 9, 9, 4096, 4096, 0))

    def begin(self, *, attached: bool) -> None:
        if attached:
            self.sampler.attach(ROOT, None)
        else:
            self.sampler.start(ROOT)

    def sample(self) -> dict[str, Any]:
        host = self.host
        host.advance(1.0)
        for pid in (ROOT, CHILD):
            if pid in host.processes:
                host.run(pid, user=0.25, system=0.25, minor=10, switches=3, io=(10, 20, 1, 1, 4096, 8192, 0), pages=200)
        sample: dict[str, Any] = self.sampler.sample()
        return sample


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from leaves(each, f"{name}.{key}")
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from leaves(each, f"{name}.{place}")
    else:
        yield name, value


def check(found: dict[str, Any], right: dict[str, Any]) -> None:
    truth = dict(leaves(right))
    for name, value in leaves(found):
        if isinstance(value, int | float):
            assert 0 <= value < 1 << 62, name
            most = truth.get(name)
            if name.endswith(("_seconds", "_bytes", "_chars", "_faults", "_switches")) and most is not None:
                assert value <= most + 0.001 or name.endswith(("age_seconds", "high_bytes")), name


quick = settings(deadline=None, max_examples=60)


@quick
@given(st.sampled_from(FILES), st.sampled_from([ROOT, CHILD]), KIND, st.booleans(), st.sampled_from([0, 100]))
def test_sampler_shows_the_right_value_or_none(
    name: str, pid: int, kind: str | float, attached: bool, descriptors: int
) -> None:
    with TemporaryDirectory(dir=IN_MEMORY) as folder:
        case = Case(Path(folder, "damaged"), descriptors=descriptors, attached=attached)
        twin = Case(Path(folder, "right"), descriptors=descriptors, attached=attached)
        for each in (case, twin):
            each.begin(attached=attached)
            each.sample()
            each.host.spawn(CHILD, ROOT, pages=50)
            each.sample()
        host = case.host
        for _ in range(2):
            write = host.write
            path = path_of(host, pid, name)

            def write_damaged(process: Any, write: Any = write, path: Path = path) -> None:
                write(process)
                if process.pid == pid:
                    path.write_bytes(damaged(path.read_bytes(), kind))

            host.write = write_damaged  # type: ignore[method-assign]
            check(case.sample(), twin.sample())
            host.write = write  # type: ignore[method-assign]
            for process_ in host.processes.values():
                process_.written.clear()
                host.write(process_)
        for _ in range(3):
            found, right = case.sample(), twin.sample()
        for field in ("cpu_seconds", "processes", "read_bytes", "write_bytes", "minor_faults", "context_switches"):
            assert found["tree"][field] == right["tree"][field], field
        case.sampler.finish()
        case.sampler.close()
        twin.sampler.close()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("number", ERRNOS)
@pytest.mark.parametrize("attached", [False, True])
def test_errno_costs_one_reading(tmp_path: Path, name: str, number: int, attached: bool) -> None:
    case = Case(tmp_path / "host", descriptors=0, attached=attached)
    path = str(path_of(case.host, ROOT, name).relative_to(case.host.proc))

    def refuse() -> None:
        raise OSError(number, "refused", path)

    case.host.once(path, refuse)
    case.begin(attached=attached)
    case.sample()
    case.host.spawn(CHILD, ROOT, pages=50)
    case.host.once(path, refuse)
    case.sample()
    case.host.once(path, refuse)
    case.sample()
    case.sample()
    tree = case.sample()["tree"]
    assert (tree["cpu_seconds"], tree["processes"], tree["minor_faults"]) == (4.5, 2, 90)
    # what an attached process did before its first reading is unknown
    assert tree["read_bytes"] in ((8 * 4096, 9 * 4096) if attached else (9 * 4096,))
    assert tree["context_switches"] in ((24, 27) if attached else (27,))
    assert (case.sampler.memory.fault, case.sampler.time.fault) == (None, None)


@quick
@given(st.sampled_from(FILES), KIND)
def test_library_never_raises_for_a_field(name: str, kind: str | float) -> None:
    with TemporaryDirectory(dir=IN_MEMORY) as folder:
        host = Case(Path(folder, "host"), descriptors=0).host
        host.spawn(CHILD, ROOT, pages=50)
        host.run(CHILD, user=0.5, io=(1, 2, 3, 4, 5, 6, 7))
        for path in (path_of(host, CHILD, name), path_of(host, ROOT, name)):
            path.write_bytes(damaged(path.read_bytes(), kind))
        machine = host.machine()
        processes.scan(machine=machine)
        scanner = processes.Scanner(machine=machine)
        scanner.scan()
        processes.children_map(machine=machine)
        try:
            with Gauges(ROOT, machine=machine) as gauges:
                gauges.sample()
            with processes.CumulativeTracker(ROOT, machine=machine) as tracker:
                tracker.update()
            stats = process.all_stats(CHILD, machine=machine)
        except (ProcessGone, OSError, ValueError):
            assert name == "stat"
        else:
            if name == "io" and kind not in ("zeros", "other keys"):
                assert stats.disk_io is None
