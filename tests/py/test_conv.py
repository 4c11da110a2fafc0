"""Convolutions and pools over layouts, groups, padding and shapes, against onnxruntime.

Covers conv/conv_node, conv_read, conv_variants, conv_depthwise and pool_node.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from compare import relative_error
from onnx import TensorProto, helper, numpy_helper

import engine

pytestmark = pytest.mark.full


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    weights: dict[str, np.ndarray],
    outputs: int = 1,
) -> bytes:
    """A model whose outputs are y0, y1, ... of the nodes."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in inputs.items()],
        [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None) for i in range(outputs)],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


def check(data: bytes, feeds: dict[str, np.ndarray], bound: float = 1e-5) -> None:
    """macart, optimized and not, against onnxruntime without optimizations."""
    want = engine.make_session(onnxruntime, data, False).run(None, feeds)
    for optimize in (True, False):
        for threads in (1, 2):
            session = engine.make_session(engine.load_engine(), data, optimize, threads)
            for got, expected in zip(session.run(None, feeds), want, strict=True):
                assert got.shape == expected.shape
                assert relative_error(got, expected) <= bound


def rand(seed: int, *shape: int) -> np.ndarray:
    """Reproducible normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


CHANNELS = [(1, 3, 8), (1, 32, 40), (2, 8, 12), (32, 32, 32), (4, 64, 128), (8, 8, 24), (3, 48, 33)]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("groups", "cin", "cout"), CHANNELS)
def test_conv2d(groups: int, cin: int, cout: int, dynamic: bool) -> None:
    """Groups of every kind, one- and two-sided padding, strides, dilations, SAME."""
    options = [
        {"pads": [1, 1, 1, 1]},
        {"strides": [2, 2], "pads": [0, 1, 2, 1]},
        {"dilations": [2, 1]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 1]},
        {"auto_pad": "SAME_LOWER", "strides": [1, 3]},
    ]
    weights = {"w": rand(1, cout, cin // groups, 3, 3), "b": rand(2, cout)}
    for kind, bias in itertools.product(options, (True, False)):
        names = ["x", "w", "b"] if bias else ["x", "w"]
        node = helper.make_node("Conv", names, ["y0"], group=groups, **kind)
        shape: list[int | str] = ["n", cin, "h", "w0"] if dynamic else [2, cin, 11, 14]
        used = {k: v for k, v in weights.items() if k in names}
        check(model([node], {"x": shape}, used), {"x": rand(3, 2, cin, 11, 14)})


@pytest.mark.parametrize(("groups", "cin", "cout"), CHANNELS)
def test_conv1d_and_weights_at_run_time(groups: int, cin: int, cout: int) -> None:
    """One spatial dim; weights that are inputs."""
    w = rand(4, cout, cin // groups, 5)
    node = helper.make_node("Conv", ["x", "w"], ["y0"], group=groups, pads=[2, 1], strides=[2])
    x = rand(5, 2, cin, 37)
    check(model([node], {"x": ["n", cin, "t"]}, {"w": w}), {"x": x})
    data = model([node], {"x": ["n", cin, "t"], "w": list(w.shape)}, {})
    check(data, {"x": x, "w": w})


def test_non_finite_values_stay_in_their_group() -> None:
    """Infinity in one group's input reaches no other group."""
    w, x = np.abs(rand(6, 16, 4, 3, 3)), rand(7, 1, 16, 8, 8)
    x[0, 5, 3, 3] = np.inf
    node = helper.make_node("Conv", ["x", "w"], ["y0"], group=4, pads=[1, 1, 1, 1])
    session = engine.make_session(
        engine.load_engine(), model([node], {"x": list(x.shape)}, {"w": w})
    )
    y = session.run(None, {"x": x})[0]
    assert np.isfinite(y[:, :4]).all() and np.isfinite(y[:, 8:]).all()
    assert np.isinf(y[0, 4:8, 2:5, 2:5]).all()
    assert np.isfinite(y[0, 4:8, 6:]).all()


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("spatial", [1, 2])
def test_pools(op: str, spatial: int) -> None:
    """Windows at borders, ceil_mode, counted padding, SAME."""
    options: list[dict[str, Any]] = [
        {"kernel_shape": [3] * spatial, "pads": [1] * (2 * spatial), "strides": [2] * spatial},
        {"kernel_shape": [2] * spatial, "strides": [2] * spatial, "ceil_mode": 1},
        {"kernel_shape": [3] * spatial, "auto_pad": "SAME_UPPER", "strides": [2] * spatial},
    ]
    if op == "AveragePool":
        options.append(options[0] | {"count_include_pad": 1})
    x = rand(8, 2, 21, *(13, 16)[:spatial])
    for kind in options:
        node = helper.make_node(op, ["x"], ["y0"], **kind)
        check(model([node], {"x": ["n", 21, *"hw"[:spatial]]}, {}), {"x": x})


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools(op: str) -> None:
    """Channels that do and do not fill blocks."""
    for channels in (3, 16, 40):
        node = helper.make_node(op, ["x"], ["y0"])
        x = rand(9, 2, channels, 7, 9)
        check(model([node], {"x": ["n", channels, "h", "w"]}, {}), {"x": x})


