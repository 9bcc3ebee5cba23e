"""The network interfaces of the machine: `/proc/net/dev` and `/sys/class/net`.

Layouts: net/core/net-procfs.c, Documentation/ABI/testing/sysfs-class-net of the kernel. Linux counts per interface and
per network namespace, never per process.
"""

from __future__ import annotations

from proctally.errors import SysfsForeign
from proctally.linux.counters import GrowingSum
from proctally.linux.machine import Machine
from proctally.linux.sources import UNBOUNDED_NS, KeptFile, attribute, entries, link_name, number, take
from proctally.text.escape import decode_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MOST_PER_SECOND = 1e11  # bytes of a link whose speed is unknown
LEAST_PER_SECOND = 1.25e9  # an emulated card transfers more than the speed that it shows ...
FASTER = 10  # ... and so does one between two machines of one host
BONDS = "bonding_masters"  # a file in the same directory
LOOPBACK = "lo"  # the kernel names it so, in every namespace

# The counters that are kept of the sixteen of a line.
NAMES = (
    "received_bytes",
    "sent_bytes",
    "received_packets",
    "sent_packets",
    "receive_errors",
    "send_errors",
    "receive_drops",
    "send_drops",
)

# What DEVTYPE calls interfaces whose traffic passes through another one as well. veth is not among them: it may be a
# container's only way out.
TUNNELS = frozenset({"vxlan", "geneve", "wireguard", "gtp", "bareudp", "tun", "ppp"})
TUNNEL_TYPES = frozenset({768, 769, 776, 778, 823})  # ARPHRD_TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE
UNNAMED_KINDS = ("ifb", "dummy")  # sysfs does not tell what they are; these are the names that the kernel gives them


def parse_net_dev(data: bytes) -> dict[str, tuple[int, ...]]:
    """`/proc/net/dev`: the counters of NAMES, in that order, of each interface.

    Its `drop` on receive is rx_dropped + rx_missed_errors (dev_seq_printf_stats).
    """
    found = {}
    for line in data.split(b"\n"):
        name, colon, rest = line.partition(b":")
        if not colon:
            continue  # the two lines of the head, and what follows the last newline
        words = rest.split()
        try:
            rx_bytes, rx_packets, rx_errors, rx_drops, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_drops = words[
                :12
            ]
            values = (rx_bytes, tx_bytes, rx_packets, tx_packets, rx_errors, tx_errors, rx_drops, tx_drops)
            found[decode_name(name.strip())] = tuple(map(int, values))
        except ValueError:
            raise ValueError(f"net/dev: {line[:200]!r}") from None
    return found


