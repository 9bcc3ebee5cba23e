"""The sampler of `proctally.track()`: a process beside its target, that watches it from outside and ends with it.

It is not a child of the target (library/sampler_client.py), so what it uses is not added to what the target used. It
serves every block of its target that is open at one time, each with a sampler and a record of its own; each block has a
channel, on which it is told of phases and of its end. Whatever happens to the target - killed, replaced by exec, forked
- is seen here: at the pidfd, and by the channels that close.
"""

from __future__ import annotations

import os
import select
import sys

from proctally.errors import UNREADABLE, ProcessGone
from proctally.linux.c_library import libc
from proctally.linux.channel import Channel, Closed, Late
from proctally.linux.child import (
    SIGHUP,
    SIGINT,
    SIGQUIT,
    SIGTERM,
    SignalFd,
    default_signals,
    name_process,
    pidfd_open,
    stopping,
)
from proctally.linux.descriptors import raise_limit
from proctally.linux.machine import host_machine, process_cpu_ns
from proctally.linux.open_files import close_above
from proctally.linux.proc import read_start, read_stat
from proctally.record import seconds
from proctally.record.codes import BLOCK_LEFT, HIDDEN, PROGRAM_EXITED, PROGRAM_REPLACED, STOPPED, of_error
from proctally.record.location import output_problem
from proctally.record.writer import RecordWriter
from proctally.text.secrets import mask
from proctally.tracking.attach import WATCHED_MEMBERS, AttachTracker, command_name
from proctally.tracking.config import Options
from proctally.tracking.loop import Loop, Source
from proctally.tracking.session import Session
from proctally.tracking.verdict import Outcome, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from proctally.record import JsonObject

CONTROL_FD = 3
SHARE = 4  # of the descriptors for one block: several may be open
ANSWER_SECONDS = 2.0  # for a target that does not read: it is stopped, or has given up
LOOK_NS = 200_000_000  # interval of looks at the target where the kernel has no pidfds
END_MS = 50.0  # maximum wait for the exit of a target after it closed its descriptors
SLOWER_NS = 450_000_000  # the machine, and the files of each thread: of ten samples a second they would be most
PHASES_AT_ONCE = 1000


