"""Evidence of made-up records, and the advice it gives."""

from __future__ import annotations

from collections import deque
from itertools import accumulate
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made import GIB, MIB, bounded, gap, gpu, lines, reason
from peak_memory import peak_mib
from proctally.analysis import causes
from proctally.analysis.advice import Advice, advise_on, asked, basis, request_rows
from proctally.analysis.causes import Cause
from proctally.analysis.evidence import CORES, GPUS, MEMORY, TIME, Evidence
from proctally.analysis.loads import Loads

patient = settings(deadline=None)


def evidence(**made: Any) -> Evidence:
    return Evidence.of(lines(**made))


def one(resource: str, **made: Any) -> Advice:
    return advise_on([evidence(**made)])[resource]


def several(resource: str, *runs: dict[str, Any]) -> Advice:
    return advise_on([evidence(number=number, **made) for number, made in enumerate(runs)])[resource]


# -- memory ----------------------------------------------------------------------------------------------------------


def test_memory_of_one_run_has_the_head_room_of_not_knowing() -> None:
    advice = one(MEMORY, memory=4 * GIB)
    assert advice.request == 5 * GIB
    assert advice.note.data == {"code": "more", "more": GIB, "unit": "By", "text": "1 GiB more"}


def test_memory_of_alike_runs_needs_less_than_of_runs_that_spread() -> None:
    alike = several(MEMORY, *({"memory": 4 * GIB + i * MIB} for i in range(5)))
    spread = several(MEMORY, *({"memory": 4 * GIB - i * 400 * MIB} for i in range(5)))
    assert alike.request is not None and spread.request is not None
    assert 1.10 * 4 * GIB <= alike.request <= 1.12 * 4 * GIB
    assert spread.request > 1.15 * 4 * GIB
    assert spread.note.text == "95 % stay below 4.66 GiB; 477 MiB more"


def test_more_alike_runs_need_less_head_room() -> None:
    requests = []
    for count in (2, 3, 6, 12):
        runs = [{"memory": 4 * GIB + (-1) ** i * 100 * MIB} for i in range(count)]
        requests.append(several(MEMORY, *runs).request or 0)
    assert requests == sorted(requests, reverse=True)
    assert requests[0] > requests[-1] > 4 * GIB


def test_two_runs_that_have_nothing_in_common_are_not_multiplied() -> None:
    advice = several(MEMORY, {"memory": GIB}, {"memory": 8 * GIB})
    assert advice.request is not None and advice.request <= 2 * 8 * GIB * 1.11
    assert "guess" in advice.note.text


def test_one_run_far_above_all_others_is_told() -> None:
    advice = several(MEMORY, *({"memory": GIB} for _ in range(6)), {"memory": 8 * GIB})
    assert advice.request is not None and advice.request > 8 * GIB
    assert any("one run used 8 GiB, no other more than 1 GiB" in note.text for note in advice.notes)


@patient
@given(st.lists(st.integers(MIB, 1 << 40), min_size=1, max_size=12))
def test_memory_is_never_less_than_was_used(used: list[int]) -> None:
    advice = several(MEMORY, *({"memory": each} for each in used))
    assert advice.request is not None and advice.request >= max(used) + 32 * MIB
    assert advice.request % MIB == 0


@patient
@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=12))
def test_time_is_never_less_than_was_used(walls: list[float]) -> None:
    advice = several(TIME, *({"wall": each} for each in walls))
    assert advice.request is not None and advice.request >= max(walls) + 60
    assert advice.request % 60 == 0


def test_requests_are_rounded_as_people_ask_for_them() -> None:
    """Of one run 25 % more memory (at least 32 MiB), 50 % more time (at least 60 s), then up to the next step."""
    for used, request in ((800, 1000), (801, 1002), (820, 1040), (60 * 1024, 75 * 1024), (60 * 1024 + 1, 75.25 * 1024)):
        assert one(MEMORY, memory=used * MIB).request == request * MIB, used
    for seconds, request in ((1, 120), (100, 180), (2400, 3600), (2401, 3900), (57_600, 86_400), (57_601, 88_200)):
        assert one(TIME, wall=float(seconds)).request == request, seconds


