"""The cheapest cloud server that fits a request, from a file of the package sparecores-data: SQLite on this disk.

Of its tables `server` and `server_price` (sparecores-crawler, sc_crawler/table_bases.py): memory is in MiB, a price is
of an hour, a month or a year. Prices in different currencies are not compared.
"""

from __future__ import annotations

import os

from proctally.errors import CannotShow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MIB = 1 << 20
COLUMNS = {
    "server": "vendor_id server_id api_reference vcpus memory_amount accelerator_count status",
    "server_price": "vendor_id server_id region_id allocation unit price currency status",
}
QUERY = """
SELECT allocation, currency, min(price / CASE lower(unit) WHEN 'hour' THEN 1 WHEN 'month' THEN 730 ELSE 8760 END),
       s.vendor_id, api_reference, region_id, vcpus, memory_amount, accelerator_count
FROM server_price AS p JOIN server AS s ON s.vendor_id = p.vendor_id AND s.server_id = p.server_id
WHERE lower(p.status) = 'active' AND lower(s.status) = 'active' AND lower(unit) IN ('hour', 'month', 'year')
      AND lower(allocation) IN ('ondemand', 'spot') AND price > 0
      AND vcpus >= ? AND memory_amount >= ? AND coalesce(accelerator_count, 0) >= ?
GROUP BY lower(allocation), currency ORDER BY lower(allocation), 3
"""


class Server:
    """A server: price of an hour, currency, how it is billed (ondemand or spot), what it has and where."""

    __slots__ = ("allocation", "cores", "currency", "gpus", "memory", "name", "price", "region", "vendor")

    def __init__(self, row: tuple[str, str, float, str, str, str, int, int, float | None]) -> None:
        self.allocation, self.currency, self.price, self.vendor, self.name, self.region, self.cores = row[:7]
        self.memory = row[7] * MIB
        self.gpus = row[8] or 0.0
        self.allocation = self.allocation.lower()


def usual_file(environment: Mapping[str, str]) -> str:
    """Return where the package keeps its file."""
    cache = environment.get("XDG_CACHE_HOME") or os.path.join(environment.get("HOME", ""), ".cache")
    return environment.get("SC_DATA_DB_PATH") or os.path.join(cache, "sparecores-data", "sc-data-all.db")


def cheapest(path: str, cores: float, memory: float, gpus: float) -> list[Server]:
    """Return the cheapest server for each way of billing and currency that has all of it. Raises CannotShow."""
    import sqlite3
    from urllib.parse import quote

    if not os.path.isfile(path):
        raise CannotShow(f"{path}: no such file; name that of sparecores-data (--servers=FILE)")
    try:
        database = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)
        try:
            for table, columns in COLUMNS.items():
                there = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
                if missing := [name for name in columns.split() if name not in there]:
                    raise CannotShow(
                        f"{path}: the table {table} has no {', '.join(missing)}; use a file of sparecores-data"
                    )
            return [Server(row) for row in database.execute(QUERY, (cores, memory / MIB, gpus))]
        finally:
            database.close()
    except sqlite3.Error as error:
        raise CannotShow(f"{path}: {error}; use a file of sparecores-data") from None
