"""ai.onnx.ml against onnxruntime: trees (ml_trees), linear models, categories (ml_common)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import difference
from onnx import TensorProto, helper, numpy_helper

import engine

pytestmark = pytest.mark.full

F32 = np.float32
DOMAIN = "ai.onnx.ml"


def run(
    op: str,
    feeds: list[np.ndarray],
    outputs: int,
    module: str | None,
    version: int,
    **attributes: Any,
) -> list[Any]:
    """One node; all outputs."""
    names = [f"x{i}" for i in range(len(feeds))]
    outs = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, outs, domain=DOMAIN, **attributes)
    kinds = [
        TensorProto.STRING if a.dtype == object else helper.np_dtype_to_tensor_dtype(a.dtype)
        for a in feeds
    ]
    inputs = [
        helper.make_tensor_value_info(n, k, [None] * a.ndim)
        for n, k, a in zip(names, kinds, feeds, strict=True)
    ]
    results = [helper.make_empty_tensor_value_info(o) for o in outs]
    graph = helper.make_graph([node], "g", inputs, results)
    opsets = [helper.make_opsetid(DOMAIN, version), helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    session = engine.make_session(engine.load_engine(module), model)
    return session.run(None, dict(zip(names, feeds, strict=True)))


def same(
    op: str, *feeds: np.ndarray, outputs: int = 1, version: int = 3, bound: float = 2e-5,
    **attributes: Any,
) -> None:  # fmt: skip
    """Ours and onnxruntime's outputs agree."""
    got = run(op, list(feeds), outputs, None, version, **attributes)
    try:
        want = run(op, list(feeds), outputs, "onnxruntime", version, **attributes)
    except Exception as error:
        if "NOT_IMPLEMENTED" in str(error):
            return  # this element type: ours runs, there is nothing to compare with
        raise
    problem = difference(got, want, bound, bound / 10)
    assert problem is None, f"{attributes.get('post_transform')}: {problem}"


def forest(
    rng: np.random.Generator, features: int, modes: list[str], trees: int = 5
) -> dict[str, Any]:
    """Node attributes of random trees of depth 3; leaves are listed under "leaves"."""
    lists: dict[str, list[Any]] = {
        f"nodes_{key}": []
        for key in (
            "treeids", "nodeids", "featureids", "values", "modes", "truenodeids",
            "falsenodeids", "missing_value_tracks_true",
        )
    }  # fmt: skip
    leaves: list[tuple[int, int]] = []
    for tree in range(trees):
        for node in range(15):
            leaf = node >= 7
            row = {
                "treeids": tree,
                "nodeids": node,
                "featureids": 0 if leaf else int(rng.integers(features)),
                "values": 0.0 if leaf else float(rng.integers(-2, 3)) / 2,
                "modes": "LEAF" if leaf else modes[int(rng.integers(len(modes)))],
                "truenodeids": 0 if leaf else 2 * node + 1,
                "falsenodeids": 0 if leaf else 2 * node + 2,
                "missing_value_tracks_true": 0 if leaf else int(rng.integers(2)),
            }
            for key, value in row.items():
                lists[f"nodes_{key}"].append(value)
            if leaf:
                leaves.append((tree, node))
    return {**lists, "leaves": leaves}


def inputs(rng: np.random.Generator, dtype: Any = F32) -> np.ndarray:
    """Rows that hit thresholds exactly, with some NaN where the type has it."""
    x = rng.integers(-4, 5, (20, 4)) / 2
    if np.dtype(dtype).kind == "f":
        x[rng.random(x.shape) < 0.1] = np.nan
    return x.astype(dtype)


