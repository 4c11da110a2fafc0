"""Operators of com.microsoft against onnxruntime.

Covers csrc/ops/ms_*.c, ops/compose, and the kernels attention/mha_node and nbits/nbits_node.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from run_nodes import both, run_nodes

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


def test_transpose_matmul_is_fused_matmul() -> None:
    """The older name."""
    feeds = {"a": floats(1, 5, 4), "b": floats(2, 5, 6)}
    check(ms("TransposeMatMul", ["a", "b"], ["y"], transA=1, alpha=0.5), feeds)


def test_bias_softmax() -> None:
    """Softmax(data + bias) over the last axis, against numpy: onnxruntime has no CPU kernel."""
    feeds = {"x": floats(1, 2, 3, 4, 5), "b": floats(2, 1, 3, 4, 5)}
    node = ms("BiasSoftmax", ["x", "b"], ["y"], axis=-1, is_inner_broadcast=1)
    (y,) = run_nodes([node], feeds, {"y": TensorProto.FLOAT})
    s = (feeds["x"] + feeds["b"]).astype(np.float64)
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    np.testing.assert_allclose(y, e / e.sum(axis=-1, keepdims=True), rtol=1e-5, atol=1e-6)
    node = ms("BiasSoftmax", ["x", "b"], ["y"], axis=-1, is_inner_broadcast=0)
    with pytest.raises(Exception, match="NOT_IMPLEMENTED.*is_inner_broadcast = 0"):
        run_nodes([node], feeds, {"y": TensorProto.FLOAT})


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


@pytest.mark.parametrize("rows", [1, 6, 40])
@pytest.mark.parametrize("level", [0, 1, 2, 3, 4])
def test_matmul_nbits_levels(level: int, rows: int) -> None:
    """accuracy_level: what may be rounded, and how little that moves the result."""
    rng = np.random.default_rng(level)
    k, n = 320, 70
    constants = {
        "b": rng.integers(0, 256, (n, k // 32, 16)).astype(np.uint8),
        "s": rng.uniform(0.01, 0.1, (n, k // 32)).astype(np.float32),
    }
    node = ms("MatMulNBits", ["a", "b", "s"], ["y"], K=k, N=n, block_size=32, accuracy_level=level)
    a = floats(3, rows, k)
    low, high = constants["b"] & 15, constants["b"] >> 4
    q = np.stack([low, high], -1).reshape(n, k // 32, 32).astype(np.float64) - 8
    w = (q * constants["s"][:, :, None]).reshape(n, k)
    y = run_nodes([node], {"a": a}, {"y": F32}, 21, constants=constants)[0]
    error = np.abs(y - a.astype(np.float64) @ w.T) / (np.abs(a) @ np.abs(w).T)
    assert error.max() < (1e-6 if level < 2 else 4e-6 if level == 2 else 2e-3)


BYTES = [np.uint8, np.int8]


def quantised(seed: int, shape: tuple[int, ...], dtype: type, prefix: str) -> dict[str, np.ndarray]:
    """A tensor of bytes with a scale and a zero point: names p, ps, pz for prefix p."""
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype)
    return {
        prefix: rng.integers(info.min, info.max + 1, shape).astype(dtype),
        prefix + "s": np.array(rng.uniform(0.01, 0.1), np.float32),
        prefix + "z": np.array(rng.integers(info.min, info.max + 1), dtype),
    }


def kind_of(dtype: type) -> int:
    """The ONNX number of a numpy type."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 3, 70), (2, 3, 70)),
        ((2, 3, 70), (70,)),
        ((2, 3, 70), (3, 1)),
        ((4, 1), (1, 5)),
        ((33,), ()),
    ],
    ids=str,
)
def test_qlinear_binary(op: str, dtype: type, shapes: Any) -> None:
    """Broadcast in every way; a rounding tie may fall the other way."""
    feeds = quantised(1, shapes[0], dtype, "a") | quantised(2, shapes[1], dtype, "b")
    y = quantised(3, (), dtype, "c")
    y["cs"] = np.array(0.9 if op == "QLinearMul" else 0.11, np.float32)
    feeds |= {"cs": y["cs"], "cz": y["cz"]}
    constants = {n: feeds.pop(n) for n in ("as", "az", "bs", "bz", "cs", "cz")}
    node = ms(op, ["a", "as", "az", "b", "bs", "bz", "cs", "cz"], ["y"])
    check(node, feeds, {"y": kind_of(dtype)}, constants, off_by=1)


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("op", ["QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"])
def test_qlinear_unary(op: str, dtype: type) -> None:
    """Tables, and softmax over the last axis and over several (opset 11)."""
    constants = quantised(1, (5, 4, 30), dtype, "x")
    feeds = {"x": constants.pop("x")}
    constants |= {"ys": np.array(1 / 256 if op != "QLinearLeakyRelu" else 0.05, np.float32),
                  "yz": np.array(np.iinfo(dtype).min, dtype)}  # fmt: skip
    names = ["x", "xs", "xz", "ys", "yz"]
    forms: list[dict[str, Any]] = [{}]
    if op == "QLinearSoftmax":
        forms = [{"opset": 13, "axis": -1}, {"opset": 11, "axis": 1}, {"opset": 13, "axis": 1}]
    for attributes in forms:
        kinds = {"y": kind_of(dtype)}
        check(ms(op, names, ["y"], **attributes), feeds, kinds, constants, off_by=1)


