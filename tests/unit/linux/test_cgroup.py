"""Parsers of cgroup files, and readers of made-up trees."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_host import Host
from proctally.linux import cgroup, own_cgroup, proc
from proctally.linux.cgroup import V2, CgroupMount, Place
from proctally.linux.own_cgroup import CgroupRefused, RunCgroup

GIB = 1 << 30
UNLIMITED_V1 = 9223372036854771712  # LONG_MAX cut to pages


# -- parsers -----------------------------------------------------------------------------------------------------


def test_cgroup_lines_of_v1_and_v2() -> None:
    data = b"12:cpu,cpuacct:/a/b\n5:memory:/x:y\n1:name=systemd:/user.slice\n0::/u v\rw \xff (deleted)\n"
    assert cgroup.parse_cgroup(data) == {
        "cpu": "/a/b",
        "cpuacct": "/a/b",
        "memory": "/x:y",
        "name=systemd": "/user.slice",
        V2: os.fsdecode(b"/u v\rw \xff (deleted)"),
    }
    assert cgroup.parse_cgroup(b"") == {}


@pytest.mark.parametrize("data", [b"0::", b"0::x", b"nonsense", b"3:cpu", b"0::/\n1:cpu:x\n"])
def test_broken_cgroup_lines_are_named(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"cgroup: b'"):
        cgroup.parse_cgroup(data)


def mounts(data: bytes) -> list[tuple[str, str, set[str]]]:
    return [(mount.point, mount.root, set(mount.names)) for mount in cgroup.parse_mountinfo(data)]


def test_mountinfo_of_a_hybrid_host() -> None:
    data = (
        b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        b"31 22 0:28 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro,mode=755\n"
        b"32 31 0:29 / /sys/fs/cgroup/unified rw shared:10 master:2 - cgroup2 cgroup2 rw,nsdelegate\n"
        b"33 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
        b"34 31 0:31 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
        b"35 22 0:32 / /mnt/a\\040b\\134c\\011\\012\\043 rw - cgroup2 none rw\n"
        b"36 22 0:33 / /mnt/x rw - cgroupfs x rw\n"
    )
    assert mounts(data) == [
        ("/sys/fs/cgroup/unified", "/", {V2}),
        ("/sys/fs/cgroup/systemd", "/", {"rw", "xattr", "name=systemd"}),
        ("/sys/fs/cgroup/cpu,cpuacct", "/docker/abc", {"rw", "cpu", "cpuacct"}),
        ("/mnt/a b\\c\t\n#", "/", {V2}),
    ]


def test_the_last_of_two_mounts_on_one_directory_hides_the_other() -> None:
    data = b"1 1 0:1 / /c rw - cgroup2 x rw\n2 1 0:2 /a /c rw - cgroup x rw,cpu\n"
    assert mounts(data) == [("/c", "/a", {"rw", "cpu"})]


@pytest.mark.parametrize("data", [b"1 1 0:1 - cgroup2 x rw", b"1 1 0:1 / /c rw - cgroup2 x", b"x - cgroup rw"])
def test_broken_mounts_are_named(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"mountinfo: b'"):
        cgroup.parse_mountinfo(data)


@pytest.mark.parametrize(
    ("field", "plain"),
    [
        (b"/a\\040b", b"/a b"),
        (b"\\134040", b"\\040"),
        (b"\\377", b"\xff"),
        (b"\\400 \\08 \\", b"\\400 \\08 \\"),
        (b"", b""),
    ],
)
def test_octal_escapes(field: bytes, plain: bytes) -> None:
    assert proc.unescape(field) == plain


@given(st.binary())
def test_what_is_escaped_comes_back(plain: bytes) -> None:
    escaped = b"".join(b"\\%03o" % byte if byte in b" \t\n\\#" else bytes((byte,)) for byte in plain)
    assert proc.unescape(escaped) == plain


@pytest.mark.parametrize(
    ("data", "cpus"),
    [
        (b"0-3,7\n", {0, 1, 2, 3, 7}),
        (b"5", {5}),
        (b"\n", set()),
        (b"", set()),
        (b"0-1,1-2\n", {0, 1, 2}),
        (b"65535", {65535}),
    ],
)
def test_cpu_lists(data: bytes, cpus: set[int]) -> None:
    assert proc.parse_cpu_list(data) == cpus


@given(st.sets(st.integers(0, 200)))
def test_cpu_lists_come_back(cpus: set[int]) -> None:
    assert proc.parse_cpu_list(b",".join(b"%d" % cpu for cpu in sorted(cpus))) == cpus


@pytest.mark.parametrize("data", [b"3-1", b"-1", b"3-", b"a", b"0-99999999999", b"0-3 7"])
def test_broken_cpu_lists_are_named(data: bytes) -> None:
    with pytest.raises(ValueError, match="cpu list: b'"):
        proc.parse_cpu_list(data)


@pytest.mark.parametrize(
    ("data", "cores"),
    [(b"max 100000\n", None), (b"150000 100000\n", 1.5), (b"-1\n100000\n", None), (b"50000\n100000\n", 0.5)],
)
def test_quotas(data: bytes, cores: float | None) -> None:
    assert cgroup.parse_cpu_max(data) == cores


@pytest.mark.parametrize("data", [b"", b"1000", b"1 0", b"-5 10", b"0 10", b"9" * 400 + b" 1", b"max"])
def test_broken_quotas_are_named(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"cpu\.max: b'"):
        cgroup.parse_cpu_max(data)


def test_numbers() -> None:
    assert cgroup.parse_number(b"4096\n") == 4096
    assert cgroup.parse_number(b"0\n") == 0
    assert cgroup.parse_number(b"max\n") is None
    with pytest.raises(ValueError, match="number: b'many'"):
        cgroup.parse_number(b"many")


def test_flat_files() -> None:
    stat = b"anon 4096\nfile 8192\nkernel 1\nshmem 0\nodd line here\nsolo\n\n"
    assert cgroup.parse_flat(stat) == {"anon": 4096, "file": 8192, "kernel": 1, "shmem": 0}
    events = b"low 0\nhigh 3\nmax 7\noom 2\noom_kill 1\noom_group_kill x\n"
    assert cgroup.parse_flat(events, (b"oom_kill", b"high")) == {"oom_kill": 1, "high": 3}
    for broken in (b"oom_kill\n", b"oom_kill x\n", b"oom_kill 1 2\n"):
        with pytest.raises(ValueError, match="flat: b'oom_kill"):
            cgroup.parse_flat(broken, (b"oom_kill",))


def cpu(data: bytes) -> dict[str, int | None]:
    stat = cgroup.parse_cpu_stat(data)
    return {name: getattr(stat, name) for name in stat.__slots__ if getattr(stat, name) is not None}


def test_cpu_stat_of_both_versions_in_nanoseconds() -> None:
    assert cpu(b"usage_usec 5\nuser_usec 3\nsystem_usec 2\nnice_usec 0\n") == {
        "usage_ns": 5000,
        "user_ns": 3000,
        "system_ns": 2000,
    }
    assert cpu(b"nr_periods 9\nnr_throttled 4\nthrottled_usec 7\nnr_bursts 0\n") == {
        "periods": 9,
        "throttled_periods": 4,
        "throttled_ns": 7000,
    }
    assert cpu(b"nr_periods 0\nnr_throttled 0\nthrottled_time 12345\n")["throttled_ns"] == 12345
    assert cpu(b"") == {}


def test_io_stat_is_summed_over_devices() -> None:
    data = (
        b"8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=7 dios=1\n"
        b"253:0 \n254:0 259:1 rbytes=5 wbytes=0 rios=3 wios=0 cost.usage=9 new=x\n"
    )
    assert cgroup.parse_io_stat(data) == [15, 20, 4, 2]
    assert cgroup.parse_io_stat(b"") == [0, 0, 0, 0]
    with pytest.raises(ValueError, match=r"io\.stat: b'wbytes=x'"):
        cgroup.parse_io_stat(b"8:0 rbytes=1 wbytes=x\n")


def test_pressure_in_nanoseconds() -> None:
    some = b"some avg10=2.07 avg60=4.61 avg300=10.64 total=1599\n"
    assert cgroup.parse_pressure(some) == 1_599_000
    assert cgroup.parse_pressure(some + b"full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n") == 1_599_000
    assert cgroup.parse_pressure(b"") is None
    for broken in (b"some avg10=1\n", b"some total=\n", b"some total=x\n"):
        with pytest.raises(ValueError, match="pressure: b'"):
            cgroup.parse_pressure(broken)


PARSERS: list[Callable[[bytes], object]] = [
    cgroup.parse_cgroup,
    cgroup.parse_mountinfo,
    cgroup.parse_number,
    cgroup.parse_flat,
    proc.parse_cpu_list,
    cgroup.parse_cpu_max,
    cgroup.parse_cpu_stat,
    cgroup.parse_io_stat,
    cgroup.parse_pressure,
]
WORDS = [b"0::/", b"1:cpu:/a", b" - cgroup2 ", b" - cgroup ", b"\\040", b"max", b"usage_usec ", b"rbytes=", b"some "]


WORDS += [b"total=", b"\n", b" ", b",", b"-", b"0", b"17", b"9" * 400, b"\xff", b"8:0 "]


@pytest.mark.parametrize("parse", PARSERS)
@given(st.binary() | st.lists(st.sampled_from(WORDS)).map(b"".join))
def test_any_bytes_are_parsed_or_named(parse: Callable[[bytes], object], data: bytes) -> None:
    try:
        parse(data)
    except ValueError as error:
        assert ": b'" in str(error) or ': b"' in str(error)


@pytest.mark.parametrize(
    ("name", "who"),
    [
        ("proctally-12-345-0a1b2c", (12, 345)),
        ("proctally-12-345-0a1b2", None),
        ("proctally-12-345-0A1B2C", None),
        ("proctally-12-345", None),
        ("proctally--12-345-0a1b2c", None),
        ("proctally-x-345-0a1b2c", None),
        ("proctally-12-\u0663-0a1b2c", None),
        ("proctally-" + "1" * 5000 + "-2-0a1b2c", None),
        ("other-12-345-0a1b2c", None),
        ("proctally", None),
    ],
)
def test_only_our_own_names_have_an_owner(name: str, who: tuple[int, int] | None) -> None:
    assert own_cgroup.owner(name) == who


# -- where a process lives, in a tree of files -------------------------------------------------------------------


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_v2_alone(host: Host) -> None:
    host.mount("cg")
    (host.folder / "cg/a/b").mkdir(parents=True)
    found = host.process(7, "0::/a/b")
    assert host.shown(found) == {V2: ("cg/a/b", "/a/b")}
    levels = [(os.path.relpath(directory, host.folder), path) for directory, path in found[V2].levels()]
    assert levels == [("cg/a/b", "/a/b"), ("cg/a", "/a"), ("cg", "/")]


def test_v1_hybrid_and_names(host: Host) -> None:
    host.mount("cg/a b", "cpu,cpuacct")
    host.mount("cg/memory", "memory")
    host.mount("cg/systemd", "xattr,name=systemd")
    host.mount("cg/unified")
    (host.folder / "cg/a b/x").mkdir()
    (host.folder / "cg/unified/u").mkdir()
    found = host.process(7, "4:cpu,cpuacct:/x", "3:memory:/", "2:pids:/", "1:name=systemd:/", "0::/u")
    assert host.shown(found) == {
        "cpu": ("cg/a b/x", "/x"),
        "cpuacct": ("cg/a b/x", "/x"),
        "memory": ("cg/memory", "/"),
        "name=systemd": ("cg/systemd", "/"),
        V2: ("cg/unified/u", "/u"),
    }


@pytest.mark.parametrize(
    ("root", "path", "directory"),
    [
        ("/", "/", "cg"),  # a cgroup namespace, or the outermost cgroup
        ("/", "/a/b", "cg/a/b"),
        ("/docker/abc", "/docker/abc", "cg"),  # a container without a namespace of its own
        ("/docker/abc", "/docker/abc/a", "cg/a"),
        ("/docker/abc", "/docker/abcdef", None),
        ("/docker/abc", "/docker", None),
        ("/docker/abc", "/", None),
        ("/", "/..", None),  # outside our namespace
        ("/", "/../a", None),
        ("/..", "/../a", "cg/a"),  # the mount came from outside, and shows it
        ("/..", "/../../a", None),
        ("/..", "/", None),  # we live somewhere below, but it does not say where
        ("/", "/gone", None),
        ("/", "/a (deleted)", None),
        ("/", "/odd (deleted)", "cg/odd (deleted)"),  # its very name
    ],
)
def test_root_of_the_mount_and_path(host: Host, root: str, path: str, directory: str | None) -> None:
    host.mount("cg", root=root)
    (host.folder / "cg/a/b").mkdir(parents=True)
    (host.folder / "cg/odd (deleted)").mkdir()
    found = host.process(7, f"0::{path}")
    assert host.shown(found) == ({V2: (directory, path)} if directory else {})


def test_levels_end_at_the_root_of_the_mount(host: Host) -> None:
    host.mount("cg", root="/docker/abc")
    (host.folder / "cg/a").mkdir()
    place = host.process(7, "0::/docker/abc/a")[V2]
    assert [path for _, path in place.levels()] == ["/docker/abc/a", "/docker/abc"]


def test_the_mount_that_shows_most_is_taken(host: Host) -> None:
    host.mount("inner", root="/docker/abc")
    host.mount("outer")
    host.process(7, "0::/docker/abc")
    assert host.shown(host.places(7)) == {V2: ("inner", "/docker/abc")}  # not there, seen through the other
    (host.folder / "outer/docker/abc").mkdir(parents=True)
    assert host.shown(host.places(7)) == {V2: ("outer/docker/abc", "/docker/abc")}


CONTAINER = "/kubepods-podX.slice:cri-containerd:ID"
SERVICE = "/system.slice/containerd.service"


@pytest.mark.parametrize(
    ("path", "root", "directory"),
    [
        (SERVICE + CONTAINER, CONTAINER, "cg/memory"),
        (SERVICE + CONTAINER + "/inner", CONTAINER, "cg/memory/inner"),
        (CONTAINER, SERVICE + CONTAINER, "cg/memory"),
        (SERVICE + CONTAINER + "-2", CONTAINER, None),
        (SERVICE, CONTAINER, None),
    ],
)
def test_path_that_differs_from_the_root_by_a_prefix(host: Host, path: str, root: str, directory: str | None) -> None:
    host.mount("cg/memory", "memory", root=root)
    host.mount("cg/cpu", "cpu,cpuacct", root=root)
    for name, value in ("memory/memory.limit_in_bytes", 2 * GIB), ("cpu/cpu.cfs_quota_us", 200000):
        host.write(f"cg/{name}", f"{value}\n")
    host.write("cg/cpu/cpu.cfs_period_us", "100000\n")
    host.write("cg/cpu/cpuacct.usage", "5\n")
    (host.folder / "cg/memory/inner").mkdir()
    found = host.process(7, f"8:memory:{path}", f"4:cpu,cpuacct:{path}")
    assert host.shown(found).get("memory", (None,))[0] == directory
    if directory == "cg/memory":
        assert shown_limits(found, CPUS)[::2] == (2.0, 2 * GIB, None)
        assert cgroup.usage(found).usage_ns == 5


def test_no_cgroups_at_all(host: Host) -> None:
    assert host.places(7) == {}  # no such process
    assert host.process(7, "0::/") == {}  # no mount
    (host.folder / "proc/self/mountinfo").unlink()
    assert host.places(7) == {}
    for found in ({}, host.places(7)):
        assert shown_limits(found, None) == (None,) * 5
        assert shown_limits(found, {0, 3}) == (2, "affinity", None, None, None)
        assert (cgroup.oom_kills(found), cgroup.quotas(found)) == ({}, [])
        assert cgroup.usage(found).usage_ns is None


def test_a_path_of_any_bytes() -> None:
    assert cgroup.locate("/a\0b", [CgroupMount("/nowhere", "/", frozenset({V2}))], V2) is None
    assert cgroup.locate("/\udcff", [CgroupMount("/nowhere", "/", frozenset({V2}))], V2) is None


# -- limits ------------------------------------------------------------------------------------------------------


def shown_limits(found: dict[str, Place], affinity: set[int] | None) -> tuple[object, ...]:
    limits = cgroup.limits(found, affinity)
    return limits.cpu_cores, limits.cpu_from, limits.memory_bytes, limits.memory_from, limits.memory_high_bytes


CPUS = set(range(8))


def test_nested_limits_of_v2(host: Host) -> None:
    host.mount("cg")
    host.write("cg/cpuset.cpus.effective", "0-7\n")
    host.write("cg/a/cpu.max", "150000 100000\n")
    host.write("cg/a/memory.max", f"{GIB}\n")
    host.write("cg/a/memory.high", "max\n")
    host.write("cg/a/b/cpu.max", "max 100000\n")
    host.write("cg/a/b/memory.max", f"{2 * GIB}\n")
    host.write("cg/a/b/memory.high", f"{GIB // 2}\n")
    found = host.process(7, "0::/a/b")
    assert shown_limits(found, CPUS) == (1.5, "cpu.max of /a", GIB, "memory.max of /a", GIB // 2)
    host.write("cg/a/b/cpu.max", "50000 100000\n")
    host.write("cg/a/b/memory.max", "4096\n")
    assert shown_limits(found, CPUS)[:4] == (0.5, "cpu.max of /a/b", 4096, "memory.max of /a/b")
    host.write("cg/a/b/memory.max", "0\n")  # a limit like any other
    assert shown_limits(found, CPUS)[2:4] == (0, "memory.max of /a/b")


def test_a_limit_above_the_machine_is_none(host: Host) -> None:
    host.mount("cg")
    host.write("cg/a/memory.max", f"{1024 * GIB}\n")
    host.write("cg/a/memory.high", f"{1023 * GIB}\n")
    found = host.process(7, "0::/a")
    for machine, limit in ((1023, None), (1024, 1024 * GIB)):
        limits = cgroup.limits(found, None, None, machine * GIB)
        assert (limits.memory_bytes, limits.memory_from is None) == (limit, limit is None)
    assert cgroup.limits(found, None, None, 1022 * GIB).memory_high_bytes is None


def test_nothing_limits(host: Host) -> None:
    host.mount("cg")
    host.write("cg/a/cpu.max", "max 100000\n")
    host.write("cg/a/memory.max", "max\n")
    found = host.process(7, "0::/a")
    assert shown_limits(found, CPUS) == (8, "affinity", None, None, None)
    assert shown_limits(found, None) == (None,) * 5


@pytest.mark.parametrize(
    ("cpuset", "affinity", "cores", "why"),
    [
        ("0-3", CPUS, 4, "cpuset of /a"),
        ("0-3", {0, 1}, 2, "affinity"),
        ("0-3", {3, 4, 5}, 1, "affinity"),
        ("0-3", None, 4, "cpuset of /a"),
        ("0-3", {6, 7}, 4, "cpuset of /a"),  # they contradict each other: one was read before a change
        ("", {6, 7}, 2, "affinity"),
        ("", None, None, None),
    ],
)
def test_cpuset_and_affinity(
    host: Host, cpuset: str, affinity: set[int] | None, cores: int | None, why: str | None
) -> None:
    host.mount("cg")
    host.write("cg/a/cpuset.cpus.effective", cpuset + "\n")
    (host.folder / "cg/a/b").mkdir()
    assert shown_limits(host.process(7, "0::/a/b"), affinity)[:2] == (cores, why)


def test_a_quota_above_the_cpus_is_none(host: Host) -> None:
    host.mount("cg")
    host.write("cg/a/cpu.max", "1600000 100000\n")
    found = host.process(7, "0::/a")
    assert shown_limits(found, CPUS)[:2] == (8, "affinity")
    assert shown_limits(found, None)[:2] == (16.0, "cpu.max of /a")


def test_limits_of_v1(host: Host) -> None:
    host.mount("cpu", "cpu,cpuacct")
    host.mount("cpuset", "cpuset")
    host.mount("memory", "memory")
    host.mount("unified")
    host.write("cpu/a/cpu.cfs_quota_us", "250000\n")
    host.write("cpu/a/cpu.cfs_period_us", "100000\n")
    host.write("cpu/a/b/cpu.cfs_quota_us", "-1\n")
    host.write("cpu/a/b/cpu.cfs_period_us", "100000\n")
    host.write("cpuset/b/cpuset.cpus", "0-5\n")
    host.write("memory/memory.limit_in_bytes", f"{UNLIMITED_V1}\n")
    host.write("memory/b/memory.limit_in_bytes", f"{GIB}\n")
    found = host.process(7, "3:cpu,cpuacct:/a/b", "2:cpuset:/b", "1:memory:/b", "0::/")
    assert shown_limits(found, CPUS) == (2.5, "cpu.cfs_quota_us of /a", GIB, "memory.limit_in_bytes of /b", None)
    host.write("cpuset/b/cpuset.effective_cpus", "1\n")
    assert shown_limits(found, CPUS)[:2] == (1, "cpuset of /b")
    (host.folder / "cpu/a/cpu.cfs_period_us").unlink()  # removed between the two
    assert shown_limits(found, None)[:2] == (1, "cpuset of /b")


@pytest.mark.parametrize(
    ("own", "outer", "hierarchical", "limit", "why"),
    [
        (UNLIMITED_V1, 2 * GIB, 2 * GIB, 2 * GIB, "memory.limit_in_bytes of /a"),
        (GIB, 2 * GIB, GIB, GIB, "memory.limit_in_bytes of /a/b"),
        (2 * GIB, GIB, 2 * GIB, 2 * GIB, "memory.limit_in_bytes of /a/b"),  # use_hierarchy is 0
        (2 * GIB, UNLIMITED_V1, GIB, GIB, "hierarchical_memory_limit of /a/b"),  # above what is visible
        (UNLIMITED_V1, UNLIMITED_V1, UNLIMITED_V1, None, None),
        (UNLIMITED_V1, GIB, None, GIB, "memory.limit_in_bytes of /a"),
    ],
)
def test_memory_limits_of_v1(
    host: Host, own: int, outer: int, hierarchical: int | None, limit: int | None, why: str | None
) -> None:
    host.mount("memory", "memory")
    host.write("memory/a/memory.limit_in_bytes", f"{outer}\n")
    host.write("memory/a/b/memory.limit_in_bytes", f"{own}\n")
    if hierarchical is not None:
        host.write("memory/a/b/memory.stat", f"cache 0\nhierarchical_memory_limit {hierarchical}\ntotal_cache 0\n")
    assert shown_limits(host.process(7, "1:memory:/a/b"), None)[2:4] == (limit, why)


def test_limits_inside_a_container(host: Host) -> None:
    host.mount("cg/cpu", "cpu", root="/docker/abc")
    host.mount("cg/memory", "memory", root="/docker/abc")
    host.write("cg/cpu/cpu.cfs_quota_us", "50000\n")
    host.write("cg/cpu/cpu.cfs_period_us", "100000\n")
    host.write("cg/memory/memory.limit_in_bytes", f"{GIB}\n")
    found = host.process(7, "2:cpu:/docker/abc", "1:memory:/docker/abc")
    place = "of /docker/abc"
    assert shown_limits(found, CPUS) == (0.5, f"cpu.cfs_quota_us {place}", GIB, f"memory.limit_in_bytes {place}", None)


def test_a_broken_limit_is_named(host: Host) -> None:
    host.mount("cg")
    host.write("cg/a/memory.max", "lots\n")
    with pytest.raises(ValueError, match="lots"):
        cgroup.limits(host.process(7, "0::/a"), None)


def test_where_a_limit_stands_is_always_text(host: Host) -> None:
    host.mount("cg")
    os.makedirs(os.fsencode(host.folder / "cg") + b"/\xff")
    host.write("cg/\udcff/memory.max", "4096\n")
    (host.folder / "proc/7").mkdir()
    (host.folder / "proc/7/cgroup").write_bytes(b"0::/\xff\n")
    assert cgroup.limits(host.places(7), None).memory_from == "memory.max of /\\xff"


# -- usage, throttling, kills ------------------------------------------------------------------------------------


def test_usage_of_either_version(host: Host) -> None:
    host.mount("cg")
    host.write("cg/a/cpu.stat", "usage_usec 9\nuser_usec 5\nsystem_usec 4\n")
    stat = cgroup.usage(host.process(7, "0::/a"))
    assert (stat.usage_ns, stat.user_ns, stat.system_ns) == (9000, 5000, 4000)
    host.mount("cpuacct", "cpuacct")
    host.write("cpuacct/cpuacct.usage", "77\n")
    stat = cgroup.usage(host.process(7, "1:cpuacct:/", "0::/a"))
    assert (stat.usage_ns, stat.user_ns, stat.system_ns) == (77, None, None)


def test_throttling_where_there_is_a_quota(host: Host) -> None:
    host.mount("cg")
    host.write("cg/cpu.stat", "usage_usec 1\n")
    host.write("cg/a/cpu.max", "50000 100000\n")
    host.write("cg/a/cpu.stat", "usage_usec 1\nnr_periods 9\nnr_throttled 3\nthrottled_usec 5\n")
    host.write("cg/a/b/cpu.max", "max 100000\n")
    host.write("cg/a/b/cpu.stat", "usage_usec 1\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n")
    found = host.process(7, "0::/a/b")
    assert cgroup.quotas(found) == [f"{host.folder}/cg/a"]
    stats = cgroup.throttling(cgroup.quotas(found))
    assert [(stat.periods, stat.throttled_periods, stat.throttled_ns) for stat in stats.values()] == [(9, 3, 5000)]
    assert cgroup.throttling([f"{host.folder}/cg/none"]) == {}


def test_quotas_of_v1(host: Host) -> None:
    host.mount("cpu", "cpu")
    host.mount("cg")
    host.write("cpu/a/cpu.cfs_quota_us", "-1\n")
    host.write("cpu/a/cpu.cfs_period_us", "100000\n")
    host.write("cpu/a/b/cpu.cfs_quota_us", "20000\n")
    host.write("cpu/a/b/cpu.cfs_period_us", "100000\n")
    assert cgroup.quotas(host.process(7, "1:cpu:/a/b", "0::/")) == [f"{host.folder}/cpu/a/b"]


def test_oom_kills_of_v2(host: Host) -> None:
    host.mount("cg")
    for name in ("cg/a", "cg/a/b"):
        host.write(f"{name}/memory.events", "low 0\nhigh 0\nmax 3\noom 0\noom_kill 1\n")
    found = host.process(7, "0::/a/b")
    before = cgroup.oom_kills(found)
    assert before == {f"{host.folder}/cg/a/b": 1, f"{host.folder}/cg/a": 1}
    host.write("cg/a/memory.events", "oom 2\noom_kill 3\n")
    host.write("cg/memory.events", "oom_kill 9\n")
    after = {f"{host.folder}/cg/a/b": 1, f"{host.folder}/cg/a": 3, f"{host.folder}/cg": 9}
    assert cgroup.oom_kills(found) == after
    shutil.rmtree(host.folder / "cg/a/b")
    assert cgroup.oom_kills(found) == {f"{host.folder}/cg/a": 3, f"{host.folder}/cg": 9}


def test_oom_kills_of_v1(host: Host) -> None:
    host.mount("memory", "memory")
    host.mount("cg")
    host.write("memory/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n")
    host.write("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n")  # before 4.13
    assert cgroup.oom_kills(host.process(7, "1:memory:/a", "0::/")) == {f"{host.folder}/memory/a": 4}


# -- a cgroup of our own, in a tree of files ---------------------------------------------------------------------


def parent(host: Host, pid: int = 7) -> Place:
    host.mount("cg")
    host.write("cg/a/cgroup.procs", "")
    return host.process(pid, "0::/a", start=4321)[V2]


def test_name_and_reading(host: Host) -> None:
    run = RunCgroup(host.machine, parent(host), 7)
    name = os.path.basename(run.directory)
    assert own_cgroup.owner(name) == (7, 4321)
    assert run.path == f"/a/{name}"
    assert os.path.samestat(os.fstat(run.fd), os.stat(run.directory))
    assert not os.get_inheritable(run.fd)
    empty = run.read()
    assert (empty.cpu.usage_ns, empty.memory_bytes, empty.io, empty.oom_kills) == (None, None, None, None)
    assert empty.cpu_pressure_ns is None
    at = f"cg/a/{name}"
    host.write(f"{at}/cpu.stat", "usage_usec 9\nuser_usec 5\nsystem_usec 4\nthrottled_usec 1\n")
    host.write(f"{at}/memory.current", "4096\n")
    host.write(f"{at}/memory.peak", "8192\n")
    host.write(f"{at}/memory.swap.current", "0\n")
    host.write(f"{at}/memory.events", "oom 1\noom_kill 1\n")
    host.write(f"{at}/io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4\n")
    host.write(f"{at}/pids.peak", "5\n")
    for name in ("cpu", "memory", "io"):
        host.write(f"{at}/{name}.pressure", "some avg10=0.00 total=7\nfull avg10=0.00 total=3\n")
    reading = run.read()
    stat = reading.cpu
    assert (stat.usage_ns, stat.user_ns, stat.system_ns, stat.throttled_ns) == (9000, 5000, 4000, 1000)
    assert (reading.memory_bytes, reading.memory_peak_bytes, reading.swap_bytes) == (4096, 8192, 0)
    assert (reading.oom_kills, reading.pids_peak, reading.io) == (1, 5, [1, 2, 3, 4])
    assert reading.cpu_pressure_ns == reading.memory_pressure_ns == reading.io_pressure_ns == 7000
    shutil.rmtree(run.directory)
    assert run.read().cpu.usage_ns is None
    assert run.remove()
    assert run.fd == -1


def test_who_left(host: Host) -> None:
    run = RunCgroup(host.machine, parent(host), 7)
    for pid, path in {1: run.path, 2: f"{run.path}/sub", 3: f"{run.path}x", 4: "/", 5: f"{run.path} (deleted)"}.items():
        host.process(pid, f"0::{path}")
    host.process(6, "1:cpu:/")
    assert run.left(range(1, 9)) == [3, 4, 6, 7]  # 8 is gone
    assert run.remove()


def test_refused_without_v2_or_a_parent(host: Host) -> None:
    place = parent(host)
    with pytest.raises(CgroupRefused) as refused:
        RunCgroup(host.machine, None, 7)
    assert refused.value.errno == errno.EOPNOTSUPP
    with pytest.raises(CgroupRefused) as refused:
        RunCgroup(host.machine, place, 8)
    assert refused.value.errno == errno.ESRCH
    shutil.rmtree(place.directory)
    with pytest.raises(CgroupRefused) as refused:
        RunCgroup(host.machine, place, 7)
    assert refused.value.errno == errno.ENOENT


def test_nothing_is_left_behind_when_processes_could_not_be_moved(host: Host) -> None:
    place = parent(host)
    os.unlink(f"{place.directory}/cgroup.procs")  # access(2) says no
    with pytest.raises(CgroupRefused) as refused:
        RunCgroup(host.machine, place, 7)
    assert refused.value.errno == errno.EACCES
    assert os.listdir(place.directory) == []


def test_add_to_what_is_gone(host: Host) -> None:
    run = RunCgroup(host.machine, parent(host), 7)
    with pytest.raises(CgroupRefused):
        run.add(1)
    assert not run.kill()
    assert run.pids() == []
    assert run.remove()
    assert run.remove()


def test_sweep_takes_only_what_is_ours_dead_and_empty(host: Host) -> None:
    place = parent(host)
    stays = [
        "proctally-7-4321-000000",
        "proctally-9-1-000001",
        "proctally-9-1-000002",
        "proctally-9-1",
        "other-9-1-000003",
    ]
    goes = ["proctally-9-1-00000a", "proctally-7-4320-00000b", "proctally-9-1-00000c"]
    for name in stays + goes:
        os.mkdir(f"{place.directory}/{name}")
    os.makedirs(f"{place.directory}/proctally-9-1-00000c/sub/sub")
    host.write("cg/a/proctally-9-1-000001/sub/cgroup.procs", "0\n")  # a process of a foreign pid namespace
    host.write("cg/a/proctally-9-1-00000d", "a file\n")
    os.symlink("/", f"{place.directory}/proctally-9-1-00000e")
    fd = os.open(f"{place.directory}/proctally-9-1-000002", os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(fd, fcntl.LOCK_EX)  # its run lives where we do not see it
    try:
        assert own_cgroup.sweep(host.machine, place) == len(goes)
        assert own_cgroup.sweep(host.machine, place) == 0
    finally:
        os.close(fd)
    kept = [*stays, "cgroup.procs", "proctally-9-1-00000d", "proctally-9-1-00000e"]
    assert sorted(os.listdir(place.directory)) == sorted(kept)
    assert own_cgroup.sweep(host.machine, Place(f"{place.directory}/none", "/", "/")) == 0


# -- the cgroup whose memory is counted ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counted", "expected"),
    [
        (["batch/job"], "batch/job"),
        (["batch", ""], "batch"),  # no memory controller in the cgroup of the job
        ([""], None),  # the machine
        ([], None),
    ],
)
def test_memory_place_is_the_smallest(tmp_path: Path, counted: list[str], expected: str | None) -> None:
    host = Host(tmp_path)
    host.mount("v2")
    (tmp_path / "v2/batch/job").mkdir(parents=True)
    for name in counted:
        host.write(f"v2/{name}/memory.stat", "anon 4096\nshmem 0\n")
    found = cgroup.memory_place(host.machine, host.process(7, "0::/batch/job"))
    assert (found and (found[0], os.path.relpath(found[1].directory, tmp_path))) == (
        expected and ("", f"v2/{expected}")
    )


def test_memory_place_of_v1_goes_first(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.mount("v2")
    host.mount("v1", "memory")
    for name in ("v2", "v1/job"):
        host.write(f"{name}/memory.stat", "total_rss 4096\ntotal_shmem 0\n")
    found = cgroup.memory_place(host.machine, host.process(7, "4:memory:/job", "0::/"))
    assert found is not None and (found[0], found[1].path) == ("memory", "/job")


@pytest.mark.parametrize(("namespace", "is_machine"), [("cgroup:[4026531835]", True), ("cgroup:[4026532000]", False)])
def test_memory_place_in_a_container_is_its_root(tmp_path: Path, namespace: str, is_machine: bool) -> None:
    host = Host(tmp_path)
    host.mount("v2")
    host.write("v2/memory.stat", "anon 4096\nshmem 0\n")
    (tmp_path / "proc/self/ns").mkdir()
    (tmp_path / "proc/self/ns/cgroup").symlink_to(namespace)
    assert (cgroup.memory_place(host.machine, host.process(7, "0::/")) is None) is is_machine
