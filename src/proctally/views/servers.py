"""The cheapest cloud servers that fit a request."""

from __future__ import annotations

from proctally.analysis.evidence import CORES, GPUS, MEMORY
from proctally.analysis.servers import Server, cheapest, usual_file
from proctally.errors import CannotShow
from proctally.text.escape import printable
from proctally.text.units import exact_size
from proctally.text.words import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from proctally.analysis.advice import Advice

BILLED = {"ondemand": "on demand", "spot": "spot"}


def fitting(rows: Sequence[Advice], path: str, environment: Mapping[str, str]) -> list[Server]:
    """Return the cheapest servers with all that is requested, or else tried. Raises CannotShow."""
    wanted = {row.resource: row.trial if row.request is None else row.request for row in rows}
    cores, memory = wanted.get(CORES), wanted.get(MEMORY)
    if cores is None or memory is None:
        raise CannotShow("--servers: cores or memory are unknown; see proctally advise without it")
    found = cheapest(path or usual_file(environment), cores, memory, wanted.get(GPUS) or 0)
    if not found:
        raise CannotShow("--servers: no server has all of the request; see proctally advise without it")
    return found


def text(server: Server) -> str:
    """Return one server as a line of text."""
    gpus = f", {counted(int(server.gpus), 'GPU')}" if server.gpus else ""
    size = f"{counted(server.cores, 'core')}, {exact_size(server.memory)}{gpus}"
    place = printable(f"{server.vendor} {server.name} ({server.region})")
    return f"{printable(server.currency)} {server.price:.4g} an hour, {BILLED[server.allocation]}: {place}, {size}"


def data(server: Server) -> dict[str, object]:
    """Return one server for JSON: price of an hour, cores, bytes, devices."""
    return {name: getattr(server, name) for name in Server.__slots__}
