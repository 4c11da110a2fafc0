"""Kernels of detection heads: NonMaxSuppression, and Concat and Split of plain tensors.

Covers nms_node.c and concat_node.c: against onnxruntime and numpy, on sizes that are shared out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import engine

pytestmark = pytest.mark.quick


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, np.ndarray],
    outputs: list[str],
    **constants: np.ndarray,
) -> bytes:
    """A model whose inputs have the types of these arrays."""
    element = helper.np_dtype_to_tensor_dtype
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(k, element(v.dtype), v.shape) for k, v in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(made, opset_imports=opset, ir_version=9).SerializeToString()


def boxes_and_scores(seed: int, images: int, classes: int, n: int) -> dict[str, np.ndarray]:
    """Boxes in the unit square that often overlap; scores with many ties."""
    rng = np.random.default_rng(seed)
    boxes = rng.random((images, n, 4)).astype(np.float32)
    boxes[..., 2:] *= np.float32(0.3)
    boxes[:, : n // 8] = boxes[:, n // 8 : n // 8 * 2]
    scores = (rng.integers(-20, 40, (images, classes, n)) / 40).astype(np.float32)
    return {"boxes": boxes, "scores": scores}


@pytest.mark.parametrize("center", [0, 1])
@pytest.mark.parametrize("least", [None, 0.25, -1.0])
@pytest.mark.parametrize("limit", [1, 7, 5000])
def test_boxes_are_those_of_onnxruntime(center: int, least: float | None, limit: int) -> None:
    """The same boxes in the same order, for every number of threads."""
    for images, classes, n in ((1, 1, 1), (2, 3, 40), (1, 20, 900)):
        feeds = boxes_and_scores(images + n, images, classes, n)
        constants = {"limit": np.array([limit]), "iou": np.array([0.4], np.float32)}
        names = ["boxes", "scores", "limit", "iou"]
        if least is not None:
            constants["least"] = np.array([least], np.float32)
            names.append("least")
        node = helper.make_node("NonMaxSuppression", names, ["y"], center_point_box=center)
        data = graph([node], feeds, ["y"], **constants)
        want = engine.make_session(onnxruntime, data).run(None, feeds)[0]
        module = engine.load_engine()
        for threads in (1, 0):
            options = module.SessionOptions()
            options.intra_op_num_threads = threads
            session = module.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            np.testing.assert_array_equal(session.run(None, feeds)[0], want)


def test_scores_that_are_no_numbers() -> None:
    """NaN is never selected; without a threshold -inf is; a limit of 0 selects nothing."""
    feeds = boxes_and_scores(1, 1, 2, 30)
    feeds["scores"][0, 0, ::3] = np.nan
    feeds["scores"][0, 1, ::4] = -np.inf
    names = ["boxes", "scores", "limit", "iou"]
    node = helper.make_node("NonMaxSuppression", names, ["y"])
    for limit, rows in ((0, 0), (30, 20 + 30)):
        constants = {"limit": np.array([limit]), "iou": np.array([1], np.float32)}
        data = graph([node], feeds, ["y"], **constants)
        got = engine.make_session(engine.load_engine(), data).run(None, feeds)[0]
        assert got.shape == (rows, 3)
        assert not np.isnan(feeds["scores"][got[:, 0], got[:, 1], got[:, 2]]).any()


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "float16", "bool"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_concat_and_split(dtype: str, axis: int) -> None:
    """Parts of all sizes, empty ones too; few long runs and many short ones."""
    rng = np.random.default_rng(3)
    for base, sizes in (((3, 5, 7), (1, 2, 0, 4)), ((200, 60, 90), (2, 2, 31)), ((2, 2, 2), (1,))):
        parts = []
        for size in sizes:
            shape = list(base)
            shape[axis] = size
            parts.append((rng.random(shape) * 200 - (0 if dtype == "uint8" else 50)).astype(dtype))
        feeds = {f"x{i}": part for i, part in enumerate(parts)}
        outs = [f"y{i}" for i in range(len(parts))]
        nodes = [
            helper.make_node("Concat", list(feeds), ["whole"], axis=axis),
            helper.make_node("Split", ["whole", "sizes"], outs, axis=axis),
        ]
        data = graph(nodes, feeds, ["whole", *outs], sizes=np.array(sizes))
        got = engine.make_session(engine.load_engine(), data).run(None, feeds)
        np.testing.assert_array_equal(got[0], np.concatenate(parts, axis))
        for y, part in zip(got[1:], parts, strict=True):
            np.testing.assert_array_equal(y, part)


def test_split_with_an_output_that_nobody_wants() -> None:
    """An absent output in the middle."""
    x = np.arange(24, dtype=np.float32).reshape(2, 12)
    node = helper.make_node("Split", ["x", "sizes"], ["a", "", "c"], axis=1)
    data = graph([node], {"x": x}, ["a", "c"], sizes=np.array([3, 4, 5]))
    a, c = engine.make_session(engine.load_engine(), data).run(None, {"x": x})
    np.testing.assert_array_equal(a, x[:, :3])
    np.testing.assert_array_equal(c, x[:, 7:])
