"""Which values of an environment are secrets: by what users have in theirs."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn._util.redact import HIDDEN, Redactor
from fsm_conn._util.secret_values import secrets_around, secrets_in, secrets_of_url, without_secrets

OPEN = (
    """
MODE=test
ENV=production
NODE_ENV=development
LOG_LEVEL=debug
RUST_LOG=info,hyper=warn
PYTHONPATH=/srv
PYTHONPATH=/srv/app/lib:/usr/lib/python3/dist-packages
PATH=/usr/local/sbin:/usr/local/bin:/usr/bin
HOME=/home/alice
KUBECONFIG=/home/alice/.kube/config
GOOGLE_APPLICATION_CREDENTIALS=/etc/gcp/account.json
TLS_KEY_FILE=/etc/tls/server.key
SSL_CERT_DIR=/etc/ssl/certs
SSH_AUTH_SOCK=/run/user/1000/agent.sock
XDG_RUNTIME_DIR=/run/user/1000
TMPDIR=/tmp/build
PORT=8080
TIMEOUT=30s
RETRY_AFTER=250ms
MEMORY=512MB
WORKERS=16
HOST=localhost
BIND=0.0.0.0
LANG=en_US.UTF-8
LC_ALL=C.UTF-8
TZ=Europe/Berlin
AWS_REGION=eu-west-1
REGION=us-east-1
SERVICE=billing
PLUGIN_NAME=calculator
FEATURES=search,export,history,beta,admin
OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4317
API_BASE=https://api.example.com/
REDIS_URL=redis://localhost:6379/0
GODEBUG=netdns=go
ACCEPT=application/json
CONTENT=text/html,application/xml
VERSION=v12
COLOR=always
TERM=xterm-256color
EDITOR=vim
USER=alice
SHELL=/bin/bash
ARCH=amd64
DIGEST=sha256
TITLE=My Service
EMPTY=
INDENT={blanks}
RULE=----------
""".strip()
    .format(blanks=" " * 4)
    .splitlines()
)

SECRET = """
API_TOKEN=ghp_16C7e42F292c6912E7710c838347Ae178B4a
DB_PASSWORD=swordfish
DB_PASS=hunter2
PGPASSWORD=letmein
MYSQL_PWD=root
AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE
STRIPE=sk_live_4eC39HqLyjWDarjtT1zdp7dc
SENTRY_DSN=https://examplePublicKey@o0.ingest.sentry.io/0
SLACK=https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX
DATABASE_URL=postgres://app:s3cr3t@db.internal/app
HTTP_PROXY=http://user:pw4711@proxy:3128
WORD=hunter2
JWT=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x
COOKIE=info
SESSION=4f3c2b1a
API_PATH=/v1?key=abcdef123456
NOTE=correct horse battery staple today
LICENSE=AAAA-BBBB-CCCC
COMMIT=9fceb02d0ae598e95dc970b74767f19372d61af8
AUTH_HEADER=Basic dXNlcjpwYXNz
ACCOUNT=4711-0815-1234567
UUID=123e4567-e89b-12d3-a456-426614174000
GIBBERISH=xkqzjwvtrp
""".strip().splitlines()


@pytest.mark.parametrize("line", OPEN)
def test_what_is_none(line: str) -> None:
    """Words, names, paths, addresses and small numbers."""
    name, _, value = line.partition("=")
    assert list(secrets_in({name: value})) == []


@pytest.mark.parametrize("line", SECRET)
def test_what_is_one(line: str) -> None:
    """By its name, or because it does not look like anything else."""
    name, _, value = line.partition("=")
    assert value in set(secrets_in({name: value}))


def test_evidence_stays_readable() -> None:
    """As it was found: these two hid half of a traceback."""
    redact = Redactor(secrets_in({"PYTHONPATH": "/srv", "MODE": "test"}))
    text = 'File "/srv/x.py", line 1: the latest test failed'
    assert redact(text) == text


@given(st.lists(st.sampled_from(OPEN + SECRET), max_size=12, unique=True), st.data())
def test_of_any_environment(lines: list[str], data: st.DataObject) -> None:
    """All secrets of one are hidden in whatever a plugin prints of it, and what is open stays where none is in it."""
    env = dict(line.split("=", 1) for line in lines)
    redact = Redactor(secrets_in(env))
    secrets = [value for name, value in env.items() if f"{name}={value}" in SECRET]
    printed = data.draw(st.permutations([f"{name} is {value}" for name, value in env.items()]))
    shown = redact("\n".join(printed))
    assert [value for value in secrets if value in shown] == []
    for name, value in env.items():
        if f"{name}={value}" in OPEN and redact(value) == value:
            assert f"{name} is {value}" in shown


@given(st.text(string.ascii_letters + string.digits, min_size=16, max_size=40))
def test_random_letters_are_secret(value: str) -> None:
    """Under any name: unless they read as words."""
    found = set(secrets_in({"NAME": value}))
    if any(char.isdigit() for char in value) and len(set(value)) > 1:
        assert value in found


def test_what_is_in_the_open_anyway() -> None:
    """In the plugin's command, which every user of the machine can read, or in the host's environment."""
    env = {"ACCOUNT": "4711-0815-1234567", "ID": "9fceb02d0ae5", "TOKEN": "4711-0815-1234567"}
    assert set(secrets_in(env, command=["plugin", "--account=4711-0815-1234567"])) == {
        "9fceb02d0ae5",
        "4711-0815-1234567",
    }
    assert set(secrets_in({"ID": "9fceb02d0ae5"}, ambient={"9fceb02d0ae5"})) == set()


def test_parts_of_a_url() -> None:
    """A plugin may print the password alone, as it is or decoded; the host's own are none of its business either."""
    url = "postgres://app:s3cr%21t@db/app?sslmode=require&api_key=k3yk3y"
    assert set(secrets_of_url(url)) == {"s3cr%21t", "s3cr!t", "k3yk3y"}
    assert set(secrets_around({"DATABASE": url})) == {"s3cr%21t", "s3cr!t", "k3yk3y"}
    assert list(secrets_of_url("http://[broken")) == []


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("https://user:pw4711@host/x?key=abc&n=1#f", f"https://user:{HIDDEN}@host/x?key={HIDDEN}&n={HIDDEN}#f"),
        ("dns://8.8.8.8/host:50051", "dns://8.8.8.8/host:50051"),
        ("127.0.0.1:50051", "127.0.0.1:50051"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("http://:pw4711@host", f"http://:{HIDDEN}@host"),
    ],
)
def test_a_target(given: str, shown: str) -> None:
    """Errors name what was given as a target."""
    assert without_secrets(given) == shown
