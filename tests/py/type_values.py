"""Type strings of ONNX (`seq(tensor(int8))`) and small values of them.

A value is written as `SHAPE:RANGE`, for instance `2x3:p`: numbers of a fixed pattern, which every
element type holds exactly, so that a value of a narrow type and its widened copy are the same
numbers. `=1,2` is a list of numbers, `=3` a scalar, `_` an input that is left out.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from onnx import TensorProto, TypeProto, helper

WORDS = ["a", "", "Bc", "d e", "a", "zü"]
# By range: offset and step of the pattern, and how many different numbers it has.
RANGES = {
    "": (-2.0, 0.5, 9),  # -2 ... 2
    "p": (1.0, 0.5, 4),  # positive
    "u": (-0.75, 0.25, 7),  # within (-1, 1)
    "h": (0.25, 0.25, 3),  # within (0, 1)
    "z": (-2.0, 1.0, 5),  # whole numbers
    "w": (1.0, 1.0, 3),  # whole and positive
    "b": (0.0, 1.0, 2),  # 0 and 1
    "n": (-2.0, 1.0, 7),  # whole; in these ranges strings are numerals
    "m": (1.0, 1.0, 3),
    "q": (-2.0, 1.0, 4),
    "t": (1.0, 1.0, 2),
}


def element(kind: str) -> str:
    """The element type inside a type string."""
    return re.findall(r"tensor\((\w+)\)", kind)[0]


def with_element(kind: str, name: str) -> str:
    """The same kind of value of another element type."""
    return re.sub(r"tensor\(\w+\)", f"tensor({name})", kind)


def number(name: str) -> int:
    """TensorProto's number of an element type."""
    return getattr(TensorProto, name.upper())


def dtype(name: str) -> np.dtype:
    """numpy's type of an element type; strings are objects."""
    return np.dtype(object) if name == "string" else helper.tensor_dtype_to_np_dtype(number(name))


def type_proto(kind: str) -> TypeProto:
    """A type string as a message, without a shape."""
    outer, inner = kind.split("(", 1)
    inner = inner[:-1]
    if outer == "seq":
        return helper.make_sequence_type_proto(type_proto(inner))
    if outer == "optional":
        return helper.make_optional_type_proto(type_proto(inner))
    return helper.make_tensor_type_proto(number(inner), None)


def is_unsigned(name: str) -> bool:
    """Whether a type has no negative numbers."""
    return name.startswith("uint") or name == "float8e8m0"


def is_integer(name: str) -> bool:
    """Whether a type has whole numbers only."""
    return name.lstrip("u").startswith("int")


def pattern(size: int, name: str, span: str, salt: int) -> np.ndarray:
    """Numbers of a range, as float64, that the type has."""
    if span.startswith("i"):  # i5: positions 0 ... 4
        return ((np.arange(size) * 2 + salt) % int(span[1:])).astype(np.float64)
    offset, step, count = RANGES[span]
    values = offset + step * ((np.arange(size) * 5 + salt * 2) % count)
    if name == "float8e8m0":
        return 2.0 ** np.rint(np.abs(values))
    if is_integer(name):
        values = values * 2 if step < 1 else values
        values = np.rint(values)
    if is_unsigned(name):
        values = np.abs(values)
    if name.endswith("int2"):
        values = np.clip(values, 0 if name[0] == "u" else -2, 3 if name[0] == "u" else 1)
    if name == "float4e2m1":
        values = np.where(np.abs(values) == 0.25, 0.5, np.where(values == 0.75, 1.0, values))
        values = np.where(values == 2.5, 3.0, values)
    return values


def tensor(text: str, name: str, salt: int = 0) -> np.ndarray:
    """The value that `text` describes, of an element type."""
    kind = dtype(name)
    if text.startswith("="):
        items = [t if name == "string" else float(t) for t in text[1:].split(",") if t]
        many = "," in text or len(items) == 0
        if name == "string":
            return np.array(items if many else items[0], object)
        return np.array(items if many else items[0], np.float64).astype(kind)
    shape_text, _, span = text.partition(":")
    shape = tuple(int(t) for t in shape_text.split("x")) if shape_text != "s" else ()
    size = int(np.prod(shape))
    if name == "string":
        items = [WORDS[(k * 5 + salt) % len(WORDS)] for k in range(size)]
        if span and span in "nmqt":
            items = [str(int(v)) for v in pattern(size, "float", span, salt)]
        elif span == "a":
            items = [item.replace("ü", "u") for item in items]
        return np.array(items, object).reshape(shape)
    if name == "bool":
        return ((np.arange(size) * 5 + salt) % 3 == 1).reshape(shape)
    values = pattern(size, name, span, salt)
    if name.startswith("complex"):
        return (values + 1j * values[::-1]).astype(kind).reshape(shape)
    return values.astype(np.float32).astype(kind).reshape(shape)


def value(text: str, kind: str, salt: int = 0) -> Any:
    """A tensor, or a list of two for a sequence."""
    if "seq(" not in kind:
        return tensor(text, element(kind), salt)
    return [tensor(text, element(kind), salt), tensor(text, element(kind), salt + 1)]
