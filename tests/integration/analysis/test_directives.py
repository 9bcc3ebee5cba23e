"""A batch script with directives, run by a shell."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from directives_of import made
from made import GIB, MIB
from proctally.analysis.directives import SCHEDULERS, directives

# -- what they say ---------------------------------------------------------------------------------------------------


def test_a_script_with_the_lines_is_a_script(tmp_path: Path) -> None:
    """What is pasted keeps a shell from nothing, and kubectl's own reader takes the YAML, where there is one."""
    found = directives(made(2.5, GIB, 600, 1), list(SCHEDULERS))
    for name in ("slurm", "pbs"):
        script = tmp_path / name
        script.write_text("\n".join(["#!/bin/sh", *found[name], "echo ran"]) + "\n")
        assert subprocess.run(["sh", str(script)], capture_output=True, text=True, check=True).stdout == "ran\n"
    assert compile("\n".join(["dict(", *found["snakemake"][2:], ")"]), "rule", "eval")  # Snakemake's are Python's own
    if shutil.which("kubectl") is None:
        return
    pod = [
        "apiVersion: v1",
        "kind: Pod",
        "metadata: {name: a}",
        "spec:",
        "  containers:",
        "  - name: a",
        "    image: a",
    ]
    (tmp_path / "pod.yaml").write_text("\n".join(pod + [f"    {line}" for line in found["kubernetes"][:-3]]) + "\n")
    command = ["kubectl", "set", "image", "--local", "-o", "json", "-f", str(tmp_path / "pod.yaml"), "a=b"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert '"nvidia.com/gpu": "1"' in done.stdout


# -- parsers of the packages ------------------------------------------------------------------------------------------
# Slurm's sbatch parses only where a controller answers; PBS, LSF and Nextflow are not on PyPI.


def test_kubernetes_client_reads_the_quantities() -> None:
    quantity = pytest.importorskip("kubernetes.utils.quantity", reason="the package kubernetes is not installed")
    found = "\n".join(directives(made(2, 105 * MIB, 90), ["kubernetes"])["kubernetes"])
    assert {quantity.parse_quantity(text) for text in re.findall(r"memory: (\S+)", found)} == {105 * MIB}
    assert [quantity.parse_quantity(text) for text in re.findall(r"cpu: (\S+)", found)] == [2]


def test_docker_client_reads_the_memory() -> None:
    utils = pytest.importorskip("docker.utils", reason="the package docker is not installed")
    found = directives(made(2, 105 * MIB, 90), ["docker"])["docker"]
    assert [utils.parse_bytes(text) for text in re.findall(r"--memory=(\S+)", found[0])] == [105 * MIB]


def test_snakemake_reads_the_rule(tmp_path: Path) -> None:
    pytest.importorskip("snakemake", reason="the package snakemake is not installed")
    rule = directives(made(2, 105 * MIB, 90), ["snakemake"])["snakemake"]
    shown = "'echo MIB={resources.mem_mib} MIN={resources.runtime} CORES={threads}'"
    lines = ["rule a:", "    output: 'x'", *(f"    {line}" for line in rule), f"    shell: {shown}"]
    (tmp_path / "Snakefile").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "snakemake", "-n", "-p", "--cores", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    found = re.search(r"MIB=(\d+) MIN=(\d+) CORES=(\d+)", done.stdout + done.stderr)
    assert found is not None, done.stderr
    assert int(found[1]) >= 105 and found.groups()[1:] == ("2", "2")
