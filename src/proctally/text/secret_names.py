"""Decide by the name of a key whether its value is a secret: one rule for options, variables, JSON, headers, queries.

A name is cut into its parts (`keyStorePassword`, `AWS_SECRET_ACCESS_KEY`, `db.pass`), and the last ones decide.
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_NAME = 128  # maximum number of characters, from its end


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")

# First parts of names that are switches or actions.
_ACTIONS = _words(
    "no quick skip enable disable require show print get list generate create delete ask prompt use without is has "
    "need needs missing invalid expired"
)
# What can follow: PASSWORD_2, DB_PASS_PROD, SECRET_KEY_BASE.
_QUALIFIERS = _words(
    "prod production dev development staging stage qa uat test testing live old new current previous prev "
    "primary secondary default local ci admin root user app api db confirm confirmation again repeat value val "
    "string str plain plaintext raw base b hex v encoded"
)
# A name with `password` in it is secret unless it ends with one of these.
_ABOUT_PASSWORDS = _words(
    "file files path dir directory url uri link name id ids type policy policies length len count min max size "
    "ttl expiry expires expired expire age days algorithm algo field column attribute label prompt prompts "
    "hint command cmd stdin manager store helper provider protected required enabled disabled reset change "
    "changed changes rotation strength regex pattern encoding format version ref reference env var variable "
    "source class module option options authentication auth less free only generator validator validators "
    "checker complexity history attempts retries fd input visible visibility mode method callback form page "
    "timeout created updated at date time on off index list set map section title handler service login logins "
    "grant needed entry lookup iterations rounds cost scheme hasher hashers tool check strategy available "
    "exists placeholder"
)
_PASSWORD = re.compile(r"passwor[dt]s?|passwd|passphrase|passcode|passwrd")
# The last part alone.
_SECRET = re.compile(
    r".*(?:passwor[dt]s?|passwd|passphrase|passcode|passwrd|passw|pwd|secret|token|credentials?|sessid|sessionid)"
    r"|creds?|bearer|authorization|jwt|cookies?|[th]?otp|mfa|psk|mnemonics?|requirepass|masterauth|sharedaccesssignature"
    r"|(?:db|my|ssh|pg|user|usr|admin|root|ftp|smtp|mail|imap|ldap|redis|mysql|http|https|proxy|\w*key|\w*store|cert"
    r"|vnc|wifi|auth|smb|sql|sudo|rdp|ssl|login|enc|zip|master|bind|web|basic|git|rabbit|mongo|my|app|api)pass"
    r"|(?:api|access|account|secret|private|priv|encryption|encrypt|decryption|enc|master|shared|app|application|auth"
    r"|license|subscription|storage|service|crypt|crypto|deploy|client|aes|hmac|jwt|admin|write|integration|ingest"
    r"|consumer|primarymaster|webhook|cipher|session|function|wifi|wpa|wep|psk)key"
    r"|(?:http|basic|proxy|npm|digest|redis|smtp|x|o)auth|(?:bind|root|user|admin|db|ldap|http|proxy|u|o)pw"
)
_NO_PASS = _words(
    "first one multi two second third single render shadow opt optimization by low high band all max min pre "
    "last next each per num forward backward final depth light post lto link compiler llvm mlir full half"
)
_NO_TOKEN = _words(
    "eos bos pad unk mask cls sep stop next start end begin special num number max min per by page image audio "
    "video starting continuation new newline prompt input output total first last prefix suffix middle text "
    "word sub byte class time task object memory register query visual speech patch placeholder default sync skip "
    "decoder forced extra"
)
_NO_KEY = _words(
    "public pub primary foreign sort partition group cache row range hash index host dict map shard routing "
    "object s idempotency translation turn hot order unique natural surrogate join lookup color colour arrow "
    "shortcut meta ctrl control shift alt num any first last next prev previous left right top parent "
    "child registry json yaml config context label annotation tag filter search query data dataset cluster "
    "distribution column field attribute attr property metric event message msg kafka record document doc node "
    "value list not by press kms gpg pgp file bucket trusted known verify verification feature input output "
    "batch sample image audio text target source step state hive dimension dim composite candidate secondary "
    "clustering bind binding socket keyboard hotkey leader prefix i18n locale string resource item entry option "
    "setting default exclude include old new aggregate aggregation facet merge dedup deduplication correlation "
    "route topic"
)
_NO_AUTH = _words("default supports can need needs auto client mutual peer")
_NO_SECRET = _words("existing pull from k8s kubernetes key password")
_CODES = _words("pin mfa otp totp fa token verification security authenticator")
_PINS = _words("user so card token piv old new set")
_PLAIN = re.compile(r"[a-z]+(?:[_.-][a-z]+|[A-Z][a-z]+)*(?:[_.-]\d{1,2})?")  # a word, a name of a field
_PLURAL_KEYS = _words("api access secret private encryption master account")
_PLURAL_TOKENS = _words("api access auth bearer refresh session secret personal")
_QUERY = _words("key sig signature pass pw pwd auth hmac apikey session sid")  # of a URL
_SCHEMES = _words(
    "basic digest ntlm negotiate kerberos ldap oauth oauth2 bearer jwt mtls tls cert iam sasl plain login "
    "cram-md5 md5 scram peer trust anonymous external internal local default any gssapi publickey password pam "
    "native mysql sso saml oidc token apikey cookie session header github google"
)
_SHORT = _words("pass token auth pat cookies cookie jwt bearer")  # keys whose small numbers stay: -pass 1
_ATTACHING = ("-D", "-e", "-P", "-E", "-X")  # java -DNAME=value, docker run -eNAME=value


@lru_cache(1024)
def is_secret(name: str) -> bool:
    """Return whether the value of this key is a secret. A leading `-` or `--` is part of an option's name."""
    parts = [part.lower() for part in _PART.findall(name[-MAX_NAME:])]
    if not parts or parts[0] in _ACTIONS:
        return False
    if ".account.key." in name:  # of a storage of Azure
        return True
    found = _without_qualifiers(parts)
    if len(found) == 1 and len(parts) > 1 and found[0] in ("pass", "auth", "pat", "pw", "token", "otp"):
        return not any(part.isalpha() for part in parts[1:])
    if found and _ends_secret(found, name):
        return True
    whole = "".join(parts)
    return bool(_PASSWORD.search(whole)) and not _is_about(parts)


