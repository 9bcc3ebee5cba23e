"""Mutated input for every parser and every command that reads a record, and the checks of what they answer."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import re
import signal
import tempfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import proctally.linux
from places import GOLDEN
from proctally.cli.main import main
from proctally.errors import ProctallyError
from proctally.exporters.receiver import retry_after
from proctally.host import gpu_helper
from proctally.linux import perf
from proctally.record.catalogue import moment
from proctally.record.field_types import TypeFilter
from proctally.record.reader import line_of
from proctally.record.schema1 import upgrade
from proctally.text import escape, secrets, units
from writing import held

SECONDS = 6  # of CPU time for one input
WAIT_SECONDS = 90  # of wall time: a machine can be busy
MARKUP = "<script>alert(7)</script>"
HOSTILE: list[Any] = [
    None, True, False, 0, 1, -1, 0.5, -0.5, 1e308, -1e308, 5e-324, 10**30, -(10**30), 10**400, 2**63, 2**64, 2**64 - 1,
    1e11, 1e18, float("inf"), float("-inf"), float("nan"), "", " ", "x", "0", "1e5", "NaN", "=cmd|' /C calc'!A0", "\0",
    "a\nb\r\nc", "\x1b[31m\x1b]0;owned\x07", "\x9b31m", "\u202e\u2066rtl\u2069", "\ud800", "\U0010ffff", MARKUP,
    "`|*_[x](javascript:1)", "../../etc/passwd", "y" * 5000, [], {}, [None], [[]], [{}, 1, "x"], {"": None},
    {"a": {"b": [1]}}, [[[[[[[[1]]]]]]]],
]  # fmt: skip
DEEP = "[" * 500 + "]" * 500
TOKENS = [
    b"", b"\0", b"\n", b"\n\n", b" ", b"\t", b":", b"(", b")", b"-1", b"0", b"18446744073709551616", b"9" * 400, b"1e5",
    b"\xff", b"\x1b[31m", b"N/A", b"kB", b"max", b"/", b"=", b",", b"\\040", b"nan", b"inf", b"0x10", b"\xd9\xa3",
]  # fmt: skip
CONTROLS = {*map(chr, range(32)), *map(chr, range(127, 160)), *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}
CONTROLS -= {"\n"}


class Fault(AssertionError):
    """Something that no input may cause."""


def _late(number: int, frame: FrameType | None) -> None:
    raise Fault(f"not done after {WAIT_SECONDS if number == signal.SIGALRM else SECONDS} s")


def timed(call: Callable[[], Any]) -> Any:
    """Return what `call` returns; raises Fault if it takes too long."""
    timers = ((signal.ITIMER_PROF, signal.SIGPROF, SECONDS), (signal.ITIMER_REAL, signal.SIGALRM, WAIT_SECONDS))
    before = [signal.signal(number, _late) for _, number, _ in timers]
    for timer, _, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        return call()
    finally:
        for (timer, number, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


# -- parsers ---------------------------------------------------------------------------------------------------------


def _of_bytes(function: Any) -> bool:
    needed = [each for each in inspect.signature(function).parameters.values() if each.default is each.empty]
    return len(needed) == 1 and needed[0].annotation == "bytes"


def parsers() -> dict[str, Callable[[bytes], object]]:
    """Return every parser of one text by its name."""
    found: dict[str, Callable[[bytes], object]] = {}
    for each in pkgutil.iter_modules(proctally.linux.__path__):
        module = importlib.import_module(f"proctally.linux.{each.name}")
        for name, function in vars(module).items():
            is_own = inspect.isfunction(function) and function.__module__ == module.__name__
            if is_own and name.startswith("parse_") and _of_bytes(function):
                found[f"{each.name}.{name}"] = function

    def text(call: Callable[[str], object]) -> Callable[[bytes], object]:
        return lambda data: call(data.decode("utf-8", "surrogateescape"))

    def line(data: bytes) -> None:
        made = line_of(data)
        if made is not None:
            json.dumps(TypeFilter().admit(made), allow_nan=False)
            json.dumps(TypeFilter().admit(upgrade(made)), allow_nan=False)

    return found | {
        "gpu_helper.parse_namespace_pids": gpu_helper.parse_namespace_pids,
        "proc_memory.parse_statm": lambda data: proctally.linux.proc_memory.parse_statm(data, 4096),
        "perf.decode": lambda data: perf.decode(data, []),
        "reader.line_of": line,
        "catalogue.moment": text(moment),
        "secrets.mask": text(lambda words: secrets.mask(words.replace("\0", " ").split(" "))),
        "escape.safe_name": text(escape.safe_name),
        "escape.printable": text(escape.printable),
        "escape.decode_name": escape.decode_name,
        "receiver.retry_after": text(retry_after),
        "secrets.mask_text": text(secrets.mask_text),
        "units.parse_seconds": text(lambda words: units.parse_seconds(words, "x")),
        "units.parse_size": text(lambda words: units.parse_size(words, "x")),
    }


FILES = (
    "/proc/stat", "/proc/meminfo", "/proc/diskstats", "/proc/loadavg", "/proc/cpuinfo", "/proc/net/dev", "/proc/uptime",
    "/proc/pressure/cpu", "/proc/pressure/memory", "/proc/pressure/io", "/proc/sysvipc/shm", "/proc/tty/drivers",
    "/proc/self/stat", "/proc/self/status", "/proc/self/statm", "/proc/self/io", "/proc/self/schedstat",
    "/proc/self/smaps_rollup", "/proc/self/limits", "/proc/self/cgroup", "/proc/self/mountinfo", "/proc/self/mounts",
    "/proc/self/cmdline", "/proc/1/status", "/proc/thread-self/children", "/etc/os-release", "/proc/self/fdinfo/0",
    "/sys/devices/system/cpu/online", "/sys/devices/system/node/node0/meminfo", "/sys/fs/cgroup/cpu.stat",
    "/sys/fs/cgroup/memory.stat", "/sys/fs/cgroup/io.stat", "/sys/kernel/mm/transparent_hugepage/enabled",
)  # fmt: skip
MADE = (
    b"rpool\t1000\t400\t600\n", b"max 100000\n", b"50000 100000\n", b"0-3,8\n", b"drm-driver:\ti915\ndrm-pdev:\t0\n",
    b"c 4 1 deadbeef 5 / 1\n", b"12h", b"2026-01-31", b"Wed, 21 Oct 2026 07:28:00 GMT", b"1.5h", b"2GiB",
    b"some avg10=0 total=5\n",
    b"size 4 31457280\nc_min 4 1\n", b"NSpid:\t7\t1\n", b"--password x token=y sh -c 'A=b'", bytes(range(256)),
)  # fmt: skip


def corpus() -> list[bytes]:
    """Return files of this machine, and what it may lack."""
    found = list(MADE)
    for name in FILES:
        try:
            with open(name, "rb") as file:
                found.append(file.read(1 << 14))
        except OSError:
            continue
    found += [line for path in sorted(GOLDEN.glob("schema*/run.jsonl")) for line in path.read_bytes().splitlines()]
    return found


def mutated(data: bytes, chance: Random) -> bytes:
    """Return some bytes with 1 to 5 changes."""
    made = bytearray(data)
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(len(made) + 1)
        end = min(len(made), at + chance.choice((0, 1, 1, 2, 8, 64, 1024)))
        what = chance.randrange(5)
        if what == 0:
            made[at:end] = chance.choice(TOKENS)
        elif what == 1 and at < len(made):
            made[at] = chance.randrange(256)
        elif what == 2:
            del made[at:end]
        elif what == 3:
            made[at:at] = made[at:end] * chance.randint(1, 3)
        else:
            del made[at:]
    return bytes(made)


class Parsers:
    """Gives mutated texts to parsers. Raises Fault for an error other than ValueError and those of proctally."""

    def __init__(self) -> None:
        self.found = parsers()
        self._corpus = corpus()
        self._names = sorted(self.found)
        self._likes: dict[str, list[bytes]] = {name: self._taken(name) for name in self._names}

    def _taken(self, name: str) -> list[bytes]:
        """Return the texts that a parser takes: they reach further than others."""
        taken = []
        for data in self._corpus:
            try:
                if self.found[name](data):
                    taken.append(data)
            except (ValueError, ProctallyError):
                continue
        return taken or self._corpus

    def try_one(self, seed: int) -> None:
        """Give one text to one parser."""
        chance = Random(seed)
        name = chance.choice(self._names)
        texts = self._corpus if chance.random() < 0.1 else self._likes[name]
        data = mutated(chance.choice(texts), chance)
        try:
            timed(lambda: _exhausted(self.found[name](data)))
        except (ValueError, ProctallyError):
            pass
        except (Exception, Fault) as error:
            raise Fault(f"seed {seed}: {name}: {type(error).__name__}: {error} with {data[:300]!r}") from error


def _exhausted(found: object) -> None:
    if isinstance(found, Iterator):
        for _ in found:
            pass


# -- records ---------------------------------------------------------------------------------------------------------


def seeds() -> list[list[dict[str, Any]]]:
    """Return the lines of committed records."""
    paths = sorted(GOLDEN.glob("schema*/*.jsonl"))
    return [[json.loads(line) for line in path.read_bytes().splitlines()] for path in paths]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value in a line."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from places(each, (*path, key))


def changed(lines: list[dict[str, Any]], chance: Random) -> list[dict[str, Any]]:
    """Return the lines of a record with 1 to 5 changes, half of which are in the first or the last line."""
    made: list[dict[str, Any]] = json.loads(json.dumps(lines))
    for _ in range(chance.randint(1, 5)):
        what = chance.randrange(60)
        number = chance.choice((0, len(made) - 1)) if chance.random() < 0.5 else chance.randrange(len(made))
        if what < 46:
            _replace(made[number], chance)
        elif what < 49 and len(made) > 1:
            del made[number or len(made) - 1]
        elif what < 52:
            made.insert(number, made[number])
        elif what < 55:
            made.insert(
                number, {"type": chance.choice(("sample", "summary", "phase", "process", "host", "x", "devices"))}
            )
        elif what < 57:
            made = [made[0], made[-1]]
        elif what < 58:
            chance.shuffle(made)
        else:
            made[number:number] = chance.choice(([{}], [{"type": 7}], [{"type": "sample", "tree": {"cpu_cores": 1.0}}]))
    return made


def _replace(line: dict[str, Any], chance: Random) -> None:
    found = [*places(line)] or [("type",)]
    *path, last = chance.choice(found)
    if last in ("type", "schema") and chance.random() < 0.8:  # else most files would not be records at all
        *path, last = chance.choice(found)
    where: Any = line
    for key in path:
        where = where[key]
    if chance.random() < 0.15 and isinstance(where, dict):
        where.pop(last, None)
        if chance.random() < 0.5:
            where[chance.choice(("x", MARKUP, "\x1b[31m", "\ud800", last * 2))] = deepcopy(chance.choice(HOSTILE))
    else:
        where[last] = deepcopy(chance.choice(HOSTILE))


def record(lines: list[dict[str, Any]], chance: Random) -> bytes:
    """Return the bytes of a mutated record; one in eight is changed as bytes too."""
    made = "".join(json.dumps(line, ensure_ascii=chance.random() < 0.5) + "\n" for line in changed(lines, chance))
    data = made.encode("utf-8", "surrogatepass")
    if chance.random() < 0.02:
        data = data.replace(b":null", b":" + DEEP.encode(), 1)
    return mutated(data, chance) if chance.random() < 1 / 8 else data


FORMS: tuple[tuple[str, ...], ...] = (
    ("ls",), ("ls", "--json"), ("report", "-f", "text"), ("report", "-f", "markdown"), ("report", "-f", "json"),
    ("report", "-f", "text", "BOTH"), ("report", "-f", "markdown", "BOTH"), ("report", "-f", "json", "BOTH"),
    ("diff", "BOTH"), ("diff", "-f", "json", "BOTH"), ("diff", "-f", "markdown", "BOTH"), ("diff", "-v", "BOTH"),
    ("diff", "BOTH", "--fail-on", "cpu=+10%,memory=+1MB,verdict"), ("advise",), ("advise", "-f", "json"),
    ("advise", "-f", "markdown"), ("advise", "-q"), ("advise", "BOTH"), ("export", "-f", "csv"),
    ("export", "-f", "csv", "--every", "1"), ("export", "-f", "jsonl"), ("export", "-f", "jsonl", "--every", "0.3"),
    ("export", "-f", "parquet", "-o", "OUT"), ("rm", "--dry-run"), ("top", "--plain", "--duration", "0.1"),
)  # fmt: skip
FENCED = re.compile(r"^```text$.*?^```$", re.MULTILINE | re.DOTALL)  # a block of code, in which nothing is markup
PAGE = ("report", "-f", "html", "-o", "OUT")
PAGES = 0.002  # part of all commands that makes a page: it takes half a second


class Commands:
    """Calls commands with mutated records in a folder. Raises Fault for an answer that no record may cause."""

    def __init__(self, folder: Path) -> None:
        self.runs = folder / "runs"
        self.runs.mkdir(exist_ok=True)
        self._other = folder / "other.jsonl"
        self._output = folder / "output"
        self._seeds = seeds()
        self._other.write_bytes((GOLDEN / "schema2" / "run.jsonl").read_bytes())
        self.environment = {"PROCTALLY_HOME": str(folder), "TERM": "dumb", "COLUMNS": "100"}

    def try_one(self, seed: int, forms: tuple[tuple[str, ...], ...] = FORMS, each: int = 8) -> int:
        """Give one record to some of the commands; return how many."""
        chance = Random(seed)
        path = self.runs / "20260101T000000Z-x-0123abcd.jsonl"
        path.write_bytes(record(chance.choice(self._seeds), chance))
        chosen = chance.sample(forms, min(each, len(forms)))
        if chance.random() < PAGES * each:
            chosen.append(PAGE)
        for form in chosen:
            try:
                timed(lambda form=form: self._call(form, path))
            except (Exception, SystemExit, Fault) as error:
                kept = path.with_name("fault.jsonl")
                kept.write_bytes(path.read_bytes())
                words = f"seed {seed}: {' '.join(form)}: {type(error).__name__}: {error}"
                raise Fault(words[:2000]) from error
        return len(chosen)

    def _call(self, form: tuple[str, ...], path: Path) -> None:
        if form[0] != "top":
            self._checked(form, path)
            return
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.rfind(b"\n", 0, -1) + 1])  # without an end it is still written
        with held(path):
            self._checked(form, path)
        path.write_bytes(whole)

    def _checked(self, form: tuple[str, ...], path: Path) -> None:
        name = form[0]
        both = [str(self._other), str(path)] if "BOTH" in form else [] if name == "ls" else [str(path)]
        words = [str(self._output) if word == "OUT" else word for word in form if word != "BOTH"]
        to_file = ["--force"] if "OUT" in form else []
        status, out, err = called([*words, *to_file, *both], self.environment)
        if status not in (0, 1, 2, *([3] if name == "diff" else [])):
            raise Fault(f"status {status}")
        if "Traceback" in err or (name != "diff" and err.count("\n") > 2):
            raise Fault(f"stderr: {err[-500:]}")
        check(err)
        if form == PAGE:
            if status == 0 and MARKUP in self._output.read_text(encoding="utf-8"):
                raise Fault("markup of a name is in the page")
        elif "json" in form or "--json" in form or "jsonl" in form:
            for line in out.splitlines():
                json.loads(line, parse_constant=_no_constant)
        else:
            check(out)
            if "markdown" in form and MARKUP in FENCED.sub("", out):
                raise Fault("markup of a name is in the text")


def check(text: str) -> None:
    """Raise Fault for a character that a terminal obeys."""
    found = CONTROLS & set(text)
    if found:
        raise Fault(f"{sorted(found)!r} in {text[:500]!r}")


def _no_constant(name: str) -> None:
    raise Fault(f"{name} is not JSON")


def called(arguments: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    """Return the exit status, stdout and stderr of a command that runs in this process."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        kept = os.dup(1), os.dup(2)
        before = dict(os.environ)
        os.environ.update(environment)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            status = main(arguments)
        finally:
            for fd, copy in enumerate(kept, 1):
                os.dup2(copy, fd)
                os.close(copy)
            os.environ.clear()
            os.environ.update(before)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "surrogateescape"))
    return status, *texts
