"""Every line read back by the rule of the scheduler that it is for: never less than was advised, nor much more.

The readers below follow the sources that analysis/directives.py names; what they refuse is a mistake in a line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from directives_of import made
from made import GIB, MIB, gpu, lines
from proctally.analysis.advice import request_rows
from proctally.analysis.directives import SCHEDULERS, directives
from proctally.analysis.evidence import Evidence

patient = settings(deadline=None)
MB = 10**6


class Asked:
    """What a scheduler makes of lines: cores, bytes, seconds, devices; None where it was not told."""

    def __init__(self) -> None:
        self.cores: float | None = None
        self.memory: float | None = None
        self.seconds: float | None = None
        self.gpus: int | None = None
        self.comments: list[str] = []


# -- the rules -------------------------------------------------------------------------------------------------------


def slurm_megabytes(text: str) -> int:
    """str_to_mbytes: digits and K, M, G or T, with or without B; M is the default; K is rounded up."""
    digits, unit = re.fullmatch(r"(\d+)([kKmMgGtT]?)[bB]?", text).groups()  # type: ignore[union-attr]
    number = int(digits)
    return {"k": (number + 1023) // 1024, "": number, "m": number, "g": number << 10, "t": number << 20}[unit.lower()]


def slurm_seconds(text: str) -> int:
    """time_str2secs: min, min:sec, hr:min:sec, days-hr, days-hr:min, days-hr:min:sec; in whole minutes, rounded up."""
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        parts += [0] * (3 - len(parts))
        total = int(days) * 86400 + parts[0] * 3600 + parts[1] * 60 + parts[2]
    elif len(parts) == 3:
        total = parts[0] * 3600 + parts[1] * 60 + parts[2]
    else:
        total = parts[0] * 60 + (parts[1] if len(parts) == 2 else 0)
    return (total + 59) // 60 * 60


def by_slurm(text: list[str]) -> Asked:
    asked = Asked()
    for line in text:
        if line.startswith("# "):
            asked.comments.append(line)
            continue
        option, _, value = line.removeprefix("#SBATCH --").partition("=")
        assert line.startswith("#SBATCH --"), line
        if option == "cpus-per-task":
            asked.cores = int(value)
        elif option == "mem":
            asked.memory = slurm_megabytes(value) * MIB
        elif option == "time":
            asked.seconds = slurm_seconds(value)
        else:
            assert option == "gres" and value.startswith("gpu:"), line
            asked.gpus = int(value.removeprefix("gpu:"))
    return asked


def pbs_bytes(text: str) -> int:
    """to_size: digits, then k, m, g, t or p as a shift, then b for bytes (w for words)."""
    digits, unit = re.fullmatch(r"(\d+)([kKmMgGtTpP]?)[bB]?", text).groups()  # type: ignore[union-attr]
    return int(digits) << 10 * " kmgtp".index(unit.lower() or " ")


def pbs_seconds(text: str) -> int:
    """decode_time: [[hh:]mm:]ss, with as many digits as one likes."""
    parts = text.split(":")
    assert 1 <= len(parts) <= 3 and all(part.isdecimal() for part in parts), text
    return sum(int(part) * 60**place for place, part in enumerate(reversed(parts)))


def by_pbs(text: list[str]) -> Asked:
    asked = Asked()
    for line in text:
        if line.startswith("# "):
            asked.comments.append(line)
        elif line.startswith("#PBS -l select=1:"):
            for part in line.removeprefix("#PBS -l select=1:").split(":"):
                name, _, value = part.partition("=")
                if name == "mem":
                    asked.memory = pbs_bytes(value)
                elif name == "ngpus":
                    asked.gpus = int(value)
                else:
                    assert name == "ncpus", line
                    asked.cores = int(value)
        else:
            assert line.startswith("#PBS -l walltime="), line
            asked.seconds = pbs_seconds(line.removeprefix("#PBS -l walltime="))
    return asked


def by_lsf(text: list[str]) -> Asked:
    """bsub(1): -n slots, -M and rusage[mem] in 2^20 bytes, -W [hours:]minutes."""
    asked = Asked()
    for line in text:
        if line.startswith("# "):
            asked.comments.append(line)
        elif found := re.fullmatch(r'#BSUB -n (\d+) -R "span\[hosts=1\]"', line):
            asked.cores = int(found[1])
        elif found := re.fullmatch(r'#BSUB -M (\d+)MB -R "rusage\[mem=(\d+)MB\]"', line):
            assert found[1] == found[2]
            asked.memory = int(found[1]) * MIB
        elif found := re.fullmatch(r"#BSUB -W (\d+):(\d\d)", line):
            asked.seconds = int(found[1]) * 3600 + int(found[2]) * 60
        else:
            asked.gpus = int(re.fullmatch(r'#BSUB -gpu "num=(\d+)"', line)[1])  # type: ignore[index]
    return asked


KUBERNETES = {"": 1, "m": 0.001, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12} | {
    f"{unit}i": 1 << 10 * power for power, unit in enumerate("KMGT", 1)
}


def quantity(text: str) -> float:
    """A quantity of Kubernetes: a number and a suffix, of which `m` is a thousandth and `Mi` 2^20."""
    number, suffix = re.fullmatch(r"([\d.]+)([a-zA-Z]*)", text).groups()  # type: ignore[union-attr]
    return float(number) * KUBERNETES[suffix]


def by_kubernetes(text: list[str]) -> Asked:
    asked, section, found = Asked(), "", {}
    for line in text:
        if line.startswith("# "):
            asked.comments.append(line)
            continue
        if not line or line.startswith("spec:"):
            continue
        bare = line.partition("  #")[0]
        depth = (len(bare) - len(bare.lstrip())) // 2
        name, _, value = bare.strip().rpartition(":") if bare.endswith(":") else bare.strip().partition(":")
        if name == "activeDeadlineSeconds":
            asked.seconds = int(value)
        elif depth == 1:
            section = bare.strip().removesuffix(":")
        elif depth == 2:
            found[section, name] = quantity(value.strip())
        else:
            assert bare == "resources:", line
    asked.cores = found.get(("requests", "cpu"))
    asked.memory = found.get(("requests", "memory"))
    assert found.get(("limits", "memory")) == asked.memory
    assert ("limits", "cpu") not in found
    devices = [value for (where, name), value in found.items() if where == "limits" and "/" in name]
    asked.gpus = int(devices[0]) if devices else None
    return asked


def docker_bytes(text: str) -> int:
    """RAMInBytes: `^(\\d+(\\.\\d+)*) ?([kmgtp])?i?b?$`, each unit of 1024."""
    digits, unit = re.fullmatch(r"(?i)(\d+(?:\.\d+)*) ?([kmgtp])?i?b?", text).groups()  # type: ignore[union-attr]
    return int(float(digits) * 1024 ** " kmgtp".index((unit or " ").lower()))


def by_docker(text: list[str]) -> Asked:
    asked = Asked()
    for line in text:
        if line.startswith("# "):
            asked.comments.append(line)
            continue
        for word in line.removeprefix("docker run ").split():
            name, _, value = word.partition("=")
            if name == "--memory":
                asked.memory = docker_bytes(value)
                assert asked.memory >= 6 * MIB  # the least that it takes
            elif name == "--gpus":
                asked.gpus = int(value)
            else:
                assert name == "--cpus", line
                asked.cores = float(value)
    return asked


def by_nextflow(text: list[str]) -> Asked:
    """MemoryUnit: `([0-9\\.]+)\\s*(\\S)?B?`, powers of 1024. Duration: a 32-bit float, and `m`."""
    asked = Asked()
    for line in text:
        name, _, value = line.partition(" ")
        if name == "//":
            asked.comments.append(line)
        elif name == "cpus":
            asked.cores = int(value)
        elif name == "memory":
            number, unit = re.fullmatch(r"'([0-9.]+)\s*(\S)?B?'", value).groups()  # type: ignore[union-attr]
            asked.memory = round(float(number) * 1024 ** "BKMGT".index(unit))
        elif name == "time":
            number = re.fullmatch(r"'(\d+\.?\d*)\s*m'", value).group(1)  # type: ignore[union-attr]
            assert int(number) < 1 << 24  # what 32 bits hold without rounding
            asked.seconds = int(number) * 60
        else:
            assert name == "accelerator", line
            asked.gpus = int(value)
    return asked


def by_snakemake(text: list[str]) -> Asked:
    asked = Asked()
    for line in text:
        if line.startswith("# "):
            asked.comments.append(line)
        elif line.startswith("threads: "):
            asked.cores = int(line.removeprefix("threads: "))
        elif line != "resources:":
            name, value = re.fullmatch(r" {4}(\w+)=(\d+),", line).groups()  # type: ignore[union-attr]
            if name == "mem_mb":
                asked.memory = int(value) * MB
            elif name == "runtime":
                asked.seconds = int(value) * 60
            else:
                assert name == "gpu", line
                asked.gpus = int(value)
    return asked


RULES: dict[str, Callable[[list[str]], Asked]] = {
    "slurm": by_slurm,
    "pbs": by_pbs,
    "lsf": by_lsf,
    "kubernetes": by_kubernetes,
    "docker": by_docker,
    "nextflow": by_nextflow,
    "snakemake": by_snakemake,
}


# -- what they say ---------------------------------------------------------------------------------------------------


def test_every_scheduler_has_a_rule() -> None:
    assert RULES.keys() == SCHEDULERS.keys()


@pytest.mark.parametrize("name", RULES)
@patient
@given(st.floats(0.1, 4096), st.integers(6 * MIB, 1 << 44), st.floats(0.001, 3e7), st.integers(0, 64))
def test_never_less_than_was_advised(name: str, cores: float, memory: int, seconds: float, gpus: int) -> None:
    asked = RULES[name](directives(made(cores, memory, seconds, gpus), [name])[name])
    assert asked.cores is not None and asked.cores == math.ceil(cores)
    assert asked.memory is not None and memory <= asked.memory < memory + MIB
    assert asked.gpus == (gpus or None)
    if name == "docker":
        assert asked.seconds is None
    else:
        assert asked.seconds is not None and seconds <= asked.seconds < seconds + 61
    assert asked.comments == []


@pytest.mark.parametrize("name", RULES)
def test_a_peak_of_636_mib_is_no_request_of_128(name: str) -> None:
    """From a record to what the scheduler understands."""
    runs = [Evidence.of(lines(memory=636 * MIB, process=636 * MIB, wall=4000.0, cores=[3.7] * 50))]
    asked = RULES[name](directives(request_rows(runs), [name])[name])
    assert asked.memory is not None and 636 * MIB * 1.2 < asked.memory < 636 * MIB * 1.3
    assert asked.cores is not None and 3.5 < asked.cores <= 4
    assert name == "docker" or (asked.seconds is not None and 6000 <= asked.seconds <= 6300)


@pytest.mark.parametrize("name", RULES)
def test_what_is_not_known_is_a_comment_and_not_asked_for(name: str) -> None:
    cut = lines(
        memory=3 * GIB, wall=50.0, verdict="oom", evidence="evil\n#SBATCH --mem=1", limits={"memory_bytes": 4 * GIB}
    )
    text = directives(request_rows([Evidence.of(cut)]), [name])[name]
    asked = RULES[name](text)
    assert asked.memory is None and asked.seconds is None and asked.cores == 1
    assert any("trial, not proven by a run:" in line for line in asked.comments)
    assert any("time: not enough evidence, more than 50" in line for line in asked.comments)
    assert "evil" not in "".join(text)


@pytest.mark.parametrize("name", RULES)
def test_nothing_known_is_nothing_asked_for(name: str) -> None:
    asked = RULES[name](directives(made(None, None, None), [name])[name])
    assert (asked.cores, asked.memory, asked.seconds, asked.gpus) == (None, None, None, None)
    assert asked.comments == []


@pytest.mark.parametrize("name", RULES)
def test_a_trial_is_a_comment_unless_it_is_wanted(name: str) -> None:
    rows = made(2, None, 90)
    rows[1].trial = 400 * MIB
    commented = directives(rows, [name])[name]
    asked = RULES[name](commented)
    assert (asked.cores, asked.memory) == (2, None) and any("trial" in line for line in asked.comments)
    asked = RULES[name](directives(rows, [name], trial=True)[name])
    assert asked.memory is not None and asked.memory >= 400 * MIB and asked.comments == []


def test_a_trial_of_slurm_is_one_comment() -> None:
    rows = made(None, 99 * MIB, None)
    rows[0].trial, rows[2].at_least = 2, 50.0
    assert directives(rows, ["slurm", "pbs"]) == {
        "slurm": [
            "# time: not enough evidence, more than 50 s needed", "#SBATCH --mem=99M",
            "# trial, not proven by a run: --cpus-per-task=2",
        ],
        "pbs": [
            "# time: not enough evidence, more than 50 s needed", "#PBS -l select=1:mem=99mb",
            "# trial, not proven by a run: -l select=1:ncpus=2:mem=99mb",
        ],
    }  # fmt: skip


def test_a_day_and_more() -> None:
    found = directives(made(1, GIB, 2 * 86400 + 3661, 0), ["slurm", "pbs"])
    assert "#SBATCH --time=2-01:01:01" in found["slurm"]
    assert "#PBS -l walltime=49:01:01" in found["pbs"]


@pytest.mark.parametrize(
    ("vendor", "kubernetes", "docker"),
    [
        (None, "nvidia.com/gpu: 2", "--gpus=2"),
        ("nvidia", "nvidia.com/gpu: 2", "--gpus=2"),
        ("amd", "amd.com/gpu: 2", "# GPUs: 2 needed"),
        ("intel", "gpu.intel.com/i915: 2  # or gpu.intel.com/xe", "# GPUs: 2 needed"),
    ],
)
def test_gpus_of_a_vendor(vendor: str | None, kubernetes: str, docker: str) -> None:
    found = directives(made(1, GIB, 60, 2), ["kubernetes", "docker"], vendor=vendor)
    assert any(kubernetes in line for line in found["kubernetes"])
    assert any(docker in line for line in found["docker"])
    assert ("--gpus" in "".join(line for line in found["docker"] if line.startswith("docker"))) is (
        vendor in (None, "nvidia")
    )
    assert by_kubernetes(found["kubernetes"]).gpus == 2


def test_gpus_from_a_record() -> None:
    listed = [gpu(0, ratio=0.5, memory=GIB), gpu(1, memory=GIB), gpu(2)]
    found = directives(request_rows([Evidence.of(lines(gpus=listed))]), ["slurm"])["slurm"]
    assert "#SBATCH --gres=gpu:1" in found
