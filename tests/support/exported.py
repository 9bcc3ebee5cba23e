"""Values in an exported file."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families


def parsed(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The text format: values by name and labels, but that of the run's name."""
    return {
        (sample.name, tuple(sorted((key, value) for key, value in sample.labels.items() if key != "run"))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def values(path: Path) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return parsed(path.read_text(encoding="utf-8"))


def value(path: Path, name: str, **labels: str) -> float:
    return values(path)[f"proctally_{name}", tuple(sorted(labels.items()))]


def state(path: Path) -> str:
    name = "proctally_run_state"
    return next(dict(labels)[name] for (found, labels), value in values(path).items() if found == name and value)
