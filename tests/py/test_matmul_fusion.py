"""Products fused with what surrounds them, and float32_matmul_precision: graphs and results.

Covers gemm/matmul_node, matmul_fuse, sides_node and sides_fuse.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from compare import relative_error
from onnx import TensorProto, helper, numpy_helper

import engine

pytestmark = pytest.mark.full

Arrays = dict[str, np.ndarray]
Ops = Callable[[bytes], list[str]]


def rand(seed: int, *shape: int) -> np.ndarray:
    """Reproducible normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def node(op: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    """A node; inputs are separated by spaces."""
    return helper.make_node(op, inputs.split(), [output], **attributes)


def model(nodes: list[onnx.NodeProto], inputs: dict[str, list], weights: Arrays) -> bytes:
    """Float inputs of these shapes; output y."""
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [tensor(k, TensorProto.FLOAT, v) for k, v in inputs.items()],
        [tensor("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


@pytest.fixture
def ops(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ops:
    """Operators of the optimized graph, in order."""

    def read(data: bytes) -> list[str]:
        monkeypatch.setenv("MRT_PRINT_IR", "1")
        capfd.readouterr()
        engine.make_session(engine.load_engine(), data)
        monkeypatch.delenv("MRT_PRINT_IR")
        return re.findall(r" = ([\w.]+)\(", capfd.readouterr().err)

    return read


def check(data: bytes, feeds: Arrays, bound: float = 2e-5) -> None:
    """Optimized, taken apart again, and unoptimized equal onnxruntime."""
    ort = engine.load_engine()
    options = ort.SessionOptions()
    options.add_session_config_entry("session.macart.decompose", "1")
    want = engine.make_session(onnxruntime, data, False).run(None, feeds)[0]
    for session in (
        engine.make_session(ort, data, True),
        engine.make_session(ort, data, False),
        ort.InferenceSession(data, options),
    ):
        got = session.run(None, feeds)[0]
        assert got.shape == want.shape
        assert relative_error(got, want) < bound


CONST = {"half": np.float32(0.5), "one": np.float32(1), "root": np.float32(2**0.5)}
GELU = [
    node("Div", "b root", "d"), node("Erf", "d", "e"), node("Add", "e one", "f"),
    node("Mul", "b f", "g"), node("Mul", "g half", "y"),
]  # fmt: skip


def test_bias_gelu(ops: Ops) -> None:
    """A BERT layer: MatMul, bias, erf Gelu."""
    nodes = [node("MatMul", "x w", "m"), node("Add", "bias m", "b"), *GELU]
    weights = {"w": rand(0, 40, 70), "bias": rand(1, 70), **CONST}
    data = model(nodes, {"x": ["n", 9, 40]}, weights)
    assert ops(data) == ["macart.MatMul"]
    check(data, {"x": rand(2, 3, 9, 40)})


@pytest.mark.parametrize("act", ["Relu", "Sigmoid", "Tanh", "Gelu", "HardSwish"])
def test_residual_activation(ops: Ops, act: str) -> None:
    """Bias and residual in either order, then an activation."""
    nodes = [
        node("MatMul", "x w", "m"), node("Add", "m z", "s"), node("Add", "s bias", "t"),
        node(act, "t", "y"),
    ]  # fmt: skip
    data = model(nodes, {"x": [7, 33], "z": [7, 50]}, {"w": rand(0, 33, 50), "bias": rand(1, 50)})
    assert ops(data) == ["macart.MatMul"]
    check(data, {"x": rand(2, 7, 33), "z": rand(3, 7, 50)})


def test_transposed_operands(ops: Ops) -> None:
    """Transposes of the last two dims are read in place, scaled by a constant."""
    nodes = [
        node("Transpose", "x", "xt", perm=[0, 2, 1]),
        node("Transpose", "w", "wt", perm=[0, 2, 1]),
        node("MatMul", "xt wt", "m"), node("Div", "m half", "y"),
    ]  # fmt: skip
    data = model(nodes, {"x": [3, 20, 11], "w": [3, 17, 20]}, CONST)
    assert ops(data) == ["macart.MatMul"]
    check(data, {"x": rand(0, 3, 20, 11), "w": rand(1, 3, 17, 20)})


@pytest.mark.parametrize("trans", [0, 1])
def test_gemm(ops: Ops, trans: int) -> None:
    """Gemm with a row C, then SiLU; a C that is no row stays."""
    w = rand(0, 30, 40) if trans else rand(0, 40, 30)
    nodes = [
        node("Gemm", "x w c", "m", transB=trans, alpha=0.5),
        node("Sigmoid", "m", "s"), node("Mul", "m s", "y"),
    ]  # fmt: skip
    data = model(nodes, {"x": [5, 40]}, {"w": w, "c": rand(1, 30)})
    assert ops(data) == ["macart.MatMul"]
    check(data, {"x": rand(2, 5, 40)})
    column = model(nodes, {"x": [5, 40]}, {"w": w, "c": rand(1, 5, 1)})
    assert ops(column)[0] == "Gemm"
    check(column, {"x": rand(2, 5, 40)})


def test_not_fused(ops: Ops) -> None:
    """A product that somebody else reads, and sums that widen it, stay apart."""
    shared = [node("MatMul", "x w", "m"), node("Relu", "m", "r"), node("Add", "m r", "y")]
    data = model(shared, {"x": [5, 40]}, {"w": rand(0, 40, 30)})
    assert ops(data)[0] == "MatMul"
    check(data, {"x": rand(2, 5, 40)})
    wide = model(
        [node("MatMul", "x w", "m"), node("Add", "m z", "y")],
        {"x": [5, 40], "z": [2, 1, 30]},
        {"w": rand(0, 40, 30)},
    )
    assert "macart.MatMul" not in ops(wide)
    check(wide, {"x": rand(2, 5, 40), "z": rand(3, 2, 1, 30)})


def flattened(trans: int, residual: bool) -> tuple[list[onnx.NodeProto], Arrays]:
    """A Gemm between Reshapes, the second of which is given the shape of x, and what follows."""
    nodes = [
        node("Reshape", "x rows", "flat"),
        node("Gemm", "flat w b", "product", transB=trans),
        node("Shape", "x", "shape"),
        node("Slice", "shape zero last", "lead"),
        node("Concat", "lead n", "target", axis=0),
        node("Reshape", "product target", "full"),
        node("Add", "x full", "y") if residual else node("Relu", "full", "y"),
    ]
    ints = {"rows": [-1, 40], "zero": [0], "last": [-1], "n": [40]}
    weights: Arrays = {k: np.array(v, np.int64) for k, v in ints.items()}
    return nodes, weights | {"w": rand(1, 40, 40), "b": rand(2, 40)}


@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("residual", [False, True])
def test_gemm_between_reshapes(ops: Ops, trans: int, residual: bool) -> None:
    """The product reads the value as it is; Reshapes and the computing of shapes are gone."""
    nodes, weights = flattened(trans, residual)
    data = model(nodes, {"x": ["b", "s", 40]}, weights)
    assert ops(data) == ["macart.MatMul"]
    for batch, rows in ((1, 1), (3, 7), (0, 4)):
        check(data, {"x": rand(7, batch, rows, 40)})


def test_gemm_between_other_reshapes(ops: Ops) -> None:
    """Not back to the leading dims: both stay; rows that are read again: the first one stays."""
    nodes, weights = flattened(0, False)
    weights["n"] = np.array([2, 20], np.int64)
    data = model(nodes, {"x": ["b", "s", 40]}, weights)
    assert "Reshape" in ops(data)
    check(data, {"x": rand(7, 3, 7, 40)})
    nodes, weights = flattened(0, False)
    nodes[-1:] = [node("ReduceSum", "flat", "all", keepdims=0), node("Add", "full all", "y")]
    data = model(nodes, {"x": ["b", "s", 40]}, weights)
    assert ops(data).count("Reshape") == 1
    check(data, {"x": rand(7, 3, 7, 40)})


def sides(
    count: int, k: int, n: list[int], gemm: bool = False, bias: bool = True
) -> tuple[list[onnx.NodeProto], Arrays]:
    """Products of x, whose results are summed over columns of equal number; weights."""
    nodes, weights = [], {}
    for i in range(count):
        weights[f"w{i}"] = rand(i, *((n[i], k) if gemm else (k, n[i])))
        weights[f"b{i}"] = rand(10 + i, n[i])
        if gemm:
            inputs = f"x w{i} b{i}" if bias else f"x w{i}"
            nodes.append(node("Gemm", inputs, f"y{i}", transB=1))
            continue
        nodes.append(node("MatMul", f"x w{i}", f"m{i}" if bias else f"y{i}"))
        if bias:
            nodes.append(node("Add", f"b{i} m{i}", f"y{i}"))
    join = helper.make_node("Concat", [f"y{i}" for i in range(count)], ["y"], axis=-1)
    return [*nodes, join], weights


@pytest.mark.parametrize("gemm", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_products_of_one_value(ops: Ops, gemm: bool, bias: bool, count: int) -> None:
    """Up to four products of one value become one, with widths of their own."""
    nodes, weights = sides(count, 70, [32, 64, 33, 7, 40], gemm, bias)
    shape = ["s", 70] if gemm else ["b", "s", 70]
    data = model(nodes, {"x": shape}, weights)
    assert ops(data).count("macart.MatMulSides") == 1
    for rows in (1, 5, 37):
        check(data, {"x": rand(7, rows, 70) if gemm else rand(7, 2, rows, 70)})


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("beyond", [False, True])
def test_products_of_one_value_precision(precision: str, beyond: bool) -> None:
    """The error of each precision; numbers that bf16 would round to infinity."""
    nodes, weights = sides(3, 300, [96, 64, 40])
    if beyond:
        weights["w1"][3, 5] = 3.4e38
    data = model(nodes, {"x": ["s", 300]}, weights)
    ort = engine.load_engine()
    options = ort.SessionOptions()
    options.add_session_config_entry("session.float32_matmul_precision", precision)
    session = ort.InferenceSession(data, options)
    w = np.concatenate([weights[f"w{i}"] for i in range(3)], 1).astype(np.float64)
    b = np.concatenate([weights[f"b{i}"] for i in range(3)]).astype(np.float64)
    for rows in (64, 6, 1):
        x = rand(8, rows, 300) * np.float32(1e-2 if beyond else 1)
        got = session.run(None, {"x": x})[0]
        mass = np.abs(x.astype(np.float64)) @ np.abs(w) + np.abs(b)
        error = np.abs(got - (x.astype(np.float64) @ w + b)) / mass
        assert error.max() < {"highest": 1e-6, "high": 2e-5, "medium": 8e-3}[precision]


def test_products_that_stay_apart(ops: Ops) -> None:
    """An activation, weights that are inputs, another value: nothing to merge."""
    nodes = [
        node("MatMul", "x w0", "m0"),
        node("Relu", "m0", "y0"),
        node("MatMul", "x v", "y1"),
        node("MatMul", "y1 w0", "y2"),
        node("MatMul", "x w0", "y3"),
        helper.make_node("Concat", ["y0", "y1", "y2", "y3"], ["y"], axis=-1),
    ]
    inputs = {"x": ["s", 32], "v": [32, 32]}
    data = model(nodes, inputs, {"w0": rand(1, 32, 32)})
    assert "macart.MatMulSides" not in ops(data)
    check(data, {"x": rand(2, 5, 32), "v": rand(3, 32, 32)})


def test_products_of_one_value_with_halves(tmp_path: Path) -> None:
    """Matrices that lie in a file as float16: nobody has widened them when fusions look."""
    nodes, weights = sides(3, 256, [200, 256, 160])
    wide = model(nodes, {"x": ["s", 256]}, weights)
    for i in range(3):
        weights[f"h{i}"] = weights.pop(f"w{i}").astype(np.float16)
    casts = [helper.make_node("Cast", [f"h{i}"], [f"w{i}"], to=TensorProto.FLOAT) for i in range(3)]
    path = tmp_path / "m.onnx"
    path.write_bytes(model([*casts, *nodes], {"x": ["s", 256]}, weights))
    x = {"x": rand(3, 65, 256)}
    ort = engine.load_engine()
    session = ort.InferenceSession(path)
    for precision in ("highest", "medium"):
        ort.set_float32_matmul_precision(precision)
        got = session.run(None, x)[0]
        ort.set_float32_matmul_precision("highest")
        exact = ort.InferenceSession(wide).run(None, x)[0]
        assert relative_error(got, exact) < (1e-3 if precision == "highest" else 1e-2)


def test_matmul_add_pass() -> None:
    """MatMul and a constant row become Gemm; a residual, a wider sum and other readers do not."""
    ort = engine.load_engine()

    def gemms(nodes: list[onnx.NodeProto], inputs: dict[str, list], row: np.ndarray) -> int:
        data = model(nodes, inputs, {"w": rand(0, 40, 30), "row": row})
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        session = ort.InferenceSession(data, options)
        feeds = {k: rand(7, *(5 if d == "m" else d for d in v)) for k, v in inputs.items()}
        want = engine.make_session(onnxruntime, data, False).run(None, feeds)[0]
        assert relative_error(session.run(None, feeds)[0], want) < 2e-5
        return int(session._sess.fired()["matmul_add"])

    pair = [node("MatMul", "x w", "p"), node("Add", "row p", "y")]
    assert gemms(pair, {"x": ["m", 40]}, rand(1, 30)) == 1
    assert gemms(pair, {"x": ["m", 40]}, rand(1, 1, 30)) == 1
    assert gemms(pair, {"x": ["m", 40]}, rand(1, 1)) == 0
    assert gemms(pair, {"x": ["m", 40]}, rand(1, 2, 1, 30)) == 0
    assert gemms(pair, {"x": [2, "m", 40]}, rand(1, 30)) == 0
    residual = [node("MatMul", "x w", "p"), node("Add", "z p", "y")]
    assert gemms(residual, {"x": [5, 40], "z": [5, 30]}, rand(1, 30)) == 0
    twice = [*pair[:1], node("Add", "p row", "q"), node("Mul", "p q", "y")]
    assert gemms(twice, {"x": ["m", 40]}, rand(1, 30)) == 0


def errors(precision: str) -> float:
    """Largest error / sum |a b| of a product of 256 x 256 x 512 with the session option."""
    ort = engine.load_engine()
    a, b = rand(0, 256, 512), rand(1, 512, 256)
    data = model([node("MatMul", "x w", "y")], {"x": [256, 512]}, {"w": b})
    options = ort.SessionOptions()
    if precision:
        options.add_session_config_entry("session.float32_matmul_precision", precision)
    got = ort.InferenceSession(data, options).run(None, {"x": a})[0]
    mass = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    return float((np.abs(got - a.astype(np.float64) @ b) / mass).max())


def test_precision() -> None:
    """Every mode keeps its promise; the process default holds where the session says nothing."""
    ort = engine.load_engine()
    assert ort.get_float32_matmul_precision() == "highest"
    assert errors("highest") < 3e-7
    assert errors("high") < 1.5e-6
    assert errors("medium") < 2e-3
    try:
        ort.set_float32_matmul_precision("medium")
        assert ort.get_float32_matmul_precision() == "medium"
        assert errors("highest") < 3e-7
        assert errors("") == errors("medium")
    finally:
        ort.set_float32_matmul_precision("highest")
    assert errors("") == errors("highest")


def test_precision_words() -> None:
    """Unknown words are errors, in the function and in the option, whatever the model."""
    ort = engine.load_engine()
    with pytest.raises(ValueError, match="highest, high or medium"):
        ort.set_float32_matmul_precision("low")
    options = ort.SessionOptions()
    options.add_session_config_entry("session.float32_matmul_precision", "low")
    data = model([node("Relu", "x", "y")], {"x": [3]}, {})
    with pytest.raises(ort.InvalidArgument, match="float32_matmul_precision is 'low'"):
        ort.InferenceSession(data, options)


def test_precision_environment() -> None:
    """The environment sets the process default."""
    code = "import macart; print(macart.get_float32_matmul_precision())"
    env = {**os.environ, "MRT_FLOAT32_MATMUL_PRECISION": "high"}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert out.stdout.decode().strip() == "high"


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
@pytest.mark.parametrize("const", [True, False])
def test_half(op: str, kind: int, const: bool) -> None:
    """float16 and bfloat16 products: within one rounding of float64 on the same inputs."""
    import ml_dtypes

    ort = engine.load_engine()
    dtype = np.dtype(np.float16 if kind == TensorProto.FLOAT16 else ml_dtypes.bfloat16)
    a, b, c = (rand(i, *s).astype(dtype) for i, s in enumerate([(33, 200), (200, 70), (70,)]))
    names = ["a", "b"] + (["c"] if op == "Gemm" else [])
    given = [n for n in names if n == "a" or not const]
    shapes = {"a": [33, 200], "b": [200, 70], "c": [70]}
    tensor = helper.make_tensor_value_info
    weights = [
        helper.make_tensor(n, kind, v.shape, v.view(np.uint16).tobytes(), raw=True)
        for n, v in (("b", b), ("c", c))
        if n in names and n not in given
    ]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"])],
        "g",
        [tensor(n, kind, shapes[n]) for n in given],
        [tensor("y", kind, None)],
        weights,
    )
    opset = [helper.make_opsetid("", 18)]
    data = helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    session = ort.InferenceSession(data)
    values = {"a": a, "b": b, "c": c}
    feeds = {
        n: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(values[n].view(np.uint16), kind)
        for n in given
    }
    got = session.run_with_ort_values(["y"], feeds)[0].numpy()
    got = np.asarray(got).view(dtype).astype(np.float64)
    wide = [v.astype(np.float64) for v in (a, b, c)]
    want = wide[0] @ wide[1] + (wide[2] if op == "Gemm" else 0)
    mass = np.abs(wide[0]) @ np.abs(wide[1])
    half_ulp = 2.0**-11 if kind == TensorProto.FLOAT16 else 2.0**-8
    assert got.shape == (33, 70)
    assert (np.abs(got - want) <= half_ulp * 1.01 * np.abs(want) + 2e-6 * mass).all()
