"""The handshake line: what is accepted, what is refused, and with which words."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn._util.redact import Redactor
from fsm_conn.links.errors import HandshakeError, IncompatibleProtocolError
from fsm_conn.links.plugin.handshake import Handshake, offered_versions, parse_handshake
from fsm_conn.links.process.output import LONGEST_LINE, quoted

GOOD = "1|6|unix|/tmp/plugin.sock|grpc|"


class TestAccepted:
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            (GOOD, Handshake(app_version=6, network="unix", address="/tmp/plugin.sock")),
            ("1|1|tcp|127.0.0.1:1234|grpc", Handshake(app_version=1, network="tcp", address="127.0.0.1:1234")),
            ("1|1|tcp|[::1]:1234|grpc|", Handshake(app_version=1, network="tcp", address="[::1]:1234")),
            ("1|1|tcp|localhost:1234|grpc|", Handshake(app_version=1, network="tcp", address="localhost:1234")),
            ("1|1|tcp|127.0.0.1:1|grpc||false", Handshake(app_version=1, network="tcp", address="127.0.0.1:1")),
        ],
    )
    def test_lines(self, line: str, expected: Handshake) -> None:
        """With and without certificate and multiplexing, as text and as bytes, with any end of line."""
        assert parse_handshake(line) == expected
        assert parse_handshake(line.encode() + b"\r\n") == expected

    @pytest.mark.parametrize("length", range(1, 9))
    def test_certificate_gets_its_padding_back(self, length: int) -> None:
        """go-plugin leaves it away."""
        der = bytes(range(length))
        line = GOOD + base64.b64encode(der).decode().rstrip("=")
        assert base64.b64decode(parse_handshake(line).certificate) == der

    def test_offered_version(self) -> None:
        """A version that was offered is fine, and any is when none was."""
        assert parse_handshake(GOOD, offered={5, 6}).app_version == 6
        assert offered_versions("5, 6,x,") == {5, 6}
        assert offered_versions("") == set()

    @pytest.mark.parametrize(
        ("line", "target"),
        [
            ("1|1|unix|/tmp/a b%2f?x#y|grpc|", "unix:/tmp/a%20b%252f%3Fx%23y"),
            ("1|1|tcp|127.0.0.1:80|grpc|", "ipv4:127.0.0.1:80"),
            ("1|1|tcp|[::1]:80|grpc|", "ipv6:[::1]:80"),
            ("1|1|tcp|localhost:80|grpc|", "dns:localhost:80"),
        ],
    )
    def test_target(self, line: str, target: str) -> None:
        """No character of an address means anything to gRPC's own syntax."""
        assert parse_handshake(line).target == target


