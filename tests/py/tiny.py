"""Tiny models for tests of the Python face, made with onnx.helper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

F = TensorProto.FLOAT
IO = tuple[str, int, Sequence[Any] | None]


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 21,
    **attributes: Any,
) -> bytes:
    """A serialized model; inputs and outputs are (name, type, shape) or ValueInfoProto."""

    def info(io: Any) -> Any:
        return helper.make_tensor_value_info(*io) if isinstance(io, tuple) else io

    graph = helper.make_graph(
        nodes,
        "tiny",
        [info(i) for i in inputs],
        [info(o) for o in outputs],
        [numpy_helper.from_array(a, n) for n, a in (weights or {}).items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10, **attributes
    ).SerializeToString()


def add_relu() -> bytes:
    """z = x + y, r = relu(z), all (N, 3) float."""
    nodes = [
        helper.make_node("Add", ["x", "y"], ["z"], name="add"),
        helper.make_node("Relu", ["z"], ["r"]),
    ]
    shape = ["N", 3]
    return model(nodes, [("x", F, shape), ("y", F, shape)], [("z", F, shape), ("r", F, shape)])


def unary(op: str, kind: int, shape: Sequence[Any] | None = None, out: int | None = None) -> bytes:
    """y = op(x)."""
    nodes = [helper.make_node(op, ["x"], ["y"])]
    return model(nodes, [("x", kind, shape)], [("y", out or kind, shape)])


def mlp(width: int = 16) -> bytes:
    """Three MatMul + Add + ... layers: 6 nodes."""
    rng = np.random.default_rng(0)
    weights, nodes, last = {}, [], "x"
    for i in range(3):
        weights[f"w{i}"] = rng.standard_normal((width, width)).astype(np.float32) / 4
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"m{i}"]))
        nodes.append(helper.make_node("Relu", [f"m{i}"], [f"r{i}"]))
        last = f"r{i}"
    return model(nodes, [("x", F, ["N", width])], [(last, F, ["N", width])], weights)


def long_loop(trips: int, work: int = 64) -> bytes:
    """A Loop of many trips, each a MatMul of work x work: x = x @ w."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["x_out"]),
            helper.make_node("Identity", ["c"], ["c_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", F, [work, work]),
        ],
        [
            helper.make_tensor_value_info("c_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_out", F, [work, work]),
        ],
    )
    nodes = [helper.make_node("Loop", ["n", "", "x0"], ["y"], body=body)]
    weights = {
        "n": np.array(trips, np.int64),
        "w": np.eye(work, dtype=np.float32),
    }
    return model(nodes, [("x0", F, [work, work])], [("y", F, [work, work])], weights)
