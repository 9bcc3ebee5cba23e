"""Kernel files that another program refuses or writes in another form: the job runs, and one reading is missing."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commands import proctally
from compiled import preload

REFUSE_C = """
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdlib.h>

static int is_refused(const char *path) {
    const char *pattern = getenv("REFUSED_PATH");
    if (!pattern || fnmatch(pattern, path, 0))
        return 0;
    errno = atoi(getenv("REFUSED_ERRNO"));
    return 1;
}

#define OPEN(name) int name(const char *path, int flags, ...) { \\
    va_list rest; \\
    va_start(rest, flags); \\
    int mode = va_arg(rest, int); \\
    va_end(rest); \\
    int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, #name); \\
    return is_refused(path) ? -1 : next(path, flags, mode); }
OPEN(open)
OPEN(open64)

DIR *opendir(const char *path) {
    DIR *(*next)(const char *) = dlsym(RTLD_NEXT, "opendir");
    return is_refused(path) ? NULL : next(path);
}
"""
JOB = ("env", "-u", "LD_PRELOAD", "sh", "-c", "(sleep 0.2; :); sleep 0.3; exit 3")
FILES = (
    "/proc/*/io", "/proc/*/status", "/proc/*/schedstat", "/proc/*/smaps_rollup", "/proc/*/children", "/proc/*/task",
    "/proc/stat", "/proc/meminfo", "/proc/loadavg", "/proc/diskstats", "/proc/self/*", "/sys/*",
)  # fmt: skip
# no EINTR: Python tries again (PEP 475)
NUMBERS = (errno.ENOMEM, errno.EIO, errno.EFAULT, errno.ENOTCONN, errno.EOPNOTSUPP, errno.ESTALE)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    return preload(tmp_path_factory.mktemp("refuse"), REFUSE_C)


def refusing(library: str, path: str, number: int) -> dict[str, str]:
    return dict(os.environ, LD_PRELOAD=library, REFUSED_PATH=path, REFUSED_ERRNO=str(number))


def summary_of(record: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(record.read_text().splitlines()[-1])
    assert found["type"] == "summary"
    return found


def check(done: subprocess.CompletedProcess[str], status: int) -> None:
    assert done.returncode == status, done.stderr
    assert "fault" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("place", "path"), list(enumerate(FILES)), ids=FILES)
def test_run_with_a_refused_file(tmp_path: Path, library: str, place: int, path: str) -> None:
    record = tmp_path / "record"
    environment = refusing(library, path, NUMBERS[place % len(NUMBERS)])
    check(proctally("run", "-i", "0.2", "-o", str(record), "--", *JOB, env=environment), 3)
    summary = summary_of(record)
    assert summary["cpu"]["total_seconds"] > 0
    assert "tracking_failed" not in [gap["code"] for gap in summary["gaps"]]


def test_run_whose_root_cannot_be_read_has_a_whole_record(tmp_path: Path, library: str) -> None:
    record = tmp_path / "record"
    environment = refusing(library, "/proc/[0-9]*/stat", errno.ENOMEM)
    check(proctally("run", "-i", "0.2", "-o", str(record), "--", *JOB, env=environment), 3)
    assert json.loads(record.read_text().splitlines()[0])["type"] == "run"
    assert summary_of(record)["cpu"]["total_seconds"] > 0


def test_child_is_found_where_no_children_file_can_be_read(tmp_path: Path, library: str) -> None:
    record = tmp_path / "record"
    environment = refusing(library, "/proc/*/children", errno.ENOMEM)
    job = ("env", "-u", "LD_PRELOAD", "sh", "-c", "sleep 0.8; exit 3")
    check(proctally("run", "-i", "0.2", "-o", str(record), "--", *job, env=environment), 3)
    assert summary_of(record)["processes"]["peak"] == 2


@pytest.mark.parametrize("path", FILES[:7])
def test_attach_with_a_refused_file(tmp_path: Path, library: str, path: str) -> None:
    with subprocess.Popen(["sleep", "30"]) as target:
        record = tmp_path / "record"
        arguments = ("attach", "-i", "0.2", "--duration", "0.5", "-o", str(record), str(target.pid))
        done = proctally(*arguments, env=refusing(library, path, errno.ENOMEM))
        target.kill()
    check(done, 0)
    assert summary_of(record)["verdict"] == "ended"


LIBRARY = """
import json, os, sys, proctally
from proctally import Tree
with Tree(os.getpid()) as tree, proctally.track(record=False, interval=0.1) as run:
    sum(range(3_000_000))
    sample = tree.sample()
    sum(range(3_000_000))
    used = tree.sample().cpu_seconds
