"""`proctally run --repeat`: run a command, or two in turn, several times, and show their spread or their difference.

Each run is an ordinary one, in a separate process: what a run leaves behind never belongs to the next. That process is
forked from this one, whose memory is in the upper bound of a short job: modules of the end are imported at the end.
"""

from __future__ import annotations

import marshal
import os

from proctally.cli.options import hints
from proctally.cli.streams import complain, show_end
from proctally.errors import UsageError
from proctally.linux.c_library import libc
from proctally.linux.child import (
    SIGHUP,
    SIGINT,
    SIGQUIT,
    SIGTERM,
    SignalFd,
    default_child_signal,
    ignore_child_signal,
    queue_signal,
    signal_names,
    stopping,
)
from proctally.linux.descriptors import no_file
from proctally.text.terminal import colour_wanted, say
from proctally.text.units import duration
from proctally.tracking.config import Options
from proctally.tracking.job import EMPTY, NOT_EXECUTABLE, NOT_FOUND, exit_status
from proctally.tracking.run import CANNOT_RUN, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from proctally.analysis.comparison import Side
    from proctally.record import JsonObject

PIPE_BYTES = 1 << 16
DID_NOT_START = (CANNOT_RUN, NOT_EXECUTABLE, NOT_FOUND)  # exit statuses of a run that has printed why
ENDING = (SIGHUP, SIGINT, SIGQUIT, SIGTERM)  # after one of these no further run starts
OUTPUTS = ("output", "summary_json", "serve", "textfile", "pushgateway", "otlp")  # options that a warm-up ignores


class Candidate:
    """One of the commands, and the summaries of its runs. `letter`: empty where there is one command.

    `name`: of its runs, with the letter; None where the command gives it.
    """

    def __init__(self, letter: str, command: list[str], name: str | None) -> None:
        self.command = command
        self.letter = letter
        self.name = f"{name or os.path.basename(command[0])}-{letter}" if letter else name
        self.summaries: list[JsonObject] = []

    def side(self, title: str) -> Side:
        """Return its runs as a side of a comparison, such as `A: make -j2`."""
        from shlex import join

        from proctally.analysis.comparison import Side
        from proctally.record.catalogue import Past
        from proctally.text.secrets import mask

        command = join(mask(self.command))
        found = [Past("", {"kind": "run", "run_id": each["run_id"]}, each, 0, 0.0) for each in self.summaries]
        return Side(title, command, found, f"{self.letter}: {command}" if self.letter else command)


