"""What passes and fusions make of convolutions: the graph before and after, and equal results.

Covers conv_bn.c, conv_fuse.c, band_fuse.c, band_node.c, layout.c, c16_roles.c, c16_node.c,
act_node.c, conv_node.c and the operators of fused_conv.c and fused_band.c, which every check takes
apart again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from compare import relative_error
from graphs import kernels
from onnx import TensorProto, helper, numpy_helper

import engine

pytestmark = pytest.mark.full

Weights = dict[str, np.ndarray]
Ops = Callable[[bytes, str], list[str]]


def rand(seed: int, *shape: int) -> np.ndarray:
    """Reproducible normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def node(op: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    """A node; inputs are separated by spaces."""
    return helper.make_node(op, inputs.split(), [output], **attributes)


def model(
    nodes: list[onnx.NodeProto], weights: Weights, channels: int = 32, outputs: str = "y"
) -> bytes:
    """Input x of [n, channels, h, w]; the named outputs."""
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [tensor("x", TensorProto.FLOAT, ["n", channels, "h", "w"])],
        [tensor(name, TensorProto.FLOAT, None) for name in outputs.split()],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


def conv_weights(cin: int = 32, cout: int = 32, name: str = "w", k: int = 3) -> Weights:
    """Weights of a convolution, scaled to keep the variance."""
    return {name: rand(3, cout, cin, k, k) / np.float32((cin * k * k) ** 0.5)}


def bn_weights(channels: int = 32) -> Weights:
    """Parameters of BatchNormalization: s, o, m, v."""
    weights = {name: rand(5 + i, channels) for i, name in enumerate("som")}
    return weights | {"v": np.abs(rand(9, channels)) + np.float32(0.5)}


@pytest.fixture
def ops(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ops:
    """Operators of the optimized graph, in order, without the passes named."""

    def read(data: bytes, without: str = "") -> list[str]:
        monkeypatch.setenv("MRT_PRINT_IR", "1")
        monkeypatch.setenv("MRT_PASSES", without)
        capfd.readouterr()
        engine.make_session(engine.load_engine(), data)
        monkeypatch.delenv("MRT_PRINT_IR")
        monkeypatch.delenv("MRT_PASSES")
        return re.findall(r" = ([\w.]+)\(", capfd.readouterr().err)

    return read


def configured(data: bytes, key: str, value: str) -> onnxruntime.InferenceSession:
    """A session with a configuration entry."""
    module = engine.load_engine()
    options = module.SessionOptions()
    options.add_session_config_entry(key, value)
    return module.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def check(data: bytes, channels: int = 32, bound: float = 2e-5) -> None:
    """Optimized, unoptimized and decomposed equal onnxruntime, for two shapes in one session."""
    reference = engine.make_session(onnxruntime, data, False)
    sessions = [engine.make_session(engine.load_engine(), data, opt) for opt in (True, False)]
    sessions.append(configured(data, "session.macart.decompose", "1"))
    for shape in ((1, channels, 9, 12), (2, channels, 6, 5)):
        x = rand(sum(shape), *shape)
        want = reference.run(None, {"x": x})
        for session in sessions:
            for got, expected in zip(session.run(None, {"x": x}), want, strict=True):
                assert got.shape == expected.shape
                assert relative_error(got, expected) <= bound


PAD = {"pads": [1, 1, 1, 1]}
# Nodes after a convolution that writes c, what they need, and the activation's name.
ACTIVATIONS = {
    "Relu": ([node("Relu", "c", "y")], {}),
    "Clip": (
        [node("Clip", "c lo hi", "y")],
        {"lo": np.array(0, np.float32), "hi": np.array(0.5, np.float32)},
    ),
    "one-sided Clip": ([node("Clip", "c lo", "y")], {"lo": np.array(0.1, np.float32)}),
    "LeakyRelu": ([node("LeakyRelu", "c", "y", alpha=0.2)], {}),
    "Sigmoid": ([node("Sigmoid", "c", "y")], {}),
    "Tanh": ([node("Tanh", "c", "y")], {}),
    "HardSigmoid": ([node("HardSigmoid", "c", "y", alpha=0.3, beta=0.4)], {}),
    "Elu": ([node("Elu", "c", "y", alpha=0.7)], {}),
    "HardSwish": ([node("HardSwish", "c", "y")], {}),
    "affine HardSwish": (
        [node("HardSwish", "c", "e"), node("Mul", "f e", "g"), node("Add", "g b", "y")],
        {"f": np.array([0.7], np.float32), "b": np.array(-0.3, np.float32)},
    ),
    "Mish": ([node("Mish", "c", "y")], {}),
    "Silu": ([node("Sigmoid", "c", "g"), node("Mul", "c g", "y")], {}),
    "gated HardSigmoid": (
        [node("HardSigmoid", "c", "g", alpha=1 / 6, beta=0.5), node("Mul", "g c", "y")],
        {},
    ),
}


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_epilogue(ops: Ops, name: str, residual: bool) -> None:
    """One operator of the convolution, the residual sum and the activation."""
    tail, constants = ACTIVATIONS[name]
    first = [node("Conv", "x w", "a" if residual else "c", **PAD)]
    if residual:
        first.append(node("Add", "x a", "c"))
    data = model(first + tail, conv_weights() | constants)
    assert [op for op in ops(data) if op != "macart.Reorder"] == ["macart.Conv"]
    check(data)


@pytest.mark.parametrize(("c1", "c2", "cout"), [(32, 32, 64), (16, 48, 70), (48, 16, 96)])
def test_sum_of_two_convolutions(ops: Ops, c1: int, c2: int, cout: int) -> None:
    """A projected shortcut (conv_sum_fuse.c): one convolution of both inputs side by side."""
    weights = conv_weights(32, c1, "u", 3) | conv_weights(32, c2, "v", 1)
    weights |= conv_weights(c1, cout, "w", 1) | conv_weights(c2, cout, "z", 1)
    weights["b"] = rand(4, cout)
    nodes = [
        node("Conv", "x u", "p", pads=[1] * 4),
        node("Conv", "x v", "q"),
        node("Conv", "p w b", "r"),
        node("Conv", "q z", "s"),
        node("Add", "r s", "t"),
        node("Relu", "t", "y"),
    ]
    data = model(nodes, weights)
    check(data)
    found = [op for op in ops(data) if op != "macart.Reorder"]
    assert found == ["Conv", "Conv", "Concat", "macart.Conv"]
    assert "Concat" not in ops(data, "-conv_sum")


def test_sums_of_convolutions_that_stay(ops: Ops) -> None:
    """A stride, few results, one input, a result that is read, other channels than blocks."""

    def found(c: int, cout: int, x: str = "p q", **attributes: object) -> list[str]:
        weights = conv_weights(32, c, "u", 1) | conv_weights(32, c, "v", 1)
        weights |= conv_weights(c, cout, "w", 1) | conv_weights(c, cout, "z", 1)
        a, b = x.split()
        nodes = [
            node("Conv", "x u", "p"),
            node("Conv", "x v", "q"),
            node("Conv", f"{a} w", "r", **attributes),
            node("Conv", f"{b} z", "s", **attributes),
            node("Add", "r s", "y"),
        ]
        data = model(nodes, weights, outputs="y p q")
        check(data)
        return ops(data)

    assert "Concat" in found(32, 64)
    assert "Concat" not in found(32, 64, strides=[2, 2])
    assert "Concat" not in found(32, 63)
    assert "Concat" not in found(32, 64, "p p")
    assert "Concat" not in found(24, 64)


def test_epilogue_leaves_what_others_read(ops: Ops) -> None:
    """A convolution's output that is a result, or is read twice, stays."""
    nodes = [node("Conv", "x w", "c", **PAD), node("Relu", "c", "y")]
    data = model(nodes, conv_weights(), outputs="y c")
    assert "macart.Conv" not in ops(data)
    check(data)
    nodes.append(node("Neg", "c", "z"))
    data = model(nodes, conv_weights(), outputs="y z")
    assert "macart.Conv" not in ops(data)
    check(data)


def test_batch_normalization_is_folded(ops: Ops) -> None:
    """Conv + BatchNormalization + Relu is one operator; without the pass there are more."""
    for bias in (False, True):
        nodes = [
            node("Conv", "x w b" if bias else "x w", "c", **PAD),
            node("BatchNormalization", "c s o m v", "d", epsilon=1e-3),
            node("Relu", "d", "y"),
        ]
        weights = conv_weights() | bn_weights() | ({"b": rand(11, 32)} if bias else {})
        data = model(nodes, weights)
        assert [op for op in ops(data) if op != "macart.Reorder"] == ["macart.Conv"]
        assert "BatchNormalization" in ops(data, "-conv_fold")
        check(data)


def test_constants_and_pads_are_folded(ops: Ops) -> None:
    """Mul and Add by channel constants, of every rank; zero Pad before the convolution."""
    for shape in ((32, 1, 1), (1, 32, 1, 1), (1,), ()):
        nodes = [
            node("Pad", "x p", "q"),
            node("Conv", "q w", "c", pads=[0, 1, 0, 0]),
            node("Mul", "c f", "d"),
            node("Add", "g d", "y"),
        ]
        pads = np.array([0, 0, 1, 0, 0, 0, 2, 1])
        weights = conv_weights() | {"f": rand(1, *shape), "g": rand(2, *shape), "p": pads}
        data = model(nodes, weights)
        assert [op for op in ops(data) if op != "macart.Reorder"] == ["Conv"]
        assert len(ops(data, "-conv_fold")) > 3
        check(data)


def test_what_must_not_be_folded(ops: Ops) -> None:
    """A Pad of channels, a Pad that is not zero, a constant along another axis."""
    for pads, value in (([0, 8, 0, 0, 0, 8, 0, 0], 0), ([0, 0, 1, 1, 0, 0, 1, 1], 1)):
        cin = 32 + pads[1] + pads[5]
        nodes = [node("Pad", "x p f", "q"), node("Conv", "q w", "y")]
        constants = {"p": np.array(pads), "f": np.array(value, np.float32)}
        data = model(nodes, conv_weights(cin) | constants)
        assert "Pad" in ops(data)
        check(data)
    nodes = [node("Conv", "x w", "c", **PAD), node("Mul", "c f", "y")]
    data = model(nodes, conv_weights() | {"f": rand(1, 1)})
    assert "Mul" not in ops(data)


def test_squeeze_excite_stays_in_blocks(ops: Ops) -> None:
    """Pool, two small convolutions and the product by channel need no reorder between."""
    nodes = [
        node("Conv", "x w", "c", **PAD),
        node("GlobalAveragePool", "c", "p"),
        node("Conv", "p u", "q"),
        node("Relu", "q", "r"),
        node("Conv", "r v", "s"),
        node("Sigmoid", "s", "t"),
        node("Mul", "c t", "z"),
        node("Conv", "z w", "y", **PAD),
    ]
    for channels in (32, 40):
        weights = conv_weights(channels, channels)
        weights |= conv_weights(channels, 8, "u", 1) | conv_weights(8, channels, "v", 1)
        data = model(nodes, weights, channels)
        found = ops(data)
        assert found.count("macart.Reorder") == 1  # the input; the last one writes plain itself
        # Activations are in their convolutions; Winograd's budget may name others macart.Conv too.
        assert found.count("macart.Conv") + found.count("Conv") == 4
        assert "Relu" not in found and "Sigmoid" not in found
        check(data, channels)


def band_model(
    channels: int, wide: int, first: str, pad: dict[str, object], stride: int, outputs: str = "y"
) -> bytes:
    """Two inverted residuals behind a convolution; the depthwise ones are 5x5."""
    nodes = [node("Conv", "x w", "a", **PAD)]
    weights = conv_weights(channels, channels)
    weights |= {"zero": np.array(0, np.float32), "six": np.array(1, np.float32)}
    for i, (value, step) in enumerate((("a", 1), ("j0", stride))):
        c = {name: f"{name}{i}" for name in "e f g h d i o j".split()}
        nodes += [
            node("Conv", f"{value} u{i} b{i}", c["e"]),
            node("Clip", f"{c['e']} zero six", c["f"]),
            node("Conv", f"{c['f']} v{i} b{i}", c["d"], group=wide, strides=[step] * 2, **pad),
            node(first, c["d"], c["g"]),
            *([node("Mul", f"{c['g']} {c['d']}", c["h"])] if first == "Sigmoid" else []),
            node("Conv", f"{c['h'] if first == 'Sigmoid' else c['g']} z{i}", c["o"]),
            node("Add", f"{c['o']} {value}", c["j"]) if step == 1 else node("Relu", c["o"], c["j"]),
        ]
        weights |= conv_weights(channels, wide, f"u{i}", 1) | conv_weights(1, wide, f"v{i}", 5)
        weights |= conv_weights(wide, channels, f"z{i}", 1) | {f"b{i}": rand(7 + i, wide)}
    return model([*nodes, node("Conv", "j1 w", "y", **PAD)], weights, channels, outputs)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("first", ["Relu", "Sigmoid", "HardSwish"])
def test_inverted_residuals_are_bands(ops: Ops, first: str, stride: int) -> None:
    """Expanding, depthwise and projecting convolutions are one operator, whatever the channels."""
    for channels, wide in ((16, 96), (24, 40)):
        data = band_model(channels, wide, first, {"pads": [2, 2, 2, 2]}, stride)
        assert ops(data).count("macart.ConvBand") == 2
        assert "macart.ConvBand" not in ops(data, "-conv_band")
        check(data, channels)


def test_bands_need_the_padding_in_numbers(ops: Ops) -> None:
    """auto_pad is resolved where sizes are known; else the convolutions stay apart."""
    data = band_model(16, 96, "Relu", {"auto_pad": "SAME_UPPER", "kernel_shape": [5, 5]}, 1)
    assert "macart.ConvBand" not in ops(data)
    check(data, 16)
    proto = onnx.load_from_string(data)
    for i, size in enumerate((1, 16, 65, 70)):
        proto.graph.input[0].type.tensor_type.shape.dim[i].dim_value = size
    assert ops(proto.SerializeToString()).count("macart.ConvBand") == 2


def test_bands_leave_what_others_read(ops: Ops) -> None:
    """A wide value that is a result is made; what is behind it is still fused."""
    data = band_model(16, 96, "Relu", {"pads": [2, 2, 2, 2]}, 1, "y f0 g1")
    assert ops(data).count("macart.ConvBand") == 2
    check(data, 16)


def test_layout_of_joins_and_borders(ops: Ops) -> None:
    """Point-wise nodes, Concat and pools in blocks; plain readers and results get plain copies."""
    nodes = [
        node("Conv", "x w", "a", **PAD),
        node("Conv", "x u", "b", **PAD),
        node("Neg", "a", "an"),
        node("Sub", "an k", "s"),
        node("Div", "b d", "t"),
        node("Concat", "s t", "j", axis=1),
        node("BatchNormalization", "j s0 o m v", "n"),
        node("MaxPool", "n", "p", kernel_shape=[2, 2]),
        node("Conv", "p z", "y", **PAD),
        node("Transpose", "n", "y2", perm=[0, 2, 3, 1]),
        node("Abs", "t", "y3"),
    ]
    for ca in (32, 48):
        channels = ca + 24
        weights = conv_weights(32, ca) | conv_weights(32, 24, "u") | conv_weights(channels, 16, "z")
        batch_norm = bn_weights(channels)
        weights |= {"k": rand(4, ca, 1, 1), "d": np.abs(rand(6, 1, 24, 1, 1)) + np.float32(1)}
        weights |= {"s0": batch_norm["s"], "o": batch_norm["o"]}
        weights |= {"m": batch_norm["m"], "v": batch_norm["v"]}
        data = model(nodes, weights, outputs="y y2 y3")
        assert 2 <= ops(data).count("macart.Reorder") <= 4
        check(data)


@pytest.mark.parametrize("last", [20, 32])
def test_dense_layers_are_not_copied(ops: Ops, last: int) -> None:
    """Concat, BatchNormalization and Relu read the joined values where they are (c16_join)."""
    norm = "BatchNormalization"
    nodes = [
        node("Conv", "x w", "a", **PAD),
        node("Conv", "a w", "b", **PAD),
        node("Concat", "a b", "ab", axis=1),
        node(norm, "ab s1 o1 m1 v1", "n1", epsilon=1e-3),
        node("Relu", "n1", "r1"),
        node("Conv", "r1 k", "c", **PAD),
        node("Concat", "ab c", "abc", axis=1),
        node(norm, "abc s2 o2 m2 v2", "n2"),
        node("LeakyRelu", "n2", "r2", alpha=0.2),
        node("Conv", "r2 z", "y", **PAD),
        node(norm, "a s3 o3 m3 v3", "n3"),
        node("Relu", "n3", "r3"),
        node("Conv", "r3 w", "y2", **PAD),
    ]
    weights = conv_weights() | conv_weights(64, last, "k") | conv_weights(64 + last, 16, "z")
    for i, channels in enumerate((64, 64 + last, 32), 1):
        weights |= {f"{k}{i}": v for k, v in bn_weights(channels).items()}
    data = model(nodes, weights, outputs="y y2")
    found = ops(data)
    assert found.count("macart.JoinNorm") == 3
    assert not {"Concat", norm, "Relu"} & set(found)
    assert "Concat" in ops(data, "-join_norm")
    check(data)
    data = model(nodes, weights, outputs="y y2 abc")  # a reader that wants the joined value
    assert ops(data).count("Concat") == 2
    check(data)


@pytest.mark.parametrize("channels", [20, 32])
def test_transposes_read_and_make_blocks(ops: Ops, channels: int) -> None:
    """A block of ConvNeXt: channels-last between convolutions, no reorder (c16_last)."""
    dw = {"group": channels, "pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", "x w", "a", **PAD),
        node("Conv", "a k", "b", **dw),
        node("Transpose", "b", "bt", perm=[0, 2, 3, 1]),
        node("LayerNormalization", "bt g", "n", axis=-1),
        node("MatMul", "n m", "p"),
        node("Add", "p g", "q"),
        node("Mul", "s q", "r"),
        node("Transpose", "r", "rt", perm=[0, 3, 1, 2]),
        node("Add", "a rt", "c"),
        node("Conv", "c k", "d", **dw),
        node("Transpose", "d", "dt", perm=[0, 2, 3, 1]),
        node("Mul", "dt s", "e"),
        node("Transpose", "e", "et", perm=[0, 3, 1, 2]),
        node("Add", "c et", "f"),
        node("Conv", "f w2", "y", **PAD),
    ]
    weights = conv_weights(32, channels) | conv_weights(channels, 16, "w2")
    weights |= {"k": rand(7, channels, 1, 3, 3), "m": rand(8, channels, channels) / np.float32(6)}
    weights |= {"g": rand(9, channels), "s": rand(10, channels)}
    data = model(nodes, weights)
    found = ops(data)
    assert found.count("macart.Reorder") <= 1  # the input
    assert found.count("Add") <= 1  # the second; the first is the product's
    assert found.count("Transpose") == 5  # where the stream is entered, too
    check(data)


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [1, 2], [2]])
@pytest.mark.parametrize("keep", [0, 1])
def test_means_over_images_read_blocks(axes: list[int], keep: int) -> None:
    """ReduceMean as classifiers end: no reorder in front (c16_roles, pool_node)."""
    nodes = [node("Conv", "x w", "a", **PAD), node("ReduceMean", "a axes", "y", keepdims=keep)]
    data = model(nodes, conv_weights(32, 20) | {"axes": np.array(axes)})
    kernel = dict(kernels(data, {"x": rand(1, 1, 32, 9, 12)}))["ReduceMean"]
    assert kernel == ("pool_f32" if sorted(a % 4 for a in axes) == [2, 3] else "reduce_f32")
    check(data)


