"""One measured figure, and how a table of them is printed."""

from __future__ import annotations


class Row:
    """A figure, the most that it may be (None: it is only noted), and how it came about."""

    def __init__(self, name: str, figure: float, target: float | None, how: str) -> None:
        self.name = name
        self.figure = figure
        self.target = target
        self.how = how

    @property
    def missed(self) -> bool:
        return self.target is not None and self.figure > self.target

    def __str__(self) -> str:
        target = "" if self.target is None else f"{self.target:.4g}"
        verdict = "" if self.target is None else "MISSED" if self.missed else "yes"
        return f"| {self.name} | {self.figure:.4g} | {target} | {verdict} | {self.how} |"


HEAD = "| what | measured | at most | within | how |\n|---|---:|---:|---|---|"
