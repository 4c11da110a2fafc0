"""Feeds in sequences and optionals are checked to the last tensor; half-precision networks run."""

from __future__ import annotations

import numpy as np
import onnx.helper as oh
import pytest
from onnx import TensorProto

import macart as ort

F = TensorProto.FLOAT


def session(nodes: list, value: object) -> ort.InferenceSession:
    """A model with one input `s` of that type."""
    out = oh.make_tensor_value_info("y", F, None)
    graph = oh.make_graph(nodes, "g", [oh.make_value_info("s", value)], [out])
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)
    return ort.InferenceSession(model.SerializeToString())


@pytest.mark.quick
def test_elements_of_a_sequence() -> None:
    """Another element type than the declared one is refused, with its position."""
    index = oh.make_node("Constant", [], ["i"], value_int=0)
    at = oh.make_node("SequenceAt", ["s", "i"], ["t"])
    kind = oh.make_sequence_type_proto(oh.make_tensor_type_proto(F, None))
    s = session([index, at, oh.make_node("Softmax", ["t"], ["y"])], kind)
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(s.run(None, {"s": [x]})[0], x / 4)
    with pytest.raises(ort.InvalidArgument, match=r"element 1: Unexpected input data type.*uint8"):
        s.run(None, {"s": [x, np.ones((2000, 2000), np.uint8)]})


@pytest.mark.quick
@pytest.mark.parametrize("op", ["Relu", "Softmax", "Identity"])
def test_shape_of_an_optional(op: str) -> None:
    """The dims of an optional tensor are checked like those of a tensor."""
    kind = oh.make_optional_type_proto(oh.make_tensor_type_proto(F, [2, 3]))
    nodes = [oh.make_node("OptionalGetElement", ["s"], ["t"]), oh.make_node(op, ["t"], ["y"])]
    s = session(nodes, kind)
    assert s.run(None, {"s": np.ones((2, 3), np.float32)})[0].shape == (2, 3)
    with pytest.raises(ort.InvalidArgument, match=r"index: 0 Got: 5 Expected: 2"):
        s.run(None, {"s": np.ones((5, 3), np.float32)})
    with pytest.raises(ort.InvalidArgument, match="Invalid rank for input: s Got: 1 Expected: 2"):
        s.run(None, {"s": np.ones(6, np.float32)})


@pytest.mark.quick
@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_narrow_networks_compute_in_float32(dtype: object) -> None:
    """A convolution and a product in half precision: float32 inside (half_fuse)."""
    ml_dtypes = pytest.importorskip("ml_dtypes") if dtype == "bfloat16" else None
    kind = np.dtype(ml_dtypes.bfloat16 if ml_dtypes else dtype)
    onnx_type = TensorProto.BFLOAT16 if ml_dtypes else TensorProto.FLOAT16
    rng = np.random.default_rng(0)
    w = (rng.standard_normal((8, 4, 3, 3)) / 6).astype(kind)
    m = (rng.standard_normal((8, 5)) / 3).astype(kind)
    nodes = [
        oh.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        oh.make_node("Relu", ["c"], ["r"]),
        oh.make_node("GlobalAveragePool", ["r"], ["p"]),
        oh.make_node("Flatten", ["p"], ["f"]),
        oh.make_node("MatMul", ["f", "m"], ["y"]),
    ]
    weights = [
        oh.make_tensor(n, onnx_type, a.shape, a.tobytes(), raw=True)
        for n, a in (("w", w), ("m", m))
    ]
    graph = oh.make_graph(
        nodes,
        "g",
        [oh.make_tensor_value_info("x", onnx_type, [2, 4, 9, 9])],
        [oh.make_tensor_value_info("y", onnx_type, None)],
        weights,
    )
    data = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 22)], ir_version=10)
    s = ort.InferenceSession(data.SerializeToString())
    assert s._sess.fired()["half"] >= 4
    x = rng.standard_normal((2, 4, 9, 9)).astype(kind)
    (y,) = s.run(None, {"x": x})
    assert y.dtype == kind
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    c = np.maximum(np.einsum("nchwij,ocij->nohw", windows, w.astype(np.float64)), 0)
    want = c.mean((2, 3)) @ m.astype(np.float64)
    np.testing.assert_allclose(y.astype(np.float64), want, rtol=1e-2, atol=2e-3)
