"""The newest state as OpenMetrics and as the older text format of Prometheus, through `prometheus-client`.

FAMILIES is the one table: names, units, meaning, and where in a record each value comes from. Base units, ratios from
0 to 1, counters that never fall; what is not known is left out. `docs/exporters.md` is generated from it.
"""

from __future__ import annotations

import os

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector, CollectorRegistry

from proctally.exporters.latest import commands, deliveries, described, fits, program, sentence, sources
from proctally.record.schema import STATES
from proctally.text.escape import label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from proctally.exporters.latest import Latest, Row, Source
    from proctally.record import JsonObject

    Entry = tuple[tuple[str, ...], JsonObject]

PREFIX = "proctally_"
COUNTER, GAUGE, INFO, STATES_OF = "counter", "gauge", "info", "stateset"
UNITS = {  # of UCUM, as OpenMetrics has them at the end of a name
    "s": "seconds",
    "By": "bytes",
    "1": "ratio",
    "J": "joules",
    "Cel": "celsius",
    "W": "watts",
    "Hz": "hertz",
    "{cpu}": "cores",
}
DEVICES = 200  # disks, interfaces and GPUs that have series of their own
MOST_TAGS = 20
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"


class MetricFamily:
    """One metric: its name without prefix and `_total`, kind, labels, meaning, and where its values come from.

    `source`: a path of `Latest.value` (several, with `|`: the first that is known, of a counter the largest), a path in
    one of LISTS, a tuple of (path, values of the labels), or the function of this module that gives the rows. Without a
    text, the meaning is that of the field.
    """

    __slots__ = ("help", "kind", "labels", "name", "source", "unit")

    def __init__(self, name: str, kind: str, labels: str, source: Source, text: str = "") -> None:
        self.name = PREFIX + name
        self.kind = kind
        self.labels = tuple(labels.split())
        self.source = source
        self.help = text or sentence(described(source))
        self.unit = next(
            (unit for unit in UNITS.values() if name.endswith(f"_{unit}") and kind in (COUNTER, GAUGE)), ""
        )

    def rows(self, latest: Latest) -> Iterable[Row]:
        """(values of the labels, value) of each of its series; a value that is None is left out later."""
        if callable(self.source):
            return self.source(latest)
        paths = ((self.source,),) if isinstance(self.source, str) else self.source
        scope = paths[0][0].rpartition(".")[0]
        if scope in LISTS:
            named = [(path.rpartition(".")[2], values) for path, *values in paths]
            entries = LISTS[scope](latest)
            return [((*labels, *values), entry.get(name)) for labels, entry in entries for name, values in named]
        return [(tuple(values), latest.known(path, largest=self.kind == COUNTER)) for path, *values in paths]

    def known(self, latest: Latest) -> Metric | None:
        """Return it as `prometheus-client` has it; None where nothing of it is known, or it cannot be made.

        A value of a type that no tracker writes costs its own metric, not all of them.
        """
        try:
            return self._metric(latest)
        except Exception:
            return None

    def _metric(self, latest: Latest) -> Metric | None:
        rows = [(values, value) for values, value in self.rows(latest) if value is not None]
        if not rows:
            return None
        if self.kind == INFO:
            name = self.name.removesuffix("_info")
            return InfoMetricFamily(name, self.help, value=rows[0][1])
        if self.kind == STATES_OF:
            return StateSetMetricFamily(self.name, self.help, value=rows[0][1])
        make = CounterMetricFamily if self.kind == COUNTER else GaugeMetricFamily
        metric = make(self.name, self.help, labels=self.labels, unit=self.unit)
        for values, value in rows:
            if fits(value) and (value >= 0 or self.kind != COUNTER):
                metric.add_metric(values, value)
        return metric if metric.samples else None


# -- what is more than a value at a path -----------------------------------------------------------------------------


