"""Turn a line of schema 1 into schema 2.

Schema 1 held sentences where schema 2 holds codes. No other module knows these sentences. A sentence that is not in
the tables gives no code: completeness is then `partial`, a reason or a missing source null.
"""

from __future__ import annotations

import errno
import os
import re

from proctally.record import codes
from proctally.record.codes import CPU, IO, MEMORY, PROCESSES, TIME
from proctally.record.values import value_at
from proctally.text.words import NVML_ERRORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from proctally.record import JsonObject

SCHEMA = "proctally/1"
UPGRADED = "proctally/2"
MAX_COMMANDS = 50  # a row of all others followed as many
OTHERS = "(others)"
SECTIONS = (CPU, MEMORY, IO, PROCESSES)
SINCE = ("since the attach, ", "since the start of the block, ")
ALL_BUT = "all but "
RECORDS_UNKNOWN = ", unless records were lost: this kernel does not say"
CLAUSE_END = "; "
MAX_SENTENCE = 10_000  # a longer one is not of ours
HARMLESS = (
    "complete", "incomplete", "peaks as sampled", "too short to be sampled",
    "the largest process by its high-water mark",
)  # fmt: skip
LAST_MOMENTS = "the last moments (about 50 us, and giving back its memory) of each process"

# a clause of a coverage: its code, the key of the gap that its first group gives, other keys
CLAUSES = tuple(
    (re.compile(pattern), code, key, values)
    for pattern, code, key, values in (
        (re.escape(LAST_MOMENTS), codes.TEARDOWN, None, {}),
        (re.escape(f"{LAST_MOMENTS}: perf alone has seen those that nobody waited for"), codes.UNREAPED, None, {}),
        (r"up to (\S+) s at the end of a process whose parent is outside the tree, or did not wait for it",
         codes.LAST_MOMENTS, "high_seconds", {}),
        (r"the largest process by its high-water mark as last read", codes.LAST_MOMENTS, None, {}),
        (r"threads that were made during the attach", codes.ATTACH_THREADS, None, {}),
        (r"what .* has others do: it is only their client", codes.CLIENT_ONLY, None, {}),
        (r"orphans after they were last seen: becoming a subreaper was refused", codes.NO_SUBREAPER, None, {}),
        (r"its cgroup has not all: .*", codes.CGROUP_LEFT, None, {}),
        (r"what was used outside of its cgroup", codes.CGROUP_LEFT, None, {}),
        (r"(\d+) children from before the start are left out, not all they leave",
         codes.EARLIER_CHILDREN, "count", {}),
        (r"as process 1, strangers that were adopted may be counted", codes.ADOPTED_UNRELATED, None, {}),
        (r"perhaps (\S+) s that perf alone counted: .*", codes.UNREAPED, "high_seconds", {"low_seconds": 0.0}),
        (r"processes that nobody waited for, after they were last seen", codes.UNREAPED, None, {}),
        (r"what children of (\d+) processes that ignore SIGCHLD used after they were last seen",
         codes.UNREAPED_UNSEEN, "count", {}),
        (r"children that nobody waits for \(SIGCHLD ignored, or set to be\), of which none was seen",
         codes.UNREAPED_UNKNOWN, None, {}),
        (r"what (\d+) processes (?:used|started) that may have executed a program with rights of its own.*",
         codes.SETUID, "count", {}),
        (r"(\d+) processes whose io is denied.*", codes.IO_DENIED, "count", {}),
        (r"(?:denied, or )?not available from this kernel", codes.IO_UNAVAILABLE, None, {}),
        (r"PSS of (\d+) processes is denied", codes.PSS_DENIED, "count", {}),
        (r"PSS of (\d+) processes had not been read at the peak", codes.PSS_STALE, "count", {}),
        (r"the largest process had at most (\d+) bytes", codes.NOT_SAMPLED, "high_bytes", {}),
        (r"run delay of processes with very many threads is left out", codes.DELAY_SAMPLED, None, {"section": TIME}),
        (r"seen or reaped: those of less than an interval that others waited for are missing.*",
         codes.PROCESSES_SAMPLED, None, {}),
        (r"those seen: what began and ended between two samples is missing", codes.PROCESSES_SAMPLED, None, {}),
        (r"what (\d+) lost records of perf would have told", codes.LOST_RECORDS, "count", {}),
        (r"processes of (\d+) threads whose fork was not told", codes.FORKS_UNSEEN, "count", {}),
        (r"what (\d+) unreadable buffers of perf would have told", codes.BUFFERS_UNREADABLE, "count", {}),
        (r"what was forked on (\d+) CPUs that came online meanwhile", codes.NEW_CPUS, "count", {}),
        (r"the CPU time of single processes, which this kernel does not tell: commands have it as sampled",
         codes.COMMAND_TIME_SAMPLED, None, {}),
        (re.escape(RECORDS_UNKNOWN), codes.LOST_UNKNOWN, None, {}),
        (r"the CPU time of (\d+) threads, which stands with the command itself",
         codes.THREAD_TIME_MERGED, "count", {}),
        (r"tracking ended before, by a fault of its own", codes.TRACKING_FAILED, None, {}),
    )
)  # fmt: skip
WHY_SAMPLED = re.compile(r"seen or reaped: .* are missing \((.*)\)")

