"""The sampler of `proctally.track()`: a process beside its target, that watches it from outside and ends with it.

It is no child of the target (see tracking.py), so that nothing it uses is ever added to what the target used. It serves
every block of its target that is open at one time, each with a sampler and a record of its own; each block has a
channel, on which it is told of phases and of its end. Whatever happens to the target - killed, replaced by exec, forked
- is seen here: at the pidfd, and by the channels that close.
"""

from __future__ import annotations

import os
import select
import sys

from proctally.attach import Attachment, raise_descriptors
from proctally.kernel.channel import Channel, Closed, Late
from proctally.kernel.child import SIGHUP, SIGINT, SIGQUIT, SIGTERM, pidfd_open
from proctally.kernel.machine import UNREADABLE, host_machine, seconds
from proctally.kernel.proc import read_stat
from proctally.options import Options
from proctally.record import Record, mask
from proctally.verdict import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONTROL_FD = 3
SHARE = 4  # of the descriptors for one block: several may be open
ANSWER_SECONDS = 2.0  # for a target that does not read: it is stopped, or has given up
LOOK_NS = 200_000_000  # how often the target is looked at where the kernel has no pidfds
END_MS = 50.0  # so long after it closed its descriptors a target may need to be seen to have ended
SLOWER_NS = 450_000_000  # the machine, and the files of each thread: of ten samples a second they would be most
PHASES_AT_ONCE = 1000
IN_BLOCK = "the start of the block"
LEFT = "its block was left without a word"
REPLACED = "its process executed another program inside the block, or closed all its descriptors"
DIED = "its process ended inside the block"


class Block:
    """One block that is tracked: its attachment, and the channel to who runs it."""

    __slots__ = ("attachment", "channel", "is_left", "memory_fd", "outcome")

    def __init__(self, channel: Channel, attachment: Attachment, memory_fd: int) -> None:
        self.channel = channel
        self.attachment = attachment
        self.memory_fd = memory_fd  # where lines go that have no file; -1: nowhere
        self.outcome: Outcome | None = None  # known once it is over
        self.is_left = False  # whether its channel was closed without a word

    def begin(self) -> None:
        """Take the baseline, answer, and only then do what else stands at the beginning."""
        attachment, session = self.attachment, self.attachment.session
        attachment.take_in()
        refused = attachment.count()
        session.start()
        attachment.sampler.started_ns = session.started_ns
        self._say({"type": "begun", "pid": os.getpid(), "parent": os.getppid()})
        if refused is not None:
            session.warnings.append(f"source perf: {refused}")
        try:
            session.open_explicit(attachment.pid)
        except (OSError, ValueError) as error:
            why = str(getattr(error, "strerror", None) or error).replace("--force", "force=True")
            session.warnings.append(f"output {attachment.options.output}: {why}")
        session.spare = Record(self.memory_fd, "memory") if self.memory_fd >= 0 else None
        attachment.begin(_command(attachment))
        path = next((record.path for record in session.records if os.path.isfile(record.path)), None)
        self._say({"type": "record", "path": path})

    def hear(self) -> None:
        """Take the messages that are there."""
        phases: list[dict[str, Any]] = []
        try:
            while len(phases) < PHASES_AT_ONCE and self.outcome is None:
                message, _ = self.channel.receive(0)
                if message["type"] == "phase":
                    phases.append(message)
                else:
                    self.outcome = Outcome(message["verdict"], message["evidence"])
        except Late:
            pass
        except (Closed, OSError, ValueError, KeyError):
            self.is_left = True
        if phases:
            self._write_phases(phases)

    def _write_phases(self, phases: list[dict[str, Any]]) -> None:
        """What the tree had used by then, as read now: a moment after it was told."""
        sampler = self.attachment.sampler
        sampler.look()
        used = sampler.cpu_seconds()
        for phase in phases:
            self.attachment.session.write(
                {
                    "type": "phase",
                    "name": phase["name"],
                    "event": phase["event"],
                    "at": phase["at"],
                    "elapsed_seconds": seconds(phase["moment"] - self.attachment.session.started_ns),
                    "cpu_seconds": used,
                }
            )

    def end(self, outcome: Outcome) -> None:
        """Write the end, and answer with the summary."""
        attachment = self.attachment
        attachment.sampler.status_ns = 0
        attachment.end(outcome, IN_BLOCK)
        attachment.close()
        session = attachment.session
        self._say({"type": "summary", "summary": session.summary, "warnings": session.warnings})
        self.channel.close()

    def fail(self, error: Exception) -> None:
        """Something of ours is wrong: say so, give back what it holds, and be done; other blocks go on."""
        attachment = self.attachment
        for give_back in (attachment.close, attachment.watch.close, attachment.sampler.close):
            try:
                give_back()
            except Exception:
                pass
        _refuse(self.channel, error)

    def _say(self, message: dict[str, Any]) -> None:
        _say(self.channel, message)


