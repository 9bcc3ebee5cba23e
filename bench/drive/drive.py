"""Real programs, each driven for some seconds and ended: drive.py PROGRAM SECONDS PLACE

PLACE is where the program lies: a folder of commands, or one of Python packages. All that a program writes goes to a
temporary folder of its own.
"""

from __future__ import annotations

import http.client
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATIENCE = 60.0  # beside load all starts slowly
NOBODY = "nobody"


@contextmanager
def folder(user: str | None = None) -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="proctally-drive-", dir="/var/tmp"))
    try:
        if user is not None:
            entry = pwd.getpwnam(user)
            os.chown(made, entry.pw_uid, entry.pw_gid)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def started(
    words: list[str], end: signal.Signals = signal.SIGTERM, **more: object
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **more)
    try:
        yield process
    finally:
        process.send_signal(end)
        process.wait()


def until_done(words: list[str], **more: object) -> None:
    """Run a command again and again until it succeeds: a server takes a moment."""
    deadline = time.monotonic() + PATIENCE
    while subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more).returncode:
        if time.monotonic() > deadline:
            sys.exit(f"not ready: {words[0]}")
        time.sleep(0.1)


def library_path(place: str) -> dict[str, str]:
    """Where commands that were unpacked, not installed, find their libraries."""
    unpacked = Path(place.rpartition("/usr/")[0] or "/")
    found = sorted({str(path.parent) for path in unpacked.glob("usr/lib/*/*.so*")}) if unpacked != Path("/") else []
    return os.environ | ({"LD_LIBRARY_PATH": ":".join(found)} if found else {})


def packages(place: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": place, "OPENBLAS_NUM_THREADS": "1"}


def postgres(seconds: float, place: str) -> None:
    """A server and 12 clients of pgbench. It refuses to run as root."""
    is_root = os.geteuid() == 0
    as_user = ["setpriv", f"--reuid={NOBODY}", "--regid=nogroup", "--clear-groups", "--"] if is_root else []
    with folder(NOBODY if is_root else None) as made:
        more = {"env": library_path(place) | {"HOME": str(made)}, "cwd": made}
        tool = {name: [*as_user, f"{place}/{name}"] for name in ("initdb", "postgres", "psql", "pgbench")}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": True, **more}
        subprocess.run([*tool["initdb"], "-A", "trust", "-N", "-U", "bench", "-D", f"{made}/data"], **quiet)
        options = ["-D", f"{made}/data", "-k", str(made), "-c", "listen_addresses=", "-c", "shared_buffers=64MB"]
        with started([*tool["postgres"], *options], signal.SIGINT, stderr=subprocess.DEVNULL, **more):
            reach = ["-h", str(made), "-U", "bench"]
            until_done([*tool["psql"], *reach, "-c", "select 1", "postgres"], **more)
            subprocess.run([*tool["pgbench"], *reach, "-i", "-q", "-s", "5", "postgres"], **quiet)
            subprocess.run([*tool["pgbench"], *reach, "-c", "12", "-T", str(round(seconds)), "postgres"], **quiet)


def redis(seconds: float, place: str) -> None:
    """A server that saves in the background twice while clients write."""
    with folder() as made:
        socket, environment = f"{made}/socket", library_path(place)
        server = [f"{place}/redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", str(made)]
        client, bench = [f"{place}/redis-cli", "-s", socket], [f"{place}/redis-benchmark", "-s", socket, "-q"]
        quiet = {"stdout": subprocess.DEVNULL, "env": environment, "check": True}
        with started(server, env=environment):
            until_done([*client, "ping"], env=environment)
            write = [*bench, "-t", "set", "-r", "250000", "-d", "1000", "-P", "16", "-n"]
            subprocess.run([*write, "400000"], **quiet)
            end = time.monotonic() + seconds
            for _ in range(2):
                subprocess.run([*client, "bgsave"], **quiet)
                subprocess.run([*write, "150000"], **quiet)
                time.sleep(max(0.0, min(seconds / 3, end - time.monotonic())))


def chromium(seconds: float, place: str) -> None:
    """A headless browser with three tabs that compute and hold memory."""
    page = (HERE / "page.html").as_uri()
    with folder() as made:
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-port=0",
            f"--user-data-dir={made}",
        ]
        environment = os.environ | {"HOME": str(made), "XDG_RUNTIME_DIR": str(made)}
        words = [f"{place}/chromium", *options, page]
        with started(words, stderr=subprocess.DEVNULL, env=environment):
            port, deadline = made / "DevToolsActivePort", time.monotonic() + PATIENCE
            while not port.exists() or not port.read_text():
                if time.monotonic() > deadline:
                    sys.exit("no DevTools")
                time.sleep(0.05)
            for _ in range(2):
                address = f"http://127.0.0.1:{port.read_text().split()[0]}/json/new?{page}"
                urllib.request.urlopen(urllib.request.Request(address, method="PUT"), timeout=PATIENCE).close()
            time.sleep(seconds)


def gunicorn(seconds: float, place: str) -> None:
    """Six preloaded workers: each request counts references, which copies pages."""
    with folder() as made:
        words = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "6", "--worker-tmp-dir", str(made)]
        words += ["--bind", "127.0.0.1:0", "--chdir", str(HERE), "--log-level", "info", "web:app"]
        log = made / "log"
        with open(log, "wb") as out, started(words, env=packages(place), stderr=out):
            deadline = time.monotonic() + PATIENCE
            while "Listening at: http://127.0.0.1:" not in log.read_text():
                if time.monotonic() > deadline:
                    sys.exit(log.read_text())
                time.sleep(0.05)
            port = int(log.read_text().partition("http://127.0.0.1:")[2].split()[0])
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                request = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
                request.request("GET", "/")
                request.getresponse().read()
                request.close()


def python(name: str, seconds: float, place: str) -> None:
    subprocess.run([sys.executable, str(HERE / name), str(seconds)], env=packages(place), check=True)


def java(seconds: float, place: str) -> None:
    """A heap of 400 MB under the serial collector."""
    words = ["-XX:+UseSerialGC", "-Xms400m", "-Xmx400m", str(HERE / "Heap.java"), str(round(seconds))]
    subprocess.run([f"{place}/java", *words], check=True)


def node(seconds: float, place: str) -> None:
    """A parent and three forked workers."""
    subprocess.run([f"{place}/node", str(HERE / "workers.js"), str(round(seconds))], check=True)


def make(seconds: float, place: str) -> None:
    """Six compilers at a time; one file for each second."""
    with folder() as made:
        body = "\n".join(
            f"double f{n}(double *a, int n) {{ double s = 0; for (int i = 0; i < n; i++) for (int j = 0; j < i; j++)"
            f" s += a[i] * a[j] / ({n} + s); return s; }}"
            for n in range(100)
        )
        for number in range(max(6, round(seconds))):
            (made / f"unit{number}.c").write_text(body)
        rule = "all: $(patsubst %.c,%.o,$(wildcard *.c))\n%.o: %.c\n\tgcc -O3 -c $< -o $@\n"
        (made / "Makefile").write_text(rule)
        subprocess.run([f"{place}/make", "-s", "-j6"], cwd=made, check=True)


PROGRAMS = {
    "postgres": postgres, "redis": redis, "chromium": chromium, "gunicorn": gunicorn,
    "numpy": lambda seconds, place: python("pool.py", seconds, place),
    "loky": lambda seconds, place: python("parallel.py", seconds, place),
    "java": java, "node": node, "make": make,
}  # fmt: skip


if __name__ == "__main__":
    program, seconds, place = sys.argv[1:]
    PROGRAMS[program](float(seconds), place)
