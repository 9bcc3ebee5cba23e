"""A folder that looks like a host with a hierarchy for each of some controllers, in which cgroups can be made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cgroup_host import NO_PID, Host
from proctally.errors import ProcessGone
from proctally.linux.cgroup import V2
from proctally.linux.own_cgroup import CgroupRefused, RunCgroup
from proctally.linux.own_cgroups import CPUACCT, MEMORY, OwnCgroups

JOB = 77


class Hybrid:
    """A host with these hierarchies; a new cgroup has the files that `made` names, as a kernel makes them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: str | None) -> None:
        self.host = Host(folder)
        self.refuse: dict[str, int] = {}
        self.made: dict[str, dict[str, str]] = {
            V2: {"cpu.stat": "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\n"},
            CPUACCT: {
                "cpuacct.usage": "7000000\n",
                "cpuacct.usage_user": "4000000\n",
                "cpuacct.usage_sys": "3000000\n",
            },
            MEMORY: {"memory.stat": ""},
        }
        for point, names in options.items():
            self.host.mount(f"cg/{point}", names)
            self.host.write(f"cg/{point}/cgroup.procs", "")
        lines = [f"{number}:{names or ''}:/" for number, names in enumerate(options.values())]
        self.parents = self.host.process(NO_PID, *(line.replace("rw,", "") for line in lines))
        made = self

        def add(self: RunCgroup, pid: int) -> None:
            if number := made.refuse.get(self.name, 0):
                raise ProcessGone(number, "gone") if number < 0 else CgroupRefused(number)
            for name, text in made.made[self.name].items():
                Path(self.directory, name).write_text(text)

        def remove(self: RunCgroup) -> bool:
            for name in os.listdir(self.directory):
                os.unlink(f"{self.directory}/{name}")
            os.rmdir(self.directory)
            os.close(self.fd)
            return True

        monkeypatch.setattr(RunCgroup, "add", add)
        monkeypatch.setattr(RunCgroup, "remove", remove)

    def own(self, *, memory: bool = True) -> OwnCgroups:
        own = OwnCgroups(self.host.machine, self.parents, NO_PID, memory=memory)
        own.add(JOB)
        return own

    def write(self, own: OwnCgroups, name: str, file: str, text: str) -> None:
        Path(own.by_name[name].directory, file).write_text(text)
