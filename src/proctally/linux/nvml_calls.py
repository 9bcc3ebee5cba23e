"""The one door to NVML's functions about a device: its errors, its units, and what it says when it does not know.

It tells what a device does not have (None, not asked again) from what went wrong (None, and said), from a device that
is lost and from a driver that is gone. Numbers of errors: nvmlReturn_t in nvml.h.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NOT_AVAILABLE = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)

# nvmlReturn_t
SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION = 0, 1, 2, 3, 4
NOT_FOUND, INSUFFICIENT_SIZE, DRIVER_NOT_LOADED, FUNCTION_NOT_FOUND = 6, 7, 9, 13
GPU_IS_LOST, RESET_REQUIRED, LIBRARY_MISMATCH, NO_DATA, VERSION_MISMATCH, GPU_NOT_FOUND = 15, 16, 18, 21, 25, 28
LOST = (GPU_IS_LOST, RESET_REQUIRED, GPU_NOT_FOUND)
DRIVER_GONE = (UNINITIALIZED, DRIVER_NOT_LOADED)
ABSENT = (INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND, VERSION_MISMATCH)
SILENT = (SUCCESS, NOT_SUPPORTED, NOT_FOUND, FUNCTION_NOT_FOUND, VERSION_MISMATCH, NO_DATA, INVALID_ARGUMENT)


class DeviceLost(Exception):
    """The driver no longer reaches this device."""


class DriverGone(Exception):
    """The driver itself no longer answers."""


class Known:
    """What is known of a device between two readings. `last_us`: the newest record of utilisation that was seen."""

    __slots__ = ("absent", "age", "last_us", "lost_for", "mig", "name", "pci", "primed", "uuid", "wide")

    def __init__(self) -> None:
        self.absent: set[object] = set()
        self.age = 0
        self.last_us = 0
        self.primed = False
        self.lost_for = 0
        self.mig: bool | None = None
        self.wide = False
        self.uuid: str | None = None
        self.name: str | None = None
        self.pci: str | None = None


class Door:
    """Calls of NVML about one device. `troubles`: what went wrong, by function."""

    __slots__ = ("_handle", "_known", "_library", "troubles")

    def __init__(self, library: Any, handle: Any, known: Known, troubles: dict[str, str]) -> None:
        self._library = library
        self._handle = handle
        self._known = known
        self.troubles = troubles

    def to(self, handle: Any) -> Door:
        """The door to an instance of the device: what it lacks is not what the device lacks."""
        return Door(self._library, handle, Known(), self.troubles)

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """nvmlDevice`name` of this device; None where it has no answer. Raises `DeviceLost` or `DriverGone`."""
        answer, _ = self.ask(name, *arguments, **named)
        return answer

    def ask(self, name: str, *arguments: Any, **named: Any) -> tuple[Any, int]:
        """The answer and the error's number (SUCCESS without one, -1 where the binding could not read it)."""
        key = (name, *arguments, *named)
        if key in self._known.absent:
            return None, NOT_SUPPORTED
        library = self._library
        try:
            return getattr(library, f"nvmlDevice{name}")(self._handle, *arguments, **named), SUCCESS
        except AttributeError:  # the binding, or the library, is older than the function
            self._known.absent.add(key)
            return None, FUNCTION_NOT_FOUND
        except library.NVMLError as error:
            number = error.value
            if number in LOST:
                raise DeviceLost(describe(error)) from None
            if number in DRIVER_GONE:
                raise DriverGone(describe(error)) from None
            if number in ABSENT:
                self._known.absent.add(key)
            if number not in SILENT:
                self.troubles[name] = describe(error)
            return None, number
        except (ValueError, TypeError, OverflowError) as error:  # a name that is no UTF-8, say
            self.troubles[name] = f"{type(error).__name__}: {error}"
            return None, -1


def describe(error: Any) -> str:
    """What NVML says of an error; its number where it says nothing."""
    if error.value == LIBRARY_MISMATCH:  # what the binding says of it is in the words of those who wrote the driver
        return "NVML: driver/library version mismatch: the driver was updated and its module not loaded anew"
    try:
        return f"NVML: {error}"
    except Exception:  # the text comes from the library, which may lack it
        return f"NVML: error {error.value}"


def number(value: Any, scale: int = 1) -> int | None:
    """A number that NVML gave, times `scale`; None where it says `not available`."""
    return None if value is None or value in NOT_AVAILABLE else int(value) * scale


def fraction(value: Any, per: float, most: float = float("inf")) -> float | None:
    """A number in another unit (`per` of it are one), None where it is not available or above `most`."""
    known = number(value)
    return None if known is None or known / per > most else known / per