class Series:
    """All runs of one or two commands, up to the first that fails or is stopped."""

    def __init__(self, options: Options, environment: dict[str, str], candidates: list[Candidate]) -> None:
        self.options = options
        self.environment = environment
        self.candidates = candidates
        self.count = options.repeat or 0
        self._library = libc()
        self._child_signal_ignored = default_child_signal()  # for the runs
        self._signals = SignalFd(self._library, stopping())
        self._stopped_by: int | None = None

    def main(self) -> int:
        """Run all; return 0, or the exit status of the run that ended the series."""
        try:
            for number in range(1 - self.options.warmup, self.count + 1):
                is_reversed = os.urandom(1)[0] & 1
                for candidate in reversed(self.candidates) if is_reversed else self.candidates:
                    status = self._run(candidate, number)
                    if status != 0:
                        return status
                if number > 0:
                    self._show_progress(number)
            return 0
        finally:
            self._signals.close()

    def _run(self, candidate: Candidate, number: int) -> int:
        """Do one run, a warm-up where `number` is below 1; return the exit status that ends the series, or 0."""
        status, summary = self._track(candidate.command, self._options(candidate.name, is_warmup=number < 1))
        which = f"run {number} of {self.count}" if number > 0 else "warm-up"
        where = f"{candidate.name or candidate.command[0] or EMPTY}: {which}"
        if self._stopped_by is not None:
            complain(f"{where}: {signal_names()[self._stopped_by]}; no further run")
            return status or 128 + self._stopped_by
        if summary is None:
            if status not in DID_NOT_START:
                complain(f"{where}: exit status {status}, without a summary")
            return status or CANNOT_RUN
        if status != 0 and not self.options.ignore_failure:
            from proctally.text.words import reason

            complain(f"{where}: {reason(summary)}; use --ignore-failure to continue")
            return status
        if number > 0:
            candidate.summaries.append(summary)
        return 0

    def _options(self, name: str | None, *, is_warmup: bool) -> Options:
        made = Options()
        vars(made).update(vars(self.options), name=name, quiet=True)
        if is_warmup:
            vars(made).update(dict.fromkeys(OUTPUTS), no_record=True)
        return made

    def _track(self, command: list[str], options: Options) -> tuple[int, JsonObject | None]:
        """Do one run in a child; return its exit status and its summary."""
        answer, end = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._become_run(command, options, end)
        os.close(end)
        data = self._await(pid, answer)
        os.close(answer)
        status = exit_status(os.waitpid(pid, 0)[1])
        try:
            answered: tuple[int, JsonObject | None] = marshal.loads(data)
        except (EOFError, ValueError, TypeError):  # it was killed
            return status, None
        return answered

    def _become_run(self, command: list[str], options: Options, end: int) -> NoReturn:
        status = CANNOT_RUN
        try:
            if self._child_signal_ignored:
                ignore_child_signal()
            self._signals.close()
            ended = run(options, command, self.environment)
            status = show_end(ended, options, self.environment)
            with open(end, "wb") as pipe:
                pipe.write(marshal.dumps((status, ended.summary)))
        except KeyboardInterrupt:
            status = 128 + SIGINT
        finally:
            os._exit(status)

    def _await(self, pid: int, answer: int) -> bytes:
        """Return what a run writes at its end; forward signals, but not those of the terminal: it gets these itself."""
        data = b""
        self._signals.forget()
        while True:
            ready = self._signals.wait([answer], None)
            for signal in self._signals.take():
                if signal.number in ENDING:
                    self._stopped_by = signal.number
                if signal.value is not None and self._library is not None:
                    queue_signal(self._library, pid, signal.number, signal.value)
                elif signal.code <= 0:  # of a process, not of the kernel
                    os.kill(pid, signal.number)
            if ready:
                part = os.read(answer, PIPE_BYTES)
                if not part:
                    return data
                data += part

    def _show_progress(self, number: int) -> None:
        if not self.options.quiet and os.isatty(2):
            last = [f"{each.letter} {duration(each.summaries[-1]['wall_seconds'])}" for each in self.candidates]
            say("  ".join([f"{number} of {self.count}", *map(str.strip, last)]) + "\n")


def repeat(options: Options, command: list[str], environment: dict[str, str]) -> int:
    """Run a command several times; return 0, or the status of the run that failed. Raises UsageError."""
    if options.output is not None and "{run_id}" not in options.output:
        raise UsageError(f"--output {options.output}: one file for all runs; add {{run_id}} to its name")
    commands = [("", command)] if options.versus is None else [("A", command), ("B", _split(options.versus))]
    candidates = [Candidate(letter, words, options.name) for letter, words in commands]
    _leave_stdin()
    status = Series(options, environment, candidates).main()
    if status == 0 and not options.quiet:
        say(_result(candidates, options, environment))
        for hint in hints(options, environment):
            complain(hint)
    return status


def _result(candidates: list[Candidate], options: Options, environment: dict[str, str]) -> str:
    from proctally.analysis.comparison import BASE, NEW, Diff
    from proctally.views.diff import as_spread, as_text

    colour = colour_wanted(environment)
    if len(candidates) == 1:
        return as_spread(candidates[0].side(BASE), colour=colour)
    base, new = candidates
    return as_text(Diff(base.side(BASE), new.side(NEW), []), verbose=options.verbose, colour=colour)


def _split(command: str) -> list[str]:
    """Return the words of a command as a shell splits them. Raises UsageError."""
    from shlex import split

    try:
        found = split(command)
    except ValueError as error:
        raise UsageError(f"--versus: {error}") from None
    if not found:
        raise UsageError("--versus: empty; give a command")
    return found


def _leave_stdin() -> None:
    """Give /dev/null to all runs: the first one would leave nothing to the others."""
    fd = os.open(*no_file("/"))
    os.dup2(fd, 0)
    os.close(fd)
