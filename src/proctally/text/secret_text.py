"""Mask secrets inside one text: tokens by shape, URLs, headers, documents, connection strings. Linear in its length."""

from __future__ import annotations

import re
import sys
from functools import lru_cache

from proctally.text.secret_names import is_harmless_value, is_secret, is_secret_in_query, without_option
from proctally.text.secret_table import SHAPES
from proctally.text.secrets import MASK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_TOKEN = 16  # characters of the shortest shape
MAX_TALK = 256  # characters of a sentence about a secret
MAX_REFERENCE = 512  # characters of a path, or of another reference to a secret
_FOLDERS = (
    "etc|run|var|home|root|opt|tmp|usr|mnt|srv|dev|proc|secrets?|data|workspace|github|app|config|keys|certs|ssl|Users"
)
# A value that only refers to a secret: a variable, a command, a file, a template; or a switch.
_REFERENCE = re.compile(
    rf"""\*\*\* | \$+ | (?-i:\$(?:[A-Z_][A-Z0-9_]*|[a-z_]+|\d)) | \$\{{\w+(?::?[?+][^}}]*|:?[-=](?:\$\w+)?)?\}}
    | \$\$?\((?!echo|printf)[^()]*\) | `(?!echo|printf)(?:[^`]*\s[^`]*|[/.][^`]*|[a-z_-]+)` | %[A-Z_]+\d?%
    | \$?\{{\{{[^{{}}]*\}}\}} | </?\|?[A-Z_ .-]+\|?> | (?-i:\[[A-Z]+\]) | \{{[A-Z_.]*\}}
    | (?:env|fileb?|fd|fp|op|ssm|vault|secretsmanager|arn)://?/?[\w./:@-]+
    | @[\w./~-]*[/.][\w./-]+ | \W{{1,3}} | (?:s3|gs)://[\w./-]+
    | (?:true|false|yes|no|none|null|nil|undefined|optional|required|missing|invalid|incorrect|expired|auto
    |prompt|ask|stdin|on|off|-?0)
    | (?:~|\.{{1,2}}|/(?:{_FOLDERS}))(?:/[\w.@+-]+)+/? | [\w./~@+-]+\.(?:pem|key|pub|crt|cer|json|p12|pfx|jks|ya?ml
    |txt|env|ini|toml|cfg|conf|gpg|asc|age|kdbx|keytab|properties|netrc|enc|sh|py)""",
    re.IGNORECASE | re.VERBOSE,
)
_SCHEME = re.compile(r"(?i)(?:bearer|basic|token|digest|negotiate|apikey)\s{1,8}")
_CALL = re.compile(
    r"(?:[A-Za-z_]++(?:\d{1,3}[a-z_]*+)?\.)*+[A-Za-z_]++(?:\d{1,3}[a-z_]*+)?[(\[]|\.[A-Za-z_][\w.]*"
    r"|(?:os|self|args|sys|process|config|settings|secrets)\.\w"
)
_HEADERS = re.compile(r"(?i).*(?:authorization|cookie)")
_PEM = re.compile(r"(-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----)(?:(?!-----END )[^\0])*+", re.DOTALL)
_SCHEMED = re.compile(
    r"\b([Bb](?:asic|earer)|BASIC|BEARER) (?=[\w+/.~=-]{0,200}[0-9A-Z+/=][\w+/.~=-])([\w+/.~-]{8,}=*)"
)
_TEXT = r"((?<=')(?:[^'\0]|''){1,4096}|(?<=\")(?:[^\"\0]|\"\"){1,4096})"  # of SQL, behind its quote
_BARE = r"([^\s\0'\";]{1,4096})"
# (one of these is in the lower-case text, what is before a secret and the secret)
_PHRASES = (
    (  # machine h login u password X
        (" pass", "\tpass", "\npass"),
        r"(?i)(\b(?:login|user(?:name)?|account)\s{1,8}[^\s\0;|&-][^\s\0;|&]{0,256}\s{1,8}(?:passw(?:or)?d|pass)\s{1,8})"
        + r"(?!(?i:from)\b)"
        + _BARE,
    ),
    (  # PASSWORD 'X'; IDENTIFIED WITH plugin BY 'X'; PASSWORD FOR u = 'X'; PASSWORD('X')
        ("password", "identified", "securestring"),
        r"(?i)(\b(?:identified\s{1,8}(?:with\s{1,8}\S{1,64}\s{1,8})?(?:by|as)|password|convertto-securestring(?:\s{1,8}-string)?"
        r"|password\s{1,8}for\s{1,8}\S{1,128}\s{0,8}=)(?:\s{1,8}|\s{0,8}\(\s{0,8}|(?<==))(?:(?:password|to|from)\s{0,8}\(?\s{0,8})?"
        r"[EN]?[\"'])" + _TEXT,
    ),
    (  # PASSWORD FROM 'old' TO 'X'
        ("password from",),
        r"(?i)(\bpassword\s{1,8}from\s{1,8}[EN]?[\"'][^'\"\0]{1,4096}[\"']\s{1,8}to\s{1,8}[EN]?[\"'])" + _TEXT,
    ),
    (  # PASSWORD $$X$$, $tag$X$tag$ of PostgreSQL
        ("password $", "password \\$"),
        r"(?i)(\bpassword\s{1,8}\\?\$(\w{0,64})\\?\$)((?:(?!\\?\$\2\\?\$)[^\0]){1,4096})",
    ),
    (  # ALTER USER u IDENTIFIED BY X
        ("identified",),
        r"(?i)(\b(?:user|role)\s{1,8}\S{1,128}\s{1,8}identified\s{1,8}by\s{1,8})" + _BARE,
    ),
    (  # IDENTIFIED BY new REPLACE X
        ("replace",),
        rf"(?i)(\bidentified\s{{1,8}}by\s{{1,8}}\S{{1,256}}\s{{1,8}}replace\s{{1,8}}[\"']?)(?:{_TEXT}|{_BARE})",
    ),
    (  # PRAGMA key = 'X'
        ("pragma",),
        r"(?i)(\bpragma\s{1,8}(?:\w{1,64}\.)?(?:hex|text)?(?:re)?key\s{0,8}[=(]\s{0,8}[\"']?(?:x')?)"
        rf"(?:{_TEXT}|{_BARE})",
    ),
    (("attach",), r"(?i)(\bas\s{1,8}\w{1,64}\s{1,8}key\s{1,8}[\"'](?:x')?)" + _TEXT),  # ATTACH 'f' AS e KEY 'X'
    (  # (TYPE s3, SECRET 'X'), BEARER_TOKEN 'X'
        ("secret ", "token ", "_key "),
        r"((?:[(,]\s{0,8}(?i:\w{0,64}(?:secret|token|(?:access|api|account|encryption)_key))|\b(?i:secret_access_key"
        r"|session_token|client_secret)|\b[A-Z_]{0,64}(?:SECRET|TOKEN|(?:ACCESS|API|ACCOUNT|ENCRYPTION)_KEY))\s{1,8}')"
        + _TEXT,
    ),
    (("secret,",), r"(\bsecret,(?:[^\s\0]{0,256},)?data=)([^\s\0,]{1,4096})"),  # an object of QEMU
)
_CALLED = (  # set("password", "X"), auth("u", "X")
    r"(\b(\w{1,64})\(\s{0,8}(?:[\w.$]{1,64}\s{0,8},\s{0,8})?(?:[\"']([^\"'\n]{0,256})[\"']\s{0,8},\s{0,8}){0,3}[\"'])"
    r"((?<=')[^'\n]{1,4096}(?=')|(?<=\")[^\"\n]{1,4096}(?=\"))"
)
_SETTER = re.compile(r"(?i)set|put|change|reset|update|add|append|store|define|header|auth$|authentication$")
_LOGIN = re.compile(r"(?i)(?:login|authenticate|credentials)$")
_NAMED = (  # {"name": "DB_PASSWORD", "value": "X"}
    r"(?i)((?:name|key)\\?[\"']?\s{0,8}[=:]\s{0,8}\\?[\"']?)([\w.-]{1,128})"
    r"(\\?[\"']?\s{0,8},?\s{0,8}\\?[\"']?(?:parameter|[\w.\[\]]{1,64}\.)?value\\?[\"']?\s{0,8}[=:]\s{0,8})"
    r"(\\?\"[^\"]*|'[^']*|[^\s,}\"'\\]+)"
)
_URL = re.compile(
    r"((?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,30}://|(?<![\w:/])//)((?:[^\s\"'<>`,]|,(?!\w{1,20}://))++)"
)
_PORT = re.compile(r"\d{1,5}|[${].*")
_PLAIN_USER = re.compile(r"[A-Za-z][a-z._-]{0,19}[0-9]{0,4}|\$.*|\{.*|<.*|\*+|")
_HOST = re.compile(r".*(?:\.|:\d+$|\*|\$)|localhost", re.IGNORECASE)
_HOOK = (
    r"((?:hooks?\.slack\.com/(?:services|workflows|triggers)|/api/webhooks/\d+|/webhookb2|webhook\.office\.com/[a-z]+"
    r"|/bot/v2/hook|/hooks/catch|/with/key)/)[^\s?#]+|(/(?:web)?hooks?/)(?=[^\s?#]{0,200}[0-9A-Z])[^\s?#]{16,}"
    r"|(/bot)\d+:[\w-]+"
)
_BARE_LOGIN = (  # user:X@host:port, user:X@tcp(host)
    r"(?<![\w./:@+-])((?:(?:-d)?:pserver:)?(?!(?:npm|pkg|file|mailto|sips?|xmpp|jsr|github|gitlab|workspace|git|sha256)\b)"
    r"(?:[\w.-]{1,64}/)?[\w.+-]{1,64}:)((?:(?!//)[^\s\"',;]){1,64}(?=@[\w.-]+:\d+(?:/|$))|[^\s\"'@/:,;]{1,512})(?=@(?!sha\d)"
    r"(?:(?P<sure>[\w-]+(?:\.[\w-]+)*:[\d/]|localhost\b|(?:tcp|unix)\(|\d+(?:\.\d+){3}|[A-Za-z][\w-]*(?:\.[\w-]+)+)"
    r"|[A-Za-z][\w-]*(?:/|\s|$)))"
)
_DEFAULT = re.compile(r"(\$\{(\w{1,128}):?[=-])(\$\{\w*\}|[^\s}]+)")  # ${NAME:-X}
_MIXED = re.compile(r"(?=\D*\d)(?=[^A-Za-z]*[A-Za-z]).{6}")  # letters and digits
_LONE = re.compile(r"[^\s@:/]{8,}(?=@[\w.-]+:\d+(?:[/?#]|$))")  # SECRET@host:port

