"""Records as objects: what an attribute is for a value, an object, a list, and for what is absent."""

from __future__ import annotations

import typing

import pytest

from proctally.record import objects
from proctally.record.objects import CpuSummary, Gap, Sample, Summary, SystemSection, TreeSection
from proctally.record.section import Section, sections


def test_values_have_types() -> None:
    """No field is Any, so that a type checker finds misspelt fields and forgotten None."""
    assert typing.get_type_hints(CpuSummary)["total_seconds"] == float | None
    assert typing.get_type_hints(Sample)["system"] == SystemSection | None
    assert typing.get_type_hints(Summary)["gaps"] == list[Gap] | None
    for kind in vars(objects).values():
        if isinstance(kind, type) and kind is not Section:
            assert typing.Any not in typing.get_type_hints(kind).values()


def test_absent_value_is_none() -> None:
    summary = Summary()
    assert summary.verdict is None
    assert summary.commands is None
    assert summary.system is None
    assert summary.cpu.total_seconds is None
    assert summary.cpu.sources.perf is None


def test_null_section_is_empty_or_none() -> None:
    assert Summary({"cpu": None}).cpu.total_seconds is None
    assert Summary({"system": None}).system is None
    assert Sample({"tree": None}).tree == TreeSection()


def test_nested_objects_have_their_classes() -> None:
    sample = Sample({"system": {"memory": {"used_bytes": 5}}, "gpus": [{"index": 0, "mig_instances": [{"index": 1}]}]})
    assert sample.system is not None and sample.system.memory is not None
    assert sample.system.memory.used_bytes == 5
    assert sample.gpus is not None and type(sample.gpus[0]) is objects.GpuSection
    assert type((sample.gpus[0].mig_instances or [])[0]) is objects.MigInstance
    assert sample.gpus[0].vendor is None
    assert sample.system.memory is sample.system.memory


def test_object_of_any_names_is_a_dictionary() -> None:
    system = Summary({"system": {"unavailable": {"stat": "EIO"}}}).system
    assert system is not None and system.unavailable == {"stat": "EIO"}


def test_unknown_name_is_an_error_or_a_new_field() -> None:
    with pytest.raises(AttributeError, match="TreeSection has no field 'nothing'"):
        TreeSection().nothing  # type: ignore[attr-defined]  # noqa: B018
    newer = TreeSection({"later": 1, "more": {"a": 2}, "several": [{"b": 3}, None]})
    assert (newer.later, newer.more.a) == (1, 2)  # type: ignore[attr-defined]
    assert (newer.several[0].b, newer.several[1]) == (3, None)  # type: ignore[attr-defined]
    assert getattr(Summary({"limits": {"from": "cpu.max"}}).limits, "from") == "cpu.max"


def test_section_shows_what_it_holds() -> None:
    tree = TreeSection({"threads": 2})
    assert repr(tree) == "TreeSection(threads=2)"
    assert tree.as_dict() == {"threads": 2}
    assert tree == TreeSection({"threads": 2}) != TreeSection()
    assert {"threads", "cpu_seconds", "as_dict"} <= set(dir(tree))


def test_sections_are_the_fields_with_objects() -> None:
    found = set(sections(Sample))
    assert {"tree", "system", "system.memory", "system.disks", "gpus", "gpus.mig_instances", "cgroup", "top"} <= found
    assert not found & {"at", "system.per_core_ratio", "gpus.unavailable"}
