"""SVMClassifier (ml_svm) and CastMap (ml_cast_map) of ai.onnx.ml, against onnxruntime; what that
cannot be fed with (maps of strings, empty maps), against what the standard says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from test_ops_ml import POST, run, same

import engine

pytestmark = pytest.mark.full
F32 = np.float32


def machine(
    rng: np.random.Generator, classes: int, kernel: str, probabilities: bool, positive: bool
) -> dict[str, Any]:
    """Attributes of a classifier over three features."""
    per_class = [2, 1, 3, 2][:classes]
    pairs, vectors = classes * (classes - 1) // 2, sum(per_class)

    def floats(n: int) -> list[float]:
        return [float(v) for v in rng.standard_normal(n).astype(F32)]

    weights = floats((classes - 1) * vectors)
    made = {
        "kernel_type": kernel,
        "kernel_params": [0.5, 0.25, 2.0],
        "support_vectors": floats(3 * vectors),
        "coefficients": [abs(w) for w in weights] if positive else weights,
        "rho": floats(pairs),
        "vectors_per_class": per_class,
    }
    if probabilities:
        made |= {"prob_a": floats(pairs), "prob_b": floats(pairs)}
    return made


@pytest.mark.parametrize("post", [*POST, "PROBIT"])
@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_svm_classifier(kernel: str, post: str) -> None:
    """Votes of pairs, sums or coupled probabilities, labels of both kinds, every input type."""
    rng = np.random.default_rng(8)
    for classes in (2, 3, 4):
        for probabilities in (False, True):
            if post == "PROBIT" and not probabilities:
                continue  # outside of (0, 1): not defined
            for positive in (False, True):
                attributes = machine(rng, classes, kernel, probabilities, positive)
                names: dict[str, Any] = {"classlabels_ints": [7, 3, 5, 1][:classes]}
                if positive:
                    names = {"classlabels_strings": ["a", "é", "", "d"][:classes]}
                x = rng.standard_normal((20, 3)).astype(F32)
                attributes |= names | {"post_transform": post}
                # onnxruntime's inverse of the error function is one in float
                bound = 2e-2 if post == "PROBIT" else 2e-5
                same("SVMClassifier", x, outputs=2, bound=bound, **attributes)
    for dtype in (np.float64, np.int64, np.int32):
        x = (3 * rng.standard_normal((6, 3))).astype(dtype)
        same("SVMClassifier", x, outputs=2, bound=bound, **attributes)


@pytest.mark.parametrize("post", POST)
def test_svm_classifier_without_vectors(post: str) -> None:
    """Linear scores; of two classes the second wins above 0, or 1/2 where no weight is negative."""
    rng = np.random.default_rng(9)
    for classes in (1, 2, 3):
        for positive in (False, True):
            w = rng.standard_normal(3 * classes).astype(F32)
            x = (rng.standard_normal((40, 3)) / 2).astype(F32)
            same(
                "SVMClassifier", x, outputs=2, kernel_type="RBF", post_transform=post,
                kernel_params=[0.5, 0.25, 2.0], rho=[0.125], classlabels_ints=[7, 3, 5][:classes],
                coefficients=[float(v) for v in (np.abs(w) if positive else w)],
            )  # fmt: skip


def test_bad_svm_classifiers_are_errors() -> None:
    """Lists whose lengths do not fit each other."""
    base = machine(np.random.default_rng(10), 3, "RBF", True, False)
    base["classlabels_ints"] = [1, 2, 3]
    x = np.zeros((2, 3), F32)
    run("SVMClassifier", [x], 2, None, 3, **base)
    bad: list[tuple[dict[str, Any], str]] = [
        ({"classlabels_ints": [1, 2]}, "vectors_per_class"),
        ({"coefficients": [1.0]}, "coefficients"),
        ({"support_vectors": [1.0]}, "support_vectors"),
        ({"rho": [1.0]}, "rho"),
        ({"prob_b": [1.0]}, "prob_b"),
        ({"kernel_type": "CUBIC"}, "CUBIC"),
        ({"vectors_per_class": [2, -1, 3]}, "vectors_per_class"),
        ({"vectors_per_class": [0, 0, 0]}, "no support vectors"),
        ({"vectors_per_class": [2**31, 2**31, 2**62]}, "vectors_per_class"),
    ]
    for change, text in bad:
        with pytest.raises(Exception, match=text):
            run("SVMClassifier", [x], 2, None, 3, **{**base, **change})
    with pytest.raises(Exception, match="support_vectors"):
        run("SVMClassifier", [x[:, :2]], 2, None, 3, **base)


def cast_map(feed: dict[int, Any], to: str, module: str | None = None, **attributes: Any) -> Any:
    """CastMap of a map(int64, float), or of strings if there are some."""
    text = any(isinstance(v, str) for v in feed.values())
    inner = helper.make_tensor_type_proto(TensorProto.STRING if text else TensorProto.FLOAT, [])
    x = helper.make_value_info("x", helper.make_map_type_proto(TensorProto.INT64, inner))
    kind = {"TO_FLOAT": 1, "TO_STRING": 8, "TO_INT64": 7}[to]
    y = helper.make_tensor_value_info("y", kind, None)
    node = helper.make_node("CastMap", ["x"], ["y"], domain="ai.onnx.ml", cast_to=to, **attributes)
    graph = helper.make_graph([node], "g", [x], [y])
    opsets = [helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return engine.make_session(engine.load_engine(module), model).run(None, {"x": feed})[0]


@pytest.mark.parametrize("to", ["TO_FLOAT", "TO_STRING", "TO_INT64"])
def test_cast_map(to: str) -> None:
    """Keys in any order, both forms, numbers at the ends of their range."""
    feeds = [
        {3: 1.5, 1: -2.75, 5: 1e10, 7: 0.1},
        {0: 1.0, 2: float("nan")},
        {1: 1e30, 2: -0.9, 3: 123456792.0, 4: 1e-7, 5: float("inf")},
    ]
    for feed in feeds:
        for form in ({}, {"map_form": "SPARSE", "max_map": 6}):
            got, want = (cast_map(feed, to, module, **form) for module in (None, "onnxruntime"))
            assert got.dtype == want.dtype and got.shape == want.shape
            assert np.array_equal(got, want, equal_nan=to == "TO_FLOAT")


def test_cast_map_of_strings_and_errors() -> None:
    """Strings are parsed or handed on; what cannot be is an error."""
    feed = {3: "1.5", 1: "-2", 5: "7"}
    assert cast_map(feed, "TO_FLOAT").tolist() == [[-2.0, 1.5, 7.0]]
    assert cast_map(feed, "TO_STRING").tolist() == [["-2", "1.5", "7"]]
    sparse = {"map_form": "SPARSE", "max_map": 3}
    assert cast_map({1: "4"}, "TO_INT64", **sparse).tolist() == [[0, 4, 0]]
    assert cast_map({}, "TO_FLOAT").shape == (1, 0)
    for wrong, to, form, text in (
        ({1: "x"}, "TO_FLOAT", {}, "'x' is not a number"),
        ({1: "1.5"}, "TO_INT64", {}, "'1.5' is not a number"),
        ({-1: 1.0}, "TO_FLOAT", sparse, "key -1 is negative"),
        ({1: 1.0}, "TO_FLOAT", {"map_form": "THIN"}, "map_form 'THIN'"),
        ({1: 1.0}, "TO_FLOAT", {"map_form": "SPARSE", "max_map": 0}, "max_map is 0"),
    ):
        with pytest.raises(Exception, match=text):
            cast_map(wrong, to, **form)
