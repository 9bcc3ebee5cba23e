"""Lines of a run that has everything, and the points that OTLP makes of them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from otlp_receiver import RECEIVERS, Taken, attributes, points
from proctally.exporters.latest import Delivery, Latest
from proctally.exporters.otlp import INSTRUMENTS, request
from proctally.exporters.otlp_sender import Otlp, OtlpLimits, settings

BOTH = pytest.mark.parametrize("protocol", RECEIVERS)
RUN = {
    "type": "run", "run_id": "r1", "name": "job", "kind": "run", "started_at": 1000.0, "version": "1",
    "command": ["/usr/bin/train", "--password", "***"], "user": "u", "tags": {"lr": "0.1"},
    "scheduler": {"SLURM_JOB_ID": "7"}, "limits": {},
}  # fmt: skip


def sample(at: float, cpu: float) -> dict[str, Any]:
    return {
        "type": "sample",
        "at": at,
        "elapsed_seconds": at - 1000,
        "tree": {"cpu_seconds": cpu, "cpu_user_seconds": cpu, "rss_bytes": 4096, "processes": 1},
        "system": None,
        "gpus": None,
    }


class Sending:
    """A sender with a state to send, as the exporter has it."""

    def __init__(self, url: str, *, variables: dict[str, str] | None = None, **limits: Any) -> None:
        self.latest = Latest()
        self.latest.feed(RUN)
        told = settings(url, {"OTEL_METRIC_EXPORT_INTERVAL": "50"} | (variables or {}))
        self.sink = Otlp(self.latest, told, OtlpLimits(pauses=(0.05, 0.2), **limits))
        self.cpu = 0.0

    def say(self, times: int = 1) -> None:
        for _ in range(times):
            self.cpu += 1.0
            self.latest.feed(sample(1000 + self.cpu, self.cpu))
            self.sink.sampled()
            if times > 1:
                time.sleep(0.06)

    def end(self, seconds: float = 5.0) -> None:
        self.sink.end(time.monotonic() + seconds)
        assert self.sink.join(seconds + 1)


def totals(taken: Taken) -> list[float]:
    """The CPU time of the tree in each request."""
    return [
        points(metric)[()]
        for each in taken.requests
        for metric in each.resource_metrics[0].scope_metrics[0].metrics
        if metric.name == "proctally.job.cpu.consumption"
    ]


GPU = {
    "index": 1, "vendor": "nvidia", "name": "H200", "uuid": "GPU-1", "driver_version": "570", "utilization_ratio": 0.5,
    "memory_used_bytes": 25, "memory_total_bytes": 100, "energy_joules": 7.0, "power_watts": 300.0, "fan_ratio": 0.25,
    "temperature_celsius": 40, "ecc_corrected": 3, "ecc_uncorrected": 4, "sm_clock_hertz": 1_980_000_000,
    "tree_memory_bytes": 20, "tree_utilization_ratio": 0.4,
    "mig_instances": [{"index": 0, "uuid": "MIG-1", "name": "1g", "memory_used_bytes": 5, "memory_total_bytes": 10}],
}  # fmt: skip
MEMBER = {
    "parent": 1, "command": "sh", "started_at": 999.5, "cpu_user_seconds": 1.5, "cpu_system_seconds": 0.5,
    "rss_bytes": 10, "virtual_bytes": 20, "threads": 2, "minor_faults": 30, "major_faults": 1, "read_bytes": 40,
    "write_bytes": 50,
}  # fmt: skip


def sent(*lines: dict[str, Any], more: dict[str, str] | None = None) -> Any:
    """The request after these lines."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    latest = Latest()
    latest.deliveries["otlp"] = Delivery()
    for line in (RUN, *lines):
        latest.feed(line)
    body, count = request(latest, more or {})
    message = ExportMetricsServiceRequest.FromString(body)
    assert count == len(series(message))
    return message


def series(message: Any) -> list[tuple[str, str, tuple[str, ...], float]]:
    """Instance, name, values of the attributes, and value of every point."""
    return [
        (attributes(block.resource)["service.instance.id"], metric.name, key, value)
        for block in message.resource_metrics
        for metric in block.scope_metrics[0].metrics
        for key, value in points(metric).items()
    ]


def filled(*sections: str) -> dict[str, Any]:
    """Lines in which every value of these sections that an instrument asks for is known."""
    lines: dict[str, Any] = {"at": 1001.0, "elapsed_seconds": 1.0, "tree": None, "system": None, "cgroup": None}
    for each in INSTRUMENTS:
        paths = ((each.source,),) if isinstance(each.source, str) else each.source
        for alternatives, *_ in () if callable(paths) else paths:
            for path in alternatives.split("|"):
                section, *names = path.split(".")
                if section not in sections or not names:
                    continue
                holder = lines[section] = lines.get(section) or {}
                for name in names[:-1]:
                    holder = holder.setdefault(name, {})
                holder[names[-1]] = 1
    return lines


def counted(*sections: str, gpus: int = 0, commands: int = 0, processes: int = 0) -> int:
    """The series of a push, one `target_info` for each resource included."""
    known = filled(*sections)
    devices = known.pop("devices", {})
    sources = {"tree": 2, "system": 1, "cgroup": 1}  # procfs and perf; a GPU is one more
    number = sum(sources.get(section, 0) for section in sections) + bool(gpus)
    tracker = {"cpu_seconds": 1, "rss_bytes": 1, "samples": 1, "late_samples": 0} | {
        "sources": {str(place): {"success": True, "seconds": 1} for place in range(number)}
    }
    if "system" in sections:
        devices = devices | {"cpus": 1, "memory": {"total_bytes": 1, "swap_total_bytes": 1}}
        known["system"]["memory"] |= dict.fromkeys(
            ("used_bytes", "free_bytes", "buffers_bytes", "cached_bytes", "available_bytes", "swap_used_bytes"), 1
        )
    if "tree" in sections:
        known["tree"] |= {"rss_bytes": 1, "pss_bytes": 1}
    gpu = {key: value for key, value in GPU.items() if key != "mig_instances"}
    gpu |= {"graphics_clock_hertz": 1, "memory_clock_hertz": 1}
    if "tree" not in sections:
        gpu = {key: value for key, value in gpu.items() if not key.startswith("tree_")}
    names = [{"command": str(place), "processes": 1, "cpu_seconds": 1.0} for place in range(commands)]
    message = sent(
        {"type": "devices"} | devices,
        {"type": "sample"} | known | {"gpus": [gpu | {"uuid": str(place)} for place in range(gpus)]},
        *([{"type": "commands", "started": 1, "ended": 0, "commands": names}] if "tree" in sections else []),
        {"type": "members", "processes": [MEMBER | {"pid": place} for place in range(processes)]},
        {"type": "tracker"} | tracker,
    )
    return len(series(message)) + len(message.resource_metrics)


def the_points() -> dict[str, int]:
    machine, job, both = counted("system"), counted("tree", commands=1), counted("tree", "system", commands=1)
    return {
        "`proctally system`": machine,
        "a run with `--no-system`, one command": job,
        "a run with the machine, one command": both,
        "each further command, up to 50": counted("tree", commands=2) - job,
        "each of the three largest processes (`process.*`)": counted("tree", commands=1, processes=1) - job,
        "a cgroup of the run's own": counted("tree", "cgroup", commands=1) - job,
        "each GPU of a machine": counted("system", gpus=2) - counted("system", gpus=1),
        "each GPU of a run": counted("tree", gpus=2) - counted("tree", gpus=1),
    }