@pytest.mark.parametrize("dtype", BYTES)
def test_qlinear_concat(dtype: type) -> None:
    """Three inputs of different scales along the middle axis."""
    feeds, constants, names = {}, quantised(9, (), dtype, "y"), ["ys", "yz"]
    constants.pop("y")
    for i, width in enumerate((3, 1, 4)):
        part = quantised(i, (2, width, 5), dtype, f"x{i}")
        feeds[f"x{i}"] = part.pop(f"x{i}")
        constants |= part
        names += [f"x{i}", f"x{i}s", f"x{i}z"]
    node = ms("QLinearConcat", names, ["y"], axis=1)
    check(node, feeds, {"y": kind_of(dtype)}, constants, off_by=1)


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("last", [0, 1])
def test_qlinear_pools(dtype: type, last: int) -> None:
    """Global and windowed means."""
    constants = quantised(1, (2, 6, 7, 6), dtype, "x")
    feeds = {"x": constants.pop("x")}
    constants |= {"ys": np.array(constants["xs"] * 0.7, np.float32),
                  "yz": np.array(3, dtype)}  # fmt: skip
    names = ["x", "xs", "xz", "ys", "yz"]
    kinds = {"y": kind_of(dtype)}
    node = ms("QLinearGlobalAveragePool", names, ["y"], channels_last=last)
    check(node, feeds, kinds, constants, off_by=1)
    node = ms("QLinearAveragePool", names, ["y"], channels_last=last, kernel_shape=[3, 2],
              strides=[2, 1], pads=[1, 0, 1, 1])  # fmt: skip
    check(node, feeds, kinds, constants, off_by=1)


@pytest.mark.parametrize("dtype", BYTES)
def test_qlinear_mean_and_where(dtype: type) -> None:
    """ReduceMean over two axes; Where with scales of its own on each side."""
    constants = quantised(1, (4, 5, 6), dtype, "x") | {"ys": np.array(0.03, "f4"),
                                                       "yz": np.array(3, dtype)}  # fmt: skip
    feeds = {"x": constants.pop("x")}
    names = ["x", "xs", "xz", "ys", "yz"]
    node = ms("QLinearReduceMean", names, ["y"], axes=[1, 2], keepdims=1)
    (got,) = run_nodes([node], feeds, {"y": kind_of(dtype)}, 21, None, constants)
    real = (feeds["x"].astype("f8") - constants["xz"]) * constants["xs"]
    want = real.mean(axis=(1, 2), keepdims=True) / constants["ys"] + constants["yz"]
    want = want.clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
    assert got.dtype == dtype and np.abs(got - want).max() < 0.51  # onnxruntime has no kernel
    constants |= quantised(2, (4, 5, 6), dtype, "b")
    feeds |= {"b": constants.pop("b"), "c": np.arange(120).reshape(4, 5, 6) % 3 == 0}
    names = ["c", "x", "xs", "xz", "b", "bs", "bz", "ys", "yz"]
    check(ms("QLinearWhere", names, ["y"]), feeds, {"y": kind_of(dtype)}, constants, off_by=1)