# why a source is missing
WHYS = tuple(
    (re.compile(pattern), code)
    for pattern, code in (
        (r"not asked for.*", codes.NOT_REQUESTED),
        (r"switched off", codes.SWITCHED_OFF),
        (r"with \d+ CPUs every fork would take .*", codes.MANY_CPUS),
        (r"perf_event_open is known on x86_64 and aarch64 only, and needs ctypes", codes.UNSUPPORTED),
        (r"kernel\.perf_event_paranoid is -?\d+: .*", codes.PARANOID),
        (r"perf_event_open is refused: .*", codes.PERF_REFUSED),
        (r"refused for some of its threads: .*", codes.OTHER_USERS),
        (r"this kernel, or the sandbox, has no perf_event_open", codes.NO_SYSCALL),
        (r"no descriptor is left for .*", codes.NO_DESCRIPTORS),
        (r"this machine has no such counter", codes.NO_COUNTER),
        (r"no locked memory is left for rings: .*", codes.NO_LOCKED_MEMORY),
        (r"the kernel has no room for another counter", codes.NO_COUNTER_LEFT),
        (r"a process that runs already is not moved into one", codes.ALREADY_RUNNING),
        (r"cgroups are mounted read-only here: .*", codes.CGROUP_READ_ONLY),
        (r"this cgroup is not this user's to divide: .*", codes.CGROUP_NOT_DELEGATED),
        (r"the cgroup of this process was removed or is not visible here: .*", codes.CGROUP_MISSING),
        (r"no more cgroups are allowed here: .*", codes.CGROUP_LIMIT),
        (r"the kernel has no room for another cgroup: .*", codes.CGROUP_FULL),
        (r"the kernel has no memory for another cgroup: .*", codes.NO_KERNEL_MEMORY),
        (r"another run took the new cgroup for one that was left over: .*", codes.CGROUP_TAKEN),
        (r"this cgroup gives controllers to those below it .*", codes.CGROUP_BUSY),
        (r"/proc does not show this process: .*", codes.NO_OWN_PROCFS),
        (r"this cgroup is threaded or has no v2 hierarchy: .*", codes.CGROUP_UNFIT),
        (r"process(?:es| \d+) left it for another cgroup.*", codes.CGROUP_LEFT),
        (r"the job has just begun", codes.JUST_STARTED),
        (r"no GPU driver is loaded", codes.NO_DRIVER),
        (r"no answer yet|no answer from the .*|the driver hung: .*|the run ended before the answer", codes.NO_ANSWER),
        (r"the helper .*|the process that asks .*|a fault of the reader .*", codes.HELPER_FAILED),
        (r"NVML: its binding nvidia-ml-py cannot be loaded .*", codes.NO_BINDING),
        (r"no longer listed", codes.DEVICE_LOST),
        (r".*\bb(?:'.*'|\".*\").*", codes.INVALID),  # a parser quotes the bytes
    )
)
NVML = re.compile(r"NVML: (?:error (\d{1,9})|(.*))")
ERRNO = re.compile(r"\[Errno (\d{1,9})\].*")
AFTER_COLON = re.compile(r"(?:perf_event_open|a cgroup was refused|.* cannot be started): (.*)")

