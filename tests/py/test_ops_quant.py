"""Casts to and from the small types, and the quantise family, against onnxruntime and ml_dtypes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from run_nodes import both, run_nodes

pytestmark = pytest.mark.quick


NARROW = [
    ("bfloat16", TensorProto.BFLOAT16),
    ("float8_e4m3fn", TensorProto.FLOAT8E4M3FN),
    ("float8_e4m3fnuz", TensorProto.FLOAT8E4M3FNUZ),
    ("float8_e5m2", TensorProto.FLOAT8E5M2),
    ("float8_e5m2fnuz", TensorProto.FLOAT8E5M2FNUZ),
    ("float4_e2m1fn", TensorProto.FLOAT4E2M1),
    ("int4", TensorProto.INT4),
    ("uint4", TensorProto.UINT4),
    ("int2", TensorProto.INT2),
    ("uint2", TensorProto.UINT2),
]


@pytest.mark.parametrize(("name", "kind"), NARROW, ids=[n for n, _ in NARROW])
def test_arrays_of_narrow_types_cross(name: str, kind: int) -> None:
    """Every bit pattern of a type goes in and, through Cast and back, comes out the same."""
    dtype = np.dtype(getattr(ml_dtypes, name))
    if "int" in name:
        info = ml_dtypes.iinfo(dtype)
        x = np.arange(int(info.min), int(info.max) + 1).astype(dtype)
    else:
        bits = {"bfloat16": 16, "float4_e2m1fn": 4}.get(name, 8)
        codes = np.arange(2**bits, dtype=np.uint16 if bits == 16 else np.uint8)
        x = codes.view(dtype)
    x = np.concatenate([x, x[:3]])  # a number of elements that does not fill bytes
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["f"], ["y"], to=kind),
    ]
    f, y = run_nodes(nodes, {"x": x}, {"f": TensorProto.FLOAT, "y": kind})
    np.testing.assert_array_equal(f, x.astype(np.float32))
    assert y.dtype == dtype
    finite = np.isfinite(f)
    np.testing.assert_array_equal(y.astype(np.float32)[finite], f[finite])
    np.testing.assert_array_equal(np.signbit(y.astype(np.float32)[finite]), np.signbit(f[finite]))
    strided = run_nodes(nodes, {"x": x[::2]}, {"f": TensorProto.FLOAT, "y": kind})[0]
    np.testing.assert_array_equal(strided, x[::2].astype(np.float32))


@pytest.mark.parametrize(("name", "kind"), NARROW[:6], ids=[n for n, _ in NARROW[:6]])
def test_rounding_to_narrow_floats(name: str, kind: int) -> None:
    """Finite numbers, halves included, round as ml_dtypes rounds them."""
    dtype = np.dtype(getattr(ml_dtypes, name))
    top = float(ml_dtypes.finfo(dtype).max)
    rng = np.random.default_rng(1)
    x = (rng.standard_normal(4000) * np.exp(rng.uniform(-12, 6, 4000))).astype(np.float32)
    if name != "bfloat16":
        codes = np.arange(2 ** (4 if "float4" in name else 8), dtype=np.uint8).view(dtype)
        values = np.sort(codes.astype(np.float32))
        values = values[np.isfinite(values)]
        x = np.concatenate([x, (values[1:] + values[:-1]) / 2, values])
    x = x[np.abs(x) <= top]
    node = helper.make_node("Cast", ["x"], ["y"], to=kind)
    (y,) = run_nodes([node], {"x": x}, {"y": kind})
    np.testing.assert_array_equal(y.astype(np.float32), x.astype(dtype).astype(np.float32))


@pytest.mark.parametrize("mode", ["up", "down", "nearest"])
def test_cast_to_e8m0(mode: str) -> None:
    """All rounding modes as the helper of the onnx package has them."""
    x = np.array([0, 1e-45, 8.8e-39, 5.9e-39, 1, 1.1, 1.5, 3, 2.9, 3.4e38, np.nan, 1e-30], "f4")
    for saturate in (0, 1):
        node = helper.make_node(
            "Cast", ["x"], ["y"], to=TensorProto.FLOAT8E8M0, round_mode=mode, saturate=saturate
        )
        (y,) = run_nodes([node], {"x": x}, {"y": TensorProto.FLOAT8E8M0})
        want = onnx.numpy_helper.to_float8e8m0(x, bool(saturate), mode)
        assert y.view(np.uint8).tolist() == want.view(np.uint8).tolist()


@pytest.mark.parametrize(
    ("text", "to"),
    [("1x", TensorProto.INT32), ("1.5z", TensorProto.FLOAT), ("", TensorProto.FLOAT),
     ("1.5", TensorProto.INT64), ("300", TensorProto.INT8), ("-1", TensorProto.UINT8)],
)  # fmt: skip
def test_strings_are_read_strictly(text: str, to: int) -> None:
    """Trailing text, no number, a number that does not fit: errors that quote the text."""
    node = helper.make_node("Cast", ["x"], ["y"], to=to)
    with pytest.raises(Exception, match=f"Cast: '{text}'"):
        run_nodes([node], {"x": np.array(["1", text], object)}, {"y": to})


def test_strings_that_are_numbers() -> None:
    """Numbers of every form."""
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    text = np.array(["1", "-2.5e3", "inf", "-INF", "NaN", "0.1"], object)
    (y,) = run_nodes([node], {"x": text}, {"y": TensorProto.FLOAT})
    np.testing.assert_array_equal(y, np.array([1, -2500, np.inf, -np.inf, np.nan, 0.1], "f4"))


# ---------------------------------------------------------------- against onnxruntime


INTEGER_KINDS = [np.uint8, np.int8, np.uint16, np.int16]


@pytest.mark.parametrize("dtype", INTEGER_KINDS)
@pytest.mark.parametrize("shape", ["tensor", "axis0", "axis2", "axis-1", "blocked"])
def test_quantize_and_back(dtype: type, shape: str) -> None:
    """Equal to onnxruntime: numbers that are rounded, saturated, infinite; all kinds of scales."""
    rng = np.random.default_rng(2)
    x = (rng.standard_normal((6, 5, 70)) * 40).astype(np.float32)
    x.ravel()[:4] = [np.inf, -np.inf, 1e30, 2.5]
    attributes: dict[str, int] = {}
    dims: tuple[int, ...] = ()
    if shape.startswith("axis"):
        attributes["axis"] = axis = int(shape[4:])
        dims = (x.shape[axis],)
    elif shape == "blocked":
        attributes = {"axis": 2, "block_size": 35}
        dims = (6, 5, 2)
    info = np.iinfo(dtype)
    scale = rng.uniform(0.1, 1, dims).astype(np.float32)
    zero = rng.integers(info.min, int(info.max) + 1, dims).astype(dtype)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **attributes),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **attributes),
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    outputs = {"q": kind, "y": TensorProto.FLOAT}
    for constants in ({}, {"s": scale, "z": zero}):
        feeds = {"x": x} if constants else {"x": x, "s": scale, "z": zero}
        ours, theirs = both(nodes, feeds, outputs, 21, constants)
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_scales_that_do_not_fit_are_refused() -> None:
    """A per-axis scale of the wrong length."""
    node = helper.make_node("QuantizeLinear", ["x", "s"], ["y"], axis=0)
    feeds = {"x": np.zeros((3, 2), "f4"), "s": np.ones(2, "f4")}
    with pytest.raises(Exception, match="scale of rank 1 with 2 elements for 3 along axis 0"):
        run_nodes([node], feeds, {"y": TensorProto.UINT8})


@pytest.mark.parametrize("x", [[0, 0], [1, 3], [-5, -1], [-1.5, 7.25], []], ids=str)
def test_dynamic_quantize(x: list[float]) -> None:
    """Ranges on either side of zero, and none at all."""
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"])
    outputs = {"y": TensorProto.UINT8, "s": TensorProto.FLOAT, "z": TensorProto.UINT8}
    ours, theirs = both([node], {"x": np.array(x, "f4")}, outputs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


SIGNS = [(np.uint8, np.int8), (np.uint8, np.uint8), (np.int8, np.int8), (np.int8, np.uint8)]
SHAPES = [((1, 33), (33, 40)), ((17, 64), (64, 31)), ((2, 3, 5, 20), (20, 7)),
          ((2, 3, 5, 20), (2, 3, 20, 7)), ((3, 1, 4, 9), (2, 9, 5)), ((70,), (70, 3))]  # fmt: skip


def bytes_of(rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Random bytes."""
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


