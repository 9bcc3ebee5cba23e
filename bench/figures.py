"""Jobs whose CPU total is easy to get wrong (`tests/support/cpu_jobs.c`), at rest and beside load, and what gaps say.

A figure is right within a share of the truth, or it is not complete and its gaps hold the truth between their bounds.
`chains` repeats those that once counted several times over. All of it takes an hour; the variables FIGURES (parts of
job names, with commas), LOADS (numbers of loops) and RUNS (at most so many of a chain) take a part.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accuracy import ROOT_SHARE, SLACK_SECONDS, USER_SHARE, User, ordinary_user
from programs import TESTS, Missing, Programs
from table import Line, Row

from hidden_proc import hidepid
from truth import Truth, available, cpu_truth

READY = ["/bin/sh", "-c", 'read ready && exec "$@"', "sh"]
SPIN = ["/bin/sh", "-c", "while :; do :; done"]
LOOPS = 8
TICK_SECONDS = 0.02  # cutime and cstime of each process that waits for others are cut to ticks
FAST = ("-i", "0.05", "--source", "procfs")


class Case:
    """One job and how it is tracked. `waiters`: processes that wait for others; `{suid}` is a setuid program."""

    def __init__(
        self,
        job: str,
        *options: str,
        attach: bool = False,
        waiters: int = 1,
        users: tuple[str, ...] = ("root", "user"),
    ) -> None:
        self.job = job
        self.options = options
        self.attach = attach
        self.waiters = waiters
        self.users = users

    @property
    def name(self) -> str:
        return f"{'attach' if self.attach else 'run'} {' '.join([*self.options, self.job])}"


CASES = [
    Case("chain 300 4", *FAST),
    Case("chain 300 4", *FAST, attach=True, waiters=300),
    Case("chain_back 300 4", *FAST),
    Case("chain_back 300 4", *FAST, attach=True, waiters=300),
    Case("chain_exec 200 4", *FAST),
    Case("chain_orphans 200 5", *FAST, attach=True),
    Case("chain_orphans 200 5", "-i", "0.05", attach=True),
    Case("chain_killed 300 3", attach=True),
    Case("big_ignored 60 200"),
    Case("big_ignored 60 200", "--source", "procfs"),
    Case("nocldwait 40 10"),
    Case("nocldwait 40 10", "--source", "procfs"),
    Case("ignore 4 10"),
    Case("ignore 4 10", "--source", "procfs"),
    Case("sh -c '{suid} burn 1 1500 & sleep 1'", users=("user",)),
    Case("sh -c '{suid} forks 4 100; sleep 0.5'", users=("user",)),
    Case("big_forks 150 100", "-i", "1", attach=True),
    Case("big_forks 150 100"),
    Case("threads_forked 4", attach=True),
    Case("threads_detached 5000 0"),
    Case("threads 20000 0.05"),
    Case("fill 30 128"),
    Case("io_ignored 20"),
    Case("main_exits 20 10"),
    Case("exec_by_thread"),
    Case("clone_parent 10 20"),
    Case("subreaper 10 20"),
    Case("subreaper_leaves 10 20"),
    Case("exec_chain 100 5"),
    Case("vfork_exit 5000"),
    Case("vfork_exec 1000"),
    Case("forks 1000 0"),
    Case("kill_children 10 10"),
    Case("stopped 20 20"),
    Case("late_wait 20 10"),
]


class Told:
    """What a record says of one job, and the truth."""

    def __init__(self, case: Case, user: User, lines: list[dict[str, Any]], truth: float, used: float) -> None:
        summary = lines[-1]
        self.total: float = summary["cpu"]["total_seconds"]
        self.truth = truth
        self.source: str = summary["cpu"]["source"]
        self.coverage: str = summary["cpu"]["coverage"]
        self.gaps = [gap for gap in summary["gaps"] if gap["section"] == "cpu" and gap["code"] != "split_unknown"]
        self.cores = max((line["tree"]["cpu_cores"] or 0 for line in lines if line["type"] == "sample"), default=0)
        share = USER_SHARE if user.uid or "procfs" in case.options or case.attach else ROOT_SHARE
        waiters = case.waiters if case.attach else 0
        self.tolerance = share * truth + SLACK_SECONDS + TICK_SECONDS * waiters

    def bounds(self) -> tuple[float, float]:
        """Seconds between which the truth is, by the total and what the gaps say is missing of it."""
        low = self.total + sum(gap["low_seconds"] or 0 for gap in self.gaps)
        return low, sum((math.inf if gap["high_seconds"] is None else gap["high_seconds"] for gap in self.gaps), low)

    def right(self) -> bool:
        return abs(self.total - self.truth) <= self.tolerance

    def bounded(self) -> bool:
        low, high = self.bounds()
        return self.coverage != "complete" and low - self.tolerance <= self.truth <= high + self.tolerance

    def wrong(self) -> str:
        found = [] if self.right() or self.bounded() else ["TOTAL"]
        if self.cores > (os.cpu_count() or 1) * 1.1 + 0.4:
            found.append(f"CORES {self.cores:.1f}")
        return " ".join(found)

    def __str__(self) -> str:
        text = f"{100 * self.total / self.truth:.1f} {self.source}"
        if not self.right():
            low, high = (100 * each / self.truth for each in self.bounds())
            text += f" [{low:.0f}, {high:.0f}]" if high < math.inf else f" [{low:.0f}, ]"
        if self.gaps:
            text += f" ({', '.join(gap['code'] for gap in self.gaps)})"
        return f"{text} {self.wrong()}".rstrip()


class Cells:
    """One line: a job, and what each tracker says of it."""

    def __init__(self, name: str, cells: list[Told | None]) -> None:
        self.name = name
        self.cells = cells

    @property
    def missed(self) -> bool:
        return any(cell is not None and cell.wrong() for cell in self.cells)

    def __str__(self) -> str:
        known = [cell.truth for cell in self.cells if cell is not None]
        seconds = f"{sum(known) / len(known):.2f}" if known else ""
        return f"| {' | '.join([self.name, seconds, *('' if each is None else str(each) for each in self.cells)])} |"


class CellsHead:
    missed = False

    def __init__(self, columns: list[str]) -> None:
        self.columns = columns

    def __str__(self) -> str:
        return f"\n| {' | '.join(['job', 'CPU s', *self.columns])} |\n|---|---:|{'---|' * len(self.columns)}"


@contextmanager
def beside(loops: int) -> Iterator[None]:
    """So many busy loops beside."""
    started = [subprocess.Popen(SPIN) for _ in range(loops)]
    try:
        yield
    finally:
        for each in started:
            each.kill()
            each.wait()


def compiled_jobs(folder: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        raise Missing("no C compiler")
    program = folder / "cpu_jobs"
    subprocess.run([compiler, "-O1", "-pthread", "-o", program, TESTS / "cpu_jobs.c"], check=True)
    program.chmod(0o755)
    return program


def argv_of(case: Case, user: User) -> list[str]:
    program = str(user.jobs)
    if not case.job.startswith("sh "):
        return [program, *case.job.split()]
    suid = user.folder / "suid"
    shutil.copy(program, suid)
    suid.chmod(0o4755)
    return ["/bin/sh", "-c", case.job.format(suid=suid)[len("sh -c '") : -1]]


def entering(case: Case, user: User, truth: Truth) -> Callable[[], None] | None:
    """What a process of this user calls before its exec."""
    give = truth.give_to(user.uid) if user.uid else None
    hide = hidepid("invisible") if "{suid}" in case.job else None

    def prepare() -> None:
        if hide is not None:
            hide()
        if give is not None:
            give()

    return prepare if give or hide else None


def measure(case: Case, user: User) -> Told:
    """Track this job once."""
    record = user.folder / "figures.jsonl"
    record.unlink(missing_ok=True)
    interval = () if "-i" in case.options else ("-i", "0.2")
    options = ["-q", *interval, *case.options, "--no-system", "--no-gpu", "--force", "-o", str(record)]
    with cpu_truth() as truth:
        job = argv_of(case, user)
        prepare = entering(case, user, truth)
        common: dict[str, Any] = {"env": user.environment, "preexec_fn": prepare, "cwd": user.folder}
        before = 0.0
        if case.attach:
            argv = truth.enter_argv([*READY, *job])
            with subprocess.Popen(argv, stdin=subprocess.PIPE, **common) as root:
                attach = [*user.command, "attach", *options, str(root.pid)]
                with subprocess.Popen(attach, **common) as tracker:
                    until(lambda: record.exists() and '"sample"' in record.read_text())
                    before = truth.cpu_seconds()
                    root.communicate(b"ready\n")
                    tracker.wait()
        else:
            subprocess.run([*user.command, "run", *options, "--", *truth.enter_argv(job)], **common, check=False)
        used = truth.cpu_seconds() - before
    lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    return Told(case, user, lines, used, used)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        if time.monotonic() > deadline:
            raise Missing("the tracker took no sample")
        time.sleep(0.01)


@contextmanager
def users_with_jobs(programs: Programs) -> Iterator[list[User]]:
    reason = available()
    if reason is not None:
        raise Missing(reason)
    with ordinary_user() as user:
        user.jobs = compiled_jobs(user.folder)
        yield [User("root", 0, [programs.proctally], programs.python, user.jobs, programs.folder), user]


def figures(programs: Programs) -> Iterator[Line]:
    """Every case, as root and as an ordinary user, at rest and beside load."""
    with users_with_jobs(programs) as users:
        wanted = os.environ.get("FIGURES", "").split(",")
        loads = [int(each) for each in os.environ.get("LOADS", f"0,{LOOPS}").split(",")]
        yield CellsHead([f"{user.name} beside {load}" if load else user.name for load in loads for user in users])
        for case in CASES:
            if not any(each in case.name for each in wanted):
                continue
            cells: list[Told | None] = []
            for loops in loads:
                with beside(loops):
                    cells += [measure(case, user) if user.name in case.users else None for user in users]
            yield Cells(case.name, cells)


CHAINS = (  # job, runs, loops beside, options
    ("chain 100 2", 50, 0, ("-i", "0.05")),
    ("chain 300 2", 50, 0, ("-i", "0.05")),
    ("chain 1000 2", 10, 0, ("-i", "0.05")),
    ("chain 1000 2", 3, LOOPS, ("-i", "0.05")),
    ("chain 100 2", 50, 0, FAST),
    ("chain 300 2", 50, 0, FAST),
)


def chains(programs: Programs) -> Iterator[Line]:
    """Chains that collapse, at -i 0.05: the largest share of the truth, and the most cores, in so many runs."""
    with users_with_jobs(programs) as (root, _):
        wanted = os.environ.get("FIGURES", "").split(",")
        for job, runs, loops, options in CHAINS:
            case = Case(job, *options)
            if not any(each in case.name for each in wanted):
                continue
            runs = min(runs, int(os.environ.get("RUNS", runs)))
            with beside(loops):
                told = [measure(case, root) for _ in range(runs)]
            wrong = sum(bool(each.wrong()) for each in told)
            shares = [each.total / each.truth for each in told]
            load = f", {LOOPS} loops beside" if loops else ""
            cores = max(each.cores for each in told)
            bad = "".join(f"; {each}" for each in told if each.wrong())
            how = f"{min(shares):.4f} to {max(shares):.4f} of the truth; at most {cores:.2f} cores{bad}"
            yield Row(f"{case.name}: wrong of {runs}{load}", wrong, 0, how)
