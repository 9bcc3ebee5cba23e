"""Files of made-up network interfaces."""

from __future__ import annotations

HEAD = "Inter-| Receive | Transmit\n face |bytes packets|bytes packets\n"


def line(name: str, received: int, sent: int) -> str:
    return f"{name:>6}: {received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0\n"
