"""Names of fields that are written elsewhere, since that code must not load the table."""

from proctally.linux.gpu import GpuDevice, GpuInstance
from proctally.record.schema import HELD, names
from proctally.tree import cgroups


def test_fields_of_a_run_cgroup_are_those_of_the_table() -> None:
    assert tuple(HELD.split()) == cgroups.HELD
    assert set(cgroups.HELD) < set(names("cgroup"))


def test_readings_of_gpus_have_the_fields_of_the_table() -> None:
    made = {"state", "unavailable", "mig_instances", "tree_utilization_ratio", "tree_memory_bytes", "tree_processes"}
    assert set(names("gpus")) - set(GpuDevice.__slots__) == made
    assert set(names("gpus.mig_instances")) - set(GpuInstance.__slots__) == {"mig_parent"}
