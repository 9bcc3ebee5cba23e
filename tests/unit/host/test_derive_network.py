"""Network interfaces: a captured server, kinds of machines, made-up changes between two readings, and this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from captured import machine_in, put, unpack
from proctally.kernel.machine import Machine
from proctally.kernel.net import NAMES, Interface, NetReader, NetReading, choose_summed, derive_network, parse_net_dev

HEAD = "Inter-| Receive | Transmit\n face |bytes packets|bytes packets\n"
Entries = dict[str, dict[str, object]]


def line(name: str, received: int, sent: int) -> str:
    return f"{name:>6}: {received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0\n"


def by_name(
    before: NetReading | None, now: NetReading | None, seconds: float = 1.0
) -> tuple[dict[str, object], Entries]:
    assert now is not None
    network, interfaces = derive_network(before, now, seconds)
    return network, {str(entry["name"]): entry for entry in interfaces}


def interface(name: str, **facts: object) -> Interface:
    made = Interface(name)
    for key, value in facts.items():
        setattr(made, key, value)
    return made


# -- a captured server -------------------------------------------------------------------------------------------


def test_server_counts_each_byte_once(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    network, interfaces = by_name(None, NetReader(machine).read())
    assert "lo" not in interfaces
    assert [name for name, entry in interfaces.items() if entry["summed"]] == ["eth0", "eth1"]
    assert network == {
        "received_bytes": 1100,
        "sent_bytes": 2200,
        "received_packets": 11,
        "sent_packets": 22,
        "receive_errors": 1,
        "send_errors": 3,
        "receive_drops": 2,
        "send_drops": 4,
        "received_bytes_per_second": None,
        "sent_bytes_per_second": None,
    }


def test_server_tells_what_its_interfaces_are(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    _, interfaces = by_name(None, NetReader(machine).read())
    facts = ("mac", "driver", "kind", "master", "state", "speed_bits_per_second", "mtu_bytes")
    assert {name: tuple(entry[fact] for fact in facts) for name, entry in interfaces.items()} == {
        "eth0": ("b4:2e:99:00:00:01", "ixgbe", None, "bond0", "up", 10_000_000_000, 1500),
        "eth1": ("b4:2e:99:00:00:02", "ixgbe", None, "bond0", "down", None, 1500),
        "bond0": ("b4:2e:99:00:00:01", None, "bond", None, "up", 10_000_000_000, 1500),
        "bond0.7": ("b4:2e:99:00:00:01", None, "vlan", None, "up", 10_000_000_000, 1500),
        "docker0": ("02:42:00:00:00:01", None, "bridge", None, "up", None, 1500),
        "vethabc0": ("ce:00:00:00:00:01", None, None, "docker0", "up", 10_000_000_000, 1500),
        "tun0": (None, None, "tun", None, "unknown", 10_000_000, 1500),
        "ifb0": ("9a:00:00:00:00:01", None, None, None, "down", None, 1500),
    }


def test_container(tmp_path: Path) -> None:
    machine, _ = unpack("container", tmp_path)
    network, interfaces = by_name(None, NetReader(machine).read())
    assert [name for name, entry in interfaces.items() if entry["summed"]] == ["eth0"]
    assert (network["received_bytes"], network["sent_bytes"]) == (1000, 2000)


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


def test_rates(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    reader = NetReader(machine)
    put(tmp_path, "proc/net/dev", HEAD + line("eth0", 1000, 500))
    before = reader.read()
    put(tmp_path, "proc/net/dev", HEAD + line("eth0", 3000, 600))
    network, interfaces = by_name(before, reader.read(), 2.0)
    for entry in (network, interfaces["eth0"]):
        assert (entry["received_bytes_per_second"], entry["sent_bytes_per_second"]) == (1000.0, 50.0)


def test_an_interface_made_anew_has_no_negative_rate(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    reader = NetReader(machine)
    put(tmp_path, "proc/net/dev", HEAD + line("eth0", 1000, 500))
    before = reader.read()
    put(tmp_path, "proc/net/dev", HEAD + line("eth0", 10, 700))
    network, interfaces = by_name(before, reader.read())
    for entry in (network, interfaces["eth0"]):
        assert (entry["received_bytes_per_second"], entry["sent_bytes_per_second"]) == (0.0, 200.0)
    assert (network["received_bytes"], network["sent_bytes"]) == (1000, 700)


def test_interfaces_come_and_go(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    reader = NetReader(machine)
    received, rates = [], []
    before = None
    for eth1 in (None, 5000, 5100, None, 7, 8):
        text = line("lo", 9, 9) + line("eth0", 100, 0) + (line("eth1", eth1, 0) if eth1 is not None else "")
        put(tmp_path, "proc/net/dev", HEAD + text)
        now = reader.read()
        network, interfaces = by_name(before, now)
        received.append(network["received_bytes"])
        rates.append(interfaces["eth1"]["received_bytes_per_second"] if "eth1" in interfaces else "absent")
        before = now
    assert received == [100, 100, 200, 200, 200, 201]
    assert rates == ["absent", None, 100.0, "absent", None, 1.0]


def test_an_interface_on_one_that_gets_another_name_is_not_counted_beside_it(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    reader = NetReader(machine)
    for lower, master in (("eth0", "br0"), ("wan0", "br1")):
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


def test_without_interfaces_nothing_was_received(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    put(tmp_path, "proc/net/dev", HEAD + line("lo", 9, 9))
    network, interfaces = by_name(None, NetReader(machine).read())
    assert interfaces == {}
    assert [network[name] for name in NAMES] == [0] * 8


def test_a_change_of_state_is_seen_and_nothing_else_is_read_again(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    reader = NetReader(machine)
    first = reader.read()
    assert first is not None
    version = reader.version
    for _ in range(len(first.interfaces)):
        again = reader.read()
        assert again is not None
        assert again.interfaces is first.interfaces
    assert reader.version == version
    for name, value in (("operstate", "up"), ("speed", "2500"), ("carrier_changes", "2")):
        put(tmp_path, f"sys/class/net/eth1/{name}", f"{value}\n")
    for _ in range(len(first.interfaces)):
        reader.read()
    _, interfaces = by_name(None, reader.read())
    assert reader.version == version + 1
    assert (interfaces["eth1"]["state"], interfaces["eth1"]["speed_bits_per_second"]) == ("up", 2_500_000_000)
    assert first.interfaces["eth1"].state == "down"  # an earlier reading stays what it was


def test_names_of_any_bytes() -> None:
    assert list(parse_net_dev(b"\xff\xfe: " + b"1 " * 16 + b"\n")) == ["\\xff\\xfe"]


# -- this machine by a second truth ------------------------------------------------------------------------------


def test_counters_against_sysfs_and_psutil() -> None:
    reading = NetReader(Machine()).read()
    assert reading is not None
    files = ("rx_bytes", "tx_bytes", "rx_packets", "tx_packets", "rx_errors", "tx_errors")
    truth = psutil.net_io_counters(pernic=True)
    assert reading.counters.keys() == truth.keys() - {"lo"}
    for name, values in reading.counters.items():
        for file, value in zip(files, values, strict=False):
            path = f"/sys/class/net/{name}/statistics/{file}"
            if os.path.exists(path):
                assert 0 <= int(Path(path).read_text()) - value < 1 << 26
        assert values[0] <= truth[name].bytes_recv < values[0] + (1 << 26)
        assert values[1] <= truth[name].bytes_sent < values[1] + (1 << 26)


def ip_link() -> dict[str, tuple[int, ...]]:
    """The counters as ip(8) shows them, in our order."""
    done = subprocess.run(["ip", "-json", "-s", "-s", "link", "show"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"ip(8) cannot say: {done.stderr.strip()}")
    found = {}
    for link in json.loads(done.stdout):
        rx, tx = link["stats64"]["rx"], link["stats64"]["tx"]
        dropped = rx["dropped"] + rx.get("missed_errors", 0), tx["dropped"]
        pairs = ((rx[name], tx[name]) for name in ("bytes", "packets", "errors"))
        found[link["ifname"]] = tuple(value for pair in (*pairs, dropped) for value in pair)
    return found


@pytest.mark.skipif(shutil.which("ip") is None, reason="no ip(8)")
def test_counters_against_ip() -> None:
    """Counters only grow: what another program reads between two readings lies between them."""
    reader = NetReader(Machine())
    before, truth, after = reader.read(), ip_link(), reader.read()
    assert before is not None
    assert after is not None
    assert truth.keys() - {"lo"} == before.counters.keys()
    for name in before.counters:
        for low, value, high in zip(before.counters[name], truth[name], after.counters[name], strict=True):
            assert low <= value <= high, name


NAMESPACE = """
import ctypes, json, socket, subprocess, sys
libc = ctypes.CDLL(None)

