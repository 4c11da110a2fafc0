"""Resize and Upsample against onnxruntime: every mode, coordinate rule and rounding, up and down,
by scales and by sizes, whole numbers (coordinates and weights are made by ops/resize_plan.c);
NonMaxSuppression on many boxes; refusals of bad input."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper
from run_nodes import both, run_nodes

import engine

pytestmark = pytest.mark.full

COORDS = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]
SIZES = [(7, 9), (2, 3), (5, 4), (1, 1), (10, 8), (5, 13)]


def resize(
    x: np.ndarray,
    sizes: tuple[int, ...] | None = None,
    scales: tuple[float, ...] | None = None,
    opset: int = 19,
    roi: np.ndarray | None = None,
    **attrs: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Results of the engine and of onnxruntime."""
    constants: dict[str, np.ndarray] = {}
    if sizes is not None:
        constants["sizes"] = np.array(sizes, np.int64)
    if scales is not None:
        constants["scales"] = np.array(scales, np.float32)
    if roi is not None:
        constants["roi"] = roi
    names = ["x", *(n if n in constants else "" for n in ("roi", "scales", "sizes"))]
    node = helper.make_node("Resize", names, ["y"], **attrs)
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    ours, theirs = both([node], {"x": x}, {"y": kind}, opset, constants)
    return ours[0], theirs[0]


