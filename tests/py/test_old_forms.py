"""Forms before opset 11 whose upgrade needs types, and numbers at the edge: against numpy, where
onnxruntime has no kernel any more."""

from __future__ import annotations

import macart as ort
import numpy as np
import pytest
from onnx import TensorProto, helper

pytestmark = pytest.mark.quick

node = helper.make_node


def run(nodes: list, opset: int, feeds: dict[str, np.ndarray], outs: str = "y") -> list[np.ndarray]:
    """A model whose inputs are declared and whose other values are not."""
    kinds = {
        np.float32: TensorProto.FLOAT,
        np.float64: TensorProto.DOUBLE,
        np.float16: TensorProto.FLOAT16,
    }
    ins = [helper.make_tensor_value_info(n, kinds[v.dtype.type], [f"{n}{i}" for i in range(v.ndim)])
           for n, v in feeds.items()]  # fmt: skip
    outputs = [helper.make_empty_tensor_value_info(o) for o in outs.split()]
    graph = helper.make_graph(nodes, "g", ins, outputs)
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=5)
    return ort.InferenceSession(m.SerializeToString()).run(None, feeds)


def numbers(*dims: int, dtype: type = np.float32) -> np.ndarray:
    """Between 0.5 and 2."""
    return (np.random.default_rng(sum(dims)).random(dims) * 1.5 + 0.5).astype(dtype)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, None])
@pytest.mark.parametrize(("op", "f"), [("Add", np.add), ("Div", np.divide), ("Pow", np.power)])
def test_legacy_broadcast(op: str, f: np.ufunc, axis: int | None) -> None:
    """The second shape is a slice of the first, here of one dim; both operands are computed."""
    a, b = numbers(2, 3, 4), numbers(4 if axis is None else (2, 3, 4)[axis])
    more = {} if axis is None else {"axis": axis}
    nodes = [node("Neg", ["a"], ["c"]), node("Neg", ["c"], ["d"]), node("Abs", ["b"], ["e"]),
             node(op, ["d", "e"], ["y"], broadcast=1, **more)]  # fmt: skip
    at = 2 if axis in (None, -1) else axis
    expected = f(
        a.astype(np.float64), b.astype(np.float64).reshape([-1 if i == at else 1 for i in range(3)])
    )
    for opset in (1, 6):
        got = run(nodes, opset, {"a": a, "b": b})[0]
        np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("axis", [3, -4, 1 << 62, -(1 << 62), -(1 << 63)])
def test_legacy_axis_out_of_range(axis: int) -> None:
    """Refused."""
    nodes = [node("Add", ["a", "b"], ["y"], broadcast=1, axis=axis)]
    with pytest.raises(ort.InvalidGraph, match="axis"):
        run(nodes, 6, {"a": numbers(2, 3, 4), "b": numbers(4)})


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("opset", [1, 6, 9])
def test_clip_with_attributes(dtype: type, opset: int) -> None:
    """The bounds get the type of a value that only inference knows."""
    x = numbers(3, 4, dtype=dtype)
    got = run(
        [node("Neg", ["x"], ["n"]), node("Clip", ["n"], ["y"], min=-1.25, max=-0.75)],
        opset,
        {"x": x},
    )[0]
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, np.clip(-x, dtype(-1.25), dtype(-0.75)))


def test_log_sum_exp_of_infinities() -> None:
    """+inf wins, -inf alone stays, NaN is kept."""
    x = np.array(
        [[np.inf, 1], [-np.inf, -np.inf], [np.inf, -np.inf], [np.nan, np.inf], [800, 800]],
        np.float32,
    )
    got = run([node("ReduceLogSumExp", ["x"], ["y"], axes=[1], keepdims=0)], 13, {"x": x})[0]
    np.testing.assert_allclose(got, [np.inf, -np.inf, np.inf, np.nan, 800 + np.log(2)], rtol=1e-6)


@pytest.mark.parametrize(
    ("a", "b"), [((1, 2, 3), (5, 3, 4)), ((5, 2, 3), (1, 3, 4)), ((5, 2, 3), (5, 3, 4))]
)
def test_matmul_batches_of_one(a: tuple, b: tuple) -> None:
    """Symbolic batch dims that broadcast at run time."""
    x, w = numbers(*a), numbers(*b)
    got = run([node("MatMul", ["x", "w"], ["y"])], 13, {"x": x, "w": w})[0]
    np.testing.assert_allclose(got, x.astype(np.float64) @ w, rtol=1e-5)
