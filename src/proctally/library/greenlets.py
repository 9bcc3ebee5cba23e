"""Waiting in a program whose calls gevent or eventlet replaced: other greenlets run while this one waits."""

from __future__ import annotations

import sys
from types import BuiltinFunctionType

from proctally.linux.machine import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

CALLERS = (
    "eventlet.greenpool",
    "eventlet.green.thread",
    "eventlet.wsgi",
)  # modules of eventlet that call functions of the program


def wait_as_program(fd: int, deadline: float) -> None:
    """Let the other greenlets run until a message is there, as select(2) of these libraries does.

    It returns at once where nothing else can run: without such a library, and inside its loop, where a handler of a
    signal can be. The caller then waits by calls that are not replaced.
    """
    select = getattr(sys.modules.get("select"), "select", None)  # loaded where it was replaced
    if select is not None and not isinstance(select, BuiltinFunctionType) and _can_switch():
        try:
            select([fd], [], [], max(0.0, deadline - monotonic()))
        except Exception:  # ImportError too, where the handler interrupts the first use of gevent
            pass


def _can_switch() -> bool:
    """Return False inside a wait of eventlet, where a handler of a signal can be.

    The greenlet has already asked eventlet to wake it. That would wake it here instead, and its own wait would never
    end. gevent keeps what woke a greenlet until it waits.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if module.startswith("eventlet."):
            return module in CALLERS or frame.f_code.co_name == "main"  # of a greenlet
        frame = frame.f_back
    return True
