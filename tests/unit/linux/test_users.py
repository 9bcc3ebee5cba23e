"""Names of users."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctally.errors import ProcessGone
from proctally.linux.machine import Machine
from proctally.linux.users import owner, parse_passwd, read_user_names

PASSWD = (
    b"root:x:0:0:root:/root:/bin/sh\nci:x:1001:1001::/home/ci:\ntoor:x:0:0::/:\n+::::::\nbad:x:-1:1\n\xff:x:7:7::\n"
)


def test_passwd_has_the_first_name_of_each_id() -> None:
    assert parse_passwd(PASSWD) == {0: "root", 1001: "ci", 7: "\\xff"}


@given(st.binary())
def test_any_passwd_is_parsed(data: bytes) -> None:
    assert all(isinstance(name, str) for name in parse_passwd(data).values())


def test_missing_passwd_has_no_names(tmp_path: Path) -> None:
    assert read_user_names(str(tmp_path / "passwd")) == {}


def test_owner_of_missing_process_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ProcessGone):
        owner(Machine(str(tmp_path)), 1)
