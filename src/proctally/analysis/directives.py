"""Advice as lines to paste: for Slurm, PBS, Kubernetes, docker, Nextflow and Snakemake, in the units of each.

What each takes a number for, by its own source or documentation; the tests read every line back so:

- Slurm: `--mem=512M` is 512 x 2^20 bytes, M being the default (src/common/proc_args.c, str_to_mbytes); a time is
  HH:MM:SS or D-HH:MM:SS, rounded up to minutes (src/common/parse_time.c, time_str2secs, time_str2mins).
- PBS: `mem=512mb` is 512 x 2^20 bytes, a suffix shifting by 10, 20, 30 bits (OpenPBS, src/lib/Libattr/attr_fn_size.c,
  to_size); walltime is HH:MM:SS, with as many hours as it takes (attr_fn_time.c, decode_time).
- Kubernetes: `Mi` is 2^20, `M` 10^6 (kubernetes.io, Managing Resources for Containers, Resource units).
- docker: `--memory 512m` is 512 x 2^20 bytes (docker/go-units, size.go, RAMInBytes); `--cpus` is a number of cores.
- Nextflow: `'512 MB'` is 512 x 2^20 bytes (nextflow.util.MemoryUnit); `'10m'` is ten minutes (nextflow.util.Duration).
- Snakemake: `mem_mb` is 10^6 bytes, `runtime` minutes (docs, Standard Resources; snakemake.resources has mem_mib beside
  it). Its Slurm executor hands the number on to --mem as it is, where it then is a little more.

A number is always rounded up, so that no unit makes less of it than was advised. What the evidence is not enough for
stands as a comment, and is not asked for.
"""

from __future__ import annotations

from proctally.analysis.advice import LABELS, NOT_ENOUGH, more_than
from proctally.analysis.evidence import CORES, GPUS, MEMORY, TIME
from proctally.text.units import job_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from proctally.analysis.advice import Advice

MIB, MB = 1 << 20, 1_000_000
KUBERNETES_GPUS = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "intel": "gpu.intel.com/i915"}


