"""Packed forms of a constant right side (gemm/matmul_pack.c).

Each precision against float64, switched at run time, with weights that bf16 cannot hold, and from
several threads at once.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest
from onnx import helper, numpy_helper

import macart as ort

pytestmark = pytest.mark.quick
BOUND = {"highest": 3e-7, "high": 2e-5, "medium": 8e-3}  # largest error / sum |a b|


def session(b: np.ndarray, precision: str = "", trans: bool = False) -> ort.InferenceSession:
    """One product with b as its constant right side."""
    if trans:
        node = helper.make_node("Gemm", ["x", "b"], ["y"], transB=1)
    else:
        node = helper.make_node("MatMul", ["x", "b"], ["y"])
    kind = helper.np_dtype_to_tensor_dtype(b.dtype)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", kind, ["m", b.shape[1 if trans else 0]])],
        [helper.make_tensor_value_info("y", kind, ["m", b.shape[0 if trans else 1]])],
        [numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    if precision:
        options.add_session_config_entry("session.float32_matmul_precision", precision)
    return ort.InferenceSession(model.SerializeToString(), options)


def error(y: np.ndarray, x: np.ndarray, b: np.ndarray) -> float:
    """Largest error over the sum of magnitudes."""
    x, b = x.astype(np.float64), b.astype(np.float64)
    return float(np.max(np.abs(y - x @ b) / (np.abs(x) @ np.abs(b))))


@pytest.mark.parametrize("precision", BOUND)
@pytest.mark.parametrize("trans", [False, True])
@pytest.mark.parametrize(("k", "n"), [(768, 96), (1000, 33), (3072, 64), (70, 17)])
def test_errors(precision: str, trans: bool, k: int, n: int) -> None:
    rng = np.random.default_rng(k + n)
    b = rng.standard_normal((k, n)).astype(np.float32)
    run = session(np.ascontiguousarray(b.T) if trans else b, precision, trans)
    for m in (1, 7, 33, 128, 200):  # the same session: forms for products and for single rows
        x = rng.standard_normal((m, k)).astype(np.float32)
        (y,) = run.run(None, {"x": x})
        assert error(y, x, b) < BOUND[precision]


def test_switch_at_run_time() -> None:
    rng = np.random.default_rng(5)
    b = rng.standard_normal((512, 128)).astype(np.float32)
    x = rng.standard_normal((64, 512)).astype(np.float32)
    run = session(b)
    try:
        for precision in ("medium", "highest", "high", "medium", "highest"):
            ort.set_float32_matmul_precision(precision)
            assert error(run.run(None, {"x": x})[0], x, b) < BOUND[precision]
    finally:
        ort.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_numbers_beyond_bf16(precision: str) -> None:
    """Finite weights that round to infinity, and infinities: what float32 gives."""
    b = np.full((256, 256), 0.5, np.float32)
    b[3, 5] = 3.4e38
    b[9, 7] = np.inf
    x = np.zeros((192, 256), np.float32)
    x[:, 3] = 0.5
    x[4, 9] = 1.0
    x[:, 20] = 2.0
    with np.errstate(invalid="ignore"):
        want = x @ b
    run = session(b, precision)
    for rows in (192, 5):
        (y,) = run.run(None, {"x": x[:rows]})
        np.testing.assert_allclose(y, want[:rows], rtol=1e-2 if precision == "medium" else 1e-4)
    b[3, 5] = 1.0  # the infinity alone does not keep bf16 away
    with np.errstate(invalid="ignore"):
        want = x @ b
    run = session(b, precision)
    for rows in (192, 5):
        (y,) = run.run(None, {"x": x[:rows]})
        np.testing.assert_allclose(y, want[:rows], rtol=1e-2 if precision == "medium" else 1e-4)


@pytest.mark.parametrize("precision", ["high", "medium"])
@pytest.mark.parametrize("bits", [0x7F800001, 0x7FC00000, 0xFFFFFFFF])
def test_nan_weights(precision: str, bits: int) -> None:
    """Any NaN, also one that is nearly an infinity as bits, spoils its column and no other."""
    b = np.full((256, 256), 0.5, np.float32)
    b.view(np.uint32)[7, 40] = bits
    run = session(b, precision)
    for rows in (192, 3):
        (y,) = run.run(None, {"x": np.ones((rows, 256), np.float32)})
        assert np.isnan(y[:, 40]).all()
        assert (np.delete(y, 40, 1) == 128).all()


def test_many_threads_pack_once() -> None:
    rng = np.random.default_rng(6)
    b = rng.standard_normal((600, 300)).astype(np.float32)
    x = rng.standard_normal((40, 600)).astype(np.float32)
    run = session(b)
    results: list[np.ndarray] = []
    try:
        ort.set_float32_matmul_precision("medium")
        threads = [
            threading.Thread(target=lambda: results.append(run.run(None, {"x": x})[0]))
            for _ in range(8)
        ]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        ort.set_float32_matmul_precision("highest")
    assert len(results) == 8
    for y in results:
        np.testing.assert_array_equal(y, results[0])
    assert error(results[0], x, b) < BOUND["medium"]
