"""Which runs `advise` counts, and what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from made import GIB, MIB, bounded, lines, record
from proctally.analysis.evidence import TIME, Evidence
from proctally.record.catalogue import Filter
from proctally.text.terminal import Look
from proctally.views import advise_all
from proctally.views.advise import Found, as_text, found_runs, schedulers

# -- which runs ------------------------------------------------------------------------------------------------------


def test_of_many_runs_the_newest_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        record(tmp_path, name="train", number=number, wall=100.0 * (5 - number))
    monkeypatch.setattr("proctally.views.advise.MOST_RUNS", 2)
    found = found_runs([], Filter(name="train"), {"PROCTALLY_HOME": str(tmp_path)})
    assert found.left_out == ["from the newest 2 of 5 runs"]
    assert [(row.runs, row.used) for row in found.rows if row.resource == TIME] == [(2, 200.0)]


def test_of_many_names_large_records_count_by_their_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        record(tmp_path, name="train", number=number, cores=[1.0] * 50 + [4.0])
    environment = {"PROCTALLY_HOME": str(tmp_path)}
    (whole,) = advise_all.jobs(Filter(), environment)[0]
    monkeypatch.setattr(advise_all, "MOST_BYTES", 100)
    (ends,), (note,) = advise_all.jobs(Filter(), environment)
    assert note.startswith("of 3 of 3 runs the summary alone was read")
    assert (whole.count, whole.rows["cores"].request, ends.rows["cores"].request) == (3, 2, 4)
    assert whole.hours == ends.hours and ends.rows["memory"].request == whole.rows["memory"].request


@pytest.mark.parametrize(
    ("given", "environment", "first"),
    [
        ("pbs", {"SLURM_JOB_ID": "1"}, "pbs"),
        (None, {"SLURM_JOB_ID": "1"}, "slurm"),
        (None, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ("later", {"LSF_ENVDIR": "/lsf"}, "lsf"),
        (None, {"HOME": "/"}, "slurm"),
    ],
)
def test_scheduler_of_the_record_then_of_the_environment(
    given: str | None, environment: dict[str, str], first: str
) -> None:
    run = Evidence.of([{"type": "run", "allocation": None if given is None else {"scheduler": given}}])
    found = schedulers([run], environment)
    assert found[0] == first and len(found) == len(set(found)) == 7


# -- what is shown ---------------------------------------------------------------------------------------------------


def text(made: list[dict[str, Any]], width: int = 80, **options: Any) -> str:
    found = Found([Evidence.of(made)], [])
    return as_text(found, schedulers(found.runs, {})[:1], Look(width), **options)


def starved() -> list[dict[str, Any]]:
    rest = {"running_seconds": 20.8, "throttled_seconds": 0.0, "disk_seconds": 0.0, "asleep_seconds": 0.0}
    time = rest | {"ready_seconds": 83.2, "wanted_cores": 1.88}
    made = lines(name="build", cores=[0.37] * 10, wall=104.0, limits={"cpu_cores": 2}, time=time)
    apart = {"mapped_file_bytes": 9 * MIB, "kernel_bytes": 0}
    return bounded(made, 54 * MIB, 58 * MIB, **apart)


def test_table_has_used_had_and_request_then_the_basis_then_lines() -> None:
    shown = text(starved()).splitlines()
    assert shown[0].startswith("proctally advise  build ") and shown[0].endswith(", starved")
    assert shown[1:] == [
        "             USED            HAD    REQUEST",
        "  cores      0.37            2      2       trial: it wanted 1.88",
        "  memory     54 to 58 MiB    -      99 MiB  58 held, 9 of files, 32 MiB more",
        "  time       1 min 44 s      -      -       starved: on 2 cores about 21 s",
        "  from one run, not a good one: run it once on a free machine, then ask again",
        "",
        "#SBATCH --mem=99M",
        "# trial, not proven by a run: --cpus-per-task=2",
    ]
    assert text(starved(), trial=True).endswith("\n\n#SBATCH --cpus-per-task=2\n#SBATCH --mem=99M\n")


def test_batch_job_that_its_time_limit_ended_has_a_trial_of_time() -> None:
    made = lines(wall=590.0, verdict="killed", signal=15, cores=[7.5] * 10, memory=GIB)
    given = {"scheduler": "pbs", "cpu_cores": 8, "memory_bytes": 4 * GIB, "time_limit_seconds": 600}
    made[0]["allocation"] = given | {"ends_at": made[0]["started_at"] + 600}
    shown = text(made)
    assert " time 9 min 50 s 10 min 20 min trial: twice its limit of 10 min " in " ".join(shown.split())
    assert "#PBS -l select=1:ncpus=8\n# trial, not proven by a run: -l walltime=00:20:00\n" in shown
    made[0]["allocation"]["ends_at"] += 600
    assert "trial" not in text(made)


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_table_fits_into_the_width(width: int) -> None:
    shown = text(starved(), width)
    assert max(map(len, shown.partition("\n\n")[0].splitlines())) <= width
    assert "starved: on 2 cores about 21 s" in " ".join(shown.split())