gaps = {gap["code"] for gap in run.summary.as_dict()["gaps"] if gap["section"] == "memory"}
print(json.dumps([sample.rss_bytes, used > 0.01, run.missing, run.summary.cpu.total_seconds > 0.02, sorted(gaps)]))
"""


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EIO])
@pytest.mark.parametrize("command", ["run", "attach"])
def test_refused_stat_of_the_root_is_a_gap(tmp_path: Path, library: str, command: str, number: int) -> None:
    """A security module refuses it; a busy child can be read."""
    job = "env -u LD_PRELOAD sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done' & wait; exit 3"
    record = tmp_path / "record"
    options = ("-i", "0.1", "-o", str(record))
    if command == "run":
        environment = refusing(library, "/proc/[0-9]*/stat", number)
        done = proctally("run", *options, "--", "sh", "-c", job, env=environment)
    else:
        with subprocess.Popen(["sh", "-c", job]) as target:
            environment = refusing(library, f"/proc/{target.pid}/stat", number)
            done = proctally("attach", *options, str(target.pid), env=environment)
    check(done, 3 if command == "run" else 0)
    summary = summary_of(record)
    assert "hidden" in [gap["code"] for gap in summary["gaps"] if gap["section"] == "memory"]
    assert summary["cpu"]["total_seconds"] > 0.05


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_refused_stat_of_a_program_costs_it_alone(library: str, number: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIBRARY],
        env=refusing(library, "/proc/[0-9]*/stat", number), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert json.loads(done.stdout) == [None, True, [], True, ["hidden", "last_moments"]], done.stderr


def test_attach_to_a_process_that_cannot_be_read(library: str) -> None:
    with subprocess.Popen(["sleep", "30"]) as target:
        done = proctally("attach", str(target.pid), env=refusing(library, f"/proc/{target.pid}/*", errno.EIO))
        target.kill()
    assert (done.returncode, done.stderr) == (1, f"proctally: process {target.pid}: Input/output error\n")


def test_system_with_a_refused_file(library: str) -> None:
    environment = refusing(library, "/proc/*/status", errno.EFAULT)
    check(proctally("system", "-i", "0.2", "--duration", "0.5", "-o", os.devnull, env=environment), 0)


# -- another form ----------------------------------------------------------------------------------------------------

IO_OF_GVISOR = "char: 10\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n"


@pytest.fixture
def unshared(tmp_path: Path) -> Iterator[Path]:
    """Return a file that is bound over `io` in a mount namespace."""
    probe = ["unshare", "-m", "true"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("no new mount namespace for this user")
    path = tmp_path / "io"
    path.write_text(IO_OF_GVISOR)
    yield path


def bound(source: Path, target: str, *command: str) -> subprocess.CompletedProcess[str]:
    return mounted(f"mount --bind {source} {target}", *command)


def mounted(mounts: str, *command: str) -> subprocess.CompletedProcess[str]:
    script = f'mount --make-rprivate / && {mounts} && exec "$0" "$@"'
    words = ["unshare", "-m", "sh", "-c", script, sys.executable, "-m", "proctally", *command]
    return subprocess.run(words, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("text", [IO_OF_GVISOR, "rchar: N/A\n", "rchar: 10\nwchar: 1", ""])
def test_run_with_own_io_of_another_form(tmp_path: Path, unshared: Path, text: str) -> None:
    unshared.write_text(text)
    record = tmp_path / "record"
    check(bound(unshared, "/proc/$$/io", "run", "-o", str(record), "--", "sh", "-c", "exit 3"), 3)
    summary = summary_of(record)
    assert summary["io"]["coverage"] != "complete"


def test_attach_to_a_process_with_io_of_another_form(tmp_path: Path, unshared: Path) -> None:
    with subprocess.Popen(["sleep", "30"]) as target:
        record = tmp_path / "record"
        arguments = ("-i", "0.2", "--duration", "0.5", "-o", str(record), str(target.pid))
        done = bound(unshared, f"/proc/{target.pid}/io", "attach", *arguments)
        target.kill()
    check(done, 0)
    summary = summary_of(record)
    assert (summary["io"]["read_bytes"], summary["io"]["coverage"]) == (None, "unknown")
    assert summary["cpu"]["total_seconds"] is not None


NAMES = ("/proc/stat", "/proc/meminfo", "/proc/loadavg", "/proc/sys/kernel/perf_event_paranoid")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["fifo", "endless"])
def test_run_with_a_mount_that_is_no_file(tmp_path: Path, unshared: Path, kind: str, name: str) -> None:
    source = Path("/dev/zero")
    if kind == "fifo":
        source = tmp_path / "fifo"
        os.mkfifo(source)
    check(bound(source, name, "run", "-q", "--no-record", "--", "sh", "-c", "exit 3"), 3)


SYS_OF_FIFOS = """
names=$(find /sys/devices/system/cpu/online /sys/devices/system/node /sys/kernel/mm /sys/fs/cgroup -maxdepth 4 -type f)
mount -t tmpfs none /sys && echo "$names" | sed 's,/[^/]*$,,' | sort -u | xargs mkdir -p && echo "$names" | xargs mkfifo
"""


@pytest.mark.parametrize("options", [(), ("--source", "procfs"), ("--cgroup",)])
def test_run_with_fifos_for_the_files_of_sys(unshared: Path, options: tuple[str, ...]) -> None:
    job = ("sh", "-c", "sleep 0.2; exit 3")
    check(mounted(SYS_OF_FIFOS.strip(), "run", "-q", "--no-record", "-i", "0.1", *options, "--", *job), 3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("command", ["attach", "system", "serve"])
def test_other_commands_with_a_fifo_for_a_file(tmp_path: Path, unshared: Path, command: str, name: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    options = {"attach": (str(os.getpid()),), "serve": ("--listen", "127.0.0.1:0")}.get(command, ())
    output = () if command == "serve" else ("--output", os.devnull)
    check(bound(fifo, name, command, "-q", "-i", "0.1", "--duration", "0.2", *output, *options), 0)
