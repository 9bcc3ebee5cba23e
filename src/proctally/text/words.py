"""Words for the codes of a record: gaps, reasons of a verdict, missing sources.

Views call these functions where a person reads the result; decisions compare codes. A value can come from a damaged or
forged record: a wrong type counts as unknown, and no function raises.
"""

from __future__ import annotations

from proctally.errors import NO_PROCFS
from proctally.text.cells import cut_middle
from proctally.text.escape import label, printable
from proctally.text.units import MAX_NUMBER, UNKNOWN, duration, share_between, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PLURALS = {"process": "processes", "child": "children", "CPU": "CPUs"}  # others add an s
SECTIONS = {
    "cpu": "CPU time",
    "io": "I/O",
    "memory": "memory",
    "processes": "processes",
    "time": "time",
    "network": "network",
    "machine": "machine",
}
SAMPLED_MEMORY = "peaks as sampled; the largest process by its high-water mark"

# code: what is counted, and the sentence. {n}: "3 processes", or "some processes" where the count is unknown;
# {what}: the section; {amount}: " (at most 0.1 s)", or nothing where no bound is known
GAPS = {
    "unreaped": ("process", "no parent reaped {n}{amount}: their {what} is incomplete"),
    "unreaped_unseen": (
        "process", "{n} ignored SIGCHLD: {what} of their children after the last scan is missing{amount}",
    ),
    "unreaped_unknown": (
        "process", "{what} of unreaped processes (SIGCHLD ignored) would be missing; proctally saw none",
    ),
    "teardown": ("process", "about 50 us and the release of memory are missing at the exit of {n}{amount}"),
    "threads_ended": ("thread", "CPU time of {n} between the last accounting and the exit is missing{amount}"),
    "setuid": ("process", "perf lost {n}, maybe by a setuid or unreadable program: {what} is incomplete{amount}"),
    "hidden": ("process", "the kernel refused to show {n} of the job (hidepid, a security module){amount}"),
    "left_running": ("process", "{n} continued to run after the summary{amount}"),
    "lost_records": ("record", "perf lost {n}: names and counts of processes are incomplete"),
    "lost_unknown": ("record", "perf might have lost records: this kernel does not count them"),
    "last_moments": ("process", "the end of {n} that another process reaps is missing{amount}"),
    "orphans_unseen": ("process", "{n} left the tree before a scan: {what} is incomplete{amount}"),
    "split_unknown": ("process", "the total has a part without user and system time{amount}"),
    "client_only": ("command", "the command is only a client: work in its daemon or on another machine is missing"),
    "no_subreaper": (
        "process", "PR_SET_CHILD_SUBREAPER was refused: {what} of orphans after the last scan is missing{amount}",
    ),
    "cgroup_left": ("process", "{n} left the run cgroup: their {what} elsewhere is missing{amount}"),
    "earlier_children": ("child", "{n} from before the start did not count; processes that they leave might count"),
    "adopted_unrelated": ("process", "as process 1, proctally might count unrelated processes that it adopted"),
    "attach_threads": ("thread", "{n} that started during the attach might be missing{amount}"),
    "processes_sampled": ("process", "sampled: processes shorter than the interval are missing"),
    "forks_unseen": ("thread", "no record shows the fork of {n}: their processes are missing"),
    "buffers_unreadable": ("buffer", "{n} of perf held no valid record: some processes are missing"),
    "new_cpus": ("CPU", "{n} came online during the run: processes forked there are missing"),
    "command_time_sampled": ("command", "this kernel has no CPU time of single processes: that of commands is sampled"),
    "thread_time_merged": ("thread", "CPU time of {n} is in no record of theirs{amount}"),
    "io_denied": ("process", "I/O of {n} is denied to this user{amount}"),
    "io_unreadable": ("process", "I/O of {n} could not be read{amount}"),
    "io_unavailable": ("process", "this kernel has no I/O of processes, or none of it could be read"),
    "tracking_failed": ("process", "an error of proctally ended tracking early"),
    "pss_stale": ("process", "PSS of {n} was not up to date at the peak{amount}"),
    "pss_denied": ("process", "PSS of {n} is denied to this user{amount}"),
    "spike_between_samples": ("process", "high-water marks of {n} exceed every scan{amount}"),
    "unclaimed_shmem": ("process", "shared memory might belong to another job{amount}"),
    "anonymous_shmem": ("process", "shared memory that only root can attribute is left out{amount}"),
    "surroundings_hidden": ("process", "the enclosing cgroup or its processes are unreadable"),
    "late_look": ("scan", "{n} took more than 50 ms: the peak might be higher{amount}"),
    "not_sampled": ("process", "too short to be sampled: the peak is an upper bound{amount}"),
    "delay_of_dead": ("process", "run delay of {n} that exited between two scans is missing{amount}"),
    "delay_sampled": ("thread", "run delay of {n} is missing: too many moved at once{amount}"),
    "delay_unavailable": ("thread", "no run delay could be read: this kernel might lack CONFIG_SCHED_INFO"),
    "disk_by_looks": ("scan", "disk time is a share of scans{amount}"),
    "procfs_missing": ("file", NO_PROCFS["procfs_missing"]),
    "procfs_foreign": ("file", NO_PROCFS["procfs_foreign"]),
    "source_wrong": ("source", "{n} showed 100 times as much as two others: not used"),
    "clock_disbelieved": ("clock", "{n} disagreed with times(2): not used"),
    "file_served": ("file", "a daemon serves {n} of /proc and did not answer"),
    "oom_elsewhere": ("OOM kill", "{n} happened in a cgroup that other processes share"),
}  # fmt: skip
# (section, code): the sentence where a section needs its own
IN_SECTION = {
    ("memory", "last_moments"): "the high-water mark of {n} is the last one read",
    ("processes", "setuid"): "perf lost {n}, maybe by a setuid or unreadable program, with all their children",
}
ANY = {"teardown": "each process", "last_moments": "each process", "clock_disbelieved": "a CPU clock"}
# the amount where a gap without bounds has a known size
WITHOUT_BOUNDS = {("cpu", "last_moments"): " (about 50 us and the release of memory)"}

