"""Small graphs for tests: built from a few lines, run by MacaRT and by onnxruntime."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import engine

Shape = list[int | str]
_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(bool): TensorProto.BOOL,
}


class Graph:
    """A graph under construction: `add` returns the name of the new value."""

    def __init__(self, opset: int = 18) -> None:
        self.opset = opset
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.weights: list[Any] = []
        self.feeds: dict[str, np.ndarray] = {}

    def input(self, name: str, value: np.ndarray, shape: Shape | None = None) -> str:
        """A graph input with its feed; shape: as declared (names are free dims)."""
        kind = _TYPES[value.dtype]
        dims = list(value.shape) if shape is None else shape
        self.inputs.append(helper.make_tensor_value_info(name, kind, dims))
        self.feeds[name] = value
        return name

    def const(self, value: Any) -> str:
        """An initializer."""
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(
        self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any
    ) -> Any:
        """A node; the name of its output, or a list of names."""
        names = [f"v{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def model(self, *outputs: str) -> bytes:
        """The serialized model with these outputs, whose shapes are left open."""
        results = [helper.make_empty_tensor_value_info(name) for name in outputs]
        graph = helper.make_graph(self.nodes, "g", self.inputs, results, self.weights)
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return model.SerializeToString()


def run(model: bytes, feeds: dict[str, np.ndarray], optimize: bool = True, threads: int = 1) -> Any:
    """MacaRT's outputs."""
    session = engine.make_session(engine.load_engine("macart"), model, optimize, threads)
    return session.run(None, feeds)


def run_peer(model: bytes, feeds: dict[str, np.ndarray]) -> Any:
    """onnxruntime's outputs, not optimized."""
    session = engine.make_session(engine.load_engine("onnxruntime"), model, False)
    return session.run(None, feeds)


def kernels(model: bytes, feeds: dict[str, np.ndarray]) -> list[tuple[str, str]]:
    """(operator, kernel) of every step of one optimized run, from the profile."""
    module = engine.load_engine("macart")
    options = module.SessionOptions()
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = os.path.join(folder, "p")
        session = module.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    steps = [event["args"] for event in events if event.get("cat") == "Node"]
    return [(step["op_name"], step["kernel"]) for step in steps]


def check(graph: Graph, *outputs: str, bound: float = 2e-6, threads: int = 1) -> None:
    """Optimized and plain runs agree with onnxruntime within `bound` of the largest value."""
    model = graph.model(*outputs)
    want = run_peer(model, graph.feeds)
    for optimize in (True, False):
        got = run(model, graph.feeds, optimize, threads)
        for have, expected in zip(got, want, strict=True):
            assert have.dtype == expected.dtype and have.shape == expected.shape
            assert (np.isnan(have) == np.isnan(expected)).all()
            finite = np.isfinite(expected)
            assert (
                have[~finite & ~np.isnan(expected)] == expected[~finite & ~np.isnan(expected)]
            ).all()
            scale = max(1e-30, float(np.abs(expected[finite]).max(initial=0.0)))
            error = float(
                np.abs(have[finite].astype(np.float64) - expected[finite]).max(initial=0.0)
            )
            assert error <= bound * scale, f"optimize={optimize}: {error / scale:.2e}"
