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

from proctally.exporters.latest import commands, deliveries, described, fits, program, sentence, sources
from proctally.record.field_types import MAX_TIME
from proctally.record.schema import STATES
from proctally.record.values import section_at
from proctally.text.escape import encodable, label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, TypeGuard

    from proctally.exporters.latest import Latest, Row, Source
    from proctally.record import JsonObject


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

    `source`: a path of `Latest.value` or of a GPU, a tuple of (path, values of the attributes), or the function that
    gives the rows. Without a text or a unit, they are those of the (first) field. `since`: what a counter counts from.
    """

    __slots__ = ("attributes", "help", "kind", "name", "since", "source", "unit")

    def __init__(self, name: str, kind: str, attributes: str, source: Source, text: str = "", unit: str = "") -> None:
        first = described(source[0][0] if isinstance(source, tuple) else source)
        self.name = name
        self.kind = kind
        self.unit = unit or (first.unit if first else "")
        self.attributes = tuple(attributes.split())
        self.source = source
        self.help = text or sentence(first)
        counts_from_boot = kind == COUNTER and first is not None and first.scope.startswith(("system", "gpus"))
        self.since = BOOT if counts_from_boot else RUN

    def rows(self, latest: Latest) -> Iterable[Row]:
        """(values of the attributes, value) of each point; a value that is None is left out later."""
        if callable(self.source):
            return self.source(latest)
        paths = ((self.source,),) if isinstance(self.source, str) else self.source
        if paths[0][0].startswith("gpus."):
            named = [(path.removeprefix("gpus."), values) for path, *values in paths]
            devices = (latest.gpus() or [])[:GPUS]
            return [((*component(each), *values), each.get(name)) for each in devices for name, values in named]
        return [(tuple(values), latest.known(path, largest=self.kind == COUNTER)) for path, *values in paths]

    def add_to(self, metrics: Any, rows: Iterable[Row], at_ns: int, since_ns: int) -> int:
        """Add its known values to a message; return the number of points. A value that does not fit is left out."""
        known = [(values, value) for values, value in rows if fits(value) and (value >= 0 or self.kind != COUNTER)]
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


def pair(key: str, value: object) -> KeyValue:
    """An attribute."""
    if isinstance(value, bool):
        return KeyValue(key=key, value=AnyValue(bool_value=value))
    if fits(value) and isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    if isinstance(value, float):
        return KeyValue(key=key, value=AnyValue(double_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=str(value)))


# -- what is more than a value at a path -----------------------------------------------------------------------------


def states(latest: Latest) -> Iterator[Row]:
    """1 for the state the run is in."""
    state = latest.state
    for each in STATES:
        yield (each,), int(each == state)


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


def component(device: Mapping[str, object]) -> tuple[Any, ...]:
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


DIRECTION = "disk.io.direction"
HARDWARE = "hw.id hw.name hw.model hw.vendor hw.driver_version"
INSTRUMENTS = tuple(Instrument(*row) for row in (
    # the run and its tree
    ("proctally.run.state", UPDOWN, "proctally.run.state", states, "1 for the state the run is in.", "1"),
    ("proctally.run.duration", GAUGE, "", "summary.wall_seconds|sample.elapsed_seconds", "Time since the start."),
    ("proctally.run.exit.code", GAUGE, "", "summary.exit_code", "", "{code}"),
    ("proctally.run.exit.signal", GAUGE, "", "summary.signal", "", "{signal}"),
    ("proctally.job.cpu.consumption", COUNTER, "", "summary.cpu.total_seconds|tree.cpu_seconds"),
    ("proctally.job.cpu.time", COUNTER, "cpu.mode", (("summary.cpu.user_seconds|tree.cpu_user_seconds", "user"),
     ("summary.cpu.system_seconds|tree.cpu_system_seconds", "system")), "The same by /proc and wait4, which may see a "
     "little less."),
    ("proctally.job.cpu.wait_time", COUNTER, "", "summary.waiting.run_delay_seconds|tree.run_delay_seconds"),
    ("proctally.job.cpu.throttled_time", COUNTER, "", "summary.waiting.throttled_seconds|tree.throttled_seconds"),
    ("proctally.job.wall.time", COUNTER, "proctally.wall.part", (("tree.time.running_seconds", "running"),
     ("tree.time.ready_seconds", "ready"), ("tree.time.throttled_seconds", "throttled"),
     ("tree.time.disk_seconds", "disk"), ("tree.time.asleep_seconds", "asleep")), "Parts of the wall time: running, "
     "ready while other jobs had the CPU, throttled by a CPU quota, waiting for a device, asleep."),
    ("proctally.job.memory.usage", UPDOWN, "proctally.memory.kind", (("tree.memory_low_bytes", "low"),
     ("tree.memory_high_bytes", "high"), ("tree.mapped_file_bytes", "mapped_file"), ("tree.kernel_bytes", "kernel"),
     ("tree.swap_bytes", "swap"), ("tree.rss_bytes", "rss"), ("tree.pss_bytes", "pss"),
     ("cgroup.memory_bytes", "cgroup")), "Memory of the tree by several measures: do not add them up. low and high "
     "are bounds of anonymous and shared memory; mapped_file, kernel and swap are apart from them."),
    ("proctally.job.memory.peak", GAUGE, "proctally.memory.kind",
     (("summary.memory.peak_low_bytes|peak_low", "low"), ("summary.memory.peak_high_bytes|peak_high", "high"),
     ("summary.memory.peak_rss_bytes|peak_rss", "rss"), ("summary.memory.peak_pss_bytes|peak_pss", "pss"),
     ("summary.memory.cgroup_peak_bytes|cgroup.memory_peak_bytes", "cgroup")), "The most so far."),
    ("proctally.job.disk.io", COUNTER, DIRECTION, (("summary.io.read_bytes|tree.read_bytes", "read"),
     ("summary.io.write_bytes|tree.write_bytes", "write")), "Bytes fetched from storage, or to be sent there."),
    ("proctally.job.process.count", UPDOWN, "", "tree.processes"),
    ("proctally.job.process.started", COUNTER, "", "started", "Processes started so far.", "{process}"),
    ("proctally.job.thread.count", UPDOWN, "", "tree.threads"),
    ("proctally.job.paging.faults", COUNTER, "system.paging.fault.type", (("tree.minor_faults", "minor"),
     ("tree.major_faults", "major")), "Page faults."),
    ("proctally.job.context_switches", COUNTER, "", "tree.context_switches"),
    ("proctally.job.pressure.time", COUNTER, "proctally.resource proctally.stall",
     (("cgroup.cpu_pressure_seconds", "cpu", "some"), ("cgroup.memory_pressure_seconds", "memory", "some"),
     ("cgroup.io_pressure_seconds", "io", "some")), "Time in which some task of the cgroup waited for a resource."),
    ("proctally.job.oom_kill.count", COUNTER, "", "cgroup.oom_kills"),
    ("proctally.job.gpu.memory.usage", UPDOWN, HARDWARE, "gpus.tree_memory_bytes"),
    ("proctally.job.gpu.utilization", GAUGE, HARDWARE, "gpus.tree_utilization_ratio"),
    ("proctally.command.cpu.time", COUNTER, "proctally.command", commands(2), "CPU time by command; of those "
     "beyond 50: other.", "s"),
    ("proctally.command.process.started", COUNTER, "proctally.command", commands(1), "Processes by "
     "command.", "{process}"),
    # the machine
    ("system.cpu.time", COUNTER, "cpu.mode", (("system.cpu_user_seconds", "user"),
     ("system.cpu_system_seconds", "system"), ("system.cpu_iowait_seconds", "iowait"),
     ("system.cpu_softirq_seconds", "interrupt"), ("system.cpu_steal_seconds", "steal")), "CPU time of the machine, "
     "all CPUs together; nice is in user, idle is left out."),
    ("system.cpu.logical.count", UPDOWN, "", "devices.cpus"),
    ("system.memory.usage", UPDOWN, "system.memory.state", memory, "Memory of the machine; used is what is not "
     "available, so that a part of it may be in cached as well.", "By"),
    ("system.memory.limit", UPDOWN, "", "devices.memory.total_bytes"),
    ("system.memory.linux.available", UPDOWN, "", "system.memory.available_bytes"),
    ("system.paging.usage", UPDOWN, "system.paging.state", swap, "Swap.", "By"),
    ("system.disk.io", COUNTER, DIRECTION, (("system.disk.read_bytes", "read"),
     ("system.disk.write_bytes", "write")), "Of all disks together, each byte once."),
    ("system.filesystem.usage", UPDOWN, "system.filesystem.state", (("system.disk.space_used_bytes", "used"),
     ("system.disk.space_free_bytes", "free")), "Of all local file systems together."),
    ("system.network.io", COUNTER, "network.io.direction", (("system.network.received_bytes", "receive"),
     ("system.network.sent_bytes", "transmit")), "Of all interfaces together, each byte once."),
    ("system.process.count", UPDOWN, "", "system.process_count"),
    ("system.process.created", COUNTER, "", "system.forks"),
    ("proctally.system.pressure.time", COUNTER, "proctally.resource proctally.stall",
     (("system.pressure.cpu_some_seconds", "cpu", "some"), ("system.pressure.memory_some_seconds", "memory", "some"),
     ("system.pressure.memory_full_seconds", "memory", "full"), ("system.pressure.io_some_seconds", "io", "some"),
     ("system.pressure.io_full_seconds", "io", "full")), "Time in which tasks of the machine waited."),
    # GPUs
    ("hw.gpu.utilization", GAUGE, f"{HARDWARE} hw.gpu.task", (("gpus.utilization_ratio", "general"),)),
    ("hw.gpu.memory.usage", UPDOWN, f"{HARDWARE} hw.parent", gpu_memory("memory_used_bytes"), "Memory that is "
     "allocated; a MIG instance is a component of its own.", "By"),
    ("hw.gpu.memory.limit", UPDOWN, f"{HARDWARE} hw.parent", gpu_memory("memory_total_bytes"), "Memory of the "
     "device.", "By"),
    ("hw.gpu.memory.utilization", GAUGE, HARDWARE, gpu_memory_ratio, "Share of its memory that is allocated.", "1"),
    ("hw.energy", COUNTER, f"{HARDWARE} hw.type", (("gpus.energy_joules", "gpu"),)),
    ("hw.power", GAUGE, f"{HARDWARE} hw.type", (("gpus.power_watts", "gpu"),)),
    ("hw.temperature", GAUGE, f"{HARDWARE} hw.type", (("gpus.temperature_celsius", "gpu"),)),
    ("hw.fan.speed_ratio", GAUGE, f"{HARDWARE} hw.type", (("gpus.fan_ratio", "gpu"),)),
    ("hw.errors", COUNTER, f"{HARDWARE} hw.type error.type", (("gpus.ecc_corrected", "gpu", "corrected"),
     ("gpus.ecc_uncorrected", "gpu", "uncorrected")), "Memory errors."),
    ("proctally.gpu.clock", GAUGE, f"{HARDWARE} proctally.clock", (("gpus.graphics_clock_hertz", "graphics"),
     ("gpus.sm_clock_hertz", "sm"), ("gpus.memory_clock_hertz", "memory")), "Clocks now."),
    # the tracker and the exporter themselves
    ("proctally.tracker.cpu.time", COUNTER, "", "summary.tracker.cpu_seconds|tracker.cpu_seconds"),
    ("proctally.tracker.memory.usage", UPDOWN, "", "tracker.rss_bytes", "Resident set size of the tracker.", "By"),
    ("proctally.tracker.sample.count", COUNTER, "", "summary.tracker.samples|tracker.samples"),
    ("proctally.tracker.sample.missed", COUNTER, "", "summary.tracker.late_samples|tracker.late_samples"),
    ("proctally.source.success", UPDOWN, "proctally.source", sources("success"), "1 where a source could be read, "
     "else 0.", "1"),
    ("proctally.source.duration", GAUGE, "proctally.source", sources("seconds"), "Time that its last reading "
     "took.", "s"),
    ("proctally.exporter.line.dropped", COUNTER, "", "dropped", "Lines that the exporter did not take.", "{line}"),
    ("proctally.exporter.failure.count", COUNTER, "proctally.sink", deliveries("failed"), "Deliveries that "
     "failed.", "{failure}"),
    ("proctally.exporter.point.dropped", COUNTER, "proctally.sink", deliveries("dropped"), "Points given "
     "up.", "{point}"),
))  # fmt: skip


def of_member(*names: tuple[str, ...]) -> Callable[[Mapping[str, object]], list[Row]]:
    """(name of a value, values of attributes) of one process."""

    def rows(member: Mapping[str, object]) -> list[Row]:
        return [(tuple(more), member.get(name)) for name, *more in names]

    return rows


PROCESS = tuple(Instrument(*row) for row in (
    ("process.cpu.time", COUNTER, "cpu.mode", of_member(("cpu_user_seconds", "user"),
     ("cpu_system_seconds", "system")), "CPU time of a process itself, in steps of the tick.", "s"),
    ("process.memory.usage", UPDOWN, "", of_member(("rss_bytes",)), "Its resident set size.", "By"),
    ("process.memory.virtual", UPDOWN, "", of_member(("virtual_bytes",)), "Its virtual size.", "By"),
    ("process.disk.io", COUNTER, DIRECTION, of_member(("read_bytes", "read"), ("write_bytes", "write")),
     "As /proc/PID/io counts, with that of the children it waited for.", "By"),
    ("process.thread.count", UPDOWN, "", of_member(("threads",)), "Its threads.", "{thread}"),
    ("process.paging.faults", COUNTER, "system.paging.fault.type", of_member(("minor_faults", "minor"),
     ("major_faults", "major")), "Its page faults.", "{fault}"),
))  # fmt: skip


def resource(latest: Latest, more: Mapping[str, str]) -> JsonObject:
    """The attributes of the run: what it is, where it runs, who started it. `more`: OTEL_RESOURCE_ATTRIBUTES."""
    run, host = latest.run, latest.host or {}
    cloud = host.get("cloud") or {}
    said: JsonObject = {
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
        "proctally.run.command": program(run),
    }
    said |= {f"proctally.scheduler.{key.lower()}": value for key, value in section_at(run, "scheduler").items()}
    said |= {f"proctally.tag.{key}": value for key, value in list(section_at(run, "tags").items())[:MOST_TAGS]}
    known = {label(key): label(value) for key, value in said.items() if value is not None}
    return known | {encodable(key): encodable(value) for key, value in more.items()}  # the user's own words are not cut


def machine_id(host: Mapping[str, object]) -> str | None:
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
        at_ns = _nanoseconds(latest.at)
        since = {
            RUN: _nanoseconds(latest.run.get("started_at")),
            BOOT: _nanoseconds((latest.host or {}).get("booted_at")),
        }
        version, instance = latest.run.get("version"), attributes.get("service.instance.id")
        block = _block(message.resource_metrics.add(), attributes, version)
        points = 0
        for instrument in INSTRUMENTS:
            try:
                rows = list(instrument.rows(latest))
            except Exception:  # a value of a type that no tracker writes costs its own metric
                continue
            points += instrument.add_to(block, rows, at_ns, since[instrument.since])
        for member in latest.members:
            started_at = member.get("started_at")
            if not _is_time(started_at):
                continue  # a process without its start is not known from another one of its pid
            own = attributes | {
                # a backend that tells series apart by this alone, as Prometheus does, must not mix up processes
                "service.instance.id": f"{instance}/{member.get('pid')}/{started_at}",
                "process.pid": member.get("pid"),
                "process.creation.time": datetime.fromtimestamp(started_at, UTC).isoformat(),
                "process.executable.name": label(member.get("command")),
            }
            block = _block(message.resource_metrics.add(), own, version)
            begun = _nanoseconds(started_at)
            for instrument in PROCESS:
                assert callable(instrument.source)
                points += instrument.add_to(block, instrument.source(member), at_ns, begun)
        return message.SerializeToString(), points


def _nanoseconds(at: object) -> int:
    """Return nanoseconds since 1970: a board without a clock booted before that."""
    return round(at * NANOSECONDS) if _is_time(at) else 0


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and 0 <= value < MAX_TIME


def _block(holder: ResourceMetrics, attributes: Mapping[str, object], version: str | None) -> Any:
    """The list into which the metrics of a resource go."""
    holder.schema_url = SCHEMA_URL
    holder.resource.attributes.extend(pair(key, value) for key, value in attributes.items())
    scope = holder.scope_metrics.add()
    scope.scope.name = SCOPE
    scope.scope.version = label(version or "")
    scope.schema_url = SCHEMA_URL
    return scope.metrics
