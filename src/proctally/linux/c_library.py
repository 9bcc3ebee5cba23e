"""Functions of the C library that Python lacks or narrows: prctl, signalfd, syscall, execve, called through `_ctypes`.

That is the part of `ctypes` that is written in C. The import of `ctypes` itself takes 2.0 ms, of `_ctypes` 0.5: it
makes classes for all types of C, and three are needed here. No other module imports either.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    import _ctypes
except ImportError:  # a Python without libffi
    _ctypes = None  # type: ignore[assignment]

if _ctypes is not None:

    class Int(_ctypes._SimpleCData):  # type: ignore[type-arg]
        """An int of C: the type of a result, and of an argument that is a Python int."""

        _type_ = "i"

    class Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
        """A long of C."""

        _type_ = "l"

    class Text(_ctypes._SimpleCData):  # type: ignore[type-arg]
        """A char * of C."""

        _type_ = "z"

    class Function(_ctypes.CFuncPtr):
        """A function of the C library that returns an int and sets errno (`last_errno`)."""

        _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
        _restype_ = Int

    last_errno = _ctypes.get_errno


class CLibrary:
    """The C library of this process: each attribute is one of its functions. Raises OSError where it cannot be loaded.

    The arguments of a function are int (an int of C), `Long`, bytes and None (NULL).
    """

    def __init__(self) -> None:
        self._handle = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Function:
        if name.startswith("_"):
            raise AttributeError(name)
        function = Function((name, self))  # type: ignore[arg-type]
        setattr(self, name, function)
        return function


def execve(library: CLibrary, paths: list[bytes], words: list[bytes], environment: list[bytes]) -> Iterator[int]:
    """Return an iterator that calls execve(2) for each path; it yields the number of the error.

    The environment can have any entries; `os.execve` takes pairs alone.
    """
    argv = (Text * (len(words) + 1))(*words)  # the last element stays NULL
    envp = (Text * (len(environment) + 1))(*environment)

    def attempt(path: bytes) -> int:
        library.execve(path, argv, envp)
        return last_errno()

    return map(attempt, paths)


def libc() -> CLibrary | None:
    """Return the C library of this process, or None where it cannot be loaded."""
    try:
        return None if _ctypes is None else CLibrary()
    except OSError:
        return None
