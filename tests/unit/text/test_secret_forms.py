"""Forms of secrets, and of what only looks like one: `tests/data`, and tokens that are put together here."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from places import DATA
from proctally.text.secret_table import DISCORD, GITLAB, PROGRAMS
from proctally.text.secret_table import SHAPES as TABLE
from proctally.text.secrets import LITERALS, PROGRAM_NAMES, mask, mask_recorded, mask_tags, mask_text

SECRET = "s3cr3tVALUE99"


def forms(name: str) -> list[str]:
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def arguments(form: str) -> list[str]:
    return [word.replace("\\n", "\n") for word in shlex.split(form.replace("<X>", SECRET))]


@pytest.mark.parametrize("form", forms("secrets.txt"))
def test_secret_form_is_masked(form: str) -> None:
    command = arguments(form)
    masked = mask(command)
    assert SECRET not in "".join(masked)
    assert "***" in "".join(masked)
    pairs = list(zip(command, masked, strict=True))
    assert [word for word, shown in pairs if SECRET not in word and shown != word] == []
    assert mask(masked) == masked


@pytest.mark.parametrize("form", forms("harmless.txt"))
def test_harmless_form_is_kept(form: str) -> None:
    assert mask(arguments(form)) == arguments(form)


@pytest.mark.parametrize(
    ("command", "masked"),
    [
        (["sh", "-c", "mysql -u r -pX db | sort"], ["sh", "-c", "mysql -u r -p*** db | sort"]),
        (["sh", "-c", 'export A=b TOKEN="X"; ./run'], ["sh", "-c", "export A=b TOKEN=***; ./run"]),
        (["sh", "-c", "A=$(curl -u 'u:X' h) c"], ["sh", "-c", "A=$(curl -u u:*** h) c"]),
        (["sh", "-c", "curl -H 'X-Token: X' h"], ["sh", "-c", "curl -H 'X-Token: ***' h"]),
        (["bash", "-c", "a --key x && b --token $T"], ["bash", "-c", "a --key x && b --token $T"]),
        (["c", '{"a": 1, "pass": "X", "b": 2}'], ["c", '{"a": 1, "pass": "***", "b": 2}']),
        (["c", "{'password': 'X', 'b': [1]}"], ["c", "{'password': '***', 'b': [1]}"]),
        (["c", r"{\"password\":\"X\",\"b\":1}"], ["c", r"{\"password\":\"***\",\"b\":1}"]),
        (["c", '{"passwords": ["X", "Y"], "b": 1}'], ["c", '{"passwords": ***, "b": 1}']),
        (["c", "Server=h;Uid=u;Pwd=X;Db=d"], ["c", "Server=h;Uid=u;Pwd=***;Db=d"]),
        (["c", "https://u:X@h/p?a=1&sig=X&b=2#f"], ["c", "https://u:***@h/p?a=1&sig=***&b=2#f"]),
        (["c", "https://u:a@b/X@h/p"], ["c", "https://u:***@h/p"]),
        (["c", "a: 1\npassword: X Y\nb: 2"], ["c", "a: 1\npassword: ***\nb: 2"]),
        (["c", "key: |\n  a\npassword: |\n  X\n  Y\nb: 2"], ["c", "key: |\n  a\npassword: ***\nb: 2"]),
        (["c", "<a><password>X</password></a>"], ["c", "<a><password>***</password></a>"]),
        (["c", "--set", "a=1,db.pass=X,b=2"], ["c", "--set", "a=1,db.pass=***,b=2"]),
        (["c", "--password", "-X9"], ["c", "--password", "***"]),
        (["c", "--token", "-v"], ["c", "--token", "-v"]),
        (["curl", "-sSu", "u:X", "h"], ["curl", "-sSu", "u:***", "h"]),
        (["7z", "a", "-pX", "-p", "f"], ["7z", "a", "-p***", "-p", "f"]),
        (["openssl", "rsa", "-passin", "env:P"], ["openssl", "rsa", "-passin", "env:P"]),
        (["sh", "-c", "echo 'open; TOKEN=X"], ["sh", "-c", "echo 'open; TOKEN=***"]),
        (["sh", "-c", "PASSWORD='a b' ./x --y"], ["sh", "-c", "PASSWORD=*** ./x --y"]),
        (["git", "-c", "user.password=a b"], ["git", "-c", "user.password=***"]),
        (["docker", "run", "-e", "PASSWORD=a b", "i"], ["docker", "run", "-e", "PASSWORD=***", "i"]),
        (["sh", "-c", "cat <<E\nit's\nE\nmysql -pX"], ["sh", "-c", "cat <<E\nit's\nE\nmysql -p***"]),
        (["sh", "-c", "cat <<E | oc login -u u\nX\nE\nb"], ["sh", "-c", "cat <<E | oc login -u u\n***\nE\nb"]),
        (["sh", "-c", "(echo X; echo Y) | passwd u; echo a"], ["sh", "-c", "(echo ***; echo ***) | passwd u; echo a"]),
        (["redis-cli", "AUTH", "u", "X"], ["redis-cli", "AUTH", "***", "***"]),
        (
            ["sh", "-c", "echo X | tee f | oc login -u u; echo a"],
            ["sh", "-c", "echo *** | tee f | oc login -u u; echo a"],
        ),
        (["sh", "-c", "c --pass $(echo X) --y"], ["sh", "-c", "c --pass $(echo ***) --y"]),
        (["sh", "-c", "c ${PASS:-X} ${A:-b}"], ["sh", "-c", "c ${PASS:-***} ${A:-b}"]),
        (["python", "-c", "Api(token='X').run(1)"], ["python", "-c", "Api(token='***').run(1)"]),
        (
            ["psql", "-c", "ALTER ROLE u PASSWORD $t$X$t$ LOGIN"],
            ["psql", "-c", "ALTER ROLE u PASSWORD $t$***$t$ LOGIN"],
        ),
        (["sshpass", "-pX", "ssh", "-p", "22", "h"], ["sshpass", "-p***", "ssh", "-p", "22", "h"]),
        (["curl", "-sb", "a=X", "h"], ["curl", "-sb", "***", "h"]),
        (["c", "-u", "u", "-p", "X", "-p", "80"], ["c", "-u", "u", "-p", "***", "-p", "80"]),
        (["sh", "-c", "# don't\nmysql -pX # TOKEN=X"], ["sh", "-c", "# don't\nmysql -p*** # TOKEN=***"]),
        (
            ["sh", "-c", "x=$(jq -r '.token' f); c -H \"X-Auth: $x\""],
            ["sh", "-c", "x=$(jq -r '.token' f); c -H \"X-Auth: $x\""],
        ),
    ],
)
def test_only_secret_is_masked(command: list[str], masked: list[str]) -> None:
    assert mask(command) == masked


# -- shapes: in two parts, so that no scanner takes this file for a leak ----------------------------------------------

LETTERS = "a1B2" * 30
HEX = "a1b2" * 30
SHAPES = [
    ("AKIA", "IOSFODNN7EXAMPLE"),
    *((f"A{kind}", "IOSFODNN7EXAMPLE") for kind in ("SIA", "BIA", "CCA")),
    ("ABSK", LETTERS[:60]),
    *((f"gh{kind}_", LETTERS[:36]) for kind in "pousr"),
    ("github_pat_", LETTERS[:22] + "_" + LETTERS[:59]),
    *((f"gl{kind}-", LETTERS[:20]) for kind in GITLAB),
    ("GR1348941", LETTERS[:20]),
    ("sk-", LETTERS[:48]),
    ("sk-proj-", LETTERS[:48]),
    ("sk-ant-api03-", LETTERS[:60]),
    *((f"{kind}k_{mode}_", LETTERS[:24]) for kind in "sr" for mode in ("live", "test")),
    ("whsec_", LETTERS[:32]),
    *((f"xox{kind}-", "123456789012-" + LETTERS[:24]) for kind in "bpars"),
    ("xapp-1-", LETTERS[:40]),
    ("hf_", "aBcD" * 9),
    ("gsk_", LETTERS[:52]),
    ("r8_", LETTERS[:37]),
    ("pypi-", LETTERS[:100]),
    ("npm_", LETTERS[:36]),
    ("rubygems_", HEX[:48]),
    ("dckr_pat_", LETTERS[:27]),
    ("dop_v1_", HEX[:64]),
    ("HRKU-", LETTERS[:40]),
    ("nfp_", LETTERS[:36]),
    ("lin_api_", LETTERS[:40]),
    ("secret_", LETTERS[:43]),
    ("ntn_", LETTERS[:46]),
    ("figd_", LETTERS[:40]),
    ("PMAK-", HEX[:24] + "-" + HEX[:34]),
    ("SG.", LETTERS[:22] + "." + LETTERS[:43]),
    ("key-", HEX[:32]),
    (HEX[:32], "-us12"),
    ("SK", HEX[:32]),
    *((f"shp{kind}_", HEX[:32]) for kind in ("at", "ca", "pa", "ss")),
    ("ATATT3x", LETTERS[:60] + "=AB12"),
    ("AIza", LETTERS[:35]),
    ("ya29.", LETTERS[:60]),
    ("GOCSPX-", LETTERS[:28]),
    (LETTERS[:3], "8Q~" + LETTERS[:34]),
    ("dapi", HEX[:32]),
    ("glsa_", LETTERS[:32] + "_" + HEX[:8]),
    ("glc_", LETTERS[:60]),
    ("NRAK-", "A1B2" * 7),
    ("sntrys_", LETTERS[:60]),
    *((f"hv{kind}.", LETTERS[:90]) for kind in "sbr"),
    (LETTERS[:14], ".atlasv1." + LETTERS[:60]),
    ("pul-", HEX[:40]),
    ("dp.pt.", LETTERS[:43]),
    ("AGE-SECRET-KEY-", "1" + "A1B2" * 14),
    ("tskey-auth-", LETTERS[:12] + "-" + LETTERS[:32]),
    ("pscale_tkn_", LETTERS[:43]),
    ("sbp_", HEX[:40]),
    *((f"sq{kind}_", HEX[:40]) for kind in "apu"),
    ("sq0atp-", LETTERS[:22]),
    ("api_org_", LETTERS[:34]),
    *((f"{maker}-", LETTERS[:48]) for maker in ("pplx", "xai", "nvapi", "tvly")),
    ("lsv2_pt_", HEX[:32]),
    ("cio", LETTERS[:32]),
    ("oy2", HEX[:43]),
    ("fm2_", LETTERS[:60]),
    ("ATCTT3x", LETTERS[:60]),
    ("ATBB", LETTERS[:28]),
    ("1//0", LETTERS[:60]),
    ("NRII-", LETTERS[:32]),
    ("ops_eyJ", LETTERS[:60]),
    ("CCIPAT_", LETTERS[:60]),
    ("bkua_", HEX[:40]),
    ("EAA", LETTERS[:80]),
    ("1234567890:AA", LETTERS[:33]),
    *((kind, f"{LETTERS[:22]}.{LETTERS[:6]}.{LETTERS[:27]}") for kind in DISCORD),
    ("eyJ", LETTERS[:20] + ".eyJ" + LETTERS[:20] + "." + LETTERS[:43]),
]


@pytest.mark.parametrize(("head", "tail"), SHAPES, ids=[f"{head[:8]}{len(tail)}" for head, tail in SHAPES])
def test_token_of_known_shape_is_masked(head: str, tail: str) -> None:
    token = head + tail
    assert mask(["c", token]) == ["c", "***"]
    assert mask(["c", "--with", f"a={token},b"]) == ["c", "--with", "a=***,b"]
    assert mask(["sh", "-c", f"echo {token} > f"]) == ["sh", "-c", "echo *** > f"]
    assert mask(["c", f"x{token[:8]}"]) == ["c", f"x{token[:8]}"]  # neither the begin of a word nor long enough


def test_each_shape_of_table_has_a_token() -> None:
    tokens = [head + tail for head, tail in SHAPES]
    assert [pattern for _, pattern in TABLE if not any(re.search(pattern, token) for token in tokens)] == []


@pytest.mark.parametrize("kind", ["RSA ", "EC ", "OPENSSH ", "ENCRYPTED ", "PGP ", ""])
@pytest.mark.parametrize("end", ["-----END {}PRIVATE KEY-----", ""])
def test_private_key_is_masked(kind: str, end: str) -> None:
    begin = f"-----BEGIN {kind}PRIVATE KEY-----"
    found = mask(["c", f"{begin}\n{SECRET}\n{end.format(kind)}"])
    assert found == ["c", f"{begin}***{end.format(kind)}"]


@pytest.mark.parametrize("scheme", ["Basic", "Bearer", "bearer"])
def test_credentials_behind_scheme_are_masked(scheme: str) -> None:
    assert mask(["c", f"{scheme} dXNlcjpwYXNz"]) == ["c", f"{scheme} ***"]


# -- options of known programs: each row of the table ------------------------------------------------------------------

OPTIONS = [
    (name, needed, option)
    for names, needed, options in PROGRAMS
    for name in names.split()
    for option in options.split()
]


def values_of(option: str) -> list[list[str]]:
    """Return the words of an option with a secret value, in each way that the table allows."""
    bare, kind = (option[:-1], option[-1]) if option[-1] in "+.:%,=*^&1234" else (option, "")
    value = {":": f"u:{SECRET}", "%": f"u%{SECRET}", ",": f"u,{SECRET}", "=": f"a={SECRET}", "*": f"a={SECRET}"}.get(
        kind, SECRET
    )
    if bare.startswith("/"):
        return [[f"{bare}:{SECRET}"]]
    if kind.isdecimal():
        return [[bare, *"abc"[: int(kind) - 1], value]]
    if kind == "&":
        return [[bare, value, value]]
    ways = [] if kind == "+" else [[bare, value]]
    if bare.startswith("--"):
        ways.append([f"{bare}={value}"])
    elif kind == "+" or (len(bare) == 2 and kind != "."):
        ways.append([bare + value])
    return ways


@pytest.mark.parametrize(("name", "needed", "option"), OPTIONS, ids=" ".join)
def test_option_of_known_program(name: str, needed: str, option: str) -> None:
    program = [f"/usr/bin/{name}", *needed.split()]
    if option.startswith("!"):
        bare = option.removeprefix("!").rstrip(":")
        assert mask([*program, bare, "x"]) == [*program, bare, "x"]
    elif option == "@/":
        assert mask([*program, f"u/{SECRET}@db"]) == [*program, "u/***@db"]
    elif option == "<":
        assert mask(["sh", "-c", f"echo {SECRET} | {name} a"]) == ["sh", "-c", f"echo *** | {name} a"]
    elif option.rstrip("2") == name:
        assert mask([*program, *"a"[: option.count("2")], SECRET])[-1] == "***"
    else:
        for words in values_of(option):
            shown = [word.replace(f"a={SECRET}" if option.endswith("=") else SECRET, "***") for word in words]
            assert mask([*program, *words]) == [*program, *shown]


# -- other texts ------------------------------------------------------------------------------------------------------


def test_text_is_masked_by_shape_and_url() -> None:
    assert mask_text("nightly " + "ghp_" + LETTERS[:36]) == "nightly ***"
    assert mask_text(f"POST https://u:{SECRET}@h/x?sig={SECRET} refused") == "POST https://u:***@h/x?sig=*** refused"
    assert mask_text("nightly 2024-01-02") == "nightly 2024-01-02"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("pass: No such file or directory", "pass: No such file or directory"),
        ("--token-file: /x/auth: Permission denied", "--token-file: /x/auth: Permission denied"),
        (f"'https://u:{SECRET}@h' is not a process id", "'https://u:***@h' is not a process id"),
    ],
)
def test_message_is_masked_as_prose(message: str, shown: str) -> None:
    assert mask_text(message, prose=True) == shown


def test_tags_are_masked_by_key_and_by_value() -> None:
    tags = {"team": "core", "api_key": SECRET, "token": f"-{SECRET}", "url": f"https://u:{SECRET}@h", "empty": ""}
    masked = {"team": "core", "api_key": "***", "token": "***", "url": "https://u:***@h", "empty": ""}
    assert mask_tags(tags) == masked


def test_recorded_command_is_masked_again() -> None:
    assert mask_recorded(["c", "--password", SECRET]) == ["c", "--password", "***"]
    assert mask_recorded(["c", 5]) == ["c", "5"]
    assert mask_recorded("c") is mask_recorded(None) is None


# -- hostile arguments ------------------------------------------------------------------------------------------------

REPEATED = [
    "token", "token ", "token=", "token: ", "--token ", "password='", 'password="', "'", '"', '\\"', "\\",
    "a=", "a=b,", "&a=", "{", "[", "https://u:", "u:p@h:1 ", "@", "a:b@", "eyJ", "sk-",
    "-----BEGIN PRIVATE KEY-----", "login user ", "key=x,", "$(", "${", "`", "<<", "curl -u a:b ", "mysql -px\n",
    "password: x\n", "\n ", "<password>", "identified by '", "/hooks/", "echo x|", "a b\tc",
    "name=password,value=", 'f("a","', "f(a,", "pragma key=", "as a key '", "secret,", "(token 'x",
    "user a identified by ",
    "set a.key ", "-u a -p ", "docker login --stdin <<E\n", "echo x;", "(echo x)|", "$h{a}=", "auth: a b ", "SECRET ",
    "password: is ", "token=a1.", "X-Api-Key: {", "password $a$", "password from '", "${token:-", "b $(echo x",
    "b `echo x ", "echo x > token ", "echo x | tee ", "a < <(", ": '", "identified by a replace ",
    "a:a@a:1/", "u:", "a", "a.", "a1", " ",
]  # fmt: skip


def seconds(call: Callable[[], object]) -> float:
    """Return the CPU time of the faster of three calls."""
    times = []
    for _ in range(3):
        begun = time.process_time()
        call()
        times.append(time.process_time() - begun)
    return min(times)


@pytest.mark.parametrize("head", ["password ", "token="])
@pytest.mark.parametrize("part", REPEATED, ids=repr)
def test_mask_time_is_linear(part: str, head: str) -> None:
    """A quadratic search takes 64 times as long for a text that is 8 times as long."""
    short, long = (head + part * (size // len(part)) for size in (4_000, 32_000))
    begun = seconds(lambda: mask(["sh", "-c", short]))
    assert seconds(lambda: mask(["sh", "-c", long])) < 24 * begun + 0.02


FRAGMENTS = st.sampled_from(
    [
        "--password", "token", "=", ":", " ", "'", '"', "\\", "\n", "{", "}", "[", "]", "https://", "u:", "@",
        "h/", "?", "&", "mysql", "-p", "curl", "-u", "a:b", "$(", ")", "`", "${", "|", "<<E", ";",
        "Authorization: ", "Bearer ", "***", "-c", "\udcff", "\x1b", "pass", "Cookie:", "login user password ",
        "<", ">", "-----BEGIN PRIVATE KEY-----", "set", "name", "%",
    ]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.lists(st.one_of(FRAGMENTS, st.text(max_size=4)), max_size=9).map("".join), max_size=6))
def test_any_arguments_are_masked_without_fault(command: list[str]) -> None:
    command = [word.encode("utf-8", "replace").decode() for word in command]
    masked = mask(command)
    assert len(masked) == len(command)
    "".join(masked).encode()


def test_first_search_knows_every_row_of_the_table() -> None:
    assert tuple(literal for literal, _ in TABLE) == LITERALS
    assert PROGRAM_NAMES.split() == sorted({name for names, _, _ in PROGRAMS for name in names.split()})
