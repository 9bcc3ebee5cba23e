"""What `run`, `attach` and `track` share: the schedule of samples, first and last lines of a record, its outputs."""

from __future__ import annotations

import os
from errno import EPIPE

from proctally import __version__
from proctally.kernel.cgroup import Limits
from proctally.kernel.child import say
from proctally.kernel.machine import seconds
from proctally.kernel.proc import text
from proctally.ledger import CPU, DELAY, IO, IO_FIELDS, SYSTEM, USER
from proctally.model import SCHEMA
from proctally.options import has_exports
from proctally.record import (
    Record,
    encode,
    expand,
    json_line,
    open_default,
    open_output,
    plain,
    safe_name,
    standard_output,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from proctally.enclosure import Enclosure
    from proctally.exports import Exports, Outlets
    from proctally.kernel.machine import Machine
    from proctally.live import Live
    from proctally.options import Options
    from proctally.sampler import Sampler
    from proctally.surroundings import Surroundings
    from proctally.verdict import Outcome
    from proctally.watch import Watch

EARLY_LOOKS_NS = tuple(ms * 1_000_000 for ms in (5, 20, 50, 100, 200, 500))
SCHEDULER = (
    "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID",
    "PBS_JOBID", "PBS_JOBNAME", "PBS_ARRAY_INDEX", "LSB_JOBID", "LSB_JOBINDEX", "JOB_ID", "SGE_TASK_ID",
    "OMPI_COMM_WORLD_RANK", "PMI_RANK",
)  # fmt: skip
COMMANDS_KEPT = 50
OTHERS = "(others)"


class Schedule:
    """When to sample: a deadline that advances by whole intervals on the monotonic clock, and the early looks."""

    __slots__ = ("_early", "interval_ns", "late", "next_ns", "start_ns")

    def __init__(self, start_ns: int, interval_ns: int, early: tuple[int, ...] = EARLY_LOOKS_NS) -> None:
        self.start_ns = start_ns
        self.interval_ns = interval_ns
        self.next_ns = start_ns + interval_ns
        self.late = 0
        self._early = [start_ns + each for each in early if each < interval_ns]

    def timeout(self, now: int) -> int:
        """Nanoseconds until something is to be read."""
        due = self._early[0] if self._early else self.next_ns
        return max(0, min(due, self.next_ns) - now)

    def sample_due(self, now: int) -> bool:
        """Whether a sample is to be taken; the deadline then advances, past those that were missed."""
        if now < self.next_ns:
            return False
        missed = (now - self.next_ns) // self.interval_ns
        self.late += missed
        self.next_ns += (missed + 1) * self.interval_ns
        self._early = [early for early in self._early if early > now]
        return True

    def look_due(self, now: int) -> bool:
        """Whether an early look is to be taken."""
        due = bool(self._early) and now >= self._early[0]
        self._early = [early for early in self._early if early > now]
        return due

    def gap_ended(self, now: int) -> None:
        """The job was stopped until now: the next interval begins here."""
        self.next_ns = now + self.interval_ns


class Session:
    """The record of one run and what is said at its end."""

    def __init__(self, kind: str, options: Options, environment: dict[str, str], machine: Machine, name: str) -> None:
        self.kind = kind
        self.options = options
        self.environment = environment
        self.machine = machine
        self.name = plain(options.name or name or kind)
        self.run_id = os.urandom(16).hex()
        self.started_at = machine.time()
        self.started_ns = machine.monotonic_ns()
        self.ended_ns: int | None = None  # None: not before its summary is made
        self.cwd: str | None = None  # None: that of this process
        self.tracker_base_ns = 0  # CPU time of this process that belongs to other runs
        self.records: list[Record] = []
        self.spare: Record | None = None  # takes the lines where no file does
        self.warnings: list[str] = []
        self.limits: Limits | None = None
        self.surroundings: Surroundings | None = None
        self.why_no_machine: str | None = None
        self.summary: dict[str, Any] | None = None  # its last line, once it was made
        self.outlets: Outlets | None = None
        self.exports: Exports | None = None
        self.live: Live | None = None
        self._kept: list[dict[str, Any]] | None = []  # lines from before the records were opened

    # -- outputs -------------------------------------------------------------------------------------------------

    def open_explicit(self, pid: int) -> None:
        """Open the file of `-o`. Raises OSError or ValueError with what is wrong."""
        path = self.options.output
        if path is None:
            return
        if path == "-":
            self._add_output(standard_output())
            return
        path = os.path.join(self.cwd or "", expand(path, self._values(pid), self.environment))
        self._add_output(open_output(path, force=self.options.force))

    def _values(self, pid: int) -> dict[str, str]:
        """What may stand in a path."""
        return {
            "run_id": self.run_id,
            "name": safe_name(self.name),
            "host": os.uname().nodename,
            "pid": str(pid),
        }

    def open_outlets(self, pid: int) -> None:
        """Make sure that what is to be exported can be. Raises UsageError with what is wrong."""
        if has_exports(self.options):
            from proctally.exports import Outlets

            self.outlets = Outlets(self.options, self.environment, self._values(pid))

    def start_exports(self, stranger: Callable[[int], object] | None = None) -> None:
        """Start the process that exports, where that is asked for; `stranger` is told its pid."""
        if self.outlets is not None:
            from proctally.exports import Exports
            from proctally.live import Live

            self.exports = Exports(self.machine, self.environment, self.outlets, started=stranger)
            self.live = Live(self.machine, self.helpers_ns)

    def announce(self) -> None:
        """Say where scrapes are answered: stderr is ours where no command of the user's runs."""
        if self.outlets is not None and self.outlets.address is not None and not self.options.quiet:
            outside = "" if self.outlets.is_loopback else ", without a password, to whoever reaches this machine"
            say(f"proctally: serving http://{self.outlets.address}/metrics{outside}\n")

    def tell(self, lines: list[dict[str, Any]]) -> None:
        """Lines for the exporter alone; before the header went to it there is nothing to tell."""
        if self.exports is not None and self._kept is None:
            for line in lines:
                self.exports.write(line)

    def timed(self, source: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Do this; how long it took is told to the exporter, where there is one."""
        if self.live is None:
            return call(*arguments, **named)
        return self.live.timed(source, call, *arguments, **named)

    def _add_output(self, record: Record) -> None:
        if self.options.format == "csv":
            from proctally.outputs.csv import Lines

            record.format = Lines()
        self.records.append(record)

    def open_default(self) -> None:
        """Open the record in its default place, unless it was switched off or `-o` takes it elsewhere."""
        if not self.options.no_record and not any(record.format is json_line for record in self.records):
            try:
                record = open_default(self.environment, self.started_at, self.name, self.run_id)
            except OSError as error:
                instead = "" if self.kind == "track" else "; see --output, --no-record"
                self.warnings.append(f"no record was written: {_reason(error)}{instead}")
            else:
                self.records.append(record)
        if self.spare is not None:
            if any(os.path.isfile(record.path) for record in self.records):
                self.spare.discard()
            else:
                self.records.append(self.spare)
        kept, self._kept = self._kept, None
        for line in kept or []:
            self.write(line)

    def write(self, line: dict[str, Any]) -> None:
        """One line to every output."""
        if self._kept is not None:
            self._kept.append(line)
            return
        for record in self.records:
            record.write(line)
        if self.exports is not None:
            self.exports.write(line)

    def unheard(self) -> bool:
        """Whether every output is a pipe whose reader has gone: what is tracked on its own may end then."""
        return self.cannot_serve() or (
            bool(self.records)
            and all(record.error is not None and record.error.errno == EPIPE for record in self.records)
        )

    def cannot_serve(self) -> bool:
        """Whether it is for the exporter alone, as `serve` is, and that has gone."""
        told_otherwise = self.records or self.options.summary_json is not None
        return not told_otherwise and self.exports is not None and self.exports.gone

    def start(self) -> None:
        """The job begins now."""
        self.started_at = self.machine.time()
        self.started_ns = self.machine.monotonic_ns()

    def discard(self) -> None:
        """There is nothing to record: a file that was made for it is taken away again."""
        for record in self.records:
            record.discard()
        self.records = []

    def header(self, command: list[str] | None, pid: int) -> dict[str, Any]:
        """The first line."""
        options = self.options
        environment = self.environment
        try:
            cwd: str | None = plain(self.cwd or os.getcwd())
        except OSError:
            cwd = None
        scheduler = {name: plain(environment[name]) for name in SCHEDULER if environment.get(name)}
        return {
            "type": "run",
            "schema": SCHEMA,
            "version": __version__,
            "run_id": self.run_id,
            "parent_run_id": environment.get("PROCTALLY_RUN_ID"),
            "kind": self.kind,
            "name": self.name,
            "command": command,
            "cwd": cwd,
            "user": _user(),
            "pid": pid,
            "started_at": round(self.started_at, 3),
            "interval_seconds": options.interval,
            "limits": self._limits(),
            "scheduler": scheduler or None,
            "tags": {plain(key): plain(value) for key, value in options.tag.items()},
        }

    def _limits(self) -> dict[str, Any]:
        found = self.limits or Limits()
        said = [words for words in (found.cpu_from, found.memory_from) if words]
        return {
            "cpu_cores": found.cpu_cores,
            "memory_bytes": found.memory_bytes,
            "memory_high_bytes": found.memory_high_bytes,
            "from": "; ".join(said) or None,
        }

    # -- the end -------------------------------------------------------------------------------------------------

    def end(
        self, sampler: Sampler, schedule: Schedule, outcome: Outcome, coverage: dict[str, str], *, whole: bool = True
    ) -> None:
        """Write the last lines. `whole`: whether tracking went on to the end."""
        left = sampler.finish() if whole else None
        summary = self._summary(sampler, schedule, outcome, coverage, left)
        self.write(summary)
        self._write_summary_json(summary)
        self.summary = summary

    def end_system(self, samples: int, schedule: Schedule, outcome: Outcome, enclosure: Enclosure) -> None:
        """The same for a record of the machine alone."""
        assert self.surroundings is not None
        summary = {
            "type": "summary",
            "ended_at": round(self.machine.time(), 3),
            "wall_seconds": seconds(self.machine.monotonic_ns() - self.started_ns),
            "exit_code": None,
            "signal": None,
            "verdict": outcome.verdict,
            "evidence": outcome.evidence,
            "limits": self._limits(),
            "cgroup": enclosure.summary(),
            "system": self.surroundings.system(),
            "gpu": self.surroundings.peaks.gpu(),
            "tracker": self._tracker(samples, schedule),
        }
        self.write(summary)
        self._write_summary_json(summary)
        self.summary = summary

    def close(self) -> None:
        """Close the outputs, and print the summary and the warnings."""
        self._close()
        self._say(self.summary)

    def _summary(
        self, sampler: Sampler, schedule: Schedule, outcome: Outcome, coverage: dict[str, str], left: int | None
    ) -> dict[str, Any]:
        wall_ns = (self.ended_ns or self.machine.monotonic_ns()) - self.started_ns
        watch, enclosure = sampler.watch, sampler.enclosure
        throttled = None if enclosure is None else enclosure.throttled()
        throttled_ns = None if throttled is None else throttled.throttled_ns
        cgroup = None if enclosure is None else enclosure.summary()
        return {
            "type": "summary",
            "ended_at": round(self.machine.time(), 3),
            "wall_seconds": seconds(wall_ns),
            "exit_code": outcome.exit_code,
            "signal": outcome.signal,
            "verdict": outcome.verdict,
            "evidence": outcome.evidence,
            "cpu": self._cpu(sampler, wall_ns) | {"coverage": coverage["cpu"]},
            "memory": {
                "peak_pss_bytes": sampler.peak_pss,
                "peak_rss_bytes": sampler.peak_rss,
                "peak_process_rss_bytes": sampler.peak_process_rss,
                "cgroup_peak_bytes": None if cgroup is None else cgroup["memory_peak_bytes"],
                "pss_denied": len(sampler.pss_denied),
                "coverage": coverage["memory"],
            },
            "io": _io(sampler) | {"coverage": coverage["io"]},
            "processes": {
                "started": sampler.started if watch is None or watch.roll is None else watch.roll.started,
                "source": "procfs" if watch is None or watch.roll is None else "perf",
                "peak": sampler.peak_processes,
                "left": left,
                "coverage": coverage["processes"],
            },
            "commands": self._commands(sampler),
            "waiting": {
                "run_delay_seconds": seconds(sampler.best[DELAY]),
                "throttled_seconds": None if throttled_ns is None else seconds(throttled_ns),
                "throttled_periods": None if throttled is None else throttled.throttled_periods,
                "periods": None if throttled is None else throttled.periods,
            },
            "counters": None if watch is None else watch.counters(),
            "limits": self._limits(),
            "cgroup": cgroup,
            "system": None if self.surroundings is None else self.surroundings.system(),
            "gpu": None if self.surroundings is None else self.surroundings.peaks.gpu(),
            "tracker": self._tracker(sampler.samples, schedule),
        }

    def _cpu(self, sampler: Sampler, wall_ns: int) -> dict[str, Any]:
        total, ledger = sampler.best, sampler.ledger
        mean = total[CPU] / wall_ns if wall_ns else 0.0
        return {
            "total_seconds": seconds(total[CPU]),
            "user_seconds": seconds(total[USER]),
            "system_seconds": seconds(total[SYSTEM]),
            "mean_cores": round(mean, 4),
            "peak_cores": round(max(sampler.peak_cores or 0.0, mean), 4),
            "source": ledger.source(),
            "sources": {source: seconds(max(0, used)) for source, used in ledger.sources().items()},
            "unavailable": _unavailable(sampler.watch, sampler.enclosure, self.why_no_machine),
        }

    def _commands(self, sampler: Sampler) -> list[dict[str, Any]]:
        """The most expensive commands: by perf, of every process; else of those that were seen."""
        seen = sampler.largest_commands()
        watch = sampler.watch
        if watch is None or watch.roll is None:
            return _folded(seen)
        clocks = {member.pid: member.cpu for member in sampler.tree.members.values()}
        tallies = watch.roll.commands(watch.total_ns or 0, self.machine.monotonic_ns(), clocks)
        teardowns = watch.roll.teardowns(sampler.best[CPU] - (watch.total_ns or 0))
        peaks = {command["command"]: command["peak_rss_bytes"] for command in seen}
        sampled = None if watch.roll.tells_time() else {entry["command"]: entry["cpu_seconds"] for entry in seen}
        found = sorted(tallies.items(), key=lambda item: item[1].cpu_ns, reverse=True)
        if sampled is not None:
            found.sort(key=lambda item: sampled.get(text(item[0]), 0.0), reverse=True)
        commands = [
            {
                "command": text(name),
                "processes": tally.processes,
                "cpu_seconds": seconds(tally.cpu_ns) if sampled is None else sampled.get(text(name)),
                "teardown_seconds": seconds(teardowns[name]) if sampled is None else None,
                "wall_seconds": seconds(tally.wall_ns),
                "peak_rss_bytes": peaks.get(text(name)),
            }
            for name, tally in found
        ]
        return _folded(commands)

    def helpers_ns(self) -> int:
        """CPU time of the processes that read GPUs and clouds, and that export."""
        return sum(each.cpu_ns() for each in (self.surroundings, self.exports) if each is not None)

    def _tracker(self, samples: int, schedule: Schedule) -> dict[str, Any]:
        import time

        from proctally.kernel.machine import UNREADABLE
        from proctally.kernel.proc import read_status

        try:
            peak = read_status(self.machine, os.getpid()).peak_rss_bytes  # ru_maxrss would be that of who started us
        except UNREADABLE:
            peak = None

        return {
            "cpu_seconds": seconds(time.process_time_ns() - self.tracker_base_ns + self.helpers_ns()),
            "peak_rss_bytes": peak,
            "samples": samples,
            "late_samples": schedule.late,
            "lost_samples": max((record.unwritten() for record in self.records), default=0),
        }

    def _close(self) -> None:
        if self.exports is not None:
            self.exports.finish()
            if told := self.exports.warnings():
                from proctally.summary import printable

                self.warnings += map(printable, told)  # a receiver's own words are among them
        around = self.surroundings
        if around is not None and around.fault is not None:
            why = f"{type(around.fault).__name__}: {around.fault}".rstrip(": ")
            self.warnings.append(f"reading the machine ended before the run did, by a fault of its own ({why})")
        for record in self.records:
            record.close()
            if record.error is not None:
                lost = f"; {record.lost_samples} samples are lost" if record.lost_samples else ""
                what = "table" if _is_table(record) else "record"
                self.warnings.append(f"the {what} {record.path} is not whole: {_reason(record.error)}{lost}")

    def _write_summary_json(self, summary: dict[str, Any]) -> None:
        path = self.options.summary_json
        if path is None:
            return
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            with open(fd, "wb") as file:
                file.write(encode(summary).encode() + b"\n")
        except OSError as error:
            self.warnings.append(f"the summary could not be written to {path}: {_reason(error)}")

    def _say(self, summary: dict[str, Any] | None) -> None:
        """The summary and the warnings, on stderr. A warning is said also when the summary is not wanted."""
        text = ""
        if summary is not None and not self.options.quiet:
            from proctally.summary import colour_wanted, render

            whole = [record for record in self.records if record.error is None]
            path = next((record.path for record in sorted(whole, key=_is_table)), None)
            home = self.environment.get("HOME", "").rstrip("/")
            if path is not None and home and path.startswith(home + "/"):
                path = "~" + path[len(home) :]
            colour = colour_wanted(self.environment)
            text = render(self.name, summary, path, colour=colour, verbose=self.options.verbose)
        text += "".join(f"proctally: {warning}\n" for warning in self.warnings)
        if text:
            say(text)


def _io(sampler: Sampler) -> dict[str, Any]:
    total = sampler.best[IO:] if sampler.ledger.io_known else [None] * IO_FIELDS
    return {"read_bytes": total[4], "write_bytes": total[5], "read_chars": total[0], "write_chars": total[1]} | {
        "denied": sampler.io_missing()
    }


def _unavailable(watch: Watch | None, enclosure: Enclosure | None, why_no_machine: str | None) -> dict[str, str]:
    """The sources that could not be had, and why."""
    reasons = {
        "perf": watch and watch.why,
        "cgroup": enclosure and (enclosure.why or enclosure.left),
        "limits": enclosure and enclosure.trouble,
        "system": why_no_machine,
    }
    return {source: why for source, why in reasons.items() if why}


def _folded(commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The largest, and one for all others, so that nothing is missing of their sums."""
    kept, rest = commands[:COMMANDS_KEPT], commands[COMMANDS_KEPT:]
    if rest:
        sums = ("processes", "cpu_seconds", "teardown_seconds", "wall_seconds")
        others: dict[str, Any] = {name: round(sum(command[name] or 0 for command in rest), 4) for name in sums}
        peaks = [command["peak_rss_bytes"] for command in rest if command["peak_rss_bytes"] is not None]
        kept.append({"command": OTHERS} | others | {"peak_rss_bytes": max(peaks, default=None)})
    return kept


def _is_table(record: Record) -> bool:
    return record.format is not json_line


def _reason(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)


def _user() -> str:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        return str(os.getuid())