REASONS = {
    "exit_status": "{ended}",
    "signal": "killed by {signal}{core}",
    "timeout": "still running after {limit_seconds} (--timeout), then {ended}",
    "memory_limit": "{measure} {used} over --max-memory {limit} in two samples, then {ended}",
    "oom_kill": "{ended}",
    "not_ended": "still running when tracking ended",
    "stopped": "stopped by {signal}",
    "duration": "stopped after {limit_seconds} (--duration)",
    "readers_gone": "every reader of its output exited",
    "all_exited": "all processes exited",
    "block_ended": "the block ended{exception}",
    "block_cancelled": "the block was cancelled before it started",
    "block_left": "the program left the block without a message",
    "program_exited": "the process exited inside the block",
    "program_replaced": "the process executed another program inside the block, or closed all its descriptors",
}
AFTER_KILLED = "by {signal}{core}"  # the reason `signal` after the verdict `killed`
KILLED_FOR_MEMORY = "KILLED FOR MEMORY"
PATH = 32  # cells of the path of a cgroup in a title
MEASURES = {"pss": "PSS", "cgroup": "cgroup memory", "low": "memory"}
WHOLE_MACHINE = "machine"
OOM_PLACES = {
    "own_cgroup": "in the run cgroup",
    "cgroup": "in its cgroup",
    WHOLE_MACHINE: "on this machine, maybe of another job",
}

