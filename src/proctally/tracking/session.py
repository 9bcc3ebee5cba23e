"""The record of one run: its outputs, its first line, and what is left of it for the command to show."""

from __future__ import annotations

import os
from errno import EPIPE

from proctally.errors import UNREADABLE, CannotStart, UsageError
from proctally.linux.machine import NANOSECONDS, process_cpu_ns
from proctally.linux.proc import read_status
from proctally.record import SCHEMA, __version__, seconds
from proctally.record.location import (
    WholeFile,
    expand,
    open_default,
    open_output,
    other_owner,
    output_problem,
    same_file,
    standard_output,
)
from proctally.record.writer import RecordWriter, json_line
from proctally.text.escape import argument_text, safe_name
from proctally.text.secrets import mask_tags, mask_text
from proctally.text.terminal import say
from proctally.tracking.config import has_exports
from proctally.tracking.summary import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from proctally.linux.cgroup import CgroupLimits
    from proctally.linux.machine import Machine
    from proctally.record import JsonObject
    from proctally.tracking.config import Options
    from proctally.tracking.exporting import Exports, Outlets
    from proctally.tracking.live_lines import Live
    from proctally.tracking.phases import Phases
    from proctally.tree.sampler import TreeSampler

CANNOT_WRITE = 1
USAGE = 2

SCHEDULER = (
    "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID",
    "PBS_JOBID", "PBS_JOBNAME", "PBS_ARRAY_INDEX", "LSB_JOBID", "LSB_JOBINDEX", "JOB_ID", "SGE_TASK_ID",
    "OMPI_COMM_WORLD_RANK", "PMI_RANK",
)  # fmt: skip


