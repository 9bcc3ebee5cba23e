"""What a run is asked to do: the values of its options."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_INTERVAL = 0.05
ON = ("1", "true", "yes", "on")


class Options:
    """The values of all options; the class attributes are the defaults."""

    interval: float = 1.0
    output: str | None = None
    format: str = "jsonl"
    force: bool = False
    name: str | None = None
    tag: dict[str, str]
    quiet: bool = False
    verbose: bool = False
    source: str = "auto"
    commands: str = "auto"
    counters: bool = False
    pss_budget: float = 0.005
    process_lines: int = 2000
    no_record: bool = False
    summary_json: str | None = None
    wait_all: bool = False
    repeat: int | None = None
    warmup: int = 0
    versus: str | None = None
    ignore_failure: bool = False
    cgroup: bool = False
    timeout: float | None = None
    grace: float = 10.0
    max_memory: int | None = None
    duration: float | None = None
    no_system: bool = False
    no_gpu: bool = False
    cloud: bool = False
    serve: str | None = None
    listen: str | None = None
    textfile: str | None = None
    pushgateway: str | None = None
    pushgateway_keep: bool = False
    otlp: str | None = None
    verdict: str | None = None
    since: str | None = None
    older_than: str | None = None
    sort: str = "when"
    reverse: bool = False
    limit: int | None = None
    json: bool = False
    csv: bool = False
    where: Sequence[str] = ()
    of: str | None = None
    dry_run: bool = False
    begin: bool = False
    end: bool = False
    fail_on: str | None = None
    undecided: str | None = None
    for_: str | None = None
    all: bool = False
    trial: bool = False
    servers: str | None = None
    plain: bool = False
    count: int | None = None
    every: float | None = None
    open: bool = False

    def __init__(self) -> None:
        self.tag = {}


# what a job inside must not inherit: it would write over what the run outside writes
NOT_PASSED_ON = (
    "OUTPUT", "FORMAT", "FORCE", "NAME", "TAG", "SUMMARY_JSON", "DURATION",
    "REPEAT", "WARMUP", "VERSUS", "SERVE", "TEXTFILE", "PUSHGATEWAY", "PUSHGATEWAY_KEEP",
)  # fmt: skip


def has_exports(options: Options) -> bool:
    """Whether anything is to be exported while it is tracked."""
    asked = (options.serve, options.listen, options.textfile, options.pushgateway, options.otlp)
    return any(each is not None for each in asked)