def test_memory_is_never_that_of_the_cgroup_with_its_page_cache() -> None:
    advice = one(MEMORY, memory=GIB)  # the cgroup's peak is 100 GiB there
    assert advice.proven == GIB


def test_memory_is_the_largest_process_where_that_is_more() -> None:
    assert one(MEMORY, memory=GIB, process=3 * GIB).proven == 3 * GIB


def test_what_was_swapped_out_is_needed_too() -> None:
    assert one(MEMORY, memory=GIB, swap=GIB // 2).proven == 1.5 * GIB


def test_oom_says_more_than_the_limit() -> None:
    advice = one(MEMORY, memory=3 * GIB, verdict="oom", limits={"memory_bytes": 4 * GIB})
    assert advice.request is None and advice.at_least == 4 * GIB
    assert advice.why is not None and advice.why.next_step == "more_memory" and "oom" in advice.why.text
    without_limit = one(MEMORY, memory=3 * GIB, verdict="oom")
    assert without_limit.request is None and without_limit.at_least == 3 * GIB


KILLS = {"code": "exit_status", "oom_kills": 4, "oom_place": "cgroup", "oom_cgroup": "/x"}


def test_kills_in_a_run_that_ended_well_ask_for_more_than_the_limit() -> None:
    """The limit is that of the cgroup of the children, which is not that of the job."""
    limited = KILLS | {"memory_limit_bytes": 4 * GIB}
    advice = one(MEMORY, memory=GIB, reason=limited, limits={"memory_bytes": 16 * GIB})
    assert advice.request is None and advice.at_least == 4 * GIB
    assert advice.why is not None
    assert advice.why.text == "the kernel's OOM killer ended 4 processes (limit 4.0 GiB of /x)"
    assert one(TIME, wall=50.0, reason=limited).at_least == 50.0
    assert one(MEMORY, memory=3 * GIB, reason=KILLS).at_least == 3 * GIB, "a limit that is unknown"
    assert one(MEMORY, memory=GIB, reason=KILLS | {"oom_place": "machine"}).request is not None


def test_largest_limit_of_several_kills_counts() -> None:
    ooms = [{"limit_bytes": limit} for limit in (2 * GIB, 8 * GIB, None)]
    made = lines(memory=GIB, reason=KILLS | {"memory_limit_bytes": 2 * GIB})
    made[-1]["memory"]["ooms"] = [*ooms, "strange"]
    assert advise_on([Evidence.of(made)])[MEMORY].at_least == 8 * GIB


@pytest.mark.parametrize("verdict", ["oom", "limit", "killed", "timeout", "failed", "strange"])
def test_a_run_that_was_cut_off_proves_no_memory_and_no_time(verdict: str) -> None:
    for resource, least in ((MEMORY, 3 * GIB), (TIME, 50.0)):
        advice = one(resource, memory=3 * GIB, wall=50.0, verdict=verdict, exit_code=3, signal=5)
        assert advice.request is None
        assert advice.at_least == least
        assert "signal 5" in advice.note.text


def test_a_run_that_was_cut_off_below_the_others_is_left_out() -> None:
    whole = [{"memory": 4 * GIB, "wall": 1000.0}] * 3
    advice = several(MEMORY, *whole, {"memory": GIB, "verdict": "failed", "exit_code": 2})
    assert advice.request is not None and advice.runs == 3 and advice.others == 1
    assert any("exit status 2" in note.text for note in advice.notes)
    assert advice.request == several(MEMORY, *whole).request


def test_a_run_that_was_killed_above_the_others_undoes_the_advice() -> None:
    whole = [{"memory": 4 * GIB, "wall": 1000.0}] * 3
    advice = several(MEMORY, *whole, {"memory": GIB, "verdict": "oom", "limits": {"memory_bytes": 8 * GIB}})
    assert advice.request is None and advice.at_least == 8 * GIB
    assert several(TIME, *whole, {"wall": 1000.0, "verdict": "timeout"}).at_least == 1000.0
    assert several(TIME, *whole, {"wall": 900.0, "verdict": "timeout"}).request is not None


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"limits": {"memory_high_bytes": GIB + MIB}}, "memory.high"),
        ({"cgroup": {"memory_pressure_seconds": 10.0}}, "waited for memory"),
        ({"gaps": [gap("memory", "pss_denied", count=3)]}, "PSS of 3 processes is denied"),
    ],
)
def test_memory_that_was_taken_away_or_not_seen_is_no_evidence(more: dict[str, Any], why: str) -> None:
    made = lines(memory=GIB, wall=100.0, **more)
    advice = advise_on([Evidence.of(made)])[MEMORY]
    assert advice.request is None and advice.at_least == GIB and why in advice.note.text


