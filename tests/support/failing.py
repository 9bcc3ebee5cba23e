"""A tracker with a fault: `python failing.py PLACE CALL ERROR ARGUMENTS` is `proctally ARGUMENTS`, in which a function
raises an error from this call on. The place is as `tree.sampler:TreeSampler.scan`, below proctally.
"""

import builtins
import importlib
import sys
from functools import reduce
from typing import Any

from proctally.cli.main import main


def fail(place: str, first: int, error: type[Exception]) -> None:
    module, _, names = place.partition(":")
    *owners, name = names.split(".")
    owner = reduce(getattr, owners, importlib.import_module(f"proctally.{module}"))
    kept, calls = getattr(owner, name), 0

    def failing(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= first:
            raise error("broken on purpose")
        return kept(*arguments, **named)

    setattr(owner, name, failing)


if __name__ == "__main__":
    fail(sys.argv[1], int(sys.argv[2]), getattr(builtins, sys.argv[3]))
    sys.exit(main(sys.argv[4:]))
