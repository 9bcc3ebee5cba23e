"""The classes of a sample and a summary. Generated from the table of fields by `make schema`: change record/schema.py.

Each value can be None: unknown, absent, or not there before the end of the run.
"""

from __future__ import annotations

from proctally.record.section import Section


class TrackerSummary(Section):
    """Cost of proctally."""

    cpu_seconds: float | None
    peak_rss_bytes: int | None
    samples: int | None
    late_samples: int | None
    lost_samples: int | None


class Gap(Section):
    """Something that a figure might lack: a bracket of its seconds or bytes."""

    section: str | None
    code: str | None
    count: int | None
    low_seconds: float | None
    high_seconds: float | None
    low_bytes: int | None
    high_bytes: int | None


class GpuSummary(Section):
    """All GPUs during the run."""

    mean_utilization_ratio: float | None
    peak_utilization_ratio: float | None
    peak_memory_used_bytes: int | None
    peak_tree_memory_bytes: int | None


class SystemSummary(Section):
    """The whole machine during the run."""

    unavailable: dict[str, str] | None
    cpus: int | None
    memory_total_bytes: int | None
    cpu_seconds: float | None
    cpu_iowait_seconds: float | None
    cpu_steal_seconds: float | None
    mean_cores: float | None
    peak_cores: float | None
    peak_memory_used_bytes: int | None
    disk_read_bytes: int | None
    disk_write_bytes: int | None
    network_received_bytes: int | None
    network_sent_bytes: int | None


class CgroupSummary(Section):
    """The cgroup that counts the job. Without a run cgroup, path, own and cpu_seconds alone are known."""

    path: str | None
    own: bool | None
    cpu_seconds: float | None
    cpu_user_seconds: float | None
    cpu_system_seconds: float | None
    memory_bytes: int | None
    memory_peak_bytes: int | None
    anon_bytes: int | None
    file_bytes: int | None
    swap_bytes: int | None
    oom_kills: int | None
    pids_peak: int | None
    read_bytes: int | None
    write_bytes: int | None
    cpu_pressure_seconds: float | None
    memory_pressure_seconds: float | None
    io_pressure_seconds: float | None


class JobLimits(Section):
    """Limits of CPU and memory of the job."""

    cpu_cores: float | None
    memory_bytes: int | None
    memory_high_bytes: int | None
    address_space_bytes: int | None


class CountersSummary(Section):
    """Counters of --counters."""

    page_faults: int | None
    context_switches: int | None
    cpu_migrations: int | None
    cycles: int | None
    instructions: int | None


class Neighbour(Section):
    """Processes of one user and one command."""

    user: str | None
    command: str | None
    processes: int | None
    cpu_cores: float | None
    rss_bytes: int | None


class Neighbours(Section):
    """Processes that are not of the job, between two readings of them."""

    interval_seconds: float | None
    cpu_cores: float | None
    coverage: str | None
    largest: list[Neighbour] | None


class WaitingSummary(Section):
    """Time without a CPU."""

    run_delay_seconds: float | None
    throttled_seconds: float | None
    throttled_periods: int | None
    periods: int | None


class TimeSummary(Section):
    """Parts of the wall time. Bounds are there where they are further apart than 5 % of it."""

    running_seconds: float | None
    running_low_seconds: float | None
    running_high_seconds: float | None
    ready_seconds: float | None
    ready_low_seconds: float | None
    ready_high_seconds: float | None
    throttled_seconds: float | None
    throttled_low_seconds: float | None
    throttled_high_seconds: float | None
    disk_seconds: float | None
    disk_low_seconds: float | None
    disk_high_seconds: float | None
    asleep_seconds: float | None
    asleep_low_seconds: float | None
    asleep_high_seconds: float | None
    wanted_cores: float | None


class PhaseSummary(Section):
    """The phases of one name."""

    name: str | None
    count: int | None
    wall_seconds: float | None
    cpu_seconds: float | None
    peak_low_bytes: int | None
    peak_high_bytes: int | None
    time: TimeSummary | None


class CommandSummary(Section):
    """The processes of one command."""

    command: str | None
    processes: int | None
    cpu_seconds: float | None
    teardown_seconds: float | None
    wall_seconds: float | None
    peak_rss_bytes: int | None
    folded: bool | None
    unlisted: bool | None


class ProcessesSummary(Section):
    """Processes of the tree."""

    started: int | None
    source: str | None
    peak: int | None
    left: int | None
    killed_by: dict[str, int] | None
    coverage: str | None


