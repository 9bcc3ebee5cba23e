"""Lines of a run that has everything, and the metrics made of them."""

from __future__ import annotations

import json
from typing import Any

from proctally.exporters.latest import Latest

HOSTILE = '"} 1\nevil{a="\\ \x00\x1b[31m\udcff é'
RUN = {
    "type": "run", "run_id": "r1", "name": HOSTILE, "kind": "run", "started_at": 1000.5, "version": "1",
    "command": ["/usr/bin/train", "--password=x"], "user": "u", "tags": {"learning-rate": HOSTILE, 'k"': "v"},
    "scheduler": {"SLURM_JOB_ID": "7"}, "limits": {"cpu_cores": 2, "memory_bytes": None},
}  # fmt: skip
GPU = {
    "index": 0, "uuid": "GPU-1", "name": "H", "vendor": "nvidia", "pci": "p", "driver_version": "1",
    "memory_total_bytes": 100, "power_limit_watts": 300.0,
}  # fmt: skip
SAMPLE = {
    "type": "sample", "at": 1001.5, "elapsed_seconds": 1.0, "interval_seconds": 1.0,
    "tree": {"cpu_seconds": 1.5, "cpu_user_seconds": 1.0, "cpu_system_seconds": 0.5, "rss_bytes": 4096,
             "pss_bytes": None, "processes": 2, "minor_faults": 3, "major_faults": 0},
    "system": {"cpu_user_seconds": 5.0, "memory": {"free_bytes": 7}, "pressure": {"io_full_seconds": 0.25}},
    "cgroup": {"cpu_pressure_seconds": 0.5, "oom_kills": 1},
    "gpus": [{"index": 0, "uuid": "GPU-1", "name": "H", "state": "ok", "unavailable": None, "utilization_ratio": 0.5,
              "memory_used_bytes": 50, "energy_joules": 9.5, "ecc_corrected": 1, "tree_memory_bytes": 40,
              "mig_instances": [{"uuid": "MIG-1", "memory_used_bytes": 5, "memory_total_bytes": 10}]}],
}  # fmt: skip
HOST = {"type": "host", "hostname": "h", "gpus": [GPU], "booted_at": 1.0}
DEVICES = {
    "type": "devices", "cpus": 4, "memory": {"total_bytes": 99},
    "disks": [{"name": "sda", "read_bytes": 1, "write_bytes": None}], "interfaces": [],
}  # fmt: skip
COMMANDS_LINE = {
    "type": "commands", "started": 5, "ended": 3,
    "commands": [{"command": HOSTILE, "processes": 2, "cpu_seconds": 0.5}],
}  # fmt: skip
GAUGES = {
    "type": "gauges", "process_count": 1, "rss_total_bytes": 4096,
    "processes": [{"pid": 7, "exe": f"/x{HOSTILE}", "rss_bytes": 4096, "rss_limit_bytes": None, "virtual_bytes": 9,
                   "threads": 1, "cpu_percent": 150.0, "system_cpu_percent": 50.0, "user_cpu_percent": 100.0}],
}  # fmt: skip
TRACKER = {
    "type": "tracker", "cpu_seconds": 0.1, "rss_bytes": 1000, "samples": 2, "late_samples": 0,
    "sources": {"procfs": {"success": True, "seconds": 0.001}, "gpu": {"success": False, "seconds": None}},
}  # fmt: skip
PHASE = {"type": "phase", "name": "fit", "event": "begin", "at": 1001.0}
ALL: tuple[dict[str, Any], ...] = (RUN, HOST, DEVICES, SAMPLE, COMMANDS_LINE, GAUGES, PHASE, TRACKER)


def fed(*lines: dict[str, Any]) -> Latest:
    latest = Latest()
    for line in lines:
        latest.feed(json.loads(json.dumps(line)))
    return latest
