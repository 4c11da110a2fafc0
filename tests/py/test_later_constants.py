"""Constants that are made when a kernel is (mrt_tensor_create_later): large float32 matrices that
16-bit or 8-bit constants are widened to, whatever reads them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import engine

pytestmark = pytest.mark.quick

N = 256  # a float32 matrix of 256 KiB
NARROW = {"bf16": ml_dtypes.bfloat16, "f16": np.float16, "s8": np.int8}
VALUE = helper.make_tensor_value_info


def matrix(kind: str, seed: int = 1, shape: Sequence[int] = (N, N)) -> np.ndarray:
    """Numbers of a narrow type."""
    values = np.random.default_rng(seed).standard_normal(shape) * (20 if kind == "s8" else 1)
    return values.astype(NARROW[kind])


def write(
    path: Path,
    nodes: list[onnx.NodeProto],
    outputs: Mapping[str, int],
    constants: Mapping[str, Any],
) -> Path:
    """A model over x: float[n, N] in a file."""
    graph = helper.make_graph(
        nodes,
        "g",
        [VALUE("x", TensorProto.FLOAT, ["n", N])],
        [VALUE(name, dtype, None) for name, dtype in outputs.items()],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def cast(of: str, to: str) -> onnx.NodeProto:
    """of as float32."""
    return helper.make_node("Cast", [of], [to], to=TensorProto.FLOAT)


@pytest.mark.parametrize("kind", NARROW)
def test_readers(kind: str, tmp_path: Path) -> None:
    """Products pack them, also turned; Gather and Add read them at each run; one is an output."""
    ort = engine.load_engine()
    w = matrix(kind)
    nodes = [
        cast("w", "wide"),
        helper.make_node("Transpose", ["wide"], ["turned"], perm=[1, 0]),
        helper.make_node("Identity", ["turned"], ["constant"]),
        helper.make_node("MatMul", ["x", "wide"], ["a"]),
        helper.make_node("MatMul", ["x", "turned"], ["b"]),
        helper.make_node("Gather", ["wide", "rows"], ["c"], axis=0),
        helper.make_node("Mul", ["wide", "x1"], ["d"]),
        helper.make_node("Slice", ["x", "zero", "one", "zero"], ["x1"]),
    ]
    nodes.insert(6, nodes.pop())
    index = {"rows": [3, 1], "zero": [0], "one": [1]}
    constants = {n: np.array(v, np.int64) for n, v in index.items()} | {"w": w}
    outputs = dict.fromkeys(["a", "b", "c", "d", "constant"], TensorProto.FLOAT)
    session = ort.InferenceSession(write(tmp_path / "m.onnx", nodes, outputs, constants))
    wide = w.astype(np.float32)
    for rows in (1, 70):
        x = np.random.default_rng(2).standard_normal((rows, N)).astype(np.float32)
        a, b, c, d, constant = session.run(None, {"x": x})
        exact = x.astype(np.float64), wide.astype(np.float64)
        bound = 1e-5 * np.abs(exact[0]) @ np.abs(exact[1]) + 1e-6
        assert (np.abs(a - exact[0] @ exact[1]) <= bound).all()
        bound = 1e-5 * np.abs(exact[0]) @ np.abs(exact[1].T) + 1e-6
        assert (np.abs(b - exact[0] @ exact[1].T) <= bound).all()
        np.testing.assert_array_equal(c, wide[[3, 1]])
        np.testing.assert_array_equal(d, wide * x[:1])
        np.testing.assert_array_equal(constant, wide.T)


@pytest.mark.parametrize("kind", NARROW)
def test_moved_alone(kind: str, tmp_path: Path) -> None:
    """What only moves bytes reads them at each run, though it does not care where they lie."""
    w = matrix(kind)
    nodes = [
        cast("w", "wide"),
        helper.make_node("ArgMax", ["x"], ["rows"], axis=1, keepdims=0),
        helper.make_node("Gather", ["wide", "rows"], ["y"], axis=0),
    ]
    path = write(tmp_path / "m.onnx", nodes, {"y": TensorProto.FLOAT}, {"w": w})
    x = np.eye(N, dtype=np.float32)[[5, 0, 255]]
    (y,) = engine.load_engine().InferenceSession(path).run(None, {"x": x})
    np.testing.assert_array_equal(y, w[[5, 0, 255]].astype(np.float32))


def test_subgraphs(tmp_path: Path) -> None:
    """A loop's state and what its body and a branch read from outside."""
    ort = engine.load_engine()
    w = matrix("bf16")
    tensor = TensorProto
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "wide"], ["product"]),
            helper.make_node("Mul", ["product", "small"], ["next"]),
            helper.make_node("Identity", ["go"], ["still"]),
        ],
        "body",
        [
            VALUE("i", tensor.INT64, []),
            VALUE("go", tensor.BOOL, []),
            VALUE("state", tensor.FLOAT, [N, N]),
        ],
        [VALUE("still", tensor.BOOL, []), VALUE("next", tensor.FLOAT, [N, N])],
    )

    def branch(name: str, node: onnx.NodeProto) -> onnx.GraphProto:
        return helper.make_graph([node], name, [], [VALUE(name, tensor.FLOAT, [N, N])])

    nodes = [
        cast("w", "wide"),
        helper.make_node("Loop", ["twice", "yes", "wide"], ["y"], body=body),
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "small"], ["big"]),
        helper.make_node(
            "If",
            ["big"],
            ["z"],
            then_branch=branch("t", helper.make_node("Identity", ["wide"], ["t"])),
            else_branch=branch("e", helper.make_node("Neg", ["wide"], ["e"])),
        ),
    ]
    constants = {
        "w": w,
        "twice": np.array(2, np.int64),
        "yes": np.array(True),
        "small": np.array(1 / 64, np.float32),
    }
    outputs = {"y": tensor.FLOAT, "z": tensor.FLOAT}
    session = ort.InferenceSession(write(tmp_path / "m.onnx", nodes, outputs, constants))
    wide = w.astype(np.float64)
    for sign in (1, -1):
        y, z = session.run(None, {"x": np.full((1, N), sign, np.float32)})
        np.testing.assert_allclose(y, wide @ wide / 64 @ wide / 64, atol=1e-3)
        np.testing.assert_array_equal(z, sign * wide)


