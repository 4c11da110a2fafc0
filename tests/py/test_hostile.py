"""Hostile and broken models: the exception that onnxruntime raises, where it raises it, and nothing
left behind. Each case carries onnxruntime 1.31's outcome, which the full tier checks against it.
Covers ir/verify and the loader."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import engine
import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

node = helper.make_node


def info(name: str, dims: Any = (2,), kind: int = T.FLOAT) -> onnx.ValueInfoProto:
    """A declared value."""
    return helper.make_tensor_value_info(name, kind, dims)


def model(
    nodes: list,
    ins: tuple = ("x",),
    outs: tuple = ("y",),
    inits: Any = (),
    opset: int = 17,
    **more: Any,
) -> onnx.ModelProto:
    """Names stand for vectors of two floats."""
    ins, outs = (tuple(info(i) if isinstance(i, str) else i for i in k) for k in (ins, outs))
    more.setdefault("ir_version", 8)
    graph = helper.make_graph(nodes, "g", ins, outs, list(inits))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **more)


def raw(dims: list[int], data: bytes, kind: int = T.FLOAT) -> onnx.TensorProto:
    """A tensor that need not agree with itself."""
    return T(name="w", data_type=kind, dims=dims, raw_data=data)


def typed(dims: list[int], values: list[float]) -> onnx.TensorProto:
    """The same with float_data."""
    return T(name="w", data_type=T.FLOAT, dims=dims, float_data=values)


def ints(*values: int) -> list[onnx.TensorProto]:
    """The initializer s."""
    return [numpy_helper.from_array(np.array(values, np.int64), "s")]


def ones(*dims: int, kind: type = np.float32) -> list[onnx.TensorProto]:
    """The initializer w."""
    return [numpy_helper.from_array(np.ones(dims, kind), "w")]


def field(number: int, body: bytes) -> bytes:
    """A field of the wire format."""
    head, n = bytes([number << 3 | 2]), len(body)
    while n > 127:
        head, n = head + bytes([n & 127 | 128]), n >> 7
    return head + bytes([n]) + body


def whole(graph: bytes) -> bytes:
    """A model of IR version 8, opset 17."""
    return b"\x08\x08" + field(7, graph) + b"\x42\x02\x10\x11"


def nested_types(levels: int) -> bytes:
    """An input of type seq(seq(seq(..."""
    body = b""
    for _ in range(levels):
        body = field(4, field(1, body))
    return whole(field(2, b"g") + field(11, field(1, b"x") + field(2, body)))


def nested_graphs(levels: int) -> bytes:
    """An If in the branch of an If in ..."""
    graph = b""
    for _ in range(levels):
        attribute = field(1, b"b") + b"\xa0\x01\x05" + field(6, graph)
        graph = field(1, field(4, b"If") + field(5, attribute))
    return whole(graph)


def without(name: str) -> onnx.ModelProto:
    """A model that lacks a field."""
    m = model(RELU)
    m.ClearField(name)
    return m


RELU = [node("Relu", ["x"], ["y"], name="r1")]
ADD = [node("Add", ["x", "w"], ["y"], name="a1")]
GOOD = model(RELU).SerializeToString()
ANY = (info("y", None),)
IMAGE = (info("x", (1, 1, 4, 4)),)

CASES: dict[str, tuple[str, Any]] = {
    "empty": ("load:InvalidArgument", b""),
    "one byte": ("load:InvalidProtobuf", b"\x08"),
    "truncated": ("load:InvalidProtobuf", GOOD[:-7]),
    "cut early": ("load:InvalidProtobuf", GOOD[:20]),
    "zeros": ("load:InvalidProtobuf", bytes(100)),
    "text": ("load:InvalidProtobuf", b"hello world, this is no model" * 3),
    "random": ("load:InvalidProtobuf", np.random.default_rng(0).bytes(500)),
    "no ir version": ("load:Fail", without("ir_version")),
    "ir 99": ("load:Fail", model(RELU, ir_version=99)),
    "no opset": ("load:Fail", without("opset_import")),
    "opset 99": ("load:Fail", model(RELU, opset=99)),
    "opset 0": ("load:InvalidGraph", model(RELU, opset=0)),
    "no graph": ("load:InvalidArgument", without("graph")),
    "cycle": (
        "load:Fail",
        model(
            [
                node("Add", ["x", "b"], ["a"], name="n1"),
                node("Neg", ["a"], ["b"], name="n2"),
                node("Neg", ["a"], ["y"], name="n3"),
            ]
        ),
    ),
    "self cycle": ("load:Fail", model([node("Add", ["x", "y"], ["y"], name="n1")])),
    "output twice": (
        "load:Fail",
        model([node("Neg", ["x"], ["y"], name="n1"), node("Abs", ["x"], ["y"], name="n2")]),
    ),
    "output is input": (
        "load:Fail",
        model([node("Neg", ["x"], ["x"], name="n1"), node("Abs", ["x"], ["y"], name="n2")]),
    ),
    "input twice": ("load:Fail", model(RELU, ins=("x", "x"))),
    "initializer twice": ("ok", model(ADD, inits=ones(2) * 2)),
    "initializer is output": (
        "load:Fail",
        model(
            [node("Neg", ["x"], ["w"], name="n1"), node("Add", ["x", "w"], ["y"])], inits=ones(2)
        ),
    ),
    "graph output twice": ("ok", model(RELU, outs=("y", "y"))),
    "node name twice": (
        "load:Fail",
        model([node("Neg", ["x"], ["a"], name="n"), node("Abs", ["a"], ["y"], name="n")]),
    ),
    "undefined input": (
        "load:InvalidArgument",
        model([node("Add", ["x", "nope"], ["y"], name="n1")]),
    ),
    "undefined output": ("load:Fail", model(RELU, outs=("y", "z"))),
    "raw too short": ("load:Fail", model(ADD, inits=[raw([2], b"1234")])),
    "raw too long": ("load:Fail", model(ADD, inits=[raw([2], b"123456789abc")])),
    "typed too short": ("load:Fail", model(ADD, inits=[typed([2], [1])])),
    "typed too long": ("load:Fail", model(ADD, inits=[typed([2], [1, 2, 3])])),
    "no data": ("load:Fail", model(ADD, inits=[typed([2], [])])),
    "2^60 elements": ("load:Fail", model(ADD, inits=[raw([1 << 60], b"12345678")])),
    "2^120 elements": ("load:Fail", model(ADD, inits=[raw([1 << 60, 1 << 60], b"")])),
    "negative dim": ("load:Fail", model(ADD, inits=[raw([-2], b"12345678")])),
    "negative dims": ("load:Fail", model(ADD, inits=[raw([-2, -1], b"12345678")])),
    "element type 99": ("load:Fail", model(ADD, inits=[raw([2], b"12345678", 99)])),
    "element type 0": ("load:Fail", model(ADD, inits=[raw([2], b"12345678", 0)])),
    "rank 100": ("run:ValueError", model(ADD, inits=[raw([1] * 100, b"1234")])),
    "2^60 made": (
        "run:Fail",
        model(
            [node("ConstantOfShape", ["s"], ["y"], name="c1")],
            ins=(),
            outs=ANY,
            inits=ints(1 << 60),
        ),
    ),
    "2^126 made": (
        "run:Fail",
        model(
            [node("ConstantOfShape", ["s"], ["y"], name="c1")],
            ins=(),
            outs=ANY,
            inits=ints(1 << 60, 1 << 60),
        ),
    ),
    "expand 2^60": (
        "run:Fail",
        model(
            [node("Expand", ["x", "s"], ["y"], name="c1")],
            ins=(info("x", (1,)),),
            outs=ANY,
            inits=ints(1 << 60),
        ),
    ),
    "tile 2^60": (
        "run:InvalidArgument",
        model([node("Tile", ["x", "s"], ["y"], name="c1")], outs=ANY, inits=ints(1 << 60)),
    ),
    "pad 2^60": (
        "run:Fail",
        model([node("Pad", ["x", "s"], ["y"], name="c1")], outs=ANY, inits=ints(1 << 60, 1 << 60)),
    ),
    "range 2^60": (
        "run:Fail",
        model(
            [node("Range", ["a", "b", "c"], ["y"], name="c1")],
            ins=(),
            outs=(info("y", None, 7),),
            inits=[
                numpy_helper.from_array(np.array(v), n)
                for n, v in zip("abc", (0, 1 << 60, 1), strict=True)
            ],
        ),
    ),
    "input 2^60": ("run:InvalidArgument", model(RELU, ins=(info("x", (1 << 60,)),), outs=ANY)),
    "nested types": ("load:InvalidProtobuf", nested_types(10000)),
    "nested types 40": ("load:InvalidArgument", nested_types(40)),
    "nested graphs": ("load:InvalidProtobuf", nested_graphs(10000)),
    "nested graphs 40": ("load:InvalidProtobuf", nested_graphs(40)),
    "unknown operators": (
        "load:InvalidGraph",
        model(
            [
                node("Foo", ["x"], ["a"], name="n1"),
                node("Bar", ["a"], ["b"], name="n2"),
                node("Baz", ["b"], ["y"], name="n3", domain="com.other"),
            ]
        ),
    ),
    "unknown operator": ("load:InvalidGraph", model([node("Foo", ["x"], ["y"], name="n1")])),
    "unknown domain": (
        "load:InvalidGraph",
        model([node("Foo", ["x"], ["y"], name="n1", domain="com.other")]),
    ),
    "unknown attribute": (
        "load:InvalidGraph",
        model([node("Relu", ["x"], ["y"], name="n1", foo=3)]),
    ),
    "attribute of another type": (
        "load:InvalidGraph",
        model([node("Softmax", ["x"], ["y"], name="n1", axis=1.5)]),
    ),
    "missing attribute": ("load:InvalidGraph", model([node("Cast", ["x"], ["y"], name="n1")])),
    "too many inputs": ("load:InvalidGraph", model([node("Relu", ["x", "x"], ["y"], name="n1")])),
    "no inputs": ("load:InvalidGraph", model([node("Relu", [], ["y"], name="n1")])),
    "absent input": ("load:InvalidGraph", model([node("Relu", [""], ["y"], name="n1")])),
    "too many outputs": ("load:InvalidGraph", model([node("Relu", ["x"], ["y", "z"], name="n1")])),
    "wrong type": (
        "load:Fail",
        model([node("Add", ["x", "w"], ["y"], name="n1")], inits=ones(2, kind=np.int64)),
    ),
    "wrong shape": ("load:Fail", model([node("Add", ["x", "w"], ["y"], name="n1")], inits=ones(3))),
    "bad axis": ("load:Fail", model([node("Softmax", ["x"], ["y"], name="n1", axis=5)])),
    "bad perm": ("load:Fail", model([node("Transpose", ["x"], ["y"], name="n1", perm=[3])])),
    "matmul mismatch": (
        "load:Fail",
        model(
            [node("MatMul", ["x", "w"], ["y"], name="n1")],
            ins=(info("x", (2, 3)),),
            outs=ANY,
            inits=ones(4, 3),
        ),
    ),
    "output type differs": ("load:Fail", model(RELU, outs=(info("y", (2,), 7),))),
    "output shape differs": ("ok", model(RELU, outs=(info("y", (3,)),))),
    "output rank differs": ("ok", model(RELU, outs=(info("y", (2, 2)),))),
    "conv kernel huge": (
        "run:Fail",
        model(
            [node("Conv", ["x", "w"], ["y"], name="n1", kernel_shape=[1 << 40, 1 << 40])],
            ins=IMAGE,
            outs=ANY,
            inits=ones(1, 1, 2, 2),
        ),
    ),
    "conv pads huge": (
        "run:Fail",
        model(
            [node("Conv", ["x", "w"], ["y"], name="n1", pads=[1 << 62] * 4)],
            ins=IMAGE,
            outs=ANY,
            inits=ones(1, 1, 2, 2),
        ),
    ),
    "maxpool stride 0": (
        "load:Fail",
        model(
            [node("MaxPool", ["x"], ["y"], name="n1", kernel_shape=[2, 2], strides=[0, 0])],
            ins=IMAGE,
            outs=ANY,
        ),
    ),
    "reshape two -1": (
        "load:Fail",
        model([node("Reshape", ["x", "s"], ["y"], name="n1")], outs=ANY, inits=ints(-1, -1)),
    ),
    "reshape wrong": (
        "run:Fail",
        model([node("Reshape", ["x", "s"], ["y"], name="n1")], outs=ANY, inits=ints(3)),
    ),
    "gather out": (
        "run:InvalidArgument",
        model([node("Gather", ["x", "s"], ["y"], name="n1")], outs=ANY, inits=ints(7)),
    ),
    "split 0": (
        "load:Fail",
        model([node("Split", ["x", "s"], ["y"], name="n1")], outs=ANY, inits=ints(5)),
    ),
    "if without branch": (
        "load:InvalidGraph",
        model([node("If", ["c"], ["y"], name="n1")], ins=(info("c", (), 9),)),
    ),
}

# Where MacaRT differs, and why.
OURS = {
    "rank 100": ("load:NotImplemented", "ranks end at 16"),
    "tile 2^60": ("run:Fail", "one outcome for every shape that is too large"),
    "conv kernel huge": ("load:Fail", "seen when shapes are inferred"),
    "conv pads huge": ("load:Fail", "seen when shapes are inferred"),
    "reshape wrong": ("load:Fail", "seen when shapes are inferred"),
}

# What the message must name.
NAMES = {
    "output twice": "y", "undefined input": "nope", "undefined output": "z", "raw too short": "'w'",
    "2^60 elements": "'w'", "element type 99": "'w'", "unknown attribute": "n1.*foo",
    "missing attribute": "n1.*to", "wrong type": "n1", "bad axis": "n1", "2^60 made": "c1",
    "matmul mismatch": "n1", "unknown operators": "Foo.*Bar.*com.other",
    "node name twice": r"\(n\)",
    "gather out": "n1", "absent input": "n1.*input 0",
}  # fmt: skip

NUMPY = {"tensor(float)": np.float32, "tensor(bool)": np.bool_}


def outcome(module: Any, model: Any) -> tuple[str, str]:
    """ "ok", or the phase and class of the exception, and its text."""
    phase = "load"
    try:
        session = engine.make_session(module, model)
        feeds = {
            i.name: np.ones(
                [d if isinstance(d, int) and d < 99 else 1 for d in i.shape], NUMPY[i.type]
            )
            for i in session.get_inputs()
        }
        phase = "run"
        session.run(None, feeds)
    except Exception as e:
        return f"{phase}:{type(e).__name__}", str(e)
    return "ok", ""


def as_bytes(model: Any) -> bytes:
    """A case's model."""
    return model if isinstance(model, bytes) else model.SerializeToString()


@pytest.mark.quick
@pytest.mark.parametrize("name", CASES)
def test_outcome(name: str, tmp_path: Path) -> None:
    """Phase and class, from bytes and from a file, which the message then names."""
    import macart

    expected, model = CASES[name]
    expected = OURS.get(name, (expected,))[0]
    path = tmp_path / "hostile.onnx"
    path.write_bytes(as_bytes(model))
    for source in (as_bytes(model), str(path)):
        got, text = outcome(macart, source)
        assert got == expected, text
        if got.startswith("load:") and source == str(path):
            assert "hostile.onnx" in text
        if name in NAMES:
            assert re.search(NAMES[name], text, re.S), text


@pytest.mark.quick
def test_nothing_stays() -> None:
    """Live bytes of the engine's allocator return to where they were."""
    import macart

    def all_cases() -> int:
        for _, model in CASES.values():
            outcome(macart, as_bytes(model))
        return macart._core.info()["live_bytes"]

    first = all_cases()
    assert [all_cases() for _ in range(3)] == [first] * 3


@pytest.mark.quick
def test_random_damage() -> None:
    """Bits flipped and pieces cut in a good model: an exception or a session, never more."""
    import macart

    rng = np.random.default_rng(11)
    good = as_bytes(CASES["matmul mismatch"][1])
    for _ in range(2000):
        bad = bytearray(good)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(bad)))
            if rng.integers(2):
                bad[at] ^= 1 << int(rng.integers(8))
            else:
                del bad[at : at + int(rng.integers(1, 9))]
        got, text = outcome(macart, bytes(bad))
        assert got == "ok" or text.startswith("[ONNXRuntimeError]"), (got, text)


@pytest.mark.full
@pytest.mark.parametrize("name", CASES)
def test_expected_is_onnxruntimes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table above."""
    import onnxruntime

    monkeypatch.setenv("ALLOW_RELEASED_ONNX_OPSET_ONLY", "1")  # other tests let it take new opsets

    onnxruntime.set_default_logger_severity(4)
    expected, model = CASES[name]
    assert outcome(onnxruntime, as_bytes(model))[0] == expected
