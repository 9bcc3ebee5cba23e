"""One process of a made-up host."""

from __future__ import annotations

from pathlib import Path

import pytest

import proctally
from fakeroot import FakeHost
from process_functions import FUNCTIONS
from proctally import process
from proctally.linux import proc_details, terminals
from proctally.linux.machine import Machine

CONTRACT = frozenset(
    {"cpu_time", "cpu_time_with_children", "rss_bytes", "virtual_bytes", "pss_bytes", "uss_bytes", "swap_bytes"}
    | {"disk_io", "all_stats", "liveness", "children", "parent", "command_name", "executable", "command_line"}
    | {"environment", "terminal", "start_time", "threads", "open_files", "limits", "cgroup"}
)


# -- all of them -----------------------------------------------------------------------------------------------------


def test_the_names_are_those_of_the_contract() -> None:
    assert FUNCTIONS.keys() >= CONTRACT


def test_errors_are_those_of_the_system() -> None:
    assert issubclass(proctally.ProcessGone, ProcessLookupError)
    assert issubclass(proctally.AccessDenied, PermissionError)


# -- a terminal ------------------------------------------------------------------------------------------------------


DRIVERS = b"""\
/dev/tty             /dev/tty        5       0 system:/dev/tty
/dev/console         /dev/console    5       1 system:console
/dev/ptmx            /dev/ptmx       5       2 system
/dev/vc/0            /dev/vc/0       4       0 system:vtmaster
serial               /dev/ttyS       4 64-95 serial
hvc                  /dev/hvc      229 0-7 system
one                  /dev/ttyX      99       3 serial
pty_slave            /dev/pts      136 0-1048575 pty:slave
pty_master           /dev/ptm      128 0-1048575 pty:master
unknown              /dev/tty        4 1-63 console
"""


@pytest.mark.parametrize(
    ("major", "minor", "name"),
    [(4, 1, "/dev/tty1"), (4, 63, "/dev/tty63"), (4, 64, "/dev/ttyS0"), (4, 66, "/dev/ttyS2")]
    + [(99, 3, "/dev/ttyX0"), (5, 1, "/dev/console"), (4, 96, None), (7, 0, None)],
)
def test_a_terminal_by_its_driver(major: int, minor: int, name: str | None) -> None:
    assert terminals.name_by_drivers(DRIVERS, major, minor) == name


def test_numbers_of_terminals(tmp_path: Path) -> None:
    machine = Machine(str(tmp_path / "proc"), sys=str(tmp_path / "sys"))
    (tmp_path / "proc/tty").mkdir(parents=True)
    assert terminals.terminal_name(machine, 0) is None
    assert terminals.terminal_name(machine, (136 << 8) | 5) == "/dev/pts/5"
    assert terminals.terminal_name(machine, (136 << 8) | 0x2C | (0x101 << 20)) == f"/dev/pts/{0x1012C}"
    assert terminals.terminal_name(machine, (137 << 8) | 1) == "/dev/pts/257"
    assert terminals.terminal_name(machine, (4 << 8) | 65) == "4:65"  # nobody knows its name
    (tmp_path / "proc/tty/drivers").write_bytes(DRIVERS)
    assert terminals.terminal_name(machine, (4 << 8) | 65) == "/dev/ttyS1"
    folder = tmp_path / "sys/dev/char/4:65"
    folder.mkdir(parents=True)
    (folder / "uevent").write_text("MAJOR=4\nMINOR=65\nDEVNAME=tty/S1\n")
    assert terminals.terminal_name(machine, (4 << 8) | 65) == "/dev/tty/S1"


# -- ends ------------------------------------------------------------------------------------------------------------


def test_a_pid_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, 1, pages=5)
    host.run(100, user=0.25, pages=5)
    machine = host.machine()
    start = process.liveness(100, machine=machine).start_ticks
    assert process.cpu_time(100, start_ticks=start, machine=machine) == pytest.approx(250_000_000, abs=1000)
    host.end(100)
    with pytest.raises(proctally.ProcessGone):
        process.cpu_time(100, start_ticks=start, machine=machine)
    host.spawn(100, 1, pages=7)
    assert process.liveness(100, start_ticks=start, machine=machine).is_same is False
    for function in (process.cpu_time, process.cpu_time_with_children, process.all_stats, process.parent):
        function(100, machine=machine)
        with pytest.raises(proctally.ProcessGone):
            function(100, start_ticks=start, machine=machine)


@pytest.mark.parametrize("moment", ["100/clock", "100/io", "100/status"])
def test_readings_of_two_processes_are_never_put_together(tmp_path: Path, moment: str) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, 1)
    host.run(100, user=0.25, pages=5)

    def reuse() -> None:
        host.end(100)
        host.spawn(100, 1)

    host.once(moment, reuse)
    with pytest.raises(proctally.ProcessGone):
        process.all_stats(100, machine=host.machine())
    assert process.all_stats(100, machine=host.machine()).cpu_ns < 1000  # the new one
    host.run(100, user=0.5)
    host.once("100/clock", reuse)
    with pytest.raises(proctally.ProcessGone):
        process.cpu_time_with_children(100, machine=host.machine())


