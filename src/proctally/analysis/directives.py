"""Advice as lines to paste: for Slurm, PBS, LSF, Kubernetes, docker, Nextflow and Snakemake, in the units of each.

What each takes a number for, by its source or documentation; the tests read every line by the same rules, and by the
parsers of the Python packages where they are installed:

- Slurm: `--mem=512M` is 512 x 2^20 bytes, M being the default (src/common/proc_args.c, str_to_mbytes); a time is
  HH:MM:SS or D-HH:MM:SS, rounded up to minutes (src/common/parse_time.c, time_str2secs, time_str2mins).
- PBS: `mem=512mb` is 512 x 2^20 bytes, a suffix shifting by 10, 20, 30 bits (OpenPBS, src/lib/Libattr/attr_fn_size.c,
  to_size); walltime is HH:MM:SS, with as many hours as it takes (attr_fn_time.c, decode_time).
- LSF: `mem=512MB` is 512 x 2^20 bytes (bsub(1): units of -M and rusage[]); -W is [hours:]minutes. It has no parser that
  can be installed.
- Kubernetes: `Mi` is 2^20, `M` 10^6 (kubernetes.io, Managing Resources for Containers, Resource units).
- docker: `--memory 512m` is 512 x 2^20 bytes (docker/go-units, size.go, RAMInBytes); `--cpus` is a number of cores.
- Nextflow: `'512 MB'` is 512 x 2^20 bytes (nextflow.util.MemoryUnit); `'10m'` is ten minutes (nextflow.util.Duration).
- Snakemake: `mem_mb` is 10^6 bytes, `runtime` minutes (docs, Standard Resources; snakemake.resources has mem_mib too).
  Its Slurm executor passes the number to --mem as it is, where it then is a little more.

A number is always rounded up, so that no unit makes less of it than was advised. A resource of which a lower
bound alone is known is a comment. So is a trial, unless it is wanted as lines.
"""

from __future__ import annotations

import math

from proctally.analysis.advice import LABELS, NOT_ENOUGH, more_than
from proctally.analysis.evidence import CORES, GPUS, MEMORY, TIME
from proctally.text.units import job_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from proctally.analysis.advice import Advice

MIB, MB = 1 << 20, 1_000_000
KUBERNETES_GPUS = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "intel": "gpu.intel.com/i915"}


Block = list[str]  # lines that belong together


