"""A moment of a tree: its bracket, and what can narrow it afterwards."""

from __future__ import annotations

NARROW_BYTES = 4 << 20  # a later scan cannot narrow a bracket of this width by much
WIDE_RATIO = 0.02  # a bracket wider than this is shown as a range, and its gaps are listed


class Bracket:
    """Memory of one moment in bytes.

    `low` and `high` bound anonymous + shared memory, hugetlb pages included.
    """

    __slots__ = (
        "anon_high", "anon_low", "high", "hugetlb_high", "hugetlb_low", "kernel", "low", "mapped_file", "shmem_high",
        "shmem_low", "source", "swap",
    )  # fmt: skip

    def __init__(
        self,
        anon: tuple[int, int],
        shmem: tuple[int, int],
        hugetlb: tuple[int, int],
        mapped_file: int,
        kernel: int,
        swap: int,
        source: str,
    ) -> None:
        self.anon_low, self.anon_high = anon
        self.shmem_low, self.shmem_high = shmem
        self.hugetlb_low, self.hugetlb_high = hugetlb
        self.low = anon[0] + shmem[0] + hugetlb[0]
        self.high = anon[1] + shmem[1] + hugetlb[1]
        self.mapped_file = mapped_file
        self.kernel = kernel
        self.swap = swap
        self.source = source

    @property
    def unclaimed_shmem(self) -> int:
        """Shared memory that the surroundings gained and that can be another tree's."""
        return self.shmem_high - self.shmem_low


class PeakEntry:
    """A part of the peak in bytes: a process, a family, shared memory or a spike.

    Shared memory has neither pid nor command.
    """

    __slots__ = ("command", "high", "kind", "low", "pid")

    def __init__(self, pid: int | None, command: bytes | None, low: int, high: int, kind: str) -> None:
        self.pid = pid
        self.command = command
        self.low = low
        self.high = high
        self.kind = kind


class Turnover:
    """Anonymous bytes that members released and faulted in since the start.

    `released` leaves out what huge pages filled again: those are at most the level of huge pages, once for all scans.
    """

    __slots__ = ("faulted", "huge", "huge_pages", "released")

    def __init__(self, huge_pages: int, released: int = 0, faulted: int = 0, huge: int = 0) -> None:
        self.huge_pages = huge_pages  # pages of a huge page
        self.released = released
        self.faulted = faulted
        self.huge = huge

    def add(self, before: int, now: int, faulted: int, huge: int) -> None:
        """Add one member in one scan.

        What it filled again cost a fault for each page.
        """
        self.faulted += faulted
        released = before - now + faulted
        if released > 0:
            self.released += before if released > before and not huge else released

    def mark(self, huge: int) -> Turnover:
        """Return the sums at this moment; `huge`: the most bytes of huge pages."""
        return Turnover(self.huge_pages, self.released, self.faulted, huge)

    def since(self, mark: Turnover) -> int:
        """Return the most that was released since a mark."""
        return self.released - mark.released + self._huge_since(mark)

    def filled_since(self, mark: Turnover) -> int:
        """Return the most that was filled since a mark."""
        return self.faulted - mark.faulted + self._huge_since(mark)

    def _huge_since(self, mark: Turnover) -> int:
        return min(self.huge, (self.faulted - mark.faulted) * self.huge_pages)


class Candidate:
    """A moment that can be the peak: a bracket, and the `spike` around it.

    Its high bound can fall afterwards. What it held and a later scan does not was released in between, so it held at
    most what that scan holds and what members released since.
    """

    __slots__ = ("_turnover", "anon_high", "bracket", "entries", "seconds", "spike")

    def __init__(self, seconds: float, bracket: Bracket, turnover: Turnover, spike: int) -> None:
        self.seconds = seconds
        self.bracket = bracket
        self.anon_high = bracket.anon_high
        self.spike = spike
        self.entries: list[PeakEntry] = []
        self._turnover = turnover

    @property
    def high(self) -> int:
        """The most bytes held at this moment."""
        return self.bracket.high - self.bracket.anon_high + self.anon_high + self.spike

    @property
    def is_narrow(self) -> bool:
        """True if a later scan cannot change it by much."""
        return self.anon_high - self.bracket.anon_low <= self.bracket.low * WIDE_RATIO + NARROW_BYTES

    def parts(self) -> list[PeakEntry]:
        """Return its largest parts, none of them above the whole."""
        for entry in self.entries:
            entry.high = max(entry.low, min(entry.high, self.high))
        return self.entries

    def fall(self, bracket: Bracket, turnover: Turnover) -> None:
        """Narrow it by a later scan and the turnover up to that scan."""
        most = bracket.anon_high + turnover.since(self._turnover)
        self.anon_high = max(self.bracket.anon_low, min(self.anon_high, most))
