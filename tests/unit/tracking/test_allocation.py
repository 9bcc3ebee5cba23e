"""What a scheduler gave to a job, by its environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctally.tracking.allocation import MIB, NAMES, allocation

SLURM = {
    "SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "4", "SLURM_MEM_PER_NODE": "16000",
    "SLURM_JOB_START_TIME": "1795000000", "SLURM_JOB_END_TIME": "1795003600", "SLURM_GPUS_ON_NODE": "2",
    "SLURM_JOB_ACCOUNT": "physics", "SLURM_JOB_PARTITION": "long",
}  # fmt: skip
NUMBERS = ("cpu_cores", "memory_bytes", "gpus", "time_limit_seconds", "ends_at")
VARIABLES = (
    *SLURM, "SLURM_MEM_PER_CPU", "PBS_JOBID", "NCPUS", "PBS_NUM_PPN", "PBS_WALLTIME", "LSB_JOBID", "LSB_DJOB_NUMPROC",
    "LSB_CG_MEMLIMIT", "KUBERNETES_SERVICE_HOST", "MY_CPU_REQUEST", "MY_MEM_REQUEST",
)  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "values"),
    [
        (SLURM, (4, 16000 * MIB, 2, 3600, 1795003600)),
        (SLURM | {"SLURM_MEM_PER_NODE": "0", "SLURM_MEM_PER_CPU": "2000"}, (4, 16000 * MIB, 2, 3600, 1795003600)),
        ({"SLURM_JOB_ID": "7", "SLURM_MEM_PER_NODE": "0", "SLURM_JOB_END_TIME": "5"}, (None, None, None, None, 5)),
        ({"PBS_JOBID": "7.a", "NCPUS": "3", "PBS_WALLTIME": "3600"}, (3, None, None, 3600, None)),
        ({"LSB_JOBID": "7", "LSB_DJOB_NUMPROC": "3", "LSB_CG_MEMLIMIT": "0x40000000"}, (3, 1 << 30, None, None, None)),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "MY_CPU_REQUEST": "2", "MY_MEM_REQUEST": "1073741824"},
         (2, 1 << 30, None, None, None)),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, (None,) * 5),
    ],
)  # fmt: skip
def test_each_scheduler_has_its_variables(environment: dict[str, str], values: tuple[int | None, ...]) -> None:
    found = allocation(environment, "/nothing")
    assert found is not None and tuple(found[name] for name in NUMBERS) == values
    names = [environment.get(name) for name in NAMES.get(found["scheduler"], ("", ""))]
    assert [found["account"], found["partition"]] == names


def test_files_of_a_pod(tmp_path: Path) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    tmp_path.joinpath("cpu_request").write_text("1500\n")
    for text, memory in (("256", 256 * MIB), ("268435456", 256 * MIB), ("1Gi", None), ("\xff" * 99, None)):
        tmp_path.joinpath("mem_request").write_text(text)
        found = allocation(environment, str(tmp_path))
        assert found is not None and (found["cpu_cores"], found["memory_bytes"]) == (1.5, memory), text


@pytest.mark.timeout(10)
def test_file_of_a_pod_that_is_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cpu_request")
    found = allocation({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, str(tmp_path))
    assert found is not None and found["cpu_cores"] is None


@given(st.dictionaries(st.sampled_from(VARIABLES), st.text() | st.integers().map(str) | st.just("9" * 5000)))
def test_no_value_is_an_error(environment: dict[str, str]) -> None:
    found = allocation(environment, "/nothing") or {}
    assert all(found.get(name) is None or 0 < found[name] < 1 << 63 for name in NUMBERS)
