"""Casts to and from the small types, and the quantise family, against onnxruntime and ml_dtypes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import engine

pytestmark = pytest.mark.quick


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
    session = engine.make_session(
        engine.load_engine(module), model.SerializeToString(), optimize
    )
    return session.run(None, feeds)


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