def test_no_blocks_without_convolutions(ops: Ops) -> None:
    """Point-wise graphs stay plain."""
    data = model([node("Relu", "x", "a"), node("Neg", "a", "y")], {})
    assert "macart.Reorder" not in ops(data)
    check(data)


def test_values_captured_by_a_subgraph_are_plain(ops: Ops) -> None:
    """A branch of If reads the convolution's output."""
    branch = [
        helper.make_graph(
            [node(op, "c", name)],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for op, name in (("Neg", "t0"), ("Abs", "t1"))
    ]
    nodes = [
        node("Conv", "x w", "c", **PAD),
        node("Conv", "c w", "d", **PAD),
        node("If", "f", "e", then_branch=branch[0], else_branch=branch[1]),
        node("Add", "d e", "y"),
    ]
    data = model(nodes, conv_weights() | {"f": np.array(True)})
    ops(data)
    check(data)


@pytest.mark.parametrize("square", [False, True])
def test_sizes_known_at_run_time_only(square: bool) -> None:
    """A slice that ends where an input says; two dims of one name that differ."""
    nodes = [
        node("Cast", "last", "end", to=TensorProto.INT64),
        node("Slice", "x zero end axis", "r"),
        node("Conv", "r w", "a", **PAD),
        node("Neg", "a", "b"),
        node("Conv", "b w", "y", **PAD),
    ]
    weights = conv_weights(24, 24) | {"last": np.array([5], np.float32)}
    weights |= {"zero": np.array([0]), "axis": np.array([2])}
    proto = onnx.load_from_string(model(nodes, weights, 24))
    tensor = helper.make_tensor_value_info
    sides = "hh" if square else "hw"
    proto.graph.input[0].CopyFrom(tensor("x", TensorProto.FLOAT, ["n", 24, *sides]))
    proto.graph.input.append(tensor("last", TensorProto.FLOAT, [1]))
    data = proto.SerializeToString()
    check(data, 24)


def test_winograd_switch() -> None:
    """The session key turns it off, and both ways are as exact as onnxruntime."""
    data = model([node("Conv", "x w", "y", **PAD)], conv_weights(64, 64), 64)
    x = rand(1, 1, 64, 40, 40)
    ways = [configured(data, "session.macart.winograd", v).run(None, {"x": x})[0] for v in "10"]
    if os.environ.get("MRT_CPU_ISA") == "avx2":  # tiles take over where a machine has them
        assert not np.array_equal(*ways)
    want = engine.make_session(onnxruntime, data, False).run(None, {"x": x})[0]
    for way in ways:
        assert relative_error(way, want) < 2e-6


def test_winograd_switch_without_tiles() -> None:
    """The same where there is nothing faster."""
    command = [sys.executable, "-m", "pytest", "-q", "-k", "test_winograd_switch and not tiles"]
    environment = {**os.environ, "MRT_CPU_ISA": "avx2"}
    done = subprocess.run(
        [*command, str(Path(__file__))], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout[-3000:]


SHAPES = [
    (64, 96, 3, 1, 20),
    (128, 64, 1, 1, 17),
    (64, 128, 3, 2, 33),
    (256, 32, 1, 2, 15),
    (64, 80, 3, 1, 50),
    (128, 128, 3, 1, 28),
]


def exact(x: np.ndarray, w: np.ndarray, stride: int) -> tuple[np.ndarray, float]:
    """The convolution in float64, padded by half the window, and the largest sum of magnitudes."""
    k = w.shape[2]
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    y = np.einsum("nchwij,ocij->nohw", windows, w.astype(np.float64), optimize=True)
    mass = np.einsum("nchwij,ocij->nohw", abs(windows), abs(w.astype(np.float64)), optimize=True)
    return y, float(mass.max())


@pytest.mark.parametrize(("cin", "cout", "k", "stride", "size"), SHAPES)
def test_precision(cin: int, cout: int, k: int, stride: int, size: int) -> None:
    """Each mode keeps its promise, by session option and when it is switched at run time."""
    ort = engine.load_engine()
    weights = conv_weights(cin, cout, k=k)
    pads = {"pads": [k // 2] * 4, "strides": [stride, stride]}
    data = model([node("Conv", "x w", "y", **pads)], weights, cin)
    x = rand(7, 2, cin, size, size)
    want, mass = exact(x, weights["w"], stride)
    bounds = {"highest": 3e-7, "high": 4e-6, "medium": 4e-3}
    switched = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    results = {}
    try:
        for mode in ("highest", "high", "medium", "highest"):
            ort.set_float32_matmul_precision(mode)
            got = switched.run(None, {"x": x})[0]
            assert abs(got - want).max() <= bounds[mode] * mass, mode
            fixed = configured(data, "session.float32_matmul_precision", mode)
            np.testing.assert_array_equal(fixed.run(None, {"x": x})[0], got)
            if mode in results:
                np.testing.assert_array_equal(results[mode], got)
            results[mode] = got
    finally:
        ort.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("isa", ["avx512bf16", "avx2"])
def test_precision_without_tiles(isa: str) -> None:
    """The same where `high` is Winograd's F(4x4, 3x3)."""
    command = [sys.executable, "-m", "pytest", "-q", "-k", "test_precision and not tiles"]
    environment = {**os.environ, "MRT_CPU_ISA": isa}
    done = subprocess.run(
        [*command, str(Path(__file__))], env=environment, capture_output=True, text=True
    )
    expected = f"{len(SHAPES)} passed"
    assert done.returncode == 0 and expected in done.stdout, done.stdout[-3000:]


def test_wide_bands(ops: Ops) -> None:
    """Inverted residuals of so many channels that tiles compute them, where there are tiles."""
    names = [f"{part}{i}" for i in range(2) for part in ("w", "d", "p")]
    shapes = [(384, 64, 1, 1), (384, 1, 3, 3), (64, 384, 1, 1)] * 2
    weights = {
        n: rand(i, *s) * np.float32(0.1) for i, (n, s) in enumerate(zip(names, shapes, strict=True))
    }
    nodes, last = [], "x"
    for i in range(2):
        nodes += [
            node("Conv", f"{last} w{i}", f"a{i}"),
            node("Relu", f"a{i}", f"r{i}"),
            node("Conv", f"r{i} d{i}", f"b{i}", group=384, **PAD),
            node("Relu", f"b{i}", f"s{i}"),
            node("Conv", f"s{i} p{i}", f"c{i}"),
            node("Add", f"c{i} {last}", "y" if i else "z"),
        ]
        last = "z"
    data = model(nodes, weights, 64)
    assert "macart.ConvBand" in ops(data)
    x = {"x": rand(9, 1, 64, 28, 28)}
    (want,) = engine.make_session(onnxruntime, data, False).run(None, x)
    got = engine.make_session(engine.load_engine(), data, True).run(None, x)[0]
    assert relative_error(got, want) < 1e-5


def test_wide_bands_with_dot_products() -> None:
    """The same where products of one bf16 part are what there is in the place of tiles."""
    command = [sys.executable, "-m", "pytest", "-q", "-k", "test_wide_bands and not dot"]
    environment = {**os.environ, "MRT_CPU_ISA": "avx512bf16", "MRT_BF16_DOT": "1"}
    done = subprocess.run(
        [*command, str(Path(__file__))], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout[-3000:]


def test_high_differs_without_tiles() -> None:
    """`high` does take another way than `highest` there."""
    code = (
        "import numpy as np, test_conv_fusion as t\n"
        "data = t.model([t.node('Conv', 'x w', 'y', **t.PAD)], t.conv_weights(64, 64), 64)\n"
        "x = t.rand(1, 1, 64, 40, 40)\n"
        "key = 'session.float32_matmul_precision'\n"
        "a, b = (t.configured(data, key, m).run(None, {'x': x})[0] for m in ('highest', 'high'))\n"
        "assert not np.array_equal(a, b)\n"
    )
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), *sys.path])
    environment = {**os.environ, "MRT_CPU_ISA": "avx2", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def winograd_limits(data: bytes, environment: dict[str, str]) -> list[list[int]]:
    """The largest form left to each convolution, by precision."""
    code = "import sys, macart as ort; ort.InferenceSession(sys.stdin.buffer.read())"
    printed = subprocess.run(
        [sys.executable, "-c", code],
        input=data,
        env={**os.environ, "MRT_PRINT_IR": "1", **environment},
        capture_output=True,
        check=True,
    ).stderr.decode()
    convs = [line for line in printed.splitlines() if "Conv(" in line]
    found = [re.search(r"winograd = ints\[(\d), (\d), (\d)\]", line) for line in convs]
    return [[int(m[k]) for k in (1, 2, 3)] if m else [4, 4, 4] for m in found]


def test_winograd_weights_have_a_budget() -> None:
    """conv_budget.c: of wide convolutions some keep weights of the model's size; all stay exact."""
    ort = engine.load_engine()
    nodes, weights = [], {}
    for i, (cin, cout) in enumerate([(64, 64), *[(64, 512), (512, 512), (512, 512), (512, 64)]]):
        weights |= {f"w{i}": rand(i, cout, cin, 3, 3) / np.float32(np.sqrt(9 * cin))}
    nodes = [
        node("Conv", "x w0", "y0", **PAD),
        node("MaxPool", "y0", "z0", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    nodes += [node("Conv", f"z{i} w{i + 1}", f"z{i + 1}", **PAD) for i in range(4)]
    nodes[-1].output[0] = "y"
    data = model(nodes, weights, 64)
    proto = onnx.load_from_string(data)
    proto.graph.input[0].CopyFrom(
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, 32, 32])
    )
    data = proto.SerializeToString()
    for plain in (winograd_limits(data, {}), winograd_limits(data, {"MRT_CPU_ISA": "avx2"})):
        assert len(plain) == 5 and plain[0][1] != 0
        assert 1 <= sum(limits[0] == 0 for limits in plain) <= 4
    assert all(limits[1:] == [4, 4] for limits in plain)  # no tiles: F(4x4, 3x3) is not bounded
    x = rand(1, 1, 64, 32, 32)
    want = engine.make_session(onnxruntime, data, False).run(None, {"x": x})[0]
    got = ort.InferenceSession(data).run(None, {"x": x})[0]
    assert relative_error(got, want) < 4e-6