class TestRefused:
    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("", "must print nothing on stdout before"),
            ("Listening on port 1234", "must print nothing on stdout before"),
            ("1|2|3", "must print nothing"),
            ("1|1|unix|/a|grpc||false|more", "must print nothing"),
            ("x|1|unix|/a|grpc|", "must print nothing"),
            ("\u0661|1|unix|/a|grpc|", "must print nothing"),
            ("1|x|unix|/a|grpc|", "'x' where the application protocol's version belongs"),
            ("1|-1|unix|/a|grpc|", "'-1' where"),
            ("1|1|pipe|/a|grpc|", "names the network 'pipe'"),
            ("1|1|unix||grpc|", "no absolute socket path"),
            ("1|1|unix|relative.sock|grpc|", "no absolute socket path"),
            ("1|1|unix|/a\x00b|grpc|", "no absolute socket path"),
            ("1|1|unix|/\u00e9|grpc|", "no absolute socket path"),
            ("1|1|unix|/" + "a" * 107 + "|grpc|", "socket path of 108 bytes"),
            ("1|1|tcp||grpc|", "no address of the form"),
            ("1|1|tcp|127.0.0.1|grpc|", "no address of the form"),
            ("1|1|tcp|127.0.0.1:0|grpc|", "no address of the form"),
            ("1|1|tcp|127.0.0.1:65536|grpc|", "no address of the form"),
            ("1|1|tcp|dns:///evil:1|grpc|", "no address of the form"),
            ("1|1|tcp|evil.example:443|grpc|", "no address of the form"),
            ("1|1|tcp|10.0.0.1:443|grpc|", "not on this machine"),
            ("1|1|tcp|0.0.0.0:443|grpc|", "not on this machine"),
            ("1|1|tcp|999.0.0.1:443|grpc|", "not on this machine"),
            ("1|1|unix|/a|http|", "announces the protocol 'http'"),
            ("1|1|unix|/a|grpc|!!!!", "certificate that is not base64"),
            ("1|1|unix|/a|grpc|" + "A" * LONGEST_LINE, "is longer than"),
        ],
    )
    def test_garbage(self, line: str, words: str) -> None:
        """What is wrong is said; a program says the same next time."""
        with pytest.raises(HandshakeError, match="handshake line") as caught:
            parse_handshake(line)
        assert words in str(caught.value)
        assert caught.value.permanent

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("2|1|unix|/a|grpc|", "core version 2, and this host speaks 1"),
            ("1|1|unix|/a", "net/rpc"),
            ("1|1|unix|/a|netrpc", "net/rpc"),
            ("1|1|unix|/a|netrpc", "must be offered one of these, by Plugin(versions=...)"),
        ],
    )
    def test_incompatible(self, line: str, words: str) -> None:
        """Another protocol or version will be another one next time, too."""
        with pytest.raises(IncompatibleProtocolError) as caught:
            parse_handshake(line)
        assert words in str(caught.value)
        assert caught.value.permanent

    @pytest.mark.parametrize(
        ("said", "can"),
        [*((off, False) for off in ("", "false", "False", "0", "f")), *((on, True) for on in ("true", "1", "T"))],
    )
    def test_multiplexing(self, said: str, can: bool) -> None:
        """A plugin says whether it can, in each way in which Go reads a truth value, and not whether it does."""
        assert parse_handshake(f"1|1|unix|/a|grpc||{said}").may_multiplex is can

    def test_version_not_offered(self) -> None:
        """The versions that were offered are named."""
        with pytest.raises(IncompatibleProtocolError, match="version 6, and this host offered 4, 5"):
            parse_handshake(GOOD, offered=(5, 4))

    def test_line_is_quoted_short_and_escaped(self) -> None:
        """No control character of the plugin reaches a terminal, and no page of text."""
        with pytest.raises(HandshakeError) as caught:
            parse_handshake(b"\x1b[31mred\x07" + b"x" * 5000)
        assert caught.value.line in str(caught.value)
        assert "\x1b" not in str(caught.value)
        assert len(str(caught.value)) < 600

    def test_secrets_are_hidden_before_the_cut(self) -> None:
        """What is shown has passed the redactor; half a secret at the cut is a secret, too."""
        with pytest.raises(HandshakeError) as caught:
            parse_handshake("x" * 115 + "hunter2", show=lambda text: text.replace("hunter2", "[redacted]"))
        assert "hunter" not in str(caught.value)
        assert quoted(b"short") == "'short'"


def survives(line: bytes | str) -> None:
    """It gives a handshake or a handshake error; both are harmless."""
    try:
        result = parse_handshake(line)
    except HandshakeError as error:
        shown = str(error)
    else:
        shown = result.target
        assert shown.split(":")[0] in ("unix", "ipv4", "ipv6", "dns")
    assert shown.isprintable()
    assert len(shown) < 2000


class TestSecrets:
    @pytest.mark.parametrize(
        "line",
        [
            "1|1|unix|/a|hunter2|",
            "1|hunter2|unix|/a|grpc|",
            "1|1|hunter2|/a|grpc|",
            f"1|1|unix|/a|{'x' * 36}hunter2|",
            "1|31415926|unix|/a|grpc|",
            "31415926|1|unix|/a|grpc|",
        ],
    )
    def test_no_field_tells_one(self, line: str) -> None:
        """What stands in one field, and is quoted for itself, is looked through like the line."""
        redact = Redactor(["hunter2", "31415926"])
        with pytest.raises(HandshakeError) as refused:
            parse_handshake(line, offered=[1], show=redact)
        assert "[redacted]" in str(refused.value)
        assert not any(part in str(refused.value) for part in ("hunt", "3141"))


class TestFuzz:
    @given(st.binary(max_size=300))
    def test_any_bytes(self, line: bytes) -> None:
        """Any bytes are a handshake or a handshake error."""
        survives(line)

    @given(st.text(max_size=300))
    def test_any_text(self, line: str) -> None:
        """Any text, too, surrogates included."""
        survives(line)

    @given(
        st.lists(
            st.one_of(
                st.sampled_from(
                    ["", "0", "1", "6", "unix", "tcp", "/a", "127.0.0.1:1", "[::1]:1", "grpc", "netrpc", "true"]
                ),
                st.text(max_size=20),
                st.integers().map(str),
                st.ip_addresses().map(lambda ip: f"[{ip}]:1" if ip.version == 6 else f"{ip}:1"),
            ),
            max_size=9,
        )
    )
    def test_nearly_right(self, fields: list[str]) -> None:
        """Lines that look like one, too."""
        survives("|".join(fields))
        survives("|".join(["1", "1", *fields[2:]]))
