"""What a run exports, by options and variables."""

from __future__ import annotations

import errno
import os
import re
import sys
import tomllib
from pathlib import Path

import pytest

from places import ROOT
from proctally.errors import UsageError  # noqa: E402
from proctally.exporters.otlp_sender import settings  # noqa: E402
from proctally.tracking.config import (
    Options,  # noqa: E402
)
from proctally.tracking.exporting import (  # noqa: E402
    OLDEST,
    Outlets,  # noqa: E402
    listen,
)

pytest.importorskip("grpc", reason="the extra otlp is not installed")


pytest.importorskip("opentelemetry.proto", reason="the extra otlp is not installed")


@pytest.mark.parametrize(
    ("flag", "variables", "target", "secure"),
    [
        ("env", {"ENDPOINT": "h:1", "PROTOCOL": "grpc"}, "h:1", True),
        ("env", {"ENDPOINT": "h:1", "METRICS_PROTOCOL": "grpc", "INSECURE": "True"}, "h:1", False),
        ("env", {"ENDPOINT": "x:1", "METRICS_ENDPOINT": "h:1", "PROTOCOL": "grpc", "INSECURE": "no"}, "h:1", True),
        ("h:1", {"PROTOCOL": "grpc", "METRICS_INSECURE": "true", "INSECURE": "false"}, "h:1", False),
        ("env", {"ENDPOINT": " http://h:1 ", "METRICS_ENDPOINT": " ", "PROTOCOL": "grpc"}, "h:1", False),
        ("env", {"ENDPOINT": "https://h", "PROTOCOL": "grpc", "INSECURE": "true"}, "h:4317", True),
        ("env", {"ENDPOINT": "http://h:1/", "METRICS_ENDPOINT": " "}, "http://h:1/v1/metrics", False),
    ],
)
def test_where_to_by_the_variables(flag: str, variables: dict[str, str], target: str, secure: bool) -> None:
    env = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in variables.items()}
    options = Options()
    options.otlp = flag
    told = settings(Outlets(options, env, {}).config()["otlp"], env)
    assert (told.endpoint, told.secure) == (target, secure)


pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")


# -- what is said before anything starts -----------------------------------------------------------------------------


def test_address_of_a_family_that_the_kernel_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(family: int, kind: int) -> None:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    monkeypatch.setattr("_socket.socket", without)
    with pytest.raises(UsageError, match=r"--serve \[::1\]:0: Address family not supported"):
        listen("[::1]:0")


@pytest.mark.parametrize("kind", [".dist-info", ".egg-info", "-py3.11.egg-info"])
def test_package_that_is_too_old_is_said_before_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Debian 12 has 0.16: found, imported, and of no use."""
    (tmp_path / "prometheus_client").mkdir()
    (tmp_path / "prometheus_client/__init__.py").touch()
    (tmp_path / f"prometheus_client-0.16.0{kind}").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "prometheus_client")
    options = Options()
    options.textfile = str(tmp_path / "x.prom")
    with pytest.raises(UsageError, match=r"needs prometheus_client 0\.23\.1 or newer, and 0\.16\.0 is installed: pip"):
        Outlets(options, {}, {})
    (tmp_path / f"prometheus_client-0.16.0{kind}").rename(tmp_path / f"prometheus_client-0.23.1{kind}")
    Outlets(options, {}, {})
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = ".".join(map(str, OLDEST["prometheus_client"]))
    assert project["optional-dependencies"]["prometheus"] == [f"prometheus-client>={oldest}"]


# -- the queue -------------------------------------------------------------------------------------------------------


def test_address_that_is_no_url_is_named_without_its_password() -> None:
    options = Options()
    options.pushgateway = "gopher://me:secret@host:1"
    with pytest.raises(UsageError, match=r"gopher://\*\*\*@host:1"):
        Outlets(options, {}, {})


@pytest.mark.parametrize(
    "url",
    [
        "hidden@host:1",
        "hidden:hidden@host:1",
        "http://u:hidden@",
        "http://u:hid/den@host:1",
        "http://u:1/hidden@host:1",
        "http://u:1?hidden@host:1",
        "http://u:1#hidden@host:1",
        "http://hidden:[hidden]@host:1",
        "http://hidden\u2100@host:1",
        "hidden://hidden:hidden://hidden@host:x",
        "http://u:hidden@host:99999",
        "http://u:hidden@host:x",
        "http://u:hidden@h ost",
    ],
)
@pytest.mark.parametrize("option", ["pushgateway", "otlp"])
def test_url_is_wrong_its_credentials_are_not_shown(option: str, url: str) -> None:
    options = Options()
    setattr(options, option, url)
    with pytest.raises(UsageError) as refused:
        Outlets(options, {}, {})
    shown = str(refused.value)
    assert shown.startswith(f"--{option}: '")
    assert not re.search("hid|den", shown.replace("hidden://***", ""))