def image(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """Reproducible noise; whole numbers of the type's range."""
    rng = np.random.default_rng(sum(shape))
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        low, high = max(int(info.min), -1000), min(int(info.max), 1000)
        return rng.integers(low, high, shape, endpoint=True).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("coords", COORDS)
@pytest.mark.parametrize("size", SIZES)
def test_filters_by_sizes(mode: str, coords: str, size: tuple[int, int]) -> None:
    """Linear and cubic in two dims."""
    ours, theirs = resize(
        image(2, 3, 5, 4), (2, 3, *size), mode=mode, coordinate_transformation_mode=coords
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("coords", COORDS)
@pytest.mark.parametrize("rule", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("size", SIZES)
def test_nearest_by_sizes(coords: str, rule: str, size: tuple[int, int]) -> None:
    """The same pixels are picked, ties included."""
    ours, theirs = resize(
        image(1, 2, 5, 4),
        (1, 2, *size),
        mode="nearest",
        coordinate_transformation_mode=coords,
        nearest_mode=rule,
    )
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("scale", [0.5, 0.6, 1.5, 2.0, 3.0, 1.3])
@pytest.mark.parametrize("coords", ["half_pixel", "asymmetric", "pytorch_half_pixel"])
def test_scales(mode: str, scale: float, coords: str) -> None:
    """Scales are used as they are, also where the size is rounded down."""
    ours, theirs = resize(
        image(1, 2, 6, 7),
        scales=(1, 1, scale, scale),
        mode=mode,
        coordinate_transformation_mode=coords,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("exclude", [0, 1])
@pytest.mark.parametrize("size", [(3, 5), (4, 9), (11, 20), (30, 6)])
def test_antialias(mode: str, exclude: int, size: tuple[int, int]) -> None:
    """The filter grows with the step."""
    ours, theirs = resize(
        image(1, 2, 16, 20), (1, 2, *size), mode=mode, antialias=1, exclude_outside=exclude
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
def test_whole_numbers(dtype: Any) -> None:
    """Truncated; a step of 1 where sums round otherwise."""
    ours, theirs = resize(image(1, 1, 9, 8, dtype=dtype), (1, 1, 5, 12), mode="linear")
    assert np.abs(ours.astype(np.int64) - theirs.astype(np.int64)).max() <= 1
    assert (ours == theirs).mean() > 0.95


def test_whole_numbers_antialiased() -> None:
    """Rounded, once; onnxruntime rounds after each axis."""
    ours, theirs = resize(
        image(1, 1, 90, 80, dtype=np.uint8), (1, 1, 50, 32), mode="linear", antialias=1
    )
    assert np.abs(ours.astype(np.int64) - theirs.astype(np.int64)).max() <= 1


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(np.float64, 2e-6), (np.float16, 2e-3), (ml_dtypes.bfloat16, 1e-2)],
    ids=["float64", "float16", "bfloat16"],
)
def test_floating_types(mode: str, dtype: Any, tolerance: float) -> None:
    """Against onnxruntime in float."""
    x, sizes = image(2, 3, 5, 4).astype(dtype), np.array([2, 3, 7, 9], np.int64)
    node = helper.make_node("Resize", ["x", "", "", "s"], ["y"], mode=mode)
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    ours = run_nodes([node], {"x": x}, {"y": kind}, 19, None, {"s": sizes})[0]
    theirs = run_nodes(
        [node],
        {"x": x.astype(np.float32)},
        {"y": TensorProto.FLOAT},
        19,
        "onnxruntime",
        {"s": sizes},
    )[0]
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours.astype(np.float64), theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.int64, np.uint32, np.bool_, np.complex64, object])
def test_nearest_moves_any_type(dtype: Any) -> None:
    """Elements are moved as they are, strings too."""
    x = np.arange(20).reshape(1, 1, 4, 5)
    x = x % 2 == 1 if dtype is np.bool_ else x.astype(str).astype(object) if dtype is object else x
    x = x.astype(dtype)
    kind = TensorProto.STRING if dtype is object else helper.np_dtype_to_tensor_dtype(x.dtype)
    info = helper.make_tensor_value_info
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], mode="nearest")
    scales = helper.make_tensor("s", TensorProto.FLOAT, [4], [1, 1, 2, 3])
    graph = helper.make_graph(
        [node], "g", [info("x", kind, x.shape)], [info("y", kind, None)], [scales]
    )
    opsets = [helper.make_opsetid("", 19)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    got = engine.make_session(engine.load_engine(), model).run(None, {"x": x})[0]
    np.testing.assert_array_equal(got, x.repeat(2, 2).repeat(3, 3))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_crop(mode: str) -> None:
    """tf_crop_and_resize with a region that leaves the image."""
    roi = np.array([0, 0, 0.2, -0.3, 1, 1, 0.9, 1.2], np.float32)
    ours, theirs = resize(
        image(1, 2, 6, 7),
        (1, 2, 5, 8),
        roi=roi,
        mode=mode,
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=7.5,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller", "stretch"])
@pytest.mark.parametrize("sizes", [(7, 5), (20, 8), (3, 30)])
def test_aspect_ratio(policy: str, sizes: tuple[int, int]) -> None:
    """Sizes of some axes."""
    ours, theirs = resize(
        image(1, 1, 6, 9), sizes, mode="linear", axes=[2, 3], keep_aspect_ratio_policy=policy
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("shape", "out"),
    [((5, 4), (7, 9)), ((3, 5, 6), (5, 4, 9)), ((1, 1, 5, 4, 6), (1, 1, 7, 8, 5))],
)
def test_other_ranks(shape: tuple[int, ...], out: tuple[int, ...]) -> None:
    """Two, three and five dims."""
    ours, theirs = resize(image(*shape), out, mode="linear")
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("opset", [7, 9, 10])
def test_older_forms(mode: str, opset: int) -> None:
    """Upsample with scales as attribute and input, Resize 10 up and down."""
    x = image(1, 2, 5, 6)
    for scale in (2.0, 1.5) if opset < 10 else (2.0, 1.5, 0.6):
        scales = np.array([1, 1, scale, scale], np.float32)
        op = "Resize" if opset == 10 else "Upsample"
        if opset == 7:
            node = helper.make_node(op, ["x"], ["y"], mode=mode, scales=scales.tolist())
            ours, theirs = both([node], {"x": x}, {"y": TensorProto.FLOAT}, 8)
        else:
            node = helper.make_node(op, ["x", "s"], ["y"], mode=mode)
            ours, theirs = both([node], {"x": x}, {"y": TensorProto.FLOAT}, opset, {"s": scales})
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5, atol=1e-5)


def test_scales_and_sizes_from_data() -> None:
    """Sizes that only a run knows."""
    x, sizes = image(1, 2, 5, 6), np.array([1, 2, 8, 9], np.int64)
    node = helper.make_node("Resize", ["x", "", "", "s"], ["y"], mode="linear")
    ours, theirs = both([node], {"x": x, "s": sizes}, {"y": TensorProto.FLOAT}, 19)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-4, atol=2e-5)
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], mode="cubic")
    scales = np.array([1, 1, 1.3, 0.7], np.float32)
    ours, theirs = both([node], {"x": x, "s": scales}, {"y": TensorProto.FLOAT}, 19)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(("center", "limit"), list(itertools.product([0, 1], [1, 7, 1000])))
def test_suppression_of_many_boxes(center: int, limit: int) -> None:
    """Several classes and images, equal scores, both box formats."""
    rng = np.random.default_rng(3)
    boxes = rng.uniform(0, 10, (2, 60, 4)).astype(np.float32)
    scores = np.round(rng.uniform(0, 1, (2, 3, 60)), 1).astype(np.float32)
    node = helper.make_node(
        "NonMaxSuppression", ["b", "s", "m", "i", "t"], ["y"], center_point_box=center
    )
    constants = {
        "m": np.array([limit], np.int64),
        "i": np.array([0.3], np.float32),
        "t": np.array([0.25], np.float32),
    }
    feeds = {"b": boxes, "s": scores}
    ours, theirs = both([node], feeds, {"y": TensorProto.INT64}, 11, constants)
    np.testing.assert_array_equal(ours[0], theirs[0])


