"""What a scheduler gave to the job, from the environment of the job: Slurm, PBS, LSF and Kubernetes.

Loaded only where one of their variables is there. A value of another form is unknown: None.

- Slurm (sbatch(1), output environment variables): memory in MiB, where 0 is all of the node; times in Unix seconds.
- PBS: NCPUS and PBS_QUEUE (OpenPBS), PBS_NUM_PPN and PBS_WALLTIME in seconds (Torque). Memory is not there.
- LSF: LSB_CG_MEMLIMIT in bytes, as a hexadecimal number; the time limit is not there.
- Kubernetes has no such variables: those and the files of its documentation of the downward API are read, which a pod
  has to have in its specification. The files are in thousandths of a core, and in MiB or bytes.
"""

from __future__ import annotations

from proctally.errors import UNREADABLE
from proctally.linux.machine import contents
from proctally.text.escape import argument_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from proctally.record import JsonObject

MIB = 1 << 20
MOST = 1 << 63
MOST_DIGITS = 18
MOST_NAMES = 200  # signs of an account or a partition
POD_FILES = "/etc/podinfo"


def allocation(environment: Mapping[str, str], pod_files: str = POD_FILES) -> JsonObject | None:
    """Return the section `allocation` of the first line; None without a scheduler."""
    for name, scheduler, read in READERS:
        if environment.get(name):
            found = dict.fromkeys(("cpu_cores", "memory_bytes", "gpus", "time_limit_seconds", "ends_at"))
            found |= {key: value for key, value in read(environment, pod_files).items() if (value or 0) < MOST}
            return {"scheduler": scheduler, **found, **_names(environment, scheduler)}
    return None


def _slurm(given: Mapping[str, str], _: str) -> JsonObject:
    on_node = _count(given.get("SLURM_CPUS_ON_NODE"))
    cores = _count(given.get("SLURM_CPUS_PER_TASK")) or on_node
    memory = _count(given.get("SLURM_MEM_PER_NODE"))
    per_cpu = _count(given.get("SLURM_MEM_PER_CPU"))
    if memory is None and per_cpu is not None and on_node is not None:
        memory = per_cpu * on_node
    started, ends = _count(given.get("SLURM_JOB_START_TIME")), _count(given.get("SLURM_JOB_END_TIME"))
    return {
        "cpu_cores": cores,
        "memory_bytes": None if memory is None else memory * MIB,
        "gpus": _count(given.get("SLURM_GPUS_ON_NODE")),
        "time_limit_seconds": None if started is None or ends is None or ends <= started else ends - started,
        "ends_at": ends,
    }


def _pbs(given: Mapping[str, str], _: str) -> JsonObject:
    return {
        "cpu_cores": _count(given.get("NCPUS")) or _count(given.get("PBS_NUM_PPN")),
        "time_limit_seconds": _count(given.get("PBS_WALLTIME")),
    }


def _lsf(given: Mapping[str, str], _: str) -> JsonObject:
    return {
        "cpu_cores": _count(given.get("LSB_DJOB_NUMPROC")),
        "memory_bytes": _count(given.get("LSB_CG_MEMLIMIT"), 16),
    }


def _kubernetes(given: Mapping[str, str], pod_files: str) -> JsonObject:
    cores, memory = _count(given.get("MY_CPU_REQUEST")), _count(given.get("MY_MEM_REQUEST"))
    thousandths = _count(_content(f"{pod_files}/cpu_request")) if cores is None else None
    mebibytes = _count(_content(f"{pod_files}/mem_request")) if memory is None else None
    if mebibytes is not None:
        memory = mebibytes if mebibytes >= MIB else mebibytes * MIB
    return {"cpu_cores": thousandths / 1000 if thousandths else cores, "memory_bytes": memory}


READERS = (
    ("SLURM_JOB_ID", "slurm", _slurm),
    ("PBS_JOBID", "pbs", _pbs),
    ("LSB_JOBID", "lsf", _lsf),
    ("KUBERNETES_SERVICE_HOST", "kubernetes", _kubernetes),
)
NAMES = {  # variables of account and partition
    "slurm": ("SLURM_JOB_ACCOUNT", "SLURM_JOB_PARTITION"),
    "pbs": ("PBS_ACCOUNT", "PBS_QUEUE"),
    "lsf": ("LSB_PROJECT_NAME", "LSB_QUEUE"),
}


def _names(environment: Mapping[str, str], scheduler: str) -> dict[str, str | None]:
    values = [environment.get(name) for name in NAMES.get(scheduler, ("", ""))]
    account, partition = (argument_text(value)[:MOST_NAMES] if value else None for value in values)
    return {"account": account, "partition": partition}


def _count(text: str | None, base: int = 10) -> int | None:
    """Return a number above 0; None for anything else."""
    if not text or not text.isascii() or not text.isalnum() or len(text) > MOST_DIGITS:
        return None
    try:
        return int(text, base) or None
    except ValueError:
        return None


def _content(path: str) -> str | None:
    try:
        return contents(path, to_end=False).decode("ascii").strip()
    except UNREADABLE:
        return None
