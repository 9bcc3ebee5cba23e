"""Mask values that look like secrets, in command lines and in other texts.

A plain search finds most command lines free of them; the others load `re` and the modules `secret_*`. These are not
loaded beforehand: where an upgrade took them away, the whole text is masked.
"""

from __future__ import annotations

from proctally.text.escape import argument_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MASK = "***"

# A text without any of these holds no name of a secret.
STEMS = (
    "passw", "passp", "passc", "passi", "pass=", "pass ", "pass:", 'pass"', "pass'", "pass>", "pwd", "pw=", "pw ",
    "secret", "token", "key", "cred", "auth", "bearer", "cookie", "otp=", "otp ", "otp:", "mfa", "2fa", "pat=",
    "pat ", "pat:", 'pat"', "sig=", "signature", "jwt", "psk", "mnemonic", "session", "sid=", "sas=", "sas ",
    "webhook", "/hook", "hooks.", "/bot", "identified", "http-basic", "securestring", "login(", "bindpw", "community",
    "-pin", "verification", "sudo -", "requirepass", "storepass", "cert:",
)  # fmt: skip
# -u USER -p X, of any program
USER_OPTIONS = ("-u", "-U", "-l", "--user", "--username", "-user", "-username", "--login")
PASSWORD_OPTIONS = ("-p", "-P", "-pw")
ENDS = ("pass", "pwd", "pw", "otp", "pat", "pin")

# Literal texts of `secret_table.SHAPES` and names of its PROGRAMS. The table takes 0.3 ms to load.
LITERALS = (
    "AKIA", "ASIA", "ABIA", "ACCA", "ABSK", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-",
    "glrt-", "glrtr-", "gldt-", "glcbt-", "glptt-", "glft-", "glagent-", "glsoat-", "gloas-", "glimt-", "glffct-",
    "glwt-", "GR1348941", "sk-", "k_live_", "k_test_", "whsec_", "xox", "xapp-", "hf_", "api_org_", "gsk_", "r8_",
    "pplx-", "xai-", "nvapi-", "tvly-", "lsv2_", "pypi-", "npm_", "rubygems_", "cio", "oy2", "dckr_", "_v1_",
    "HRKU-", "fm2_", "nfp_", "lin_", "secret_", "ntn_", "figd_", "PMAK-", "SG.", "key-", "-us", "SK", "shp",
    "ATATT", "ATCTT", "ATBB", "AIza", "ya29.", "GOCSPX-", "1//0", "8Q~", "dapi", "glc_", "glsa_", "NRAK-", "NRII-",
    "sntry", "hvs.", "hvb.", "hvr.", ".atlasv1.", "pul-", "dp.", "ops_eyJ", "AGE-SECRET-KEY-", "tskey-", "pscale_",
    "sbp_", "CCIPAT_", "bkua_", "sqa_", "sqp_", "squ_", "sq0", "EAA", ":AA", "MT", "Mj", "Mz", "ND", "NT", "Nj",
    "Nz", "OD", "OT", "eyJ",
)  # fmt: skip
PROGRAM_NAMES = """
    7z 7za 7zip 7zr 7zz ab addprinc aescrypt airdecap-ng airflow amqp-consume amqp-publish ank ansible-vault arangosh
    aws az bao bcp beeline bitcoin-cli bombardier buildah bw cargo cc-test-reporter ccdecrypt ccencrypt ccrypt cf choco
    chpass chpasswd clickhouse-client cloudflared codecov composer conan consul cosign cpw cqlsh crackmapexec crane
    createdb createuser cryptcat cryptsetup ctr curl curlftpfs cypher-shell databricks db2 debconf-set-selections
    deluge-console docker doctl dotnet doveadm dropdb drush dsconf dsidm duplicity ecryptfs-add-passphrase ejabberdctl
    electrum encfs etcdctl evil-winrm exp expdp fly flyctl funzip gcloud gh gitlab-runner glab gocryptfs gpasswd gpg
    gpg-preset-passphrase gpg2 gradle gradlew grafana grafana-cli groupmod hatch hdbsql helm hey htpasswd http httpie
    https hydra imp impacket-psexec impala-shell impdp influx ipa-client-install ipa-replica-install ipa-server-install
    ipmi-sensors ipmitool iredis isql isql-fb iw iwconfig jarsigner jira journalctl k3s kadmin kadmin.local keytool
    kinit knife kubectl ldapadd ldapcompare ldapdelete ldapmodify ldapmodrdn ldappasswd ldapsearch ldapwhoami lftp
    litecli lsar maas mariadb mariadb-admin mariadb-backup mariadb-check mariadb-dump mariadb-import mariadb-show mc
    mcrcon mcrypt medusa mimirtool monerod mongo mongodump mongoexport mongoimport mongorestore mongosh mosquitto_passwd
    mosquitto_pub mosquitto_rr mosquitto_sub mqtt mupdf mutool mvn mycli mysql mysqladmin mysqlbinlog mysqlcheck
    mysqldump mysqlimport mysqlpump mysqlsh mysqlshow mysqlslap ncftp ncftpget ncftpls ncftpput neo4j-admin nerdctl net
    netbird netexec netsh networksetup ngrok nikto nmblookup nmcli ntfy nuget nxc nzsql oathtool oc odoo odoo-bin oha
    open openconnect openssl oras osql p4 pageant passwd pdftk pdm pg_basebackup pg_dump pg_dumpall pg_restore pgcli
    pkcs11-tool pkcs15-tool plink podman poetry prosodyctl pscp psexec psexec64 psftp psql pulumi pushbullet putty qpdf
    rabbitmqadmin rabbitmqctl racadm rancher rar rclone rcon rdesktop redis-benchmark redis-cli regctl rke2 rman
    rpcclient samba-tool sdl-freerdp sdl-freerdp3 secret-tool security sendEmail sendemail signtool skopeo slappasswd
    smbcacls smbclient smbget smbmap smbpasswd smbtree snmpbulkget snmpbulkwalk snmpget snmpgetnext snmpset snmptable
    snmptrap snmpwalk snowsql snyk softhsm2-util sonar-scanner sqlcl sqlcmd sqlldr sqlplus ss-local ss-server ssh-keygen
    sshpass steam steamcmd steghide stegseek stegsnow swaks tpm2_create tpm2_createprimary tpm2_unseal
    transmission-remote travis tsql twine unar unrar unzip useradd usermod uv valkey-cli vault veracrypt vercel virsh
    vmrun vsql wandb wbinfo wg winexe wlfreerdp wlfreerdp3 wpa_cli wpa_passphrase xfreerdp xfreerdp3 xh xhs
    xtightvncviewer ykman ykpersonalize youtube-dl yt-dlp yubico-piv-tool zerotier-cli zfs zip zipcloak zkCli.sh zrok
    zuluCrypt-cli
"""


