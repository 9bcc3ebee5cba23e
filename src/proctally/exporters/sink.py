"""One destination of exported metrics: a thread, its retries, and why the last delivery failed."""

from __future__ import annotations

import random
import threading
import time

from proctally.exporters.latest import Delivery
from proctally.text.secrets import MASK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proctally.exporters.latest import Latest

FIRST_PAUSE = 1.0  # seconds after the first failure
AGAIN_SECONDS = 0.3  # pause between two tries at the end
MIN_SECRET = 4  # characters; a shorter one is also a part of ordinary words
REASON_CHARACTERS = 200


class ReceiverRefused(Exception):
    """The receiver did not accept a delivery. `after`: seconds that it wants to pass; `final`: it never will accept."""

    def __init__(self, reason: str, after: float | None = None, *, final: bool = False) -> None:
        super().__init__(reason)
        self.after = after
        self.final = final


class BackOff:
    """Pauses between failures in a row: each about twice as long as the one before, up to `longest` seconds."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self.tries = 0  # in a row that failed

    def pause(self, after: float | None) -> float:
        """Return the seconds until the next try. `after`: what the receiver asks for."""
        usual = min(self._longest, self._first * 2 ** min(self.tries, 16)) * random.uniform(0.8, 1.2)
        self.tries += 1
        return usual if after is None else max(after, self._first / 2)


class Sink:
    """One destination, in its own thread: other sinks do not wait for it.

    `write` sends the state, at most every `seconds`; `last` sends the last one, in at most `tries`. Any exception of
    both is a failure that is tried again. `secrets` are never part of a reason: a receiver can repeat them.
    """

    name = ""
    seconds = 1.0
    tries = 1

    def __init__(self, latest: Latest, secrets: tuple[str, ...] = ()) -> None:
        self.latest = latest
        self.delivery = latest.deliveries[self.name] = Delivery()
        self._secrets = [each for each in secrets if len(each) >= MIN_SECRET]
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._deadline = 0.0
        self._thread = threading.Thread(target=self._guarded, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def sampled(self) -> None:
        """Note that there is a new sample."""
        self._wake.set()

    def end(self, deadline: float) -> None:
        """Send the last state, before the deadline (monotonic): there are no more lines."""
        self._deadline = deadline
        self._ending.set()
        self._wake.set()

    def join(self, seconds: float) -> bool:
        """Wait for the end of the thread; return True if it ended."""
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def _guarded(self) -> None:
        """Run until the end; a fault of our own ends this sink alone, and is reported."""
        try:
            self._run()
        except Exception as error:
            self._failed(f"a fault of its own ({type(error).__name__}: {error})")

    def _run(self) -> None:
        back_off = BackOff(min(FIRST_PAUSE, self.seconds), self.seconds)
        while not self._ending.is_set():
            self._wake.wait()
            self._wake.clear()
            if self._ending.is_set():
                break
            pause = self.seconds
            if (after := self._tried(self.write)) is None:
                self.delivery.done += 1
                back_off.tries = 0
            else:
                pause = back_off.pause(after or None)
                self._wake.set()  # the next try does not wait for a sample
            self._ending.wait(pause)
        for left in reversed(range(self.tries)):
            if self._tried(self.last) is None or not left or time.monotonic() + AGAIN_SECONDS > self._deadline:
                return
            time.sleep(AGAIN_SECONDS)

    def _tried(self, act: Callable[[], str | None]) -> float | None:
        """Return None after a success, else the seconds that the receiver wants to pass, 0 where it names none."""
        try:
            problem = act()
        except Exception as error:  # an answer can break any layer: the next one might not
            self._failed(reason(error))
            return getattr(error, "after", None) or 0.0
        self._note(problem)
        return None

    def _note(self, problem: str | None) -> None:
        """Note a success; `problem`: what was wrong all the same."""
        self.delivery.trouble = None if problem is None else self._without_secrets(problem)

    def _failed(self, why: str) -> None:
        self.delivery.failed_by(self._without_secrets(why))

    def _without_secrets(self, text: str) -> str:
        for each in self._secrets:
            text = text.replace(each, MASK)
            sizes = range(len(each) - 1, MIN_SECRET - 1, -1)  # a text of limited length can end within one
            cut = next((size for size in sizes if text.endswith(each[:size])), 0)
            text = text[: len(text) - cut] + MASK if cut else text
        return text

    def time_left(self, timeout: float) -> float:
        """Return the seconds that one try can take: after the end, what is left until the deadline."""
        return min(timeout, max(0.1, self._deadline - time.monotonic())) if self._ending.is_set() else timeout

    def write(self) -> str | None:
        """Send the newest state; return what is wrong with an accepted one, None if nothing is. Raises any error."""
        raise NotImplementedError

    def last(self) -> str | None:
        """Send the last state, as `write` does."""
        return self.write()


def reason(error: BaseException) -> str:
    """Return why something failed: the kernel's text where there is one."""
    if isinstance(error, OSError | ValueError | ReceiverRefused):
        return str(getattr(error, "strerror", None) or error or type(error).__name__)
    return f"{type(error).__name__}: {error}"


def one_line(what: str, why: str) -> str:
    """Return both as one line of bounded length."""
    return f"{what}: {' '.join(why.split())}".rstrip(": ")[:REASON_CHARACTERS]


def basic(user: str, password: str) -> str:
    """Return the value of an Authorization header."""
    from base64 import b64encode

    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def credentials(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the parts of headers that are not shown: each value, without its scheme (`Basic`, `Bearer`)."""
    return tuple(value.rpartition(" ")[2] for value in headers.values())