class Interface:
    """What sysfs says of an interface. None is unknown.

    `kind`: DEVTYPE of its uevent (bridge, bond, vlan, wlan, macvlan, ...) or `tun`; None for Ethernet and what has no
    name of its own, veth among them. `device`: it is a device of a bus; `on_another`: and yet its traffic passes
    through another interface (iflink of a DSA port). `lowers`: the interfaces of this namespace that it stands on.
    `tunnel`: what it carries passes through another interface. `state`: operational state as in RFC 2863. `probe`: as
    long as this stays, nothing else has changed.
    """

    __slots__ = (
        "device",
        "driver",
        "kind",
        "lowers",
        "mac",
        "master",
        "mtu_bytes",
        "name",
        "on_another",
        "probe",
        "speed_bits_per_second",
        "state",
        "tunnel",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.device = False
        self.driver: str | None = None
        self.kind: str | None = None
        self.lowers: tuple[str, ...] = ()
        self.mac: str | None = None
        self.master: str | None = None
        self.mtu_bytes: int | None = None
        self.on_another = False
        self.probe: tuple[str | None, ...] = ()
        self.speed_bits_per_second: int | None = None
        self.state: str | None = None
        self.tunnel = False

    def most_per_second(self) -> float:
        """Return how many bytes, and so packets, this interface can transfer in a second.

        A virtual interface shows any speed.
        """
        bits = self.speed_bits_per_second if self.device else None
        return MOST_PER_SECOND if bits is None else max(LEAST_PER_SECOND, FASTER * bits / 8)

    def stands_on(self, names: Collection[str]) -> bool:
        """Whether all that it is joined to is among these: where a name went, it may only have become another one."""
        return (self.master is None or self.master in names) and all(lower in names for lower in self.lowers)

    def facts(self) -> dict[str, object]:
        """What does not count: for the entry of this interface."""
        return {
            "mac": self.mac,
            "driver": self.driver,
            "kind": self.kind,
            "master": self.master,
            "state": self.state,
            "speed_bits_per_second": self.speed_bits_per_second,
            "mtu_bytes": self.mtu_bytes,
        }


def probe(machine: Machine, name: str) -> tuple[str | None, ...]:
    """Changes of carrier counted, state, MTU, master: what changes without the interface being made anew."""
    path = f"class/net/{name}"
    carrier_changes, state, mtu = (
        attribute(machine, f"{path}/{each}") for each in ("carrier_changes", "operstate", "mtu")
    )
    return carrier_changes, state, mtu, link_name(machine, f"{path}/master")


def read_interface(machine: Machine, name: str) -> Interface:
    """Some twenty calls: not for every sample."""
    path = f"class/net/{name}"
    interface = Interface(name)
    interface.probe = probe(machine, name)
    listed = entries(machine, path)
    if listed is None:
        return interface
    interface.device = "device" in listed
    interface.lowers = tuple(entry.removeprefix("lower_") for entry in listed if entry.startswith("lower_"))
    interface.mac = attribute(machine, f"{path}/address")
    _, interface.state, _, interface.master = interface.probe
    interface.mtu_bytes = number(machine, f"{path}/mtu")
    megabits = number(machine, f"{path}/speed")  # -1 or an error where it has none
    if megabits is not None and megabits > 0:
        interface.speed_bits_per_second = megabits * 1_000_000
    if interface.device:
        interface.driver = link_name(machine, f"{path}/device/driver")
        interface.on_another = number(machine, f"{path}/iflink") != number(machine, f"{path}/ifindex")
    if "tun_flags" in listed:
        interface.kind = "tun"
    for line in (attribute(machine, f"{path}/uevent") or "").split("\n"):
        if line.startswith("DEVTYPE="):
            interface.kind = line.removeprefix("DEVTYPE=")
    interface.tunnel = interface.kind in TUNNELS or number(machine, f"{path}/type") in TUNNEL_TYPES
    return interface


def choose_summed(interfaces: Mapping[str, Interface]) -> frozenset[str]:
    """The interfaces whose counters can be added up without counting a byte twice.

    Those that are devices of a bus, but not one whose master is such a device too and counts for it (the virtual
    function under a netvsc or a failover device), nor a port of a switch that hangs on another interface (DSA). In a
    namespace without any, as in a container: those without a master that do not stand on one already chosen; and
    bridges, tunnels, ifb and dummies only where there is nothing else.
    """
    known = {name: each for name, each in interfaces.items() if name != LOOPBACK}
    devices = {name for name, each in known.items() if each.device and not each.on_another}
    if devices:
        return frozenset(name for name in devices if known[name].master not in devices)
    free = {name for name, each in known.items() if each.master not in known}
    bottom = {name for name in free if free.isdisjoint(known[name].lowers)}
    plain = {name for name in bottom if not _is_beside(known[name])}
    return frozenset(plain or bottom)


def _is_beside(interface: Interface) -> bool:
    """Whether its traffic shows at another interface as well, where there is another."""
    return interface.tunnel or interface.kind == "bridge" or interface.name.startswith(UNNAMED_KINDS)


class NetReading:
    """`counters` (see NAMES) and `interfaces` by name, without the loopback; `totals` over those in `summed`.

    A counter in doubt is None. All `totals` are None until sysfs was read for each interface.
    """

    __slots__ = ("counters", "interfaces", "summed", "totals")

    def __init__(
        self,
        counters: dict[str, tuple[int | None, ...]],
        interfaces: dict[str, Interface],
        summed: frozenset[str],
        totals: tuple[int | None, ...],
    ) -> None:
        self.counters = counters
        self.interfaces = interfaces
        self.summed = summed
        self.totals = totals


def is_ours(machine: Machine, names: Collection[str]) -> bool:
    """Return whether sysfs shows the interfaces of this network namespace; it shows those of who mounted it.

    `names`: of `/proc/net/dev`. Where the names are the same, the index of each decides: a namespace counts its own.
    """
    listed = entries(machine, "class/net")
    if not listed:
        return True  # there is nothing that could be another's
    if {name for name in listed if name not in (LOOPBACK, BONDS)} != {name for name in names if name != LOOPBACK}:
        return False
    if (machine.proc, machine.sys) != ("/proc", "/sys"):
        return True
    from proctally.linux.channel import interface_indices

    try:
        indices = interface_indices()
    except OSError:
        return True
    return all(number(machine, f"class/net/{name}/ifindex") in (None, indices.get(name)) for name in names)


class NetReader:
    """Reads the counters each time, and what sysfs says of an interface when it appears.

    After that one interface is looked at again with each reading, in turn: state, speed and master of one may be as
    many readings old as there are interfaces. `version` grows when anything of it changed.

    `foreign`: the error where sysfs shows another network namespace: then it is not read.

    sysfs takes 0.2 ms an interface: `discover` reads the interfaces for which the time was too short.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.file = KeptFile(machine, "net/dev", records=True)
        self._interfaces: dict[str, Interface] = {}
        self._names: list[str] = []  # in the order of the file
        self._pending: list[str] = []  # interfaces whose sysfs is not read yet
        self._summed: frozenset[str] = frozenset()
        self._sum = GrowingSum(len(NAMES))
        self._turn = 0
        self.version = 0
        self.foreign: SysfsForeign | None = None

    def read(self, end_ns: int = UNBOUNDED_NS) -> NetReading | None:
        """None where the file cannot be read or understood.

        `end_ns`: when to stop reading sysfs; the interfaces that are left are in no reading yet.
        """
        counters = self.file.parsed(parse_net_dev)
        if counters is None:
            return None
        counters.pop(LOOPBACK, None)
        self._look(counters)
        if self.discover(end_ns):
            known = self._interfaces
            found: dict[str, tuple[int | None, ...]] = {name: counters[name] for name in counters if name in known}
            return NetReading(found, known, frozenset(), (None,) * len(NAMES))
        totals = self._sum.update(counters, self._summed, self._machine.monotonic_ns(), self._most)
        return NetReading(self._sum.values, self._interfaces, self._summed, totals)

    def discover(self, end_ns: int) -> bool:
        """Read sysfs of the interfaces that are left; True while some are."""
        if not self._pending:
            return False
        for name in take(self._pending, self._machine.monotonic_ns, end_ns):
            self._interfaces[name] = self._read(name)
        if not self._pending:
            self._settle({name: self._interfaces[name] for name in self._names})
        return bool(self._pending)

    def _read(self, name: str) -> Interface:
        return read_interface(self._machine, name) if self.foreign is None else Interface(name)

    def _settle(self, interfaces: dict[str, Interface]) -> None:
        self._interfaces = interfaces
        self._summed = choose_summed(interfaces)
        self.version += 1

    def _most(self, name: str) -> float:
        return self._interfaces[name].most_per_second()

    def _look(self, names: Mapping[str, object]) -> None:
        known = self._interfaces
        if self._pending:
            if self._names == list(names):
                return
        elif self.foreign is not None and known.keys() == names.keys() and not is_ours(self._machine, names):
            return
        elif self.foreign is None and known.keys() == names.keys():
            if not known:
                return
            self._turn = (self._turn + 1) % len(known)
            name = list(known)[self._turn]
            if probe(self._machine, name) == known[name].probe:
                return
            self._settle({**known, name: read_interface(self._machine, name)})
            return
        self._names = list(names)
        was_foreign, self.foreign = self.foreign, None if is_ours(self._machine, names) else SysfsForeign()
        if (was_foreign is None) != (self.foreign is None):
            known = {}
        self._interfaces = {name: known[name] for name in names if name in known and known[name].stands_on(names)}
        self._pending = [name for name in reversed(self._names) if name not in self._interfaces]
        if not self._pending:
            self._settle(self._interfaces)