def run_info(latest: Latest) -> Iterator[Row]:
    """What is known of the run; tags as `tag_KEY`."""
    run = latest.run
    if not run:
        return
    scheduler = run.get("scheduler") or {}
    host = (latest.host or {}).get("hostname") or os.uname().nodename
    said = {
        "run_id": run.get("run_id"),
        "parent_run_id": run.get("parent_run_id"),
        "kind": run.get("kind"),
        "name": run.get("name"),
        "command": program(run),
        "host": host,
        "user": run.get("user"),
        "version": run.get("version"),
        "scheduler": next((key.partition("_")[0].lower() for key in scheduler), None),
        "scheduler_job_id": next((scheduler[key] for key in JOB_IDS if key in scheduler), None),
    }
    for key, value in list((run.get("tags") or {}).items())[:MOST_TAGS]:
        said["tag_" + "".join(sign if sign.isascii() and sign.isalnum() else "_" for sign in key)] = value
    yield (), {key: label(value) for key, value in said.items() if value is not None}


JOB_IDS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")


def run_state(latest: Latest) -> Iterator[Row]:
    """Which of the states the run is in."""
    state = latest.state
    yield (), {each: each == state for each in STATES}


def phases(latest: Latest) -> Iterator[Row]:
    """How often each phase is open."""
    for name, count in latest.phases.items():
        yield (name,), count


def member(name: str, scale: float = 1) -> Callable[[Latest], Iterator[Row]]:
    """One gauge of each process."""

    def rows(latest: Latest) -> Iterator[Row]:
        for process in latest.processes:
            value = process.get(name)
            if value is not None:
                yield (str(process["pid"]), label(process.get("exe"))), value * scale

    return rows


def disks(latest: Latest) -> Iterator[Entry]:
    """Each disk, with its name."""
    for device in ((latest.devices or {}).get("disks") or [])[:DEVICES]:
        yield (label(device["name"]),), device


def interfaces(latest: Latest) -> Iterator[Entry]:
    """Each interface, with its name."""
    for device in ((latest.devices or {}).get("interfaces") or [])[:DEVICES]:
        yield (label(device["name"]),), device


def gpus(latest: Latest) -> Iterator[Entry]:
    """Each GPU, with its number and its identity."""
    for device in (latest.gpus() or [])[:DEVICES]:
        yield _gpu_labels(device), device


def gpu_info(latest: Latest) -> Iterator[Row]:
    """What does not change of each GPU."""
    for device in (latest.gpus() or [])[:DEVICES]:
        said = [label(device.get(name) or "") for name in ("vendor", "name", "pci", "driver_version")]
        yield (*_gpu_labels(device), *said), 1


def gpu_up(latest: Latest) -> Iterator[Row]:
    """Whether each GPU can be read; one that sleeps is not to be."""
    for device in (latest.gpus() or [])[:DEVICES]:
        yield _gpu_labels(device), device.get("state") == "ok" and not device.get("unavailable")


def mig_instances(latest: Latest) -> Iterator[Entry]:
    """Each MIG instance, with its GPU and its identity."""
    for labels, device in gpus(latest):
        for instance in device.get("mig_instances") or []:
            yield (*labels, label(instance.get("uuid"))), instance


LISTS = {
    "devices.disks": disks,
    "devices.interfaces": interfaces,
    "gpus": gpus,
    "gpus.mig_instances": mig_instances,
}


def _gpu_labels(device: JsonObject) -> tuple[str, str]:
    return label(device.get("index")), label(device.get("uuid") or device.get("pci") or "")


def exporter_cpu(_: Latest) -> Iterator[Row]:
    """The CPU time of this process."""
    times = os.times()
    yield (), times.user + times.system