class Ended:
    """What a run leaves for the command to show. `summary`: None where nothing was tracked; `path`: of its record."""

    __slots__ = ("name", "path", "status", "summary", "warnings")

    def __init__(
        self,
        status: int,
        name: str = "",
        summary: JsonObject | None = None,
        path: str | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        self.status = status
        self.name = name
        self.summary = summary
        self.path = path
        self.warnings = warnings


class Session:
    """The record of one run: its outputs and its first line.

    `name`: of the run, where no option gives one. `run_id`, `cwd`: None for a new one, and that of this process.
    `spare`: takes the lines where no file does. `base_ns`: CPU time of this process that belongs to other runs.
    """

    def __init__(
        self,
        kind: str,
        options: Options,
        environment: dict[str, str],
        machine: Machine,
        name: str,
        *,
        run_id: str | None = None,
        cwd: str | None = None,
        spare: RecordWriter | None = None,
        base_ns: int = 0,
    ) -> None:
        self.kind = kind
        self.options = options
        self.environment = environment
        self.machine = machine
        self.name = mask_text(argument_text(options.name)) if options.name else name
        self.run_id = run_id or os.urandom(16).hex()
        self.started_at = machine.time()
        self.started_ns = machine.monotonic_ns()
        self.records: list[RecordWriter] = []
        self.warnings: list[str] = []
        self.summary: JsonObject | None = None  # the last line, once it is written
        self.outlets: Outlets | None = None
        self.exports: Exports | None = None
        self.live: Live | None = None
        self.phases: Phases | None = None  # from the first mark on
        self.listener: Callable[[JsonObject], object] | None = None  # is called with each line
        self._summary_file: WholeFile | None = None
        self._cwd = cwd
        self._spare = spare
        self._base_ns = base_ns
        self._kept: list[JsonObject] | None = []  # lines from before the records were opened

    # -- outputs -------------------------------------------------------------------------------------------------

    def open(self, pid: int) -> None:
        """Check the exports and open the outputs. Raises CannotStart with status and message."""
        try:
            self._open_outlets(pid)
            self._open_outputs(pid)
        except UsageError as error:
            raise CannotStart(USAGE, str(error)) from None
        except CannotStart:
            self.discard()
            raise

    def _open_outputs(self, pid: int) -> None:
        options = self.options
        try:
            self.open_explicit(pid)
        except (OSError, ValueError) as error:
            raise CannotStart(CANNOT_WRITE, f"--output {options.output}: {output_problem(error)}") from None
        files = [("--output", self.records[0].path)] if self.records else []
        if options.textfile is not None:
            files.append(("--textfile", expand(options.textfile, self._values(pid), self.environment)))
        if options.summary_json is not None:
            files.append(("--summary-json", options.summary_json))
        for place, (flag, path) in enumerate(files):
            for other, its_path in files[:place]:
                if same_file(path, its_path):
                    raise CannotStart(CANNOT_WRITE, f"{flag} {path}: is the file of {other} too; give it another")
        if options.summary_json is not None:
            try:
                self._summary_file = WholeFile(options.summary_json, force=True, mode=0o666)
            except OSError as error:
                raise CannotStart(
                    CANNOT_WRITE, f"--summary-json {options.summary_json}: {output_problem(error)}"
                ) from None

    def open_explicit(self, pid: int) -> None:
        """Open the file of `-o`. Raises OSError or ValueError with what is wrong."""
        path = self.options.output
        if path is None:
            return
        if path == "-":
            self._add_output(standard_output())
            return
        path = os.path.join(self._cwd or "", expand(path, self._values(pid), self.environment))
        self._add_output(open_output(path, force=self.options.force))

    def _values(self, pid: int) -> dict[str, str]:
        """What may stand in a path."""
        return {
            "run_id": self.run_id,
            "name": safe_name(self.name),
            "host": os.uname().nodename,
            "pid": str(pid),
        }

    def _open_outlets(self, pid: int) -> None:
        """Make sure that what is to be exported can be. Raises UsageError with what is wrong."""
        if has_exports(self.options):
            from proctally.tracking.exporting import Outlets

            self.outlets = Outlets(self.options, self.environment, self._values(pid))

    def start_exports(self, helpers_ns: Callable[[], int], started: Callable[[int], object] | None = None) -> None:
        """Start the process that exports, where that is requested, and call `started` with its pid.

        `helpers_ns()`: CPU time of the other helper processes.
        """
        if self.outlets is not None:
            from proctally.tracking.exporting import Exports
            from proctally.tracking.live_lines import Live

            self.exports = Exports(self.machine, self.environment, self.outlets, started=started)
            self.live = Live(self.machine, lambda: helpers_ns() + self.exports_ns())

    def announce(self) -> None:
        """Print where metrics are served: always for `serve`, but not where stderr is that of a command of the user."""
        outlets = self.outlets
        is_wanted = self.options.listen is not None or (self.kind != "run" and not self.options.quiet)
        if is_wanted and outlets is not None and outlets.address is not None:
            outside = "" if outlets.is_loopback else ", without a password, to whoever reaches this machine"
            say(f"proctally: serving http://{outlets.address}/metrics{outside}\n")

    @property
    def exported(self) -> Live | None:
        """The lines for the exporter, where there is one and it has the header."""
        return self.live if self._kept is None else None

    def export(self, lines: list[JsonObject]) -> None:
        """Send lines to the exporter alone."""
        assert self.exports is not None
        for line in lines:
            self.exports.write(line)

    def timed(self, source: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Do this; how long it took is told to the exporter, where there is one."""
        if self.live is None:
            return call(*arguments, **named)
        return self.live.timed(source, call, *arguments, **named)

    def _add_output(self, record: RecordWriter) -> None:
        if self.options.format == "csv":
            from proctally.record.csv import Lines

            record.format = Lines()
        self.records.append(record)

    def open_default(self) -> None:
        """Open the record in its default place, unless it was switched off or `-o` takes it elsewhere."""
        if not self.options.no_record and not any(record.format is json_line for record in self.records):
            try:
                record = self._open_default()
            except OSError as error:
                instead = "" if self.kind == "track" else "; see --output, --no-record"
                self.warnings.append(f"record: {_reason(error)}{instead}")
            else:
                self.records.append(record)
        if self._spare is not None:
            if any(os.path.isfile(record.path) for record in self.records):
                self._spare.discard()
            else:
                self.records.append(self._spare)
        kept, self._kept = self._kept, None
        for line in kept or []:
            self.write(line)

    def _open_default(self) -> RecordWriter:
        """Open it, as its owner where root runs with the home directory of another user. Raises OSError."""
        place = self.environment, self.started_at, self.name, self.run_id
        owner = other_owner(self.environment)
        if owner is None:
            return open_default(*place)
        from proctally.linux.other_user import as_user

        uid, gid = owner
        return as_user(uid, gid, open_default, *place)

    def write(self, line: JsonObject) -> None:
        """One line to every output."""
        if self._kept is not None:
            self._kept.append(line)
            return
        for record in self.records:
            record.write(line)
        if self.exports is not None:
            self.exports.write(line)
        if self.listener is not None:
            self.listener(line)

    def mark(self, sampler: TreeSampler, line: JsonObject) -> None:
        """Write a `phase` line, after a scan for it."""
        self.write(line)
        if self.phases is None:
            from proctally.tracking.phases import Phases

            self.phases = Phases(sampler)
        self.phases.take(line)

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

    def header(self, command: list[str] | None, pid: int, found: CgroupLimits) -> JsonObject:
        """Return the first line. `found`: what the cgroups around the process allow."""
        options = self.options
        environment = self.environment
        try:
            cwd: str | None = argument_text(self._cwd or os.getcwd())
        except OSError:
            cwd = None
        scheduler = {name: argument_text(environment[name]) for name in SCHEDULER if environment.get(name)}
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
            "limits": limits(found),
            "scheduler": scheduler or None,
            "allocation": self._allocation() if scheduler or environment.get("KUBERNETES_SERVICE_HOST") else None,
            "tags": mask_tags(options.tag),
        }

    def _allocation(self) -> JsonObject | None:
        """Return what a scheduler gave to the job; None without one."""
        from proctally.tracking.allocation import allocation

        return allocation(self.environment)

    # -- the end -------------------------------------------------------------------------------------------------

    def cost(self, *, helpers_ns: int, samples: int, late: int) -> JsonObject:
        """Return the `tracker` section. `helpers_ns`: CPU time of helper processes, the exporter left out."""
        try:
            peak = read_status(self.machine, os.getpid()).peak_rss_bytes  # ru_maxrss can be that of the parent
        except UNREADABLE:
            peak = None
        return {
            "cpu_seconds": seconds(process_cpu_ns(self.machine) - self._base_ns + helpers_ns + self.exports_ns()),
            "peak_rss_bytes": peak,
            "samples": samples,
            "late_samples": late,
            "lost_samples": max((record.unwritten() for record in self.records), default=0),
        }

    def exports_ns(self) -> int:
        """Return the CPU time of the exporter."""
        return 0 if self.exports is None else self.exports.cpu_ns()

    def end(self, summary: JsonObject) -> None:
        """Write the last line."""
        self.write(summary)
        self._write_summary_json(summary)
        self.summary = summary

    def close(self) -> None:
        """Close the outputs; what went wrong with one of them becomes a warning."""
        if self.exports is not None:
            wall = None if self.summary is None else self.summary["wall_seconds"]
            self.exports.finish(None if wall is None else self.started_ns + round(wall * NANOSECONDS))
            if told := self.exports.warnings():
                from proctally.text.escape import printable

                self.warnings += map(printable, told)  # a receiver's own words are among them
        for record in self.records:
            record.close()
            what = "table" if _is_table(record) else "record"
            if record.error is not None:
                lost = f", {record.lost_samples} samples are lost" if record.lost_samples else ""
                instead = "" if self.kind == "track" else "; use --output for another place"
                self.warnings.append(f"{what} {record.path}: {_reason(record.error)}{lost}{instead}")
            elif record.is_gone:
                self.warnings.append(f"{what} {record.path}: was deleted, renamed or replaced during the run")

    def ended(self, status: int) -> Ended:
        """Return what is left to show; the outputs are closed."""
        whole = [record for record in self.records if record.error is None and not record.is_gone]
        path = next((_shown_path(each.path, self.environment) for each in sorted(whole, key=_is_table)), None)
        return Ended(status, self.name, self.summary, path, self.warnings)

    def _write_summary_json(self, summary: JsonObject) -> None:
        if self._summary_file is None:
            return
        try:
            record = self._summary_file.open()
            record.write_bytes(json_line(summary))
            record.close()
            error = record.error
        except OSError as failure:
            error = failure
        if error is not None:
            self.warnings.append(f"--summary-json {self.options.summary_json}: {error.strerror}")


def _shown_path(path: str, environment: dict[str, str]) -> str:
    home = environment.get("HOME", "").rstrip("/")
    return "~" + path[len(home) :] if home and path.startswith(home + "/") else path


def _is_table(record: RecordWriter) -> bool:
    return record.format is not json_line


def _reason(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)


def _user() -> str:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        return str(os.getuid())