def mask(command: list[str]) -> list[str]:
    """Return a command line with the values that look like secrets replaced by `***`.

    By the name of an option, a variable, a header or a key of a document; by the shape of a token; by the options of
    known programs; in URLs; and all of these inside a script that is one argument. `docs/secrets.md` has the table.
    """
    shown = [argument_text(word).replace("\0", "\\0") for word in command]
    names = set(PROGRAM_NAMES.split())
    programs = [word for word in shown if _holds_program(word, names)]
    if not programs and not _is_suspicious(" ".join(shown)):
        return shown
    try:
        from proctally.text.secret_text import mask_tokens
        from proctally.text.secret_words import mask_words
    except ImportError:
        return [MASK] * len(shown)
    text = "\0".join(shown)
    del shown  # of a million words, which are not held twice
    return mask_words(mask_tokens(text).split("\0"))  # one search, also for thousands of words


def mask_text(text: str, *, prose: bool = False) -> str:
    """Return a name, a URL or a message with the values that look like secrets replaced by `***`.

    `prose`: a message, where `auth: ...` is about a thing of this name.
    """
    if not _is_suspicious(text):
        return text
    try:
        from proctally.text.secret_text import mask_text, mask_tokens
    except ImportError:
        return MASK
    return mask_text(mask_tokens(text), prose=prose)


def mask_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags as strict text, with `***` for the values that look like secrets, by key or by shape."""
    return {argument_text(key): mask([f"--{key}", value])[1] for key, value in tags.items()}


def mask_recorded(command: object) -> list[str] | None:
    """Return the command line of a record, which an older version can have written; None for other values."""
    return mask([str(word) for word in command]) if isinstance(command, list) else None


def _is_suspicious(text: str) -> bool:
    """Return whether a secret can be in a text, options of known programs left out."""
    lowered = text.lower()
    if any(stem in lowered for stem in STEMS) or lowered.endswith(ENDS) or "-----BEGIN" in text:
        return True
    if any(f" {option} " in text for option in PASSWORD_OPTIONS) and any(
        f" {option}" in text for option in USER_OPTIONS
    ):
        return True
    return ("@" in text and ":" in text) or any(literal in text for literal in LITERALS)


def _holds_program(word: str, names: set[str]) -> bool:
    """Return whether a word is a program whose options can be secret, or a script that can run one."""
    return word.rpartition("/")[2] in names or (" " in word and any(f"{name} " in word for name in names))