_HEAD = re.compile(
    r"(?<![\w.-])(?<!\$\{)(?<![\w/]/)([\w.-]++)"
    r"(?:(\\*[\"'\]}]{0,2}[ \t]{0,8}(?:=>|:=|(?:\|\||\?\??)?=(?![=~])|:(?!:|//))[ \t]{0,8})|(>)(?=[^<>\s]))"
)
_DELIMITER = r"[&;,)}\]|](?=\s|$|[&;,)}\]|\"'<]|\\*[\"']?[\w.-]{1,64}+\\*[\"'\]]?\s?[=:])|\)(?=\.[A-Za-z_]|->)"
_QUOTED = r"\"(?:[^\"\\]|\\.)*+\"?|'(?:[^'\\]|\\.)*+'?"
_VALUE = re.compile(
    rf"\\+\"(?:[^\"\\]|\\(?!\").|\\{{3}}\")*+(?:\\+\")?|(?:{_QUOTED}|\$'(?:[^'\\]|\\.)*+'|(?!{_DELIMITER}|/>)(?:\\.|[^\s\"'<>]))++",
    re.DOTALL,
)
_VALUE_IN_QUOTES = {
    '"': re.compile(rf"(?:'[^'\"]*+'|(?!{_DELIMITER}|/>)(?:\\[^\"]|[^\s\"'\\<>]))++", re.DOTALL),
    "'": re.compile(rf"(?:\"[^'\"]*+\"|(?!{_DELIMITER}|/>)(?:\\[^']|[^\s\"'\\<>]))++", re.DOTALL),
}
_SUBSCRIPT = re.compile(r"[\w>}]\{\\?[\"']?$")  # $ENV{NAME}=
_IN_BRACKETS = re.compile(r"\([^()\s\"']+\)|\{[^{}\s\"':=,]+\}")
_TALK = (  # password: must be longer
    r"(?i)(?!.*(?:[a-z]\d|\d[a-z]))(?:must|should|can(?:not|'t)?|is|are|was|has|have|will|does|do|not|too|please|needs?|see"
    r"|invalid|incorrect|wrong|missing|required|expired|enter|reset|changed|updated|ok|failed|passed)(?:\s|[.!?\u2026]*$)"
)
_PROSE = re.compile(r"[a-z]+(?: [a-z]+)+[.!?\u2026]?")  # auth: token expired
_LIST = re.compile(r"\[[^\]]*+\]*")
_STRINGS = re.compile(r"\([^()\n]{0,256}[\"'][^()\n]{0,256}\)")  # auth=("user", "X")
_LINE = re.compile(r"[^\n]*+")
_LINE_IN_QUOTES = re.compile(r"[^\n\"']*+")
_BLOCK = re.compile(r"[|>][+-]?[ \t]*(?:\n[ \t]+[^\n]*)++")  # of YAML
_ELEMENT = re.compile(r"[^<]*+")


