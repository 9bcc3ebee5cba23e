"""What a bench yields, and how a table of it is printed: one figure a row, or a job against several tools."""

from __future__ import annotations

from typing import Protocol


class Line(Protocol):
    """One line of a table; `missed`: a target that stands in it was not reached."""

    @property
    def missed(self) -> bool: ...


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


class Share:
    """CPU seconds that somebody claims, of those in truth; `off`: by how many at most (None: it is only noted)."""

    def __init__(self, claimed: float, truth: float, off: float | None = None) -> None:
        self.claimed = claimed
        self.truth = truth
        self.off = off

    @property
    def missed(self) -> bool:
        return self.off is not None and abs(self.claimed - self.truth) > self.off

    def __str__(self) -> str:
        text = f"{100 * self.claimed / self.truth:.1f}"
        return f"{text} MISSED" if self.missed else text


class Shares:
    """One job: what each of the columns claims of it in percent of the truth. None: it was not asked."""

    def __init__(self, name: str, seconds: float, cells: list[Share | None]) -> None:
        self.name = name
        self.seconds = seconds
        self.cells = cells

    @property
    def missed(self) -> bool:
        return any(cell is not None and cell.missed for cell in self.cells)

    def __str__(self) -> str:
        cells = ["" if cell is None else str(cell) for cell in self.cells]
        return f"| {' | '.join([self.name, f'{self.seconds:.2f}', *cells])} |"


class Head:
    """The head of a table of `Shares`."""

    missed = False

    def __init__(self, columns: list[str]) -> None:
        self.columns = columns

    def __str__(self) -> str:
        names = ["% of the truth", "CPU s", *self.columns]
        return f"\n| {' | '.join(names)} |\n|---|{'---:|' * (len(names) - 1)}"
