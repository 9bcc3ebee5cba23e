"""Values and intervals of the system sampler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from captured import put, unpack
from fake_gpus import FakeGpus
from proctally.host.sampler import HostPeaks, HostSampler, joined

# -- what is said of it ----------------------------------------------------------------------------------------------


def test_the_use_of_some_gpus_is_not_that_of_all() -> None:
    def entry(ratio: float | None, state: str = "ok") -> dict[str, Any]:
        return {"utilization_ratio": ratio, "memory_used_bytes": None if ratio is None else 10, "state": state}

    tree = {"memory_bytes": None}
    peaks = HostPeaks()
    peaks.note_gpus([entry(0.5), entry(None, "lost")], tree)
    said = peaks.gpu() or {}
    assert (said["mean_utilization_ratio"], said["peak_memory_used_bytes"]) == (None, None)
    peaks.note_gpus([entry(0.5), entry(None, "asleep")], tree)
    peaks.note_gpus([entry(0.5), entry(1.0)], tree)
    said = peaks.gpu() or {}
    assert (said["mean_utilization_ratio"], said["peak_utilization_ratio"]) == (1.0, 1.5)
    assert (said["peak_memory_used_bytes"], said["peak_tree_memory_bytes"]) == (20, None)


def test_gpus_of_which_nothing_is_known_did_not_do_nothing() -> None:
    peaks = HostPeaks()
    peaks.note_gpus([], {"memory_bytes": None}, whole=False)  # NVIDIA's driver is there, and its library is not
    said = peaks.gpu() or {}
    assert set(said.values()) == {None} and len(said) == 4
    one = {"utilization_ratio": 0.5, "memory_used_bytes": 10, "state": "ok"}
    peaks.note_gpus([one], {"memory_bytes": None}, whole=False)  # another's is there as well
    assert set((peaks.gpu() or {}).values()) == {None}


def test_a_driver_without_a_gpu_is_no_gpu() -> None:
    peaks = HostPeaks()
    peaks.note_gpus([], {"memory_bytes": 0})
    assert peaks.gpu() is None


class Told:
    """Surroundings that say this."""

    def __init__(self, **sections: Any) -> None:
        self.sections = sections
        self.asked: list[bool] = []

    def sample(self, members: object, *, first: bool) -> dict[str, Any]:
        self.asked.append(first)
        return dict(self.sections)


def test_what_gpus_tell_of_the_tree_is_the_trees() -> None:
    sample = {"type": "sample", "interval_seconds": None, "tree": {"cpu_seconds": 1.0}, "system": None, "gpus": None}
    around: Any = Told(system={}, gpus=[], tree={"gpu_used": 1})
    assert joined(sample, around, ()) == {
        "type": "sample",
        "interval_seconds": None,
        "tree": {"cpu_seconds": 1.0, "gpu_used": 1},
        "system": {},
        "gpus": [],
    }
    joined(sample | {"interval_seconds": 1.0}, around, ())
    assert around.asked == [True, False]


# -- on a machine of files, whose clock goes on when it is told ------------------------------------------------------


def test_rates_are_of_what_the_record_has(tmp_path: Path) -> None:
    machine, clock = unpack("server", tmp_path)
    around = HostSampler(machine, {}, system=True, gpu=False, cloud=False)
    try:
        clock.advance(1.0)
        assert around.sample((), first=True)["system"]["cpu_cores"] is None  # of the time before the record
        clock.advance(1.0)
        times = (tmp_path / "proc/stat").read_text()
        (tmp_path / "proc/stat").write_text(times.replace("cpu  1000", "cpu  1100"))
        assert around.sample((), first=False)["system"]["cpu_cores"] == 2.0
        clock.advance(0.01)
        assert around.sample((), first=False)["system"]["cpu_cores"] is None  # less than a tick or two
        clock.advance(1.0)
        (tmp_path / "proc/stat").write_text(times.replace("cpu  1000", "cpu  1200"))
        assert around.sample((), first=False)["system"]["cpu_cores"] == 2.0
    finally:
        around.close()


def test_what_others_did_while_the_job_was_stopped_is_in_no_interval(tmp_path: Path) -> None:
    machine, clock = unpack("server", tmp_path)

    def at(busy: int, idle: int) -> None:
        times = f"{busy} 0 0 {idle} 0 0 0 0 0 0"
        (tmp_path / "proc/stat").write_text(f"cpu  {times}\ncpu0 {times}\n")

    at(100, 100)
    around = HostSampler(machine, {}, system=True, gpu=False, cloud=False)
    try:
        clock.advance(10.0)
        at(1100, 100)
        around.gap_ended()
        clock.advance(1.0)
        at(1125, 175)
        assert around.sample((), first=False)["system"]["cpu_cores"] == 0.25
    finally:
        around.close()


def test_what_does_not_change_of_gpus_is_told_once_and_when_it_changed(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    around = HostSampler(machine, {}, system=False, gpu=False, cloud=False)
    gpus: Any = FakeGpus()
    around.gpus = gpus
    around.sample((), first=True)
    around.sample((), first=False)
    gpus.names = ["a", "b"]
    around.sample((), first=False)
    around.sample((), first=False)
    assert gpus.with_facts == [True, False, True, False]


def test_a_reading_that_two_samples_have_counts_once(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    around = HostSampler(machine, {}, system=False, gpu=False, cloud=False)
    gpus: Any = FakeGpus()
    around.gpus = gpus
    readings = iter([1, 1, 2])
    ratios = iter([0.5, 0.5, 1.0])
    entry = {"memory_used_bytes": 1, "state": "ok"}
    gpus.take = lambda: next(readings)
    gpus.derive = lambda *_, **__: ([entry | {"utilization_ratio": next(ratios)}], {"memory_bytes": None})
    for _ in range(3):
        around.sample((), first=False)
    assert (around.peaks.gpu() or {})["mean_utilization_ratio"] == 0.75


def test_totals_are_those_last_known_where_a_counter_is_in_doubt(tmp_path: Path) -> None:
    machine, clock = unpack("server", tmp_path)
    around = HostSampler(machine, {}, system=True, gpu=False, cloud=False)
    stat, net = ((tmp_path / "proc" / name).read_text() for name in ("stat", "net/dev"))
    try:
        for user, received in (("1000", "1000"), ("1100", "1500"), ("900", "0")):
            clock.advance(1.0)
            put(tmp_path, "proc/stat", stat.replace("cpu  1000", f"cpu  {user}"))
            put(tmp_path, "proc/net/dev", net.replace("eth0: 1000", f"eth0: {received}"))
            sample = around.sample((), first=False)["system"]
        summary = around.system()
    finally:
        around.close()
    assert sample["cpu_user_seconds"] is sample["network"]["received_bytes"] is None
    assert summary is not None
    assert (summary["cpu_seconds"], summary["network_received_bytes"]) == (1.0, 500)


def test_share_of_gpus_is_unknown_without_procfs(tmp_path: Path) -> None:
    machine, _ = unpack("server", tmp_path)
    machine.procfs_missing = "procfs_foreign"
    around = HostSampler(machine, {}, system=False, gpu=False, cloud=False)
    gpus: Any = FakeGpus()
    around.gpus = gpus
    entry = {"memory_used_bytes": 1, "state": "ok", "utilization_ratio": 0.5}
    gpus.derive = lambda *_, **__: ([entry], {"memory_bytes": 0})
    assert "tree" not in around.sample((), first=True)
    found = around.peaks.gpu()
    assert found is not None and found["peak_tree_memory_bytes"] is None
