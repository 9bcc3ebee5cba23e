"""Calls of NVML about a device: errors, units, and the numbers that stand for unknown.

It tells what a device does not have (None, not asked again) from what went wrong (None, and its error kept), from a
device that is lost and from a driver that is gone. Numbers of errors: nvmlReturn_t in nvml.h.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, TypeVar

    Amount = TypeVar("Amount", int, float)

NOT_AVAILABLE = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)

# nvmlReturn_t
SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION = 0, 1, 2, 3, 4
NOT_FOUND, INSUFFICIENT_SIZE, DRIVER_NOT_LOADED, FUNCTION_NOT_FOUND = 6, 7, 9, 13
GPU_IS_LOST, RESET_REQUIRED, NO_DATA, VERSION_MISMATCH, GPU_NOT_FOUND = 15, 16, 21, 25, 28
UNREADABLE = -1  # the binding could not read the answer, or the answer is impossible
LOST = (GPU_IS_LOST, RESET_REQUIRED, GPU_NOT_FOUND)
DRIVER_GONE = (UNINITIALIZED, DRIVER_NOT_LOADED)
ABSENT = (INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND, VERSION_MISMATCH)
SILENT = (SUCCESS, NOT_SUPPORTED, NOT_FOUND, FUNCTION_NOT_FOUND, VERSION_MISMATCH, NO_DATA, INVALID_ARGUMENT)


class DeviceLost(Exception):
    """The driver no longer reaches this device. `number`: of the error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class DriverGone(Exception):
    """The driver itself no longer answers. `number`: of the error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


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


class DeviceCalls:
    """Calls of NVML about one device. `errors`: number of the error of each function that failed."""

    __slots__ = ("_handle", "_known", "_library", "errors")

    def __init__(self, library: ModuleType, handle: object, known: Known, errors: dict[str, int]) -> None:
        self._library = library
        self._handle = handle
        self._known = known
        self.errors = errors

    def to(self, handle: object) -> DeviceCalls:
        """Return the calls of an instance of the device: it can lack other functions than the device."""
        return DeviceCalls(self._library, handle, Known(), self.errors)

    def call(self, name: str, *arguments: object, **named: object) -> Any:
        """nvmlDevice`name` of this device; None where it has no answer. Raises `DeviceLost` or `DriverGone`."""
        answer, _ = self.ask(name, *arguments, **named)
        return answer

    def amount(self, name: str, *arguments: int, per: float = 1, most: float) -> float | None:
        """Return a number of nvmlDevice`name` in another unit (`per` of it are one); None without one up to `most`."""
        return self.checked(name, fraction(self.call(name, *arguments), per), most)

    def count(self, name: str, *arguments: int, scale: int = 1, most: int) -> int | None:
        """Return a number of nvmlDevice`name` times `scale`; None without one up to `most`."""
        return self.checked(name, number(self.call(name, *arguments), scale), most)

    def checked(self, name: str, value: Amount | None, most: float) -> Amount | None:
        """Return this answer of nvmlDevice`name`, None and an error where it is impossible."""
        if value is None or 0 <= value <= most:
            return value
        self.errors[name] = UNREADABLE
        return None

    def ask(self, name: str, *arguments: object, **named: object) -> tuple[Any, int]:
        """The answer and the error's number (SUCCESS without one, UNREADABLE where the binding could not read it)."""
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
                raise DeviceLost(number) from None
            if number in DRIVER_GONE:
                raise DriverGone(number) from None
            if number in ABSENT:
                self._known.absent.add(key)
            if number not in SILENT:
                self.errors[name] = number
            return None, number
        except (ValueError, TypeError, OverflowError):  # a name that is no UTF-8, say
            self.errors[name] = UNREADABLE
            return None, UNREADABLE


def number(value: Any, scale: int = 1) -> int | None:
    """A number that NVML gave, times `scale`; None where it says `not available`."""
    return None if value is None or value in NOT_AVAILABLE else int(value) * scale


def fraction(value: Any, per: float) -> float | None:
    """A number in another unit (`per` of it are one), None where it is not available."""
    known = number(value)
    return None if known is None else known / per
