"""Network values derived from two readings."""

from __future__ import annotations

from pathlib import Path

from captured import machine_in, put, unpack
from net_files import HEAD, line
from proctally.host.derive import derive_network
from proctally.linux.net import NAMES, NetReader, NetReading

Entries = dict[str, dict[str, object]]


def by_name(
    before: NetReading | None, now: NetReading | None, seconds: float = 1.0
) -> tuple[dict[str, object], Entries]:
    assert now is not None
    network, interfaces = derive_network(before, now, seconds)
    return network, {str(entry["name"]): entry for entry in interfaces}


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
        assert (entry["received_bytes_per_second"], entry["sent_bytes_per_second"]) == (None, 200.0)
    assert (network["received_bytes"], network["sent_bytes"]) == (None, 700)
    before = reader.read()
    put(tmp_path, "proc/net/dev", HEAD + line("eth0", 15, 700))
    network, interfaces = by_name(before, reader.read())
    assert (network["received_bytes"], interfaces["eth0"]["received_bytes"]) == (1005, 15)


def test_a_counter_that_reads_zero_once_grows_by_what_it_did(tmp_path: Path) -> None:
    machine, clock = machine_in(tmp_path)
    reader = NetReader(machine)
    found = []
    before = None
    for received in (10**12, 0, 10**12 + 1000, 10**12 + 3000):
        put(tmp_path, "proc/net/dev", HEAD + line("eth0", received, 0))
        now = reader.read()
        network, interfaces = by_name(before, now)
        eth0 = interfaces["eth0"]
        found.append([network["received_bytes"], network["received_bytes_per_second"]])
        found[-1] += [eth0["received_bytes"], eth0["received_bytes_per_second"]]
        before = now
        clock.advance(1.0)
    assert found == [
        [10**12, None, 10**12, None],
        [None, None, None, None],
        [10**12 + 1000, None, 10**12 + 1000, None],
        [10**12 + 3000, 2000.0, 10**12 + 3000, 2000.0],
    ]


def test_a_jump_beyond_the_speed_of_the_link_is_unknown(tmp_path: Path) -> None:
    machine, clock = machine_in(tmp_path)
    put(tmp_path, "sys/class/net/eth0/speed", "1000\n")
    (tmp_path / "sys/class/net/eth0/device").mkdir()
    reader = NetReader(machine)
    found = []
    for received in (5, 10**10, 1000):
        put(tmp_path, "proc/net/dev", HEAD + line("eth0", received, 0))
        network, _ = by_name(None, reader.read())
        found.append(network["received_bytes"])
        clock.advance(1.0)
    assert found == [5, None, 1000]


def test_a_counter_of_32_bits_wraps(tmp_path: Path) -> None:
    machine, _ = machine_in(tmp_path)
    reader = NetReader(machine)
    put(tmp_path, "proc/net/dev", HEAD + line("eth0", 4294966296, 0))
    before = reader.read()
    put(tmp_path, "proc/net/dev", HEAD + line("eth0", 9000, 0))
    network, interfaces = by_name(before, reader.read())
    assert (network["received_bytes"], interfaces["eth0"]["received_bytes_per_second"]) == (4294976296, 10000.0)


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