class Request:
    """The numbers, each None where there is none to request. `trial`: with those that no run proves."""

    __slots__ = ("cores", "gpus", "memory", "seconds", "vendor")

    def __init__(self, rows: Iterable[Advice], vendor: str | None, *, trial: bool) -> None:
        found = {row.resource: row.whole if row.request is not None or not trial else row.trial for row in rows}
        whole = {resource: None if value is None else math.ceil(value) for resource, value in found.items()}
        self.cores = whole.get(CORES)
        self.memory = whole.get(MEMORY)
        self.seconds = whole.get(TIME)
        self.gpus = whole.get(GPUS) or None
        self.vendor = vendor

    def mebibytes(self) -> int | None:
        """Memory, in units of 2^20 bytes."""
        return None if self.memory is None else -(-self.memory // MIB)

    def minutes(self) -> int | None:
        """Time, in minutes."""
        return None if self.seconds is None else -(-self.seconds // 60)


def slurm(request: Request) -> list[Block]:
    """Lines of a batch script. `--gres` is understood by every version, and counts for each node."""
    return _each(
        ("#SBATCH --cpus-per-task={}", request.cores),
        ("#SBATCH --mem={}M", request.mebibytes()),
        ("#SBATCH --time={}", None if request.seconds is None else job_time(request.seconds, days=True)),
        ("#SBATCH --gres=gpu:{}", request.gpus),
    )


def pbs(request: Request) -> list[Block]:
    """Lines of a job script; `ngpus` is what most sites call it."""
    chunk = _given(("ncpus={}", request.cores), ("mem={}mb", request.mebibytes()), ("ngpus={}", request.gpus))
    return _each(
        ("#PBS -l select=1:{}", ":".join(chunk) or None),
        ("#PBS -l walltime={}", None if request.seconds is None else job_time(request.seconds, days=False)),
    )


def lsf(request: Request) -> list[Block]:
    """Lines of a job script: memory is reserved, and limited to that."""
    minutes = request.minutes()
    return _each(
        ('#BSUB -n {} -R "span[hosts=1]"', request.cores),
        ('#BSUB -M {0}MB -R "rusage[mem={0}MB]"', request.mebibytes()),
        ("#BSUB -W {}", None if minutes is None else f"{minutes // 60}:{minutes % 60:02}"),
        ('#BSUB -gpu "num={}"', request.gpus),
    )


def kubernetes(request: Request) -> list[Block]:
    """`resources` of a container, and the deadline of a Job, which is at another level.

    Memory is limited to what is requested: a container above its request is the first to be evicted when the node runs
    short. CPU is requested and not limited: a request is a share that is kept in any case, while a limit stops the
    container within each 100 ms even on an idle node, and makes it slower for nothing.
    """
    requests = _given(("    cpu: {}", request.cores), ("    memory: {}Mi", request.mebibytes()))
    device = KUBERNETES_GPUS.get(request.vendor or "nvidia", "nvidia.com/gpu")
    driver = "  # or gpu.intel.com/xe, as its driver is" if request.vendor == "intel" else ""
    limits = _given(("    memory: {}Mi", request.mebibytes()), (f"    {device}: {{}}{driver}", request.gpus))
    blocks = []
    if requests or limits:
        blocks.append(["resources:  # of the container; no CPU limit: it would throttle even on an idle node"])
        blocks[0] += ["  requests:", *requests] if requests else []
        blocks[0] += ["  limits:", *limits] if limits else []
    deadline = _given(("  activeDeadlineSeconds: {}", request.seconds))
    return [*blocks, ["spec:  # of the Job", *deadline]] if deadline else blocks


def docker(request: Request) -> list[Block]:
    """Options of `docker run`; it has none for time."""
    words = _given(("--cpus={}", request.cores), ("--memory={}m", request.mebibytes()))
    blocks = []
    if request.gpus and request.vendor in (None, "nvidia"):
        words.append(f"--gpus={request.gpus}")
    elif request.gpus:
        blocks.append([f"# GPUs: {request.gpus} needed; docker has an option for those of NVIDIA alone"])
    return [*blocks, [f"docker run {' '.join(words)}"]] if words else blocks


def nextflow(request: Request) -> list[Block]:
    """Directives of a process."""
    return _each(
        ("cpus {}", request.cores),
        ("memory '{} MB'", request.mebibytes()),
        ("time '{}m'", request.minutes()),
        ("accelerator {}", request.gpus),
    )


def snakemake(request: Request) -> list[Block]:
    """Directives of a rule."""
    resources = _given(
        ("    mem_mb={},", None if request.memory is None else -(-request.memory // MB)),
        ("    runtime={},", request.minutes()),
        ("    gpu={},", request.gpus),
    )
    return [*_each(("threads: {}", request.cores)), *([["resources:", *resources]] if resources else [])]


def _given(*lines: tuple[str, object]) -> list[str]:
    """Return the lines that have a value."""
    return [form.format(value) for form, value in lines if value is not None]


def _each(*lines: tuple[str, object]) -> list[Block]:
    """Return the lines that have a value, each a block."""
    return [[line] for line in _given(*lines)]


SCHEDULERS: dict[str, Callable[[Request], list[Block]]] = {
    "slurm": slurm,
    "pbs": pbs,
    "lsf": lsf,
    "kubernetes": kubernetes,
    "docker": docker,
    "nextflow": nextflow,
    "snakemake": snakemake,
}
LANGUAGES = {
    "slurm": "sh",
    "pbs": "sh",
    "lsf": "sh",
    "kubernetes": "yaml",
    "docker": "sh",
    "nextflow": "groovy",
    "snakemake": "python",
}
MARKS = {"slurm": "#SBATCH ", "pbs": "#PBS ", "lsf": "#BSUB "}  # before each option of a script
UNPROVEN = "trial, not proven by a run:"


def directives(
    rows: Iterable[Advice], names: Sequence[str], *, vendor: str | None = None, trial: bool = False
) -> dict[str, list[str]]:
    """Return the lines for each of these schedulers.

    `vendor`: of the GPUs, where it is known. `trial`: a trial is a line as any other, and not a comment.
    """
    rows = list(rows)
    proven, tried = (Request(rows, vendor, trial=each) for each in (trial, True))
    missing = [
        f"{LABELS[row.resource]}: {NOT_ENOUGH}, {more_than(row)} needed"
        for row in rows
        if row.request is None and row.trial is None and row.at_least is not None
    ]
    return {name: _lines(name, SCHEDULERS[name](proven), SCHEDULERS[name](tried), missing) for name in names}


def _lines(name: str, proven: list[Block], tried: list[Block], missing: list[str]) -> list[str]:
    """Return comments of what is missing, blocks of what is proven, and as comments blocks that a trial changes."""
    sign = "//" if LANGUAGES[name] == "groovy" else "#"
    lines = [f"{sign} {each}" for each in missing]
    for before, block in zip([[], *proven], proven, strict=False):
        lines += ["", *block] if min(len(before), len(block)) > 1 else block
    more = [block for block in tried if block not in proven]
    if mark := MARKS.get(name):
        more = [[" ".join(line.removeprefix(mark) for block in more for line in block)]] if more else []
    for block in more:
        comments = [f"{UNPROVEN} {block[0]}"] if len(block) == 1 else [UNPROVEN, *block]
        lines += [f"{sign} {line}" for line in comments]
    return lines
