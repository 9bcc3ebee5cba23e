"""Network interfaces of a captured server and of made-up machines."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from captured import machine_in, put
from net_files import HEAD, line
from proctally.linux.net import Interface, NetReader, choose_summed, parse_net_dev


def interface(name: str, **facts: object) -> Interface:
    made = Interface(name)
    for key, value in facts.items():
        setattr(made, key, value)
    return made


# -- which are summed --------------------------------------------------------------------------------------------


PHYSICAL = interface("eth0", device=True)


@pytest.mark.parametrize(
    ("interfaces", "summed"),
    [
        ([PHYSICAL, interface("wlan0", device=True, kind="wlan")], {"eth0", "wlan0"}),
        ([PHYSICAL, interface("veth1"), interface("br0", kind="bridge")], {"eth0"}),
        # Azure: the virtual function is enslaved to the device that counts for both.
        ([PHYSICAL, interface("enP1", device=True, master="eth0")], {"eth0"}),
        # A port of a switch that hangs on eth0.
        ([PHYSICAL, interface("lan1", device=True, on_another=True, kind="dsa")], {"eth0"}),
        # Enslaved to a bond or a bridge, which is no device.
        ([interface("eth0", device=True, master="bond0"), interface("bond0", kind="bond", lowers=("eth0",))], {"eth0"}),
        # Containers.
        ([interface("eth0"), interface("net1")], {"eth0", "net1"}),
        ([interface("eth0"), interface("eth0.5", kind="vlan", lowers=("eth0",))], {"eth0"}),
        ([interface("eth0"), interface("docker0", kind="bridge"), interface("veth9", master="docker0")], {"eth0"}),
        ([interface("eth0", master="br0"), interface("br0", kind="bridge", lowers=("eth0",))], {"br0"}),
        ([interface("p0", master="bond0"), interface("bond0", kind="bond", lowers=("p0",))], {"bond0"}),
        ([interface("eth0"), interface("wg0", kind="wireguard", tunnel=True), interface("ifb0")], {"eth0"}),
        ([interface("eth0"), interface("dummy0")], {"eth0"}),
        ([interface("dummy0")], {"dummy0"}),
        ([interface("tap0", kind="tun", tunnel=True)], {"tap0"}),  # the only way out of a rootless container
        ([interface("eth0", master="elsewhere")], {"eth0"}),
        ([interface("lo")], set()),
        ([], set()),
    ],
)  # fmt: skip
def test_summed(interfaces: list[Interface], summed: set[str]) -> None:
    assert choose_summed({each.name: each for each in interfaces}) == summed


@pytest.mark.parametrize(
    "files",
    [
        {"uevent": f"DEVTYPE={kind}\nINTERFACE=x0\n"}
        for kind in ("bridge", "vxlan", "geneve", "wireguard", "gtp", "bareudp", "ppp")
    ]
    + [{"tun_flags": "0x1002\n"}]
    + [{"type": f"{number}\n"} for number in (768, 769, 776, 778, 823)],
    ids=lambda files: "".join(files.values()).split("\n")[0],
)
def test_what_carries_nothing_of_its_own_is_not_summed_beside_others(tmp_path: Path, files: dict[str, str]) -> None:
    machine, _ = machine_in(tmp_path)
    names = ("eth0", "x0")
    put(tmp_path, "proc/net/dev", HEAD + "".join(line(name, 9, 9) for name in names))
    for name in names:
        put(tmp_path, f"sys/class/net/{name}/type", "1\n")
    for name, content in files.items():
        put(tmp_path, f"sys/class/net/x0/{name}", content)
    reading = NetReader(machine).read()
    assert reading is not None
    assert reading.summed == {"eth0"}


# -- two readings ------------------------------------------------------------------------------------------------


def test_an_interface_on_one_that_gets_another_name_is_not_counted_beside_it(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    reader = NetReader(machine)
    for lower, master in (("eth0", "br0"), ("wan0", "br1")):
        for gone in ("eth0", "br0"):
            shutil.rmtree(tmp_path / f"sys/class/net/{gone}", ignore_errors=True)
        for name, link in (("eth0.5", f"lower_{lower}"), ("veth1", "master"), (lower, "ifindex"), (master, "ifindex")):
            put(tmp_path, f"sys/class/net/{name}/uevent", "DEVTYPE=bridge\n" if name == master else "\n")
            for old in (tmp_path / f"sys/class/net/{name}").glob("lower_*"):
                old.unlink()
            (tmp_path / f"sys/class/net/{name}/master").unlink(missing_ok=True)
            if link != "ifindex":
                os.symlink(f"../{master}", tmp_path / f"sys/class/net/{name}/{link}")
        put(tmp_path, "proc/net/dev", HEAD + "".join(line(name, 9, 9) for name in (lower, master, "eth0.5", "veth1")))
        reading = reader.read()
        assert reading is not None
        assert reading.summed == {lower}


def test_names_of_any_bytes() -> None:
    assert list(parse_net_dev(b"\xff\xfe: " + b"1 " * 16 + b"\n")) == ["\\xff\\xfe"]


# -- another network namespace ---------------------------------------------------------------------------------------


def test_sysfs_of_another_network_namespace_gives_no_facts(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    for name in ("lo", "eth0", "docker0"):
        put(tmp_path, f"sys/class/net/{name}/speed", "10000\n")
    put(tmp_path, "proc/net/dev", HEAD + line("lo", 1, 1) + line("eth0", 9, 9))
    reader = NetReader(machine)
    for _ in range(2):
        reading = reader.read()
        assert reading is not None
        assert reading.counters["eth0"][:2] == (9, 9)
        assert set(reading.interfaces["eth0"].facts().values()) == {None}
        assert reader.foreign is not None


def test_sysfs_that_is_mounted_anew_gives_facts(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    for name in ("eth0", "docker0"):
        put(tmp_path, f"sys/class/net/{name}/speed", "10000\n")
    put(tmp_path, "sys/class/net/bonding_masters")
    put(tmp_path, "proc/net/dev", HEAD + line("eth0", 9, 9))
    reader = NetReader(machine)
    reader.read()
    assert reader.foreign is not None
    shutil.rmtree(tmp_path / "sys/class/net/docker0")
    reading = reader.read()
    assert reading is not None
    assert (reader.foreign, reading.interfaces["eth0"].speed_bits_per_second) == (None, 10_000_000_000)
