"""Names and fields as a user may give them: a message, or an error that names the place and shows no value."""

from __future__ import annotations

import string
from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from harmless import assert_harmless, unhurried
from hypothesis import example, given
from hypothesis import strategies as st

from fsm_conn.links.errors import CallError, RequestError
from fsm_conn.links.grpc.methods import Method, message_for
from fsm_conn.links.grpc.names import listing, match_service, nearest, split_method, unknown_method

Field = FieldDescriptorProto
SCALARS = [kind for kind in range(1, 19) if kind not in (Field.TYPE_GROUP, Field.TYPE_MESSAGE, Field.TYPE_ENUM)]


def everything() -> Any:
    """A message with a field of every kind, once and many times, itself included."""
    file = FileDescriptorProto(name="all.proto", package="all", syntax="proto3")
    file.enum_type.add(name="E").value.add(name="ZERO", number=0)
    message = file.message_type.add(name="M")
    entry = message.nested_type.add(name="MapEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=Field.TYPE_INT32, label=1)
    entry.field.add(name="value", number=2, type=Field.TYPE_MESSAGE, type_name=".all.M", label=1)
    kinds = [(kind, "") for kind in SCALARS] + [(Field.TYPE_ENUM, ".all.E"), (Field.TYPE_MESSAGE, ".all.M")]
    for number, (kind, type_name) in enumerate(kinds, 1):
        for label, prefix in ((1, "one"), (3, "many")):
            message.field.add(
                name=f"{prefix}{kind}", number=number + 40 * label, type=kind, type_name=type_name or None, label=label
            )
    message.field.add(name="map", number=1, type=Field.TYPE_MESSAGE, type_name=".all.M.MapEntry", label=3)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("all.M"))


M = everything()
METHOD = Method("all.S.Do", False, False, M, M, None)
NAMES = sorted(M.DESCRIPTOR.fields_by_name)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**31), 2**31 - 1),
    st.floats(),
    st.text(st.characters(exclude_categories=()), max_size=4),
    st.binary(max_size=4),
    st.just(object()),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.dictionaries(st.sampled_from([*NAMES, "x"]), inner, max_size=3),
        st.dictionaries(scalars, inner, max_size=2),
    ),
    max_leaves=8,
)


any_text = st.text(st.characters(exclude_categories=()), max_size=4)


@unhurried
@given(st.dictionaries(st.one_of(st.sampled_from(NAMES), any_text), values, max_size=4), st.booleans())
@example({"\udc80": 1}, False)
def test_any_fields(fields: dict[str, Any], as_request: bool) -> None:
    """As keywords or as one mapping: a message that can be sent, or a RequestError."""
    try:
        made = message_for(METHOD, fields, {}) if as_request else message_for(METHOD, None, fields)
    except RequestError as error:
        assert_harmless(error)
    else:
        assert M.FromString(made.SerializeToString()) is not None


@unhurried
@given(values)
def test_any_request(request: Any) -> None:
    """Whatever stands where a whole request belongs."""
    try:
        message_for(METHOD, request, {})
    except RequestError as error:
        assert_harmless(error)


def nested(depth: int, make: Any) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = make(value)
    return value


def in_a_dict(value: Any) -> Any:
    return {"one11": value}


def in_a_list(value: Any) -> Any:
    return {"many11": [value]}


def in_a_map(value: Any) -> Any:
    return {"map": {1: value}}


@pytest.mark.parametrize("make", [in_a_dict, in_a_list, in_a_map])
@pytest.mark.parametrize("depth", [300, 5000, 100_000])
def test_requests_without_a_bottom(make: Any, depth: int) -> None:
    """A hundred thousand dicts in one another ended the process: protobuf goes down by recursion."""
    with pytest.raises(RequestError, match="inside each other") as caught:
        message_for(METHOD, None, nested(depth, make))
    assert_harmless(caught.value)


@pytest.mark.parametrize("make", [in_a_dict, in_a_list, in_a_map])
def test_what_goes_in_circles(make: Any) -> None:
    """A dict that holds itself is no message."""
    circle: dict[str, Any] = {}
    circle.update(make(circle))
    with pytest.raises(RequestError, match="inside each other"):
        message_for(METHOD, None, circle)


@pytest.mark.parametrize("make", [in_a_dict, in_a_list, in_a_map])
def test_as_deep_as_may_be(make: Any) -> None:
    """What protobuf's parsers take, a hundred messages, can be given; and a fault at the bottom is found."""
    depth = 99 if make is not in_a_map else 60
    assert message_for(METHOD, None, nested(depth - 10, make)) is not None

    def bottom(value: Any) -> Any:
        return value or {"one5": "x"}

    with pytest.raises(RequestError) as caught:
        message_for(METHOD, None, nested(depth - 10, lambda value: make(bottom(value))))
    assert_harmless(caught.value)


@pytest.mark.parametrize("kind", [*SCALARS, Field.TYPE_ENUM, Field.TYPE_MESSAGE])
@pytest.mark.parametrize("secret", ["hunter2", b"hunter2", 72_616_263_646_566_676_869, 7.25726374e300, ["hunter2"]])
def test_no_value_is_shown(kind: int, secret: Any) -> None:
    """A value in the wrong place may be a password that was put there by mistake."""
    wrong: list[Any] = [{f"one{kind}": secret}, {f"many{kind}": [secret]}, {"one11": {f"one{kind}": secret}}]
    for told in (*(refusal(None, fields) for fields in wrong), refusal(secret, {})):
        assert not any(part in told for part in ("hunter2", "7261626", "7.2572"))


def refusal(request: Any, fields: dict[str, Any]) -> str:
    """What is said against a request; empty when nothing is."""
    try:
        message_for(METHOD, request, fields)
    except RequestError as error:
        return str(error)
    return ""


# --- names ----------------------------------------------------------------------------------------------------------

names = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=12),
    st.text(string.ascii_letters + ".", max_size=12),
    st.sampled_from(["a.B", "a.B.C", ".", "..", "a" * 100_000, "a." * 50_000 + "b", "\x1b[2J.x", "a\n.b"]),
)


@unhurried
@given(names, st.lists(names, max_size=6))
def test_any_name(name: str, known: list[str]) -> None:
    """It names one of those that are known, or none, or the caller is told; in bounded words."""
    try:
        service, method = split_method(name)
        found = match_service(service, known)
        if found is None or found not in known:
            raise unknown_method(service, method, known)
    except CallError as error:
        assert_harmless(error)


@pytest.mark.parametrize("name", [None, 3, b"a.B", ["a.B"], object()])
def test_what_is_no_name(name: Any) -> None:
    """It is told by its type."""
    with pytest.raises(CallError, match=type(name).__name__) as caught:
        split_method(name)
    assert_harmless(caught.value)


@unhurried
@given(names, st.lists(names, max_size=30))
def test_lists_and_suggestions_are_bounded(name: str, known: list[str]) -> None:
    """Whatever the names."""
    assert len(listing(known)) < 2000
    assert len(nearest(name, known)) < 150