class Block(Source):
    """One block that is tracked: its tracker, and the channel to the code that runs it.

    `listener`: takes its samples, None without one.
    """

    def __init__(self, channel: Channel, tracker: AttachTracker, listener: Channel | None = None) -> None:
        self.channel = channel
        self.tracker = tracker
        self._listener = listener
        self._unheard = 0  # samples that the listener did not take
        if listener is not None:
            tracker.session.listener = self._pass_on
        self.outcome: Outcome | None = None  # known once it is over
        self.is_left = False  # whether its channel was closed without a message

    def begin(self) -> None:
        """Take the baseline, answer, and only then do what else a record starts with."""
        tracker, session = self.tracker, self.tracker.session
        tracker.take_in()
        refused = tracker.count()
        session.start()
        tracker.sampler.begin(session.started_ns)
        self._say({"type": "begun", "pid": os.getpid(), "parent": os.getppid()})
        if refused is not None:
            from proctally.text.words import missing

            session.warnings.append(f"source perf: {missing(refused, 'perf')}")
        try:
            session.open_explicit(tracker.pid)
        except (OSError, ValueError) as error:
            problem = output_problem(error, force="force=True")
            session.warnings.append(f"output {tracker.options.output}: {problem}")
        tracker.begin(_command(tracker), tracker.pid)
        path = next((record.path for record in session.records if os.path.isfile(record.path)), None)
        self._say({"type": "record", "path": path})

    def fds(self, now: int) -> list[int]:
        return [self.channel.fileno(), *self.tracker.fds(now)]

    def timeout(self, now: int) -> int:
        """Return the nanoseconds until its tracker is due; none when it is over."""
        return 0 if self.is_over else self.tracker.timeout(now)

    def act(self, now: int, ready: Collection[int]) -> None:
        """Read messages, and do what is due."""
        if self.channel.fileno() in ready:
            self.receive()
        if not self.is_over and (self.tracker.timeout(now) <= 0 or any(fd in ready for fd in self.tracker.fds(now))):
            self.tracker.act(now, ready)

    @property
    def is_over(self) -> bool:
        """Return True if it waits for its end."""
        return self.is_left or self.outcome is not None

    def receive(self) -> None:
        """Take the messages that are there."""
        phases: list[JsonObject] = []
        try:
            while len(phases) < PHASES_AT_ONCE and self.outcome is None:
                message, _ = self.channel.receive(0)
                if message["type"] == "phase":
                    phases.append(message)
                else:
                    self.outcome = Outcome(message["verdict"], reason(message["code"], exception=message["exception"]))
        except Late:
            pass
        except (Closed, OSError, ValueError, KeyError):
            self.is_left = True
        if phases:
            self._write_phases(phases)

    def _write_phases(self, phases: list[JsonObject]) -> None:
        """Write what the tree had used by then, as read a moment later."""
        sampler = self.tracker.sampler
        sampler.scan()
        used = sampler.cpu_seconds()
        for phase in phases:
            self.tracker.session.mark(
                sampler,
                {
                    "type": "phase",
                    "name": phase["name"],
                    "event": phase["event"],
                    "at": phase["at"],
                    "elapsed_seconds": seconds(phase["moment"] - self.tracker.session.started_ns),
                    "cpu_seconds": used,
                },
            )

    def end(self, outcome: Outcome) -> None:
        """Write the end, and answer with the summary."""
        tracker = self.tracker
        tracker.end(outcome)
        tracker.close()
        session = tracker.session
        if self._unheard:
            session.warnings.append(f"on_sample: too slow for {self._unheard} samples")
        self._stop_passing_on()
        self._say({"type": "summary", "summary": session.summary, "warnings": session.warnings})
        self.channel.close()

    def fail(self, error: Exception) -> None:
        """Report an error of proctally, and release everything."""
        for step in self.tracker.closing():
            try:
                step()
            except Exception:
                pass
        self._stop_passing_on()
        _refuse(self.channel, error)

    def _pass_on(self, line: JsonObject) -> None:
        """Send a sample to the listener; one that it does not take at once is counted."""
        if line["type"] == "sample" and self._listener is not None:
            try:
                self._listener.send(line, 0.0)
            except Late:
                self._unheard += 1
            except OSError:
                self._stop_passing_on()

    def _stop_passing_on(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _say(self, message: dict[str, Any]) -> None:
        _say(self.channel, message)


class Sidecar(Source):
    """All blocks of one target: the first source of the loop, which watches the target and its control channel."""

    def __init__(self, control: Channel, pid: int, start: int, signals: SignalFd) -> None:
        self.control: Channel | None = control
        self.pid = pid
        self.start = start
        self.machine = host_machine()
        self.pidfd = pidfd_open(pid)
        self.descriptors = max(0, raise_limit() - WATCHED_MEMBERS)
        self.blocks: list[Block] = []
        self.served = 0
        self.signals = signals
        self.loop = Loop(self.machine.monotonic_ns, signals, [self], urgent=[self], fault=self._fault)

    def main(self) -> None:
        """Track blocks until the target has exited, wants no more, or a signal ends it."""
        outcome = self.loop.run()
        self._end_all(outcome)

    def fds(self, now: int) -> list[int]:
        found = [] if self.pidfd is None else [self.pidfd]
        return found if self.control is None else [*found, self.control.fileno()]

    def timeout(self, now: int) -> int | None:
        """Return the nanoseconds until the next look at a target without pidfd; none when nothing is left to track."""
        if self.control is None and not self.blocks:
            return 0
        return LOOK_NS if self.pidfd is None else None

    def act(self, now: int, ready: Collection[int]) -> Outcome | None:
        """Take in a new block, and end those that are over. The outcome is that of all: the target exited, a signal."""
        for signal in self.signals.take():
            return Outcome("ended", reason(STOPPED, signal=signal.number))
        if not self._is_there() if self.pidfd is None else self.pidfd in ready:
            return Outcome("ended", reason(PROGRAM_EXITED))
        if self.control is not None and self.control.fileno() in ready:
            self._take_control()
        for block in self.blocks:
            if block.is_left:
                self._find_out_why(block)
            if block.outcome is not None and block in self.blocks:
                self._continue([each for each in self.blocks if each is not block])
                self._guarded(block, block.end, block.outcome)
        if self.control is None and not self.blocks:
            return Outcome("ended", reason(PROGRAM_REPLACED))  # of no block
        return None

    def refuse(self) -> None:
        """Answer the first block: this user cannot see the program that wants it, although it runs."""
        assert self.control is not None
        try:
            _, fds = self.control.receive(ANSWER_SECONDS)
            _refuse(Channel.of_descriptor(fds[0]), OSError(0, "this user cannot read /proc of the program"), HIDDEN)
        except (OSError, ValueError, IndexError):
            pass

    def _is_there(self) -> bool:
        """Return True if the target lives; a zombie does not, unless other threads of it run."""
        if self.pidfd is not None:
            return not _poll(self.pidfd, 0)
        try:
            stat = read_stat(self.machine, self.pid)
        except ProcessGone:
            return False
        except UNREADABLE:
            return True
        return self.start in (0, stat.start) and (stat.state not in b"ZXx" or stat.threads > 1)

    def _take_control(self) -> None:
        assert self.control is not None
        try:
            message, fds = self.control.receive(0)
        except Late:
            return
        except (Closed, OSError, ValueError):
            self.control.close()
            self.control = None
            # the last block is ended before: the target has become another program, or is about to exit
            self._end_all(Outcome("ended", reason(PROGRAM_REPLACED if self._goes_on() else PROGRAM_EXITED)))
            return
        if not fds:  # there was no descriptor left for it here, which the other end notices
            return
        channel = Channel.of_descriptor(fds[0])
        try:
            block = self._make(channel, message, fds[1:])
        except Exception as error:
            _refuse(channel, error)
            return
        if self._guarded(block, block.begin):
            self._continue([*self.blocks, block])

    def _make(self, channel: Channel, message: dict[str, Any], fds: list[int]) -> Block:
        listener = Channel.of_descriptor(fds.pop()) if message["is_heard"] else None
        memory_fd = fds[0] if fds else -1
        options = Options()
        for name, value in message["options"].items():
            setattr(options, name, value)
        base_ns = 0
        if self.served:
            base_ns = process_cpu_ns(self.machine)
        self.served += 1
        machine = host_machine()
        session = Session(
            "track",
            options,
            message["environment"],
            machine,
            command_name(machine, self.pid),
            run_id=message["run_id"],
            cwd=message["cwd"],
            spare=RecordWriter(memory_fd, "memory") if memory_fd >= 0 else None,
            base_ns=base_ns,
        )
        kept = self.descriptors // SHARE
        tracker = AttachTracker(session, self.pid, descriptors=kept, slower_ns=SLOWER_NS)
        for pid in message["foreign"]:
            tracker.exclude(pid)
        return Block(channel, tracker, listener)

    def _find_out_why(self, block: Block) -> None:
        """A channel was closed: by the end of the target, by an exec, which closes the other channels too, or alone."""
        if not self._goes_on():
            self._end_all(Outcome("ended", reason(PROGRAM_EXITED)))
        elif self.control is not None and _poll(self.control.fileno(), 0):
            self._take_control()
        if block in self.blocks:
            block.outcome = Outcome("ended", reason(BLOCK_LEFT))

    def _goes_on(self) -> bool:
        """Return True if the target lives a moment later: its descriptors are closed before its exit can be seen."""
        if self.pidfd is not None:
            return not _poll(self.pidfd, END_MS)
        deadline = self.machine.monotonic_ns() + int(END_MS * 1e6)
        while self._is_there():
            if self.machine.monotonic_ns() >= deadline:
                return True
            select.poll().poll(1.0)
        return False

    def _end_all(self, outcome: Outcome) -> None:
        blocks = self.blocks
        self._continue([])
        for block in blocks:
            self._guarded(block, block.receive)
            self._guarded(block, block.end, block.outcome or Outcome(outcome.verdict, dict(outcome.reason)))

    def _continue(self, blocks: list[Block]) -> None:
        self.blocks = blocks
        self.loop.replace([self, *blocks])

    def _guarded(self, block: Block, call: Callable[..., object], *arguments: object) -> bool:
        """Do this for a block; an error costs that block alone."""
        try:
            call(*arguments)
        except Exception as error:
            self._fault(block, error)
            return False
        return True

    def _fault(self, source: Source, error: Exception) -> None:
        """End the block that has an error."""
        if not isinstance(source, Block):
            raise error
        if source in self.blocks:
            self._continue([each for each in self.blocks if each is not source])
        source.fail(error)


def _say(channel: Channel, message: dict[str, Any]) -> None:
    try:
        channel.send(message, ANSWER_SECONDS)
    except OSError:
        pass


def _refuse(channel: Channel, error: Exception, code: str | None = None) -> None:
    said = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    _say(channel, {"type": "failed", "why": said, "code": code or of_error(error)})
    channel.close()


def _poll(fd: int, milliseconds: float) -> bool:
    """Return True if this descriptor is ready, after at most that time."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(milliseconds))


def _command(tracker: AttachTracker) -> list[str] | None:
    """Return the command line of the target, secrets masked."""
    try:
        data = tracker.machine.read(f"{tracker.pid}/cmdline", to_end=True)
    except UNREADABLE:
        return None
    return mask([os.fsdecode(word) for word in data.removesuffix(b"\0").split(b"\0")])


def main() -> None:
    """Run with the arguments PID START (0: unknown) and the control channel as descriptor 3."""
    default_signals((SIGHUP, SIGINT, SIGQUIT, SIGTERM))  # a shell ignores some for what it puts into the background
    close_above(CONTROL_FD)  # what a thread of the target opened while this process started
    os.chdir("/")
    name_process("proctally")
    pid, start = int(sys.argv[1]), int(sys.argv[2])
    sidecar = Sidecar(Channel.of_descriptor(CONTROL_FD), pid, start, SignalFd(libc(), stopping()))
    try:
        is_same = not start or read_start(sidecar.machine, pid) in (None, start)  # its pid can be another's now
    except UNREADABLE:
        is_same = False
        sidecar.refuse()
    try:
        if is_same:
            sidecar.main()
    except UNREADABLE:
        pass
    os._exit(0)
