"""The newest state as a request of OTLP, by the semantic conventions of OpenTelemetry 1.44.

INSTRUMENTS is the table for what the run, its machine and its GPUs have, PROCESS that for the largest processes, each
of which is a resource of its own (`process.pid` and `process.creation.time`). What has no convention is `proctally.*`.
`docs/exporters.md` is generated from both.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric, ResourceMetrics

from proctally.outputs.latest import STATES, label, written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from proctally.outputs.latest import Latest

    Row = tuple[tuple[str, ...], Any]

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
SCOPE = "proctally"
COUNTER, UPDOWN, GAUGE = "Counter", "UpDownCounter", "Gauge"
MEASURED = ("s", "J", "W", "Cel")  # units whose values are floats, also where one is a whole number
MACHINE_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")
RUN, BOOT = "run", "boot"  # since when a counter counts
NANOSECONDS = 1_000_000_000
GPUS = 200
MOST_TAGS = 20


class Instrument:
    """One metric: its name, what it is, its unit (UCUM), the keys of its attributes, and where its values come from.

    `source`: a tuple of (path of `Latest.value`, values of the attributes), or the function that gives the rows.
    `since`: what a counter counts from.
    """

    __slots__ = ("attributes", "help", "kind", "name", "since", "source", "unit")

    def __init__(
        self,
        name: str,
        kind: str,
        unit: str,
        attributes: str,
        source: str | tuple[Any, ...] | Callable[..., Iterable[Row]],
        text: str,
        since: str = RUN,
    ) -> None:
        self.name = name
        self.kind = kind
        self.unit = unit
        self.attributes = tuple(attributes.split())
        self.source = source
        self.help = text
        self.since = since

    def rows(self, latest: Latest) -> Iterable[Row]:
        """(values of the attributes, value) of each point; a value that is None is left out later."""
        if callable(self.source):
            rows: Iterable[Row] = self.source(latest)
            return rows
        paths = ((self.source,),) if isinstance(self.source, str) else self.source
        return [(values, self._value(latest, path)) for path, *values in paths]

    def _value(self, latest: Latest, paths: str) -> Any:
        found = [value for path in paths.split("|") if (value := latest.value(path)) is not None]
        if not found:
            return None
        return max(found) if self.kind == COUNTER else found[0]

    def add_to(self, metrics: Any, rows: Iterable[Row], at_ns: int, since_ns: int) -> int:
        """Put what is known of it into a message; the number of points."""
        known = [(values, value) for values, value in rows if value is not None]
        if not known:
            return 0
        metric = metrics.add()
        metric.name, metric.unit, metric.description = self.name, self.unit, self.help
        for values, value in known:
            point = self._points(metric).add()
            point.time_unix_nano = at_ns
            if self.kind != GAUGE:
                point.start_time_unix_nano = min(since_ns, at_ns)
            for key, each in zip(self.attributes, values, strict=False):
                if each:
                    point.attributes.append(pair(key, label(each)))
            if isinstance(value, float) or self.unit in MEASURED:
                point.as_double = value
            else:
                point.as_int = int(value)
        return len(known)

    def _points(self, metric: Metric) -> Any:
        if self.kind == GAUGE:
            return metric.gauge.data_points
        total = metric.sum
        total.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        total.is_monotonic = self.kind == COUNTER
        return total.data_points


def pair(key: str, value: Any) -> KeyValue:
    """An attribute."""
    if isinstance(value, bool):
        return KeyValue(key=key, value=AnyValue(bool_value=value))
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    if isinstance(value, float):
        return KeyValue(key=key, value=AnyValue(double_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=value))


# -- what is more than a value at a path -----------------------------------------------------------------------------


def states(latest: Latest) -> Iterator[Row]:
    """1 for the state the run is in."""
    state = latest.state
    for each in STATES:
        yield (each,), int(each == state)


def commands(place: int) -> Callable[[Latest], Iterator[Row]]:
    """By command: 1 the processes, 2 the CPU seconds."""

    def rows(latest: Latest) -> Iterator[Row]:
        for row in latest.commands.rows():
            yield (row[0],), int(row[1]) if place == 1 else row[2]

    return rows


def gpu(*names: tuple[str, ...]) -> Callable[[Latest], Iterator[Row]]:
    """(name of a value, values of further attributes) of each GPU."""

    def rows(latest: Latest) -> Iterator[Row]:
        for device in (latest.gpus() or [])[:GPUS]:
            for name, *more in names:
                yield (*component(device), *more), device.get(name)

    return rows


def gpu_memory(name: str) -> Callable[[Latest], Iterator[Row]]:
    """Of each GPU, and of each MIG instance as a component of it."""

    def rows(latest: Latest) -> Iterator[Row]:
        for device in (latest.gpus() or [])[:GPUS]:
            yield component(device), device.get(name)
            for instance in device.get("mig_instances") or []:
                parent, place, _, vendor, version = component(device)
                own = (instance.get("uuid"), f"{place}:{instance.get('index')}", instance.get("name"), vendor, version)
                yield (*own, parent), instance.get(name)

    return rows


def gpu_memory_ratio(latest: Latest) -> Iterator[Row]:
    """The share of its memory that is used."""
    for device in (latest.gpus() or [])[:GPUS]:
        used, total = device.get("memory_used_bytes"), device.get("memory_total_bytes")
        yield component(device), None if used is None or not total else used / total


def component(device: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of HARDWARE for a GPU."""
    place = f"gpu{device.get('index')}"
    identity = device.get("uuid") or device.get("pci") or place
    return identity, place, device.get("name"), device.get("vendor"), device.get("driver_version")


