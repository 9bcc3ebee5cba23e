"""The files that `make schema` writes are those of the table."""

import runpy

import pytest

from places import ROOT

GENERATED = runpy.run_path(str(ROOT / "scripts" / "schema.py"))["GENERATED"]


@pytest.mark.parametrize("name", GENERATED)
def test_generated_file_is_fresh(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == GENERATED[name](), "make schema writes it"
