"""Paths of this repository that documents and code name exist."""

import re
import subprocess

import pytest

from places import ROOT

FOLDERS = "bench|docs|examples|scripts|src/proctally|tests"
NAMED = re.compile(rf"\b(?:{FOLDERS})/[a-z0-9_./-]+\.(?:py|css|js|md|sh|jsonl?|txt|c)\b")
TEXTS = (".py", ".md", ".toml", ".c", ".js", ".css")


def tracked() -> list[str]:
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a checkout of git")
    return [name for name in listed.splitlines() if name.endswith(TEXTS) or name == "Makefile"]


def test_paths_that_are_named_exist() -> None:
    missing = [
        f"{name}: {found}"
        for name in tracked()
        for found in NAMED.findall((ROOT / name).read_text(encoding="utf-8"))
        if not (ROOT / found).exists()
    ]
    assert missing == []
