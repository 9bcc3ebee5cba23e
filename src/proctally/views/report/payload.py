"""All samples of a run in the page: base64 of gzip of planes of bytes, which the browser unpacks.

The times are steps of one tick, four planes. Each column is single floats of 13 bits of mantissa (relative error at
most 1.2e-4), whose last byte is 0: three planes. The first plane of a column holds sign and exponent, and so repeats.
"""

from __future__ import annotations

import base64
import json
import zlib
from array import array

from proctally.text.escape import html

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DROPPED = 10  # bits of the 23 of the mantissa
TICK_MS = 0.1
MAX_TICKS = 1 << 31  # of a run: a step takes four bytes
GZIP_FORMAT = 31  # wbits of zlib


def element(number: int, times: Sequence[float], columns: Mapping[str, array[float]]) -> str:
    """Return the script element of a table; `times` in seconds, ascending from 0 on."""
    tick = max(TICK_MS, 1000 * times[-1] / MAX_TICKS)
    squeeze = zlib.compressobj(wbits=GZIP_FORMAT)
    data = squeeze.compress(_steps(times, tick))
    for column in columns.values():
        data += squeeze.compress(_planes(column))
    data += squeeze.flush()
    keys = html(json.dumps(list(columns)))
    return (
        f'<script type="text/plain" id="samples{number}" data-rows="{len(times)}" data-tick="{tick!r}"'
        f' data-keys="{keys}">{base64.b64encode(data).decode()}</script>\n'
    )


def _steps(times: Sequence[float], tick: float) -> bytes:
    factor = 1000 / tick
    ticks = [round(time * factor) for time in times]
    steps = array("I", [now - before for before, now in zip([0, *ticks], ticks, strict=False)]).tobytes()
    return b"".join(steps[plane::4] for plane in (3, 2, 1, 0))


def _planes(column: array[float]) -> bytes:
    """Round all values at once, as one number: a carry stays in its float, since NaN and infinity have room for it."""
    size = 4 * len(column)
    half = int.from_bytes((1 << (DROPPED - 1)).to_bytes(4, "little") * len(column), "little")
    kept = int.from_bytes((0xFFFFFFFF >> DROPPED << DROPPED).to_bytes(4, "little") * len(column), "little")
    rounded = (int.from_bytes(column.tobytes(), "little") + half & kept).to_bytes(size, "little")
    return b"".join(rounded[plane::4] for plane in (3, 2, 1))