class IoSummary(Section):
    """I/O: bytes."""

    read_bytes: int | None
    write_bytes: int | None
    read_chars: int | None
    write_chars: int | None
    denied: int | None
    coverage: str | None


class MemoryPart(Section):
    """A part of the memory at the peak."""

    pid: int | None
    command: str | None
    low_bytes: int | None
    high_bytes: int | None
    kind: str | None


class OomKills(Section):
    """OOM kills in one cgroup, noticed in one scan."""

    elapsed_seconds: float | None
    cgroup: str | None
    limit_bytes: int | None
    count: int | None
    at_peak: list[MemoryPart] | None


class MemorySummary(Section):
    """Memory: bytes."""

    peak_low_bytes: int | None
    peak_high_bytes: int | None
    at_seconds: float | None
    mapped_file_bytes: int | None
    kernel_bytes: int | None
    swap_bytes: int | None
    unclaimed_shmem_bytes: int | None
    at_peak: list[MemoryPart] | None
    source: str | None
    peak_pss_bytes: int | None
    peak_rss_bytes: int | None
    peak_process_rss_bytes: int | None
    cgroup_peak_bytes: int | None
    pss_denied: int | None
    oom_kills: int | None
    ooms: list[OomKills] | None
    coverage: str | None


class CpuUnavailable(Section):
    """Codes of missing sources."""

    perf: str | None
    commands: str | None
    procfs: str | None
    cgroup: str | None
    memory_cgroup: str | None
    limits: str | None
    system: str | None


class CpuSources(Section):
    """CPU time of the tree by each source."""

    cgroup: float | None
    rusage: float | None
    perf: float | None
    procfs: float | None


class CpuSummary(Section):
    """CPU time: seconds, cores and their source."""

    total_seconds: float | None
    user_seconds: float | None
    system_seconds: float | None
    mean_cores: float | None
    peak_cores: float | None
    source: str | None
    sources: CpuSources
    unavailable: CpuUnavailable
    coverage: str | None


class Reason(Section):
    """The facts behind the verdict. A value that says nothing about it is null."""

    code: str | None
    signal: int | None
    core_dumped: bool | None
    exception: str | None
    limit_seconds: float | None
    measure: str | None
    used_bytes: int | None
    limit_bytes: int | None
    oom_kills: int | None
    oom_place: str | None
    oom_cgroup: str | None
    memory_limit_bytes: int | None
    last_rss_bytes: int | None
    left_alive: bool | None


class Summary(Section):
    """The last line: how the run ended, and its totals."""

    run_id: str | None
    ended_at: float | None
    wall_seconds: float | None
    exit_code: int | None
    signal: int | None
    verdict: str | None
    reason: Reason
    cpu: CpuSummary
    memory: MemorySummary
    io: IoSummary
    processes: ProcessesSummary
    commands: list[CommandSummary] | None
    time: TimeSummary
    phases: list[PhaseSummary] | None
    waiting: WaitingSummary
    others: Neighbours
    counters: CountersSummary
    limits: JobLimits
    cgroup: CgroupSummary | None
    system: SystemSummary | None
    gpu: GpuSummary | None
    gaps: list[Gap] | None
    tracker: TrackerSummary


class TopProcess(Section):
    """One of the largest processes of a sample."""

    pid: int | None
    command: str | None
    cpu_cores: float | None
    rss_bytes: int | None


class CgroupSection(Section):
    """The run cgroup at this moment."""

    cpu_seconds: float | None
    cpu_user_seconds: float | None
    cpu_system_seconds: float | None
    memory_bytes: int | None
    memory_peak_bytes: int | None
    anon_bytes: int | None
    file_bytes: int | None
    swap_bytes: int | None
    oom_kills: int | None
    pids_peak: int | None
    read_bytes: int | None
    write_bytes: int | None
    cpu_pressure_seconds: float | None
    memory_pressure_seconds: float | None
    io_pressure_seconds: float | None
    path: str | None
    own: bool | None


class MigInstance(Section):
    """A MIG instance."""

    index: int | None
    uuid: str | None
    name: str | None
    gpu_instance: int | None
    compute_instance: int | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    mig_parent: str | None


