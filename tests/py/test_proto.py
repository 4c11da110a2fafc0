"""csrc/load/onnx.proto against the onnx package: every message and field that we state has the
standard's name, number, label and type."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest

pytestmark = pytest.mark.quick

PROTO = Path(__file__).resolve().parents[2] / "csrc" / "load" / "onnx.proto"
OURS = {"TensorProto.macart_payload"}  # never in a file
# Enums of the standard; on the wire they are int32.
ENUMS = {"TensorProto.data_location", "AttributeProto.type"}

TOKENS = re.compile(
    r"message (?P<message>\w+) \{|(?P<label>optional|repeated) (?P<type>\w+) (?P<field>\w+) = "
    r"(?P<number>\d+)|(?P<end>\})"
)


def fields() -> list[tuple[str, str, str, str, int]]:
    """(message, label, type, field, number) of every field of the file."""
    text = re.sub(r"//[^\n]*", "", PROTO.read_text())
    found, inside = [], []
    for m in TOKENS.finditer(text):
        if m["message"]:
            inside.append(m["message"])
        elif m["end"]:
            inside.pop()
        else:
            found.append((".".join(inside), m["label"], m["type"], m["field"], int(m["number"])))
    assert not inside and len(found) > 80
    return found


@pytest.mark.parametrize("row", fields(), ids=lambda r: f"{r[0]}.{r[3]}")
def test_field_is_the_standards(row: tuple[str, str, str, str, int]) -> None:
    """The descriptor of the onnx package says the same."""
    message, label, type_name, field, number = row
    if f"{message}.{field}" in OURS:
        return
    descriptor = onnx.ModelProto.DESCRIPTOR.file.message_types_by_name[message.split(".")[0]]
    for nested in message.split(".")[1:]:
        descriptor = descriptor.nested_types_by_name[nested]
    theirs = descriptor.fields_by_name[field]
    assert theirs.number == number
    assert theirs.is_repeated == (label == "repeated")
    if theirs.message_type is not None:
        assert theirs.message_type.name == type_name
    elif f"{message}.{field}" in ENUMS:
        assert theirs.enum_type is not None and type_name == "int32"
    else:
        assert theirs.type == getattr(theirs, f"TYPE_{type_name.upper()}")
