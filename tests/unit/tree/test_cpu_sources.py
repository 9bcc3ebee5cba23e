"""Which source a total of CPU time is based on."""

from types import SimpleNamespace

import pytest

from fakeroot import SECOND, TICK_NS
from ledger_job import ROOT, Job
from proctally.tree.cpu_sources import Choice, CpuSources, choose_source, wrong_source
from proctally.tree.ledger import Ledger
from proctally.tree.member import CPU

MS = 1_000_000


def chosen(choice: Choice) -> tuple[str, int, int]:
    return choice.source, choice.total_ns, choice.surplus_ns


def test_source_cgroup_comes_before_all() -> None:
    choice = choose_source(enclosed=5 * SECOND, reaped=9 * SECOND, living=1, dead=SECOND, counted=9 * SECOND, lost=True)
    assert chosen(choice) == ("cgroup", 5 * SECOND, 0)


@pytest.mark.parametrize(
    ("living", "counted", "doubtful", "source", "total"),
    [
        (0, 1900, 0, "rusage", 2000),  # perf lacks what exits cost
        (0, 2060, 0, "rusage", 2000),  # 2 % and 20 ms
        (0, 2061, 0, "perf", 2061),
        (0, 2200, 300, "rusage", 2000),  # interrupts and stolen time explain it
        (0, 2301, 300, "perf", 2301),
        (1000, 3000, 0, "procfs", 3020),
        (1000, 3081, 0, "perf", 3081),
    ],
)
def test_source_perf_wins_above_doubt_only(living: int, counted: int, doubtful: int, source: str, total: int) -> None:
    """Last readings of the dead are no part of it: in a chain that collapses they are counted a second time."""
    choice = choose_source(
        reaped=2000 * MS, living=living * MS, dead=7 * SECOND, counted=counted * MS, doubtful=doubtful * MS
    )
    assert chosen(choice) == (source, total * MS, max(0, counted - 2000 - living) * MS)


@pytest.mark.parametrize(("counted", "total"), [(1990, 2020), (2025, 2025), (2037, 2030)])
def test_source_while_members_live_adds_the_dead_that_perf_or_two_ticks_explain(counted: int, total: int) -> None:
    """The ticks of their parents show them later."""
    choice = choose_source(living=2000 * MS, dead=30 * MS, counted=counted * MS)
    assert (choice.source, choice.total_ns) == ("procfs", total * MS)


@pytest.mark.parametrize(
    ("living", "ignored", "source"), [(0, False, "rusage"), (0, True, "procfs"), (2 * SECOND, False, "procfs")]
)
def test_source_without_perf_adds_the_dead(living: int, ignored: bool, source: str) -> None:
    choice = choose_source(reaped=SECOND, living=living, dead=4 * SECOND, ignored=ignored)
    assert chosen(choice) == (source, 5 * SECOND + living, 0)


@pytest.mark.parametrize("counted", [None, SECOND, 9 * SECOND])
def test_source_lost_setuid_takes_wait4_and_their_dead(counted: int | None) -> None:
    choice = choose_source(
        reaped=SECOND, living=2 * SECOND, dead=8 * SECOND, dead_of_lost=4 * SECOND, lost=True, counted=counted
    )
    assert chosen(choice) == ("rusage", 7 * SECOND, 2 * SECOND if counted == 9 * SECOND else 0)


def test_source_attach_splices_perf_behind_the_last_scan() -> None:
    """The last scan that found the root alive showed 10 s where perf had 9 s; perf has counted 2 s since."""
    choice = choose_source(
        attached=True, living=SECOND, dead=8 * SECOND, counted=11 * SECOND, spliced=(10 * SECOND, 9 * SECOND)
    )
    assert chosen(choice) == ("procfs+perf", 12 * SECOND, 0)


def test_source_attach_without_growth_of_perf_is_procfs() -> None:
    choice = choose_source(
        attached=True, living=9 * SECOND, dead=SECOND, counted=9 * SECOND, spliced=(10 * SECOND, 9 * SECOND)
    )
    assert chosen(choice) == ("procfs", 10 * SECOND, 0)


@pytest.mark.parametrize(
    ("counted", "doubtful", "source", "total", "surplus"),
    [
        (2060, 0, "procfs", 2000, 60),
        (2061, 0, "perf", 2061, 61),
        (2200, 300, "procfs", 2000, 200),
    ],
)
def test_source_attach_takes_perf_for_orphans_that_no_scan_saw(
    counted: int, doubtful: int, source: str, total: int, surplus: int
) -> None:
    choice = choose_source(
        attached=True, living=2000 * MS, counted=counted * MS, doubtful=doubtful * MS, spliced=(2000 * MS, counted * MS)
    )
    assert chosen(choice) == (source, total * MS, surplus * MS)