def mask_text(text: str, *, prose: bool = False) -> str:
    """Return a text with `***` for each secret but tokens. `prose`: it is for people, and `auth: x` is a topic."""
    if "//" in text:
        text = _URL.sub(_masked_url, text)
    if "@" in text:
        text = _LONE.sub(_masked_lone, _compiled(_BARE_LOGIN).sub(_masked_login, text))
    if "${" in text:
        text = _DEFAULT.sub(_masked_default, text)
    if "alue" in text or "ALUE" in text:
        text = _compiled(_NAMED).sub(_masked_named, text)
    if "(" in text:
        text = _compiled(_CALLED).sub(_masked_call, text)
    return "".join(_masked_pairs(text, prose=prose))


def masked_value(name: str, value: str) -> str:
    """Return the value of a key that is secret: `***`, or the value where it only refers to a secret."""
    bare = value.strip("\"'")
    if len(bare) > MAX_REFERENCE:
        return MASK
    is_known = _REFERENCE.fullmatch(_SCHEME.sub("", bare, count=1)) or is_harmless_value(name, bare)
    return value if is_known or not bare else MASK


def mask_tokens(text: str) -> str:
    """Return a text with `***` for what is a secret by its own shape, or by the words before it.

    Nothing that is masked has a NUL in it: the text can be several arguments.
    """
    if "-----BEGIN " in text:
        text = _PEM.sub(rf"\g<1>{MASK}", text)
    for literal, pattern in SHAPES:
        if literal in text:
            text = _compiled(rf"(?<![0-9A-Za-z]){pattern}").sub(MASK, text)
    text = _SCHEMED.sub(rf"\g<1> {MASK}", text)
    lowered = text.lower()
    for stems, phrase in _PHRASES:
        if any(stem in lowered for stem in stems):
            text = _compiled(phrase).sub(_masked_phrase, text)
    return text


