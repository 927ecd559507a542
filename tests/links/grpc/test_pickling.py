"""Replies of classes that no module has can be pickled, and sent to where nobody knows them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.duration_pb2 import Duration

from fsm_conn.demo import calculator_pb2
from fsm_conn.links.grpc.reflection import message_class


def reflected() -> Any:
    """A class as reflection makes it, which uses types of another file."""
    file = FileDescriptorProto(name="job.proto", package="job", syntax="proto3")
    file.dependency.append("google/protobuf/duration.proto")
    message = file.message_type.add(name="Done")
    message.field.add(name="names", number=1, type="TYPE_STRING", label="LABEL_REPEATED")
    message.field.add(
        name="took", number=2, type="TYPE_MESSAGE", label="LABEL_OPTIONAL", type_name=".google.protobuf.Duration"
    )
    pool = descriptor_pool.DescriptorPool()
    duration = FileDescriptorProto()
    Duration.DESCRIPTOR.file.CopyToProto(duration)
    pool.Add(duration)
    pool.Add(file)
    return message_class(pool.FindMessageTypeByName("job.Done"))


def test_a_reply_travels_with_its_class() -> None:
    """All of it arrives, also what was made of other files; its class is made once, and can be pickled again."""
    reply = reflected()(names=["a", "b"], took={"seconds": 3})
    arrived = pickle.loads(pickle.dumps(reply))
    assert (list(arrived.names), arrived.took.seconds) == (["a", "b"], 3)
    assert arrived.DESCRIPTOR.full_name == "job.Done"
    again = pickle.loads(pickle.dumps(arrived))
    assert type(again) is type(arrived)
    assert again == arrived


def test_a_copy_is_of_the_same_class() -> None:
    """Nothing is packed for that."""
    reply = reflected()(names=["a"])
    for copied in (copy.copy(reply), copy.deepcopy(reply)):
        assert type(copied) is type(reply)
        assert copied == reply
        assert copied is not reply


def test_a_class_of_a_module_is_left_alone() -> None:
    """It is found where it stands."""
    found: Any = message_class(calculator_pb2.DESCRIPTOR.message_types_by_name["Result"])
    assert found is calculator_pb2.Result
    assert type(pickle.loads(pickle.dumps(found(result=3)))) is calculator_pb2.Result
