"""The whole machine: parsers against literals and any bytes, two captured machines, and this one by a second truth."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import bighost
from captured import machine_in, put, unpack
from proctally.kernel.disks import parse_diskstats
from proctally.kernel.machine import Machine
from proctally.kernel.mounts import parse_mounts, parse_zpool_list
from proctally.kernel.net import parse_net_dev
from proctally.kernel.sources import GrowingSum, KeptFile
from proctally.kernel.system import (
    Cpu,
    ProcessCounter,
    SystemReader,
    core_ratios,
    derive,
    derive_cpu,
    derive_memory,
    parse_loadavg,
    parse_meminfo,
    parse_pressure,
    parse_stat,
)
from proctally.record import encode

patient = settings(deadline=None)

PARSERS: dict[str, Callable[[bytes], object]] = {
    "stat": parse_stat,
    "meminfo": parse_meminfo,
    "loadavg": parse_loadavg,
    "pressure/cpu": parse_pressure,
    "diskstats": parse_diskstats,
    "net/dev": parse_net_dev,
    "self/mountinfo": parse_mounts,
}
MIB = 1 << 20


def real(name: str) -> bytes:
    """A file of this machine, to its end."""
    return Machine().read(name, to_end=True) if os.path.exists(f"/proc/{name}") else b""


# -- parsers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARSERS)
def test_any_bytes_parse_or_raise_valueerror(name: str) -> None:
    parse, text = PARSERS[name], real(name)

    @patient
    @given(st.binary(max_size=300), st.integers(0, len(text)), st.integers(0, 40))
    @example(b"cpu999999999999 1 2 3 4\n", 0, 0)
    @example(b"cpu  1 2 3\n", 0, 0)
    def check(noise: bytes, at: int, cut: int) -> None:
        for data in (noise, text[:at], text[:at] + noise + text[at + cut :], text[at:]):
            try:
                parse(data)
            except ValueError as error:
                assert str(error)

    check()


@given(st.binary(max_size=60))
def test_any_answer_of_zpool(data: bytes) -> None:
    try:
        parse_zpool_list(data)
    except ValueError as error:
        assert str(error).startswith("zpool: ")


def test_every_file_of_this_machine_is_understood() -> None:
    for name, parse in PARSERS.items():
        if data := real(name):
            assert parse(data)


WORDS = [
    *(b"9" * digits for digits in (19, 20, 25, 320, 4000, 5000)),
    b"-9",
    b"nan",
    b"",
    b"\\0",
    b"\0",
    b"\xff",
    b"\n",
    b":",
]
WORDS += [b"\\000", b"0:9", b"total=", b"/"]


@pytest.mark.parametrize("name", PARSERS)
def test_a_sample_of_any_words_is_strict_json(tmp_path: Path, name: str) -> None:
    """Whatever stands in a file: a container's runtime may mount its own over the kernel's."""
    machine, clock = unpack("server", tmp_path)
    words = (tmp_path / "proc" / name).read_bytes().split(b" ")
    places = st.lists(st.tuples(st.integers(0, len(words) - 1), st.sampled_from(WORDS)), max_size=3)

    @patient
    @given(st.lists(places, min_size=2, max_size=3))
    def check(moments: list[list[tuple[int, bytes]]]) -> None:
        reader = SystemReader(machine)
        before = None
        for changes in moments:
            data = words.copy()
            for place, word in changes:
                data[place] = word
            put(tmp_path, f"proc/{name}", b" ".join(data))
            clock.advance(1.0)
            now = reader.read()
            encode(derive(before, now))
            before = now
        reader.close()

    check()


def test_stat_of_an_old_kernel_has_fewer_times() -> None:
    cpu = parse_stat(b"cpu  1 2 3 4\ncpu0 1 2 3 4\nctxt 7\n")
    assert cpu.all == cpu.cores[0] == (1, 2, 3, 4, 0, 0, 0, 0)
    assert (cpu.context_switches, cpu.forks, cpu.running) == (7, None, None)


def test_broken_known_values_raise_with_their_text() -> None:
    for parse, data, text in (
        (parse_stat, b"cpu  1 2 x 4\n", "1 2 x 4"),
        (parse_stat, b"cpu  1 2 3 4\nctxt many\n", "ctxt many"),
        (parse_stat, b"cpu  1 2 3 -4\n", "-4"),
        (parse_stat, b"cpu  1 2 3 18446744073709551616\n", "616"),
        (parse_meminfo, b"MemTotal: 18446744073709551616 kB\n", "616"),
        (parse_pressure, b"some total=18446744073709551616\n", "616"),
        (parse_loadavg, b"0.1 0.2 99999999999999999999.0 1/2 3\n", "99999"),
        (parse_loadavg, b"0.1 0.2 0.3 1/18446744073709551616 3\n", "616"),
        (parse_meminfo, b"MemTotal: lots kB\n", "MemTotal: lots"),
        (parse_pressure, b"some avg10=0.00\n", "some avg10"),
        (parse_loadavg, b"0.1 nan 0.3 1/2 3\n", "nan"),
        (parse_net_dev, b"eth0: 1 2 3\n", "eth0"),
        (parse_diskstats, b" 8 0 sda 1 2\n", "sda"),
        (parse_mounts, b"21 28 0:20 / /proc rw\n", "/proc"),
    ):
        with pytest.raises(ValueError, match=text):
            parse(data)


# -- CPU ---------------------------------------------------------------------------------------------------------


def cpu(*cores: tuple[int, ...], numbers: tuple[int, ...] | None = None) -> Cpu:
    made = Cpu()
    made.cores = dict(zip(numbers or range(len(cores)), cores, strict=True))
    made.all = tuple(map(sum, zip(*cores, strict=True)))
    return made


def test_busy_cores_leave_out_idle_and_waiting_for_storage() -> None:
    before = cpu((0,) * 8, (0,) * 8)
    now = cpu((10, 5, 5, 50, 10, 5, 5, 10), (0, 0, 0, 100, 0, 0, 0, 0))
    derived = derive_cpu(before, now, 100)
    assert derived["cpu_cores"] == pytest.approx((200 - 160) / 200 * 2)
    assert derived["per_core_ratio"] == [0.4, 0.0]
    assert derived["cpu_user_seconds"] == 0.15
    assert derived["cpu_system_seconds"] == 0.05
    assert derived["cpu_iowait_seconds"] == 0.1
    assert derived["cpu_irq_seconds"] == derived["cpu_softirq_seconds"] == 0.05
    assert derived["cpu_steal_seconds"] == 0.1


def test_no_time_passed_is_no_load() -> None:
    same = cpu((1, 2, 3, 4, 5, 6, 7, 8))
    assert derive_cpu(same, same, 100)["cpu_cores"] == 0.0
    assert core_ratios(same, same) == [0.0]


def test_counters_that_run_backwards_make_no_negative_load() -> None:
    for earlier, later in (
        ((0, 0, 0, 100, 50, 0, 0, 0), (10, 0, 0, 120, 0, 0, 0, 0)),  # nothing grew in total
        ((50, 0, 0, 100, 0, 0, 0, 0), (0, 0, 0, 160, 0, 0, 0, 0)),  # idle time grew by more than all time
    ):
        before, now = cpu(earlier), cpu(later)
        assert derive_cpu(before, now, 100)["cpu_cores"] == 0.0
        assert core_ratios(before, now) == [0.0]


def test_busy_cores_are_not_clamped_at_their_number() -> None:
    """The line of all cores is not always the sum of theirs: here more was busy than the one that is left."""
    before, now = cpu((0,) * 8, (0,) * 8), cpu((100, 0, 0, 0, 0, 0, 0, 0))
    now.cores[1] = (90, 0, 0, 10, 0, 0, 0, 0)
    assert derive_cpu(before, now, 100)["cpu_cores"] == 2.0
    assert core_ratios(before, now) == [1.0, 0.9]


def test_cores_are_paired_by_number() -> None:
    idle, busy = (0, 0, 0, 100, 0, 0, 0, 0), (100, 0, 0, 100, 0, 0, 0, 0)
    before = cpu(idle, idle, idle, numbers=(0, 1, 3))
    now = cpu(idle, busy, idle, numbers=(0, 3, 4))
    assert core_ratios(before, now) == [0.0, None, None, 1.0, None]


def test_without_stat_the_names_stay() -> None:
    names = derive_cpu(None, cpu((1,) * 8), 100).keys()
    assert derive_cpu(None, None, 100) == dict.fromkeys(names)


# -- a captured server -------------------------------------------------------------------------------------------


def fixed_size(_: str) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, 1000, 500, 400, 10, 5, 5, 0, 255))


def test_server(tmp_path: Path) -> None:
    machine, clock = unpack("server", tmp_path)
    reader = SystemReader(machine, statvfs=fixed_size)
    before = reader.read()
    assert before.troubles == {}
    first = derive(None, before)
    assert first["cpus"] == 2
    assert first["cpu_cores"] is first["per_core_ratio"] is None
    assert first["cpu_user_seconds"] == 12.0
    assert (first["context_switches"], first["forks"]) == (1000000, 5000)
    assert (first["processes_running"], first["processes_blocked"]) == (3, 1)
    assert (first["process_count"], first["thread_count"]) == (3, 512)
    assert (first["load_1"], first["load_5"], first["load_15"]) == (0.52, 1.25, 2.0)
    assert first["pressure"] == {
        "cpu_some_seconds": 2.5,
        "memory_some_seconds": 1.5,
        "memory_full_seconds": 1.0,
        "io_some_seconds": 4.0,
        "io_full_seconds": 3.0,
    }
    kib = 1024
    assert first["memory"] == {
        "total_bytes": 16000000 * kib,
        "free_bytes": 1000000 * kib,
        "available_bytes": 9000000 * kib,
        "used_bytes": (16000000 - 1000000 - 500000 - 6400000) * kib,
        "buffers_bytes": 500000 * kib,
        "cached_bytes": 6400000 * kib,
        "active_bytes": 4000000 * kib,
        "inactive_bytes": 3000000 * kib,
        "swap_total_bytes": 2000000 * kib,
        "swap_free_bytes": 1500000 * kib,
        "swap_used_bytes": 500000 * kib,
        "hugepages_total": 16,
        "hugepages_free": 12,
        "hugepage_bytes": 2048 * kib,
    }
    clock.advance(2.0)
    put(tmp_path, "proc/stat", "cpu  1400 200 300 4000 500 60 70 80\ncpu0 1000 100 150 2000 250 30 35 40\nctxt 1\n")
    second = derive(before, reader.read())
    assert second["cpu_cores"] == 1.0  # one core line is left, and all that passed was user time
    assert second["per_core_ratio"] == [1.0]
    assert second["context_switches"] == 1


def test_container(tmp_path: Path) -> None:
    machine, _ = unpack("container", tmp_path)
    reading = SystemReader(machine, statvfs=fixed_size).read()
    section = derive(None, reading)
    assert section["pressure"] is None
    assert sorted(reading.troubles) == ["pressure/cpu", "pressure/io", "pressure/memory"]
    memory = section["memory"]
    assert isinstance(memory, dict)
    assert memory["free_bytes"] == 256000 * 1024
    assert memory["used_bytes"] is memory["cached_bytes"] is memory["swap_used_bytes"] is None
    assert section["process_count"] == 2


def test_an_empty_root_gives_nothing_and_raises_nothing(tmp_path: Path) -> None:
    machine, clock = machine_in(tmp_path)
    reader = SystemReader(machine)
    first = reader.read()
    clock.advance(1.0)
    section = derive(first, reader.read())
    assert section.pop("process_count") == 0
    disk = section.pop("disk")
    assert isinstance(disk, dict)
    assert set(disk.values()) == {None}
    assert section.pop("disks") == []
    assert set(section.values()) == {None}
    assert len(first.troubles) == 9


@pytest.mark.parametrize(
    "path", ["stat", "meminfo", "loadavg", "pressure/io", "diskstats", "self/mountinfo", "net/dev"]
)
def test_one_broken_file_spoils_only_its_own_part(tmp_path: Path, path: str) -> None:
    machine, _ = unpack("server", tmp_path)
    whole = derive(None, SystemReader(machine, statvfs=fixed_size).read())
    put(tmp_path, f"proc/{path}", "cpu\nMemTotal: x\nsome x\neth0: y\n")
    reading = SystemReader(machine, statvfs=fixed_size).read()
    assert list(reading.troubles) == [path]
    section = derive(None, reading)
    assert section.keys() == whole.keys()
    lost = {name for name in whole if section[name] != whole[name]}
    assert lost
    assert (
        lost
        <= {
            "stat": set(derive_cpu(None, None, 100)),
            "meminfo": {"memory"},
            "loadavg": {"load_1", "load_5", "load_15", "thread_count"},
            "pressure/io": {"pressure"},
            "diskstats": {"disk", "disks"},
            "self/mountinfo": {"disk", "disks"},
            "net/dev": {"network", "interfaces"},
        }[path]
    )


def test_a_file_that_comes_back_is_read_again(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    stat = tmp_path / "proc/stat"
    text = stat.read_bytes()
    stat.unlink()
    reader = SystemReader(machine, statvfs=fixed_size)
    assert reader.read().cpu is None
    stat.write_bytes(text)
    assert reader.read().cpu is not None
    reader.close()
    assert reader.read().cpu is not None


def test_files_stay_open_and_are_given_up(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    reader = SystemReader(machine, statvfs=fixed_size)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        reader.read()
    assert len(os.listdir("/proc/self/fd")) == before + 9
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_files_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    bighost.build(tmp_path, cores=600, disks=200, interfaces=300)
    machine, clock = machine_in(tmp_path)
    reader = SystemReader(machine, statvfs=fixed_size)
    before = reader.read()
    clock.advance(1.0)
    bighost.step(tmp_path, 1, cores=600, disks=200, interfaces=300)
    section = derive(before, reader.read())
    assert section["cpus"] == 600
    assert section["cpu_cores"] == pytest.approx(300.0)
    assert section["per_core_ratio"] == [0.5] * 600
    for name, count in (("disks", 200), ("interfaces", 300)):
        listed = section[name]
        assert isinstance(listed, list)
        assert len(listed) == count
    disk, network = section["disk"], section["network"]
    assert isinstance(disk, dict)
    assert isinstance(network, dict)
    assert disk["read_bytes_per_second"] == 200 * 8 * 512
    assert network["received_bytes_per_second"] == 150 * 100_000
    assert network["sent_bytes_per_second"] == 150 * 50_000


def test_a_reading_says_that_devices_changed(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    reader = SystemReader(machine, statvfs=fixed_size)
    versions = [reader.read().version, reader.read().version]
    for path, gone in (("net/dev", b"  ifb0:"), ("diskstats", b"   8      32 sdc")):
        lines = (tmp_path / "proc" / path).read_bytes().splitlines(keepends=True)
        put(tmp_path, f"proc/{path}", b"".join(each for each in lines if not each.startswith(gone)))
        versions += [reader.read().version, reader.read().version]
    assert versions[::2] == versions[1::2] == sorted(set(versions))


@pytest.mark.skipif(not os.access("/proc/kallsyms", os.R_OK), reason="no symbols of the kernel")
def test_files_of_many_records_are_read_to_their_end() -> None:
    """The kernel gives a page of them at a time, whatever it is asked for."""
    file = KeptFile(Machine(), "kallsyms", records=True)
    whole = Path("/proc/kallsyms").read_bytes()
    assert len(whole) > 1 << 16
    assert file.read() == file.read() == whole
    file.close()


def test_two_readings_at_once_are_a_millisecond_apart(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    reader = SystemReader(machine, statvfs=fixed_size)
    before = reader.read()
    put(tmp_path, "proc/net/dev", (tmp_path / "proc/net/dev").read_bytes().replace(b"eth0: 1000", b"eth0: 1007"))
    section = derive(before, reader.read())
    assert section["network"]["received_bytes_per_second"] == 7000.0  # type: ignore[index]
    assert section["disk"]["read_bytes_per_second"] == 0.0  # type: ignore[index]


class CountingMachine(Machine):
    """Knows how often a file was opened."""

    opened = 0

    def open(self, path: str) -> int:
        self.opened += 1
        return super().open(path)

    def read_sys(self, path: str) -> bytes:
        self.opened += 1
        return super().read_sys(path)


def test_a_sample_of_a_large_machine_opens_next_to_nothing(tmp_path: Path) -> None:
    bighost.build(tmp_path, cores=16)
    machine = CountingMachine(str(tmp_path / "proc"), sys=str(tmp_path / "sys"))
    reader = SystemReader(machine, statvfs=fixed_size)
    version = reader.read().version
    first, machine.opened = machine.opened, 0
    assert first > 1000
    for number in range(1, 11):
        bighost.step(tmp_path, number, cores=16)
        assert reader.read().version == version
    assert machine.opened <= 10 * 5


# -- sums over devices that come and go --------------------------------------------------------------------------

device_names = st.sampled_from(["a", "b", "c"])
moments = st.lists(st.dictionaries(device_names, st.tuples(st.integers(0, 100), st.integers(0, 100))), max_size=8)


@given(moments)
def test_a_sum_never_falls_and_never_exceeds_what_was_counted(moments: list[dict[str, tuple[int, int]]]) -> None:
    growing = GrowingSum(2)
    last = (0, 0)
    most = 0
    for counters in moments:
        most += sum(values[0] for values in counters.values())
        totals = growing.update(counters, counters)
        assert all(now >= before for now, before in zip(totals, last, strict=True))
        assert totals[0] <= most
        last = (totals[0], totals[1])


def test_a_sum_over_what_comes_goes_and_is_reset() -> None:
    growing = GrowingSum(1)
    assert growing.update({"a": (100,), "b": (5,)}, "ab") == (105,)
    assert growing.update({"a": (110,), "b": (6,), "c": (1000,)}, "abc") == (116,)  # c may have counted elsewhere
    assert growing.update({"b": (7,), "c": (1001,)}, "abc") == (118,)  # a is gone, what it counted is not
    assert growing.update({"a": (3,), "b": (2,), "c": (1001,)}, "abc") == (118,)  # a is back, b began anew
    assert growing.update({"a": (4,), "b": (3,), "c": (1001,)}, "abc") == (120,)


# -- processes ---------------------------------------------------------------------------------------------------


def test_processes_of_this_machine_are_counted_with_and_without_listing() -> None:
    counter = ProcessCounter(Machine())

    def listed() -> int:
        return sum(map(str.isdecimal, os.listdir("/proc")))

    for _ in range(5):
        for _ in range(50):
            before, count, after = listed(), counter.read(), listed()
            if before == after:
                assert count == before
                break
        child = subprocess.Popen(["sleep", "9"])
        for _ in range(50):
            before, count, after = listed(), counter.read(), listed()
            if before == after:
                assert count == before
                break
        child.kill()
        child.wait()


def test_directories_of_modules_are_counted_out_again_after_a_minute(tmp_path: Path) -> None:
    machine, clock = machine_in(tmp_path)
    for name in ("1", "2", "sys", "self/ns"):
        (tmp_path / "proc" / name).mkdir(parents=True)
    os.symlink("pid:[4026531836]", tmp_path / "proc/self/ns/pid")
    counter = ProcessCounter(machine)
    assert counter.read() == 2
    (tmp_path / "proc/3").mkdir()
    assert counter.read() == 3  # by the link count of the directory alone
    (tmp_path / "proc/module").mkdir()
    assert counter.read() == 4
    clock.advance(60)
    assert counter.read() == 3


@pytest.mark.parametrize("missing", ["1", "self/ns/pid"])
def test_processes_are_listed_where_the_link_count_is_not_of_those_listed(tmp_path: Path, missing: str) -> None:
    """Another pid namespace, or hidden processes: init is then not seen."""
    machine, _ = machine_in(tmp_path)
    for name in ("1", "2", "self/ns"):
        (tmp_path / "proc" / name).mkdir(parents=True)
    os.symlink("pid:[4026531836]", tmp_path / "proc/self/ns/pid")
    path = tmp_path / "proc" / missing
    path.rmdir() if path.is_dir() else path.unlink()
    counter = ProcessCounter(machine)
    first = counter.read()
    (tmp_path / "proc/hidden").mkdir()
    assert counter.read() == first


# -- this machine by a second truth ------------------------------------------------------------------------------


C_LOCALE = {**os.environ, "LC_ALL": "C"}


def shown(*command: str) -> list[str]:
    """The lines that another program prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True, env=C_LOCALE).stdout.splitlines()


