"""The table of secrets: shapes of tokens, and options of programs whose value is a secret.

Data alone: `secrets` searches its literal texts, `secret_names` and `secret_words` compile what a command line needs.
"""

from __future__ import annotations

GITLAB = ("pat", "rt", "rtr", "dt", "cbt", "ptt", "ft", "agent", "soat", "oas", "imt", "ffct", "wt")
DISCORD = ("MT", "Mj", "Mz", "ND", "NT", "Nj", "Nz", "OD", "OT")  # a number in base64

# (literal text of a token, pattern of the whole token). The literal is searched first.
SHAPES = (
    ("AKIA", r"AKIA[0-9A-Z]{16}(?![0-9A-Za-z])"),  # Amazon
    ("ASIA", r"ASIA[0-9A-Z]{16}(?![0-9A-Za-z])"),
    ("ABIA", r"ABIA[0-9A-Z]{16}(?![0-9A-Za-z])"),
    ("ACCA", r"ACCA[0-9A-Z]{16}(?![0-9A-Za-z])"),
    ("ABSK", r"ABSK[0-9A-Za-z+/=]{40,}"),  # Amazon Bedrock
    ("ghp_", r"ghp_[0-9A-Za-z]{20,}"),  # GitHub
    ("gho_", r"gho_[0-9A-Za-z]{20,}"),
    ("ghu_", r"ghu_[0-9A-Za-z]{20,}"),
    ("ghs_", r"ghs_[0-9A-Za-z]{20,}"),
    ("ghr_", r"ghr_[0-9A-Za-z]{20,}"),
    ("github_pat_", r"github_pat_\w{20,}"),
    *((f"gl{each}-", rf"gl{each}-[\w.-]{{16,}}") for each in GITLAB),
    ("GR1348941", r"GR1348941[\w-]{16,}"),
    ("sk-", r"sk-(?=[\w-]{0,60}\d)[\w-]{20,}"),  # OpenAI, Anthropic, OpenRouter and others
    ("k_live_", r"[srp]k_live_[0-9A-Za-z]{10,}"),  # Stripe
    ("k_test_", r"[sr]k_test_[0-9A-Za-z]{10,}"),
    ("whsec_", r"whsec_[0-9A-Za-z+/=]{20,}"),
    ("xox", r"xox[abceoprs](?:\.xox[bp])?-[\w-]{10,}"),  # Slack
    ("xapp-", r"xapp-\d-[\w-]{10,}"),
    ("hf_", r"hf_[0-9A-Za-z]{20,}"),  # Hugging Face
    ("api_org_", r"api_org_[0-9A-Za-z]{30,}"),
    ("gsk_", r"gsk_[0-9A-Za-z]{30,}"),  # Groq
    ("r8_", r"r8_[0-9A-Za-z]{30,}"),  # Replicate
    ("pplx-", r"pplx-[0-9A-Za-z]{30,}"),  # Perplexity
    ("xai-", r"xai-[0-9A-Za-z]{30,}"),
    ("nvapi-", r"nvapi-[\w-]{30,}"),
    ("tvly-", r"tvly-[\w-]{20,}"),  # Tavily
    ("lsv2_", r"lsv2_(?:pt|sk)_[0-9a-z_]{20,}"),  # LangSmith
    ("pypi-", r"pypi-[\w-]{30,}"),
    ("npm_", r"npm_[0-9A-Za-z]{30,}"),
    ("rubygems_", r"rubygems_[0-9a-f]{32,}"),
    ("cio", r"cio[0-9A-Za-z]{32}(?![0-9A-Za-z])"),  # crates.io
    ("oy2", r"oy2[0-9a-z]{43}(?![0-9a-z])"),  # NuGet
    ("dckr_", r"dckr_(?:pat|oat)_[\w-]{16,}"),  # Docker
    ("_v1_", r"do[opr]_v1_[0-9a-f]{32,}"),  # DigitalOcean
    ("HRKU-", r"HRKU-[\w-]{20,}"),  # Heroku
    ("fm2_", r"fm2_[\w+/=]{40,}"),  # Fly.io
    ("nfp_", r"nfp_[0-9A-Za-z]{30,}"),  # Netlify
    ("lin_", r"lin_(?:api|oauth)_[0-9A-Za-z]{30,}"),  # Linear
    ("secret_", r"secret_[0-9A-Za-z]{40,}"),  # Notion
    ("ntn_", r"ntn_[0-9A-Za-z]{40,}"),
    ("figd_", r"figd_[\w-]{30,}"),  # Figma
    ("PMAK-", r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}"),  # Postman
    ("SG.", r"SG\.[\w-]{16,}\.[\w-]{16,}"),  # SendGrid
    ("key-", r"key-[0-9a-f]{32}(?![0-9A-Za-z])"),  # Mailgun
    ("-us", r"[0-9a-f]{32}-us\d{1,2}(?!\d)"),  # Mailchimp
    ("SK", r"SK[0-9a-f]{32}(?![0-9A-Za-z])"),  # Twilio
    ("shp", r"shp(?:at|ca|pa|ss)_[0-9A-Fa-f]{32}"),  # Shopify
    ("ATATT", r"ATATT[\w=-]{20,}"),  # Atlassian
    ("ATCTT", r"ATCTT[\w=-]{20,}"),
    ("ATBB", r"ATBB[0-9A-Za-z]{24,}"),
    ("AIza", r"AIza[\w-]{30,}"),  # Google
    ("ya29.", r"ya29\.[\w.-]{16,}"),
    ("GOCSPX-", r"GOCSPX-[\w-]{20,}"),
    ("1//0", r"1//0[\w-]{30,}"),
    ("8Q~", r"[\w~.]{3}8Q~[\w~.-]{30,}"),  # Azure
    ("dapi", r"dapi[0-9a-f]{32}"),  # Databricks
    ("glc_", r"glc_[0-9A-Za-z+/=]{32,}"),  # Grafana
    ("glsa_", r"glsa_[0-9A-Za-z]{32}_[0-9a-f]{8}"),
    ("NRAK-", r"NRAK-[0-9A-Z]{20,}"),  # New Relic
    ("NRII-", r"NRII-[\w-]{20,}"),
    ("sntry", r"sntry[su]_[\w+/=-]{20,}"),  # Sentry
    *((f"hv{each}.", rf"hv{each}\.[\w-]{{20,}}") for each in "sbr"),  # HashiCorp
    (".atlasv1.", r"[0-9A-Za-z]{14}\.atlasv1\.[\w=-]{20,}"),
    ("pul-", r"pul-[0-9a-f]{40}"),  # Pulumi
    ("dp.", r"dp\.(?:pt|st|ct|sa|scim|audit)\.[\w.-]{20,}"),  # Doppler
    ("ops_eyJ", r"ops_eyJ[\w+/=-]{20,}"),  # 1Password
    ("AGE-SECRET-KEY-", r"AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]{20,}"),
    ("tskey-", r"tskey-[a-z]+-[\w-]{10,}"),  # Tailscale
    ("pscale_", r"pscale_(?:tkn|pw|oauth)_[\w=.-]{20,}"),  # PlanetScale
    ("sbp_", r"sbp_[0-9a-f]{40}"),  # Supabase
    ("CCIPAT_", r"CCIPAT_[\w-]{20,}"),  # CircleCI
    ("bkua_", r"bkua_[0-9a-f]{40}"),  # Buildkite
    *((f"sq{each}_", rf"sq{each}_[0-9a-f]{{40}}") for each in "apu"),  # SonarQube
    ("sq0", r"sq0(?:atp|csp|idp)-[\w-]{20,}"),  # Square
    ("EAA", r"EAA[0-9A-Za-z]{60,}"),  # Meta
    (":AA", r"\d{8,12}:AA[\w-]{30,}"),  # Telegram
    *((each, rf"{each}[\w-]{{22,26}}\.[\w-]{{6}}\.[\w-]{{27,}}") for each in DISCORD),
    ("eyJ", r"eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)*"),  # a JSON web token
)