MISSING = {
    "not_requested": "not requested",
    "switched_off": "switched off",
    "many_cpus": "each fork would take longer on this many CPUs; use --commands on",
    "unsupported": "not supported on this architecture or interpreter",
    "perf_paranoid": "kernel.perf_event_paranoid is above 2; set it to 2 (sysctl -w) or grant CAP_PERFMON",
    "perf_refused": "perf_event_open is refused; grant CAP_PERFMON or use a seccomp profile that allows it",
    "other_users": "threads of other users are refused; grant CAP_PERFMON",
    "no_syscall": "this kernel or sandbox has no such system call",
    "no_descriptors": "no file descriptor is left; raise the limit of open files (ulimit -n)",
    "no_counter": "this machine has no such counter",
    "no_locked_memory": "no locked memory is left; raise kernel.perf_event_mlock_kb or ulimit -l",
    "no_counter_left": "the kernel has no counter left",
    "already_running": "a running process is not moved into a cgroup",
    "cgroup_read_only": "cgroups are mounted read-only; mount the v2 hierarchy writable in this container",
    "cgroup_not_delegated": "this user cannot divide the cgroup; start in a delegated one (systemd: Delegate=yes)",
    "cgroup_missing": "the cgroup was removed or is not visible here; start in one that exists",
    "cgroup_limit": (
        "no more cgroups are allowed; raise cgroup.max.descendants or cgroup.max.depth, or remove unused ones"
    ),
    "cgroup_full": "the kernel has no room for another cgroup; remove unused ones",
    "no_kernel_memory": "the kernel has no memory for another cgroup; remove unused ones",
    "cgroup_taken": "another run removed the new cgroup as a leftover; start again",
    "cgroup_busy": "this cgroup gives controllers to its children; clear its cgroup.subtree_control",
    "no_own_procfs": "/proc does not show this process; mount the procfs of its pid namespace",
    **NO_PROCFS,
    "file_served": "a daemon serves this file",
    "sysfs_foreign": "/sys belongs to another network namespace; mount sysfs inside (mount -t sysfs sys /sys)",
    "cgroup_unfit": "this cgroup is threaded or has no v2 hierarchy; start in a v2 domain cgroup",
    "cgroup_left": "a process left it for another cgroup",
    "cgroup_alters": (
        "a new cgroup would change the job: cpuacct is mounted with cpu, or memory.use_hierarchy is 0; set it to 1"
    ),
    "invalid": "invalid content",
    "just_started": "the job just started",
    "no_driver": "no GPU driver is loaded",
    "no_answer": "no answer in time",
    "helper_failed": "the helper process failed",
    "no_binding": "nvidia-ml-py cannot be loaded; install it with pip",
    "driver_error": "the driver reports an error",
    "device_lost": "the driver lost the device",
}
# (source, code): the words where a source needs its own
OF_SOURCE = {
    ("cgroup", "not_requested"): "not requested; use --cgroup",
    ("commands", "switched_off"): "switched off by --commands off",
}
NVML_ERRORS = {
    1: "uninitialized",
    2: "invalid argument",
    3: "not supported",
    4: "insufficient permissions",
    6: "not found",
    7: "insufficient size",
    8: "insufficient external power",
    9: "driver not loaded",
    10: "timeout",
    11: "interrupt request issue",
    12: "NVML shared library not found",
    13: "function not found",
    14: "corrupted infoROM",
    15: "GPU is lost",
    16: "GPU requires restart",
    17: "the operating system has blocked the request",
    18: "driver/library version mismatch: the driver was updated, its old module is still loaded",
    20: "insufficient memory",
    21: "no data",
    999: "unknown error",
}
NVML = "nvml_"


def missing(code: object, source: object = None) -> str:
    """Return why a source is missing, with its remedy. `code`: of `cpu.unavailable` and similar maps."""
    if not isinstance(code, str) or not code:
        return UNKNOWN
    known = OF_SOURCE.get((source, code)) or MISSING.get(code) if isinstance(source, str) else MISSING.get(code)
    return known or _nvml_error(code) or _errno(code) or printable(label(code))


def _nvml_error(code: str) -> str | None:
    number = code.removeprefix(NVML)
    if number == code or not number.isascii() or not number.isdecimal() or len(number) > 9:
        return None
    known = NVML_ERRORS.get(int(number))
    return f"NVML error {number}" if known is None else f"NVML: {known}"


def _errno(name: str) -> str | None:
    import errno
    import os

    number = getattr(errno, name, None) if name[:1] == "E" else None
    return os.strerror(number) if isinstance(number, int) else None


