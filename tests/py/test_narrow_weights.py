"""Weights of 1 or 2 bytes behind a node that widens them (half/narrow, qgemm/q8_node): they stay
narrow, and the product is that of the wide ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import Graph, check, kernels, run_peer

import engine

pytestmark = pytest.mark.quick

K, N = 300, 250


def random(seed: int, *shape: int) -> np.ndarray:
    """Normal float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 3, 7, 20])
@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize(("op", "trans"), [("Gemm", 0), ("Gemm", 1), ("MatMul", 0)])
def test_int8(op: str, per_column: bool, trans: int, rows: int) -> None:
    """DequantizeLinear in front of MatMul, and of Gemm with and without transB and bias."""
    graph = Graph()
    shape = (N, K) if trans else (K, N)
    q = np.random.default_rng(1).integers(-127, 128, shape).astype(np.int8)
    scale = np.abs(random(2, N)) / 100 + 0.001 if per_column else np.array(0.01, np.float32)
    axis: dict[str, Any] = {"axis": 0 if trans else 1} if per_column else {}
    w = graph.add("DequantizeLinear", graph.const(q), graph.const(scale), **axis)
    x = graph.input("x", random(3, rows, K))
    if op == "MatMul":
        y = graph.add("MatMul", x, w)
    else:
        y = graph.add("Gemm", x, w, graph.const(random(4, N)), transB=trans)
    check(graph, y, bound=2e-5, threads=2)
    assert "gemm_q8" in [kernel for _, kernel in kernels(graph.model(y), graph.feeds)]


def between_reshapes(rows: int) -> tuple[Graph, str]:
    """Gelu of a Gemm with int8 weights between Reshapes, plus its input, as GPT-2 is written."""
    graph = Graph()
    x = graph.input("x", random(3, 2, rows, K), ["batch", "time", K])
    wide = graph.const(np.array([-1, K], np.int64))
    q = np.random.default_rng(1).integers(-127, 128, (K, K)).astype(np.int8)
    scale = graph.const(np.abs(random(2, K)) / 100 + 0.001)
    w = graph.add("DequantizeLinear", graph.const(q), scale, axis=1)
    y = graph.add("Gemm", graph.add("Reshape", x, wide), w, graph.const(random(4, K)))
    dims = graph.add("Shape", x)
    y = graph.add("Reshape", y, dims)
    return graph, graph.add("Sigmoid", graph.add("Add", x, y))


@pytest.mark.parametrize("rows", [1, 4, 30])
def test_int8_with_what_follows(rows: int) -> None:
    """Bias, residual sum and activation are part of the product, Reshapes and shapes go."""
    graph, y = between_reshapes(rows)
    check(graph, y, bound=2e-5, threads=2)
    assert kernels(graph.model(y), graph.feeds) == [("MatMulQ8", "gemm_q8")]


def test_int8_decomposed() -> None:
    """What the fused node says in ONNX is the same."""
    graph, y = between_reshapes(3)
    module = engine.load_engine("macart")
    options = module.SessionOptions()
    options.add_session_config_entry("session.macart.decompose", "1")
    session = module.InferenceSession(graph.model(y), options)
    want = run_peer(graph.model(y), graph.feeds)[0]
    np.testing.assert_allclose(session.run(None, graph.feeds)[0], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 7, 20])
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("trans", [0, 1])
def test_halves(trans: int, kind: str, rows: int) -> None:
    """Floats that are numbers of 2 bytes."""
    w = random(1, N, K) if trans else random(1, K, N)
    if kind == "float16":
        w = w.astype(np.float16).astype(np.float32)
    else:
        w = (w.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    graph = Graph()
    x = graph.input("x", random(3, rows, K))
    y = graph.add("Gemm", x, graph.const(w), graph.const(random(4, N)), transB=trans)
    z = graph.add("Relu", y)
    check(graph, z, bound=2e-5, threads=2)
