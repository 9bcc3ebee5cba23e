"""Parse the files that say what a machine is: os-release, cpuinfo, firmware, container and hypervisor hints."""

from __future__ import annotations

from proctally.text.escape import decode_name

NAME = 64  # maximum length of a name that another program gave


def parse_os_release(data: bytes) -> dict[str, str]:
    """`/etc/os-release`: assignments as a shell reads them, without expansion; of several of one name the last."""
    values = {}
    for line in data.split(b"\n"):
        name, equals, value = line.strip().partition(b"=")
        if equals and not name.startswith(b"#"):
            values[decode_name(name)] = decode_name(unquote(value))
    return values


def unquote(word: bytes) -> bytes:
    """The first word of a shell's line without its quotes.

    In double quotes a backslash stands before `"$`\\` and itself, in single quotes before nothing, outside before all.
    """
    found = bytearray()
    quote = escaped = 0
    for byte in word:
        if escaped:
            if quote and byte not in b'"$`\\':
                found += b"\\"
            found.append(byte)
            escaped = 0
        elif byte == 0x5C and quote != 0x27:
            escaped = byte
        elif byte in b"\"'" and quote in (0, byte):
            quote ^= byte
        elif not quote and byte in b" \t\r":
            break
        else:
            found.append(byte)
    return bytes(found)


class Processor:
    """The beginning of `/proc/cpuinfo`. `parts`: implementer and part of each kind of core (ARM).

    `hypervisor`: whether the CPU says that it runs below one; None where it has no such flag (all but x86).
    """

    __slots__ = ("hypervisor", "model", "parts", "vendor")

    def __init__(self) -> None:
        self.vendor: str | None = None
        self.model: str | None = None
        self.parts: list[tuple[str, str]] = []
        self.hypervisor: bool | None = None


# Keys of `cpuinfo` that name the model, the most exact first: x86 and ARM, LoongArch, MIPS, POWER and SPARC, RISC-V.
MODELS = (b"model name", b"Model Name", b"cpu model", b"cpu", b"uarch")


def parse_cpuinfo(data: bytes) -> Processor:
    """`/proc/cpuinfo`, or its beginning: on x86 the first record tells all, on ARM each core tells what it is.

    A core that has no name is shown by its numbers.
    """
    cpu = Processor()
    implementer = None
    models: dict[bytes, str] = {}
    for line in data.split(b"\n"):
        key, colon, value = line.partition(b":")
        key, value = key.rstrip(), value.strip()
        if not colon or not value:
            continue
        if key == b"vendor_id":
            cpu.vendor = cpu.vendor or decode_name(value)
        elif key in MODELS:
            models.setdefault(key, decode_name(value))
        elif key == b"flags" and cpu.hypervisor is None:
            cpu.hypervisor = b"hypervisor" in value.split()
        elif key == b"CPU implementer":
            implementer = decode_name(value)
        elif key == b"CPU part" and implementer is not None and (implementer, decode_name(value)) not in cpu.parts:
            cpu.parts.append((implementer, decode_name(value)))
        elif key.startswith(b"processor ") and b"machine = " in value:  # s390x; before it, the serial number
            models.setdefault(b"uarch", decode_name(value[value.index(b"machine = ") :]))
    cpu.model = next((models[key] for key in MODELS if key in models), None)
    if cpu.parts:
        from proctally.linux.arm_cores import core_name, maker_name

        cpu.vendor = cpu.vendor or " + ".join(dict.fromkeys(maker_name(maker) for maker, _ in cpu.parts))
        cpu.model = cpu.model or " + ".join(core_name(*part) for part in cpu.parts)
    return cpu


def parse_node_meminfo(data: bytes) -> int | None:
    """MemTotal of `/sys/devices/system/node/node*/meminfo` in bytes; None where it is missing."""
    for line in data.split(b"\n"):
        words = line.split()
        if len(words) >= 4 and words[2] == b"MemTotal:":
            return int(words[3]) * 1024
    return None


def parse_choice(data: bytes) -> str | None:
    """The one in brackets of a list of choices (`always [madvise] never`)."""
    chosen = data.partition(b"[")[2].partition(b"]")
    return decode_name(chosen[0]) or None if chosen[1] else None


def parse_variable(data: bytes, name: bytes) -> str | None:
    """One variable of `/proc/PID/environ`; nothing else of it is looked at."""
    for entry in data.split(b"\0"):
        key, equals, value = entry.partition(b"=")
        if equals and key == name:
            return decode_name(value)[:NAME] or None
    return None


SCOPES = ("docker-", "libpod-", "crio-", "cri-containerd-")
IDENTITY = 64  # hexadecimal digits


def container_of_path(path: str) -> str | None:
    """The container that the path of a cgroup speaks of, by the names that their runtimes give."""
    if "/kubepods" in path:
        return "kubernetes"
    before = ""
    for part in path.split("/"):
        stem = part.removesuffix(".scope")
        if before in ("docker", "libpod_parent") and _is_identity(stem.removeprefix("libpod-")):
            return "docker" if before == "docker" else "podman"
        for prefix in SCOPES:
            if stem.startswith(prefix) and _is_identity(stem.removeprefix(prefix)):
                return {"docker-": "docker", "libpod-": "podman"}.get(prefix, "kubernetes")
        if part.startswith("lxc.payload") or before in ("lxc", "lxc.payload"):
            return "lxc"
        if before == "machine.slice" and part.startswith("systemd-nspawn@"):
            return "systemd-nspawn"
        before = part
    return None


def _is_identity(word: str) -> bool:
    return len(word) == IDENTITY and not word.strip("0123456789abcdef")


# Which one is meant where several are found: the most telling first. An unknown name comes before none.
CONTAINERS = ("kubernetes", "podman", "docker", "lxc", "systemd-nspawn", "apptainer")
VIRTUAL = (
    *("wsl", "firecracker", "amazon", "google", "alibaba", "vmware", "virtualbox", "parallels", "hyperv", "bhyve"),
    *("apple", "xen", "kvm", "qemu", "vm-other"),
)
# How names that firmware gives begin. Some of them make machines without a hypervisor too: see `_virtualization`.
FIRMWARE = (
    ("Amazon EC2", "amazon"),
    ("Google Compute Engine", "google"),
    ("Alibaba Cloud ECS", "alibaba"),
    ("VMware", "vmware"),
    ("VirtualBox", "virtualbox"),
    ("innotek GmbH", "virtualbox"),
    ("Parallels", "parallels"),
    ("Apple Virtualization", "apple"),
    ("BHYVE", "bhyve"),
    ("HVM domU", "xen"),
    ("Xen", "xen"),
    ("KVM", "kvm"),
    ("QEMU", "qemu"),
)
CLOCKS = (("kvm-clock", "kvm"), ("hyperv_clocksource", "hyperv"), ("xen", "xen"))  # of guests only


def likeliest(hints: list[tuple[str, str]], order: tuple[str, ...]) -> str | None:
    """The first of these hints (name, where) in this order of names, then any."""
    names = [name for name, _ in hints]
    return next((name for name in order if name in names), names[0] if names else None)
