"""The codes of a record: completeness, gaps, reasons of a verdict, missing sources.

A decision compares codes, never words: `text/words.py` makes the words where a person reads them. This module has no
imports, since the start of a run loads it.
"""

from __future__ import annotations

# completeness of a section
COMPLETE, PARTIAL, UNKNOWN = "complete", "partial", "unknown"

# sections of a gap
CPU, IO, MEMORY, PROCESSES = "cpu", "io", "memory", "processes"
TIME, NETWORK, MACHINE = "time", "network", "machine"
SECTIONS = (CPU, IO, MEMORY, PROCESSES, TIME, NETWORK, MACHINE)

# gaps of CPU time, I/O and processes
UNREAPED = "unreaped"  # processes that no parent waited for, seen by perf
UNREAPED_UNSEEN = "unreaped_unseen"  # the same without perf: processes that ignore SIGCHLD
UNREAPED_UNKNOWN = "unreaped_unknown"  # neither perf nor a cgroup would have seen them
TEARDOWN = "teardown"  # address spaces released after perf stopped counting
THREADS_ENDED = "threads_ended"  # CPU of threads between their last accounting and their exit
SETUID = "setuid"  # perf lost processes that executed a setuid or unreadable program
HIDDEN = "hidden"  # processes of the job whose `stat` is refused (hidepid, a security module)
LEFT_RUNNING = "left_running"  # processes that go on after the summary
LOST_RECORDS = "lost_records"  # perf lost records
LOST_UNKNOWN = "lost_unknown"  # this kernel does not count lost records
LAST_MOMENTS = "last_moments"  # the end of a process that another process reaps
ORPHANS_UNSEEN = "orphans_unseen"  # processes that left the tree before they were seen
SPLIT_UNKNOWN = "split_unknown"  # a total without its user and system part
CLIENT_ONLY = "client_only"  # the command has a daemon or another machine do the work
NO_SUBREAPER = "no_subreaper"  # PR_SET_CHILD_SUBREAPER was refused: orphans go elsewhere
CGROUP_LEFT = "cgroup_left"  # processes left the run's own cgroup
EARLIER_CHILDREN = "earlier_children"  # children from before the start are left out
ADOPTED_UNRELATED = "adopted_unrelated"  # as process 1, adopted processes may be counted
ATTACH_THREADS = "attach_threads"  # threads that started while counters were opened
PROCESSES_SAMPLED = "processes_sampled"  # processes shorter than the interval are missing
FORKS_UNSEEN = "forks_unseen"  # threads whose fork no record shows
BUFFERS_UNREADABLE = "buffers_unreadable"  # perf buffers that held no valid record
NEW_CPUS = "new_cpus"  # CPUs that came online during the run
COMMAND_TIME_SAMPLED = "command_time_sampled"  # this kernel gives no CPU time for each process
THREAD_TIME_MERGED = "thread_time_merged"  # CPU time of threads that is in no record
IO_DENIED = "io_denied"  # processes whose io file this user cannot read
IO_UNREADABLE = "io_unreadable"  # processes whose io file gives an error or no counters
IO_UNAVAILABLE = "io_unavailable"  # this kernel has no io files, or none of them can be read
TRACKING_FAILED = "tracking_failed"  # an error of proctally ended tracking early

# gaps of memory
PSS_STALE = "pss_stale"  # PSS that was not read for want of budget
PSS_DENIED = "pss_denied"  # processes whose smaps_rollup this user cannot read
SPIKE_BETWEEN_SAMPLES = "spike_between_samples"  # high-water marks above every scan
UNCLAIMED_SHMEM = "unclaimed_shmem"  # shared memory that may belong to another job
ANONYMOUS_SHMEM = "anonymous_shmem"  # shared memory that only root could attribute
SURROUNDINGS_HIDDEN = "surroundings_hidden"  # the enclosing cgroup or its processes cannot be read
LATE_LOOK = "late_look"  # a scan took more than 50 ms
NOT_SAMPLED = "not_sampled"  # too short for a scan: the high-water mark is an upper bound