def attached_ledger() -> Ledger:
    ledger = Ledger(TICK_NS, attached=True)
    ledger.dead[CPU] = 10 * SECOND
    ledger.cpu.counted = 9 * SECOND
    ledger.cpu.splice(ledger.procfs_cpu())
    return ledger


def test_ledger_splices_perf_behind_the_root() -> None:
    ledger = attached_ledger()
    assert (ledger.choose().source, ledger.total()[CPU]) == ("procfs", 10 * SECOND)
    assert (ledger.cpu.counted, ledger.excess()) == (9 * SECOND, -SECOND)
    ledger.cpu.counted = 11 * SECOND
    assert (ledger.choose().source, ledger.total()[CPU]) == ("procfs+perf", 12 * SECOND)
    assert ledger.levels()["procfs+perf"] == 12 * SECOND
    assert ledger.excess() == -SECOND


def test_a_scan_splices_as_long_as_the_root_lives(attached: Job) -> None:
    job, counted = attached, [SECOND]
    job.start()
    job.sampler.perf = SimpleNamespace(
        read=lambda **_: counted[0], roll=None, has_lost_processes=False, doubtful_ns=lambda: 0
    )  # type: ignore[assignment]
    job.sampler.sample()
    assert job.sampler.ledger.cpu.spliced == (job.sampler.ledger.procfs_cpu(), SECOND)
    before = job.sampler.ledger.cpu.spliced[0]
    job.host.exit(ROOT)
    job.host.reap(ROOT)
    counted[0] += 7 * MS
    job.sampler.sample()
    assert job.sampler.ledger.cpu.spliced == (before, SECOND)
    assert job.sampler.ledger.levels()["procfs+perf"] == before + 7 * MS


def test_ledger_without_perf_has_nothing_to_splice() -> None:
    ledger = attached_ledger()
    ledger.cpu.counted = ledger.cpu.spliced = None
    ledger.cpu.splice(ledger.procfs_cpu())
    assert (ledger.cpu.spliced, ledger.choose().source, "procfs+perf" in ledger.levels()) == (None, "procfs", False)


def test_ledger_of_a_run_leaves_out_the_dead_where_perf_counts() -> None:
    ledger = Ledger(TICK_NS)
    ledger.waited = 1
    ledger.reaped[CPU], ledger.dead[CPU], ledger.cpu.counted = 14 * SECOND, 60 * SECOND, 14 * SECOND
    assert (ledger.choose().source, ledger.total()[CPU]) == ("rusage", 14 * SECOND)
    ledger.cpu.counted = None
    assert ledger.total()[CPU] == 74 * SECOND


def test_source_attach_without_perf_is_procfs() -> None:
    assert chosen(choose_source(attached=True, living=2 * SECOND, dead=SECOND)) == ("procfs", 3 * SECOND, 0)


# -- a source that contradicts two others ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reaped", "shown", "counted", "wrong"),
    [
        (200, 152_000, 190, "procfs"),
        (200, 14_000, 190, None),  # less than 100 times: TRUTH has other ways to explain that
        (200, 152_000, 15_000, None),  # no two agree
        (200, 152_000, None, None),
        (200, 210, 90_000, None),  # processes that nobody waited for, seen by perf alone ...
        (200, 210, 110_000, "perf"),  # ... but no more than the CPUs can have run
        (1, 1, 90, None),  # what an address space costs at its end is small
    ],
)
def test_source_far_above_two_that_agree_is_wrong(reaped: int, shown: int, counted: int | None, wrong: str) -> None:
    found = wrong_source(
        reaped=reaped * MS, shown=shown * MS, counted=None if counted is None else counted * MS, room=100 * SECOND
    )
    assert found == wrong


def made_wrong(*, counted: int, root_ended: bool = True) -> CpuSources:
    sources = CpuSources(attached=False, only=None)
    sources.note_perf(counted * MS, lost=False)
    sources.room, sources.root_ended = 100 * SECOND, root_ended
    return sources


def test_total_leaves_out_strangers_of_procfs() -> None:
    sources = made_wrong(counted=190)
    choice = sources.choose(reaped=200 * MS, living=900 * SECOND, dead=SECOND, root_reaped=False, has_reaped=True)
    assert (choice.source, choice.total_ns, sources.wrong) == ("rusage", 200 * MS, "procfs")


def test_total_leaves_out_a_perf_that_cannot_be() -> None:
    sources = made_wrong(counted=400_000)
    choice = sources.choose(reaped=200 * MS, living=0, dead=0, root_reaped=False, has_reaped=True)
    assert (choice.source, choice.total_ns, sources.wrong) == ("rusage", 200 * MS, "perf")


def test_no_source_is_wrong_while_the_root_lives() -> None:
    """What wait4 gave until then are others."""
    sources = made_wrong(counted=1, root_ended=False)
    choice = sources.choose(reaped=MS, living=900 * SECOND, dead=0, root_reaped=False, has_reaped=True)
    assert (choice.source, sources.wrong) == ("procfs", None)