def gap(found: object) -> str:
    """Return one sentence on what a total does not contain: `{section, code, count, low_seconds, ...}`."""
    code, section = _get(found, "code"), _get(found, "section")
    if not isinstance(code, str) or code not in GAPS:
        return f"{UNKNOWN} gap{f' {printable(label(code))}' if isinstance(code, str) else ''}"
    place = section if isinstance(section, str) and section in SECTIONS else ""
    noun, sentence = GAPS[code]
    amount = _bounds(found, "seconds", _short) or _bounds(found, "bytes", size)
    return IN_SECTION.get((place, code), sentence).format(
        n=counted(_get(found, "count"), noun, ANY.get(code)),
        what=SECTIONS.get(place, "usage"),
        amount=f" ({amount})" if amount else WITHOUT_BOUNDS.get((place, code), ""),
    )


def _bounds(found: object, unit: str, show: Callable[[float], str]) -> str:
    low, high = _number(_get(found, f"low_{unit}")), _number(_get(found, f"high_{unit}"))
    if high is None:
        return f"at least {show(low)}" if low else ""
    return f"{show(low)} to {show(high)}" if low else f"at most {show(high)}"


def wrong_values(count: int) -> str:
    """Return a note on values of records that have a wrong type, empty for none."""
    return "" if not count else f"{count:,} value{'' if count == 1 else 's'} of a wrong type, shown as unknown"