class Sidecar:
    """All blocks of one target, and the loop."""

    def __init__(self, control: Channel, pid: int, start: int) -> None:
        self.control: Channel | None = control
        self.pid = pid
        self.start = start
        self.machine = host_machine()
        self.pidfd = pidfd_open(pid)
        self.descriptors = raise_descriptors()
        self.blocks: list[Block] = []
        self.hung: set[int] = set()  # descriptors of blocks that have nothing more to say
        self.served = 0

    def main(self) -> None:
        """Until the target has ended, or wants no more."""
        while self.control is not None or self.blocks:
            ready = self._wait()
            if not self._is_there():
                self._end_all(DIED)
                return
            if self.control is not None and self.control.fileno() in ready:
                self._take_control()
            for block in list(self.blocks):
                if block.channel.fileno() in ready:
                    self._guarded(block, block.hear)
                if block.is_left:
                    self._find_out_why(block)
                if block.outcome is not None and block in self.blocks:
                    self.blocks.remove(block)
                    self._guarded(block, block.end, block.outcome)
            now = self.machine.monotonic_ns()
            for block in list(self.blocks):
                attachment = block.attachment
                if attachment.timeout(now) <= 0 or not ready.isdisjoint(attachment.fds):
                    self._guarded(block, attachment.go_on, now)

    def _wait(self) -> set[int]:
        """Descriptors that are ready, once one is, or something else is due."""
        channels = [block.channel for block in self.blocks]
        if self.control is not None:
            channels.append(self.control)
        fds = [channel.fileno() for channel in channels]
        timeouts = [] if self.pidfd is not None else [LOOK_NS]
        now = self.machine.monotonic_ns()
        for block in self.blocks:
            others = block.attachment.fds
            self.hung.intersection_update(others)
            fds += [fd for fd in others if fd not in self.hung]
            timeouts.append(block.attachment.timeout(now))
        if self.pidfd is not None:
            fds.append(self.pidfd)
        found = _poll(fds, min(timeouts) / 1e6 if timeouts else None)
        for fd, events in found.items():
            if not events & select.POLLIN and all(fd != channel.fileno() for channel in channels):
                self.hung.add(fd)
        return set(found)

    def _is_there(self) -> bool:
        """Whether the target lives; a zombie does not, unless other threads of it go on."""
        if self.pidfd is not None:
            return not _poll([self.pidfd], 0)
        try:
            stat = read_stat(self.machine, self.pid)
        except UNREADABLE:
            return False
        return stat.start == self.start and (stat.state not in b"ZXx" or stat.threads > 1)

    def _take_control(self) -> None:
        assert self.control is not None
        try:
            message, fds = self.control.receive(0)
        except Late:
            return
        except (Closed, OSError, ValueError):
            self.control.close()
            self.control = None
            # the last block is told of before: who has closed it has become another program, or is about to be gone
            self._end_all(REPLACED if self._goes_on() else DIED)
            return
        if not fds:  # there was no descriptor left for it here: who waits at the other end is told so by that
            return
        channel = Channel.of_descriptor(fds[0])
        try:
            block = self._make(channel, message, fds[1] if len(fds) > 1 else -1)
        except Exception as error:
            _refuse(channel, error)
            return
        if self._guarded(block, block.begin):
            self.blocks.append(block)

    def _make(self, channel: Channel, message: dict[str, Any], memory_fd: int) -> Block:
        options = Options()
        for name, value in message["options"].items():
            setattr(options, name, value)
        machine = host_machine()
        attachment = Attachment(
            "track", options, message["environment"], machine, self.pid, descriptors=self.descriptors // SHARE
        )
        session, sampler = attachment.session, attachment.sampler
        session.run_id = message["run_id"]
        session.cwd = message["cwd"]
        sampler.peaks_from_now = True
        sampler.status_ns = attachment.around_every_ns = SLOWER_NS
        for pid in message["strangers"]:
            sampler.tree.add_stranger(pid)
        if self.served:
            import time

            session.tracker_base_ns = time.process_time_ns()
        self.served += 1
        return Block(channel, attachment, memory_fd)

    def _find_out_why(self, block: Block) -> None:
        """A channel was closed: by the end of the target, by an exec, which closes the other channels too, or alone."""
        if not self._goes_on():
            self._end_all(DIED)
        elif self.control is not None and _poll([self.control.fileno()], 0):
            self._take_control()
        if block in self.blocks:
            block.outcome = Outcome("ended", LEFT)

    def _goes_on(self) -> bool:
        """Whether the target goes on, given a moment: its descriptors are closed before its end can be seen."""
        if self.pidfd is not None:
            return not _poll([self.pidfd], END_MS)
        deadline = self.machine.monotonic_ns() + int(END_MS * 1e6)
        while self._is_there():
            if self.machine.monotonic_ns() >= deadline:
                return True
            _poll([], 1.0)
        return False

    def _end_all(self, evidence: str) -> None:
        blocks, self.blocks = self.blocks, []
        for block in blocks:
            self._guarded(block, block.hear)
            self._guarded(block, block.end, block.outcome or Outcome("ended", evidence))

    def _guarded(self, block: Block, call: Any, *arguments: Any) -> bool:
        """Do this for a block; whatever goes wrong costs that block alone."""
        try:
            call(*arguments)
        except Exception as error:
            if block in self.blocks:
                self.blocks.remove(block)
            block.fail(error)
            return False
        return True


