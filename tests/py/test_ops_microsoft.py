"""Operators of com.microsoft against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from run_nodes import both

pytestmark = pytest.mark.full
F32 = TensorProto.FLOAT


def ms(op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    """A node of com.microsoft."""
    return helper.make_node(op, inputs, outputs, domain="com.microsoft", **attributes)


def floats(seed: int, *shape: int) -> np.ndarray:
    """Normal float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def check(
    node: onnx.NodeProto,
    feeds: dict[str, np.ndarray],
    kinds: dict[str, int] | None = None,
    constants: dict[str, np.ndarray] | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    off_by: int = 0,
) -> None:
    """Every output equals onnxruntime's; integers may differ by off_by."""
    outputs = kinds or {name: F32 for name in node.output if name}
    ours, theirs = both([node], feeds, outputs, 21, constants)
    for name, a, b in zip(outputs, ours, theirs, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype, name
        if a.dtype.kind in "iu":
            assert np.abs(a.astype(np.int64) - b.astype(np.int64)).max(initial=0) <= off_by, name
        else:
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.parametrize("op", ["Gelu", "QuickGelu", "FastGelu"])
def test_gelu(op: str) -> None:
    """Without bias; QuickGelu also with its attribute."""
    check(ms(op, ["x"], ["y"]), {"x": 3 * floats(1, 5, 40)})
    if op == "QuickGelu":
        check(ms(op, ["x"], ["y"], alpha=0.5), {"x": 3 * floats(1, 5, 40)})


@pytest.mark.parametrize("op", ["BiasGelu", "FastGelu"])
def test_gelu_with_bias(op: str) -> None:
    """A bias along the last axis."""
    check(ms(op, ["x", "b"], ["y"]), {"x": floats(1, 2, 5, 40), "b": floats(2, 40)})


@pytest.mark.parametrize("act", ["Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "HardSigmoid"])
@pytest.mark.parametrize("z", [False, True])
def test_fused_conv(act: str, z: bool) -> None:
    """Activations with their parameters, with and without an addend."""
    params = {"LeakyRelu": [0.1], "Clip": [-0.5, 0.6], "HardSigmoid": [0.3, 0.4]}.get(act)
    if z and act != "Relu":
        pytest.skip("onnxruntime adds Z with Relu only")
    attributes: dict[str, Any] = {"activation": act, "pads": [1, 1, 1, 1]}
    if params:
        attributes["activation_params"] = params
    names = ["x", "w", "b"] + (["z"] if z else [])
    feeds = {"x": floats(1, 1, 4, 9, 9), "w": floats(2, 6, 4, 3, 3), "b": floats(3, 6)}
    if z:
        feeds["z"] = floats(4, 1, 6, 9, 9)
    check(ms("FusedConv", names, ["y"], **attributes), feeds, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("act", ["Relu", "LeakyRelu"])
def test_fused_gemm(act: str) -> None:
    """Gemm with an activation."""
    attributes: dict[str, Any] = {"activation": act, "transB": 1, "alpha": 0.5}
    if act == "LeakyRelu":
        attributes["activation_alpha"] = 0.2
    feeds = {"a": floats(1, 5, 7), "b": floats(2, 9, 7), "c": floats(3, 9)}
    check(ms("FusedGemm", ["a", "b", "c"], ["y"], **attributes), feeds)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("simple", [False, True])
@pytest.mark.parametrize("skip", [(2, 5, 32), (1, 5, 32), (5, 32)], ids=str)
def test_skip_layer_norm(bias: bool, simple: bool, skip: tuple[int, ...]) -> None:
    """Both forms, with the sum as an output, skip broadcast over the batch."""
    name = "SkipSimplifiedLayerNormalization" if simple else "SkipLayerNormalization"
    feeds = {"x": floats(1, 2, 5, 32), "s": floats(2, *skip), "g": floats(3, 32)}
    names = ["x", "s", "g"]
    if not simple:
        feeds["beta"] = floats(4, 32)
        names.append("beta")
    if bias:
        feeds["bias"] = floats(5, 32)
        names.append("bias")
    check(ms(name, names, ["y", "", "", "sum"], epsilon=1e-3), feeds)
    check(ms(name, names, ["y"]), feeds)


def test_simplified_layer_norm() -> None:
    """RMSNormalization by its older name in ai.onnx."""
    node = helper.make_node("SimplifiedLayerNormalization", ["x", "g"], ["y"], epsilon=1e-6)
    check(node, {"x": floats(1, 2, 5, 32), "g": floats(2, 32)})


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("given", [False, True], ids=["counted", "position_ids"])
def test_embed_layer_norm(segments: bool, mask: bool, given: bool) -> None:
    """Word, position and segment tables, mask lengths, the sum."""
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 50, (3, 6)).astype(np.int32)
    feeds = {"ids": ids, "word": floats(1, 50, 16), "pos": floats(2, 9, 16),
             "gamma": floats(3, 16), "beta": floats(4, 16)}  # fmt: skip
    if segments:
        feeds |= {"seg": rng.integers(0, 2, (3, 6)).astype(np.int32), "segment": floats(5, 2, 16)}
    if mask:
        feeds["mask"] = np.tril(np.ones((3, 6), np.int32), 2)
    if given:
        feeds["at"] = rng.integers(0, 9, (3, 6)).astype(np.int32)
    names = ["ids", "seg" if segments else "", "word", "pos", "segment" if segments else "",
             "gamma", "beta", "mask" if mask else "", "at" if given else ""]  # fmt: skip
    node = ms("EmbedLayerNormalization", names, ["y", "n", "sum"])
    check(node, feeds, {"y": F32, "n": TensorProto.INT32, "sum": F32})


@pytest.mark.parametrize("trans", [(a, b) for a in (0, 1) for b in (0, 1)], ids=str)
@pytest.mark.parametrize("batch", [0, 1], ids=["plain", "transBatch"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)], ids=str)
def test_fused_matmul(trans: tuple[int, int], batch: int, shape: tuple[int, ...]) -> None:
    """All transpositions of both sides, with batch dims."""
    if batch and not shape:
        pytest.skip("no batch dims")
    a, b = floats(1, *shape, 4, 5), floats(2, *shape, 5, 6)
    if trans[0]:
        a = a.swapaxes(-1, -2)
    if trans[1]:
        b = b.swapaxes(-1, -2)
    if batch:  # the dim before the last goes to the front
        a, b = np.moveaxis(a, -2, 0), np.moveaxis(b, -2, 0)
    attributes = {"transA": trans[0], "transB": trans[1], "alpha": 0.5}
    if batch:
        attributes |= {"transBatchA": 1, "transBatchB": 1}
    feeds = {"a": np.ascontiguousarray(a), "b": np.ascontiguousarray(b)}
    check(ms("FusedMatMul", ["a", "b"], ["y"], **attributes), feeds)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 64, 16), (7, 96, 33), (2, 3, 80, 10)], ids=str)
def test_matmul_nbits(bits: int, zeros: bool, bias: bool, shape: tuple[int, ...]) -> None:
    """Weights of 4 and 8 bits in blocks of 32, an odd number of blocks among them."""
    *rows, k, n = shape
    rng = np.random.default_rng(1)
    blocks = (k + 31) // 32
    constants = {
        "b": rng.integers(0, 256, (n, blocks, 32 * bits // 8)).astype(np.uint8),
        "s": rng.uniform(0.01, 0.1, (n, blocks)).astype(np.float32),
    }
    names = ["a", "b", "s", "", "", ""]
    if zeros:
        constants["z"] = rng.integers(0, 256, (n, (blocks * bits + 7) // 8)).astype(np.uint8)
        names[3] = "z"
    if bias:
        constants["c"] = floats(4, n)
        names[5] = "c"
    node = ms("MatMulNBits", names, ["y"], K=k, N=n, bits=bits, block_size=32)
    check(node, {"a": floats(3, *rows, k)}, None, constants, rtol=1e-4, atol=2e-4)