# gaps of time
DELAY_OF_DEAD = "delay_of_dead"  # run delay of processes that exited between two scans
DELAY_SAMPLED = "delay_sampled"  # run delay of a part of the threads
DELAY_UNAVAILABLE = "delay_unavailable"  # this kernel shows no run delay (CONFIG_SCHED_INFO)
DISK_BY_LOOKS = "disk_by_looks"  # disk time as a share of scans

# gaps of the machine
PROCFS_MISSING = "procfs_missing"
PROCFS_FOREIGN = "procfs_foreign"  # /proc of another pid namespace
SOURCE_WRONG = "source_wrong"  # a source of CPU time that was far above two others that agree
CLOCK_DISBELIEVED = "clock_disbelieved"  # a CPU clock that disagreed with times(2)
FILE_SERVED = "file_served"  # a file of /proc that a daemon serves and that did not answer
OOM_ELSEWHERE = "oom_elsewhere"  # OOM kills in a cgroup that other processes share

GAPS = (
    UNREAPED, UNREAPED_UNSEEN, UNREAPED_UNKNOWN, TEARDOWN, THREADS_ENDED, SETUID, HIDDEN, LEFT_RUNNING, LOST_RECORDS,
    LOST_UNKNOWN, LAST_MOMENTS, ORPHANS_UNSEEN, SPLIT_UNKNOWN, CLIENT_ONLY, NO_SUBREAPER, CGROUP_LEFT, EARLIER_CHILDREN,
    ADOPTED_UNRELATED, ATTACH_THREADS, PROCESSES_SAMPLED, FORKS_UNSEEN, BUFFERS_UNREADABLE, NEW_CPUS,
    COMMAND_TIME_SAMPLED, THREAD_TIME_MERGED, IO_DENIED, IO_UNREADABLE, IO_UNAVAILABLE, TRACKING_FAILED, PSS_STALE,
    PSS_DENIED, SPIKE_BETWEEN_SAMPLES, UNCLAIMED_SHMEM, ANONYMOUS_SHMEM, SURROUNDINGS_HIDDEN, LATE_LOOK, NOT_SAMPLED,
    DELAY_OF_DEAD, DELAY_SAMPLED, DELAY_UNAVAILABLE, DISK_BY_LOOKS, PROCFS_MISSING, PROCFS_FOREIGN, SOURCE_WRONG,
    CLOCK_DISBELIEVED, FILE_SERVED, OOM_ELSEWHERE,
)  # fmt: skip

# reasons of a verdict
EXIT_STATUS = "exit_status"  # exit_code
SIGNALLED = "signal"  # signal, core_dumped
TIMED_OUT = "timeout"  # limit_seconds
MEMORY_LIMIT = "memory_limit"  # measure, used_bytes, limit_bytes
OOM_KILLED = "oom_kill"  # oom_kills, oom_place, memory_limit_bytes, last_rss_bytes
NOT_ENDED = "not_ended"  # the job was alive when tracking ended
STOPPED = "stopped"  # signal: proctally was told to stop
DURATION_OVER = "duration"  # limit_seconds
READERS_GONE = "readers_gone"  # every output is a pipe that no process reads
ALL_EXITED = "all_exited"  # the root and all known members exited
BLOCK_ENDED = "block_ended"  # exception: the type that ended it, absent without one
BLOCK_CANCELLED = "block_cancelled"
BLOCK_LEFT = "block_left"  # the block was left without a message
PROGRAM_EXITED = "program_exited"  # the process exited inside the block
PROGRAM_REPLACED = "program_replaced"  # the process executed another program inside the block

REASONS = (
    EXIT_STATUS, SIGNALLED, TIMED_OUT, MEMORY_LIMIT, OOM_KILLED, NOT_ENDED, STOPPED, DURATION_OVER, READERS_GONE,
    ALL_EXITED, BLOCK_ENDED, BLOCK_CANCELLED, BLOCK_LEFT, PROGRAM_EXITED, PROGRAM_REPLACED,
)  # fmt: skip

# where OOM kills were counted, and what a memory limit was compared with
OWN_CGROUP, ENCLOSING_CGROUP, WHOLE_MACHINE = "own_cgroup", "cgroup", "machine"
PSS, CGROUP_MEMORY, PROVED_MEMORY = "pss", "cgroup", "low"