def test_what_was_not_read_at_the_peak_is_told() -> None:
    made = lines(memory=GIB, gaps=[gap("memory", "pss_stale", count=2)])
    advice = advise_on([Evidence.of(made)])[MEMORY]
    assert advice.request is not None and [note.text for note in advice.notes] == [
        "PSS of 2 processes was not up to date at the peak"
    ]


def test_too_short_to_be_sampled() -> None:
    made = lines(memory=None, process=None, cores=[])
    made[-1]["memory"]["peak_process_rss_bytes"] = None
    advice = advise_on([Evidence.of(made)])[MEMORY]
    assert advice.request is None and advice.at_least is None and "too short" in advice.note.text


# -- cores -----------------------------------------------------------------------------------------------------------


def test_cores_by_how_much_longer_it_takes() -> None:
    """8 cores for 1 % of the time and else 2: on 2 cores that takes 3 % longer, and is right."""
    assert one(CORES, cores=[2.0] * 99 + [8.0]).whole == 2
    assert one(CORES, cores=[2.0] * 90 + [8.0] * 10).whole == 6
    assert one(CORES, cores=[1.02] * 50).whole == 1  # clocks that differ by a little are no core
    assert one(CORES, cores=[0.0] * 50).whole == 1
    assert one(CORES, cores=[7.9] * 50, limits={"cpu_cores": 64}).whole == 8


def test_interval_of_next_to_no_time_wants_no_endless_cores() -> None:
    loads = Loads()
    loads.add(float("inf"), 1e-320)
    assert loads.sufficient() < float("inf")


def test_gpus_of_very_many_samples_take_little_memory() -> None:
    uuids = (f"{number} {'x' * 9000}" for number in range(2000))
    made = ({"type": "sample", "tree": {"processes": 1}, "gpus": [gpu(1, memory=1) | {"uuid": uuid}]} for uuid in uuids)
    assert peak_mib(lambda: Evidence.of(made)) < 1


def test_cores_of_very_many_samples_take_little_memory() -> None:
    chance = Random(1)
    made = [chance.random() * 64 for _ in range(30_000)]
    loads = Loads()
    assert peak_mib(lambda: deque((loads.add(cores, 1.0) for cores in made), maxlen=0)) < 3
    busiest = sorted(made, reverse=True)
    exact = max(work / (count + 0.05 * len(made)) for count, work in enumerate(accumulate(busiest), 1))
    assert loads.sufficient() == pytest.approx(exact, abs=0.04) and loads.peak == busiest[0]


