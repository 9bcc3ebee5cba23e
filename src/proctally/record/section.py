"""What a record says, as objects: each field of a line is an attribute, unknown ones are None.

The annotations below name the fields that are always there (a test holds them against the table in model.py); what
depends on the machine (`system`, `gpus`, ...) is a `Section` as well, whose attributes are those of docs/fields.md.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any


class Section:
    """A part of a line: its fields as attributes. One that is declared and was not told is None."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values = dict(values or {})

    if not TYPE_CHECKING:  # to a type checker there are the fields that are declared, and no others

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            kind = _kind(type(self), name)
            if name not in self._values:
                if kind is None and name not in _declared(type(self)):
                    raise AttributeError(f"{type(self).__name__} has no field {name!r}")
                return kind() if kind is not None else None
            value = _wrapped(self._values[name], kind)
            self.__dict__[name] = value
            return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._values, *_declared(type(self))})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Section) and self._values == other._values

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"

    def as_dict(self) -> dict[str, Any]:
        """The same as a dictionary, as it stands in the record."""
        return dict(self._values)


def _wrapped(value: Any, kind: type[Section] | None) -> Any:
    if isinstance(value, dict):
        return (kind or Section)(value)
    if isinstance(value, list):
        return [_wrapped(each, None) for each in value]
    return kind() if value is None and kind is not None else value


def _declared(kind: type) -> Iterator[str]:
    for each in kind.__mro__:
        yield from each.__dict__.get("__annotations__", ())


def _kind(kind: type, name: str) -> type[Section] | None:
    """The class of a section that is always there."""
    for each in kind.__mro__:
        if name in each.__dict__.get("__annotations__", ()):
            found = globals().get(each.__dict__["__annotations__"][name])
            return found if isinstance(found, type) and issubclass(found, Section) else None
    return None


class TreeSection(Section):
    """`tree` of a sample: counters (seconds, bytes, calls) since the start, levels at this moment."""

    cpu_seconds: float | None
    cpu_user_seconds: float | None
    cpu_system_seconds: float | None
    cpu_cores: float | None
    processes: int | None
    threads: int | None
    running: int | None
    disk_sleep: int | None
    run_delay_seconds: float | None
    rss_bytes: int | None
    pss_bytes: int | None
    pss_age_seconds: float | None
    pss_unread: int | None
    io_unread: int | None
    swap_bytes: int | None
    read_bytes: int | None
    write_bytes: int | None
    cancelled_write_bytes: int | None
    read_chars: int | None
    write_chars: int | None
    read_syscalls: int | None
    write_syscalls: int | None
    minor_faults: int | None
    major_faults: int | None
    context_switches: int | None
    throttled_seconds: float | None
    gpu_utilization_ratio: float | None
    gpu_memory_bytes: int | None
    gpu_processes: int | None
    gpu_used: int | None
    gpu_unread: int | None


class Sample(Section):
    """One `sample` of a record."""

    at: float | None
    elapsed_seconds: float | None
    interval_seconds: float | None
    tree: TreeSection
    system: Any
    gpus: Any
    cgroup: Any
    top: Any


SECTIONS = ("tree", "system", "gpus", "cgroup", "top")  # of a sample: these are no single values


class Cpu(Section):
    """`cpu` of a summary: seconds, cores, and where they are known from."""

    total_seconds: float | None
    user_seconds: float | None
    system_seconds: float | None
    mean_cores: float | None
    peak_cores: float | None
    source: str | None
    sources: Any
    unavailable: Any
    coverage: str | None


class Memory(Section):
    """`memory` of a summary: bytes."""

    peak_pss_bytes: int | None
    peak_rss_bytes: int | None
    peak_process_rss_bytes: int | None
    cgroup_peak_bytes: int | None
    pss_denied: int | None
    coverage: str | None


class Io(Section):
    """`io` of a summary: bytes."""

    read_bytes: int | None
    write_bytes: int | None
    read_chars: int | None
    write_chars: int | None
    denied: int | None
    coverage: str | None


class Processes(Section):
    """`processes` of a summary."""

    started: int | None
    source: str | None
    peak: int | None
    left: int | None
    coverage: str | None


class Waiting(Section):
    """`waiting` of a summary: seconds."""

    run_delay_seconds: float | None
    throttled_seconds: float | None
    throttled_periods: int | None
    periods: int | None


class Tracker(Section):
    """`tracker` of a summary: what the sampler itself used."""

    cpu_seconds: float | None
    peak_rss_bytes: int | None
    samples: int | None
    late_samples: int | None
    lost_samples: int | None


class Summary(Section):
    """The `summary` of a record. All is None where it could not be had."""

    ended_at: float | None
    wall_seconds: float | None
    exit_code: int | None
    signal: int | None
    verdict: str | None
    evidence: str | None
    cpu: Cpu
    memory: Memory
    io: Io
    processes: Processes
    commands: Any
    waiting: Waiting
    counters: Any
    limits: Any
    cgroup: Any
    system: Any
    gpu: Any
    tracker: Tracker


class Phase(Section):
    """One phase of a run: Unix seconds of its begin and end, its wall time, and the CPU time of the tree meanwhile.

    `ended_at`, `wall_seconds` and `cpu_seconds` are None for one that has not ended.
    """

    name: str | None
    began_at: float | None
    ended_at: float | None
    wall_seconds: float | None
    cpu_seconds: float | None


def flat(line: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The single values of a line by their dotted names; lists of devices and processes are left out."""
    found: dict[str, Any] = {}
    for name, value in line.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        elif not isinstance(value, list) and f"{prefix}{name}" != "type":
            found[f"{prefix}{name}"] = value
    return found
