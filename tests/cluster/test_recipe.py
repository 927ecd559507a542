"""Recipes travel, and what does not travel is refused where the recipe is made."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import Authority
from cryptography.hazmat.primitives import serialization

from fsm_conn import Plugin, RetryPolicy, Tls
from fsm_conn.cluster import Recipe, ServeError, ServeLimits, TlsFiles, Token, serve

COMMAND = ("python", "plugin.py")
FILES = TlsFiles(certificate="/etc/c.pem", key="/etc/k.pem", authorities="/etc/ca.pem")


def test_a_recipe_is_pickled_and_compared() -> None:
    """What arrives is what was sent."""
    recipe = Recipe(
        plugin=Plugin(COMMAND, env={"A": "b"}, prefork=True),
        plugins=3,
        tls=FILES,
        token=Token(env="TOKEN"),
        retry=RetryPolicy(max_attempts=2),
        limits=ServeLimits(announce=0),
    )
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    assert hash(recipe) == hash(pickle.loads(pickle.dumps(recipe)))


def test_it_has_neither_keys_nor_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read by who uses the recipe, from files and from the environment of that machine."""
    (tmp_path / "key.pem").write_text("the very key")
    monkeypatch.setenv("TOKEN", "the very token, of some length")
    recipe = Recipe(
        plugin=COMMAND, tls=TlsFiles(certificate="c.pem", key=tmp_path / "key.pem"), token=Token(env="TOKEN")
    )
    assert b"the very" not in pickle.dumps(recipe)
    assert "the very" not in repr(recipe)


def test_the_endpoint_of_a_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the client's own certificates, the token, and the name that the server's certificate bears."""
    for name in ("c", "k", "ca"):
        (tmp_path / name).write_text(f"pem {name}")
    monkeypatch.setenv("TOKEN", "  the very token, of some length\n")
    own = TlsFiles(
        certificate=tmp_path / "c", key=tmp_path / "k", authorities=tmp_path / "ca", server_name="pool.internal"
    )
    endpoint = Recipe(plugin=COMMAND, tls=FILES, client_tls=own, token=Token(env="TOKEN")).endpoint("10.0.0.5:7000")
    assert endpoint.credentials == Tls(roots=b"pem ca", certificate=b"pem c", key=b"pem k")
    assert endpoint.metadata == (("authorization", "Bearer the very token, of some length"),)
    assert ("grpc.ssl_target_name_override", "pool.internal") in endpoint.options
    assert "the very token" not in repr(endpoint)


@pytest.mark.parametrize(
    ("options", "error", "remedy"),
    [
        ({"plugin": Plugin(COMMAND, mtls=True)}, ValueError, "Recipe\\(tls="),
        ({"plugin": Plugin(COMMAND, credentials=Tls())}, ValueError, "Recipe\\(tls="),
        ({"plugin": Plugin(COMMAND, stdin=0)}, ValueError, "leave stdin= away"),
        ({"plugin": COMMAND, "plugins": 0}, ValueError, "give 1 or more"),
        ({"plugin": COMMAND, "tls": "c.pem"}, TypeError, "give a TlsFiles, or None"),
        ({"plugin": COMMAND, "token": "secret"}, TypeError, "give a Token, or None"),
        ({"plugin": COMMAND, "retry": 3}, TypeError, "give a RetryPolicy"),
        ({"plugin": COMMAND, "limits": None}, TypeError, "give a ServeLimits"),
        ({"plugin": "python plugin.py"}, TypeError, "as a list"),
    ],
)
def test_what_cannot_be_served_is_refused_at_once(
    options: dict[str, object], error: type[Exception], remedy: str
) -> None:
    """With what to give instead."""
    with pytest.raises(error, match=remedy):
        Recipe(**options)  # type: ignore[arg-type]


def test_a_token_has_one_source() -> None:
    """From a file or from the environment."""
    for wrong in ({}, {"env": "A", "file": "b"}):
        with pytest.raises(ValueError, match="give env= or file="):
            Token(**wrong)
    with pytest.raises(TypeError, match="give a name"):
        Token(env="")


@pytest.mark.parametrize("value", ["", "short", "not printable \x01 but long enough", "nicht lesbar, ü, lang genug"])
def test_a_token_is_one(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is missing, can be guessed, or cannot be sent is refused, and not shown."""
    monkeypatch.setenv("TOKEN", value)
    with pytest.raises(ServeError, match="TOKEN has no token") as caught:
        Token(env="TOKEN").read()
    assert not value or value not in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """Each is named."""
    with pytest.raises(ServeError, match=r"token '/nowhere/token'"):
        Token(file="/nowhere/token").read()
    with pytest.raises(ServeError, match=r"/nowhere/c.pem"):
        TlsFiles(certificate="/nowhere/c.pem", key="/nowhere/k.pem").server_context()
    with pytest.raises(ServeError, match=r"certificate '/nowhere/c.pem'"):
        TlsFiles(certificate="/nowhere/c.pem", key="/nowhere/k.pem").client_tls()


def test_a_key_that_needs_a_password(tmp_path: Path) -> None:
    """Nobody is asked for it: a server would wait at its terminal for ever."""
    certificate, key = Authority(tmp_path).signed("server")
    plain = serialization.load_pem_private_key(key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    key.write_bytes(plain.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    with pytest.raises(ServeError, match="needs a password"):
        TlsFiles(certificate=certificate, key=key).server_context()


@pytest.mark.parametrize("address", ["0.0.0.0:7000", "10.0.0.5:7000", "[::]:7000", "example.org:7000"])
def test_nothing_is_open_to_other_machines(address: str) -> None:
    """Neither the server nor its health, without certificates of clients, or a token and TLS."""
    open_ones = [
        Recipe(plugin=COMMAND),
        Recipe(plugin=COMMAND, tls=TlsFiles(certificate="c", key="k")),
        Recipe(plugin=COMMAND, token=Token(env="TOKEN")),
    ]
    for recipe in open_ones:
        with pytest.raises(ServeError, match="can be reached by other machines"):
            serve(recipe, address)
        with pytest.raises(ServeError, match="can be reached by other machines"):
            serve(recipe, "127.0.0.1:0", health=address)
    serve(Recipe(plugin=COMMAND, tls=FILES), address)
    serve(Recipe(plugin=COMMAND, tls=TlsFiles(certificate="c", key="k"), token=Token(env="TOKEN")), address)
    serve(COMMAND, "127.0.0.1:0")
    serve(COMMAND, "unix:/run/x.sock")


PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: Recipe(plugin=COMMAND, token="hunter2 in MIIEvQ"),  # type: ignore[arg-type]
        lambda: Recipe(plugin=COMMAND, tls=PEM),  # type: ignore[arg-type]
        lambda: Token(env=PEM.encode()),  # type: ignore[arg-type]
        lambda: TlsFiles(certificate="c.pem", key=PEM),
        lambda: TlsFiles(certificate="c.pem", key=PEM.encode()),
        lambda: TlsFiles(certificate=[PEM], key="k.pem"),
    ],
)
def test_a_secret_in_the_place_of_its_source_is_not_shown(mistake: Callable[[], object]) -> None:
    """The error says what to give."""
    with pytest.raises((TypeError, ValueError), match="give ") as caught:
        mistake()
    assert "MIIEvQ" not in str(caught.value)