def memory(latest: Latest) -> Iterator[Row]:
    """By state. What is used is what the kernel does not call available, as the convention has it for Linux."""
    total, available = latest.value("devices.memory.total_bytes"), latest.value("system.memory.available_bytes")
    known = total is not None and available is not None
    yield ("used",), total - available if known else latest.value("system.memory.used_bytes")
    for state in ("free", "buffers", "cached"):
        yield (state,), latest.value(f"system.memory.{state}_bytes")


def swap(latest: Latest) -> Iterator[Row]:
    """By state."""
    total, used = latest.value("devices.memory.swap_total_bytes"), latest.value("system.memory.swap_used_bytes")
    yield ("used",), used
    yield ("free",), None if total is None or used is None else total - used


def failures(name: str) -> Callable[[Latest], Iterator[Row]]:
    """Of each way out."""

    def rows(latest: Latest) -> Iterator[Row]:
        for sink, told in latest.deliveries.items():
            yield (sink,), getattr(told, name)

    return rows


def sources(latest: Latest) -> Iterator[Row]:
    """Whether each source could be read."""
    for name, told in ((latest.tracker or {}).get("sources") or {}).items():
        yield (name,), None if told.get("success") is None else int(told["success"])


def durations(latest: Latest) -> Iterator[Row]:
    """How long each took."""
    for name, told in ((latest.tracker or {}).get("sources") or {}).items():
        yield (name,), told.get("seconds")


