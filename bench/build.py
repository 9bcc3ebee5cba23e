"""What tracking costs an ordinary build, and whether the CPU seconds of its commands are right.

The build is one of several hundred tiny C files: some thousand short processes, each far shorter than those of a real
project, so that what tracking adds to each counts most here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from programs import Missing, Programs
from table import Row

from truth import Truth, available, cpu_truth, remove

FILES = 700
PAIRS = 7
COUNTED_SECONDS = 0.5  # a command that used less is too small to be compared
TOOLS = ("make", "sh", "cc", "cc1", "as", "collect2", "ld")

SOURCE = """#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int part_%(number)d(const char *text)
{
    char *copy = strdup(text);
    int sum = 0;

    for (char *at = copy; *at; at++)
        sum = sum * %(factor)d + *at;
    if (sum %% 3 == 0)
        printf("%%d of part %(number)d\\n", sum);
    free(copy);
    return sum;
}
"""

# The first command of each recipe needs a shell; the second is started by make itself.
MAKEFILE = """SHELL = {shell}
OBJECTS = $(patsubst %.c,%.o,$(wildcard part_*.c main.c))

program: $(OBJECTS)
\t@{cc} {flags} -o $@ $(OBJECTS)

%.o: %.c
\t@test -s $< && true
\t@{cc} {flags} -O1 -c -o $@ $<
"""


class Project:
    """The sources, in a folder, and the makefiles: one as it is, one with every tool in a cgroup of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for number in range(FILES):
            text = SOURCE % {"number": number, "factor": number % 50 + 3}
            (folder / f"part_{number}.c").write_text(text)
        calls = [f"part_{number}" for number in range(FILES)]
        declared = "".join(f"int {call}(const char *text);\n" for call in calls)
        summed = "".join(f"    sum += {call}(argv[0]);\n" for call in calls)
        body = f"int main(int argc, char **argv)\n{{\n    int sum = argc;\n{summed}    return sum == 0;\n}}\n"
        (folder / "main.c").write_text(declared + body)
        self.write_makefile("Makefile", "/bin/sh", "cc", "")

    def write_makefile(self, name: str, shell: str, cc: str, flags: str) -> None:
        (self.folder / name).write_text(MAKEFILE.format(shell=shell, cc=cc, flags=flags))

    def clean(self) -> None:
        for path in [*self.folder.glob("*.o"), self.folder / "program"]:
            path.unlink(missing_ok=True)


class Built:
    """One build: wall seconds, CPU seconds of the job by its cgroup, and the summary where it was tracked."""

    def __init__(self, wall: float, cpu: float, summary: dict[str, Any] | None) -> None:
        self.wall = wall
        self.cpu = cpu
        self.summary = summary


def tool(name: str) -> str:
    """Where a tool lies: in PATH, or where the compiler has it."""
    found = shutil.which(name)
    if found is None:
        asked = subprocess.run(["cc", f"-print-prog-name={name}"], stdout=subprocess.PIPE, text=True, check=True)
        found = shutil.which(asked.stdout.strip())
    if found is None:
        raise Missing(f"no {name}")
    return found