def test_float16_convolution(tmp_path: Path) -> None:
    """A float16 network: weights that BatchNormalization scales, in every precision."""
    ort = engine.load_engine()
    rng = np.random.default_rng(3)
    w = matrix("f16", 4, (64, 64, 3, 3))
    rows = {n: (rng.random(64) + 0.5).astype(np.float16) for n in "abmv"}
    half, shape = TensorProto.FLOAT16, [1, 64, 12, 12]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", ["c", *"abmv"], ["y"]),
        ],
        "g",
        [VALUE("x", half, shape)],
        [VALUE("y", half, None)],
        [numpy_helper.from_array(v, n) for n, v in ({"w": w} | rows).items()],
    )
    opset = [helper.make_opsetid("", 18)]
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    x = rng.standard_normal(shape).astype(np.float16)
    session = ort.InferenceSession(path)
    wide = {n: v.astype(np.float64) for n, v in ({"w": w} | rows).items()}
    padded = np.pad(x[0].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    sums = np.einsum("chwij,kcij->khw", windows, wide["w"])
    factor = wide["a"] / np.sqrt(wide["v"] + 1e-5)
    want = (sums - wide["m"][:, None, None]) * factor[:, None, None] + wide["b"][:, None, None]
    try:
        for precision in ("highest", "high", "medium"):
            ort.set_float32_matmul_precision(precision)
            got = session.run(None, {"x": x})[0][0]
            near = 0.5 if precision == "medium" else 0.05
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=near)
    finally:
        ort.set_float32_matmul_precision("highest")


def test_optimized_model_has_them(tmp_path: Path) -> None:
    """A model that is written holds the wide constants."""
    ort = engine.load_engine()
    w = matrix("bf16")
    nodes = [cast("w", "wide"), helper.make_node("MatMul", ["x", "wide"], ["y"])]
    path = write(tmp_path / "m.onnx", nodes, {"y": TensorProto.FLOAT}, {"w": w})
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "out.onnx")
    ort.InferenceSession(path, options)
    written = [numpy_helper.to_array(t) for t in onnx.load(tmp_path / "out.onnx").graph.initializer]
    assert any(np.array_equal(t, w.astype(np.float32)) for t in written if t.dtype == np.float32)


PEAK = """
import sys
import macart as ort
def kib(key):
    return next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith(key))
with open("/proc/self/clear_refs", "w") as f:
    f.write("5")
before = kib("VmRSS")
s = ort.InferenceSession(sys.argv[1])
print(kib("VmHWM") - before)
"""


@pytest.mark.skipif(
    "libasan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer keeps what is freed"
)
def test_not_all_at_once(tmp_path: Path) -> None:
    """16 matrices of 4 MiB as float32: at no time are they all there beside the packed ones."""
    side, count = 1024, 16
    rng = np.random.default_rng(7)
    constants = {
        f"w{i}": rng.standard_normal((side, side)).astype(ml_dtypes.bfloat16) for i in range(count)
    }
    nodes = [helper.make_node("Concat", ["x"] * (side // N), ["y0"], axis=1)]
    for i in range(count):
        nodes += [
            cast(f"w{i}", f"v{i}"),
            helper.make_node("MatMul", [f"y{i}", f"v{i}"], [f"y{i + 1}"]),
        ]
    path = write(tmp_path / "m.onnx", nodes, {f"y{count}": TensorProto.FLOAT}, constants)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)], capture_output=True, check=True, text=True
    )
    packed = count * side * side * 2 / 1024  # bfloat16 numbers stay in 2 bytes
    assert packed < int(done.stdout) < 1.7 * packed