FAMILIES = tuple(MetricFamily(*row) for row in (
    # the run
    ("run_info", INFO, "", run_info, "What is known of the run: run_id, parent_run_id, kind, name, command (the "
     "program's name alone), host, user, version, scheduler, scheduler_job_id, and each --tag as tag_KEY."),
    ("run_state", STATES_OF, "", run_state, "1 for the state the run is in: running, the verdict of its end, or lost "
     "(the tracker ended without a summary)."),
    ("run_start_timestamp_seconds", GAUGE, "", "run.started_at"),
    ("run_end_timestamp_seconds", GAUGE, "", "summary.ended_at"),
    ("run_duration_seconds", GAUGE, "", "summary.wall_seconds|sample.elapsed_seconds", "Time since the start, by the "
     "monotonic clock."),
    ("run_exit_code", GAUGE, "", "summary.exit_code"),
    ("run_exit_signal", GAUGE, "", "summary.signal"),
    ("run_limit_cores", GAUGE, "", "run.limits.cpu_cores"),
    ("run_memory_limit_bytes", GAUGE, "", "run.limits.memory_bytes"),
    ("sample_timestamp_seconds", GAUGE, "", "sample.at", "Unix time of the newest sample."),
    ("phase_active", GAUGE, "phase", phases, "How often a phase is open; beyond 20 names: other."),
    # the tree
    ("tree_cpu_seconds", COUNTER, "", "summary.cpu.total_seconds|tree.cpu_seconds"),
    ("process_cpu_seconds", COUNTER, "mode", (("summary.cpu.user_seconds|tree.cpu_user_seconds", "user"),
     ("summary.cpu.system_seconds|tree.cpu_system_seconds", "system")), "The same by /proc and wait4, which tell user "
     "from kernel time, in steps of the tick; the sum may be a little less than proctally_tree_cpu_seconds_total."),
    ("tree_cpu_cores", GAUGE, "", "tree.cpu_cores"),
    ("tree_memory_bytes", GAUGE, "kind", (("tree.memory_low_bytes", "low"), ("tree.memory_high_bytes", "high"),
     ("tree.mapped_file_bytes", "mapped_file"), ("tree.kernel_bytes", "kernel"), ("tree.swap_bytes", "swap")),
     "Memory of the tree: bounds of anonymous and shared memory (low, high); apart from them mapped files, kernel "
     "memory and swap."),
    ("tree_memory_peak_bytes", GAUGE, "kind", (("summary.memory.peak_low_bytes|peak_low", "low"),
     ("summary.memory.peak_high_bytes|peak_high", "high")), "Bounds of the largest anonymous and shared memory so "
     "far."),
    ("process_resident_memory_bytes", GAUGE, "", "tree.rss_bytes"),
    ("process_resident_memory_peak_bytes", GAUGE, "", "summary.memory.peak_rss_bytes|peak_rss"),
    ("process_proportional_memory_bytes", GAUGE, "", "tree.pss_bytes"),
    ("process_proportional_memory_peak_bytes", GAUGE, "", "summary.memory.peak_pss_bytes|peak_pss"),
    ("process_largest_resident_memory_peak_bytes", GAUGE, "", "summary.memory.peak_process_rss_bytes"),
    ("process_swap_bytes", GAUGE, "", "tree.swap_bytes"),
    ("processes", GAUGE, "", "tree.processes"),
    ("processes_unread", GAUGE, "what", (("tree.pss_unread", "pss"), ("tree.io_unread", "io")), "Processes that are "
     "not in the sums of memory or I/O: this user may not read them, or they were not read yet. Left out without any."),
    ("processes_running", GAUGE, "", "tree.running"),
    ("processes_disk_sleep", GAUGE, "", "tree.disk_sleep"),
    ("threads", GAUGE, "", "tree.threads"),
    ("process_started", COUNTER, "", "started", "Processes started so far; without perf, those that were seen."),
    ("process_ended", COUNTER, "", "ended", "Processes that ended so far; without perf, those that were seen."),
    ("process_read_bytes", COUNTER, "", "summary.io.read_bytes|tree.read_bytes"),
    ("process_written_bytes", COUNTER, "", "summary.io.write_bytes|tree.write_bytes"),
    ("process_cancelled_write_bytes", COUNTER, "", "tree.cancelled_write_bytes"),
    ("process_read_call_bytes", COUNTER, "", "summary.io.read_chars|tree.read_chars"),
    ("process_write_call_bytes", COUNTER, "", "summary.io.write_chars|tree.write_chars"),
    ("process_read_calls", COUNTER, "", "tree.read_syscalls"),
    ("process_write_calls", COUNTER, "", "tree.write_syscalls"),
    ("process_page_faults", COUNTER, "type", (("tree.minor_faults", "minor"), ("tree.major_faults", "major")), "Page "
     "faults: minor without storage, major those that waited for it."),
    ("process_context_switches", COUNTER, "", "tree.context_switches"),
    ("process_run_delay_seconds", COUNTER, "", "summary.waiting.run_delay_seconds|tree.run_delay_seconds"),
    ("process_throttled_seconds", COUNTER, "", "summary.waiting.throttled_seconds|tree.throttled_seconds"),
    ("wall_time_seconds", COUNTER, "part", (("tree.time.running_seconds", "running"),
     ("tree.time.ready_seconds", "ready"), ("tree.time.throttled_seconds", "throttled"),
     ("tree.time.disk_seconds", "disk"), ("tree.time.asleep_seconds", "asleep")), "Parts of the wall time: running, "
     "ready while other jobs had the CPU, throttled by a CPU quota, waiting for a device, asleep."),
    ("process_gpu_memory_bytes", GAUGE, "gpu uuid", "gpus.tree_memory_bytes"),
    ("process_gpu_utilization_ratio", GAUGE, "gpu uuid", "gpus.tree_utilization_ratio"),
    ("process_gpu_processes", GAUGE, "gpu uuid", "gpus.tree_processes"),
    # by command, by process
    ("command_cpu_seconds", COUNTER, "command", commands(2), "CPU time of the processes of a command; of those beyond "
     "50 commands: other."),
    ("command_processes", COUNTER, "command", commands(1), "Processes of a command so far; of those beyond 50 "
     "commands: other."),
    ("member_resident_memory_bytes", GAUGE, "pid exe", member("rss_bytes"), "Resident set size of a process."),
    ("member_resident_memory_limit_bytes", GAUGE, "pid exe", member("rss_limit_bytes"), "Its soft limit; left out "
     "where it has none."),
    ("member_virtual_memory_bytes", GAUGE, "pid exe", member("virtual_bytes"), "Virtual size of a process."),
    ("member_threads", GAUGE, "pid exe", member("threads"), "Threads of a process."),
    ("member_cpu_cores", GAUGE, "pid exe", member("cpu_percent", 0.01), "CPU seconds per second of a process over the "
     "last interval; the first time, since its start."),
    ("member_cpu_kernel_cores", GAUGE, "pid exe", member("system_cpu_percent", 0.01), "Its kernel part."),
    ("member_cpu_user_cores", GAUGE, "pid exe", member("user_cpu_percent", 0.01), "Its user part."),
    ("members_omitted", GAUGE, "", "omitted", "Processes without series of their own, beyond the 1000 largest."),
    # its cgroup
    ("cgroup_cpu_seconds", COUNTER, "", "cgroup.cpu_seconds"),
    ("cgroup_memory_bytes", GAUGE, "", "cgroup.memory_bytes"),
    ("cgroup_memory_peak_bytes", GAUGE, "", "cgroup.memory_peak_bytes"),
    ("cgroup_memory_anonymous_bytes", GAUGE, "", "cgroup.anon_bytes"),
    ("cgroup_memory_file_bytes", GAUGE, "", "cgroup.file_bytes"),
    ("cgroup_swap_bytes", GAUGE, "", "cgroup.swap_bytes"),
    ("cgroup_pids_peak", GAUGE, "", "cgroup.pids_peak"),
    ("cgroup_read_bytes", COUNTER, "", "cgroup.read_bytes"),
    ("cgroup_written_bytes", COUNTER, "", "cgroup.write_bytes"),
    ("pressure_seconds", COUNTER, "resource kind", (("cgroup.cpu_pressure_seconds", "cpu", "some"),
     ("cgroup.memory_pressure_seconds", "memory", "some"), ("cgroup.io_pressure_seconds", "io", "some")), "Time in "
     "which some task of the cgroup waited for a resource."),
    ("oom_kills", COUNTER, "", "cgroup.oom_kills"),
    # the machine
    ("system_cpu_seconds", COUNTER, "mode", (("system.cpu_user_seconds", "user"),
     ("system.cpu_system_seconds", "system"), ("system.cpu_iowait_seconds", "iowait"),
     ("system.cpu_softirq_seconds", "softirq"), ("system.cpu_steal_seconds", "steal")), "CPU time of the machine since "
     "boot; iowait is time without work."),
    ("system_cpu_cores", GAUGE, "", "system.cpu_cores"),
    ("system_cpus", GAUGE, "", "devices.cpus"),
    ("system_context_switches", COUNTER, "", "system.context_switches"),
    ("system_forks", COUNTER, "", "system.forks"),
    ("system_processes", GAUGE, "", "system.process_count"),
    ("system_processes_running", GAUGE, "", "system.processes_running"),
    ("system_processes_blocked", GAUGE, "", "system.processes_blocked"),
    ("system_load1", GAUGE, "", "system.load_1"),
    ("system_load5", GAUGE, "", "system.load_5"),
    ("system_load15", GAUGE, "", "system.load_15"),
    ("system_memory_size_bytes", GAUGE, "", "devices.memory.total_bytes"),
    ("system_memory_free_bytes", GAUGE, "", "system.memory.free_bytes"),
    ("system_memory_available_bytes", GAUGE, "", "system.memory.available_bytes"),
    ("system_memory_used_bytes", GAUGE, "", "system.memory.used_bytes"),
    ("system_memory_buffers_bytes", GAUGE, "", "system.memory.buffers_bytes"),
    ("system_memory_cached_bytes", GAUGE, "", "system.memory.cached_bytes"),
    ("system_memory_shared_bytes", GAUGE, "", "system.memory.shared_bytes"),
    ("system_swap_used_bytes", GAUGE, "", "system.memory.swap_used_bytes"),
    ("system_disk_read_bytes", COUNTER, "", "system.disk.read_bytes"),
    ("system_disk_written_bytes", COUNTER, "", "system.disk.write_bytes"),
    ("system_disk_size_bytes", GAUGE, "", "system.disk.space_total_bytes"),
    ("system_disk_free_bytes", GAUGE, "", "system.disk.space_free_bytes"),
    ("system_network_received_bytes", COUNTER, "", "system.network.received_bytes"),
    ("system_network_sent_bytes", COUNTER, "", "system.network.sent_bytes"),
    ("system_device_read_bytes", COUNTER, "device", "devices.disks.read_bytes"),
    ("system_device_written_bytes", COUNTER, "device", "devices.disks.write_bytes"),
    ("system_interface_received_bytes", COUNTER, "device", "devices.interfaces.received_bytes"),
    ("system_interface_sent_bytes", COUNTER, "device", "devices.interfaces.sent_bytes"),
    ("system_pressure_seconds", COUNTER, "resource kind", (("system.pressure.cpu_some_seconds", "cpu", "some"),
     ("system.pressure.memory_some_seconds", "memory", "some"),
     ("system.pressure.memory_full_seconds", "memory", "full"), ("system.pressure.io_some_seconds", "io", "some"),
     ("system.pressure.io_full_seconds", "io", "full")), "Time in which some or all tasks of the machine waited for "
     "a resource."),
    # GPUs
    ("gpu_info", GAUGE, "gpu uuid vendor name pci driver_version", gpu_info, "What does not change of a GPU; 1."),
    ("gpu_up", GAUGE, "gpu uuid", gpu_up, "1 for a GPU that is there, awake, and was read without a problem."),
    ("gpu_utilization_ratio", GAUGE, "gpu uuid", "gpus.utilization_ratio"),
    ("gpu_memory_busy_ratio", GAUGE, "gpu uuid", "gpus.memory_busy_ratio"),
    ("gpu_memory_used_bytes", GAUGE, "gpu uuid", "gpus.memory_used_bytes"),
    ("gpu_memory_size_bytes", GAUGE, "gpu uuid", "gpus.memory_total_bytes"),
    ("gpu_energy_joules", COUNTER, "gpu uuid", "gpus.energy_joules"),
    ("gpu_power_watts", GAUGE, "gpu uuid", "gpus.power_watts"),
    ("gpu_power_limit_watts", GAUGE, "gpu uuid", "gpus.power_limit_watts"),
    ("gpu_temperature_celsius", GAUGE, "gpu uuid", "gpus.temperature_celsius"),
    ("gpu_fan_ratio", GAUGE, "gpu uuid", "gpus.fan_ratio"),
    ("gpu_clock_hertz", GAUGE, "gpu uuid clock", (("gpus.graphics_clock_hertz", "graphics"),
     ("gpus.sm_clock_hertz", "sm"), ("gpus.memory_clock_hertz", "memory")), "Clocks now."),
    ("gpu_ecc_errors", COUNTER, "gpu uuid type", (("gpus.ecc_corrected", "corrected"),
     ("gpus.ecc_uncorrected", "uncorrected")), "Memory errors since the driver was loaded."),
    ("gpu_mig_memory_used_bytes", GAUGE, "gpu uuid mig", "gpus.mig_instances.memory_used_bytes"),
    ("gpu_mig_memory_size_bytes", GAUGE, "gpu uuid mig", "gpus.mig_instances.memory_total_bytes"),
    # the tracker and the exporter themselves
    ("source_success", GAUGE, "source", sources("success"), "1 where the last sample had this source, 0 where it could "
     "not be read; left out where it was not asked for."),
    ("source_duration_seconds", GAUGE, "source", sources("seconds"), "Time that the last sample took for this source; "
     "an attach reads perf together with procfs."),
    ("tracker_cpu_seconds", COUNTER, "", "summary.tracker.cpu_seconds|tracker.cpu_seconds"),
    ("tracker_resident_memory_bytes", GAUGE, "", "tracker.rss_bytes", "Resident set size of the tracker."),
    ("samples", COUNTER, "", "summary.tracker.samples|tracker.samples"),
    ("samples_missed", COUNTER, "", "summary.tracker.late_samples|tracker.late_samples"),
    ("exporter_cpu_seconds", COUNTER, "", exporter_cpu, "CPU time of the process that exports."),
    ("exporter_lines_dropped", COUNTER, "", "dropped", "Lines that the tracker could not hand over, because the "
     "exporter did not read."),
    ("exporter_deliveries", COUNTER, "sink", deliveries("done"), "Times that a file was written, or a receiver took "
     "what was pushed."),
    ("exporter_failures", COUNTER, "sink", deliveries("failed"), "Times that this did not work."),
    ("exporter_points_dropped", COUNTER, "sink", deliveries("dropped"), "Points given up because a receiver did not "
     "take them in time, or refused them."),
))  # fmt: skip


