"""Operators of neural networks and signal processing beyond the cases of ONNX: padding modes,
strides, groups, empty batches, odd axes, every floating type. The judge is onnxruntime in float,
or ONNX's reference evaluator (in numpy) where onnxruntime lacks the operator. The cases also cover
what the operators share: ops/window.c, work.c, fft.c, loss.c, einsum_parse.c."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from nn_nodes import CASES, Node
from onnx import helper
from onnx.reference import ReferenceEvaluator
from run_nodes import run_nodes

pytestmark = pytest.mark.full

TOLERANCE = {"float32": 2e-5, "float64": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}


def make_feeds(case: Node, dtype: str) -> dict[str, np.ndarray]:
    """Numbers that the type can hold; whole arrays keep integers and take the type otherwise."""
    rng = np.random.default_rng(len(case.name))
    target = np.dtype(getattr(ml_dtypes, dtype, dtype))
    feeds = {}
    for i, given in enumerate(case.inputs):
        if given is None:
            continue
        if isinstance(given, tuple):
            values: Any = rng.standard_normal(given)
            if target.kind in "iu":
                values = np.round(values * 5)
            feeds[f"i{i}"] = values.astype(target)
        else:
            array = np.asarray(given)
            feeds[f"i{i}"] = array.astype(target) if array.dtype.kind == "f" else array
    return feeds


def expected(case: Node, node: onnx.NodeProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The judge's outputs, computed in float (or in the type itself for integers)."""
    wide = {n: a if a.dtype.kind in "iub" else a.astype(np.float32) for n, a in feeds.items()}
    if case.judge == "numpy_group":
        x, scale, bias = (wide[f"i{i}"].astype(np.float64) for i in range(3))
        g = x.reshape(x.shape[0], len(scale), -1)
        g = (g - g.mean(-1, keepdims=True)) / np.sqrt(g.var(-1, keepdims=True) + 1e-5)
        return [(g * scale[:, None] + bias[:, None]).reshape(x.shape)]
    kinds = {n: 0 for n in node.output if n}
    if case.judge == "reference":
        ins = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in wide.items()
        ]
        outs = [helper.make_empty_tensor_value_info(n) for n in kinds]
        graph = helper.make_graph([node], "g", ins, outs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)])
        return ReferenceEvaluator(model).run(None, wide)
    return run_nodes(
        [node], wide, output_kinds(case, np.dtype(np.float32), wide), case.opset, "onnxruntime"
    )


def output_kinds(case: Node, dtype: np.dtype, feeds: dict[str, np.ndarray]) -> dict[str, int]:
    """Element types of the outputs: the inputs' type, but for indices and windows."""
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    if case.op == "Einsum":
        kind = helper.np_dtype_to_tensor_dtype(feeds["i0"].dtype)
    if "output_datatype" in case.attrs:
        kind = case.attrs["output_datatype"]
    kinds = {f"o{i}": kind for i in range(case.outputs)}
    if case.op == "MaxPool" and case.outputs == 2:
        kinds["o1"] = onnx.TensorProto.INT64
    return kinds


ALL = [(case, t) for case in CASES for t in case.types]


@pytest.mark.parametrize(("case", "dtype"), ALL, ids=[f"{c.name}-{t}" for c, t in ALL])
def test_against_judge(case: Node, dtype: str) -> None:
    """Each case in each of its types, with an error measured against the largest element."""
    feeds = make_feeds(case, dtype)
    names = [f"i{i}" if x is not None else "" for i, x in enumerate(case.inputs)]
    node = helper.make_node(case.op, names, [f"o{i}" for i in range(case.outputs)], **case.attrs)
    target = np.dtype(getattr(ml_dtypes, dtype, dtype))
    got = run_nodes([node], feeds, output_kinds(case, target, feeds), case.opset)
    want = expected(case, node, feeds)
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        if b.dtype.kind in "iu":
            np.testing.assert_array_equal(a, b)
            continue
        wide = np.asarray(a).astype(np.float64)
        np.testing.assert_array_equal(np.isnan(wide), np.isnan(b))
        scale = float(np.nanmax(np.abs(b), initial=1e-6))
        error = float(np.nanmax(np.abs(wide - b), initial=0.0))
        assert error <= scale * TOLERANCE[dtype] * case.tol