# how a run ended: the verdict rests on the first clause
ENDINGS = tuple(
    (re.compile(pattern), code, key)
    for pattern, code, key in (
        (r"exit status \d+", codes.EXIT_STATUS, None),
        (r"killed by signal (\d+) .*", codes.SIGNALLED, "signal"),
        (r"still running after (\S+) s \(--timeout\)", codes.TIMED_OUT, "limit_seconds"),
        (r"(?:PSS|cgroup memory) .* over --max-memory .* in two samples", codes.MEMORY_LIMIT, None),
        (r"not ended when tracking did", codes.NOT_ENDED, None),
        (r"stopped by signal (\d+) .*", codes.STOPPED, "signal"),
        (r"the duration of (\S+) s is over", codes.DURATION_OVER, "limit_seconds"),
        (r"nobody reads its output any more", codes.READERS_GONE, None),
        (r"its root and all known members ended", codes.ALL_EXITED, None),
        (r"the block ended", codes.BLOCK_ENDED, None),
        (r"the block ended by (\S+)", codes.BLOCK_ENDED, "exception"),
        (r"(\S+) was raised in the block", codes.BLOCK_ENDED, "exception"),
        (r"the block was cancelled before it began", codes.BLOCK_CANCELLED, None),
        (r"its block was left without a word", codes.BLOCK_LEFT, None),
        (r"its process ended inside the block", codes.PROGRAM_EXITED, None),
        (r"its process executed another program inside the block, or closed all its descriptors",
         codes.PROGRAM_REPLACED, None),
    )
)  # fmt: skip
OOM_KILLS = re.compile(
    r"(.*)'s oom_kill count rose by (\d+)(?: at a limit of (.*?))?(?:, last sample (.*?))?(?:, which .*)?"
)
OOM_PLACES = {
    "the run's own cgroup": codes.OWN_CGROUP,
    "the cgroup": codes.ENCLOSING_CGROUP,
    "the machine": codes.WHOLE_MACHINE,
}
MAX_MEMORY = re.compile(r"(PSS|cgroup memory) (.*) over --max-memory (.*) in two samples")
SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,3})?) ([KMGT]i)?B")
POWERS = {None: 0, "Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4}
REASON = (
    "code", "signal", "core_dumped", "exception", "limit_seconds", "measure", "used_bytes", "limit_bytes", "oom_kills",
    "oom_place", "oom_cgroup", "memory_limit_bytes", "last_rss_bytes", "left_alive",
)  # fmt: skip
GAP = ("section", "code", "count", "low_seconds", "high_seconds", "low_bytes", "high_bytes")


def upgrade(line: JsonObject) -> JsonObject:
    """Return a line of schema 1 in schema 2; the line itself stays as it is."""
    kind = line.get("type")
    if kind == "run":
        return line | {"schema": UPGRADED}
    if kind == "process":
        return _renamed(line, "start", "start_ticks")
    if kind in ("host", "devices"):
        return _unavailable(line, "troubles")
    if kind == "sample":
        return _sample(line)
    return _summary(line) if kind == "summary" else line


def _renamed(line: JsonObject, old: str, new: str) -> JsonObject:
    return {new if name == old else name: value for name, value in line.items()}


def _unavailable(section: JsonObject, name: str) -> JsonObject:
    """Return the section with `unavailable`, a map of codes, instead of a map of sentences."""
    if name not in section:
        return section
    return _renamed(section | {name: _whys(section[name])}, name, "unavailable")


def _whys(sentences: object) -> dict[str, str | None] | None:
    if not isinstance(sentences, dict):
        return None
    return {str(what): _why(sentence) for what, sentence in sentences.items()}


def _why(sentence: object) -> str | None:
    """Return the code of the reason why a source is missing; None where the sentence is unknown."""
    if not isinstance(sentence, str) or len(sentence) > MAX_SENTENCE:
        return None
    nvml = NVML.fullmatch(sentence)
    for pattern, code in WHYS:
        if pattern.fullmatch(sentence):
            return code
    if nvml is not None:
        return f"nvml_{nvml[1]}" if nvml[1] else _nvml(nvml[2])
    number = ERRNO.fullmatch(sentence)
    if number is not None:
        return errno.errorcode.get(int(number[1]))
    after = AFTER_COLON.fullmatch(sentence)
    text = sentence if after is None else after[1]
    return next((name for number, name in errno.errorcode.items() if os.strerror(number) == text), None)


def _nvml(text: str) -> str:
    for number, known in NVML_ERRORS.items():
        if text.rstrip(".").lower() == known.lower() or (number == 18 and text.startswith("driver/library version")):
            return f"nvml_{number}"
    return codes.DRIVER_ERROR


def _sample(line: JsonObject) -> JsonObject:
    if "gpus_skipped" in line:
        line = line | {"gpus_skipped": _why(line["gpus_skipped"])}
    if "gpus_trouble" in line:
        line = _renamed(line | {"gpus_trouble": _why(line["gpus_trouble"])}, "gpus_trouble", "gpus_unavailable")
    gpus = line.get("gpus")
    if isinstance(gpus, list):
        line = line | {"gpus": [_gpu(gpu) if isinstance(gpu, dict) else gpu for gpu in gpus]}
    return line


def _gpu(gpu: JsonObject) -> JsonObject:
    if "trouble" not in gpu:
        return gpu
    trouble = gpu["trouble"]
    parts = trouble.split(CLAUSE_END) if isinstance(trouble, str) else []
    sentences = {name: why for name, _, why in (part.partition(": ") for part in parts)}
    return _unavailable(gpu | {"trouble": sentences or None}, "trouble")


# -- the summary -----------------------------------------------------------------------------------------------------


def _summary(line: JsonObject) -> JsonObject:
    gaps: list[JsonObject] = []
    changed: JsonObject = {}
    for name in SECTIONS:
        section = line.get(name)
        if isinstance(section, dict) and "coverage" in section:
            coverage, found = _completeness(name, section["coverage"])
            left = _count(line.get(PROCESSES), "left")
            if left and name == CPU and not str(section["coverage"]).startswith(SINCE):
                coverage = codes.PARTIAL
                found.append(_gap(CPU, codes.LEFT_RUNNING, count=left))
            changed[name] = section | {"coverage": coverage}
            gaps += found
    for name in (CPU, "system"):
        section = changed.get(name, line.get(name))
        if isinstance(section, dict) and "unavailable" in section:
            changed[name] = section | {"unavailable": _whys(section["unavailable"]) or {}}
    _note_why_sampled(line, changed)
    if isinstance(line.get("commands"), list):
        changed["commands"] = _commands(line["commands"])
    upgraded = _renamed(line | changed, "evidence", "reason")
    return upgraded | {"reason": _reason(line), "gaps": _once(gaps)}


def _gap(section: str, code: str, **values: object) -> JsonObject:
    return dict.fromkeys(GAP) | {"section": section, "code": code} | values


def _completeness(section: str, sentence: object) -> tuple[str, list[JsonObject]]:
    """Return the completeness that a coverage of schema 1 describes, and its gaps."""
    if not isinstance(sentence, str) or len(sentence) > MAX_SENTENCE:
        return codes.UNKNOWN, []
    gaps, is_partial = [], False
    for clause in _clauses(sentence):
        gap = _gap_of(section, clause)
        if gap is not None:
            if gap["code"] == codes.TEARDOWN and sentence.startswith(SINCE):
                gap["code"] = codes.LAST_MOMENTS
            gaps.append(gap)
        is_partial |= gap["section"] == section if gap is not None else clause not in HARMLESS
    if any(gap["code"] == codes.IO_UNAVAILABLE for gap in gaps):
        return codes.UNKNOWN, gaps
    return codes.PARTIAL if is_partial else codes.COMPLETE, gaps


def _gap_of(section: str, clause: str) -> JsonObject | None:
    for pattern, code, key, values in CLAUSES:
        found = pattern.fullmatch(clause)
        if found is not None:
            known = {} if key is None else {key: _number(found[1], whole=key in ("count", "high_bytes"))}
            return _gap(section, code) | known | values
    return None


def _clauses(sentence: str) -> list[str]:
    """Return the parts of a coverage, without what introduces them."""
    found = []
    for part in sentence.split(CLAUSE_END):
        for start in (*SINCE, ALL_BUT):
            part = part.removeprefix(start)
        first, comma, rest = part.partition(RECORDS_UNKNOWN)
        found += [first, comma + rest] if comma else [part]
    return found


def _once(gaps: Iterable[JsonObject]) -> list[JsonObject]:
    """Return the gaps without a second one of the same section and code."""
    found: dict[tuple[str, str], JsonObject] = {}
    for gap in gaps:
        found.setdefault((gap["section"], gap["code"]), gap)
    return list(found.values())


def _note_why_sampled(line: JsonObject, changed: JsonObject) -> None:
    """Keep why single processes are unknown although perf counted: the coverage of processes says it."""
    section, cpu = line.get(PROCESSES), changed.get(CPU)
    found = WHY_SAMPLED.match(str(section.get("coverage"))) if isinstance(section, dict) else None
    if found is None or not isinstance(cpu, dict):
        return
    missing = cpu.get("unavailable")
    if isinstance(missing, dict) and "perf" not in missing:
        changed[CPU] = cpu | {"unavailable": missing | {"commands": _why(found[1])}}


def _commands(rows: list[object]) -> list[object]:
    """Return the commands; the row of all others is marked, a command of that name is not."""
    *first, last = rows or [None]
    if len(first) != MAX_COMMANDS or not isinstance(last, dict) or last.get("command") != OTHERS:
        return rows
    return [*first, last | {"folded": True}]


# -- how it ended ----------------------------------------------------------------------------------------------------


def _reason(line: JsonObject) -> JsonObject:
    reason: JsonObject = dict.fromkeys(REASON)
    evidence = line.get("evidence")
    if not isinstance(evidence, str) or len(evidence) > MAX_SENTENCE:
        return reason
    first, *rest = evidence.split(CLAUSE_END)
    for pattern, code, key in ENDINGS:
        found = pattern.fullmatch(first)
        if found is not None:
            reason["code"] = code
            if key is not None:
                reason[key] = found[1] if key == "exception" else _number(found[1], whole=key == "signal")
            break
    if reason["code"] == codes.SIGNALLED:
        reason["core_dumped"] = first.endswith(", core dumped")
    limit = MAX_MEMORY.fullmatch(first)
    if limit is not None:
        reason["measure"] = codes.PSS if limit[1] == "PSS" else codes.CGROUP_MEMORY
        reason["used_bytes"], reason["limit_bytes"] = _bytes(limit[2]), _bytes(limit[3])
    if "something of it could not be killed" in rest:
        reason["left_alive"] = True
    for clause in rest:
        _note_oom_kills(reason, clause, line)
    return reason


def _note_oom_kills(reason: JsonObject, clause: str, line: JsonObject) -> None:
    found = OOM_KILLS.fullmatch(clause)
    if found is None:
        return
    limits = line.get("limits")
    reason["oom_kills"] = _number(found[2], whole=True)
    reason["oom_place"] = OOM_PLACES.get(found[1])
    reason["memory_limit_bytes"] = (_count(limits, "memory_bytes") or _bytes(found[3])) if found[3] else None
    reason["last_rss_bytes"] = _bytes(found[4])
    if line.get("verdict") == "oom":
        reason |= {"code": codes.OOM_KILLED, "signal": None, "core_dumped": None}


def _number(text: str, *, whole: bool) -> float | None:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        return None


def _count(section: object, name: str) -> int:
    count = value_at(section, name)
    return max(0, count) if type(count) is int else 0


def _bytes(text: str | None) -> int | None:
    """Return the bytes of a size as text (`40.0 MiB`), as exact as the text."""
    found = SIZE.fullmatch(text or "")
    return None if found is None else round(float(found[1]) * 1024 ** POWERS[found[2]])