def ip(words, **more):
    done = subprocess.run(["ip", *words.split()], capture_output=True, text=True, **more)
    if done.returncode:
        sys.exit(f"ip {words}: {done.stderr}")

if libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None):
    sys.exit("no sysfs")
pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)  # it ends with this process
try:
    with open("/proc/sys/net/ipv6/conf/default/disable_ipv6", "w") as file:
        file.write("1")  # or it says something by itself
except OSError as error:
    sys.exit(f"no sysctl: {error}")
peer = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec cat"], **pipes)
peer.stdout.readline()
far = f"netns {peer.pid}"
for words in (
    f"add eth0 type veth peer name eth0 {far}", f"add veth1 type veth peer name eth1 {far}", "add br0 type bridge",
    "add ifb9 type ifb", "add link eth0 name mv0 type macvlan", "set veth1 master br0", "set eth0 up", "set veth1 up",
    "set br0 up", "set ifb9 up", "set mv0 up",
):
    ip(f"link {words}")
ip("tuntap add dev tun0 mode tun")
for name in "eth0", "eth1":  # with the far end down nothing leaves
    subprocess.run(["nsenter", "-t", str(peer.pid), "-n", "ip", "link", "set", name, "up"], check=True)
for name, number in (("eth0", 1), ("br0", 2), ("mv0", 3)):
    ip(f"addr add 10.99.{number}.2/24 dev {name}")

