"""ConvTranspose of float32 (conv_transpose.c, conv_transpose_node.c) against onnxruntime, alone
and between convolutions that keep values in channel blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from run_nodes import both, run_nodes

import macart as ort

pytestmark = pytest.mark.full

# cin, cout, kernel, stride, pad, output_padding, height and width
SHAPES = [
    (24, 24, 2, 2, 0, 0, (7, 9)),
    (24, 1, 2, 2, 0, 0, (7, 9)),
    (4, 2, 2, 2, 0, 0, (30, 31)),
    (3, 4, 3, 3, 0, 1, (5, 4)),  # pixels that no input reaches
    (3, 1, 3, 3, 0, 2, (5, 1)),
    (130, 48, 2, 2, 0, 1, (32, 35)),
    (16, 3, 4, 4, 0, 0, (3, 5)),
    (16, 32, 4, 2, 1, 0, (5, 6)),
    (20, 17, 3, 2, 1, 1, (8, 5)),
    (3, 40, 3, 1, 1, 0, (6, 7)),
    (32, 16, 5, 3, 2, 1, (6, 7)),
    (16, 16, 3, 2, 0, 0, (4, 4)),
    (16, 16, 3, 2, 2, 0, (5, 5)),  # too much padding for the kernel: the reference
    (16, 20, 2, 3, 0, 0, (5, 4)),  # a phase without a tap: the reference
    (64, 64, 2, 2, 0, 0, (40, 40)),
    (128, 48, 2, 2, 0, 0, (32, 35)),  # all phases at once on tiles
    (160, 33, 3, 3, 0, 0, (24, 20)),
]


def weights(cin: int, cout: int, k: int) -> dict[str, np.ndarray]:
    """Constant weights and a bias."""
    rng = np.random.default_rng(cin + cout)
    return {
        "w": rng.standard_normal((cin, cout, k, k)).astype(np.float32),
        "b": rng.standard_normal(cout).astype(np.float32),
    }


def close(ours: list[Any], theirs: list[Any]) -> None:
    """Equal but for rounding, measured against the largest value."""
    assert ours[0].shape == theirs[0].shape
    scale = float(np.abs(theirs[0]).max())
    np.testing.assert_allclose(ours[0], theirs[0], rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("batch", [1, 2])
def test_alone(shape: tuple[Any, ...], batch: int) -> None:
    """Plain values in and out."""
    cin, cout, k, s, p, extra, size = shape
    x = np.random.default_rng(k).standard_normal((batch, cin, *size)).astype(np.float32)
    attrs = {"strides": [s, s], "pads": [p] * 4, "output_padding": [extra] * 2}
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], **attrs)
    close(*both([node], {"x": x}, {"y": TensorProto.FLOAT}, 22, weights(cin, cout, k)))


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(("k", "s"), [(3, 2), (4, 2), (2, 2), (5, 3)])
def test_same_padding(mode: str, k: int, s: int) -> None:
    """Padding that follows from the size of a run; no bias; one dim of strides."""
    x = np.random.default_rng(k).standard_normal((1, 16, 5, 6)).astype(np.float32)
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[s, s], auto_pad=mode)
    constants = {"w": weights(16, 20, k)["w"]}
    close(*both([node], {"x": x}, {"y": TensorProto.FLOAT}, 22, constants))


def test_one_dim() -> None:
    """Signals."""
    x = np.random.default_rng(1).standard_normal((2, 16, 21)).astype(np.float32)
    w = np.random.default_rng(2).standard_normal((16, 33, 5)).astype(np.float32)
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2], pads=[1, 2])
    close(*both([node], {"x": x}, {"y": TensorProto.FLOAT}, 22, {"w": w}))


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("shape", [s for s in SHAPES if s[2] >= s[3]], ids=str)
def test_between_convolutions(shape: tuple[Any, ...], optimize: bool) -> None:
    """Conv, ConvTranspose, Relu, Conv: values stay in blocks."""
    cin, cout, k, s, p, extra, size = shape
    rng = np.random.default_rng(7)
    x = rng.standard_normal((1, 8, *size)).astype(np.float32)
    constants = weights(cin, cout, k) | {
        "v": rng.standard_normal((cin, 8, 1, 1)).astype(np.float32),
        "u": rng.standard_normal((18, cout, 3, 3)).astype(np.float32),
    }
    attrs = {"strides": [s, s], "pads": [p] * 4, "output_padding": [extra] * 2}
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["t"]),
        helper.make_node("ConvTranspose", ["t", "w", "b"], ["r"], **attrs),
        helper.make_node("Relu", ["r"], ["q"]),
        helper.make_node("Conv", ["q", "u"], ["y"], pads=[1, 1, 1, 1]),
    ]
    kinds = {"y": TensorProto.FLOAT}
    ours = run_nodes(nodes, {"x": x}, kinds, 22, None, constants, optimize)
    close(ours, run_nodes(nodes, {"x": x}, kinds, 22, "onnxruntime", constants))


def test_precision() -> None:
    """Each mode against float64, switched at run time, and as a session's option."""
    rng = np.random.default_rng(11)
    x = rng.standard_normal((2, 128, 30, 33)).astype(np.float32)
    w = rng.standard_normal((128, 48, 2, 2)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 48, 60, 66])],
        [numpy_helper.from_array(w, "w")],
    )
    imports = [helper.make_opsetid("", 22)]
    data = helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()

    def product(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.einsum("nchw,cmyx->nmhywx", x, w, optimize=True).reshape(2, 48, 60, 66)

    x64, w64 = x.astype(np.float64), w.astype(np.float64)
    want, mass = product(x64, w64), product(np.abs(x64), np.abs(w64))
    bounds = {"highest": 3e-7, "high": 2e-5, "medium": 8e-3}
    switched = ort.InferenceSession(data)
    try:
        for mode in (*bounds, "highest"):
            options = ort.SessionOptions()
            options.add_session_config_entry("session.float32_matmul_precision", mode)
            y = ort.InferenceSession(data, options).run(None, {"x": x})[0]
            assert np.max(np.abs(y - want) / mass) < bounds[mode]
            ort.set_float32_matmul_precision(mode)
            np.testing.assert_array_equal(switched.run(None, {"x": x})[0], y)
    finally:
        ort.set_float32_matmul_precision("highest")
