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

# Programs, the word before the option ("": none), and the options that have a secret as value.
# After an option: `+` attached only, `.` in the next word only, `:` `%` `,` behind that sign of the value (as in
# user:secret), `=` only where the value has one, `*` behind its first `=`. A first `!`: the value is not a secret.
PROGRAMS = (
    ("sshpass", "", "-p"),
    ("mysql mysqldump mysqladmin mysqlimport mysqlcheck mysqlshow mysqlslap mysqlbinlog mysqlpump mysqlsh", "", "-p+"),
    ("mariadb mariadb-dump mariadb-admin mariadb-import mariadb-check mariadb-show mariadb-backup", "", "-p+"),
    ("mysqladmin mariadb-admin", "", "password"),
    ("iwconfig", "", "key"),
    ("mycli litecli pgcli cqlsh mongo mongosh mongodump mongorestore mongoexport mongoimport arangosh", "", "-p"),
    ("psql pg_dump pg_restore pg_dumpall pg_basebackup createdb dropdb createuser", "", "!--password"),
    ("curl", "", "-u: --user: -U: --proxy-user: -b= --cookie= -E: --cert: --pass --proxy-pass --tlspassword"),
    ("curl", "", "--oauth2-bearer --aws-sigv4+ --proxy-cert: --proxy-tlspassword"),
    ("http https xh xhs httpie", "", "-a: --auth:"),
    ("hey bombardier oha", "", "-a:"),
    ("ab", "", "-A: -P:"),
    ("docker podman buildah nerdctl skopeo helm oc cf az crane oras regctl", "login", "-p"),
    ("docker podman buildah nerdctl", "", "!--secret !--ssh !--cap-add --creds:"),
    ("skopeo", "", "--creds: --src-creds: --dest-creds:"),
    ("kubectl oc", "secret", "--from-literal*"),
    ("kubectl oc", "", "!--secret"),
    ("az", "secret", "--value"),
    ("aws", "put-parameter", "--value"),
    ("gh", "secret", "-b --body"),
    ("ldapsearch ldapadd ldapmodify ldapdelete ldapwhoami ldapcompare ldapmodrdn", "", "-w"),
    ("ldappasswd", "", "-w -s -a"),
    ("redis-cli valkey-cli redis-benchmark iredis", "", "-a requirepass masterauth auth AUTH"),
    ("openssl", "", "-passin: -passout: -pass: -k. -K. -psk. -srppass. -proxy_pass:"),
    ("smbclient smbget rpcclient smbcacls smbtree net nmblookup winexe", "", "-U% --user% --pw-nt-hash"),
    ("7z 7za 7zr 7zz", "", "-p+"),
    ("rar unrar", "", "-p+ -hp+"),
    ("zip unzip zipcloak funzip", "", "-P"),
    ("sqlcmd bcp isql tsql osql", "", "-P"),
    ("sqlplus sqlldr expdp impdp rman sqlcl", "", "@/"),
    ("clickhouse-client beeline impala-shell snowsql", "", "-p."),
    ("influx", "", "-p. -t."),
    ("mosquitto_pub mosquitto_sub mosquitto_rr", "", "-P"),
    ("amqp-publish amqp-consume rabbitmqadmin", "", "-p."),
    ("ipmitool ipmi-sensors", "", "-P"),
    ("snmpwalk snmpget snmpset snmpbulkwalk snmpgetnext snmptable", "", "-A. -X. -c."),
    ("xfreerdp wlfreerdp sdl-freerdp", "", "/p: /gp:"),
    ("rdesktop", "", "-p."),
    ("vncviewer x11vnc", "", "-passwd."),
    ("ssh-keygen", "", "-N. -P."),
    ("keytool jarsigner", "", "-storepass -keypass -srcstorepass -deststorepass -srckeypass -destkeypass -new"),
    ("plink pscp psftp putty pageant", "", "-pw."),
    ("lftp", "", "-u,"),
    ("ncftp ncftpget ncftpput ncftpls", "", "-p."),
    ("yt-dlp youtube-dl", "", "-p. -2."),
    ("aria2c", "", "--rpc-secret --http-passwd --ftp-passwd"),
    ("transmission-remote", "", "-n: --auth:"),
    ("etcdctl", "", "--user:"),
    ("swaks", "", "-ap. --auth-password -a+"),
    ("sendemail sendEmail", "", "-xp."),
    ("usermod useradd groupmod", "", "-p."),
    ("kadmin kadmin.local", "", "-w. -pw."),
    ("pdftk", "", "user_pw owner_pw input_pw"),
    ("nmcli", "", "password wifi-sec.psk 802-11-wireless-security.psk 802-1x.password vpn.secrets"),
    ("pkcs11-tool softhsm2-util pkcs15-tool yubico-piv-tool ykman", "", "--pin -p. --so-pin --new-pin"),
    ("cargo", "", "login"),
    ("vault bao wandb", "", "login"),
    ("ngrok", "", "authtoken add-authtoken"),
    ("bw", "", "unlock"),
    ("twine", "", "-p."),
    ("poetry", "publish", "-p."),
    ("poetry", "", "pypi-token.pypi pypi-token.testpypi"),
    ("sonar-scanner mvn gradle gradlew", "", "-Dsonar.login"),
    ("svn svnadmin", "", "--password"),
    ("gpg gpg2", "", "--passphrase"),
    ("steghide stegseek", "", "-p."),
    ("crackmapexec netexec nxc evil-winrm", "", "-p."),
    ("gpg-preset-passphrase", "", "-P"),
    ("tailscale headscale", "", "--authkey --auth-key"),
    ("rclone", "", "obscure"),
    ("impacket-psexec smbmap", "", "-p."),
    ("wpa_cli", "", "psk"),
)  # fmt: skip

# Names that are ordinary words as well: a program only where a command begins.
AMBIGUOUS = ("http", "https", "net", "ab", "hey", "az", "bw", "zip", "rar", "oc", "influx")
