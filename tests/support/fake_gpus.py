"""A made-up reader of GPUs."""

from __future__ import annotations

# -- on a machine of files, whose clock goes on when it is told ------------------------------------------------------


class FakeGpus:
    """GPUs that answer at once, and note what they are asked."""

    present = True
    awaited = False
    took_ns = 0
    missing = skipped = fileno = None

    def __init__(self) -> None:
        self.asked = 0
        self.names = ["a"]
        self.with_facts: list[bool] = []

    def ask(self, members: object) -> bool:
        self.asked += 1
        return True

    def take(self) -> object:
        return object()

    def facts(self) -> list[dict[str, object]]:
        return [{"name": name} for name in self.names]

    def derive(self, members: object, *, facts: bool) -> tuple[list[dict[str, object]], dict[str, object]]:
        self.with_facts.append(facts)
        return [], {"memory_bytes": None}

    def age_seconds(self) -> float:
        return 0.0

    def close(self) -> None:
        pass