@lru_cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern that few texts need; to compile all of them takes 5 ms."""
    return re.compile(pattern)


# -- URLs -------------------------------------------------------------------------------------------------------------


def _masked_url(found: re.Match[str]) -> str:
    """Mask user and password, and the path of a webhook; the query is a matter of pairs."""
    scheme, rest = found.groups()
    at = _end_of_login(rest)
    if at >= 0:
        rest = f"{_masked_user(rest[:at], scheme.lower())}{rest[at:]}"
    return scheme + _compiled(_HOOK).sub(lambda hook: f"{hook[1] or hook[2] or hook[3]}{MASK}", rest)


def _end_of_login(rest: str) -> int:
    """Return the place of the `@` that ends user and password; -1 without. A password can hold `/` and `@`."""
    end = next((place for place, sign in enumerate(rest) if sign in "/?#"), len(rest))
    at = rest.rfind("@", 0, end)
    last = rest.rfind("@")
    if at >= 0:
        return at if last == at or _HOST.match(rest[at + 1 : end]) else last
    _, colon, port = rest[:end].rpartition(":")
    return last if colon and not rest.startswith("[") and not _PORT.fullmatch(port) else -1


def _masked_user(login: str, scheme: str) -> str:
    user, colon, password = login.partition(":")
    is_marker = password in ("", "x-oauth-basic")  # the user is the token
    if (
        (not colon or is_marker or password.lower() == "x")
        and not any(each in scheme for each in ("ssh", "sftp"))
        and not _PLAIN_USER.fullmatch(user)
    ):
        user = MASK
    if not colon or is_marker:
        return user + colon + password
    return f"{user}:{masked_value('password', password)}"


def _masked_login(found: re.Match[str]) -> str:
    if found["sure"] is None and not _MIXED.match(found[2]):
        return found[0]
    return found[1] + masked_value("password", found[2])


def _masked_lone(found: re.Match[str]) -> str:
    return found[0] if _PLAIN_USER.fullmatch(found[0]) else MASK


def _masked_default(found: re.Match[str]) -> str:
    return found[1] + (masked_value(found[2], found[3]) if is_secret(found[2]) else found[3])


# -- phrases and pairs ------------------------------------------------------------------------------------------------


def _masked_phrase(found: re.Match[str]) -> str:
    return found[1] + masked_value("password", found[found.lastindex or 2])


def _masked_named(found: re.Match[str]) -> str:
    head, name, middle, value = found.groups()
    if not is_secret(name):
        return found[0]
    quote = value[: len(value) - len(value.lstrip("\\\"'"))]
    return f"{head}{name}{middle}{quote}{masked_value(name, value[len(quote) :])}"


def _masked_call(found: re.Match[str]) -> str:
    before, function, last, value = found.groups()
    is_set = _SETTER.search(function) is not None and (is_secret(last or "") or is_secret(function))
    if value[:1] == "-" or not (is_set or (last is not None and _LOGIN.search(function))):
        return found[0]
    return before + masked_value(last or "password", value)


def _masked_pairs(text: str, *, prose: bool) -> Iterator[str]:
    """Yield the text in pieces, the values of secret keys masked."""
    place = shown = counted = 0
    odd = {'"': False, "'": False}  # whether such a quote is open
    while found := _HEAD.search(text, place):
        place = found.end()
        if not _is_key(text, found, prose=prose):
            continue
        for quote in odd:
            odd[quote] ^= bool(_quotes(text, quote, counted, place) % 2)
        end = _end_of_value(text, found, odd)
        counted = max(place, end)  # a value closes what it opens
        if end > place:
            yield text[shown:place]
            yield _remasked(without_option(found[1]), text[place:end])
            place = shown = end
    yield text[shown:]


def _is_key(text: str, found: re.Match[str], *, prose: bool) -> bool:
    """Return whether what was found is the key of a secret."""
    name, begin, separator = found[1], found.start(), found[2]
    before = text[begin - 1 : begin]
    if separator is None:
        return before == "<" and is_secret(name)
    if ":" in separator and "=" not in separator and (prose or before in ("$", "@")):
        return False
    if "}" in separator and ("=" not in separator or not _SUBSCRIPT.search(text[max(0, begin - 4) : begin])):
        return False
    return is_secret_in_query(name) if before in ("?", "&", "#") else is_secret(without_option(name))


def _quotes(text: str, quote: str, begin: int, end: int) -> int:
    """Count quotes that stand for themselves."""
    return text.count(quote, begin, end) - text.count("\\" + quote, begin, end)


def _remasked(name: str, value: str) -> str:
    """Return a masked value in the quotes that it has."""
    body = value.lstrip("\\\"'")
    before = value[: len(value) - len(body)]
    if not body:
        return value
    after = before if before and body.endswith(before) else ""
    return before + masked_value(name, body.removesuffix(after) if after else body) + after


def _end_of_value(text: str, found: re.Match[str], odd: dict[str, bool]) -> int:
    """Return where the value of a secret key ends; its start where there is none."""
    name, separator, start, begin = found[1], found[2], found.end(), found.start()
    if separator is None:
        return _end(_ELEMENT, text, start)
    before, sign = text[begin - 1 : begin], text[start : start + 1]
    open_quote = next((quote for quote, is_odd in odd.items() if is_odd), None)
    line = _LINE_IN_QUOTES if open_quote or before in ("'", '"') else _LINE
    is_line = ":" in separator and "=" not in separator and _begins_line(text, begin)
    if (
        is_line
        and before not in ("'", '"')
        and (_HEADERS.fullmatch(name) or ("-" in name and sign == "{") or _IN_BRACKETS.match(text, start))
    ):
        return _end(line, text, start)
    if sign == "[":
        return _end(_LIST, text, start)
    if sign == "(":
        return _end(_STRINGS, text, start)
    if sign in ("", "{") or (sign == before and sign not in separator):  # "token:"
        return start
    if sign in "\"'\\":
        return _end(_VALUE, text, start)
    if _HEADERS.fullmatch(name):
        return _end(line, text, start)
    if ":" in separator and "=" not in separator:
        if block := _BLOCK.match(text, start):
            return block.end()
        if separator == ":" and not _is_telling(name, text[start : start + 64]):
            return start
        if _is_talk(name, text[start : _end(line, text, start, start + MAX_TALK)]):
            return start
        if is_line:
            return _end(line, text, start)
    if _CALL.match(text, start):
        return start
    return _end(_VALUE if open_quote is None else _VALUE_IN_QUOTES[open_quote], text, start)


def _end(pattern: re.Pattern[str], text: str, start: int, stop: int = sys.maxsize) -> int:
    found = pattern.match(text, start, stop)
    return start if found is None else found.end()


def _is_talk(name: str, value: str) -> bool:
    """Return whether a line is about its key: `password: must be longer`, `auth: token expired`."""
    return bool(_compiled(_TALK).match(value) or (name.lower() in ("auth", "token", "key") and _PROSE.fullmatch(value)))


def _begins_line(text: str, begin: int) -> bool:
    line = text[max(0, begin - 64, text.rfind("\n", max(0, begin - 64), begin) + 1) : begin]
    return not line.strip("\"' \t-") and begin - len(line) in (0, text.rfind("\n", max(0, begin - 66), begin) + 1)


def _is_telling(name: str, value: str) -> bool:
    """Return whether `name:value`, without a blank, is a pair: auth:latest, key:generate and token:80 are not."""
    if "passw" in name.lower() or "-" in name.strip("-") or name[:1] in "-/":
        return True
    return bool(re.match(r"(?=[^\s:]{0,63}\d)(?=[^\s:]{0,63}[A-Za-z])(?!v?\d+[.\d]*\b)[^\s:]{6}", value))