@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_dynamic_quantize_lstm(per_column: bool, direction: str) -> None:
    """Within what quantising the activations costs onnxruntime."""
    rng = np.random.default_rng(1)
    dirs, hidden, size = (2 if direction == "bidirectional" else 1), 8, 12
    scales = (dirs, 4 * hidden) if per_column else (dirs,)
    constants = {
        "w": rng.integers(-127, 128, (dirs, size, 4 * hidden)).astype(np.int8),
        "r": rng.integers(-127, 128, (dirs, hidden, 4 * hidden)).astype(np.int8),
        "b": 0.1 * floats(3, dirs, 8 * hidden),
        "ws": rng.uniform(0.001, 0.004, scales).astype(np.float32), "wz": np.zeros(scales, "i1"),
        "rs": rng.uniform(0.001, 0.004, scales).astype(np.float32), "rz": np.zeros(scales, "i1"),
    }  # fmt: skip
    names = ["x", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"]
    node = ms("DynamicQuantizeLSTM", names, ["y", "h", "c"], hidden_size=hidden,
              direction=direction)  # fmt: skip
    check(node, {"x": floats(2, 5, 3, size)}, None, constants, rtol=0, atol=0.02)


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("attributes", [
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [2, 3], "dilations": [2, 1], "ceil_mode": 1, "strides": [1, 2]},
], ids=["padded", "dilated"])  # fmt: skip
def test_nhwc_max_pool(dtype: type, attributes: dict[str, Any]) -> None:
    """Channels last, and the plain operator on bytes."""
    x = quantised(1, (2, 9, 8, 70), dtype, "x")["x"]
    check(ms("NhwcMaxPool", ["x"], ["y"], **attributes), {"x": x}, {"y": kind_of(dtype)})
    plain = helper.make_node("MaxPool", ["x"], ["y"], **attributes)
    feeds = {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2))}
    check(plain, feeds, {"y": kind_of(dtype)})


B, S, L, N, D = 2, 5, 7, 4, 8


def mha_inputs(form: str) -> dict[str, np.ndarray]:
    """q, k, v in one of the forms that the operator takes."""
    if form == "packed":
        return {"q": floats(1, B, S, N, 3, D)}
    q = floats(1, B, S, N * D)
    if form == "packed kv":
        return {"q": q, "k": floats(2, B, L, N, 2, D)}
    if form == "heads":
        return {"q": q, "k": floats(2, B, N, L, D), "v": floats(3, B, N, L, D)}
    return {"q": q, "k": floats(2, B, L, N * D), "v": floats(3, B, L, N * D)}