# Programs, the words of which one is before the option ("": none), and the options that have a secret as value.
# After an option: `+` attached only, `.` in the next word only, `:` `%` `,` behind that sign of the value (as in
# user:secret), `=` only where the value has one, `*` behind its first `=`, `^` only the first time, `&` two words,
# a digit: the word at this place behind it (1 also where the option has no `-`). A first `!`: the value is not a
# secret. `<`: the program reads a secret from its standard input. An option can be the program itself.
PROGRAMS = (
    ("sshpass", "", "-p^"),
    ("mysql mysqldump mysqladmin mysqlimport mysqlcheck mysqlshow mysqlslap mysqlbinlog mysqlpump mysqlsh", "", "-p+"),
    ("mariadb mariadb-dump mariadb-admin mariadb-import mariadb-check mariadb-show mariadb-backup", "", "-p+"),
    ("7z 7za 7zr 7zz 7zip", "", "-p+"),
    ("rar unrar", "", "-p+ -hp+"),
    ("mycli litecli pgcli cqlsh mongo mongosh mongodump mongorestore mongoexport mongoimport arangosh", "", "-p"),
    ("unar lsar rdesktop racadm hdbsql", "", "-p"),
    ("clickhouse-client beeline impala-shell snowsql cypher-shell isql-fb yt-dlp youtube-dl vmrun", "", "-p. -2. -gp."),
    ("amqp-publish amqp-consume rabbitmqadmin ncftp ncftpget ncftpput ncftpls twine mcrcon rcon", "", "-p."),
    ("steghide stegseek mutool aescrypt veracrypt zuluCrypt-cli tpm2_create tpm2_unseal useradd usermod", "", "-p."),
    ("crackmapexec netexec nxc evil-winrm impacket-psexec psexec psexec64 smbmap hydra medusa groupmod", "", "-p."),
    ("ipa-server-install ipa-replica-install doveadm mupdf airdecap-ng stegsnow chpass", "", "-a. -p."),
    ("docker podman buildah nerdctl skopeo helm oc cf az crane oras regctl cosign conan", "login", "-p"),
    ("poetry airflow conan", "publish users user", "-p."),
    ("security", "", "-p. -P. -w."),
    ("sqlcmd bcp isql tsql osql zip unzip zipcloak funzip mosquitto_pub mosquitto_sub mosquitto_rr", "", "-P"),
    ("ipmitool ipmi-sensors knife gpg-preset-passphrase p4 tpm2_createprimary pdm", "", "-P"),
    ("ldapsearch ldapadd ldapmodify ldapdelete ldapwhoami ldapcompare ldapmodrdn dsconf dsidm vsql", "", "-w"),
    ("ldappasswd slappasswd", "", "-w -s -a"),
    ("ipa-client-install ipa-replica-install odoo odoo-bin kadmin kadmin.local", "", "-w."),
    ("plink pscp psftp putty pageant mqtt nzsql kadmin kadmin.local addprinc ank cpw", "", "-pw."),
    ("vercel flyctl fly doctl influx codecov jira", "", "-t. -p."),
    ("uv hatch glab rancher k3s rke2", "publish login server agent", "-t. -a."),
    ("choco netbird pushbullet ntfy mcrypt ccrypt ccencrypt ccdecrypt cryptcat ss-local ss-server", "", "-k. -K."),
    ("dotnet nuget", "push", "-k."),
    ("gitlab-runner cc-test-reporter", "", "-r."),
    ("smbclient smbget rpcclient smbcacls smbtree net nmblookup winexe smbpasswd samba-tool", "", "-U% --user%"),
    ("smbclient rpcclient wbinfo", "", "--pw-nt-hash -a%"),
    ("curl", "", "-u: --user: -U: --proxy-user: -b= --cookie= -E: --cert: --pass --proxy-cert: !-p"),
    ("http https xh xhs httpie", "", "-a: --auth:"),
    ("http https xh xhs httpie", "bearer jwt", "-a --auth"),
    ("hey bombardier oha ab", "", "-a: -A: -P:"),
    ("ctr ntfy etcdctl nikto curlftpfs zkCli.sh monerod", "", "-u: --user: -id: user: digest: --rpc-login:"),
    ("transmission-remote", "", "-n: --auth:"),
    ("docker podman buildah nerdctl", "", "!--secret !--ssh !--cap-add --creds:"),
    ("skopeo", "", "--creds: --src-creds: --dest-creds:"),
    ("kubectl oc", "secret", "--from-literal*"),
    ("kubectl oc pulumi virsh composer gcloud", "", "!--secret !--auth !--from-file"),
    ("gpg gpg2 duplicity journalctl", "", "!--export-secret-keys !--export-secret-subkeys !--encrypt-key !-p"),
    ("psql pg_dump pg_restore pg_dumpall pg_basebackup createdb dropdb createuser", "", "!--password !-P"),
    ("az aws", "secret put-parameter", "--value"),
    ("az aws", "container kms", "--secure-environment-variables* --plaintext"),
    ("gh", "secret", "-b --body"),
    ("redis-cli valkey-cli redis-benchmark iredis", "", "-a requirepass masterauth auth& AUTH&"),
    ("openssl", "", "-passin: -passout: -pass: -k. -K. -psk. -srppass. -proxy_pass: -hmac. -macopt: passwd"),
    ("sqlplus sqlldr expdp impdp exp imp rman sqlcl", "", "@/"),
    ("snmpwalk snmpget snmpset snmpbulkwalk snmpbulkget snmpgetnext snmptable snmptrap", "", "-A. -X. -c."),
    ("xfreerdp wlfreerdp sdl-freerdp xfreerdp3 wlfreerdp3 sdl-freerdp3 signtool", "", "/p /gp"),
    ("ssh-keygen", "", "-N. -P."),
    ("keytool jarsigner", "", "-new"),
    ("lftp open", "", "-u,"),
    ("swaks sendemail sendEmail", "", "-ap. -xp."),
    ("pkcs11-tool softhsm2-util pkcs15-tool yubico-piv-tool ykman", "", "--pin -p. --so-pin --new-pin -P. -n."),
    ("databricks mimirtool electrum openconnect zerotier-cli ykpersonalize", "", "--string-value --key -W. -C. -T -a"),
    ("pdftk qpdf xtightvncviewer", "", "-autopass user_pw owner_pw input_pw --encrypt&"),
    ("nmcli", "", "password wifi-sec.psk 802-11-wireless-security.psk 802-1x.password vpn.secrets"),
    ("iw", "", "key: keys:"),
    ("mysqladmin mariadb-admin iwconfig netsh wpa_cli", "", "password key psk"),
    ("cargo vault bao wandb", "", "login"),
    ("ngrok nuget grafana grafana-cli", "", "authtoken add-authtoken setapikey setApiKey reset-admin-password"),
    ("neo4j-admin bitcoin-cli ansible-vault", "", "set-initial-password walletpassphrase encrypt_string"),
    ("bw snyk", "", "unlock login2 --session auth api"),
    ("vault bao cloudflared", "operator service", "unseal install"),
    ("vault bao", "", "secret_id"),
    ("travis zrok networksetup", "", "encrypt enable -setairportnetwork3"),
    ("db2 rclone", "", "using obscure"),
    ("oathtool", "", "--totp1 --hotp1 -b1 --base321 oathtool"),
    ("ecryptfs-add-passphrase", "", "ecryptfs-add-passphrase"),
    ("wpa_passphrase", "", "wpa_passphrase2"),
    ("htpasswd mosquitto_passwd", "", "-b3"),
    ("mc", "alias", "set4"),
    ("mc", "host", "add4"),
    ("mc", "user", "add3"),
    ("rabbitmqctl consul drush", "", "add_user2 change_password2 authenticate_user2 set-agent-token2 user:password2"),
    ("ejabberdctl prosodyctl deluge-console", "", "register3 connect3"),
    ("samba-tool doveadm ipmitool ykman", "user auth set accounts", "create2 add2 test2 password2"),
    ("virsh", "", "secret-set-value2 --base64"),
    ("cf net", "", "auth2 user2"),
    ("maas steam steamcmd", "", "login3 -login2 +login2"),
    ("cryptsetup kinit chpasswd smbpasswd gpasswd passwd htpasswd debconf-set-selections encfs gocryptfs", "", "<"),
    ("secret-tool wg zfs", "", "<"),
    ("sonar-scanner mvn gradle gradlew", "", "-Dsonar.login"),
)  # fmt: skip

# Names that are ordinary words as well: a program only where a command begins.
AMBIGUOUS = (
    "http", "https", "net", "ab", "hey", "az", "bw", "zip", "rar", "oc", "influx", "open", "security", "exp", "imp",
    "mc", "fly", "jira", "cf", "rcon", "uv", "iw", "electrum", "ank", "odoo", "conan", "hatch", "grafana",
)  # fmt: skip
