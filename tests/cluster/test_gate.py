"""What of a connection is passed on before its token was shown, and after."""

from __future__ import annotations

import h2.config
import h2.connection
import h2.events
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn.cluster.serving.frames import CONTINUATION, END_HEADERS, HEAD, HEADERS, frame
from fsm_conn.cluster.serving.gate import MOST_HELD, PREFACE, RefusedError, TokenGate

TOKEN = "a-token-of-some-length"
CALL = [(":method", "POST"), (":scheme", "http"), (":path", "/calculator.Calculator/Add"), (":authority", "x")]


def said(token: str | None) -> bytes:
    """What a client of another library says: the preface, its settings, and one call."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    client.initiate_connection()
    shown = [] if token is None else [("authorization", f"Bearer {token}")]
    client.send_headers(1, [*CALL, ("content-type", "application/grpc"), *shown])
    client.send_data(1, b"\0\0\0\0\0", end_stream=True)
    return client.data_to_send()


@given(sizes=st.lists(st.integers(1, 40), max_size=20))
def test_all_is_passed_on_after_the_token(sizes: list[int]) -> None:
    """However it is cut, each byte is passed on, once and in order."""
    gate, data, passed, at = TokenGate(TOKEN), said(TOKEN), b"", 0
    for size in [*sizes, 10_000]:
        passed += gate.feed(data[at : at + size])
        at += size
    assert gate.is_open
    assert passed == data


@given(sizes=st.lists(st.integers(1, 40), max_size=20), token=st.sampled_from([None, "another-token-of-length", ""]))
def test_no_call_is_passed_on_without_it(sizes: list[int], token: str | None) -> None:
    """However it is cut, no byte of a call is; and the client is told why in the words of gRPC."""
    gate, data, passed, at = TokenGate(TOKEN), said(token), b"", 0
    with pytest.raises(RefusedError) as caught:
        for size in [*sizes, 10_000]:
            passed += gate.feed(data[at : at + size])
            at += size
    assert data.startswith(passed)
    assert not {HEADERS, CONTINUATION} & {*kinds_of(passed)}
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    client.initiate_connection()
    client.send_headers(1, CALL, end_stream=True)
    events = client.receive_data(frame(4, 0, 0, b"") + caught.value.answer)
    (answer,) = [each for each in events if isinstance(each, h2.events.ResponseReceived)]
    assert ("grpc-status", "16") in [(str(name), str(value)) for name, value in answer.headers or ()]


def conversation(tokens: list[str | None]) -> tuple[h2.connection.H2Connection, list[bytes]]:
    """A client that makes calls one after the other on one connection, and what it says of each."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    client.initiate_connection()
    parts = []
    for number, token in enumerate(tokens):
        shown = [] if token is None else [("authorization", f"Bearer {token}")]
        client.send_headers(2 * number + 1, [*CALL, ("content-type", "application/grpc"), *shown])
        client.send_data(2 * number + 1, b"\0\0\0\0\0", end_stream=True)
        parts.append(client.data_to_send())
    return client, parts


@given(sizes=st.lists(st.integers(1, 40), max_size=20), tokens=st.lists(st.sampled_from([TOKEN, None, "x" * 22])))
def test_each_call_must_show_it(sizes: list[int], tokens: list[str | None]) -> None:
    """On one connection, which a proxy may share among clients: no other call is passed on, nor any after it."""
    client, parts = conversation([TOKEN, *tokens])
    good = next((at for at, token in enumerate([TOKEN, *tokens]) if token != TOKEN), len(parts))
    gate, data, passed, at = TokenGate(TOKEN), b"".join(parts), b"", 0
    for size in [*sizes, 1_000_000]:
        passed += gate.feed(data[at : at + size])
        at += size
    assert passed == b"".join(parts[:good])
    events = client.receive_data(frame(4, 0, 0, b"") + gate.answer) if gate.answer else []
    answers = [each for each in events if isinstance(each, h2.events.ResponseReceived)]
    assert [each.stream_id for each in answers] == ([2 * good + 1] if good < len(parts) else [])
    ends = [each.last_stream_id for each in events if isinstance(each, h2.events.ConnectionTerminated)]
    assert ends == [each.stream_id for each in answers]
    ping = frame(6, 0, 0, b"12345678")
    assert gate.feed(ping) == ping, "the calls before it go on"


@pytest.mark.parametrize("stream", [0, 1, 2, 3, 2**31 - 1])
def test_no_number_of_a_call_spares_the_token(stream: int) -> None:
    """Not even those that no client may use."""
    gate, block = TokenGate(TOKEN), b"\x83\x86"  # :method POST, :scheme http
    with pytest.raises(RefusedError, match="no token"):
        gate.feed(PREFACE + frame(HEADERS, END_HEADERS, stream, block))
    gate = TokenGate(TOKEN)
    gate.feed(said(TOKEN))
    passed = gate.feed(frame(HEADERS, END_HEADERS, stream, block))
    assert bool(passed) == (stream == 1)  # which is the end of the call that was let in


