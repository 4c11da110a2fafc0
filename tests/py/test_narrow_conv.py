"""Convolutions whose weights are 2-byte numbers: kept so in memory and in the cache folder, and
computed as with floats."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import engine

pytestmark = pytest.mark.quick

KINDS = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}
# cin, cout, kernel, stride, groups
LAYERS = [(3, 32, 7, 2, 1), (32, 96, 3, 1, 1), (96, 256, 1, 1, 1), (256, 64, 3, 2, 2),
          (64, 252, 1, 1, 1), (252, 240, 3, 1, 12)]  # fmt: skip
SIZE = 40


def weights(kind: str) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    shapes = [(cout, cin // g, k, k) for cin, cout, k, _, g in LAYERS]
    return [(rng.standard_normal(s) / np.sqrt(np.prod(s[1:]))).astype(KINDS[kind]) for s in shapes]


def model(kind: str, path: Path) -> None:
    """Narrow weights behind Cast, float32 values."""
    nodes, last = [], "x"
    for i, (_, _, k, stride, groups) in enumerate(LAYERS):
        nodes.append(helper.make_node("Cast", [f"n{i}"], [f"w{i}"], to=TensorProto.FLOAT))
        nodes.append(
            helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], pads=[k // 2] * 4,
                             strides=[stride, stride], group=groups)
        )  # fmt: skip
        last = f"r{i}"
        nodes.append(helper.make_node("Relu", [f"c{i}"], [last]))
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [tensor("x", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [tensor(last, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, f"n{i}") for i, w in enumerate(weights(kind))],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


def expected(kind: str, x: np.ndarray) -> np.ndarray:
    y = x.astype(np.float64)
    for w, (cin, cout, k, stride, groups) in zip(weights(kind), LAYERS, strict=True):
        p = np.pad(y, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
        windows = np.lib.stride_tricks.sliding_window_view(p, (k, k), axis=(2, 3))
        windows = windows[:, :, ::stride, ::stride]
        ci, co = cin // groups, cout // groups
        parts = [
            np.einsum("ncyxij,ocij->noyx", windows[:, g * ci : (g + 1) * ci],
                      w[g * co : (g + 1) * co].astype(np.float64), optimize=True)
            for g in range(groups)
        ]  # fmt: skip
        y = np.maximum(np.concatenate(parts, axis=1), 0)
    return y


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("kind", KINDS)
def test_narrow_convolutions(
    kind: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed weights have the size of the model's, and results those of float32 weights."""
    ort = engine.load_engine()
    path, cache = tmp_path / "m.onnx", tmp_path / "cache"
    model(kind, path)
    monkeypatch.setenv("MRT_CACHE_DIR", str(cache))
    options = ort.SessionOptions()
    options.add_session_config_entry("session.float32_matmul_precision", precision)
    options.add_session_config_entry("session.macart.winograd", "0")
    x = np.random.default_rng(1).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)
    got = ort.InferenceSession(path, options).run(None, {"x": x})[0]
    want = expected(kind, x)
    tolerance = {"highest": 2e-6, "high": 3e-5, "medium": 2e-2}[precision]
    assert np.abs(got - want).max() <= tolerance * np.abs(want).max()
    large = [w.size for w in weights(kind) if w.size >= 1 << 13]
    packed = [f.stat().st_size - 4096 for f in cache.glob("*.mrtw")]
    assert 2 * sum(large) <= sum(packed) < 2.7 * sum(large)  # whole panels of 32 channels
    again = ort.InferenceSession(path, options).run(None, {"x": x})[0]
    np.testing.assert_array_equal(got, again)