@pytest.mark.parametrize("form", ["plain", "packed", "packed kv", "heads"])
@pytest.mark.parametrize("mask", ["", "lengths", "rows", "added", "both"])
def test_multi_head_attention(form: str, mask: str) -> None:
    """Forms of the operands, with and without masks."""
    feeds = mha_inputs(form)
    keys = S if form == "packed" else L
    names = ["q", "k" if "k" in feeds else "", "v" if "v" in feeds else "", "", "", ""]
    if mask == "lengths":
        feeds["pad"] = np.array([keys - 2, keys], np.int32)
    if mask in ("rows", "both"):
        feeds["pad"] = (np.arange(B * keys).reshape(B, keys) % 3 != 1).astype(np.int32)
    if mask in ("added", "both"):
        feeds["add"] = floats(9, 1, N, S, keys)
    names[4] = "pad" if "pad" in feeds else ""
    names[5] = "add" if "add" in feeds else ""
    node = ms("MultiHeadAttention", names, ["y"], num_heads=N)
    if not form.startswith("packed"):
        check(node, feeds)
        return
    (got,) = run_nodes([node], feeds, {"y": F32}, 21)
    plain = unpacked(feeds)  # onnxruntime's CPU kernel takes no packed operands
    names[:3] = ["q", "k", "v"]
    node = ms("MultiHeadAttention", names, ["y"], num_heads=N)
    (want,) = run_nodes([node], plain, {"y": F32}, 21, "onnxruntime")
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def unpacked(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same operands apart."""
    out, last = dict(feeds), feeds["k" if "k" in feeds else "q"]
    parts = [np.ascontiguousarray(last[:, :, :, i]) for i in range(last.shape[3])]
    parts = [part.reshape(*part.shape[:2], N * D) for part in parts]
    for name, part in zip(("q", "k", "v")[-len(parts) :], parts, strict=True):
        out[name] = part
    return out


@pytest.mark.parametrize("past", [0, 3])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("bias", [False, True])
def test_multi_head_attention_with_past(past: int, causal: int, bias: bool) -> None:
    """Bias, scale, a causal mask, caches that grow."""
    feeds = {"q": floats(1, B, S, N * D), "k": floats(2, B, S, N * D), "v": floats(3, B, S, N * D)}
    names = ["q", "k", "v", "", "", "", "", ""]
    if bias:
        feeds["b"] = floats(4, 3 * N * D)
        names[3] = "b"
    if past:
        feeds |= {"pk": floats(5, B, N, past, D), "pv": floats(6, B, N, past, D)}
        names[6:] = ["pk", "pv"]
    outputs = ["y", "k1", "v1"] if past else ["y"]
    node = ms("MultiHeadAttention", names, outputs, num_heads=N, unidirectional=causal, scale=0.3)
    check(node, feeds)


@pytest.mark.parametrize(("queries", "keys"), [(1, 5), (2, 5), (7, 40), (5, 3)])
def test_causal_without_cache(queries: int, keys: int) -> None:
    """More keys than queries and no past: the last query sees all keys, the others their first."""
    feeds = {
        n: floats(i, B, m, N * D)
        for i, (n, m) in enumerate(zip("qkv", (queries, keys, keys), strict=True))
    }
    check(ms("MultiHeadAttention", [*"qkv"], ["y"], num_heads=N, unidirectional=1), feeds)


@pytest.mark.parametrize(("keys", "values"), [(1, 900), (900, 1), (0, 1)])
@pytest.mark.parametrize("present", [False, True])
def test_past_of_two_lengths(keys: int, values: int, present: bool) -> None:
    """Keys and values of different numbers of positions are refused, not read past their end."""
    node = ms(
        "MultiHeadAttention", ["q", "k", "v", "", "", "", "pk", "pv"],
        ["y", "k1", "v1"] if present else ["y"], num_heads=2,
    )  # fmt: skip
    feeds = {n: floats(i, 1, 3, 16) for i, n in enumerate("qkv")}
    feeds |= {"pk": floats(5, 1, 2, keys, 8), "pv": floats(6, 1, 2, values, 8)}
    with pytest.raises(Exception, match="MultiHeadAttention: past"):
        run_nodes([node], feeds, dict.fromkeys(node.output, F32), 21)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize(
    ("past", "sizes"), [(0, None), (3, None), (0, [32, 32, 48])], ids=["equal", "past", "sizes"]
)
def test_attention(past: int, causal: int, mask: bool, sizes: list[int] | None) -> None:
    """Projections with weights, then heads; a cache keeps keys and values of one head size."""
    hidden = sizes or [N * D] * 3
    feeds = {"x": floats(1, B, S, 24)}
    constants = {"w": 0.2 * floats(2, 24, sum(hidden)), "b": floats(3, sum(hidden))}
    names = ["x", "w", "b", "", "", ""]
    if mask:
        feeds["m"] = (np.arange(B * (S + past)).reshape(B, S + past) % 4 != 1).astype(np.int32)
        names[3] = "m"
    if past:
        feeds["past"] = floats(4, 2, B, N, past, D)
        names[4] = "past"
    attributes: dict[str, Any] = {"num_heads": N, "unidirectional": causal}
    if sizes:
        attributes["qkv_hidden_sizes"] = sizes
    outputs = ["y", "p"] if past else ["y"]
    check(ms("Attention", names, outputs, **attributes), feeds, None, constants)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("offset", [False, True])
def test_rotary_embedding(interleaved: int, rank: int, offset: bool) -> None:
    """Positions given or counted from an offset; 3-D and 4-D inputs."""
    x = floats(1, B, S, N * D) if rank == 3 else floats(1, B, N, S, D)
    ids = np.array([4]) if offset else np.random.default_rng(0).integers(0, 20, (B, S))
    angle = floats(2, 20, D // 2)
    feeds = {"x": x, "i": ids.astype(np.int64), "c": np.cos(angle), "s": np.sin(angle)}
    node = ms("RotaryEmbedding", ["x", "i", "c", "s"], ["y"], interleaved=interleaved)
    check(node, feeds)