# why a source is missing; any other errno is its name, such as "EIO"
NOT_REQUESTED = "not_requested"
SWITCHED_OFF = "switched_off"
MANY_CPUS = "many_cpus"  # more CPUs than perf follows by itself: --commands on
UNSUPPORTED = "unsupported"  # this architecture or interpreter cannot call it
PARANOID = "perf_paranoid"  # kernel.perf_event_paranoid is above 2
PERF_REFUSED = "perf_refused"  # EACCES or EPERM all the same: seccomp or an LSM
OTHER_USERS = "other_users"  # threads of other users need CAP_PERFMON
NO_SYSCALL = "no_syscall"
NO_DESCRIPTORS = "no_descriptors"
NO_COUNTER = "no_counter"
NO_LOCKED_MEMORY = "no_locked_memory"
NO_COUNTER_LEFT = "no_counter_left"
ALREADY_RUNNING = "already_running"  # a running process is not moved into a cgroup
CGROUP_READ_ONLY = "cgroup_read_only"
CGROUP_NOT_DELEGATED = "cgroup_not_delegated"
CGROUP_MISSING = "cgroup_missing"  # removed, or not visible here
CGROUP_LIMIT = "cgroup_limit"  # cgroup.max.descendants or cgroup.max.depth
CGROUP_FULL = "cgroup_full"  # the kernel has no number left for another cgroup
NO_KERNEL_MEMORY = "no_kernel_memory"
CGROUP_TAKEN = "cgroup_taken"  # another run removed it as a leftover
CGROUP_BUSY = "cgroup_busy"  # its parent gives controllers to its children
NO_OWN_PROCFS = "no_own_procfs"  # /proc does not show this process
SYSFS_FOREIGN = "sysfs_foreign"  # interfaces of another network namespace
CGROUP_UNFIT = "cgroup_unfit"  # threaded, or no v2 hierarchy
CGROUP_ALTERS = "cgroup_alters"  # a new cgroup would change the CPU share or the memory limit of the job
INVALID = "invalid"  # a file that does not parse
JUST_STARTED = "just_started"
NO_DRIVER = "no_driver"
NO_ANSWER = "no_answer"
HELPER_FAILED = "helper_failed"
NO_BINDING = "no_binding"  # nvidia-ml-py cannot be loaded
DRIVER_ERROR = "driver_error"
DEVICE_LOST = "device_lost"

MISSING = (
    NOT_REQUESTED, SWITCHED_OFF, MANY_CPUS, UNSUPPORTED, PARANOID, PERF_REFUSED, OTHER_USERS, NO_SYSCALL,
    NO_DESCRIPTORS, NO_COUNTER, NO_LOCKED_MEMORY, NO_COUNTER_LEFT, ALREADY_RUNNING, CGROUP_READ_ONLY,
    CGROUP_NOT_DELEGATED, CGROUP_MISSING, CGROUP_LIMIT, CGROUP_FULL, NO_KERNEL_MEMORY, CGROUP_TAKEN, CGROUP_BUSY,
    NO_OWN_PROCFS, PROCFS_MISSING, PROCFS_FOREIGN, FILE_SERVED, SYSFS_FOREIGN, CGROUP_UNFIT, CGROUP_LEFT,
    CGROUP_ALTERS, INVALID, JUST_STARTED, NO_DRIVER, NO_ANSWER, HELPER_FAILED, NO_BINDING, DRIVER_ERROR, DEVICE_LOST,
)  # fmt: skip


def nvml_code(number: int) -> str:
    """Return the code of an error number of NVML, such as "nvml_15"."""
    return f"nvml_{number}"


def of_error(error: Exception) -> str:
    """Return its code, or the name of its errno, such as "EIO"; INVALID for an error without one."""
    from errno import errorcode

    code = getattr(error, "code", None)
    if isinstance(code, str):
        return code
    number = error.args[0] if len(error.args) > 1 else None
    return errorcode.get(number, INVALID) if isinstance(number, int) else INVALID