@patient
@given(st.lists(st.floats(0, 64), min_size=1, max_size=40))
def test_on_the_cores_that_are_advised_it_takes_at_most_five_percent_longer(cores: list[float]) -> None:
    advice = one(CORES, cores=cores, wall=100.0, limits={"cpu_cores": 1000})
    asked = advice.request
    assert asked is not None
    longer = sum(max(0.0, each - asked) for each in cores) / len(cores) / asked
    assert longer <= 0.05 + 1e-9
    fewer = asked - 1.01
    if fewer > 0:  # and none fewer would do
        assert sum(max(0.0, each - fewer) for each in cores) / len(cores) / fewer > 0.05 - 1e-6


def test_throttled_is_no_evidence() -> None:
    held = {"throttled_seconds": 30.0, "throttled_periods": 600, "periods": 1000}
    advice = one(CORES, cores=[1.0] * 10, waiting=held)
    assert advice.request is None and "throttled" in advice.note.text and "60 %" in advice.note.text
    barely = {"throttled_seconds": 0.2, "throttled_periods": 10, "periods": 1000}
    assert one(CORES, cores=[1.0] * 10, waiting=barely).request is not None
    assert (
        one(CORES, cores=[1.0] * 10, waiting={"throttled_seconds": 30.0}).request is None
    )  # without counts of periods


def test_starved_is_no_evidence() -> None:
    advice = one(CORES, cores=[1.0] * 10, wall=100.0, waiting={"run_delay_seconds": 60.0})
    assert advice.request is None and "starved" in advice.note.text and "1.6 runnable threads" in advice.note.text
    assert one(CORES, cores=[1.0] * 10, wall=100.0, waiting={"run_delay_seconds": 5.0}).request is not None
    assert one(CORES, cores=[0.0] * 10, wall=100.0, waiting={"run_delay_seconds": 1.0}).request is not None  # it sleeps
    pressed = {"cgroup": {"cpu_pressure_seconds": 40.0}, "waiting": {"run_delay_seconds": None}}
    assert one(CORES, cores=[1.0] * 10, wall=100.0, **pressed).request is None


def parts(ready: float, *, wanted: float = 1.9) -> dict[str, float]:
    rest = {"running_seconds": 100.0 - ready, "throttled_seconds": 0.0, "disk_seconds": 0.0, "asleep_seconds": 0.0}
    return rest | {"ready_seconds": ready, "wanted_cores": wanted}


def test_starved_by_parts_of_the_wall_time_has_a_trial_of_cores_and_no_time() -> None:
    starved = {"cores": [0.4] * 10, "wall": 100.0, "time": parts(80.0)}
    cores, time = one(CORES, **starved), one(TIME, **starved)
    assert (cores.request, cores.trial, time.request, time.trial) == (None, 2, None, None)
    assert cores.why is not None and cores.note.text == "trial: it wanted 1.90"
    assert "on 1 core about" in Cause(causes.STARVED_TIME, cores=1, about=21.0).text
    assert cores.why.text == "starved: it waited for a CPU in 80 % of the time, and wanted 1.90 cores"
    assert asked(cores) == "not enough evidence: at least 0.38 needed; as a trial 2"
    crowd = starved | {"cores": [1.9] * 10, "waiting": {"run_delay_seconds": 500.0}, "time": parts(1.0)}
    assert one(CORES, **crowd).request is not None, "more threads than cores starve none of them"


def test_trial_is_twice_the_limit_at_which_a_run_ended() -> None:
    oom = {"verdict": "oom", "memory": 190 * MIB, "limits": {"memory_bytes": 200 * MIB}}
    assert one(MEMORY, **oom).trial == 400 * MIB
    timeout = reason("timeout", limit_seconds=600)
    assert one(TIME, verdict="timeout", reason=timeout).trial == 1200
    assert one(MEMORY, memory=190 * MIB).trial is None


def test_a_run_that_had_all_cores_is_worth_more_than_one_that_was_starved() -> None:
    starved = {"cores": [1.9] * 10, "waiting": {"run_delay_seconds": 500.0}}
    assert several(CORES, {"cores": [3.5] * 10}, starved).whole == 4
    assert several(CORES, {"cores": [0.5] * 10}, starved).request is None


