"""Wrong arguments of `track`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import proctally

# -- its ends, and what it says --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [{"interval": 0}, {"interval": 0.01}, {"interval": -1}, {"interval": float("nan")}, {"source": "cgroup"},
              {"output": "-"}, {"output": "/dev/fd/1"},
              {"pss_budget": 2}, {"process_lines": -1}],
)  # fmt: skip
def test_mistakes_are_told_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is"):
        proctally.track(**wrong)


@pytest.mark.parametrize("name", ["interval", "pss_budget", "process_lines", "tags", "done", "on_sample"])
def test_what_is_of_another_type_is_named(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} is 'x'; use "):
        proctally.track(**{name: "x"})


def test_other_mistakes() -> None:
    with pytest.raises(TypeError, match="parentheses"):
        proctally.track(lambda: None)  # type: ignore[arg-type]

    async def numbers() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(TypeError, match="async with"):
        proctally.track()(numbers)
    with pytest.raises(AttributeError):
        proctally.nothing  # noqa: B018