@pytest.mark.parametrize("constant", [False, True], ids=["fed", "constant"])
@pytest.mark.parametrize("kinds", SIGNS, ids=lambda k: f"{k[0].__name__}x{k[1].__name__}")
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_matmul_integer(shapes: Any, kinds: Any, constant: bool) -> None:
    """Exact, with one zero point, one per column, one per row."""
    rng = np.random.default_rng(3)
    a, b = bytes_of(rng, shapes[0], kinds[0]), bytes_of(rng, shapes[1], kinds[1])
    for per_column in (False, True):
        az, bz = bytes_of(rng, (), kinds[0]), bytes_of(rng, (), kinds[1])
        if per_column:
            bz = bytes_of(rng, shapes[1][-1:], kinds[1])
        node = helper.make_node("MatMulInteger", ["a", "b", "az", "bz"], ["y"])
        fed = {"a": a, "az": az} if constant else {"a": a, "b": b, "az": az, "bz": bz}
        constants = {"b": b, "bz": bz} if constant else {}
        (y,) = run_nodes([node], fed, {"y": TensorProto.INT32}, 21, None, constants)
        want = np.matmul(a.astype(np.int64) - az, b.astype(np.int64) - bz)
        np.testing.assert_array_equal(y, want)
    if a.ndim == 2:
        az = bytes_of(rng, (a.shape[0],), kinds[0])
        node = helper.make_node("MatMulInteger", ["a", "b", "az"], ["y"])
        (y,) = run_nodes([node], {"a": a, "b": b, "az": az}, {"y": TensorProto.INT32})
        np.testing.assert_array_equal(y, (a.astype(np.int64) - az[:, None]) @ b.astype(np.int64))