def test_what_follows_a_refused_call_is_dropped_and_what_belongs_to_others_is_not() -> None:
    """Its data and its end, and whole calls after it; not what goes on with calls that were let in."""
    _, parts = conversation([TOKEN, None])
    gate = TokenGate(TOKEN)
    gate.feed(parts[0])
    assert gate.feed(parts[1] + frame(0, 0, 3, b"more") + frame(HEADERS, END_HEADERS, 5, b"\xff")) == b""
    for goes_on in (frame(8, 0, 1, b"\0\0\0\1"), frame(3, 0, 1, b"\0\0\0\0"), frame(0, 0, 1, b"data")):
        assert gate.feed(goes_on) == goes_on
    with pytest.raises(RefusedError, match="goes on with headers"):
        gate.feed(frame(HEADERS, END_HEADERS, 1, b""))


def test_a_long_request_is_passed_on_as_it_comes() -> None:
    """None of it is held back."""
    _, parts = conversation([TOKEN])
    gate, data = TokenGate(TOKEN), frame(0, 0, 1, b"x" * 1_000_000)
    assert gate.feed(parts[0]) == parts[0]
    for at in range(0, len(data), 16_384):
        assert gate.feed(data[at : at + 16_384]) == data[at : at + 16_384]


def kinds_of(data: bytes) -> list[int]:
    """The kinds of the whole frames after the preface."""
    found, at = [], len(PREFACE)
    while at + HEAD <= len(data):
        found.append(data[at + 3])
        at += HEAD + int.from_bytes(data[at : at + 3], "big")
    return found


def test_headers_in_several_frames() -> None:
    """Headers that are continued are read as a whole."""
    gate, data = TokenGate(TOKEN), said(TOKEN)
    at = next(
        place
        for place in range(len(PREFACE), len(data))
        if data[place + 3 : place + 9] == bytes((HEADERS, END_HEADERS, 0, 0, 0, 1))
    )
    length = int.from_bytes(data[at : at + 3], "big")
    block = data[at + HEAD : at + HEAD + length]
    parts = frame(HEADERS, 0, 1, block[:5]) + frame(CONTINUATION, END_HEADERS, 1, block[5:])
    data = data[:at] + parts + data[at + HEAD + length :]
    assert gate.feed(data) == data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "does not speak HTTP/2"),
        (PREFACE + frame(0, 0, 1, b"data"), "no place before"),
        (PREFACE + frame(4, 0, 0, b"\0" * (MOST_HELD + 1)), "too long"),
        (PREFACE + frame(HEADERS, END_HEADERS | 0x8, 1, b"\xff"), "padding"),
        (PREFACE + frame(HEADERS, END_HEADERS | 0x8, 1, b""), "padding"),
        (PREFACE + frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "cannot be read"),
        (PREFACE + frame(HEADERS, 0, 1, b"a" * 40_000) + frame(CONTINUATION, 0, 1, b"a" * 40_000), "too much"),
        (PREFACE + frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, END_HEADERS, 3, b""), "no place"),
        (PREFACE + frame(HEADERS, 0, 1, b"") + frame(6, 0, 0, b"12345678"), "no place"),
    ],
)
def test_what_is_no_call_is_refused(data: bytes, why: str) -> None:
    """Other protocols, frames that have no place there, headers that are none, and floods."""
    with pytest.raises(RefusedError, match=why):
        TokenGate(TOKEN).feed(data)


def test_a_connection_that_is_set_up_for_ever_is_refused() -> None:
    """By pings, in one piece or in many: a stranger must not keep a plugin busy. Who has shown the token may."""
    pings = frame(6, 0, 0, b"12345678") * 100
    for times, pieces in ((100, 1), (1, 100)):
        gate = TokenGate(TOKEN)
        assert gate.feed(PREFACE) == PREFACE
        with pytest.raises(RefusedError, match=r"without a call|too much"):
            for _ in range(pieces):
                gate.feed(pings * times)
    gate, data = TokenGate(TOKEN), said(TOKEN)
    assert gate.feed(data) == data
    assert gate.feed(pings * 100) == pings * 100


@given(data=st.binary(max_size=400), begins=st.booleans())
def test_any_bytes_are_refused_or_held(data: bytes, begins: bool) -> None:
    """Whatever comes, nothing but a refusal is raised, and no call is passed on."""
    gate = TokenGate(TOKEN)
    try:
        passed = gate.feed(PREFACE + data if begins else data)
    except RefusedError:
        return
    assert not gate.is_open
    assert set(kinds_of(passed)) <= {2, 4, 6, 8}


@given(data=st.binary(max_size=400))
def test_any_bytes_after_the_token_are_passed_on_refused_or_held(data: bytes) -> None:
    """Nothing but a refusal is raised, and what is passed on is what came, in order."""
    gate, call = TokenGate(TOKEN), said(TOKEN)
    gate.feed(call)
    try:
        passed = gate.feed(data)
    except RefusedError:
        return
    assert gate.answer or data.startswith(passed)