class Request:
    """The numbers, each None where there is none to ask for."""

    __slots__ = ("cores", "gpus", "memory", "missing", "seconds", "vendor")

    def __init__(self, rows: Iterable[Advice], vendor: str | None) -> None:
        rows = list(rows)
        whole = {row.resource: row.whole for row in rows}
        self.cores = whole.get(CORES)
        self.memory = whole.get(MEMORY)
        self.seconds = whole.get(TIME)
        self.gpus = whole.get(GPUS) or None
        self.vendor = vendor
        self.missing = [_missing(row) for row in rows if row.request is None]

    def mebibytes(self) -> int | None:
        """Memory, in units of 2^20 bytes."""
        return None if self.memory is None else -(-self.memory // MIB)

    def minutes(self) -> int | None:
        """Time, in minutes."""
        return None if self.seconds is None else -(-self.seconds // 60)


def _missing(advice: Advice) -> str:
    """In one line, for a comment: nothing of it comes from strangers."""
    needed = "" if advice.at_least is None else f", {more_than(advice)} needed"
    return f"{LABELS[advice.resource]}: {NOT_ENOUGH}{needed}"


def slurm(request: Request) -> list[str]:
    """Lines of a batch script. `--gres` is understood by every version, and counts for each node."""
    return [
        *(f"# {each}" for each in request.missing),
        *_given("#SBATCH --cpus-per-task={}", request.cores),
        *_given("#SBATCH --mem={}M", request.mebibytes()),
        *_given("#SBATCH --time={}", None if request.seconds is None else job_time(request.seconds, days=True)),
        *_given("#SBATCH --gres=gpu:{}", request.gpus),
    ]


def pbs(request: Request) -> list[str]:
    """Lines of a job script; `ngpus` is what most sites call it."""
    chunk = [
        *_given("ncpus={}", request.cores),
        *_given("mem={}mb", request.mebibytes()),
        *_given("ngpus={}", request.gpus),
    ]
    return [
        *(f"# {each}" for each in request.missing),
        *([f"#PBS -l select=1:{':'.join(chunk)}"] if chunk else []),
        *_given("#PBS -l walltime={}", None if request.seconds is None else job_time(request.seconds, days=False)),
    ]


def kubernetes(request: Request) -> list[str]:
    """`resources` of a container, and the deadline of a Job.

    Memory is limited to what is requested: what is above its request is the first to be evicted when the node runs
    short. CPU is requested and not limited: a request is a share that is kept in any case, while a limit stops the
    container within each 100 ms even on an idle node, and makes it slower for nothing.
    """
    requests = [
        *_given("    cpu: {}", request.cores),
        *_given("    memory: {}Mi", request.mebibytes()),
    ]
    device = KUBERNETES_GPUS.get(request.vendor or "nvidia", "nvidia.com/gpu")
    driver = "  # or gpu.intel.com/xe, as its driver is" if request.vendor == "intel" else ""
    limits = [
        *_given("    memory: {}Mi", request.mebibytes()),
        *_given(f"    {device}: {{}}{driver}", request.gpus),
    ]
    lines = [f"# {each}" for each in request.missing]
    if requests or limits:
        lines.append("resources:  # of the container; no CPU limit: it would throttle even on an idle node")
        lines += ["  requests:", *requests] if requests else []
        lines += ["  limits:", *limits] if limits else []
    lines += _given("activeDeadlineSeconds: {}  # of the Job's spec", request.seconds)
    return lines


def docker(request: Request) -> list[str]:
    """Options of `docker run`; it has none for time."""
    words = [
        *_given("--cpus={}", request.cores),
        *_given("--memory={}m", request.mebibytes()),
    ]
    lines = [f"# {each}" for each in request.missing]
    if request.gpus and request.vendor in (None, "nvidia"):
        words.append(f"--gpus={request.gpus}")
    elif request.gpus:
        lines.append(f"# GPUs: {request.gpus} needed; docker has an option for those of NVIDIA alone")
    return [*lines, f"docker run {' '.join(words)}"] if words else lines


def nextflow(request: Request) -> list[str]:
    """Directives of a process."""
    return [
        *(f"// {each}" for each in request.missing),
        *_given("cpus {}", request.cores),
        *_given("memory '{} MB'", request.mebibytes()),
        *_given("time '{}m'", request.minutes()),
        *_given("accelerator {}", request.gpus),
    ]


def snakemake(request: Request) -> list[str]:
    """Directives of a rule."""
    resources = [
        *_given("    mem_mb={},", None if request.memory is None else -(-request.memory // MB)),
        *_given("    runtime={},", request.minutes()),
        *_given("    gpu={},", request.gpus),
    ]
    return [
        *(f"# {each}" for each in request.missing),
        *_given("threads: {}", request.cores),
        *(["resources:", *resources] if resources else []),
    ]


def _given(form: str, value: object) -> list[str]:
    """A line, where there is a value for it."""
    return [] if value is None else [form.format(value)]


SCHEDULERS: dict[str, Callable[[Request], list[str]]] = {
    "slurm": slurm,
    "pbs": pbs,
    "kubernetes": kubernetes,
    "docker": docker,
    "nextflow": nextflow,
    "snakemake": snakemake,
}
LANGUAGES = {
    "slurm": "sh",
    "pbs": "sh",
    "kubernetes": "yaml",
    "docker": "sh",
    "nextflow": "groovy",
    "snakemake": "python",
}


def directives(rows: Iterable[Advice], names: Sequence[str], *, vendor: str | None = None) -> dict[str, list[str]]:
    """Return the lines for each of these schedulers. `vendor`: of the GPUs, where it is known."""
    request = Request(rows, vendor)
    return {name: SCHEDULERS[name](request) for name in names}