DIRECTION = "disk.io.direction"
HARDWARE = "hw.id hw.name hw.model hw.vendor hw.driver_version"
INSTRUMENTS = tuple(Instrument(*row) for row in (
    # the run and its tree
    ("proctally.run.state", UPDOWN, "1", "proctally.run.state", states, "1 for the state the run is in."),
    ("proctally.run.duration", GAUGE, "s", "", "summary.wall_seconds|sample.elapsed_seconds", "Time since the start."),
    ("proctally.run.exit.code", GAUGE, "{code}", "", "summary.exit_code", "Exit status of the command."),
    ("proctally.run.exit.signal", GAUGE, "{signal}", "", "summary.signal", "Signal that ended the command."),
    ("proctally.job.cpu.consumption", COUNTER, "s", "", "summary.cpu.total_seconds|tree.cpu_seconds", "CPU time of the "
     "whole tree, dead processes included, by the best source there is."),
    ("proctally.job.cpu.time", COUNTER, "s", "cpu.mode", (("summary.cpu.user_seconds|tree.cpu_user_seconds", "user"),
     ("summary.cpu.system_seconds|tree.cpu_system_seconds", "system")), "The same by /proc and wait4, which may see a "
     "little less."),
    ("proctally.job.cpu.wait_time", COUNTER, "s", "", "summary.waiting.run_delay_seconds|tree.run_delay_seconds",
     "Time that threads were ready to run and had no CPU."),
    ("proctally.job.cpu.throttled_time", COUNTER, "s", "",
     "summary.waiting.throttled_seconds|tree.throttled_seconds", "Time throttled by the cgroup's CPU quota."),
    ("proctally.job.memory.usage", UPDOWN, "By", "proctally.memory.kind", (("tree.rss_bytes", "rss"),
     ("tree.pss_bytes", "pss"), ("tree.swap_bytes", "swap"), ("cgroup.memory_bytes", "cgroup")), "Memory of the tree "
     "by several measures, which are not to be summed."),
    ("proctally.job.memory.peak", GAUGE, "By", "proctally.memory.kind",
     (("summary.memory.peak_rss_bytes|peak_rss", "rss"), ("summary.memory.peak_pss_bytes|peak_pss", "pss"),
     ("summary.memory.cgroup_peak_bytes|cgroup.memory_peak_bytes", "cgroup")), "The most so far."),
    ("proctally.job.disk.io", COUNTER, "By", DIRECTION, (("summary.io.read_bytes|tree.read_bytes", "read"),
     ("summary.io.write_bytes|tree.write_bytes", "write")), "Bytes fetched from storage, or to be sent there."),
    ("proctally.job.process.count", UPDOWN, "{process}", "", "tree.processes", "Processes, zombies included."),
    ("proctally.job.process.started", COUNTER, "{process}", "", "started", "Processes started so far."),
    ("proctally.job.thread.count", UPDOWN, "{thread}", "", "tree.threads", "Threads."),
    ("proctally.job.paging.faults", COUNTER, "{fault}", "system.paging.fault.type", (("tree.minor_faults", "minor"),
     ("tree.major_faults", "major")), "Page faults."),
    ("proctally.job.context_switches", COUNTER, "{context_switch}", "", "tree.context_switches", "Context switches."),
    ("proctally.job.pressure.time", COUNTER, "s", "proctally.resource proctally.stall",
     (("cgroup.cpu_pressure_seconds", "cpu", "some"), ("cgroup.memory_pressure_seconds", "memory", "some"),
     ("cgroup.io_pressure_seconds", "io", "some")), "Time in which some task of the cgroup waited for a resource."),
    ("proctally.job.oom_kill.count", COUNTER, "{process}", "", "cgroup.oom_kills", "Processes that the OOM killer "
     "took."),
    ("proctally.job.gpu.memory.usage", UPDOWN, "By", HARDWARE, gpu(("tree_memory_bytes",)), "The tree's part of a "
     "GPU's memory."),
    ("proctally.job.gpu.utilization", GAUGE, "1", HARDWARE, gpu(("tree_utilization_ratio",)), "The tree's part of a "
     "GPU's utilisation."),
    ("proctally.command.cpu.time", COUNTER, "s", "proctally.command", commands(2), "CPU time by command; of those "
     "beyond 50: other."),
    ("proctally.command.process.started", COUNTER, "{process}", "proctally.command", commands(1), "Processes by "
     "command."),
    # the machine
    ("system.cpu.time", COUNTER, "s", "cpu.mode", (("system.cpu_user_seconds", "user"),
     ("system.cpu_system_seconds", "system"), ("system.cpu_iowait_seconds", "iowait"),
     ("system.cpu_softirq_seconds", "interrupt"), ("system.cpu_steal_seconds", "steal")), "CPU time of the machine, "
     "all CPUs together; nice is in user, idle is left out.", BOOT),
    ("system.cpu.logical.count", UPDOWN, "{cpu}", "", "devices.cpus", "CPUs online."),
    ("system.memory.usage", UPDOWN, "By", "system.memory.state", memory, "Memory of the machine; used is what is not "
     "available, so that a part of it may be in cached as well."),
    ("system.memory.limit", UPDOWN, "By", "", "devices.memory.total_bytes", "Memory of the machine."),
    ("system.memory.linux.available", UPDOWN, "By", "", "system.memory.available_bytes", "What programs may still "
     "take."),
    ("system.paging.usage", UPDOWN, "By", "system.paging.state", swap, "Swap."),
    ("system.disk.io", COUNTER, "By", DIRECTION, (("system.disk.read_bytes", "read"),
     ("system.disk.write_bytes", "write")), "Of all disks together, each byte once.", BOOT),
    ("system.filesystem.usage", UPDOWN, "By", "system.filesystem.state", (("system.disk.space_used_bytes", "used"),
     ("system.disk.space_free_bytes", "free")), "Of all local file systems together."),
    ("system.network.io", COUNTER, "By", "network.io.direction", (("system.network.received_bytes", "receive"),
     ("system.network.sent_bytes", "transmit")), "Of all interfaces together, each byte once.", BOOT),
    ("system.process.count", UPDOWN, "{process}", "", "system.process_count", "Processes of the machine."),
    ("system.process.created", COUNTER, "{process}", "", "system.forks", "Forks, those that made a "
     "thread included.", BOOT),
    ("proctally.system.pressure.time", COUNTER, "s", "proctally.resource proctally.stall",
     (("system.pressure.cpu_some_seconds", "cpu", "some"), ("system.pressure.memory_some_seconds", "memory", "some"),
     ("system.pressure.memory_full_seconds", "memory", "full"), ("system.pressure.io_some_seconds", "io", "some"),
     ("system.pressure.io_full_seconds", "io", "full")), "Time in which tasks of the machine waited.", BOOT),
    # GPUs
    ("hw.gpu.utilization", GAUGE, "1", f"{HARDWARE} hw.gpu.task", gpu(("utilization_ratio", "general")), "Share of "
     "time in which anything ran."),
    ("hw.gpu.memory.usage", UPDOWN, "By", f"{HARDWARE} hw.parent", gpu_memory("memory_used_bytes"), "Memory that is "
     "allocated; a MIG instance is a component of its own."),
    ("hw.gpu.memory.limit", UPDOWN, "By", f"{HARDWARE} hw.parent", gpu_memory("memory_total_bytes"), "Memory of the "
     "device."),
    ("hw.gpu.memory.utilization", GAUGE, "1", HARDWARE, gpu_memory_ratio, "Share of its memory that is allocated."),
    ("hw.energy", COUNTER, "J", f"{HARDWARE} hw.type", gpu(("energy_joules", "gpu")), "Energy since the driver was "
     "loaded.", BOOT),
    ("hw.power", GAUGE, "W", f"{HARDWARE} hw.type", gpu(("power_watts", "gpu")), "Power of the board."),
    ("hw.temperature", GAUGE, "Cel", f"{HARDWARE} hw.type", gpu(("temperature_celsius", "gpu")), "Of the core."),
    ("hw.fan.speed_ratio", GAUGE, "1", f"{HARDWARE} hw.type", gpu(("fan_ratio", "gpu")), "Fan speed asked for."),
    ("hw.errors", COUNTER, "{error}", f"{HARDWARE} hw.type error.type", gpu(("ecc_corrected", "gpu", "corrected"),
     ("ecc_uncorrected", "gpu", "uncorrected")), "Memory errors.", BOOT),
    ("proctally.gpu.clock", GAUGE, "Hz", f"{HARDWARE} proctally.clock", gpu(("graphics_clock_hertz", "graphics"),
     ("sm_clock_hertz", "sm"), ("memory_clock_hertz", "memory")), "Clocks now."),
    # the tracker and the exporter themselves
    ("proctally.tracker.cpu.time", COUNTER, "s", "", "summary.tracker.cpu_seconds|tracker.cpu_seconds", "CPU time of "
     "proctally, its helper processes included."),
    ("proctally.tracker.memory.usage", UPDOWN, "By", "", "tracker.rss_bytes", "Resident set size of the tracker."),
    ("proctally.tracker.sample.count", COUNTER, "{sample}", "", "summary.tracker.samples|tracker.samples", "Samples."),
    ("proctally.tracker.sample.missed", COUNTER, "{sample}", "",
     "summary.tracker.late_samples|tracker.late_samples", "Deadlines that were missed."),
    ("proctally.source.success", UPDOWN, "1", "proctally.source", sources, "1 where a source could be read, else 0."),
    ("proctally.source.duration", GAUGE, "s", "proctally.source", durations, "Time that its last reading took."),
    ("proctally.exporter.line.dropped", COUNTER, "{line}", "", "dropped", "Lines that the exporter did not take."),
    ("proctally.exporter.failure.count", COUNTER, "{failure}", "proctally.sink", failures("failed"), "Deliveries that "
     "failed."),
    ("proctally.exporter.point.dropped", COUNTER, "{point}", "proctally.sink", failures("dropped"), "Points given up."),
))  # fmt: skip


