"""Network interfaces of this machine, and other tools' view of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from proctally.linux.machine import Machine
from proctally.linux.net import NetReader

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

from proctally.linux.machine import Machine
from proctally.linux.net import NetReader
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


def test_sysfs_of_another_network_namespace_is_noticed() -> None:
    """An interface with the name of one outside, as a container has: index and neighbours differ."""
    command = ["unshare", "--net", sys.executable, "-c", STRANGERS]
    if os.getuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces take root and ip(8)")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.stderr.startswith("unshare"):
        pytest.skip(done.stderr.strip())
    assert done.stdout.split() == ["sysfs_foreign", "{None}"], done.stderr


STRANGERS = """
import subprocess
subprocess.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"], check=True)
from proctally.linux.machine import host_machine
from proctally.linux.system import SystemReader
reading = SystemReader(host_machine()).read()
print(reading.errors["class/net"].code, set(reading.net.interfaces["eth0"].facts().values()))
"""