def agree(ours: Callable[[], dict[str, float | None]], theirs: Callable[[], dict[str, float]], drift: float) -> None:
    """Levels move while they are read: of many looks one has to be as near as that."""
    seen = []
    for _ in range(50):
        mine, truth = ours(), theirs()
        assert mine.keys() >= truth.keys()
        far = {name: (mine[name], value) for name, value in truth.items() if abs((mine[name] or 0) - value) > drift}
        if not far:
            return
        seen.append(far)
    raise AssertionError(seen[-3:])


def between(before: dict[str, object], truth: dict[str, float], after: dict[str, object]) -> None:
    """Counters only grow: what another program read between two readings lies between them."""
    for name, value in truth.items():
        low, high = before[name], after[name]
        assert isinstance(low, int | float)
        assert isinstance(high, int | float)
        assert low - 1e-6 <= value <= high + 1e-6, name


def memory_levels() -> dict[str, float | None]:
    memory = derive_memory(parse_meminfo(real("meminfo")))
    assert memory is not None
    return memory  # type: ignore[return-value]


@pytest.mark.skipif(shutil.which("free") is None, reason="no free")
def test_memory_against_free() -> None:
    """But for `used`, which newer ones define as what is not available."""

    def theirs() -> dict[str, float]:
        lines = shown("free", "-b", "-w")
        total, _, free, _, buffers, cache, available = map(int, lines[1].split()[1:])
        swap_total, swap_used, swap_free = map(int, lines[2].split()[1:])
        used = total - free - buffers - cache
        levels = {"total": total, "free": free, "buffers": buffers, "cached": cache, "available": available}
        levels |= {"used": used, "swap_total": swap_total, "swap_used": swap_used, "swap_free": swap_free}
        return {f"{name}_bytes": value for name, value in levels.items()}

    agree(memory_levels, theirs, 4 * MIB)
    assert memory_levels()["total_bytes"] == theirs()["total_bytes"]


