"""Ways in which a file of the kernel can be damaged."""

import re
from collections.abc import Callable

from hypothesis import strategies as st

MOST = b"18446744073709551615"
KINDS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "garbled": lambda data: re.sub(rb"\d+", b"N/A", data),
    "negative": lambda data: re.sub(rb"\b\d+\b", rb"-\g<0>", data),
    "zeros": lambda data: re.sub(rb"\d+", b"0", data),
    "2^64-1": lambda data: re.sub(rb"\b\d+\b", MOST, data),
    "not UTF-8": lambda data: re.sub(rb"[a-z0-9]", b"\xff", data),
    "other keys": lambda data: data.replace(b"rchar", b"char").replace(b"Vm", b"vm").replace(b"Pss", b"pss"),
}
# one of them, or the part of the length at which the file is cut
KIND = st.one_of(st.sampled_from(sorted(KINDS)), st.floats(0.0, 0.99).map(lambda part: round(part, 2)))


def damaged(data: bytes, kind: str | float) -> bytes:
    return data[: int(len(data) * kind)] if isinstance(kind, float) else KINDS[kind](data)