def of_member(*names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], list[Row]]:
    """(name of a value, values of attributes) of one process."""

    def rows(member: Mapping[str, Any]) -> list[Row]:
        return [(tuple(more), member.get(name)) for name, *more in names]

    return rows


PROCESS = tuple(Instrument(*row) for row in (
    ("process.cpu.time", COUNTER, "s", "cpu.mode", of_member(("cpu_user_seconds", "user"),
     ("cpu_system_seconds", "system")), "CPU time of a process itself, in steps of the tick."),
    ("process.memory.usage", UPDOWN, "By", "", of_member(("rss_bytes",)), "Its resident set size."),
    ("process.memory.virtual", UPDOWN, "By", "", of_member(("virtual_bytes",)), "Its virtual size."),
    ("process.disk.io", COUNTER, "By", DIRECTION, of_member(("read_bytes", "read"), ("write_bytes", "write")),
     "As /proc/PID/io counts, with that of the children it waited for."),
    ("process.thread.count", UPDOWN, "{thread}", "", of_member(("threads",)), "Its threads."),
    ("process.paging.faults", COUNTER, "{fault}", "system.paging.fault.type", of_member(("minor_faults", "minor"),
     ("major_faults", "major")), "Its page faults."),
))  # fmt: skip


def resource(latest: Latest, more: Mapping[str, str]) -> dict[str, Any]:
    """The attributes of the run: what it is, where it runs, who started it. `more`: OTEL_RESOURCE_ATTRIBUTES."""
    run, host = latest.run, latest.host or {}
    cloud = host.get("cloud") or {}
    said: dict[str, Any] = {
        "service.name": "proctally",
        "service.version": run.get("version"),
        "service.instance.id": run.get("run_id"),
        "host.name": host.get("hostname") or os.uname().nodename,
        "host.arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "host.type": cloud.get("instance_type"),
        "host.id": cloud.get("instance_id") or machine_id(host),
        "host.image.id": cloud.get("image_id"),
        "cloud.provider": CLOUDS.get(cloud.get("provider") or "", cloud.get("provider")),
        "cloud.region": cloud.get("region"),
        "cloud.availability_zone": cloud.get("zone"),
        "os.type": "linux",
        "os.version": host.get("kernel_release"),
        "os.description": host.get("distribution"),
        "proctally.run.id": run.get("run_id"),
        "proctally.run.parent_id": run.get("parent_run_id"),
        "proctally.run.name": run.get("name"),
        "proctally.run.kind": run.get("kind"),
        "proctally.run.user": run.get("user"),
        "proctally.run.command": os.path.basename(run["command"][0]) if run.get("command") else None,
    }
    said |= {f"proctally.scheduler.{key.lower()}": value for key, value in (run.get("scheduler") or {}).items()}
    said |= {f"proctally.tag.{key}": value for key, value in list((run.get("tags") or {}).items())[:MOST_TAGS]}
    known = {label(key): label(value) for key, value in said.items() if value is not None}
    return known | {written(key): written(value) for key, value in more.items()}  # the user's own words are not cut


