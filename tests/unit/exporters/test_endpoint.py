"""Formats and texts of the endpoint."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")
from proctally.exporters.endpoint import Texts, negotiated  # noqa: E402
from proctally.exporters.latest import Latest  # noqa: E402
from proctally.exporters.prometheus import OPENMETRICS, TEXT  # noqa: E402
from scrapes import FROM_PROMETHEUS  # noqa: E402

# -- HTTP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (FROM_PROMETHEUS, OPENMETRICS), ("", TEXT), ("*/*", TEXT), ("text/plain", TEXT), ("text/html", TEXT),
        ("application/openmetrics-text", OPENMETRICS), ("application/openmetrics-text; version=2.0.0", TEXT),
        ("application/openmetrics-text; version=x.1, text/plain", TEXT), (";;,,q=", TEXT), (",;version=\xe9", TEXT),
        ("application/openmetrics-text; version=1.0.0; escaping=allow-utf-8", OPENMETRICS),
        ("text/plain; version=1.0.0; escaping=underscores", TEXT),
    ],
)  # fmt: skip
def test_what_is_accepted(accept: str, content_type: str) -> None:
    assert negotiated(accept) == content_type


def test_text_is_made_once_and_ahead_of_who_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    latest, now, made = Latest(), [0.0], []

    class Slow:
        def __init__(self) -> None:
            self.latest = latest

        def text(self, content_type: str) -> bytes:
            made.append(content_type)
            now[0] += 0.1
            return b"text"

    def sampled() -> int:
        latest.feed({"type": "dropped", "lines": 1})
        texts.ahead()
        return len(made)

    monkeypatch.setattr("proctally.exporters.endpoint.time", SimpleNamespace(monotonic=lambda: now[0]))
    texts = Texts(Slow())  # type: ignore[arg-type]
    assert sampled() == 0, "nobody has asked"
    for zipped in (False, True, False):
        texts.of(TEXT, zipped=zipped)
    assert made == [TEXT]
    assert sampled() == 2
    texts.of(TEXT, zipped=False)
    assert len(made) == 2, "it was made ahead"
    assert sampled() == 2, "that takes at most a hundredth of the time"
    now[0] += 11
    assert sampled() == 3
    now[0] += 100
    assert sampled() == 3, "nobody asks any more"


# -- Prometheus ------------------------------------------------------------------------------------------------------
