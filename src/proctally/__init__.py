"""proctally: an exact, lightweight resource tracker for Linux.

    proctally.track     what a block of this program, or a function, uses: with proctally.track() as run: ...
    proctally.preload   starts the helper process of track: before chroot(2), or setuid(2) to a user without access
    proctally.Run       what track() gives: totals, samples, phases
    proctally.Tree      one process tree, read whenever the caller asks
    proctally.process   one process: one function for each number
    proctally.processes many processes: one pass over all, trees, trackers
    proctally.system    the whole machine
    proctally.gauges    percent and bytes of each process of a tree, for dashboards and throttles

Importing does nothing; the public names are loaded when they are first used. docs/library.md says which tracker to
take when. `load_ipython_extension` is for IPython: %load_ext proctally.
"""

from _warnings import warn as _warn  # built in: it is there when no module can be loaded

# Name: the module it is from. The two hooks are not public: only IPython calls them.
_NAMES = {
    "__version__": "proctally.record",
    "AccessDenied": "proctally.errors",
    "AlreadyClosed": "proctally.errors",
    "NoDescriptors": "proctally.errors",
    "ProcessGone": "proctally.errors",
    "Run": "proctally.library.run",
    "TrackingWarning": "proctally.errors",
    "Tree": "proctally.library.tree",
    "load_ipython_extension": "proctally.library.ipython",
    "preload": "proctally.library.track",
    "track": "proctally.library.track",
    "unload_ipython_extension": "proctally.library.ipython",
}
_MODULES = ("gauges", "process", "processes", "system")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally import gauges as gauges
    from proctally import process as process
    from proctally import processes as processes
    from proctally import system as system
    from proctally.errors import AccessDenied as AccessDenied
    from proctally.errors import AlreadyClosed as AlreadyClosed
    from proctally.errors import NoDescriptors as NoDescriptors
    from proctally.errors import ProcessGone as ProcessGone
    from proctally.errors import TrackingWarning as TrackingWarning
    from proctally.library.ipython import load_ipython_extension as load_ipython_extension
    from proctally.library.ipython import unload_ipython_extension as unload_ipython_extension
    from proctally.library.run import Run as Run
    from proctally.library.track import preload as preload
    from proctally.library.track import track as track
    from proctally.library.tree import Tree as Tree
    from proctally.record import __version__ as __version__

else:  # seen by a type checker, this would make every name a public one

    def __getattr__(name: str) -> object:
        if name not in _NAMES and name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            from importlib import import_module

            if name in _MODULES:
                return import_module(f"{__name__}.{name}")
            found = globals()[name] = getattr(import_module(_NAMES[name]), name)
        except ImportError as error:
            if name != "track":
                raise
            return _stand_in(error)
        return found


def _stand_in(error: ImportError) -> object:
    """Return what replaces `track` after chroot(2): a missing module never ends the program."""
    why = f"everything: {error}; call proctally.preload() before chroot or setuid"

    def track(*_: object, **__: object) -> object:
        _warn(f"proctally: {why}", RuntimeWarning, 2)
        return _untracked(why)

    return track


def _untracked(why: str) -> object:
    """Return the result of `track()`, and its run and phases, where the modules of proctally cannot be loaded.

    Its classes are made here: a start of the command needs none.
    """

    class Unknown:
        """A summary and its sections, of which nothing is known."""

        sections = (
            "reason", "cpu", "memory", "io", "processes", "time", "waiting", "others", "counters", "limits", "tracker",
        )  # fmt: skip

        def __getattr__(self, name: str) -> object:
            if name.startswith("_"):
                raise AttributeError(name)
            return Unknown() if name in self.sections else None

        def __str__(self) -> str:
            return "proctally run  no summary\n"

        def as_dict(self) -> dict[str, object]:
            return {}

    class Missing(str):
        code = "helper_failed"

    class Untracked:
        id = name = path = None
        samples = phases = ()
        summary = Unknown()
        missing = [Missing(why)]

        def start(self, *_: object) -> object:
            return self

        __enter__ = stop = phase = start

        def __exit__(self, *_: object) -> None:
            pass

        def stats(self) -> dict[str, object]:
            return {}

        def report(self, *_: object) -> str:
            raise ValueError(why)

        async def __aenter__(self) -> object:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        def __call__(self, function: object) -> object:
            return function

    return Untracked()


__all__ = [
    "AccessDenied",
    "AlreadyClosed",
    "NoDescriptors",
    "ProcessGone",
    "Run",
    "TrackingWarning",
    "Tree",
    "gauges",
    "preload",
    "process",
    "processes",
    "system",
    "track",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