def machine_id(host: Mapping[str, Any]) -> str | None:
    """What systemd calls this installation; a container has none of its own, or one of its image."""
    if not host or host.get("container") is not None:
        return None
    for path in MACHINE_IDS:
        try:
            with open(path, encoding="ascii") as file:
                found = file.read(64).strip()
        except (OSError, ValueError):
            continue
        if len(found) == 32 and found.isalnum():  # not "uninitialized"
            return found
    return None


CLOUDS = {"alibaba": "alibaba_cloud"}  # the others are called as the convention calls them


def request(latest: Latest, more: Mapping[str, str]) -> tuple[bytes, int]:
    """The newest state as a serialized request, and the number of its points."""
    with latest.lock:
        message = ExportMetricsServiceRequest()
        attributes = resource(latest, more)
        at_ns = round((latest.at or 0) * NANOSECONDS)
        since = {
            RUN: round((latest.run.get("started_at") or 0) * NANOSECONDS),
            BOOT: round(((latest.host or {}).get("booted_at") or 0) * NANOSECONDS),
        }
        version, instance = latest.run.get("version"), attributes.get("service.instance.id")
        block = _block(message.resource_metrics.add(), attributes, version)
        points = 0
        for instrument in INSTRUMENTS:
            points += instrument.add_to(block, instrument.rows(latest), at_ns, since[instrument.since])
        for member in latest.members:
            own = attributes | {
                # a backend that tells series apart by this alone, as Prometheus does, must not mix up processes
                "service.instance.id": f"{instance}/{member['pid']}/{member['started_at']}",
                "process.pid": member["pid"],
                "process.creation.time": datetime.fromtimestamp(member["started_at"], UTC).isoformat(),
                "process.executable.name": label(member["command"]),
            }
            block = _block(message.resource_metrics.add(), own, version)
            begun = round(member["started_at"] * NANOSECONDS)
            for instrument in PROCESS:
                source: Any = instrument.source
                points += instrument.add_to(block, source(member), at_ns, begun)
        return message.SerializeToString(), points


def _block(holder: ResourceMetrics, attributes: Mapping[str, Any], version: str | None) -> Any:
    """The list into which the metrics of a resource go."""
    holder.schema_url = SCHEMA_URL
    holder.resource.attributes.extend(pair(key, value) for key, value in attributes.items())
    scope = holder.scope_metrics.add()
    scope.scope.name = SCOPE
    scope.scope.version = version or ""
    scope.schema_url = SCHEMA_URL
    return scope.metrics
