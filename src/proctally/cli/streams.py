"""The standard streams of the command, and what it writes there."""

from __future__ import annotations

import os

from proctally.cli.options import hints
from proctally.linux.child import call_before_end, hold_signals
from proctally.linux.descriptors import no_file
from proctally.text.escape import printable
from proctally.text.secrets import mask_text
from proctally.text.terminal import Look, say, say_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from proctally.record.location import WholeFile
    from proctally.tracking.config import Options
    from proctally.tracking.session import Ended


def occupy_standard_streams() -> None:
    """Open /dev/null (`no_file`) in place of a closed stdin, stdout or stderr, close-on-exec.

    Else a file that is opened later would get that number, and a message to stderr would be written into it. Writing
    there fails, as with a closed stream.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            path, flags = no_file("/")
            os.open(path, flags & ~os.O_RDWR | os.O_CLOEXEC)


def write_stdout(text: str) -> int:
    """Write text to stdout and return 0. Raises OSError."""
    return write_all((text,))


def write_all(texts: Iterable[str]) -> int:
    """Write texts to stdout, one after the other, and return 0. Raises OSError."""
    return write_parts(text.encode("utf-8", "backslashreplace") for text in texts)


def write_parts(parts: Iterable[bytes]) -> int:
    """Write one part after the other to stdout and return 0. Raises OSError."""
    from proctally.record.location import standard_output

    with standard_output() as record:
        for part in parts:
            record.write_bytes(part)
            record.drain()
    return 0


def whole_file(path: str, sources: Sequence[str], *, force: bool) -> WholeFile:
    """Return the output of a command; a signal that ends the command removes what is not whole. Raises OSError."""
    from proctally.record.location import WholeFile

    mask = hold_signals()
    file = WholeFile(path, sources, force=force)
    call_before_end(file.discard, mask)
    return file


def complain(text: str) -> None:
    """Write a message to stderr; a URL that the user gave can have a password."""
    say_line(mask_text(text, prose=True))


def show_end(ended: Ended, options: Options, environment: dict[str, str]) -> int:
    """Print the summary, warnings and hints; return the exit status, which no error here changes.

    With `--quiet` only the warnings are printed, and one line where the OOM killer ended a process.
    """
    text, warnings = "", [*ended.warnings]
    try:
        if ended.summary is not None and not options.quiet:
            from proctally.views.summary import render

            look, is_job = Look.of(environment), options.listen is None
            text = render(ended.name, ended.summary, ended.path, look, verbose=options.verbose, with_request=is_job)
        elif ended.summary is not None and ended.summary["reason"].get("oom_kills"):
            from proctally.record.values import was_killed
            from proctally.views.summary import title

            text = title(ended.name, ended.summary) if was_killed(ended.summary) else ""
        warnings += [] if options.quiet or ended.summary is None else hints(options, environment)
        text += "".join(f"proctally: {printable(mask_text(warning, prose=True))}\n" for warning in warnings)
    except Exception as error:
        text += f"proctally: summary: {type(error).__name__}: {error}\n"
    if text:
        say(text)
    return ended.status
