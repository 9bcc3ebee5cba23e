"""Identities of made-up machines."""

from __future__ import annotations

from typing import Any

from proctally.host.facts import HostReader
from proctally.linux.machine import Machine

# -- os-release ------------------------------------------------------------------------------------------------------


def read_host(machine: Machine, **where: Any) -> dict[str, object]:
    """The line of the record in one go."""
    reader = HostReader(machine, **where)
    while reader.step():
        pass
    return reader.line()


# -- processors ------------------------------------------------------------------------------------------------------


X86 = b"""processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model name\t: Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz
flags\t\t: fpu vme %shypervisor_not sse
power management:

processor\t: 1
model name\t: another
flags\t\t: fpu hyperv"""  # cut where the page ends


def arm(*parts: tuple[str, str]) -> bytes:
    text = "processor\t: {}\nBogoMIPS\t: 243.75\nCPU implementer\t: {}\nCPU architecture: 8\nCPU part\t: {}\n\n"
    return "".join(text.format(place, *part) for place, part in enumerate(parts)).encode()