@pytest.mark.parametrize("spatial", [1, 2])
@pytest.mark.parametrize(("cin", "cout"), [(3, 5), (32, 16), (24, 40)])
def test_conv_transpose(cin: int, cout: int, spatial: int) -> None:
    """Phases of every kind: kernel equal to the stride, overlapping, cut by padding."""
    options: list[tuple[int, dict[str, Any]]] = [
        (2, {"strides": [2] * spatial}),
        (3, {"strides": [2] * spatial, "pads": [1] * (2 * spatial)}),
        (4, {"strides": [2] * spatial, "pads": [1] * spatial + [0] * spatial}),
        (3, {}),
        (5, {"strides": [3] * spatial, "pads": [2] * (2 * spatial)}),
        (3, {"strides": [2] * spatial, "output_padding": [1] * spatial}),
        (
            3,
            {
                "strides": [3] * spatial,
                "pads": [1] * (2 * spatial),
                "output_padding": [2] * spatial,
            },
        ),
        (2, {"strides": [3] * spatial}),
        (3, {"dilations": [2] * spatial}),
    ]
    x, b = rand(10, 2, cin, *(5, 9)[:spatial]), rand(12, cout)
    for kernel, kind in options:
        w = rand(11, cin, cout, *[kernel] * spatial)
        node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y0"], **kind)
        check(model([node], {"x": ["n", cin, *"hw"[:spatial]]}, {"w": w, "b": b}), {"x": x})


