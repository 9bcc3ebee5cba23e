"""`python -m proctally`: the same as the installed command, which restarts itself as this file."""

import sys

if __name__ == "__main__":
    if not __package__:  # started by its path: import this package, and no other of its name
        places = sys.path
        sys.path = [__file__.rpartition("/proctally/")[0]]
        import proctally  # noqa: F401

        sys.path = places + sys.path  # the standard library first: the folder of the package may hold extras
        from proctally.linux.child import name_process

        name_process("proctally")
    from proctally.cli import start

    start()