def test_who_uses_all_it_has_may_want_more() -> None:
    assert any("all it had" in note.text for note in one(CORES, cores=[7.9] * 10).notes)
    assert not one(CORES, cores=[3.0] * 10).notes


def test_cores_of_a_run_that_was_cut_off_count_as_far_as_it_went() -> None:
    advice = one(CORES, cores=[3.0] * 10, verdict="timeout")
    assert advice.whole == 3 and [note.text for note in advice.notes] == ["as far as it went"]
    assert one(CORES, cores=[3.0] * 10, verdict="failed", exit_code=1).request is None


# -- time, GPUs, ends ------------------------------------------------------------------------------------------------


def test_time_of_a_run_that_was_held_back_is_said_to_be() -> None:
    advice = one(TIME, wall=1000.0, waiting={"run_delay_seconds": 600.0})
    assert advice.request is not None and any("waited for CPUs" in note.text for note in advice.notes)


def test_time_of_an_attach_is_not_that_of_the_job() -> None:
    made = {"kind": "attach", "verdict": "ended", "why": reason("all_exited")}
    assert one(TIME, **made).request is None
    assert one(MEMORY, **made).request is not None
    assert one(MEMORY, kind="attach", verdict="ended", why=reason("duration", limit_seconds=5)).request is None


def test_time_of_a_block_is_not_that_of_its_program() -> None:
    made = {"kind": "track", "wall": 50.0, "why": reason("block_ended")}
    advice = one(TIME, **made)
    assert advice.request is None and advice.at_least == 50.0 and "a block of its program" in advice.note.text
    assert several(TIME, {"wall": 1000.0}, made).request is not None
    advice = one(MEMORY, **made)
    assert advice.request is not None and any("of the tracked block" in note.text for note in advice.notes)
    assert one(CORES, **made).request is not None


def test_a_record_without_an_end_has_lower_bounds() -> None:
    advice = advise_on([evidence(memory=3 * GIB, wall=1000.0, end=False)])
    assert advice[MEMORY].at_least == 3 * GIB and advice[TIME].at_least == 1000.0
    assert "no end" in advice[TIME].note.text
    assert advice[CORES].whole == 1


@pytest.mark.parametrize(
    ("gpus", "request_", "note"),
    [
        ([], 0, None),
        (None, None, None),
        ([gpu(0), gpu(1)], 0, None),
        ([gpu(0, ratio=0.4, memory=GIB), gpu(1, ratio=0.4, memory=GIB)], 2, None),
        ([gpu(0, ratio=0.4, memory=GIB), gpu(1, memory=GIB)], 1, "it held memory on 2 and used 1"),
        ([gpu(0, ratio=None, memory=GIB)], 1, None),  # MIG: whose memory it is is known, how busy is not
        ([gpu(0, ratio=None, memory=None)], None, None),
    ],
)
def test_gpus(gpus: Any, request_: int | None, note: str | None) -> None:
    advice = one(GPUS, gpus=gpus)
    assert advice.request == request_
    assert note is None or note in [each.text for each in advice.notes]


def test_the_vendor_of_gpus_is_told_of_the_host_once() -> None:
    listed = gpu(0, ratio=0.5, memory=GIB, vendor="amd") | {"uuid": None, "name": "gfx"}
    made = lines(gpus=[{key: value for key, value in listed.items() if key != "vendor"}])
    assert Evidence.of(made).gpu_vendor is None
    host = {"type": "host", "gpus": [listed | {"pci": "0000:01:00.0"}]}
    assert Evidence.of([made[0], host, *made[1:]]).gpu_vendor == "amd"


