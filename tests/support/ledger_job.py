"""A tree on a made-up host, tracked, with the truth to compare with."""

from pathlib import Path

import pytest

from fakeroot import INIT, SECOND, TICK_NS, FakeHost, attach_to, reap_ours
from proctally.tree.member import CPU, DELAY, SIZE, SYSTEM, USER
from proctally.tree.sampler import TreeSampler

OWN = 77
ROOT = 100
MICROSECOND = 1000
IO_OF = (4096, 512, 8, 4, 8192, 1024, 0)


class Job:
    """A tree on a fake host and its tracker; every look checks that totals rise and stay below the truth."""

    def __init__(
        self,
        folder: Path,
        *,
        attached: bool = False,
        descriptors: int = 512,
        clocks: bool = True,
        last_pid: bool = False,
    ) -> None:
        self.host = host = FakeHost(folder, own=None if attached else OWN, last_pid=last_pid)
        self.attached = attached
        self.clocks = clocks
        host.spawn(ROOT, INIT if attached else OWN)
        host.advance(1)
        self.sampler = TreeSampler(host.machine(clocks=clocks), own=host.own, descriptors=descriptors)
        self.founders = 1
        self.base = [0] * SIZE
        self.before = [0] * SIZE
        self.cores: list[float] = []

    def start(self, seconds: float = 1.0) -> None:
        self.base = self.host.used(ROOT)
        self.founders = len(self.host.family(ROOT))
        if self.attached:
            attach_to(self.sampler, ROOT)
        else:
            self.sampler.start(ROOT)
        self.look(seconds)

    def truth(self) -> list[int]:
        return [used - base for used, base in zip(self.host.used(ROOT), self.base, strict=True)]

    def look(self, seconds: float = 1.0) -> list[int]:
        """A sample after so much time; the totals of the tree."""
        self.host.advance(seconds)
        sample = self.sampler.sample()
        if sample["tree"]["cpu_cores"] is not None:
            self.cores.append(sample["tree"]["cpu_cores"])
        total = self.sampler.total
        truth = self.truth()
        for place in range(SIZE):
            assert total[place] >= self.before[place], f"the total of {place} fell"
            slack = self.slack(place)
            assert total[place] <= truth[place] + slack, f"more than the truth in {place}: {total} against {truth}"
        self.before = list(total)
        return total

    def slack(self, place: int) -> int:
        """What was before is cut to ticks as well, of each process and of those it waited for."""
        ticks = {CPU: 2, USER: 2, SYSTEM: 2}.get(place, 0) * self.founders
        return ticks * TICK_NS * (1 if self.clocks else 2)

    def cpu(self) -> float:
        """CPU seconds as the last sample told them."""
        return self.sampler.total[CPU] / SECOND

    def reap(self, pid: int) -> None:
        reap_ours(self.host, self.sampler, pid)

    def finish(self) -> None:
        """The root ends and is reaped, and so is every orphan: everything is known exactly."""
        for process in self.host.family(ROOT):
            if process.ppid == OWN:
                if not process.ended:
                    self.host.exit(process.pid)
                self.reap(process.pid)
        if self.host.family(ROOT):
            self.finish()
        self.settle()

    def settle(self) -> list[int]:
        for _ in range(3):
            self.look()
        return self.look()

    def exact(self, *places: int) -> None:
        """The total is the truth, to the microsecond of wait4 in times."""
        truth = self.truth()
        for place in places or [place for place in range(SIZE) if place != DELAY]:
            slack = 100 * MICROSECOND if place in (CPU, USER, SYSTEM) else 0
            assert self.sampler.total[place] == pytest.approx(truth[place], abs=slack), place


def close(total: float, truth: float, ticks: int = 2) -> bool:
    """Equal to the ticks that `cutime` and `cstime` lose."""
    return truth - ticks * TICK_NS / SECOND <= total <= truth + 1e-4
