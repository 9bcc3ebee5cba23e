"""Secrets in command lines are masked."""

from __future__ import annotations

import os
import sys

import pytest

from peak_memory import peak_mib
from proctally.text.secrets import MASK, mask, mask_text

# -- what may be in it -------------------------------------------------------------------------------------------


PRECIOUS = "hunter2"
HIDDEN = [
    ["mysql", f"--password={PRECIOUS}", "db"],
    ["mysql", "--password", PRECIOUS, "db"],
    ["x", f"token={PRECIOUS}"],
    ["x", f"--api-key={PRECIOUS}"],
    ["x", f"--API_KEY={PRECIOUS}"],
    ["x", "--apikey", PRECIOUS],
    ["x", f"-Dspring.datasource.password={PRECIOUS}"],
    ["env", f"PGPASSWORD={PRECIOUS}", "psql"],
    ["env", f"AWS_SECRET_ACCESS_KEY={PRECIOUS}", "aws"],
    ["x", f"--client-secret={PRECIOUS}"],
    ["x", "--access-token", PRECIOUS, "--verbose"],
    ["x", f"--credentials={PRECIOUS}"],
    ["psql", f"postgres://me:{PRECIOUS}@db.example.org/main"],
    ["redis-cli", "-u", f"redis://:{PRECIOUS}@localhost:6379/0"],
    ["git", "clone", f"https://me:{PRECIOUS}@example.org/x.git"],
    ["x", f"--url=amqp://me:{PRECIOUS}@mq/vhost"],
    ["curl", f"https://example.org/?token={PRECIOUS}"],
    ["curl", f"https://example.org/?page=1&token={PRECIOUS}&z=2"],
    ["curl", "-H", f"Authorization: Bearer {PRECIOUS}"],
    ["curl", "-H", f"Authorization: Basic {PRECIOUS}"],
    ["curl", "-H", f"Authorization: token {PRECIOUS}"],
    ["curl", "-H", f"X-Api-Key: {PRECIOUS}"],
    ["curl", "-H", f"X-Api-Key:{PRECIOUS}"],
    ["curl", "-H", f"PRIVATE-TOKEN:{PRECIOUS}"],
    ["curl", "-d", f'{{"user":"me","password":"{PRECIOUS}"}}'],
    ["curl", "-d", f'{{"user": "me", "password": "{PRECIOUS}"}}'],
    ["docker", "run", f"--env=PGPASSWORD={PRECIOUS}", "image"],
    ["docker", "run", "-e", f"PGPASSWORD={PRECIOUS}", "image"],
    ["docker", "run", f"-ePGPASSWORD={PRECIOUS}", "image"],
    ["x", f"--password=correct {PRECIOUS}"],
    ["x", "--password", f"correct {PRECIOUS}"],
    ["gpg", "--passphrase", PRECIOUS],
    ["sh", "-c", f"mysql --password={PRECIOUS} db | sort"],
    ["sh", "-c", f"mysql --password {PRECIOUS} db | sort"],
    ["sh", "-c", f'mysql --password="{PRECIOUS}" db'],
    ["sh", "-c", f'mysql --password "{PRECIOUS}" db'],
    ["sh", "-c", f"PGPASSWORD='{PRECIOUS}' psql"],
    ["sh", "-c", f"PGPASSWORD='correct {PRECIOUS}' psql"],
    ["sh", "-c", f"export API_KEY={PRECIOUS}; ./run"],
    ["sh", "-c", f"curl -H 'Authorization: Bearer {PRECIOUS}' https://example.org"],
    ["sh", "-c", f"curl https://me:{PRECIOUS}@example.org/ > /dev/null"],
    ["sh", "-c", f"a --token={PRECIOUS}; b --token={PRECIOUS}; c postgres://me:{PRECIOUS}@h/d"],
    ["sh", "-c", f"cat <<EOF\npassword: {PRECIOUS}\nEOF"],
]


@pytest.mark.parametrize("command", HIDDEN, ids=" ".join)
def test_secrets_are_hidden(command: list[str]) -> None:
    masked = mask(command)
    assert PRECIOUS not in " ".join(masked)
    assert "***" in " ".join(masked)
    assert len(masked) == len(command)
    assert masked[0] == command[0]


KEPT = [
    [],
    ["true"],
    ["git", "commit", "--author=x", "-m", "a message"],
    ["git", "log", "--author", "me"],
    ["python", "train.py", "--epochs=3", "--lr", "1e-3"],
    ["git", "clone", "https://example.org/x.git"],
    ["git", "clone", "ssh://git@example.org/x.git", "git@example.org:x.git"],
    ["curl", "https://example.org:8080/a@b?page=1"],
    ["scp", "me@host:file", "."],
    ["sh", "-c", "make -j4 && echo 'all done: 100 %' > log"],
    ["x", "", "-", "--", "=", "a=b", "--key", "=v"],
    ["monkey", "--keyboard=de"],
]


@pytest.mark.parametrize("command", KEPT, ids=" ".join)
def test_the_rest_is_kept(command: list[str]) -> None:
    assert mask(command) == command


@pytest.mark.parametrize(
    ("command", "masked"),
    [
        (["x", "--password=a", "--author=x"], ["x", "--password=***", "--author=x"]),
        (["x", "--password", "a", "b"], ["x", "--password", "***", "b"]),
        (["x", "--token", "--verbose", "b"], ["x", "--token", "--verbose", "b"]),
        (["x", "postgres://me:pw@h/d?x=1"], ["x", "postgres://me:***@h/d?x=1"]),
        (["sh", "-c", "x --token=a -v"], ["sh", "-c", "x --token=*** -v"]),
    ],
)
def test_only_the_value_is_hidden(command: list[str], masked: list[str]) -> None:
    assert mask(command) == masked


def test_a_command_of_any_bytes() -> None:
    assert mask([os.fsdecode(b"\xff"), os.fsdecode(b"--password=\xff")]) == ["\\xff", "--password=***"]


def test_words_are_held_at_most_twice() -> None:
    words = ["\U0001f600"] * 50_000 + ["--token=x"]
    assert mask(words)[-1] == "--token=***" and peak_mib(lambda: mask(words)) < 8


def test_texts_are_masked_whole_where_the_modules_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("secret_text", "secret_words"):
        monkeypatch.setitem(sys.modules, f"proctally.text.{name}", None)
    assert mask(["tool", "--password", "x"]) == [MASK] * 3
    assert mask_text("token: x") == MASK
    assert mask(["make", "-j8"]) == ["make", "-j8"]