def test_a_process_that_is_just_being_reaped_is_gone(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, 1)
    host.exit(100)
    host.set_state(1, "S")
    assert process.liveness(100, machine=host.machine()).state == "Z"
    host.processes[100].state = "X"
    host.write(host.processes[100])
    for function in (process.liveness, process.parent, process.cpu_time_with_children, process.all_stats):
        with pytest.raises(proctally.ProcessGone):
            function(100, machine=host.machine())


def test_children_without_children_files(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, children_files=False)
    host.spawn(100, 1)
    host.spawn(101, 100)
    host.spawn(102, 100)
    host.spawn(103, 101)
    assert sorted(process.children(100, machine=host.machine())) == [101, 102]
    assert process.children(103, machine=host.machine()) == []


# -- odd ones --------------------------------------------------------------------------------------------------------


def test_parsers_of_arguments_and_variables() -> None:
    assert proc_details.parse_arguments(b"") == []
    assert proc_details.parse_arguments(b"a\0\0b\0") == ["a", "", "b"]
    assert proc_details.parse_arguments(b"nginx: worker process") == ["nginx: worker process"]
    assert proc_details.parse_environment(b"A=1\0B=2=3\0no\0A=4\0=x\0") == {"A": "1", "B": "2=3", "": "x"}


def test_unknown_is_none_where_a_kernel_lacks_smaps_rollup(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    process_ = host.spawn(100, 1, pages=10)
    (process_.folder / "statm").write_bytes(b"10 5 0 0 0 0 0\n")
    (process_.folder / "smaps_rollup").unlink()
    assert process.pss_bytes(100, machine=host.machine()) is None
    assert process.rss_bytes(100, machine=host.machine()) == 5 * 4096


def test_what_is_shared_and_what_is_its_own(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    lines = "Rss: 9 kB\nPss: 7 kB\nPss_Dirty: 6 kB\nShared_Clean: 64 kB\nPrivate_Clean: 1 kB\nPrivate_Dirty: 2 kB\n"
    (host.spawn(100, 1).folder / "smaps_rollup").write_text(lines + "Private_Hugetlb: 4 kB\nSwap: 128 kB\n")
    machine = host.machine()
    assert (process.pss_bytes(100, machine=machine), process.uss_bytes(100, machine=machine)) == (7 << 10, 7 << 10)
    (host.processes[100].folder / "smaps_rollup").write_text(lines)
    assert (process.pss_bytes(100, machine=machine), process.uss_bytes(100, machine=machine)) == (7 << 10, 3 << 10)


def test_an_exec_in_between_does_not_make_memory_vanish(tmp_path: Path) -> None:
    """The address space that was opened is gone (ESRCH), and there is another."""
    host = FakeHost(tmp_path)
    host.spawn(100, 1, pages=3)

    def replaced() -> None:
        raise proctally.ProcessGone(3, "No such process")

    host.once("100/smaps_rollup", replaced)
    assert process.pss_bytes(100, machine=host.machine()) == 3 * 4096


def test_memory_of_another_users_process_without_its_main_thread_is_denied(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, 1, threads=2, pages=3)
    host.end_leader(100)
    host.deny("100/smaps_rollup")
    assert process.pss_bytes(100, machine=host.machine()) == 3 * 4096
    host.deny("100/task/10001/smaps_rollup")
    with pytest.raises(proctally.AccessDenied):
        process.pss_bytes(100, machine=host.machine())


def test_broken_files_are_told() -> None:
    for parse, data in (
        (proc_details.parse_statm, b"1 x"),
        (proc_details.parse_statm, b""),
        (lambda data: proc_details.parse_smaps(data, b"Pss"), b"Pss: many kB"),
    ):
        with pytest.raises(ValueError):
            parse(data)
    assert proc_details.parse_smaps(b"Pss:  3 kB\nPss_Anon: 1 kB\nPrivate_Clean: 2 kB\n", b"Pss") == 3072
    assert proc_details.parse_smaps(b"Rss: 3 kB\n", b"Pss") is None


# -- a kernel without some files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["io", "limits"])
def test_a_file_that_the_kernel_lacks_does_not_end_a_process(tmp_path: Path, name: str) -> None:
    host = FakeHost(tmp_path)
    host.spawn(100, 1)
    (host.processes[100].folder / name).unlink(missing_ok=True)
    function = {"io": process.disk_io, "limits": process.limits}[name]
    with pytest.raises(FileNotFoundError, match="this kernel has no such file"):
        function(100, machine=host.machine())
    assert process.all_stats(100, machine=host.machine()).pid == 100
    if name == "io":
        assert process.all_stats(100, machine=host.machine()).disk_io is None
    with pytest.raises(proctally.ProcessGone):
        function(200, machine=host.machine())


# -- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "name", "meant"),
    [
        ("process", "rss_byte", "rss_bytes"), ("process", "rss", "rss_bytes"), ("process", "cpu_tme", "cpu_time"),
        ("processes", "snapshot_tre", "snapshot_tree"), ("system", "stat", "stats"), ("gauges", "Guages", "Gauges"),
    ],
)  # fmt: skip
def test_misspelt_name_has_the_nearest(module: str, name: str, meant: str) -> None:
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'; did you mean {meant}\\?"):
        getattr(getattr(proctally, module), name)


@pytest.mark.parametrize("name", ["frobnicate", "_pss_bytes", "__path__"])
def test_unlike_name_has_no_suggestion(name: str) -> None:
    assert not hasattr(process, name)
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'$"):
        getattr(process, name)
