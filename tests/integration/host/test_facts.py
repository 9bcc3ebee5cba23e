"""Facts of this machine."""

from __future__ import annotations

import os

from identities import read_host
from proctally.linux.machine import host_machine

# -- all of it -------------------------------------------------------------------------------------------------------


def test_this_machine() -> None:
    said = read_host(host_machine(), environment=os.environ)
    assert said["hostname"] == os.uname().nodename
    online = os.sysconf("SC_NPROCESSORS_ONLN")
    assert said["cpus_online"] == online
    cores, sockets = said["cpu_physical_cores"], said["cpu_sockets"]
    if isinstance(cores, int) and isinstance(sockets, int):
        assert 1 <= sockets <= cores <= online
    memory = said["memory_bytes"]
    assert isinstance(memory, int)
    assert abs(memory - os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) < memory / 10
