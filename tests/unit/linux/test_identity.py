"""Parsers of files that identify a machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identities import X86, arm
from proctally.linux.arm_cores import IMPLEMENTERS, PARTS, core_name
from proctally.linux.identity import (
    container_of_path,
    parse_choice,
    parse_cpuinfo,
    parse_node_meminfo,
    parse_os_release,
    parse_variable,
)

HEX = "0123456789abcdef" * 4


# -- os-release ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"NAME=debian", "debian"),
        (b'NAME="Debian GNU/Linux"', "Debian GNU/Linux"),
        (b"NAME='Debian GNU/Linux'", "Debian GNU/Linux"),
        (b'NAME="a \\"b\\" \\$c \\`d\\` \\\\"', 'a "b" $c `d` \\'),
        (b'NAME="a\\nb"', "a\\nb"),  # a backslash before anything else stays
        (b"NAME='a\\'", "a\\"),
        (b"NAME=a\\ b", "a b"),
        (b'NAME="it\'s"', "it's"),
        (b"NAME='say \"x\"'", 'say "x"'),
        (b"NAME=", ""),
        (b'NAME=""', ""),
        (b"NAME=a=b", "a=b"),
        (b"  NAME=a  ", "a"),
        (b"NAME=a\r", "a"),
        (b'NAME="', ""),
        (b'NAME="a', "a"),
        (b"NAME=\xff", "\\xff"),
        (b"NAME=first\nNAME=last", "last"),
        (b"# NAME=no\nNAME=yes", "yes"),
    ],
)
def test_os_release(line: bytes, value: str) -> None:
    assert parse_os_release(line) == {"NAME": value}


def test_what_is_no_assignment_is_skipped() -> None:
    assert parse_os_release(b"\n#A=1\nnothing\nID=arch\n") == {"ID": "arch"}


@given(st.binary())
def test_os_release_takes_anything(data: bytes) -> None:
    assert all(isinstance(value, str) for value in parse_os_release(data).values())


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n\0"), max_size=30))
def test_what_was_quoted_is_read_back(value: str) -> None:
    quoted = "".join("\\" + each if each in '"$`\\' else each for each in value)
    assert parse_os_release(f'A="{quoted}"'.encode()) == {"A": value}


# -- processors ------------------------------------------------------------------------------------------------------


def test_x86() -> None:
    cpu = parse_cpuinfo(X86 % b"")
    assert (cpu.vendor, cpu.model) == ("GenuineIntel", "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz")
    assert cpu.hypervisor is False
    assert parse_cpuinfo(X86 % b"hypervisor ").hypervisor is True


def test_arm() -> None:
    cpu = parse_cpuinfo(arm(("0x41", "0xd0c"), ("0x41", "0xd0c")))
    assert (cpu.vendor, cpu.model, cpu.parts, cpu.hypervisor) == ("ARM", "Neoverse-N1", [("0x41", "0xd0c")], None)
    both = parse_cpuinfo(arm(("0x41", "0xd03"), ("0x41", "0xd08")))
    assert both.model == "Cortex-A53 + Cortex-A72"
    assert both.vendor == "ARM"


@pytest.mark.parametrize("part", [("0x41", "0xfff"), ("0x99", "0xd0c")])
def test_a_core_without_a_name_is_shown_by_its_numbers(part: tuple[str, str]) -> None:
    cpu = parse_cpuinfo(arm(("0x41", "0xd0c"), part))
    assert cpu.model == f"Neoverse-N1 + {part[0]}:{part[1]}"
    assert cpu.vendor == ("ARM" if part[0] == "0x41" else "ARM + 0x99")
    assert cpu.parts == [("0x41", "0xd0c"), part]


@pytest.mark.parametrize(
    ("maker", "part", "vendor", "model"),
    [
        ("0x41", "0xd85", "ARM", "Cortex-X925"),
        ("0x41", "0xd87", "ARM", "Cortex-A725"),
        ("0x41", "0xd46", "ARM", "Cortex-A510"),
        ("0x41", "0xd4d", "ARM", "Cortex-A715"),
        ("0x41", "0xd4e", "ARM", "Cortex-X3"),
        ("0x41", "0xd47", "ARM", "Cortex-A710"),
        ("0x41", "0xd04", "ARM", "Cortex-A35"),
        ("0x41", "0xd83", "ARM", "Neoverse-V3AE"),
        ("0x41", "0xd8e", "ARM", "Neoverse-N3"),
        ("0x48", "0xd01", "HiSilicon", "Kunpeng-920"),
        ("0x70", "0x662", "Phytium", "FTC662"),
        ("0x70", "0x663", "Phytium", "FTC663"),
        ("0xc0", "0xac4", "Ampere", "Ampere-1a"),
        ("0x43", "0x0af", "Cavium", "ThunderX2-99XX"),
        ("0x61", "0x022", "Apple", "Icestorm-M1"),
    ],
)
def test_arm_cores_have_names(maker: str, part: str, vendor: str, model: str) -> None:
    cpu = parse_cpuinfo(arm((maker, part)))
    assert (cpu.vendor, cpu.model) == (vendor, model)


def test_every_arm_core_of_the_table_has_its_own_number() -> None:
    assert PARTS.keys() <= IMPLEMENTERS.keys()
    for maker, parts in PARTS.items():
        numbers = [entry.partition(" ")[0] for entry in parts.split(", ")]
        assert len(set(numbers)) == len(numbers)
        assert {len(number) for number in numbers} == {3}
        assert all(" " not in core_name(maker, f"0x{number}") for number in numbers)


@pytest.mark.parametrize(
    ("data", "model"),
    [
        (b"system type\t: generic-loongson-machine\nModel Name\t\t: Loongson-3A5000\n", "Loongson-3A5000"),
        (b"processor\t: 0\ncpu\t\t: POWER9, altivec supported\nclock : 2MHz\n", "POWER9, altivec supported"),
        (b"processor\t: 0\nhart\t: 1\nisa\t: rv64imafdc\nuarch\t: sifive,u74-mc\n", "sifive,u74-mc"),
        (b"vendor_id : IBM/S390\nprocessor 0: version = FF,  identification = 1,  machine = 2964\n", "machine = 2964"),
        (b"cpu model\t\t: MIPS 74Kc V5.0\n", "MIPS 74Kc V5.0"),
        (b"cpu\t\t: UltraSparc T4 (Niagara4)\n", "UltraSparc T4 (Niagara4)"),
        (b"cpu family\t: 6\nmodel\t: 1\n", None),
    ],
)
def test_models_of_other_architectures(data: bytes, model: str | None) -> None:
    assert parse_cpuinfo(data).model == model


@given(st.binary())
def test_cpuinfo_takes_anything(data: bytes) -> None:
    parse_cpuinfo(data)


# -- memory ----------------------------------------------------------------------------------------------------------


def test_small_parsers() -> None:
    assert parse_choice(b"[always] madvise never\n") == "always"
    assert parse_choice(b"always madvise never\n") is None
    assert parse_choice(b"[") is None
    assert parse_node_meminfo(b"Node 1 MemFree: 7 kB\n") is None
    assert parse_variable(b"A=1\0container=podman\0B=2\0", b"container") == "podman"
    assert parse_variable(b"xcontainer=podman\0", b"container") is None
    assert parse_variable(b"container=\0", b"container") is None


# -- inside of what --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", None),
        ("/user.slice/user-1000.slice/session-2.scope", None),
        ("/system.slice/docker.service", None),  # the daemon itself
        ("/system.slice/docker-notes.scope", None),
        (f"/docker/{HEX}", "docker"),
        (f"/system.slice/docker-{HEX}.scope", "docker"),
        (f"/user.slice/user@1000.service/user.slice/libpod-{HEX}.scope/container", "podman"),
        (f"/machine.slice/libpod-{HEX}.scope", "podman"),
        (f"/kubepods.slice/kubepods-burstable.slice/kubepods-pod1.slice/cri-containerd-{HEX}.scope", "kubernetes"),
        (f"/kubepods/besteffort/pod1/{HEX}", "kubernetes"),
        (f"/system.slice/crio-{HEX}.scope", "kubernetes"),
        ("/lxc.payload.web/system.slice", "lxc"),
        ("/lxc/web", "lxc"),
        ("/machine.slice/systemd-nspawn@web.service/payload", "systemd-nspawn"),
    ],
)
def test_containers_by_their_cgroup(path: str, name: str | None) -> None:
    assert container_of_path(path) == name
