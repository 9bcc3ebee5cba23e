"""Mutated input for every parser and every command that reads a record; bench/fuzz.py does the same for hours."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from fuzzing import FORMS, PAGE, Commands, Fault, Parsers, called, check, timed

SEEDS = st.integers(0, 1 << 32)


@pytest.fixture(scope="module")
def parsers() -> Parsers:
    return Parsers()


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    return Commands(tmp_path_factory.mktemp("fuzz"))


def test_parsers_are_all_known(parsers: Parsers) -> None:
    assert len(parsers.found) > 45
    assert {"proc.parse_stat", "cgroup.parse_mountinfo", "mounts.parse_mounts"} <= set(parsers.found)


@settings(deadline=None, max_examples=examples(100))
@given(SEEDS)
def test_no_text_is_more_than_an_error_of_its_parser(parsers: Parsers, seed: int) -> None:
    for each in range(50):
        parsers.try_one(seed + each)


@settings(deadline=None, max_examples=examples(100))
@given(SEEDS)
def test_no_record_is_more_than_one_line_and_a_status(commands: Commands, seed: int) -> None:
    commands.try_one(seed)


@pytest.mark.parametrize("form", [*FORMS, PAGE], ids=" ".join)
def test_each_command_takes_a_mutated_record(commands: Commands, form: tuple[str, ...]) -> None:
    for seed in range(1 if form == PAGE else 4):
        commands.try_one(seed, (form,), 1)


# -- the checks themselves -------------------------------------------------------------------------------------------


def test_fuzzer_finds_what_it_looks_for(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("\x1b[31m", "a\x9b", "\u202eb", "\t"):
        with pytest.raises(Fault):
            check(text)
    monkeypatch.setattr("fuzzing.SECONDS", 0.01)
    with pytest.raises(Fault, match="not done"):
        timed(lambda: [None for _ in iter(int, 1)])
    monkeypatch.setattr("fuzzing.main", lambda words: 3)
    with pytest.raises(Fault, match="status 3"):
        commands.try_one(1)
    monkeypatch.setattr("fuzzing.main", lambda words: 1 // 0)
    with pytest.raises(Fault, match="ZeroDivisionError"):
        commands.try_one(1)


def test_fuzzer_finds_a_parser_that_fails(parsers: Parsers, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes) -> object:
        raise KeyError(data[:1])

    monkeypatch.setattr(parsers, "found", dict.fromkeys(parsers.found, broken))
    with pytest.raises(Fault, match="seed 5: .*KeyError"):
        parsers.try_one(5)


def test_command_in_this_process_has_its_own_streams(tmp_path: Path) -> None:
    status, out, err = called(["export", "none"], {"PROCTALLY_HOME": str(tmp_path)})
    assert (status, out) == (1, "") and err.startswith("proctally: none: no such record")
