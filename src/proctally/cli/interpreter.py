"""Restart of the command in an interpreter that ignores the variables of another program."""

import os
import sys

# Both set the program and the environment of an interpreter, regardless of its options.
RENAMING = ("PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__")


def restart() -> None:
    """Become an interpreter that ignores variables and the working directory; return if there is not one.

    The environment is passed byte for byte. The command line names the place of the package, which PYTHONPATH may have
    shown to this interpreter alone.
    """
    library = os.path.dirname(os.__file__)
    sys.path[:0] = [library, f"{library}/lib-dynload"]
    from proctally.linux.c_library import execve, libc
    from proctally.linux.child import initial_environment

    renamed = any(name in os.environ for name in RENAMING)
    program = os.path.realpath("/proc/self/exe") if renamed else sys.executable or ""
    main = f"{os.path.dirname(os.path.dirname(__file__))}/__main__.py"
    c_library = libc()
    if c_library is None or not (os.path.isfile(main) and os.access(program, os.X_OK)):
        return
    flags = sys.flags
    kept = {"-s": flags.no_user_site, "-S": flags.no_site, "-B": flags.dont_write_bytecode}
    # `-I` also hides packages that are installed for this user
    words = [program, "-E", "-P", *(option for option, is_set in kept.items() if is_set), main, *sys.argv[1:]]
    next(execve(c_library, [os.fsencode(program)], list(map(os.fsencode, words)), initial_environment()))