F, L = np.float32, np.int64
REFUSED: dict[str, tuple[str, list[Any], dict[str, Any], int]] = {
    "groups": (
        "ConvTranspose",
        [np.ones((1, 3, 4, 4), F), np.ones((3, 1, 2, 2), F)],
        {"group": 2},
        22,
    ),
    "kernel of W": (
        "ConvTranspose",
        [np.ones((1, 2, 4, 4), F), np.ones((2, 1, 2, 2), F)],
        {"kernel_shape": [3, 3]},
        22,
    ),
    "position": (
        "RotaryEmbedding",
        [np.ones((1, 1, 2, 4), F), np.ones((3, 2), F), np.ones((3, 2), F), np.array([[0, 3]], L)],
        {},
        23,
    ),
    "unpool index": (
        "MaxUnpool",
        [np.ones((1, 1, 1, 1), F), np.full((1, 1, 1, 1), 99, L)],
        {"kernel_shape": [2, 2]},
        22,
    ),
    "label": ("NegativeLogLikelihoodLoss", [np.ones((2, 3), F), np.array([0, 3], L)], {}, 13),
    "roi batch": (
        "RoiAlign",
        [np.ones((1, 1, 3, 3), F), np.ones((1, 4), F), np.array([1], L)],
        {},
        16,
    ),
    "einsum": ("Einsum", [np.ones((2, 3), F), np.ones((4, 2), F)], {"equation": "ij,jk"}, 12),
    "einsum text": ("Einsum", [np.ones((2, 3), F)], {"equation": "i!->i"}, 12),
    "sequence length": (
        "RNN",
        [
            np.ones((3, 1, 2), F),
            np.ones((1, 4, 2), F),
            np.ones((1, 4, 4), F),
            None,
            np.array([5], np.int32),
        ],
        {"hidden_size": 4},
        14,
    ),
    "heads": (
        "Attention",
        [np.ones((1, 3, 2, 4), F), np.ones((1, 2, 2, 4), F), np.ones((1, 2, 2, 4), F)],
        {},
        23,
    ),
    "huge dilation": (
        "Conv",
        [np.ones((1, 1, 4, 4), F), np.ones((1, 1, 2, 2), F)],
        {"dilations": [2**62, 1]},
        22,
    ),
    "zero scale": ("Resize", [np.ones((1, 1, 4, 4), F), None, np.array([1, 1, 0, 1], F)], {}, 19),
    "det": ("Det", [np.ones((2, 3), F)], {}, 11),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """Input that makes no sense is an error that names the operator, never a crash."""
    op, inputs, attrs, opset = REFUSED[name]
    names = [f"i{i}" if x is not None else "" for i, x in enumerate(inputs)]
    feeds = {n: x for n, x in zip(names, inputs, strict=True) if n}
    node = helper.make_node(op, names, ["y"], **attrs)
    with pytest.raises(Exception, match=op):
        run_nodes([node], feeds, {"y": TensorProto.FLOAT}, opset)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("channels", [16, 20])
@pytest.mark.parametrize("by", ["scales", "sizes", "axes"])
def test_between_convolutions(mode: str, channels: int, by: str) -> None:
    """Conv, Resize, Add, Conv: values stay in channel blocks (resize_node.c)."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((2, 8, 5, 6)).astype(np.float32)
    constants = {
        "v": rng.standard_normal((channels, 8, 1, 1)).astype(np.float32),
        "u": rng.standard_normal((18, channels, 3, 3)).astype(np.float32),
        "scales": np.array([1, 1, 2, 1.5], np.float32),
        "sizes": np.array([2, channels, 10, 9], np.int64),
        "some": np.array([10, 9], np.int64),
    }
    ins = {"scales": ["t", "", "scales"], "sizes": ["t", "", "", "sizes"]}
    attrs = {"axes": [2, 3]} if by == "axes" else {}
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["t"]),
        helper.make_node("Resize", ins.get(by, ["t", "", "", "some"]), ["r"], mode=mode, **attrs),
        helper.make_node("Relu", ["r"], ["q"]),
        helper.make_node("Conv", ["q", "u"], ["y"], pads=[1, 1, 1, 1]),
    ]
    used = {n for node in nodes for n in node.input}
    constants = {n: a for n, a in constants.items() if n in used}
    ours, theirs = both(nodes, {"x": x}, {"y": TensorProto.FLOAT}, 19, constants)
    scale = float(np.abs(theirs[0]).max())
    np.testing.assert_allclose(ours[0], theirs[0], rtol=0, atol=2e-5 * scale)