def test_memory_against_psutil() -> None:
    def theirs() -> dict[str, float]:
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        names = ("total", "available", "free", "buffers", "cached", "active", "inactive")
        levels = {f"{name}_bytes": getattr(memory, name) for name in names}
        return levels | {f"swap_{name}_bytes": getattr(swap, name) for name in ("total", "used", "free")}

    agree(memory_levels, theirs, 4 * MIB)


def test_counters_against_psutil() -> None:
    reader = SystemReader(Machine())
    before = derive(None, reader.read())
    times, stats = psutil.cpu_times(), psutil.cpu_stats()
    truth = {
        "cpu_user_seconds": times.user + times.nice,
        "cpu_system_seconds": times.system,
        "cpu_irq_seconds": times.irq,
        "cpu_softirq_seconds": times.softirq,
        "cpu_steal_seconds": times.steal,
        "context_switches": stats.ctx_switches,
    }
    between(before, truth, derive(None, reader.read()))
    assert before["cpus"] == psutil.cpu_count()
    agree(
        lambda: {name: derive(None, reader.read())[name] for name in ("load_1", "load_5", "load_15", "process_count")},  # type: ignore[misc]
        lambda: (
            dict(zip(("load_1", "load_5", "load_15"), psutil.getloadavg(), strict=True))
            | {"process_count": len(psutil.pids())}
        ),
        0.01,
    )