def _short(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 60 else duration(seconds)


def counted(count: object, noun: str, unknown: str | None = None) -> str:
    """Return a number with its noun, such as `3 processes`; `some processes` where it is unknown."""
    plural = PLURALS.get(noun, f"{noun}s")
    number = _number(count)
    if number is None:
        return unknown or f"some {plural}"
    return f"{number:,.0f} {noun if number == 1 else plural}"


def coverage(value: object, gaps: Iterable[object]) -> str:
    """Return the completeness of a section with its gaps, such as `partial; I/O of 2 processes is denied ...`."""
    known = value if isinstance(value, str) and value in ("complete", "partial", "unknown") else UNKNOWN
    return "; ".join((known, *map(gap, gaps)))


def sections(summary: object) -> list[tuple[str, str]]:
    """Return the name of each section with a completeness or a gap, and what its values do not contain."""
    listed = _get(summary, "gaps")
    gaps = listed if isinstance(listed, list) else []
    found = []
    for name, title in SECTIONS.items():
        value = _get(_get(summary, name), "coverage")
        own = [each for each in gaps if _get(each, "section") == name]
        texts = [] if value is None else [coverage(value, ())]
        if name == "memory" and value in ("complete", "partial"):
            texts = [SAMPLED_MEMORY]
        if any(_get(each, "code") == "not_sampled" for each in own):
            texts = []
        texts += map(gap, own)
        if texts:
            found.append((title, "; ".join(texts)))
    return found


def headline(summary: object, got: tuple[float, float] | None = None, *, certain: bool = True) -> tuple[str, str, str]:
    """Return the verdict, what is bad about a good one, and the detail that follows the wall time in a title.

    `got`: bounds of the share of the wanted CPU time that a starved run had; None for any other run. `certain`: it was
    starved at either bound.
    """
    values, verdict = _get(summary, "reason"), _get(summary, "verdict")
    count = _number(_get(values, "oom_kills")) if _get(values, "oom_place") != WHOLE_MACHINE else None
    killed = f"{counted(count, 'process')} {'was' if count == 1 else 'were'} killed for memory" if count else ""
    if verdict == "oom":
        return KILLED_FOR_MEMORY, "", _at_limit(values)
    if verdict == "ok":
        if killed:
            return "ok", f", but {killed}", ""
        return (
            ("ok", "", "")
            if got is None
            else (
                "ok",
                f", {'but' if certain else 'maybe'} starved",
                f": got {share_between(*got)} of the CPU time it wanted",
            )
        )
    also = f", and {killed}" if killed else ""
    if verdict == "killed" and _get(values, "code") == "signal":
        return f"killed {_reason(summary, AFTER_KILLED, with_kills=False)}", also, ""
    return printable(label(verdict)), also, f": {reason(summary, with_kills=False)}"


def _at_limit(values: object) -> str:
    limit, path = _number(_get(values, "memory_limit_bytes")), _get(values, "oom_cgroup")
    is_named = isinstance(path, str) and _get(values, "oom_place") == "cgroup"
    where = f" ({cut_middle(printable(label(path)), PATH)})" if is_named else ""
    return "" if limit is None else f", at the limit of {size(limit)}{where}"


def oom_kills(summary: object) -> str:
    """Return how many processes the OOM killer ended, and where."""
    return _oom_kills(_get(summary, "reason"), required=True)


def killed_children(killed_by: object) -> str:
    """Return how many children each signal ended, such as `3 children ended by SIGKILL`; empty without any."""
    known = killed_by.items() if isinstance(killed_by, dict) else ()
    counts = [(printable(label(name)), number) for name, value in known if (number := _number(value))]
    if not counts:
        return ""
    (first, number), *more = counts
    texts = [f"{counted(number, 'child')} ended by {first}", *(f"{count:,.0f} by {name}" for name, count in more)]
    return ", ".join(texts)


def reason(summary: object, *, with_kills: bool = True) -> str:
    """Return how a run ended, from `reason`, `exit_code` and `signal` of its summary."""
    code = _get(_get(summary, "reason"), "code")
    if not isinstance(code, str) or code not in REASONS:
        return UNKNOWN
    return _reason(summary, REASONS[code], with_kills=with_kills)


def _reason(summary: object, template: str, *, with_kills: bool) -> str:
    values = _get(summary, "reason")
    code = _get(values, "code")
    exception = _get(values, "exception")
    measure = _get(values, "measure")
    number = _number(_get(values, "signal"))
    text = template.format(
        ended=_ended(summary, values),
        signal=_signal(_number(_get(summary, "signal")) if number is None else number),
        core=_core(values),
        limit_seconds=_seconds(_get(values, "limit_seconds")),
        used=size(_number(_get(values, "used_bytes"))),
        limit=size(_number(_get(values, "limit_bytes"))),
        measure=MEASURES.get(measure, "memory") if isinstance(measure, str) else "memory",
        exception=f" with {printable(label(exception))}" if isinstance(exception, str) else "",
    )
    if _get(values, "left_alive") is True:
        text += "; a process could not be killed"
    kills = _oom_kills(values, required=code == "oom_kill") if with_kills else ""
    if not kills:
        return text
    return f"{kills}; {text}" if code == "oom_kill" else f"{text}; {kills}"


def _ended(summary: object, values: object) -> str:
    """Return the exit status or the signal of the command."""
    number = _number(_get(summary, "signal"))
    if number is not None:
        return f"killed by {_signal(number)}{_core(values)}"
    status = _number(_get(summary, "exit_code"))
    return f"exit status {UNKNOWN if status is None else f'{status:.0f}'}"


def _core(values: object) -> str:
    return ", core dumped" if _get(values, "core_dumped") is True else ""


def _oom_kills(values: object, *, required: bool) -> str:
    kills = _number(_get(values, "oom_kills"))
    if not kills and not required:
        return ""
    place, limit = _get(values, "oom_place"), _number(_get(values, "memory_limit_bytes"))
    last = _number(_get(values, "last_rss_bytes"))
    path = _get(values, "oom_cgroup")
    is_named = isinstance(path, str) and limit is not None and place == "cgroup"
    facts = [] if limit is None else [f"limit {size(limit)}{f' of {printable(label(path))}' if is_named else ''}"]
    facts += [] if last is None else [f"last sample {size(last)}"]
    where = f" {OOM_PLACES[place]}" if not is_named and isinstance(place, str) and place in OOM_PLACES else ""
    known = f" ({', '.join(facts)})" if facts else ""
    return f"the kernel's OOM killer ended {counted(kills, 'process')}{where}{known}"


def _signal(number: float | None) -> str:
    if number is None:
        return "an unknown signal"
    import signal

    try:
        return f"signal {number:.0f} ({signal.Signals(int(number)).name})"
    except ValueError:
        return f"signal {number:.0f}"


def _seconds(value: object) -> str:
    number = _number(value)
    return f"{UNKNOWN} time" if number is None else f"{number:g} s"


def _get(values: object, name: str) -> object:
    return values.get(name) if isinstance(values, dict) else None


def _number(value: object) -> float | None:
    """Return a number that can be shown; None for any other value of a record."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < MAX_NUMBER:
        return value
    return None
