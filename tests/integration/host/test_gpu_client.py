"""The helper process that reads GPUs: hung, killed and restarted."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from captured import put
from gpu_rig import Rig, on_host, wait_until
from nvml_library import CC, TWO
from proctally.host.gpus import GpuSampler
from proctally.linux.gpu import has_nvidia
from proctally.linux.machine import Machine

pytestmark = pytest.mark.skipif(CC is None, reason="no C compiler")


# -- the helper ------------------------------------------------------------------------------------------------------


def test_a_hanging_call_is_given_up_and_the_end_is_at_once(rig: Rig) -> None:
    gpus = rig.start(late_ns=50_000_000, hang_ns=200_000_000)
    rig.read()
    rig.add("0.nvmlDeviceGetTemperature.hang")
    gpus.last = None
    assert gpus.ask(())
    first = gpus.poller.pid
    while gpus.poller.pid:
        before = time.monotonic()
        assert gpus.take() is None
        assert time.monotonic() - before < 2.0  # whatever hangs
        time.sleep(0.02)
    assert gpus.skipped == "no_answer"
    rig.write(TWO)
    rig.read()
    assert gpus.poller.pid not in (0, first)
    assert rig.started == [first, gpus.poller.pid]


def test_the_end_does_not_wait_for_a_hanging_call(rig: Rig) -> None:
    rig.add("0.nvmlDeviceGetTemperature.hang")
    gpus = rig.start()
    gpus.ask(())
    pid = gpus.poller.pid
    assert pid
    time.sleep(0.3)
    before = time.monotonic()
    gpus.poller.close()
    assert time.monotonic() - before < 2.0
    wait_until(gpus.poller.reap)
    assert not os.path.exists(f"/proc/{pid}")
    assert not gpus.ask(())  # it stays closed


def test_a_helper_is_not_started_anew_for_ever(rig: Rig) -> None:
    rig.add("nvmlInitWithFlags.crash")
    gpus = rig.start()
    for _ in range(4):
        assert gpus.ask(())
        wait_until(lambda: gpus.take() is None and not gpus.poller.pid)
    assert gpus.skipped == "helper_failed"
    assert not gpus.ask(())
    assert gpus.take() is None and gpus.skipped == "helper_failed"
    assert len(set(rig.started)) == 4
    wait_until(gpus.poller.reap)


def test_who_served_well_is_forgiven(rig: Rig) -> None:
    passed = [0]
    rig.machine.monotonic_ns = lambda: time.monotonic_ns() + passed[0]
    gpus = rig.start()
    for _ in range(6):
        rig.read()
        passed[0] += 601_000_000_000
        assert gpus.poller.pid
        os.kill(gpus.poller.pid, signal.SIGKILL)
        wait_until(lambda: gpus.take() is None and not gpus.poller.pid)
    assert gpus.skipped == "helper_failed"


def test_helpers_that_end_leave_no_descriptor_behind(rig: Rig) -> None:
    def opened() -> list[str]:
        return sorted(os.listdir("/proc/self/fd"))

    before = opened()
    gpus = rig.start()
    for _ in range(3):
        rig.read()
        assert gpus.poller.pid
        os.kill(gpus.poller.pid, signal.SIGKILL)
        wait_until(lambda: gpus.take() is None and not gpus.poller.pid)
        assert opened() == before
    rig.read()
    gpus.poller.close()
    assert opened() == before
    gpus = rig.start(program=["/nonexistent/python"])
    assert not gpus.ask(()) and opened() == before


def test_starts_anew_are_spaced_out(rig: Rig) -> None:
    rig.add("nvmlInitWithFlags.crash")
    gpus = rig.start(pauses_ns=(3_600_000_000_000,))
    assert gpus.ask(())
    wait_until(lambda: gpus.take() is None and not gpus.poller.pid)
    assert not gpus.ask(())


def test_a_slow_answer_is_skipped_and_then_there(rig: Rig) -> None:
    gpus = rig.start(late_ns=100_000_000)
    rig.read()
    gpus.last = None
    rig.add("0.nvmlDeviceGetTemperature.sleep 400")
    assert gpus.ask(())
    pid = gpus.poller.pid
    time.sleep(0.15)
    assert gpus.take() is None
    assert gpus.skipped == "no_answer"
    assert not gpus.ask(())  # one at a time
    assert rig.await_reading().devices[0].temperature_celsius == 61.0
    assert gpus.skipped is None
    assert gpus.poller.pid == pid


def test_a_reading_that_is_too_old_is_not_given_again(rig: Rig) -> None:
    gpus = rig.start()
    reading = rig.read()
    assert gpus.take() is reading
    reading.at_ns -= 2_000_000_000
    reading.took_ns = 1_900_000_000
    assert gpus.take() is reading  # a slow driver gave it just now
    reading.took_ns = 900_000_000
    assert gpus.take() is None
    assert gpus.skipped == "no_answer"


def test_an_answer_that_came_late_is_received_without_being_taken(rig: Rig) -> None:
    gpus = rig.start()
    rig.read()
    last = gpus.last
    assert gpus.ask(())
    assert gpus.poller.fileno is not None
    select.select([gpus.poller.fileno], [], [], 0.5)
    wait_until(
        lambda: select.select([gpus.poller.fileno], [], [], 0) == ([], [], [])
    )  # who waits for it can sleep again
    wait_until(lambda: gpus.ask(()))  # another one may be asked for
    reading = gpus.take()
    assert reading is not None and reading is not last


def test_members_are_told_as_they_come_and_go(rig: Rig) -> None:
    asked = rig.script.parent / "asked"
    program = rig.script.parent / "echo.py"
    program.write_text(
        "import json, os\n"
        "from proctally.linux.gpu import GpuReading, pack\n"
        "while line := os.read(0, 1 << 20):\n"
        f"    with open({str(asked)!r}, 'ab') as file: file.write(line)\n"
        "    answer = {'number': json.loads(line)['number'], 'reading': GpuReading(0)}\n"
        "    os.write(0, json.dumps(answer, default=pack).encode() + b'\\n')\n"
    )
    rig.start(program=[sys.executable, str(program)])
    for members in ((1, 2), (2, 3), (2, 3), ()):
        rig.read(*members)
    told = [json.loads(line) for line in asked.read_text().splitlines()]
    assert [(each["add"], each["drop"]) for each in told] == [([1, 2], []), ([3], [1]), ([], []), ([], [2, 3])]


def test_a_large_tree_is_told_piece_by_piece(rig: Rig) -> None:
    on_host(rig)
    rig.add("0.compute 100 10", "0.compute 200 5")
    rig.start()
    many = set(range(1000, 101_000))  # more than a socket takes at once
    assert [rig.derived(*members)[1]["memory_bytes"] for members in ([100], [200, *many], [])] == [10, 5, 0]


def test_the_helper_ends_with_its_parent(rig: Rig, tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(
        "import os, sys, time\n"
        "from proctally.host.gpu_client import GpuPoller\n"
        "from proctally.linux.machine import Machine\n"
        "helper = GpuPoller(Machine(), dev=sys.argv[1])\n"
        "helper.ask([])\n"
        "while helper.take() is None: time.sleep(0.01)\n"
        "if sys.argv[2] == 'hang':\n"
        "    open(os.environ['FAKE_NVML'], 'a').write('nvmlDeviceGetCount_v2.hang\\n')\n"
        "    helper.ask([])\n"
        "    time.sleep(0.2)\n"
        "print(helper.pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    for manner in ("idle", "hang"):
        command = [sys.executable, str(program), str(rig.dev), manner]
        with subprocess.Popen(command, env=rig.environment, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            assert os.path.exists(f"/proc/{pid}")
            parent.kill()
            # the pipe would still be open in a helper that had inherited it
            assert parent.stdout.read() == ""
        wait_until(lambda pid=pid: ended(pid))


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_the_helper_has_nothing_of_ours(rig: Rig) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    ignored = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        gpus = rig.start()
        rig.read()
        pid = gpus.poller.pid
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert int(status["SigBlk"], 16) == 0
        assert not int(status["SigIgn"], 16) & 1 << signal.SIGUSR1 - 1
        opened = {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        assert opened.pop(0).startswith("socket:")
        assert opened == {1: "/dev/null", 2: "/dev/null"}
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert pid and os.getpgid(pid) == pid  # Ctrl-C does not reach it
    finally:
        signal.signal(signal.SIGUSR1, ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(read)
        os.close(write)


def test_it_may_be_reaped_by_others(rig: Rig) -> None:
    gpus = rig.start()
    rig.read()
    pid = gpus.poller.pid
    assert pid and gpus.poller.pids == {pid}
    used = gpus.poller.cpu_ns()
    assert used > 0
    os.kill(pid, signal.SIGKILL)
    _, _, usage = os.wait4(pid, 0)
    exact = round((usage.ru_utime + usage.ru_stime) * 1e9)
    assert not gpus.poller.reaped(os.getpid())
    assert gpus.poller.reaped(pid, exact)
    assert gpus.poller.pids == frozenset()
    assert gpus.poller.cpu_ns() == exact
    assert not gpus.poller.reaped(pid)
    rig.read()  # another one
    assert gpus.poller.cpu_ns() > exact


def test_it_may_be_reaped_by_others_who_do_not_tell(rig: Rig) -> None:
    gpus = rig.start()
    rig.read()
    pid = gpus.poller.pid
    assert pid
    used = gpus.poller.cpu_ns()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    gpus.take()
    assert not gpus.poller.pid and gpus.poller.reap()
    assert gpus.poller.cpu_ns() >= used * 0.5


@pytest.mark.parametrize(
    "answer", ["print('nonsense')", "print('{}')", "print('[1, 2]')", 'print(\'{"number": 1, "reading": [1]}\')']
)
def test_an_answer_that_is_none_ends_the_helper(rig: Rig, answer: str) -> None:
    code = f"import os, sys; os.dup2(0, 1); sys.stdin.readline(); {answer}"
    gpus = rig.start(program=[sys.executable, "-c", code])
    assert gpus.ask(())
    wait_until(lambda: gpus.take() is None and not gpus.poller.pid)
    assert gpus.skipped == "helper_failed"


def test_an_answer_without_end_ends_the_helper(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proctally.host.gpu_client.MAX_BYTES", 100_000)
    gpus = rig.start(program=[sys.executable, "-c", "import os\nwhile True: os.write(0, b' ' * 4096)"])
    assert gpus.ask(())
    wait_until(lambda: gpus.take() is None and not gpus.poller.pid)
    assert gpus.skipped == "helper_failed"


def test_a_helper_that_cannot_be_started_is_said(rig: Rig) -> None:
    gpus = rig.start(program=["/nonexistent/python"])
    assert not gpus.ask(())
    assert gpus.take() is None
    assert gpus.skipped == "helper_failed"


def test_a_start_that_fails_is_tried_again_and_not_for_ever(rig: Rig) -> None:
    program = rig.script.parent / "program"
    gpus = rig.start(program=[str(program)])
    assert not gpus.ask(()) and not gpus.ask(())  # no process is left for it, say
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    assert gpus.ask(())
    program.unlink()
    pid = gpus.poller.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: gpus.take() is None and not gpus.poller.pid)
    assert not gpus.ask(())
    assert gpus.poller.missing == "helper_failed"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    assert not gpus.ask(())


def test_without_a_driver_no_process_is_started(tmp_path: Path) -> None:
    machine = Machine(str(tmp_path), sys=str(tmp_path))
    gpus = GpuSampler(machine, dev=str(tmp_path))
    gpus.start()
    assert not gpus.present
    assert not gpus.ask((1,))
    assert gpus.take() is None
    assert gpus.skipped == "no_driver"
    assert not gpus.poller.pid and gpus.poller.fileno is None and gpus.poller.cpu_ns() == 0
    gpus.poller.close()


@pytest.mark.parametrize("path", ["proc/driver/nvidia/version", "dev/nvidiactl", "dev/dxg"])
def test_a_driver_is_seen_by_its_files(tmp_path: Path, path: str) -> None:
    machine = Machine(str(tmp_path / "proc"), sys=str(tmp_path / "sys"))
    assert not has_nvidia(machine, str(tmp_path / "dev"))
    put(tmp_path, path)
    assert has_nvidia(machine, str(tmp_path / "dev"))


def test_devices_that_are_powered_down_are_not_woken(rig: Rig) -> None:
    folder = rig.script.parent
    on_host(rig)
    put(folder, "proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: x\n")
    put(folder, "sys/bus/pci/devices/0000:01:00.0/power/runtime_status", "suspended\n")
    rig.add("nvmlInitWithFlags.crash")
    rig.start()
    (device,), tree = rig.derived(100)
    assert (device["state"], device["pci"], device["utilization_ratio"]) == ("asleep", "0000:01:00.0", None)
    assert tree["memory_bytes"] == 0
    rig.write(TWO)
    put(folder, "sys/bus/pci/devices/0000:01:00.0/power/runtime_status", "active\n")
    assert rig.derived(100)[0][0]["state"] == "ok"
