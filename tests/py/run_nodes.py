"""Single nodes or a few, run as a model by the engine and by onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

import engine


def run_nodes(
    nodes: list[onnx.NodeProto],
    feeds: dict[str, np.ndarray],
    outputs: dict[str, int],
    opset: int = 25,
    module: str | None = None,
    constants: dict[str, np.ndarray] | None = None,
    optimize: bool = True,
) -> list[Any]:
    """Runs nodes as a model; outputs by name with their element types."""
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in feeds.items()
    ]
    outs = [helper.make_tensor_value_info(n, t, None) for n, t in outputs.items()]
    weights = [onnx.numpy_helper.from_array(a, n) for n, a in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outs, weights)
    domains = {node.domain for node in nodes} | {""}
    opsets = [helper.make_opsetid(d, opset if d == "" else 1) for d in sorted(domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = engine.make_session(engine.load_engine(module), model.SerializeToString(), optimize)
    return session.run(None, feeds)


def both(
    nodes: list[onnx.NodeProto],
    feeds: dict[str, np.ndarray],
    outputs: dict[str, int],
    opset: int = 21,
    constants: dict[str, np.ndarray] | None = None,
) -> tuple[list[Any], list[Any]]:
    """Results of the engine and of onnxruntime."""
    ours = run_nodes(nodes, feeds, outputs, opset, None, constants)
    theirs = run_nodes(nodes, feeds, outputs, opset, "onnxruntime", constants)
    return ours, theirs
