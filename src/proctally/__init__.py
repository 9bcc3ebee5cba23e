"""proctally: an exact, lightweight resource tracker for Linux.

Importing does nothing; the public names are loaded when they are first used.
"""

__version__ = "0.1.0"

# Public name: the module it is from; the modules themselves are public too.
_NAMES = {
    "Denied": "proctally.kernel.machine",
    "Exhausted": "proctally.kernel.machine",
    "Gone": "proctally.kernel.machine",
    "Run": "proctally.tracking",
    "TrackingWarning": "proctally.tracking",
    "Tree": "proctally.trees",
    "load_ipython_extension": "proctally.magic",
    "track": "proctally.tracking",
    "unload_ipython_extension": "proctally.magic",
}
_MODULES = ("gauges", "process", "processes", "system")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally import gauges as gauges
    from proctally import process as process
    from proctally import processes as processes
    from proctally import system as system
    from proctally.kernel.machine import Denied as Denied
    from proctally.kernel.machine import Exhausted as Exhausted
    from proctally.kernel.machine import Gone as Gone
    from proctally.magic import load_ipython_extension as load_ipython_extension
    from proctally.magic import unload_ipython_extension as unload_ipython_extension
    from proctally.tracking import Run as Run
    from proctally.tracking import TrackingWarning as TrackingWarning
    from proctally.tracking import track as track
    from proctally.trees import Tree as Tree

else:  # seen by a type checker, this would make every name a public one

    def __getattr__(name: str) -> object:
        if name not in _NAMES and name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        found = globals()[name] = getattr(import_module(_NAMES[name]), name)
        return found


__all__ = [
    "Denied",
    "Exhausted",
    "Gone",
    "Run",
    "TrackingWarning",
    "Tree",
    "gauges",
    "load_ipython_extension",
    "process",
    "processes",
    "system",
    "track",
    "unload_ipython_extension",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
