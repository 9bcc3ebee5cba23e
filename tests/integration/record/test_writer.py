"""Records written to full disks, descriptors and sockets."""

from __future__ import annotations

import errno
import os
import pwd
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from proctally.record.location import open_default, open_output, runs_directory
from record_lines import drain, in_lines, numbers, sample
from small_disks import small_disk

# -- trouble with the disk ---------------------------------------------------------------------------------------


@pytest.fixture(name="small_disk")
def fixture_small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small") as folder:
        yield folder


def test_full_disk_that_has_room_again(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 40_000)
    record = open_output(str(small_disk / "record"))
    written = 0
    while record.error is None:
        record.write(sample(written, pad="x" * 700))
        written += 1
        assert written < 500
    assert record.error.errno == errno.ENOSPC
    for _ in range(5):
        record.write(sample(written, pad="x" * 700))
        written += 1
    torn = (small_disk / "record").read_bytes()
    assert torn.count(b"\n") < written
    assert numbers(record.path) == list(range(torn.count(b"\n"))), "readable in between"
    filler.unlink()
    record.write(sample(written))
    record.close()
    assert numbers(record.path) == list(range(written + 1)), "nothing lost, nothing twice, in order"
    assert record.lost_samples == 0
    assert record.error is None, "a record that is whole in the end is not to be warned of"


def test_full_disk_until_the_end(small_disk: Path) -> None:
    record = open_output(str(small_disk / "record"))
    for number in range(200):
        record.write(sample(number, pad="x" * 700))
    record.close()
    there = numbers(record.path)
    assert there == list(range(len(there)))
    assert 0 < len(there) < 200
    assert record.lost_samples == 200 - len(there)
    assert record.error is not None


# -- where it lies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd"])
def test_descriptor_of_this_process(tmp_path: Path, folder: str) -> None:
    """`-o /dev/fd/3` of a shell's `3>log`: a regular file that exists, and that must not be cut."""
    path = tmp_path / "log"
    with path.open("ab") as file:
        file.write(b"before\n")
        file.flush()
        record = open_output(f"{folder}/{file.fileno()}")
        record.write(sample(1))
        record.close()
        file.write(b"after\n")
    lines = path.read_bytes().splitlines()
    assert [lines[0], lines[-1], len(lines)] == [b"before", b"after", 3]
    read_end, write_end = os.pipe()
    record = open_output(f"{folder}/{write_end}")
    assert os.get_blocking(write_end), "what others write to stays as it is"
    record.write(sample(2))
    record.close()
    assert in_lines(drain(read_end)) == [sample(2)]
    os.close(read_end)
    os.close(write_end)


def test_standard_streams_by_name(tmp_path: Path) -> None:
    code = (
        "from proctally.record.location import open_output\n"
        "r = open_output('/dev/stdout'); r.write({'type': 'x'}); r.close()"
    )
    path = tmp_path / "out"
    path.write_text("old\n")
    with path.open("a") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert path.read_text() == 'old\n{"type":"x"}\n'
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout == b'{"type":"x"}\n'


def test_socket_is_opened_as_it_is() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        record = open_output(f"/dev/fd/{ours.fileno()}")
        record.write(sample(1))
        record.close()
        assert in_lines(theirs.recv(4096)) == [sample(1)]


@pytest.mark.skipif(os.getuid() != 0, reason="it takes root to become a user without a passwd entry")
def test_no_home_and_no_passwd_entry() -> None:
    known = {entry.pw_uid for entry in pwd.getpwall()}
    stranger = next(uid for uid in range(54321, 60000) if uid not in known)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(stranger)
            os.setuid(stranger)
            for environment in ({}, {"HOME": ""}, {"XDG_STATE_HOME": "relative"}):
                assert runs_directory(environment) is None
                with pytest.raises(OSError, match="PROCTALLY_HOME"):
                    open_default(environment, 0.0, "x", "0123")
            assert runs_directory({"HOME": "/h"}) == "/h/.local/state/proctally/runs"
        except BaseException:
            os.write(write_end, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as file:
        said = file.read()
    os.waitpid(child, 0)
    assert said.decode() == ""


# -- what may be in it -------------------------------------------------------------------------------------------


def test_long_arguments_take_no_time() -> None:
    """The kernel takes 128 KiB in one argument: an inline script with a long word in it."""
    code = "from proctally.text.secrets import mask; mask(['sh', '-c', 'echo token x ' + 'a' * 120_000])"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=10)