def is_secret_in_query(name: str) -> bool:
    """Return whether the value of this key of a URL's query, or of a form, is a secret."""
    if is_secret(name):
        return True
    parts = [part.lower() for part in _PART.findall(name[-MAX_NAME:])]
    return bool(parts) and parts[-1] in _QUERY and not (len(parts) > 1 and parts[-2] in _NO_KEY)


def without_option(name: str) -> str:
    """Return the name without the letter of an option that it is attached to: `-DPASS`, `-eDB_PASS`."""
    return name[2:] if name[:2] in _ATTACHING and len(name) > 2 and is_secret(name[2:]) else name


def is_harmless_value(name: str, value: str) -> bool:
    """Return whether this value of a secret key can be shown: a switch, a small number, a field, a scheme."""
    parts = [part.lower() for part in _PART.findall(name[-MAX_NAME:])]
    is_weak = len(parts) > 1 and parts[-1] == "key" and not _SECRET.fullmatch("".join(parts[-2:]))
    if is_weak and name != name.upper() and _PLAIN.fullmatch(value):
        return True
    if (parts[-1:] == ["token"] or (len(parts) == 1 and parts[0] in _SHORT)) and value.isdecimal() and len(value) <= 2:
        return True
    if name == "PWD" and value.startswith("/"):  # the working directory
        return True
    return bool(parts) and parts[-1].endswith("auth") and value.lower() in _SCHEMES


def _without_qualifiers(parts: list[str]) -> list[str]:
    found = list(parts)
    while found and (found[-1].isdecimal() or found[-1] in _QUALIFIERS):
        found.pop()
    return found


def _is_about(parts: list[str]) -> bool:
    """Return whether the name is of something about passwords: PASSWORD_FILE, PasswordAuthentication."""
    last = next((part for part in reversed(parts) if not part.isdecimal()), "")
    if (
        last in _ABOUT_PASSWORDS
        or last.removesuffix("s") in _ABOUT_PASSWORDS
        or last in ("key", "keys", "hash", "token", "secret")
    ):
        return True
    return not _PASSWORD.search(last) and any(
        last.endswith(each) for each in ("file", "dir", "path", "less", "url", "cmd")
    )


def _ends_secret(parts: list[str], name: str) -> bool:
    last, before = parts[-1], parts[-2] if len(parts) > 1 else ""
    match last:
        case "pass":
            return before not in _NO_PASS
        case "key":
            return bool(before) and len(before) > 1 and before not in _NO_KEY
        case "keys":
            return before in _PLURAL_KEYS
        case "tokens":
            return before in _PLURAL_TOKENS
        case "auth":
            return before not in _NO_AUTH
        case "pat" | "pw" | "sas":
            return bool(before) or name.startswith("--") or name == last.upper()
        case "code":
            return before in _CODES
        case "pin":
            return before in _PINS
        case "fa":
            return before == "2"
        case "community":
            return before == "snmp"
        case "token":
            return before not in _NO_TOKEN
        case "secret":
            return before not in _NO_SECRET
        case "phrase" | "word":  # pass-phrase, pass_word
            return before in ("pass", "seed")
        case "signature":
            return before == "access" or parts[0] == "x"  # SharedAccessSignature, a header
        case "session" | "authentication":  # headers
            return before == "x" or name == "Authentication"
    return bool(_SECRET.fullmatch(last)) and last != "oldpwd"
