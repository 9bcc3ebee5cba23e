"""A web application with data of some 110 MiB, loaded before the workers are forked."""

from collections.abc import Callable, Iterable

DATA = [{"number": number, "name": f"name {number}"} for number in range(300_000)]


def app(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    total = sum(len(row["name"]) for row in DATA)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(total).encode()]
