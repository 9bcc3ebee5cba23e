"""System values derived from two readings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captured import machine_in, put, unpack
from proctally.host.derive import core_ratios, derive, derive_cpu, derive_memory
from proctally.linux.system import (
    Cpu,
    SystemReader,
    parse_meminfo,
)
from proctally.record.writer import encode
from system_files import PARSERS, fixed_size

patient = settings(deadline=None)


# -- parsers -----------------------------------------------------------------------------------------------------


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


# -- CPU ---------------------------------------------------------------------------------------------------------


def cpu(*cores: tuple[int, ...], numbers: tuple[int, ...] | None = None) -> Cpu:
    made = Cpu()
    made.cores = dict(zip(numbers or range(len(cores)), cores, strict=True))
    made.since_boot = made.all = tuple(map(sum, zip(*cores, strict=True)))
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


def test_times_that_stand_still_are_unknown_load() -> None:
    same = cpu((1, 2, 3, 4, 5, 6, 7, 8))
    assert derive_cpu(same, same, 100)["cpu_cores"] is None
    assert core_ratios(same, same, 100) == [None]


@pytest.mark.parametrize(
    ("earlier", "later", "ratio"),
    [
        ((0, 0, 0, 100, 50, 0, 0, 0), (10, 0, 0, 180, 46, 0, 0, 0), 0.1),  # iowait runs backwards at any time
        ((0, 0, 0, 90000, 50, 0, 0, 0), (40, 0, 10, 80000, 46, 0, 0, 0), 0.5),  # suspended: what ran, by elapsed time
        ((50, 0, 0, 100, 0, 0, 0, 0), (0, 0, 0, 160, 0, 0, 0, 0), None),
        ((0, 0, 0, 0, 0, 0, 0, 10), (10, 0, 0, 90, 0, 0, 0, 10**9), None),  # a guest that was moved
        ((0,) * 8, (10, 0, 0, 10**9, 0, 0, 0, 0), None),
        ((9, 0, 0, 90, 0, 0, 0, 0), (0,) * 8, None),  # all zeros once
        ((0,) * 8, (10, 0, 0, (1 << 64) - 9, 0, 0, 0, 0), None),
    ],
)
def test_load_is_what_ran_or_unknown(earlier: tuple[int, ...], later: tuple[int, ...], ratio: float | None) -> None:
    before, now = cpu(earlier, earlier), cpu(later, later)
    assert derive_cpu(before, now, 100)["cpu_cores"] == (None if ratio is None else 2 * ratio)
    assert core_ratios(before, now, 100) == [ratio, ratio]


def test_busy_cores_are_not_clamped_at_their_number() -> None:
    """The line of all cores is not always the sum of theirs: here more was busy than the one that is left."""
    before, now = cpu((0,) * 8, (0,) * 8), cpu((100, 0, 0, 0, 0, 0, 0, 0))
    now.cores[1] = (90, 0, 0, 10, 0, 0, 0, 0)
    assert derive_cpu(before, now, 100)["cpu_cores"] == 2.0
    assert core_ratios(before, now, 100) == [1.0, 0.9]


def test_cores_are_paired_by_number() -> None:
    idle, busy = (0, 0, 0, 100, 0, 0, 0, 0), (100, 0, 0, 100, 0, 0, 0, 0)
    before = cpu(idle, idle, idle, numbers=(0, 1, 3))
    now = cpu((0, 0, 0, 200, 0, 0, 0, 0), busy, idle, numbers=(0, 3, 4))
    assert core_ratios(before, now, 100) == [0.0, None, None, 1.0, None]


def test_without_stat_the_names_stay() -> None:
    names = derive_cpu(None, cpu((1,) * 8), 100).keys()
    unknown = derive_cpu(None, None, 100)
    assert names <= unknown.keys()
    assert set(unknown.values()) == {None}


# -- a captured server -------------------------------------------------------------------------------------------


def test_server(tmp_path: Path) -> None:
    machine, clock = unpack("server", tmp_path)
    reader = SystemReader(machine, statvfs=fixed_size)
    before = reader.read()
    assert before.errors == {}
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
        "used_bytes": (16000000 - 1000000 - 500000 - 6200000) * kib,
        "buffers_bytes": 500000 * kib,
        "cached_bytes": 6200000 * kib,
        "shared_bytes": 200000 * kib,
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
    assert second["context_switches"] is None  # it fell
    assert second["cpu_user_seconds"] == 16.0


def test_a_stat_of_zeros_counts_nothing(tmp_path: Path) -> None:
    machine, clock = unpack("server", tmp_path)
    reader = SystemReader(machine, statvfs=fixed_size)
    before = reader.read()
    good = (tmp_path / "proc/stat").read_bytes()
    put(tmp_path, "proc/stat", "cpu  0 0 0 0\ncpu0 0 0 0 0\ncpu1 0 0 0 0\nctxt 0\nprocesses 0\nprocs_running 0\n")
    for _ in range(2):
        clock.advance(1.0)
        now = reader.read()
        section = derive(before, now)
        assert {name for name in derive_cpu(None, None, 100) if section[name] is not None} & {
            "cpu_cores", "per_core_ratio", "cpu_user_seconds", "cpu_steal_seconds", "context_switches", "forks",
            "processes_running", "processes_blocked",
        } == set()  # fmt: skip
        assert section["cpus"] == 2
        before = now
    put(tmp_path, "proc/stat", good.replace(b"ctxt 1000000", b"ctxt 1000007"))
    section = derive(before, reader.read())
    assert (section["cpu_cores"], section["cpu_user_seconds"], section["context_switches"]) == (None, 12.0, 1000007)


def test_steal_that_jumps_is_in_no_total(tmp_path: Path) -> None:
    machine, clock = machine_in(tmp_path)
    reader = SystemReader(machine, statvfs=fixed_size)
    found = []
    for user, steal in ((0, 7), (10, 10**9), (20, 10**9 + 5)):
        put(tmp_path, "proc/stat", f"cpu  {user} 0 0 9 0 0 0 {steal}\ncpu0 {user} 0 0 9 0 0 0 {steal}\nctxt 1\n")
        section = derive(None, reader.read())
        found.append((section["cpu_user_seconds"], section["cpu_steal_seconds"]))
        clock.advance(1.0)
    assert found == [(0.0, 0.07), (0.1, None), (0.2, 0.12)]


def test_stall_times_that_jump_are_unknown_once(tmp_path: Path) -> None:
    machine, clock = machine_in(tmp_path)
    reader = SystemReader(machine, statvfs=fixed_size)
    found = []
    for total in (1_000_000, 10**12, 0, 1_500_000):
        put(tmp_path, "proc/pressure/cpu", f"some avg10=0.00 total={total}\n")
        pressure = derive(None, reader.read())["pressure"]
        assert isinstance(pressure, dict)
        found.append(pressure["cpu_some_seconds"])
        clock.advance(1.0)
    assert found == [1.0, None, None, 1.5]


@pytest.mark.parametrize("free", [18446744073709551488, 18014398509481983, 11])
def test_swap_that_does_not_fit_is_unknown(free: int) -> None:
    memory = derive_memory(parse_meminfo(b"MemTotal: 9 kB\nSwapTotal: 10 kB\nSwapFree: %d kB\n" % free))
    assert memory is not None
    assert memory["swap_total_bytes"] == 10240
    assert memory["swap_free_bytes"] is memory["swap_used_bytes"] is None


def test_memory_without_the_slab_line_is_known() -> None:
    memory = derive_memory(
        parse_meminfo(
            b"MemTotal: 2097152 kB\nMemFree: 1572864 kB\nMemAvailable: 1572864 kB\nBuffers: 0 kB\nCached: 131072 kB\n"
        )
    )
    assert memory is not None
    assert (memory["cached_bytes"], memory["used_bytes"]) == (131072 * 1024, 393216 * 1024)


def test_container(tmp_path: Path) -> None:
    machine, _ = unpack("container", tmp_path)
    reading = SystemReader(machine, statvfs=fixed_size).read()
    section = derive(None, reading)
    assert section["pressure"] is None
    assert sorted(reading.errors) == ["pressure/cpu", "pressure/io", "pressure/memory"]
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
    disk = section.pop("disk")
    assert isinstance(disk, dict)
    assert set(disk.values()) == {None}
    assert section.pop("disks") == []
    assert set(section.values()) == {None}
    assert len(first.errors) == 9


@pytest.mark.parametrize(
    "path", ["stat", "meminfo", "loadavg", "pressure/io", "diskstats", "self/mountinfo", "net/dev"]
)
def test_one_broken_file_spoils_only_its_own_part(tmp_path: Path, path: str) -> None:
    machine, _ = unpack("server", tmp_path)
    whole = derive(None, SystemReader(machine, statvfs=fixed_size).read())
    put(tmp_path, f"proc/{path}", "cpu\nMemTotal: x\nsome x\neth0: y\n")
    reading = SystemReader(machine, statvfs=fixed_size).read()
    assert list(reading.errors) == [path]
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


def test_two_readings_at_once_are_a_millisecond_apart(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    reader = SystemReader(machine, statvfs=fixed_size)
    before = reader.read()
    put(tmp_path, "proc/net/dev", (tmp_path / "proc/net/dev").read_bytes().replace(b"eth0: 1000", b"eth0: 1007"))
    section = derive(before, reader.read())
    assert section["network"]["received_bytes_per_second"] == 7000.0  # type: ignore[index]
    assert section["disk"]["read_bytes_per_second"] == 0.0  # type: ignore[index]


MEMINFO = b"MemTotal: 1000 kB\nMemFree: 300 kB\nMemAvailable: 340 kB\nBuffers: 0 kB\nCached: 500 kB\n"


@pytest.mark.parametrize(
    ("shmem", "used", "cached", "shared"),
    [
        (b"Shmem: 450 kB\n", 650, 50, 450),  # a full /dev/shm
        (b"", 200, 500, None),
        (b"Shmem: 501 kB\n", 200, 500, None),  # that of the host, beside the page cache of a container
        (b"Shmem: 18446744073709551488 kB\n", 200, 500, None),
    ],
)
def test_shared_memory_is_in_use_and_no_cache(shmem: bytes, used: int, cached: int, shared: int | None) -> None:
    memory = derive_memory(parse_meminfo(MEMINFO + shmem))
    assert memory is not None
    assert (memory["used_bytes"], memory["cached_bytes"]) == (used * 1024, cached * 1024)
    assert memory["shared_bytes"] == (None if shared is None else shared * 1024)


ARCSTATS = b"9 1 0x01 147 39984 4134 77\nname type data\nhits 4 500\nsize 4 204800\nc_min 4 100\n"


def test_cache_of_zfs_is_cache(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    plain = derive(None, SystemReader(machine, statvfs=fixed_size).read())["memory"]
    put(tmp_path, "proc/spl/kstat/zfs/arcstats", ARCSTATS)
    section = derive(None, SystemReader(machine, statvfs=fixed_size).read())["memory"]
    assert isinstance(plain, dict) and isinstance(section, dict)
    assert section["cached_bytes"] == plain["cached_bytes"] + 204800
    assert section["used_bytes"] == plain["used_bytes"] - 204800
    assert section["available_bytes"] == plain["available_bytes"]
    put(tmp_path, "proc/spl/kstat/zfs/arcstats", b"hits 4 500\nsize 4 x\n")
    reading = SystemReader(machine, statvfs=fixed_size).read()
    assert derive(None, reading)["memory"] == plain
    assert list(reading.errors) == ["spl/kstat/zfs/arcstats"]