class Exposition(Collector):
    """The families of one state, for the encoders of `prometheus-client`."""

    def __init__(self, latest: Latest) -> None:
        self.latest = latest
        self.registry = _registry(self)

    def collect(self) -> list[Metric]:
        """All that is known now."""
        latest = self.latest
        with latest.lock:
            metrics = [family.known(latest) for family in FAMILIES]
        return [metric for metric in metrics if metric is not None]

    def text(self, content_type: str, labels: Mapping[str, str] | None = None) -> bytes:
        """As one of OPENMETRICS and TEXT. `labels`: such as every series is to have."""
        registry = self.registry if not labels else _registry(Labelled(self, labels))
        encode: Callable[..., bytes] = openmetrics.generate_latest if content_type == OPENMETRICS else generate_latest
        # our names need no escaping: to have each looked at, letter by letter, costs a third of the time
        return encode(registry, escaping=openmetrics.ALLOWUTF8)


class Labelled(Collector):
    """The same with further labels of every series."""

    def __init__(self, exposition: Exposition, labels: Mapping[str, str]) -> None:
        self._exposition = exposition
        self._labels = labels

    def collect(self) -> list[Metric]:
        """All that is known now."""
        metrics = self._exposition.collect()
        for metric in metrics:
            metric.samples = [sample._replace(labels={**sample.labels, **self._labels}) for sample in metric.samples]
        return metrics


def _registry(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry
