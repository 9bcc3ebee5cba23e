"""Pushes to servers that misbehave: each failure is a refusal with its reason, after a limited time."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")
pytest.importorskip("grpc", reason="the extra otlp is not installed")
pytest.importorskip("opentelemetry.proto", reason="the extra otlp is not installed")
from misbehaving import HTTP, LATE, TOLD, certified, receiver  # noqa: E402
from proctally.exporters.otlp_sender import OverGrpc, OverHttp, settings  # noqa: E402
from proctally.exporters.prometheus import Exposition  # noqa: E402
from proctally.exporters.push import Pushgateway  # noqa: E402
from proctally.exporters.sink import ReceiverRefused  # noqa: E402
from prometheus_lines import ALL, fed  # noqa: E402
from tracked import until  # noqa: E402

TIMEOUT = 0.8


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ssl.SSLContext | None]:
    with certified(tmp_path_factory.mktemp("tls")) as context:
        yield context


def sent(name: str, tls: ssl.SSLContext | None) -> tuple[str | None, float]:
    """Why an export to this receiver failed, or what is wrong with its answer, and the seconds that it took."""
    with receiver(name, tls, "u:p") as url:
        over = (OverHttp if name.startswith("http") else OverGrpc)(settings(url, {}))
        begun = time.monotonic()
        try:
            return over.send(b"", TIMEOUT).problem, time.monotonic() - begun
        except ReceiverRefused as error:
            return str(error), time.monotonic() - begun
        finally:
            over.close()


def test_otlp_any_answer_is_a_reason_in_time(tls: ssl.SSLContext | None) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(TOLD, pool.map(lambda name: sent(name, tls), TOLD), strict=True))
    late = "timed out|gRPC status DEADLINE_EXCEEDED"
    wrong = {
        name: why
        for name, (why, _) in found.items()
        if (why is None) != (TOLD[name] is None)
        or not re.search((TOLD[name] or "").replace(LATE, late), (why or "").replace("\x1b", r"\x1b"))
    }
    assert wrong == {}
    assert max(seconds for _, seconds in found.values()) < TIMEOUT + 5


@pytest.mark.parametrize("name", ["garbage", "status 999999", "503", "5,000 headers", "closed"])
def test_pushgateway_first_answer_is_wrong_next_push_is_tried(
    name: str, tls: ssl.SSLContext | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pushgateway, "seconds", 0.05)
    latest = fed(*ALL)
    with receiver(f"http {name}", tls, "me:secret") as url:
        sink = Pushgateway(Exposition(latest), url, keep=True)
        sink.start()
        sink.sampled()
        until(lambda: sink.delivery.failed + sink.delivery.done > 2, "it is tried again, without another sample")
        sink.end(time.monotonic())
        assert sink.join(20)
    assert re.search(HTTP[name].told or "", sink.delivery.trouble or "")
    assert sink.delivery.done == 0