def _say(channel: Channel, message: dict[str, Any]) -> None:
    try:
        channel.send(message, ANSWER_SECONDS)
    except OSError:
        pass


def _refuse(channel: Channel, error: Exception) -> None:
    said = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    _say(channel, {"type": "failed", "why": said})
    channel.close()


def _poll(fds: list[int], milliseconds: float | None) -> dict[int, int]:
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return dict(poller.poll(milliseconds))


def _command(attachment: Attachment) -> list[str] | None:
    """The target's command line, secrets masked."""
    try:
        data = attachment.machine.read(f"{attachment.pid}/cmdline", to_end=True)
    except UNREADABLE:
        return None
    return mask([os.fsdecode(word) for word in data.removesuffix(b"\0").split(b"\0")])


def _close_others() -> None:
    """What a thread of the target opened while this was started; by name: a limit of descriptors may be 2**30."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > CONTROL_FD:
            try:
                os.close(int(name))
            except OSError:  # that of the listing
                pass


def main() -> None:
    """`python -c CODE PID START PATH ...` with the control channel as descriptor 3."""
    import _signal  # type: ignore[import-not-found, unused-ignore]

    for number in (SIGHUP, SIGINT, SIGQUIT, SIGTERM):  # a shell ignores some for what it puts into the background
        _signal.signal(number, _signal.SIG_DFL)
    _close_others()
    os.chdir("/")
    try:
        with open("/proc/self/comm", "w") as file:
            file.write("proctally")
    except OSError:
        pass
    pid, start = int(sys.argv[1]), int(sys.argv[2])
    sidecar = Sidecar(Channel.of_descriptor(CONTROL_FD), pid, start)
    try:
        if read_stat(sidecar.machine, pid).start == start:  # not another that was given its number
            sidecar.main()
    except UNREADABLE:
        pass
    os._exit(0)
