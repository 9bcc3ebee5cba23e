"""Exceptions that a signal handler of the program raises while proctally works in its main thread."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

PACKAGE = "proctally."


def raise_from_handler(error: BaseException) -> None:
    """Raise the exception of a signal handler, where it is this one or one that this package replaced by this one."""
    found: BaseException | None = error
    while found is not None:
        place = found.__traceback__
        # one that the program caught before has its traceback from there
        if place is not None and str(place.tb_frame.f_globals.get("__name__")).startswith(PACKAGE):
            while place.tb_next is not None:
                interrupted, place = place.tb_frame, place.tb_next
                if _is_handler(place.tb_frame, interrupted):
                    raise found from found.__cause__  # without what replaced it
        found = found.__context__


def _is_handler(frame: FrameType, interrupted: FrameType) -> bool:
    """Return whether a frame has its caller among its arguments, as a handler has."""
    for value in frame.f_locals.values():
        if value is interrupted or (type(value) is tuple and any(each is interrupted for each in value)):
            return True
    return False
