"""The samples of a block as they are taken: a thread receives them and calls the function of the program."""

from __future__ import annotations

import threading

from proctally.library.greenlets import wait_as_program
from proctally.library.sampler_client import client
from proctally.linux.channel import Channel, Closed, Late
from proctally.linux.machine import monotonic
from proctally.record.objects import Sample

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_SECONDS = 10.0  # for a sample; then for another one


class Listener:
    """Calls a function with each sample. What it raises is passed to `failed` once, and the next sample follows."""

    def __init__(self, call: Callable[[Sample], object], failed: Callable[[str], object]) -> None:
        self._call = call
        self._failed = failed
        self._has_failed = False
        self._channel, self._end = client.pair()
        self._thread = threading.Thread(target=self._listen, daemon=True, name="proctally samples")

    def fileno(self) -> int:
        """Return the descriptor of the end that belongs to the sampler."""
        return self._end.fileno()

    def start(self) -> None:
        """Listen; the sampler has its end."""
        client.forget(self._end)
        try:
            self._thread.start()
        except RuntimeError as error:  # there can be no other thread
            self._failed(f"on_sample: {error}")
            self.close()

    def finish(self, deadline: float) -> None:
        """Wait until the function has had the last sample, but not where this is that function."""
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(max(0.0, deadline - monotonic()))

    def close(self) -> None:
        """Close both ends; the thread ends."""
        client.forget(self._end)
        self._channel.end()
        client.forget(self._channel)

    def _listen(self) -> None:
        channel: Channel = self._channel
        try:
            while True:
                deadline = monotonic() + WAIT_SECONDS
                wait_as_program(channel.fileno(), deadline)
                try:
                    message, _ = channel.receive(max(0.0, deadline - monotonic()))
                except Late:
                    continue
                self._pass_on(Sample(message))
        except (Closed, OSError, ValueError):
            pass
        finally:
            client.forget(channel)

    def _pass_on(self, sample: Sample) -> None:
        try:
            self._call(sample)
        except BaseException as error:
            if not self._has_failed:
                self._has_failed = True
                self._failed(f"on_sample: {type(error).__name__}: {error}; it is called with further samples")
