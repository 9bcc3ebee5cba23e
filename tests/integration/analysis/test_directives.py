"""A batch script with directives, run by a shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from directives_of import made
from made import GIB
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
    (tmp_path / "pod.yaml").write_text(
        "\n".join(pod + [f"    {line}" for line in found["kubernetes"] if "Deadline" not in line]) + "\n"
    )
    command = ["kubectl", "set", "image", "--local", "-o", "json", "-f", str(tmp_path / "pod.yaml"), "a=b"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert '"nvidia.com/gpu": "1"' in done.stdout
