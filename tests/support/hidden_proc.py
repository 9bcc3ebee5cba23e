"""A `/proc` with or without hidepid, in a separate mount namespace."""

from __future__ import annotations

from collections.abc import Callable


def hidepid(kind: str) -> Callable[[], None]:
    """In a mount namespace of its own, a `/proc` that hides the processes of others."""

    def prepare() -> None:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        new_namespace, private, recursive = 0x20000, 1 << 18, 1 << 14
        if (
            library.unshare(new_namespace)
            or library.mount(b"none", b"/", None, private | recursive, None)
            or library.mount(b"proc", b"/proc", b"proc", 0, f"hidepid={kind}".encode())
        ):
            raise OSError(ctypes.get_errno(), "no such /proc can be mounted here")

    return prepare


def hides() -> bool:
    """Return whether `/proc` hides the processes of other users."""
    with open("/proc/mounts", encoding="utf-8", errors="surrogateescape") as file:
        mounts = [line.split() for line in file]
    options = [mount[3].split(",") for mount in mounts if mount[1] == "/proc"]
    return any(option.startswith("hidepid=") for option in options[-1])  # the kernel does not list hidepid=off


def show_all() -> str | None:
    """Give this process a `/proc` that hides nothing, if it needs one; return a line about that."""
    if not hides():
        return None
    try:
        hidepid("0")()
    except OSError:
        return "/proc has hidepid and cannot be mounted again: tests that read processes of other users fail"
    return "/proc has hidepid: these tests have mounted their own, without it"
