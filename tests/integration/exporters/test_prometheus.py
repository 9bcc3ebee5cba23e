"""The text format, checked by the real promtool."""

from __future__ import annotations

import shutil
import subprocess

import pytest

pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")
from proctally.exporters.prometheus import TEXT, Exposition  # noqa: E402
from prometheus_lines import ALL, fed  # noqa: E402

# -- the text --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_finds_nothing_to_complain_of() -> None:
    done = subprocess.run(["promtool", "check", "metrics"], input=Exposition(fed(*ALL)).text(TEXT), capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