MODES = [["BRANCH_LEQ"], ["BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]]
POST = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"]


@pytest.mark.parametrize("modes", MODES, ids=["leq", "all"])
@pytest.mark.parametrize("how", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_tree_regressor(how: str, modes: list[str]) -> None:
    """Several targets, base values, every aggregate and input type."""
    rng = np.random.default_rng(1)
    nodes = forest(rng, 4, modes)
    leaves = nodes.pop("leaves")
    for targets, dtype in ((1, F32), (3, F32), (1, np.float64), (1, np.int64)):
        weights = [(t, n, k) for t, n in leaves for k in range(targets)]
        same(
            "TreeEnsembleRegressor", inputs(rng, dtype), aggregate_function=how, n_targets=targets,
            target_treeids=[w[0] for w in weights], target_nodeids=[w[1] for w in weights],
            target_ids=[w[2] for w in weights], base_values=[0.5] * targets,
            target_weights=[float(v) for v in rng.standard_normal(len(weights))], **nodes,
        )  # fmt: skip


@pytest.mark.parametrize("post", POST)
@pytest.mark.parametrize("classes", [2, 3])
def test_tree_classifier(classes: int, post: str) -> None:
    """One score per class, with and without base values, labels of both kinds."""
    rng = np.random.default_rng(2)
    nodes = forest(rng, 4, MODES[0])
    leaves = nodes.pop("leaves")
    weights = [(t, n, k) for t, n in leaves for k in range(classes)]
    shares = [float(v) for v in rng.standard_normal(len(weights))]
    for extra in ({}, {"base_values": [0.25] * classes}):
        for labels in (
            {"classlabels_int64s": [7, 3, 5][:classes]},
            {"classlabels_strings": ["a", "é", ""][:classes]},
        ):
            same(
                "TreeEnsembleClassifier", inputs(rng), outputs=2, post_transform=post,
                class_treeids=[w[0] for w in weights], class_nodeids=[w[1] for w in weights],
                class_ids=[w[2] for w in weights], class_weights=shares, **labels, **extra, **nodes,
            )  # fmt: skip


@pytest.mark.parametrize("post", POST)
@pytest.mark.parametrize("positive", [True, False])
def test_tree_classifier_with_one_score(positive: bool, post: str) -> None:
    """Two classes, all weights of one of them: shares of 1, or signed scores."""
    rng = np.random.default_rng(3)
    nodes = forest(rng, 4, MODES[0])
    leaves = nodes.pop("leaves")
    weights = rng.random(len(leaves)) / 5 if positive else rng.standard_normal(len(leaves))
    for which in (0, 1):
        for extra in ({}, {"base_values": [0.125]}):
            same(
                "TreeEnsembleClassifier", inputs(rng), outputs=2, post_transform=post,
                class_treeids=[t for t, _ in leaves], class_nodeids=[n for _, n in leaves],
                class_ids=[which] * len(leaves), class_weights=[float(w) for w in weights],
                classlabels_int64s=[10, 20], **extra, **nodes,
            )  # fmt: skip


@pytest.mark.parametrize("post", POST)
def test_linear_models(post: str) -> None:
    """Regressor with several targets; classifiers with one, two and three scores."""
    rng = np.random.default_rng(4)
    w = [float(v) for v in rng.standard_normal(12)]
    for dtype in (F32, np.float64, np.int64, np.int32):
        x = rng.integers(-3, 4, (6, 4)).astype(dtype)
        for k in (1, 3):
            same(
                "LinearRegressor",
                x,
                coefficients=w[: 4 * k],
                intercepts=w[:k],
                targets=k,
                post_transform=post,
            )
        for k, labels in ((1, [5, 9]), (2, [5, 9]), (3, [5, 9, 2])):
            same(
                "LinearClassifier",
                x,
                outputs=2,
                coefficients=w[: 4 * k],
                intercepts=w[:k],
                classlabels_ints=labels,
                post_transform=post,
            )
        same(
            "LinearClassifier",
            x,
            outputs=2,
            coefficients=w,
            intercepts=w[:3],
            classlabels_strings=["a", "b", "c"],
            post_transform=post,
        )


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_svm_regressor(kernel: str) -> None:
    """Support vectors with each kernel; and none, which is a linear model."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((5, 3)).astype(F32)
    vectors = [float(v) for v in rng.standard_normal(12)]
    for one in (0, 1):
        same(
            "SVMRegressor", x, kernel_type=kernel, kernel_params=[0.5, 0.25, 2.0], n_supports=4,
            support_vectors=vectors, coefficients=vectors[:4], rho=[0.125], one_class=one,
        )  # fmt: skip
    if kernel == "LINEAR":
        params = [0.0, 0.0, 0.0]
        same(
            "SVMRegressor",
            x,
            kernel_type=kernel,
            kernel_params=params,
            coefficients=vectors[:3],
            rho=[0.5],
        )


def test_scaling_and_filling() -> None:
    """Scaler, Normalizer, Imputer, FeatureVectorizer, Binarizer for every type."""
    rng = np.random.default_rng(6)
    for dtype in (F32, np.float64, np.int64, np.int32):
        x = rng.integers(-3, 4, (5, 3)).astype(dtype)
        same("Scaler", x, scale=[2.0, 0.5, 3.0], offset=[1.0, 0.0, -1.0])
        same("Scaler", x, scale=[2.0], offset=[1.0])
        for norm in ("MAX", "L1", "L2"):
            same("Normalizer", np.abs(x) + np.array(1, dtype), norm=norm)
        same("FeatureVectorizer", x, x[:, :2], inputdimensions=[3, 2])
        if dtype in (F32, np.int64):
            kind = "float" if dtype == F32 else "int64"
            values = [1.5, 2.5, 3.5] if dtype == F32 else [5, 6, 7]
            same(
                "Imputer",
                x,
                **{f"imputed_value_{kind}s": values, f"replaced_value_{kind}": values[0] * 0},
            )
        if dtype in (F32, np.int64):
            same("Binarizer", x, threshold=0.5)
    nan = np.array([[np.nan, 1.0], [2.0, np.nan]], F32)
    same("Imputer", nan, imputed_value_floats=[7.0], replaced_value_float=float("nan"))


def test_categories() -> None:
    """OneHotEncoder, CategoryMapper, ZipMap."""
    text = np.array(["b", "a", "zz"], object)
    same("OneHotEncoder", text, cats_strings=["a", "b", "c"])
    for dtype in (np.int64, np.int32, F32, np.float64):
        same("OneHotEncoder", np.array([[3, 1], [9, 2]], dtype), cats_int64s=[1, 2, 3])
    same("CategoryMapper", text, cats_strings=["a", "b"], cats_int64s=[4, 2])
    same(
        "CategoryMapper",
        np.array([2, 4, 5]),
        cats_strings=["a", "b"],
        cats_int64s=[4, 2],
        default_string="?",
    )
    scores = np.array([[0.25, 0.75], [1.0, 0.0]], F32)
    same("ZipMap", scores, classlabels_strings=["no", "yes"])
    same("ZipMap", scores, classlabels_int64s=[3, 1])
    with pytest.raises(Exception, match="Unknown Category"):
        run("OneHotEncoder", [text], 1, None, 3, cats_strings=["a"], zeros=0)


def test_bad_trees_are_errors() -> None:
    """Children, features and targets that are not there, lists of other lengths."""
    base: dict[str, Any] = {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.0, 0.0, 0.0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0], "n_targets": 1,
        "target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0],
        "target_weights": [1.0, 2.0],
    }  # fmt: skip
    x = np.zeros((2, 1), F32)
    assert run("TreeEnsembleRegressor", [x], 1, None, 3, **base)[0].tolist() == [[1.0], [1.0]]
    bad: list[tuple[dict[str, Any], str]] = [
        ({"nodes_truenodeids": [7, 0, 0]}, "no node 7"),
        ({"nodes_featureids": [3, 0, 0]}, "feature 3"),
        ({"target_ids": [0, 1]}, "target 1"),
        ({"target_nodeids": [1, 5]}, "no node"),
        ({"nodes_modes": ["BRANCH_LEQ", "LEAF", "TREE"]}, "TREE"),
        ({"nodes_nodeids": [0, 1, 1]}, "already"),
        ({"nodes_values": [0.0]}, "nodes_values"),
    ]
    for change, text in bad:
        with pytest.raises(Exception, match=text):
            run("TreeEnsembleRegressor", [x], 1, None, 3, **{**base, **change})


def ensemble(rng: np.random.Generator, dtype: Any, features: int, targets: int) -> dict[str, Any]:
    """Attributes of a TreeEnsemble of three random trees, set memberships among their nodes."""
    nodes = 21
    modes = rng.integers(0, 7, nodes).astype(np.uint8)
    members: list[float] = []
    for mode in modes:
        if mode == 6:
            members += [*rng.choice(np.arange(1, 5), 2, replace=False).astype(float), np.nan]
    child = [(2 * (i % 7) + 1, 2 * (i % 7) + 2) for i in range(nodes)]
    leaf = [c >= 7 for c, _ in child]
    tree = [i // 7 for i in range(nodes)]

    def target(i: int, c: int) -> int:
        return (c - 7) + 8 * tree[i] if leaf[i] else c + 7 * tree[i]

    def tensor(name: str, values: Any, kind: Any = dtype) -> Any:
        return numpy_helper.from_array(np.array(values, kind), name)

    return {
        "tree_roots": [0, 7, 14],
        "nodes_featureids": rng.integers(0, features, nodes).tolist(),
        "nodes_modes": tensor("modes", modes, np.uint8),
        "nodes_splits": tensor("splits", rng.integers(-2, 3, nodes) / 2),
        "nodes_truenodeids": [target(i, child[i][0]) for i in range(nodes)],
        "nodes_falsenodeids": [target(i, child[i][1]) for i in range(nodes)],
        "nodes_trueleafs": [int(v) for v in leaf],
        "nodes_falseleafs": [int(v) for v in leaf],
        "nodes_missing_value_tracks_true": rng.integers(0, 2, nodes).tolist(),
        "leaf_targetids": rng.integers(0, targets, 24).tolist(),
        "leaf_weights": tensor("weights", rng.standard_normal(24)),
        "membership_values": tensor("members", members or [np.nan]),
        "n_targets": targets,
    }


@pytest.mark.parametrize("how", [1, 2, 3, 0])
def test_tree_ensemble(how: int) -> None:
    """The form of opset 5 (ml_tree_ensemble): every mode and aggregate."""
    for seed, dtype, targets in ((1, F32, 1), (2, F32, 3), (3, np.float64, 2)):
        rng = np.random.default_rng(seed)
        attributes = ensemble(rng, dtype, 4, targets)
        same(
            "TreeEnsemble",
            inputs(rng, dtype),
            version=5,
            aggregate_function=how,
            **attributes,
        )
