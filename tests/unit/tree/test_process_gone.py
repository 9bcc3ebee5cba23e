"""A member that exits while it is read leaves the tree: it is not kept as one that could not be read."""

from __future__ import annotations

from errno import EIO
from pathlib import Path

import pytest

from fakeroot import INIT, FakeHost, attach_to
from proctally.errors import AccessDenied, NoDescriptors, ProcessGone
from proctally.tree.hidden import is_hidden
from proctally.tree.sampler import TreeSampler

ROOT, CHILD = 100, 101


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    host = FakeHost(tmp_path)
    host.spawn(ROOT, INIT)
    host.spawn(CHILD, ROOT)
    return host


def attached(host: FakeHost) -> TreeSampler:
    sampler = TreeSampler(host.machine(), descriptors=0)
    attach_to(sampler, ROOT)
    sampler.sample()
    host.advance(1)
    return sampler


def test_member_that_exits_before_its_stat_leaves(host: FakeHost) -> None:
    sampler = attached(host)
    host.run(CHILD, user=0.5)

    def vanish() -> None:
        host.exit(CHILD)
        host.reap(CHILD)

    host.once(f"{CHILD}/stat", vanish)
    used = sampler.sample()["tree"]["cpu_seconds"]
    assert list(sampler.members) == [ROOT]
    assert used == pytest.approx(0.5, abs=0.001)


def test_member_that_cannot_be_read_stays(host: FakeHost) -> None:
    sampler = attached(host)
    host.run(CHILD, user=0.5)

    def broken() -> None:
        raise OSError(EIO, "Input/output error")

    host.once(f"{CHILD}/stat", broken)
    sampler.sample()
    assert list(sampler.members) == [ROOT, CHILD]


def test_new_member_that_exits_before_its_stat_is_no_member(host: FakeHost) -> None:
    sampler = attached(host)
    host.run(ROOT, user=0.1)
    host.spawn(102, ROOT)
    met: list[str] = []

    def exits_at_second_reading(path: str) -> None:
        if path == "102/stat":
            met.append(path)
            if len(met) == 2:  # the first one discovers it
                host.exit(102)
                host.reap(102)

    host.on_access = exits_at_second_reading
    sampler.sample()
    assert len(met) >= 2
    assert 102 not in sampler.members


@pytest.mark.parametrize(
    ("error", "code"), [(AccessDenied(13, "Permission denied"), "io_denied"), (OSError(EIO, "I/O"), "io_unreadable")]
)
def test_io_that_is_refused_has_the_code_of_the_reason(host: FakeHost, error: OSError, code: str) -> None:
    def refuse() -> None:
        raise error

    host.once(f"{CHILD}/io", refuse)
    assert attached(host).readings.io_unread == {CHILD: code}


def test_root_that_is_gone_is_raised(host: FakeHost) -> None:
    with pytest.raises(ProcessGone):
        attach_to(TreeSampler(host.machine()), 99)


def test_process_without_files_is_hidden_while_its_clock_reads(host: FakeHost) -> None:
    machine = host.machine()
    assert not is_hidden(machine, CHILD)

    def raised(error: OSError) -> None:
        raise error

    refused = (ProcessGone(2, "No such file or directory"), AccessDenied(13, "Permission denied"), OSError(EIO, "I/O"))
    for error in (*refused, NoDescriptors(24, "Too many open files")):
        host.once(f"{CHILD}/stat", lambda error=error: raised(error))
        assert is_hidden(machine, CHILD) == (error in refused)