from proctally.kernel.machine import Machine
from proctally.kernel.net import NetReader
reader = NetReader(Machine())

def send(*through):
    before = reader.read()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number, name in through:
            ip(f"neigh replace 10.99.{number}.1 lladdr 02:00:00:00:00:0{number} dev {name}")
            for _ in range(100):
                sender.sendto(bytes(1000), (f"10.99.{number}.1", 9))
    after = reader.read()
    sent = {name: values[1] - before.counters[name][1] for name, values in after.counters.items()}
    print(json.dumps({"summed": sorted(after.summed), "sent": sent, "total": after.totals[1] - before.totals[1],
        "kinds": {name: each.kind for name, each in after.interfaces.items()}}))

send((1, "eth0"), (2, "br0"), (3, "mv0"))
for words in "del br0", "set eth0 down", "set eth0 name wan0", "set wan0 up":
    ip(f"link {words}")
send((1, "wan0"), (3, "mv0"))
"""


def test_real_interfaces_are_counted_once(tmp_path: Path) -> None:
    """In a network namespace of their own, as in a container: a macvlan and a bridge carry what others carry too."""
    if os.getuid() or shutil.which("ip") is None or shutil.which("nsenter") is None:
        pytest.skip("network namespaces take root and ip(8)")
    command = ["unshare", "--net", "--mount", sys.executable, "-c", NAMESPACE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.stderr.startswith(("ip ", "no ", "unshare")):
        pytest.skip(done.stderr.strip())
    assert done.stderr == ""
    first, renamed = (json.loads(line) for line in done.stdout.splitlines())
    assert {"eth0", "br0", "veth1", "mv0", "ifb9", "tun0"} <= first["sent"].keys()
    assert (first["kinds"]["br0"], first["kinds"]["tun0"]) == ("bridge", "tun")
    assert first["summed"] == ["eth0"]
    assert renamed["summed"] == ["veth1", "wan0"]  # which has lost its bridge
    assert first["sent"]["br0"] > 100_000
    for said, name in ((first, "eth0"), (renamed, "wan0")):
        assert said["sent"]["mv0"] > 100_000
        assert said["total"] == sum(said["sent"][each] for each in said["summed"])
        assert said["sent"][name] > 200_000
