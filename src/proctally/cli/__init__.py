"""Words to calls, errors to exit statuses; `start` is the installed command.

Before `start` has made sure which modules it finds, it imports no file of the standard library. `from __future__`
would import one.
"""

import gc
import os
import sys
from posix import environ  # of bytes: a look into `os.environ` takes 1 us

# With these, modules, settings or debugging of another program reach this interpreter. Those that images of containers
# set (PYTHONUNBUFFERED, PYTHONDONTWRITEBYTECODE, PYTHON_VERSION) do no harm: a restart takes 9 ms.
REACHING = (
    b"PYTHONPATH", b"PYTHONHOME", b"PYTHONPLATLIBDIR", b"PYTHONWARNINGS", b"PYTHONVERBOSE", b"PYTHONDEBUG",
    b"PYTHONDEVMODE", b"PYTHONPROFILEIMPORTTIME", b"PYTHONMALLOC", b"PYTHONMALLOCSTATS", b"PYTHONTRACEMALLOC",
    b"PYTHONDUMPREFS", b"PYTHONDUMPREFSFILE", b"PYTHONINTMAXSTRDIGITS", b"PYTHONPERFSUPPORT",
    b"PYTHON_PERF_JIT_SUPPORT", b"PYTHON_CPU_COUNT", b"PYTHON_FROZEN_MODULES", b"PYTHON_PRESITE",
)  # fmt: skip
CANNOT_START = 125
FAILED = 1
INTERRUPTED = 130


def start() -> None:
    """Run the command in an interpreter that no other program reaches, and exit with its status."""
    gc.set_threshold(20_000)  # a start makes fewer objects, and none of them is garbage
    if not sys.flags.safe_path:
        del sys.path[0]  # the folder of the installed command, or the working directory: it may hold any module
    try:
        if not sys.flags.ignore_environment and any(map(environ.get, REACHING)):
            from proctally.cli.interpreter import restart

            restart()
        from proctally.linux.child import set_interrupt

        set_interrupt(raises=False)
        from proctally.cli.main import script

        script()
    except KeyboardInterrupt:  # from before
        os._exit(INTERRUPTED)
    except MemoryError:
        os.write(2, b"proctally: cannot start: out of memory\n")
        os._exit(CANNOT_START)
    except Exception as error:  # where memory is short, anything may fail; `run` never ends as if its command had
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        at = "" if place is None else f", {os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno}"
        why = ascii(" ".join(str(error).split())[:200])[1:-1]  # of another package it may be a page, of a file any byte
        os.write(2, f"proctally: internal error ({type(error).__name__}: {why}{at})\n".encode())
        os._exit(CANNOT_START if sys.argv[1:2] == ["run"] else FAILED)
