"""`proctally.Run`: what is known of a tracked block, its samples and phases."""

from __future__ import annotations

import os

from proctally.record.objects import Sample
from proctally.record.section import Phase, flat, sections
from proctally.text.escape import argument_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal

    from proctally.analysis.columns import ColumnStats
    from proctally.library.block import Missing, RunSummary, TrackedBlock
    from proctally.record import JsonObject


class Run:
    """One tracked block: what is known while it runs, and all of it at its end. `track()` makes it.

    Nothing of it raises for the tracked program: what failed is in `missing`, and is None. It can be pickled: the copy
    has what was known at that moment. Its samples are those of its record, or in the copy where there is no record.
    """

    def __init__(self, block: TrackedBlock) -> None:
        """Made by `track()`."""
        self._block = block

    @property
    def id(self) -> str:
        """The identity of the run and of its record: 32 hexadecimal digits."""
        return self._block.id

    @property
    def name(self) -> str | None:
        """The name that `track` was given, or that of the decorated function."""
        return self._block.name

    @property
    def summary(self) -> RunSummary:
        """The totals, as in the record. All of it is None until the block has ended, and where tracking failed."""
        return self._block.summary

    @property
    def missing(self) -> list[Missing]:
        """The unknown parts of this run, one text each; empty as a rule. `code` of each: the reason, or None."""
        return self._block.missing

    @property
    def path(self) -> str | None:
        """The file of its record; None where there is none, or while it is not known."""
        return self._block.path

    @property
    def samples(self) -> list[Sample]:
        """The samples so far, oldest first, with the fields of docs/fields.md; empty where there are none."""
        return [Sample(line) for line in self._block.lines() if line["type"] == "sample"]

    @property
    def phases(self) -> list[Phase]:
        """The phases so far, in the order of their start: Unix seconds, wall and CPU seconds."""
        found: list[JsonObject] = []
        open_: dict[str, list[JsonObject]] = {}
        for line in self._block.lines():
            if line["type"] != "phase":
                continue
            if line["event"] == "begin":
                found.append({"name": line["name"], "began_at": line["at"], "begin": line})
                open_.setdefault(line["name"], []).append(found[-1])
            elif open_.get(line["name"]):
                phase = open_[line["name"]].pop()
                phase["ended_at"] = line["at"]
                for name, count in (("wall_seconds", "elapsed_seconds"), ("cpu_seconds", "cpu_seconds")):
                    first, last = phase["begin"][count], line[count]
                    phase[name] = None if first is None or last is None else round(last - first, 4)
        return [Phase({name: value for name, value in phase.items() if name != "begin"}) for phase in found]

    def to_dataframe(self, library: Literal["pandas", "polars"] | None = None) -> Any:
        """Return the samples as a table with a column for each single value, such as `tree.cpu_seconds`.

        Also `at` and `system.memory.used_bytes`; units as in docs/fields.md. `library`: pandas or polars; None takes
        the one that is installed, pandas before polars. Raises ImportError where it is not installed (only this needs
        it), and ValueError for another library.
        """
        rows = [flat(sample.as_dict()) for sample in self.samples]
        names = dict.fromkeys(name for row in rows for name in row)
        for section in sections(Sample):
            names.pop(section, None)  # it was null in one of them
        columns = {name: [row.get(name) for row in rows] for name in names}
        return _frame_maker(library)(columns)

    def stats(self) -> dict[str, ColumnStats]:
        """Return the statistics of each number of the samples so far, by its path, such as `tree.cpu_cores`.

        Each has `samples`, `least`, `mean`, `most` and `last`, in the unit of docs/fields.md; empty without samples.
        """
        from proctally.analysis.columns import column_stats

        return column_stats(sample.as_dict() for sample in self.samples)

    def report(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the page of `proctally report` as HTML; with a path, write it there and return the path.

        A file at that path is replaced. Raises ImportError without the extra `report`, ValueError where nothing was
        recorded, OSError where the page cannot be written.
        """
        from proctally.errors import NoRecord, UsageError, require

        try:
            require("bokeh", "report", "run.report()")
        except UsageError as error:
            raise ImportError(str(error)) from None
        from proctally.record.location import WholeFile
        from proctally.views.report.page import page
        from proctally.views.report.series import collect

        try:
            with self._block.as_file() as record:
                text = page([collect(record)])
        except NoRecord as error:
            raise ValueError(str(error)) from None
        if path is None:
            return text
        with WholeFile(os.fspath(path), force=True).open() as file:
            file.write_bytes(text.encode("utf-8", "backslashreplace"))
        return os.fspath(path)

    def phase(self, name: str) -> PhaseBlock:
        """Return a context manager that marks a part of the block, with the CPU time that the tree uses in it.

        Marks never wait; one that the sampler does not take is counted in `missing`. Raises `AlreadyClosed` after the
        end of the block.
        """
        self._block.check_open()
        return PhaseBlock(self._block, name)

    def __repr__(self) -> str:
        return f"<proctally run {(self.name or self.id)[:60]!r}: {self.summary.verdict or 'not ended'}>"


class PhaseBlock:
    """A part of a block, from `run.phase(name)`."""

    __slots__ = ("_block", "_name")

    def __init__(self, block: TrackedBlock, name: str) -> None:
        self._block = block
        self._name = argument_text(str(name))

    def __enter__(self) -> None:
        self._block.check_open()
        self._block.mark(self._name, "begin")

    def __exit__(self, *_: object) -> None:
        self._block.mark(self._name, "end")


def _frame_maker(library: str | None) -> Callable[[dict[str, list[Any]]], Any]:
    if library not in (None, "pandas", "polars"):
        raise ValueError(f"library is {library!r}; use 'pandas' or 'polars'")
    if library != "polars":
        try:
            from pandas import DataFrame  # type: ignore[import-untyped, import-not-found, unused-ignore]

            return lambda columns: DataFrame(columns)
        except ImportError:
            if library == "pandas":
                raise ImportError("to_dataframe() needs pandas: pip install pandas") from None
    try:
        from polars import DataFrame as PolarsFrame  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        names = "polars: pip install polars" if library else "pandas or polars: pip install pandas, or polars"
        raise ImportError(f"to_dataframe() needs {names}") from None
    return lambda columns: PolarsFrame(columns, strict=False)