class GpuSection(Section):
    """A GPU. What does not change is there only in the first sample and after a change."""

    index: int | None
    uuid: str | None
    name: str | None
    vendor: str | None
    pci: str | None
    driver: str | None
    driver_version: str | None
    memory_total_bytes: int | None
    power_limit_watts: float | None
    state: str | None
    unavailable: dict[str, str] | None
    utilization_ratio: float | None
    memory_busy_ratio: float | None
    memory_used_bytes: int | None
    temperature_celsius: float | None
    power_watts: float | None
    energy_joules: float | None
    graphics_clock_hertz: int | None
    sm_clock_hertz: int | None
    memory_clock_hertz: int | None
    fan_ratio: float | None
    throttle_reasons: list[str] | None
    ecc_corrected: int | None
    ecc_uncorrected: int | None
    pcie_generation: int | None
    pcie_width: int | None
    pcie_received_bytes_per_second: float | None
    pcie_sent_bytes_per_second: float | None
    mig_instances: list[MigInstance] | None
    tree_utilization_ratio: float | None
    tree_memory_bytes: int | None
    tree_processes: int | None


class SystemPressure(Section):
    """Stall times of the machine since boot (PSI)."""

    cpu_some_seconds: float | None
    memory_some_seconds: float | None
    memory_full_seconds: float | None
    io_some_seconds: float | None
    io_full_seconds: float | None


class InterfaceActivity(Section):
    """An interface with traffic in the interval."""

    name: str | None
    received_bytes_per_second: float | None
    sent_bytes_per_second: float | None


class DiskActivity(Section):
    """A disk with requests in the interval."""

    name: str | None
    read_bytes_per_second: float | None
    write_bytes_per_second: float | None
    busy_ratio: float | None


class SystemNetwork(Section):
    """Sums over interfaces."""

    received_bytes: int | None
    sent_bytes: int | None


class SystemDisk(Section):
    """Sums over disks and file systems."""

    read_bytes: int | None
    write_bytes: int | None
    space_total_bytes: int | None
    space_free_bytes: int | None
    space_used_bytes: int | None


class SystemMemory(Section):
    """Memory of the machine."""

    free_bytes: int | None
    available_bytes: int | None
    used_bytes: int | None
    buffers_bytes: int | None
    cached_bytes: int | None
    shared_bytes: int | None
    active_bytes: int | None
    inactive_bytes: int | None
    swap_used_bytes: int | None


class SystemSection(Section):
    """The whole machine."""

    cpu_cores: float | None
    per_core_ratio: list[float | None] | None
    cpu_user_seconds: float | None
    cpu_system_seconds: float | None
    cpu_iowait_seconds: float | None
    cpu_softirq_seconds: float | None
    cpu_steal_seconds: float | None
    context_switches: int | None
    forks: int | None
    processes_running: int | None
    processes_blocked: int | None
    process_count: int | None
    load_1: float | None
    load_5: float | None
    load_15: float | None
    memory: SystemMemory | None
    disk: SystemDisk | None
    network: SystemNetwork | None
    disks: list[DiskActivity] | None
    interfaces: list[InterfaceActivity] | None
    pressure: SystemPressure | None


class TimeSection(Section):
    """Parts of the wall time: they add up to it."""

    running_seconds: float | None
    ready_seconds: float | None
    throttled_seconds: float | None
    disk_seconds: float | None
    asleep_seconds: float | None


class TreeSection(Section):
    """The process tree: counters since the start, gauges of this moment."""

    cpu_seconds: float | None
    cpu_user_seconds: float | None
    cpu_system_seconds: float | None
    cpu_cores: float | None
    processes: int | None
    threads: int | None
    peak_threads: int | None
    running: int | None
    disk_sleep: int | None
    run_delay_seconds: float | None
    rss_bytes: int | None
    pss_bytes: int | None
    pss_age_seconds: float | None
    pss_unread: int | None
    memory_low_bytes: int | None
    memory_high_bytes: int | None
    mapped_file_bytes: int | None
    kernel_bytes: int | None
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
    time: TimeSection
    gpu_utilization_ratio: float | None
    gpu_memory_bytes: int | None
    gpu_processes: int | None
    gpu_used: int | None
    gpu_unread: int | None


class Sample(Section):
    """One sample."""

    at: float | None
    elapsed_seconds: float | None
    interval_seconds: float | None
    tree: TreeSection
    system: SystemSection | None
    gpus: list[GpuSection] | None
    gpus_skipped: str | None
    gpus_age_seconds: float | None
    gpus_unavailable: str | None
    cgroup: CgroupSection | None
    top: list[TopProcess] | None
    neighbours: Neighbours