@pytest.mark.parametrize("k", [1, 3])
def test_long_sums_onto_their_own_residual(k: int) -> None:
    """More channels than one slice of the sum takes; the addend's memory becomes the output's."""
    rng = np.random.default_rng(k)
    cin, cout = 4096 // k, 64
    weights = {
        "w0": rng.standard_normal((cout, cin, 1, 1)) / cin**0.5,
        "w1": rng.standard_normal((cout, cin, k, k)) / (cin * k * k) ** 0.5,
        "w2": rng.standard_normal((cout, cout, 1, 1)) / cout**0.5,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["addend"]),
        helper.make_node("Conv", ["x", "w1"], ["long"], pads=[k // 2] * 4),
        helper.make_node("Add", ["long", "addend"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, cin, 7, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v.astype(np.float32), n) for n, v in weights.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    feeds = {"x": rng.standard_normal((1, cin, 7, 7)).astype(np.float32)}
    (want,) = onnxruntime.InferenceSession(data).run(None, feeds)
    (got,) = engine.load_engine().InferenceSession(data).run(None, feeds)
    assert relative_error(got, want) < 1e-5


@pytest.mark.parametrize("scale", [2.0**-70, 2.0**65])
def test_shared_weights_that_bf16_parts_cannot_hold(scale: float) -> None:
    """Packed for a stride that never asks for parts, then wanted in parts by another session."""
    ort = engine.load_engine()
    weights = {"w": rand(1, 64, 64, 3, 3) * np.float32(scale)}
    data = {
        stride: model(
            [helper.make_node("Conv", ["x", "w"], ["y0"], strides=[stride] * 2, pads=[1] * 4)],
            {"x": [1, 64, 5, 5]},
            weights,
        )
        for stride in (1, 5)
    }
    x = {"x": rand(2, 1, 64, 5, 5)}
    (want,) = engine.make_session(onnxruntime, data[1], False).run(None, x)
    first = engine.make_session(ort, data[5], True)
    session = engine.make_session(ort, data[1], True)
    try:
        for precision in ("highest", "high", "medium"):
            ort.set_float32_matmul_precision(precision)
            assert relative_error(session.run(None, x)[0], want) <= 1e-5
    finally:
        ort.set_float32_matmul_precision("highest")
    del first


LINES: list[tuple[int, int, int, int, dict[str, Any]]] = [
    (1, 80, 384, 3000, {"pads": [1, 1]}),
    (1, 384, 384, 3000, {"pads": [1, 1], "strides": [2]}),
    (2, 128, 96, 7001, {"pads": [3, 0], "dilations": [2], "strides": [3]}),
    (1, 64, 64, 20000, {"pads": [0, 4], "dilations": [2], "group": 64}),
    (1, 40, 24, 25000, {"auto_pad": "SAME_UPPER", "strides": [2]}),
]


@pytest.mark.parametrize(("batch", "cin", "cout", "width", "attrs"), LINES)
def test_long_lines_go_in_pieces(
    batch: int, cin: int, cout: int, width: int, attrs: dict[str, Any]
) -> None:
    """Rows of thousands of samples, also with a residual, take a few MiB of scratch."""
    conv = helper.make_node("Conv", ["x", "w", "b"], ["y0"], kernel_shape=[3], **attrs)
    group = int(attrs.get("group", 1))
    weights = {"w": rand(1, cout, cin // group, 3), "b": rand(2, cout)}
    data = model([conv], {"x": [batch, cin, width]}, weights)
    x = rand(3, batch, cin, width)
    check(data, {"x": x}, 1e-4)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], kernel_shape=[3], **attrs),
        helper.make_node("Add", ["a", "r"], ["s"]),
        helper.make_node("Relu", ["s"], ["y0"]),
    ]
    session = engine.make_session(engine.load_engine(), data, True, 2)
    shape = session.run(None, {"x": x})[0].shape
    assert session._sess.stats()["scratch_bytes"] < 9 << 20
    data = model(nodes, {"x": [batch, cin, width], "r": list(shape)}, weights)
    check(data, {"x": x, "r": rand(4, *shape)}, 1e-4)


@pytest.mark.parametrize("scale", [1.0, 1e30])
@pytest.mark.parametrize("shape", [(64, 19, 23), (32, 160, 160)])
def test_values_between_convolutions(shape: tuple[int, int, int], scale: float) -> None:
    """A value that one convolution reads may be made of what tiles take: no bit of what that gives
    differs from a graph in which the value is an output as well; weights out of the range of parts
    are read with floats."""
    ort = engine.load_engine()
    channels, height, width = shape
    weights = {"w": rand(1, channels, 32, 3, 3), "v": rand(2, 32, channels, 1, 1) * scale}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["y1"]),
        helper.make_node("Conv", ["y1", "v"], ["y0"]),
    ]
    x = rand(3, 2, 32, height, width)
    x[0, 3, 4, 5], x[1, 1, 1, 1] = np.inf, np.nan
    alone = engine.make_session(ort, model(nodes, {"x": list(x.shape)}, weights), True)
    both = engine.make_session(ort, model(nodes, {"x": list(x.shape)}, weights, 2), True)
    (want,) = engine.make_session(
        onnxruntime, model(nodes, {"x": list(x.shape)}, weights), True
    ).run(None, {"x": x})
    good = np.isfinite(want)
    try:
        bounds = {"highest": 1e-5, "high": 1e-4, "medium": 2e-2}
        for precision, bound in bounds.items():
            ort.set_float32_matmul_precision(precision)
            got, other = alone.run(None, {"x": x})[0], both.run(None, {"x": x})[0]
            assert np.array_equal(got, other, equal_nan=True)
            assert np.array_equal(np.isfinite(got), good)
            assert relative_error(got[good], want[good]) <= bound
    finally:
        ort.set_float32_matmul_precision("highest")
