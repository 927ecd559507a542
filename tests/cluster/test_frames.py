"""Where an HTTP/2 frame ends, however its connection cuts it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fsm_conn.cluster.serving.frames import CONTINUATION, END_HEADERS, HEADERS, Boundaries, frame, goaway

FRAMES = st.lists(
    st.builds(
        frame,
        st.sampled_from([0, HEADERS, 4, CONTINUATION]),
        st.sampled_from([0, 1, END_HEADERS, END_HEADERS | 1]),
        st.integers(0, 2**31 - 1),
        st.binary(max_size=40),
    ),
    max_size=8,
)


def places(frames: list[bytes]) -> set[int]:
    """Where another frame may be put, told from the whole."""
    found, at = set(), 0
    for each in frames:
        at += len(each)
        if each[3] not in (HEADERS, CONTINUATION) or each[4] & END_HEADERS:
            found.add(at)
    return found


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks, at = [], 0
    for size in sizes:
        chunks.append(data[at : at + size])
        at += size
    return [*chunks, data[at:]]


@given(frames=FRAMES, sizes=st.lists(st.integers(0, 30), max_size=30))
def test_places_are_those_between_frames(frames: list[bytes], sizes: list[int]) -> None:
    """However the bytes are cut, a place that is found is one between two frames, and none is missed at the end."""
    data, allowed = b"".join(frames), places(frames)
    boundaries, at = Boundaries(), 0
    for chunk in cut(data, sizes):
        place = boundaries.feed(chunk)
        if place >= 0:
            assert at + place in allowed
        else:
            assert not any(at < each <= at + len(chunk) for each in allowed)
        at += len(chunk)
        if chunk:
            assert boundaries.is_between == (at in allowed)


def test_no_place_before_the_first_frame() -> None:
    """A server's first frame has to be its settings."""
    assert not Boundaries().is_between


def test_a_goaway_is_what_another_library_reads() -> None:
    """Hyper's HTTP/2 takes it for a GOAWAY without an error, which ends no stream."""
    import h2.connection
    import h2.events

    client = h2.connection.H2Connection()
    client.initiate_connection()
    events: list[Any] = client.receive_data(frame(4, 0, 0, b"") + goaway())
    (ended,) = [each for each in events if isinstance(each, h2.events.ConnectionTerminated)]
    assert (ended.error_code, ended.last_stream_id) == (0, 2**31 - 1)