@pytest.mark.parametrize("kinds", SIGNS[:3], ids=lambda k: f"{k[0].__name__}x{k[1].__name__}")
@pytest.mark.parametrize("shapes", SHAPES[:4], ids=str)
@pytest.mark.parametrize("per_column", [False, True])
def test_qlinear_matmul(shapes: Any, kinds: Any, per_column: bool) -> None:
    """Equal to onnxruntime, bit for bit."""
    rng = np.random.default_rng(4)
    columns = shapes[1][-1:] if per_column else ()
    if per_column and len(shapes[1]) > 2:
        pytest.skip("one scale per column needs one matrix")
    constants = {
        "b": bytes_of(rng, shapes[1], kinds[1]),
        "as": np.float32(0.013), "az": bytes_of(rng, (), kinds[0]),
        "bs": rng.uniform(0.001, 0.02, columns).astype(np.float32),
        "bz": np.zeros(columns, kinds[1]) if per_column else bytes_of(rng, (), kinds[1]),
        "ys": np.float32(0.71), "yz": bytes_of(rng, (), kinds[0]),
    }  # fmt: skip
    names = ["a", "as", "az", "b", "bs", "bz", "ys", "yz"]
    node = helper.make_node("QLinearMatMul", names, ["y"])
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(kinds[0]))
    feeds = {"a": bytes_of(rng, shapes[0], kinds[0])}
    ours, theirs = both([node], feeds, {"y": kind}, 21, constants)
    np.testing.assert_array_equal(ours[0], theirs[0])


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("quantised", [False, True])
def test_qgemm(trans_b: int, quantised: bool) -> None:
    """com.microsoft.QGemm with an int32 bias, to float and to bytes."""
    rng = np.random.default_rng(5)
    n, k = 20, 37
    constants = {
        "as": np.float32(0.02), "az": np.uint8(120), "ys": np.float32(0.5), "yz": np.uint8(9),
        "b": bytes_of(rng, (n, k) if trans_b else (k, n), np.int8),
        "bs": rng.uniform(0.001, 0.02, n).astype(np.float32), "bz": np.zeros(n, np.int8),
        "c": rng.integers(-9999, 9999, n).astype(np.int32),
    }  # fmt: skip
    names = ["a", "as", "az", "b", "bs", "bz", "c"] + (["ys", "yz"] if quantised else [])
    constants = {name: value for name, value in constants.items() if name in names}
    node = helper.make_node("QGemm", names, ["y"], domain="com.microsoft", transB=trans_b)
    kind = TensorProto.UINT8 if quantised else TensorProto.FLOAT
    ours, theirs = both([node], {"a": bytes_of(rng, (9, k), np.uint8)}, {"y": kind}, 21, constants)
    if quantised:
        np.testing.assert_array_equal(ours[0], theirs[0])
    else:
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weights", [np.int8, np.uint8])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("per_column", [False, True])
def test_float_products_of_bytes(weights: type, bias: bool, per_column: bool) -> None:
    """MatMulIntegerToFloat and DynamicQuantizeMatMul."""
    rng = np.random.default_rng(6)
    k, n = 45, 33
    columns = (n,) if per_column else ()
    constants = {
        "b": bytes_of(rng, (k, n), weights),
        "bs": rng.uniform(0.001, 0.02, columns).astype(np.float32),
        "bz": bytes_of(rng, columns, weights),
    }
    if bias:
        constants["c"] = rng.standard_normal(n).astype(np.float32)
    last = ["c"] if bias else []
    names = ["x", "b", "bs", "bz", *last]
    node = helper.make_node("DynamicQuantizeMatMul", names, ["y"], domain="com.microsoft")
    x = rng.standard_normal((2, 7, k)).astype(np.float32)
    ours, theirs = both([node], {"x": x}, {"y": TensorProto.FLOAT}, 21, constants)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=2e-6, atol=2e-5)
    names = ["a", "b", "as", "bs", "az", "bz", *last]
    node = helper.make_node("MatMulIntegerToFloat", names, ["y"], domain="com.microsoft")
    feeds = {"a": bytes_of(rng, (7, k), np.uint8)}
    constants |= {"as": np.float32(0.03), "az": np.uint8(33)}
    ours, theirs = both([node], feeds, {"y": TensorProto.FLOAT}, 21, constants)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=2e-6, atol=2e-5)