@pytest.mark.skipif(shutil.which("vmstat") is None, reason="no vmstat")
def test_counters_against_vmstat() -> None:
    reader = SystemReader(Machine())
    before = derive(None, reader.read())
    said = {line.strip().partition(" ")[2]: int(line.split()[0]) for line in shown("vmstat", "-s")}
    user = said["non-nice user cpu ticks"] + said["nice user cpu ticks"]
    truth = {
        "forks": said["forks"],
        "context_switches": said["CPU context switches"],
        "cpu_user_seconds": user / os.sysconf("SC_CLK_TCK"),
        "cpu_system_seconds": said["system cpu ticks"] / os.sysconf("SC_CLK_TCK"),
    }
    between(before, truth, derive(None, reader.read()))


def test_a_busy_core_is_seen() -> None:
    reader = SystemReader(Machine())
    before = reader.read()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        pass
    section = derive(before, reader.read())
    busy, cores = section["cpu_cores"], section["cpus"]
    assert isinstance(busy, float)
    assert isinstance(cores, int)
    assert 0.3 < busy < cores + 0.5
    ratios = section["per_core_ratio"]
    assert isinstance(ratios, list)
    assert sum(ratios) == pytest.approx(busy, abs=0.3)


def test_names_hold_their_units() -> None:
    """As in the rest of the record: a number of bytes or seconds says so."""
    section = derive(None, SystemReader(Machine()).read())

    def names(value: object) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(names, value))
        if isinstance(value, dict):
            return set(value).union(*map(names, value.values()))
        return set()

    assert not {name for name in names(section) if name.endswith(("_kb", "_mib", "_pct", "_ms", "percent"))}