def build(programs: Programs, project: Project, truth: Truth, job: list[str], *, tracked: bool) -> Built:
    """Build all of it once."""
    project.clean()
    record = programs.folder / "build.jsonl"
    record.unlink(missing_ok=True)
    command = truth.enter_argv(job)
    if tracked:
        command = programs.tracked(*command, options=("-o", str(record)))
    begin = time.perf_counter()
    subprocess.run(command, cwd=project.folder, env=programs.environment, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - begin
    summary = json.loads(record.read_text().splitlines()[-1]) if tracked else None
    return Built(wall, truth.cpu_seconds(), summary)


# -- the price ---------------------------------------------------------------------------------------------------


def pairs(programs: Programs, project: Project) -> tuple[list[Built], list[Built]]:
    """Builds in turn, bare and tracked; which is first alternates. The first pair only fills the caches."""
    job = [tool("make"), "-s", "-j2"]
    bare: list[Built] = []
    tracked: list[Built] = []
    for number in range(PAIRS + 1):
        for with_tracker in (number % 2 == 0, number % 2 == 1):
            with cpu_truth() as truth:
                built = build(programs, project, truth, job, tracked=with_tracker)
            if number:
                (tracked if with_tracker else bare).append(built)
    return bare, tracked


def compared(name: str, ours: list[float], theirs: list[float], target: float | None) -> Row:
    """The median of the ratios of pairs, and between which they lie; the best of each is what load disturbs least."""
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    pairs = f"median of {len(ratios)} pairs from {ratios[0]:.3f} to {ratios[-1]:.3f}"
    how = f"{pairs}; best / best {min(ours) / min(theirs):.3f}; bare {median(theirs):.2f} s"
    return Row(name, median(ratios), target, how)


def price(programs: Programs, project: Project) -> Iterator[Row]:
    bare, tracked = pairs(programs, project)
    summaries = [built.summary for built in tracked if built.summary is not None]
    processes = summaries[-1]["processes"]["started"]
    what = f"build of {FILES} files, {processes} processes"
    yield compared(f"{what}: wall, tracked / bare", [b.wall for b in tracked], [b.wall for b in bare], 1.02)
    yield compared("CPU of that build, tracked / bare", [b.cpu for b in tracked], [b.cpu for b in bare], None)
    own = [summary["tracker"]["cpu_seconds"] for summary in summaries]
    shares = sorted(a / b.cpu for a, b in zip(own, tracked, strict=True))
    how = f"median {median(own):.3f} s; from {shares[0]:.4f} to {shares[-1]:.4f}"
    yield Row("CPU of proctally / CPU of that build", median(shares), 0.01, how)
    off = [abs(s["cpu"]["total_seconds"] / b.cpu - 1) for s, b in zip(summaries, tracked, strict=True)]
    said = summaries[-1]["cpu"]
    by_source = ", ".join(f"{name} {seconds / tracked[-1].cpu:.4f}" for name, seconds in said["sources"].items())
    how = f"by {said['source']}; worst {max(off):.4f}; shares of the last: {by_source}"
    yield Row("CPU total of that build, off by a share of", median(off), 0.005, how)


# -- the commands ------------------------------------------------------------------------------------------------


class Cages:
    """A cgroup for each tool below that of the job, and programs that enter it and become the tool."""

    def __init__(self, programs: Programs, truth: Truth) -> None:
        self.folder = programs.folder / "tools"
        self.folder.mkdir()
        self.log = programs.folder / "moves.log"
        self.of = {name: Truth(truth.job / name) for name in TOOLS}
        for name, cage in self.of.items():
            cage.folder.mkdir()
            cage.job.mkdir()
            shutil.copy(programs.compiled("enter"), self.folder / name)
            lines = (name, tool(name), str(cage.job / "cgroup.procs"), str(self.log))
            (self.folder / f"{name}.tool").write_text("\n".join(lines))

    def remove(self) -> None:
        for cage in self.of.values():
            remove(cage)


class Used:
    """What the processes that ended as one tool used in truth: CPU seconds, how many, and CPU seconds within moves."""

    def __init__(self, cpu: float) -> None:
        self.cpu = cpu
        self.processes = 0
        self.doubt = 0.0


def used_by_tool(cages: Cages) -> dict[str, Used]:
    """By the cgroups and, for what a process used before it entered one, by its own CPU clock.

    That part is counted where the process was until then. `commands` gives a process, from its fork on, to what it
    was at its end, so it is taken from there and given to the tool that was entered.
    """
    used = {name: Used(cage.cpu_seconds()) for name, cage in cages.of.items()}
    for line in cages.log.read_text().splitlines():
        name, came_from, before, after = line.split()
        used[name].cpu += int(before) / 1e9
        used[name].processes += 1
        used[name].doubt += (int(after) - int(before)) / 1e9
        if came_from in used:
            used[came_from].cpu -= int(before) / 1e9
    return used


def commands(programs: Programs, project: Project) -> Iterator[Row]:
    """One tracked build with each tool in a cgroup of its own. Moving is slow, so its wall time says nothing."""
    with cpu_truth() as truth:
        cages = Cages(programs, truth)
        try:
            flags = f"-B{cages.folder}/"  # where the compiler looks first for its parts
            project.write_makefile("Makefile.cages", str(cages.folder / "sh"), str(cages.folder / "cc"), flags)
            job = [str(cages.folder / "make"), "-s", "-j2", "-f", "Makefile.cages"]
            built = build(programs, project, truth, job, tracked=True)
            used = used_by_tool(cages)
        finally:
            cages.remove()
    assert built.summary is not None
    yield from compared_commands(built, built.summary, used)


def compared_commands(built: Built, summary: dict[str, Any], used: dict[str, Used]) -> Iterator[Row]:
    """What the summary says of each command beside the truth, and their sum beside the total of perf."""
    said = {entry["command"]: entry for entry in summary["commands"]}
    for name, truly in used.items():
        if truly.cpu < COUNTED_SECONDS:
            continue
        entry = said.get(name, {"cpu_seconds": 0.0, "teardown_seconds": 0.0, "processes": 0})
        claimed = entry["cpu_seconds"] + entry["teardown_seconds"]
        how = (
            f"{claimed:.3f} s ({entry['teardown_seconds']:.3f} of it teardown) of {truly.cpu:.3f} s "
            f"(+-{truly.doubt / 2:.3f}), {entry['processes']} processes of {truly.processes}"
        )
        yield Row(f"command {name}, CPU off by a share of", abs(claimed / truly.cpu - 1), 0.03, how)
    perf = summary["cpu"]["sources"].get("perf")
    if perf is None:
        raise Missing("no perf here, so commands are only sampled")
    total = sum(entry["cpu_seconds"] for entry in said.values())
    how = f"{total:.3f} s of {perf:.3f} s; by the cgroup {built.cpu:.3f} s"
    yield Row("sum of commands, off from perf by a share of", abs(total / perf - 1), 0.01, how)


def build_bench(programs: Programs) -> Iterator[Row]:
    reason = available()
    if reason is not None:
        raise Missing(reason)
    project = Project(programs.folder / "project")
    yield from price(programs, project)
    yield from commands(programs, project)
