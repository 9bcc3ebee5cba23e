"""The one table of fields: name, unit, kind, scope, help. Records, exports and documents walk it.

Base units with the unit in the name; unknown is None, never 0. Totals count since the start of the record (for
`attach`: since the attach); gauges are levels at the moment of the sample.
"""

from __future__ import annotations

SCHEMA = "proctally/1"

COUNTER = "counter"  # a total that never falls
GAUGE = "gauge"  # a level, or a rate over the interval
INFO = "info"  # a text, an identity, a moment


class Field:
    """One field of a record: where it stands (`scope`), what it is called, its unit and kind, and what it means."""

    __slots__ = ("help", "kind", "name", "scope", "unit")

    def __init__(self, scope: str, name: str, unit: str, kind: str, text: str) -> None:
        self.scope = scope
        self.name = name
        self.unit = unit
        self.kind = kind
        self.help = text


_ROWS = (
    # line 1
    ("run", "type", "", INFO, "run"),
    ("run", "schema", "", INFO, "version of this table: proctally/1"),
    ("run", "version", "", INFO, "version of proctally"),
    ("run", "run_id", "", INFO, "random identity of this run"),
    ("run", "parent_run_id", "", INFO, "identity of the run inside which this one was started"),
    ("run", "kind", "", INFO, "run, attach, system or track"),
    ("run", "name", "", INFO, "name given with --name, else the command's"),
    ("run", "command", "", INFO, "the command as a list, values that look like secrets masked; null for attach"),
    ("run", "cwd", "", INFO, "working directory"),
    ("run", "user", "", INFO, "login name, or the number where it has none"),
    ("run", "pid", "", INFO, "process id of the root of the tree"),
    ("run", "started_at", "s", INFO, "Unix time at which tracking began"),
    ("run", "interval_seconds", "s", INFO, "interval that was asked for"),
    (
        "run",
        "limits",
        "",
        INFO,
        "cpu_cores, memory_bytes, memory_high_bytes (reclaimed from there on) and from where they are",
    ),
    ("run", "scheduler", "", INFO, "identity of the batch job: SLURM_JOB_ID, PBS_JOBID and their like, when set"),
    ("run", "tags", "", INFO, "pairs given with --tag"),
    # a sample
    ("sample", "type", "", INFO, "sample"),
    ("sample", "at", "s", INFO, "Unix time of the sample"),
    ("sample", "elapsed_seconds", "s", INFO, "since the start, by the monotonic clock"),
    ("sample", "interval_seconds", "s", INFO, "since the last sample; null in the first"),
    ("sample", "tree", "", INFO, "the tracked process tree"),
    ("sample", "cgroup", "", INFO, "the run's own cgroup, when there is one"),
    ("sample", "top", "", INFO, "the few largest processes of this sample"),
    ("tree", "cpu_seconds", "s", COUNTER, "CPU time of the tree, dead processes included"),
    ("tree", "cpu_user_seconds", "s", COUNTER, "its user part (procfs and wait4; in steps of the tick)"),
    ("tree", "cpu_system_seconds", "s", COUNTER, "its kernel part (procfs and wait4; in steps of the tick)"),
    (
        "tree",
        "cpu_cores",
        "1",
        GAUGE,
        "CPU seconds per second over the interval (if below 0.05 s, with the one before); null at first",
    ),
    ("tree", "processes", "1", GAUGE, "processes, zombies included"),
    ("tree", "threads", "1", GAUGE, "threads"),
    ("tree", "running", "1", GAUGE, "processes whose main thread runs or waits for a CPU (state R)"),
    ("tree", "disk_sleep", "1", GAUGE, "processes whose main thread is in uninterruptible sleep (state D)"),
    ("tree", "run_delay_seconds", "s", COUNTER, "time that threads were ready to run and had no CPU, as last seen"),
    ("tree", "rss_bytes", "By", GAUGE, "sum of resident set sizes: memory shared by several is counted for each"),
    ("tree", "pss_bytes", "By", GAUGE, "sum of proportional set sizes: shared memory is divided among its users"),
    ("tree", "pss_age_seconds", "s", GAUGE, "age of the oldest PSS reading in the sum"),
    ("tree", "pss_unread", "1", GAUGE, "living processes whose PSS is not in the sum: denied, or not read yet"),
    ("tree", "swap_bytes", "By", GAUGE, "memory in swap, as last seen"),
    ("tree", "read_bytes", "By", COUNTER, "bytes fetched from storage"),
    ("tree", "write_bytes", "By", COUNTER, "bytes sent to storage, or dirtied in the page cache to be sent"),
    ("tree", "cancelled_write_bytes", "By", COUNTER, "bytes dirtied whose file was cut before they were written"),
    ("tree", "read_chars", "By", COUNTER, "bytes asked of read(2) and its like, from cache, pipes and terminals too"),
    ("tree", "write_chars", "By", COUNTER, "bytes given to write(2) and its like"),
    ("tree", "read_syscalls", "1", COUNTER, "read(2) and its like"),
    ("tree", "write_syscalls", "1", COUNTER, "write(2) and its like"),
    ("tree", "minor_faults", "1", COUNTER, "page faults served without storage"),
    ("tree", "major_faults", "1", COUNTER, "page faults that waited for storage"),
    ("tree", "context_switches", "1", COUNTER, "switches as last seen: exact for what proctally reaped"),
    ("tree", "throttled_seconds", "s", COUNTER, "time throttled by the cgroup's CPU quota; null without a quota"),
    ("cgroup", "cpu_seconds", "s", COUNTER, "CPU time of all that ever ran in the run's own cgroup (cpu.stat)"),
    ("cgroup", "cpu_user_seconds", "s", COUNTER, "its user part"),
    ("cgroup", "cpu_system_seconds", "s", COUNTER, "its kernel part"),
    ("cgroup", "memory_bytes", "By", GAUGE, "memory charged to it (memory.current); null without that controller"),
    ("cgroup", "memory_peak_bytes", "By", GAUGE, "the most so far (memory.peak)"),
    ("cgroup", "anon_bytes", "By", GAUGE, "its anonymous memory (memory.stat)"),
    ("cgroup", "file_bytes", "By", GAUGE, "its page cache (memory.stat)"),
    ("cgroup", "swap_bytes", "By", GAUGE, "its memory in swap (memory.swap.current)"),
    ("cgroup", "oom_kills", "1", COUNTER, "processes that the OOM killer took in it (memory.events)"),
    ("cgroup", "pids_peak", "1", GAUGE, "the most processes and threads at once (pids.peak)"),
    ("cgroup", "read_bytes", "By", COUNTER, "bytes read from storage, each stacked device again (io.stat)"),
    ("cgroup", "write_bytes", "By", COUNTER, "bytes written to storage, each stacked device again (io.stat)"),
    ("cgroup", "cpu_pressure_seconds", "s", COUNTER, "time in which some task waited for a CPU (cpu.pressure)"),
    ("cgroup", "memory_pressure_seconds", "s", COUNTER, "... for memory (memory.pressure)"),
    ("cgroup", "io_pressure_seconds", "s", COUNTER, "... for storage (io.pressure)"),
    ("top", "pid", "", INFO, "process id"),
    ("top", "command", "", INFO, "name after exec (comm)"),
    ("top", "cpu_cores", "1", GAUGE, "its own CPU seconds per second over the interval; null in the first sample"),
    ("top", "rss_bytes", "By", GAUGE, "its resident set size"),
    # one line for each process that was seen
    ("process", "type", "", INFO, "process"),
    ("process", "pid", "", INFO, "process id"),
    ("process", "start", "", INFO, "ticks since boot at which it began: pid and start are its identity"),
    ("process", "parent", "", INFO, "process id of its parent when last seen"),
    ("process", "command", "", INFO, "name after exec (comm)"),
    ("process", "started_at", "s", INFO, "Unix time of its start"),
    ("process", "ended_at", "s", INFO, "Unix time at which its end was seen; null while it lives"),
    ("process", "cpu_seconds", "s", COUNTER, "its own CPU time, without its children (attach: since the attach)"),
    ("process", "peak_rss_bytes", "By", GAUGE, "its largest resident set size: VmHWM where read, else as sampled"),
    ("process", "read_bytes", "By", COUNTER, "as tree.read_bytes, with those of the children it waited for"),
    ("process", "write_bytes", "By", COUNTER, "as tree.write_bytes, with those of the children it waited for"),
    ("process", "exit", "", INFO, "exit status, or minus the signal; null where proctally did not reap it"),
    # the last line
    ("summary", "type", "", INFO, "summary"),
    ("summary", "ended_at", "s", INFO, "Unix time of the end"),
    ("summary", "wall_seconds", "s", INFO, "from start to end, by the monotonic clock"),
    ("summary", "exit_code", "", INFO, "exit status of the command; null when a signal ended it, or for attach"),
    ("summary", "signal", "", INFO, "signal that ended the command"),
    ("summary", "verdict", "", INFO, "ok, failed, killed, oom, timeout, limit or (attach) ended"),
    ("summary", "evidence", "", INFO, "one sentence: what the verdict rests on"),
    ("summary.cpu", "total_seconds", "s", COUNTER, "the best total"),
    ("summary.cpu", "user_seconds", "s", COUNTER, "user part (procfs and wait4)"),
    ("summary.cpu", "system_seconds", "s", COUNTER, "kernel part (procfs and wait4)"),
    ("summary.cpu", "mean_cores", "1", GAUGE, "total_seconds / wall_seconds"),
    ("summary.cpu", "peak_cores", "1", GAUGE, "largest cpu_cores over an interval of at least half the one asked for"),
    ("summary.cpu", "source", "", INFO, "where the best total came from: cgroup, rusage, perf or procfs"),
    ("summary.cpu", "sources", "", INFO, "what each source says, in seconds"),
    ("summary.cpu", "unavailable", "", INFO, "sources that could not be had, and why"),
    ("summary.cpu", "coverage", "", INFO, "complete, or what the total may not contain"),
    ("summary.memory", "peak_pss_bytes", "By", GAUGE, "largest pss_bytes seen"),
    ("summary.memory", "peak_rss_bytes", "By", GAUGE, "largest rss_bytes seen"),
    ("summary.memory", "peak_process_rss_bytes", "By", GAUGE, "high-water mark of the largest single process"),
    ("summary.memory", "cgroup_peak_bytes", "By", GAUGE, "memory.peak of the run's own cgroup, when there is one"),
    ("summary.memory", "coverage", "", INFO, "what the peaks may not contain"),
    ("summary.io", "read_bytes", "By", COUNTER, "as in tree"),
    ("summary.io", "write_bytes", "By", COUNTER, "as in tree"),
    ("summary.io", "read_chars", "By", COUNTER, "as in tree"),
    ("summary.io", "write_chars", "By", COUNTER, "as in tree"),
    ("summary.io", "coverage", "", INFO, "complete, or what the totals may not contain"),
    (
        "summary.processes",
        "started",
        "1",
        COUNTER,
        "processes started, or, without perf, those that were seen or reaped",
    ),
    ("summary.processes", "source", "", INFO, "where `started` comes from: perf or procfs"),
    ("summary.processes", "peak", "1", GAUGE, "most processes in one sample"),
    ("summary.processes", "left", "1", GAUGE, "processes of the tree that lived on at the end"),
    ("summary.processes", "coverage", "", INFO, "complete, or what the count may not contain"),
    ("summary.commands", "command", "", INFO, "name after exec (comm)"),
    ("summary.commands", "processes", "1", COUNTER, "processes under that name; without perf, those seen"),
    ("summary.commands", "cpu_seconds", "s", COUNTER, "their own CPU time; without perf, as last seen"),
    (
        "summary.commands",
        "teardown_seconds",
        "s",
        COUNTER,
        "their share of what processes used while they ended, which perf does not count: total less perf, by CPU time",
    ),
    (
        "summary.commands",
        "wall_seconds",
        "s",
        COUNTER,
        "sum of their lives, from fork to exit; without perf, until their end was seen",
    ),
    ("summary.commands", "peak_rss_bytes", "By", GAUGE, "largest resident set size of one that was seen"),
    ("summary.waiting", "run_delay_seconds", "s", COUNTER, "as in tree"),
    ("summary.waiting", "throttled_seconds", "s", COUNTER, "as in tree"),
    ("summary.waiting", "throttled_periods", "1", COUNTER, "periods of that quota in which it was throttled"),
    ("summary.waiting", "periods", "1", COUNTER, "periods of that quota in which something ran"),
    ("summary.counters", "page_faults", "1", COUNTER, "page faults in user mode, by perf (with --counters)"),
    ("summary.counters", "context_switches", "1", COUNTER, "by perf; null without CAP_PERFMON or paranoid 1"),
    ("summary.counters", "cpu_migrations", "1", COUNTER, "by perf; null without CAP_PERFMON or paranoid 1"),
    ("summary.counters", "cycles", "1", COUNTER, "CPU cycles in user mode; null where the machine has no such counter"),
    (
        "summary.counters",
        "instructions",
        "1",
        COUNTER,
        "instructions in user mode; null where there is no such counter",
    ),
    ("summary", "limits", "", INFO, "as in the first line"),
    ("summary.cgroup", "path", "", INFO, "the cgroup in which the CPU time of all around the job is accounted"),
    ("summary.cgroup", "own", "", INFO, "whether it is the run's own"),
    ("summary.cgroup", "cpu_seconds", "s", COUNTER, "what all that ran in it used from start to end, others included"),
    ("summary.cgroup", "cpu_user_seconds", "s", COUNTER, "as in cgroup: of the run's own; null without one"),
    ("summary.cgroup", "cpu_system_seconds", "s", COUNTER, "as in cgroup: of the run's own; null without one"),
    ("summary.cgroup", "memory_bytes", "By", GAUGE, "as in cgroup: of the run's own; null without one"),
    ("summary.cgroup", "memory_peak_bytes", "By", GAUGE, "as in cgroup: of the run's own; null without one"),
    ("summary.cgroup", "anon_bytes", "By", GAUGE, "as in cgroup: of the run's own; null without one"),
    ("summary.cgroup", "file_bytes", "By", GAUGE, "as in cgroup: of the run's own; null without one"),
    ("summary.cgroup", "swap_bytes", "By", GAUGE, "as in cgroup: of the run's own; null without one"),
    ("summary.cgroup", "oom_kills", "1", COUNTER, "as in cgroup: of the run's own; null without one"),
    ("summary.cgroup", "pids_peak", "1", GAUGE, "as in cgroup: of the run's own; null without one"),
    ("summary.cgroup", "read_bytes", "By", COUNTER, "as in cgroup: of the run's own; null without one"),
    ("summary.cgroup", "write_bytes", "By", COUNTER, "as in cgroup: of the run's own; null without one"),
    ("summary.cgroup", "cpu_pressure_seconds", "s", COUNTER, "as in cgroup: of the run's own; null without one"),
    ("summary.cgroup", "memory_pressure_seconds", "s", COUNTER, "as in cgroup: of the run's own; null without one"),
    ("summary.cgroup", "io_pressure_seconds", "s", COUNTER, "as in cgroup: of the run's own; null without one"),
    ("summary.tracker", "cpu_seconds", "s", COUNTER, "CPU time of proctally itself, interpreter start included"),
    ("summary.tracker", "peak_rss_bytes", "By", GAUGE, "high-water mark of proctally itself"),
    ("summary.tracker", "samples", "1", COUNTER, "samples taken"),
    ("summary.tracker", "late_samples", "1", COUNTER, "deadlines of the schedule that were missed"),
    ("summary.tracker", "lost_samples", "1", COUNTER, "samples taken that could not be written"),
)


def fields() -> list[Field]:
    """The table, in the order of the record."""
    return [Field(*row) for row in _ROWS]
