"""Secrets are in no record, summary, label or message; colours by the usual variables."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")
from exported import values  # noqa: E402
from tracked import PROCTALLY, call, environment, run, shell  # noqa: E402

SECRET = "s3cr3tVALUE99"


def test_no_file_of_a_run_has_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    token = "ghp_" + "a1B2" * 9
    script = f"true --password {SECRET} && PGPASSWORD='{SECRET}' true"
    tags = ("--tag", f"api_key={SECRET}", "--tag", f"note={token}", "--tag", "team=core")
    done = shell(tmp_path, script, "--textfile", str(path), "-n", f"nightly {token}", *tags)
    header = done.record()[0]
    assert (header["name"], header["tags"]) == ("nightly ***", {"api_key": "***", "note": "***", "team": "core"})
    assert header["command"][-1] == "true --password *** && PGPASSWORD=*** true"
    shown = done.stderr + b"".join(each.read_bytes() for each in tmp_path.rglob("*") if each.is_file())
    assert SECRET.encode() not in shown
    assert token.encode() not in shown
    assert not [each for each in tmp_path.rglob("*") if token in each.name]


def test_label_of_textfile_shows_escape_of_name(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    shell(tmp_path, "true", "--textfile", str(path), "-n", "na\x1b[31mme")
    info = next(dict(labels) for name, labels in values(path) if name == "proctally_run_info")
    assert info["name"] == "na\\x1b[31mme"
    assert b"\x1b" not in path.read_bytes()


def test_message_about_argument_has_no_password(tmp_path: Path) -> None:
    done = call(tmp_path, "attach", f"https://u:{SECRET}@h")
    assert done.stderr == b"proctally: https://u:***@h: not a PID; find one with pgrep\n"
    assert (
        call(tmp_path, "run", "--", "/nowhere/pass").stderr == b"proctally: /nowhere/pass: No such file or directory\n"
    )


@pytest.mark.parametrize(
    "options",
    [("--pushgateway", f"{SECRET}@h:1"), ("--otlp", f"u:{SECRET}@h:1"), ("--tag", f"--password:{SECRET}")],
)
def test_message_about_option_has_no_secret(tmp_path: Path, options: tuple[str, str]) -> None:
    done = run(tmp_path, *options, "true")
    assert done.status == 125
    assert b"***" in done.stderr
    assert SECRET.encode() not in done.stderr


# -- colours -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "coloured"), [("FORCE_COLOR", True), ("CLICOLOR_FORCE", True), ("CLICOLOR", False)]
)
def test_colour_without_terminal_is_forced_by_variable(tmp_path: Path, variable: str, coloured: bool) -> None:
    env = environment(tmp_path) | {variable: "1"}
    assert (b"\x1b[" in call(tmp_path, "run", "true", env=env).stderr) is coloured
    assert (b"\x1b[" in call(tmp_path, "ls", env=env).stdout) is coloured


@pytest.mark.parametrize(("term", "coloured"), [("xterm", True), ("", False), (None, False), ("vt100", False)])
def test_summary_on_terminal_is_coloured_by_its_type(tmp_path: Path, term: str | None, coloured: bool) -> None:
    env = environment(tmp_path)
    for name in ("TERM", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"):
        env.pop(name, None)
    if term is not None:
        env["TERM"] = term
    master, terminal = os.openpty()
    try:
        subprocess.run([*PROCTALLY, "run", "--", "true"], env=env, stderr=terminal, check=True)
        assert (b"\x1b[" in os.read(master, 65536)) is coloured
    finally:
        os.close(master)
        os.close(terminal)