CONVS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 5, 9, 11), (7, 5, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((1, 3, 20, 20), (16, 3, 7, 7), {"strides": [2, 2], "pads": [3, 3, 3, 3]}),
    ((1, 64, 7, 7), (32, 64, 1, 1), {}),
    ((1, 64, 8, 8), (32, 64, 1, 1), {"strides": [2, 2]}),
    ((1, 32, 5, 5), (4, 32, 3, 3), {"strides": [2, 2]}),  # lines of few pixels
    ((2, 16, 7, 3), (20, 16, 3, 3), {"strides": [2, 1]}),
    ((1, 32, 6, 13), (17, 32, 1, 1), {"strides": [2, 3]}),
    ((1, 8, 9, 9), (12, 2, 3, 3), {"group": 4, "dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    ((2, 83, 9, 7), (83, 1, 3, 3), {"group": 83, "pads": [1, 1, 1, 1], "strides": [2, 1]}),
    ((1, 16, 6, 6), (32, 1, 3, 3), {"group": 16}),
    ((1, 4, 30), (6, 4, 5), {"auto_pad": "SAME_UPPER", "strides": [2]}),
    ((1, 2, 5, 6, 7), (3, 2, 3, 3, 3), {"pads": [1, 0, 1, 1, 0, 1]}),
]


@pytest.mark.parametrize("case", CONVS, ids=lambda c: f"{c[1]}")
@pytest.mark.parametrize("kinds", SIGNS[:3], ids=lambda k: f"{k[0].__name__}x{k[1].__name__}")
@pytest.mark.parametrize("constant", [False, True], ids=["fed", "constant"])
def test_qlinear_conv(case: Any, kinds: Any, constant: bool) -> None:
    """Equal to onnxruntime, bit for bit: windows, groups, depthwise, scales per channel."""
    x_shape, w_shape, attributes = case
    rng = np.random.default_rng(7)
    m = w_shape[0]
    weights = {
        "w": bytes_of(rng, w_shape, kinds[1]), "ws": rng.uniform(0.001, 0.01, m).astype("f4"),
        "wz": np.zeros(m, kinds[1]) if kinds[1] is np.int8 else np.full(m, 131, np.uint8),
        "b": rng.integers(-9999, 9999, m).astype(np.int32),
    }  # fmt: skip
    scales = {
        "xs": np.float32(0.013), "xz": bytes_of(rng, (), kinds[0]),
        "ys": np.float32(0.71), "yz": bytes_of(rng, (), kinds[0]),
    }  # fmt: skip
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    node = helper.make_node("QLinearConv", names, ["y"], **attributes)
    feeds = {"x": bytes_of(rng, x_shape, kinds[0])}
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(kinds[0]))
    constants = {**weights, **scales}
    (want,) = run_nodes([node], feeds, {"y": kind}, 21, "onnxruntime", constants)
    if not constant:
        feeds, constants = {**feeds, **weights}, scales
    (got,) = run_nodes([node], feeds, {"y": kind}, 21, None, constants)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("y_scale", [0.5, 4], ids=["loops", "dots"])
def test_depthwise_factors(y_scale: float) -> None:
    """Factors of 1 and more are beyond the dot products' tables: weights are packed for loops."""
    rng = np.random.default_rng(11)
    constants = {
        "xs": np.float32(1), "xz": np.uint8(128), "w": rng.integers(-3, 4, (48, 1, 3, 3), np.int8),
        "ws": np.float32(1), "wz": np.int8(0), "ys": np.float32(y_scale), "yz": np.uint8(120),
        "b": rng.integers(-9, 9, 48).astype(np.int32),
    }  # fmt: skip
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    node = helper.make_node("QLinearConv", names, ["y"], group=48, pads=[1] * 4)
    feeds = {"x": rng.integers(120, 137, (1, 48, 9, 7), np.uint8)}
    ours, theirs = both([node], feeds, {"y": TensorProto.UINT8}, 21, constants)
    np.testing.assert_array_equal(ours[0], theirs[0])


@pytest.mark.parametrize("case", CONVS, ids=lambda c: f"{c[1]}")
def test_conv_integer(case: Any) -> None:
    """Exact sums, against onnxruntime."""
    x_shape, w_shape, attributes = case
    rng = np.random.default_rng(8)
    constants = {"w": bytes_of(rng, w_shape, np.uint8), "wz": np.uint8(7)}
    node = helper.make_node("ConvInteger", ["x", "w", "xz", "wz"], ["y"], **attributes)
    feeds = {"x": bytes_of(rng, x_shape, np.uint8), "xz": np.array(50, np.uint8)}
    ours, theirs = both([node], feeds, {"y": TensorProto.INT32}, 21, constants)
    np.testing.assert_array_equal(ours[0], theirs[0])


def test_qlinear_conv_with_channels_last() -> None:
    """com.microsoft.QLinearConv on NHWC equals the transposed ai.onnx one."""
    rng = np.random.default_rng(9)
    x = bytes_of(rng, (2, 6, 7, 5), np.uint8)
    constants = {
        "xs": np.float32(0.013), "xz": np.uint8(9), "w": bytes_of(rng, (8, 5, 3, 3), np.int8),
        "ws": np.float32(0.01), "wz": np.int8(0), "ys": np.float32(0.7), "yz": np.uint8(99),
    }  # fmt: skip
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    last = helper.make_node("QLinearConv", names, ["y"], domain="com.microsoft", channels_last=1)
    first = helper.make_node("QLinearConv", names, ["y"])
    kind = {"y": TensorProto.UINT8}
    (got,) = run_nodes([last], {"x": x}, kind, 21, None, constants)
    feeds = {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2))}
    (want,) = run_nodes([first], feeds, kind, 21, "onnxruntime", constants)
    np.testing.assert_array_equal(got, want.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("dilation", [960383883, 1000003])
@pytest.mark.parametrize("group", [1, 5])
def test_qlinear_conv_with_taps_far_apart(dilation: int, group: int) -> None:
    """Nothing but the middle of the window lies in the image; the window itself has more bytes than
    a memory, and with the first dilation their number overflows to a small one."""
    rng = np.random.default_rng(10)
    x = bytes_of(rng, (1, 5, 2, 1), np.uint8)
    constants = {
        "xs": np.float32(0.013), "xz": np.uint8(9), "ws": np.float32(0.01), "wz": np.int8(0),
        "w": bytes_of(rng, (5, 5 // group, 3, 3), np.int8), "ys": np.float32(0.07),
        "yz": np.uint8(99),
    }  # fmt: skip
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    far = helper.make_node(
        "QLinearConv", names, ["y"], dilations=[dilation] * 2, pads=[dilation] * 4, group=group
    )
    near = helper.make_node("QLinearConv", names, ["y"], group=group)
    kind = {"y": TensorProto.UINT8}
    (got,) = run_nodes([far], {"x": x}, kind, 21, None, constants)
    constants["w"] = constants["w"][:, :, 1:2, 1:2]
    (want,) = run_nodes([near], {"x": x}, kind, 21, "onnxruntime", constants)
    np.testing.assert_array_equal(got, want)