@pytest.mark.parametrize(
    "field", ["cpu", "memory", "waiting", "limits", "cgroup", "processes", "verdict", "reason", "gaps"]
)
def test_null_anywhere_is_unknown_and_no_fault(field: str) -> None:
    made = lines()
    made[-1][field] = None
    made[1]["tree"] = None
    for sample in made[2:-1]:
        sample["tree"] = dict.fromkeys(sample["tree"])
    for advice in advise_on([Evidence.of(made)]).values():
        assert advice.note.text


# -- rows -------------------------------------------------------------------------------------------------------------


def values(row: Advice) -> tuple[float | None, ...]:
    return row.used_low, row.used, row.had, row.request, row.trial


def test_rows_have_used_had_and_request_of_one_run_and_of_several() -> None:
    made = bounded(lines(cores=[1.5] * 10, wall=60.0, limits={"memory_bytes": 512 * MIB}), 251 * MIB, 259 * MIB)
    cores, memory, time = request_rows([Evidence.of(made)])
    assert values(cores) == (1.5, 1.5, 8, 2, None)
    assert values(memory) == (251 * MIB, 259 * MIB, 512 * MIB, 324 * MIB, None)
    assert values(time) == (60.0, 60.0, None, 120, None)
    newer = lines(cores=[0.5] * 10, wall=90.0, number=1, limits={"memory_bytes": GIB}, gpus=[gpu(0)])
    rows = request_rows([Evidence.of(newer), Evidence.of(made)])
    assert [row.resource for row in rows] == [CORES, MEMORY, TIME, GPUS]
    assert values(rows[0])[:3] == (0.5, 1.5, 8) and rows[1].had == GIB and values(rows[2])[:2] == (60.0, 90.0)
    assert request_rows([evidence(kind="system")]) == []


def test_trial_of_cores_is_bounded_by_demand() -> None:
    """What suffices for what was wanted, but not more than was wanted in 95 % of the time."""
    starved = {"cores": [0.4] * 100, "wall": 100.0, "time": parts(80.0, wanted=1.2), "limits": {"cpu_cores": 64}}
    delays = [0.6] * 94 + [59.0] * 3 + [2.6] * 3
    made = lines(**starved)
    for sample, delay in zip(made[1:-1], [sum(delays[:count]) for count in range(101)], strict=True):
        sample["tree"]["run_delay_seconds"] = delay
    row = request_rows([Evidence.of(made)])[0]
    assert (row.trial, row.note.data) == (3, {"code": "wanted", "cores": 1.2, "text": "trial: it wanted 1.20"})


@pytest.mark.parametrize(
    ("made", "step", "text"),
    [
        ([{}], "more_runs", "from one run: more of them show how it varies (proctally run --repeat 5)"),
        ([{}] * 2, None, "from 2 runs"),
        ([{"time": {}, "waiting": {"run_delay_seconds": 60.0}}], "free_machine",
         "from one run, not a good one: run it once on a free machine, then ask again"),
        ([{}, {"verdict": "oom", "limits": {"memory_bytes": 2 * GIB}}], "more_memory",
         "from 2 runs, not all of them good: run it once with more memory, then ask again"),
        ([{"verdict": "oom", "time": {}, "waiting": {"run_delay_seconds": 60.0}}], "more_memory",
         "from one run, not a good one: run it once with more memory, then ask again"),
        ([{"verdict": "failed"}], "to_its_end", "from one run, not a good one: run it once to its end, then ask again"),
        ([{"kind": "track"}], "from_start",
         "from one run, not a good one: run it once from its start, as a command of proctally run, then ask again"),
    ],
)  # fmt: skip
def test_basis_has_the_number_of_runs_and_the_next_step(made: list[dict[str, Any]], step: str, text: str) -> None:
    runs = [evidence(number=number, **each) for number, each in enumerate(made)]
    found = basis(runs, request_rows(runs))
    assert (found.values["next"], found.text) == (step, text)


def test_whole_machine_has_no_rows() -> None:
    assert request_rows([evidence(kind="system")]) == request_rows([]) == []
