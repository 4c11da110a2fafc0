"""Packed weights: shared between sessions, kept in MRT_CACHE_DIR between processes."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import engine

pytestmark = pytest.mark.quick

SIZE = 512


def model(seed: int = 0, size: int = SIZE) -> bytes:
    """y = relu(x w), w: [size, size]; the name shifts it in the file."""
    w = np.random.default_rng(seed).standard_normal((size, size)).astype(np.float32)
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Relu", ["m"], ["y"])],
        "g" * (seed + 1),
        [tensor("x", TensorProto.FLOAT, ["n", size])],
        [tensor("y", TensorProto.FLOAT, ["n", size])],
        [numpy_helper.from_array(w, "w")],
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


def live_bytes() -> int:
    """Bytes that the engine holds."""
    engine.load_engine()
    from macart import _core

    gc.collect()  # sessions of other tests go when Python pleases
    return int(_core.info()["live_bytes"])


def test_shared_between_sessions() -> None:
    """A second session of the same weights holds no second packed copy."""
    size = 2 * SIZE  # 4 MiB: too large for the blocks that small weights share
    ort = engine.load_engine()
    before = live_bytes()
    first = ort.InferenceSession(model(size=size))
    one = live_bytes() - before
    second = ort.InferenceSession(model(size=size))
    two = live_bytes() - before
    assert one > size * size * 4
    assert two - one < size * size * 4 / 4
    x = np.ones((3, size), np.float32)
    np.testing.assert_array_equal(first.run(None, {"x": x})[0], second.run(None, {"x": x})[0])
    del first
    assert second.run(None, {"x": x})[0].shape == (3, size)
    third = ort.InferenceSession(model(1, size))
    assert live_bytes() - before > two + size * size * 4 / 2
    del second, third
    assert live_bytes() == before


CODE = """
import sys, numpy as np, macart as ort
s = ort.InferenceSession(sys.argv[1])
x = np.linspace(-1, 1, 5 * 512, dtype=np.float32).reshape(5, 512)
sys.stdout.buffer.write(s.run(None, {"x": x})[0].tobytes())
"""


def run(path: Path, cache: Path | None) -> bytes:
    """Output of the model in a process of its own."""
    env = {k: v for k, v in os.environ.items() if k != "MRT_CACHE_DIR"}
    if cache:
        env["MRT_CACHE_DIR"] = str(cache)
    command = [sys.executable, "-c", CODE, str(path)]
    return subprocess.run(command, env=env, capture_output=True, check=True).stdout


def test_cache_folder(tmp_path: Path) -> None:
    """A second process takes the packed weights from the folder; damage is noticed."""
    path, cache = tmp_path / "m.onnx", tmp_path / "cache"
    onnx.save(onnx.load_model_from_string(model()), path)
    want = run(path, None)
    assert run(path, cache) == want
    files = sorted(cache.glob("*.mrtw"))
    assert len(files) == 1 and len(list(cache.glob("*.mrti"))) == 1
    written = files[0].stat()
    assert run(path, cache) == want
    assert files[0].stat().st_ino == written.st_ino  # read, not written anew
    data = bytearray(files[0].read_bytes())
    data[4096] ^= 1
    files[0].write_bytes(data)
    assert run(path, cache) == want
    data[4096] ^= 1
    assert files[0].read_bytes() == data


def two_products(rows: int, cols: int, fold: bool) -> bytes:
    """y = x w v; fold: w and v are what folding makes of two steps each."""
    rng = np.random.default_rng(1)
    tensor = helper.make_tensor_value_info
    nodes, weights = [], [numpy_helper.from_array(np.float32(2), "two")]
    for name, shape in (("w", (rows, cols)), ("v", (cols, rows))):
        value = rng.standard_normal(shape).astype(np.float32)
        if fold:
            value = np.ascontiguousarray(value.T)
            nodes.append(helper.make_node("Transpose", [f"{name}0"], [f"{name}1"], perm=[1, 0]))
            nodes.append(helper.make_node("Mul", [f"{name}1", "two"], [name]))
        weights.append(numpy_helper.from_array(value, f"{name}0" if fold else name))
    nodes.append(helper.make_node("MatMul", ["x", "w"], ["m"]))
    nodes.append(helper.make_node("MatMul", ["m", "v"], ["y"]))
    io = [[tensor(name, TensorProto.FLOAT, ["n", rows])] for name in "xy"]
    graph = helper.make_graph(nodes, "g", *io, weights)
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


def test_steps_of_folding_go() -> None:
    """What folding made on the way is given up (ir/sweep.c); the last step stays."""
    ort = engine.load_engine()
    before = live_bytes()
    model = two_products(SIZE, 2 * SIZE, fold=True)
    session = ort.InferenceSession(model)
    packed = 2 * 2 * SIZE * SIZE * 4
    assert packed < live_bytes() - before < packed * 2.3
    x = np.ones((3, SIZE), np.float32)
    again = ort.InferenceSession(model)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], again.run(None, {"x": x})[0])


ANONYMOUS = """
import sys, numpy as np, macart as ort
def anonymous():
    return next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith("RssAnon"))
x = np.ones((2, 2048), np.float32)
before = anonymous()
s = ort.InferenceSession(sys.argv[1])
s.run(None, {"x": x})
print(anonymous() - before)
"""


def test_file_that_was_read_goes_when_packed(tmp_path: Path) -> None:
    """A small file is read into memory; weights that were packed do not stay there too."""
    path = tmp_path / "m.onnx"
    path.write_bytes(two_products(2048, 1024, fold=False))
    size = path.stat().st_size / 1024
    env = {k: v for k, v in os.environ.items() if k != "MRT_CACHE_DIR"}
    command = [sys.executable, "-c", ANONYMOUS, str(path)]
    done = subprocess.run(command, env=env, capture_output=True, check=True, text=True)
    assert size * 0.9 < int(done.stdout) < size * 1.4


def test_file_may_change_after_it_was_read(tmp_path: Path) -> None:
    """A session of a small file goes on when the file is cut short or written anew."""
    ort = engine.load_engine()
    path = tmp_path / "m.onnx"
    path.write_bytes(two_products(SIZE, 2 * SIZE, fold=False))
    session = ort.InferenceSession(path)
    x = np.ones((3, SIZE), np.float32)
    want = session.run(None, {"x": x})[0]
    path.write_bytes(b"short")
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], want)
    path.write_bytes(two_products(2 * SIZE, SIZE, fold=False))
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], want)


KIND_CODE = """
import gc, sys, numpy as np, macart as ort
from macart import _core
def live():
    gc.collect()
    return _core.info()["live_bytes"]
feeds = dict(np.load(sys.argv[2]))
sessions, before = [], live()
for _ in range(2):
    sessions.append(ort.InferenceSession(sys.argv[1]))
    print(live() - before, file=sys.stderr)
    before = live()
outs = [s.run(None, feeds) for s in sessions]
assert all(np.array_equal(a, b) for a, b in zip(*outs))
sys.stdout.buffer.write(outs[0][0].tobytes())
"""


def blocks_model(path: Path, zero: int) -> None:
    """One MatMulNBits of [5, 512] and 1024 columns, with scales, zero points and bias."""
    rng = np.random.default_rng(3)
    constants = {
        "b": rng.integers(0, 256, (1024, 16, 16), dtype=np.uint8),
        "s": rng.random((1024, 16), dtype=np.float32),
        "z": np.full(1024 * 8, zero * 17, np.uint8),
        "c": rng.random(1024, dtype=np.float32),
    }
    attributes = {"K": 512, "N": 1024, "bits": 4, "block_size": 32}
    node = helper.make_node(
        "MatMulNBits", ["x", "b", "s", "z", "", "c"], ["y"], domain="com.microsoft", **attributes
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 512])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


def test_scales_of_blocks(tmp_path: Path) -> None:
    """What belongs to blocks of 4-bit weights comes from the folder too, this model's own."""
    path, other, cache = tmp_path / "m.onnx", tmp_path / "n.onnx", tmp_path / "cache"
    blocks_model(path, 8)
    blocks_model(other, 9)
    want, differs = run(path, None), run(other, None)
    assert want != differs
    assert run(path, cache) == want
    written = {f: f.stat().st_ino for f in cache.glob("*.mrtw")}
    assert len(written) == 2  # weights, and what belongs to their blocks
    assert run(path, cache) == want
    assert {f: f.stat().st_ino for f in cache.glob("*.mrtw")} == written
    assert run(other, cache) == differs
    assert len(list(cache.glob("*.mrtw"))) == 3


def kind_weights(kind: str) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray], np.ndarray]:
    """Nodes from x to y, their constants, and x."""
    rng = np.random.default_rng(7)

    def real(*dims: int) -> np.ndarray:
        return (rng.standard_normal(dims) * 0.1).astype(np.float32)

    def small(*dims: int) -> np.ndarray:
        return rng.integers(-100, 100, dims, dtype=np.int8)

    one = {"s": np.float32(0.01), "z": np.uint8(128)}
    if kind in ("LSTM", "GRU"):
        gates = 4 if kind == "LSTM" else 3
        w = {"w": real(1, gates * 160, 320), "r": real(1, gates * 160, 160)}
        more = {} if kind == "LSTM" else {"linear_before_reset": 1}
        node = helper.make_node(kind, ["x", "w", "r"], ["y"], hidden_size=160, **more)
        return [node], w, real(5, 2, 320)
    if kind == "QLinearConv":
        ins = ["q", "s", "z", "w", "s", "wz", "s", "z"]
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node(kind, ins, ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("DequantizeLinear", ["c", "s", "z"], ["y"]),
        ]
        return nodes, {**one, "w": small(128, 128, 3, 3), "wz": np.int8(0)}, real(1, 128, 9, 9)
    if kind == "MatMulQ8":
        nodes = [
            helper.make_node("DequantizeLinear", ["w", "s"], ["d"]),
            helper.make_node("MatMul", ["x", "d"], ["y"]),
        ]
        return nodes, {"s": one["s"], "w": small(512, 640)}, real(3, 512)
    if kind == "MatMulInteger":
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node(kind, ["q", "w", "z"], ["i"]),
            helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
        ]
        return nodes, {**one, "w": small(512, 640)}, real(3, 512)
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])
    return [node], {"w": real(128, 64, 3, 3)}, real(1, 128, 6, 6)


KINDS = ["LSTM", "GRU", "QLinearConv", "MatMulQ8", "MatMulInteger", "ConvTranspose"]


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_weights(kind: str, tmp_path: Path) -> None:
    """Every kind of packed weights is shared by sessions and comes from the folder."""
    nodes, constants, x = kind_weights(kind)
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [tensor("x", TensorProto.FLOAT, x.shape)],
        [tensor("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    path, feeds, cache = tmp_path / "m.onnx", tmp_path / "x.npz", tmp_path / "cache"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    np.savez(feeds, x=x)
    size = constants["w"].nbytes

    def start(folder: str) -> tuple[bytes, list[int]]:
        env = {**os.environ, "MRT_CACHE_DIR": folder}
        command = [sys.executable, "-c", KIND_CODE, str(path), str(feeds)]
        done = subprocess.run(command, env=env, capture_output=True, check=True)
        return done.stdout, [int(n) for n in done.stderr.split()]

    want, (first, second) = start("")
    assert want and second < first - size * 0.9  # a small file is in memory
    assert start(str(cache))[0] == want
    written = {f: f.stat().st_ino for f in cache.glob("*.mrtw")}
    assert len(written) == 1 and next(iter(written)).stat().st_size >= size
    out, (again, _) = start(str(cache))
    assert out == want and again < first - size * 0.9
    assert {f: f.stat().st_ino for f in cache.glob("*.mrtw")} == written


def test_short_sequences_after_packing(tmp_path: Path) -> None:
    """What the packed kernel does not do reads the weights from their file again."""
    ort = engine.load_engine()
    rng = np.random.default_rng(3)
    w, r = (rng.standard_normal((1, 640, n)).astype(np.float32) * 0.1 for n in (400, 160))
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("LSTM", ["x", "w", "r", "", "lens"], ["y"], hidden_size=160)],
        "g",
        [
            tensor("x", TensorProto.FLOAT, ["t", 2, 400]),
            tensor("lens", TensorProto.INT32, [2]),
        ],
        [tensor("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(r, "r")],
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    for shift in range(4):
        model.producer_name = "p" * shift
        path = tmp_path / f"m{shift}.onnx"
        path.write_bytes(model.SerializeToString())
        assert path.stat().st_size > 1 << 20
        session = ort.InferenceSession(path)
        x = rng.standard_normal((6, 2, 400)).astype(np.float32)
        full = session.run(None, {"x": x, "lens": np.full(2, 6, np.int32)})[0]
        short = session.run(None, {"x": x, "lens": np.array([6, 4], np.int32)})[0]
        np.testing.assert_allclose(short[:, 0, 0], full[:, 0, 0], atol=1e-5)
        np.testing.assert_allclose(short[:4, 0, 1], full[:4, 0, 1], atol=1e-5)
        assert not short[4:, 0, 1].any()
        path.write_bytes(b"other")
        again = session.run(None, {"x": x, "lens": np.full(2, 6, np.int32)})[0]
        np.testing.assert_array_equal(again, full)
        with pytest.raises(Exception, match="the model file has changed"):
            session.run(None, {"x": x, "lens": np.array([6, 4], np.int32)})


def test_folded_weights_are_made_again(tmp_path: Path) -> None:
    """Weights that folding scaled are given up when packed; another precision packs them anew."""
    ort = engine.load_engine()
    rng = np.random.default_rng(5)
    w = rng.standard_normal((512, 256, 3, 3)).astype(np.float32)
    constants = {"w": w, **{n: rng.random(512).astype(np.float32) + 0.5 for n in "abmv"}}
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", ["c", *"abmv"], ["y"]),
        ],
        "g",
        [tensor("x", TensorProto.FLOAT, [1, 256, 14, 14])],
        [tensor("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    x = rng.standard_normal((1, 256, 14, 14)).astype(np.float32)
    before = live_bytes()
    session = ort.InferenceSession(path)
    assert live_bytes() - before < 2.3 * w.nbytes  # Winograd's form is 16/9 of them
    highest = session.run(None, {"x": x})[0]
    try:
        ort.set_float32_matmul_precision("medium")
        medium = session.run(None, {"x": x})[0]
        fresh = ort.InferenceSession(path).run(None, {"x": x})[0]
    finally:
        ort.set_float32_matmul_precision("highest")
    np.testing.assert_array_equal(medium, fresh)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], highest)


def product_of(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], path: Path) -> None:
    """y = x w to a file; nodes make w, [256, 256], of the weights."""
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        [*nodes, helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [tensor("x", TensorProto.FLOAT, ["n", 256])],
        [tensor("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, n) for n, v in weights.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


FOLDS = {
    "Add": [helper.make_node("Add", ["a", "row"], ["w"])],
    "Concat": [helper.make_node("Concat", ["left", "right"], ["w"], axis=1)],
    "Where": [helper.make_node("Where", ["yes", "a", "row"], ["w"])],
    "steps": [
        helper.make_node("Transpose", ["a"], ["b"], perm=[1, 0]),
        helper.make_node("Mul", ["row", "b"], ["c"]),
        helper.make_node("Clip", ["c", "", "one"], ["d"]),
        helper.make_node("Sub", ["d", "c"], ["w"]),
    ],
}


@pytest.mark.parametrize("kind", FOLDS)
def test_folded_products_are_made_again(kind: str, tmp_path: Path) -> None:
    """Each precision packs what folding made, which was given up after the first."""
    ort = engine.load_engine()
    rng = np.random.default_rng(8)
    weights = {
        "a": rng.standard_normal((256, 256)).astype(np.float32),
        "left": rng.standard_normal((256, 100)).astype(np.float32),
        "right": rng.standard_normal((256, 156)).astype(np.float32),
        "row": rng.random(256).astype(np.float32),
        "yes": rng.random(256) < 0.5,
        "one": np.float32(1),
    }
    path = tmp_path / "m.onnx"
    product_of(FOLDS[kind], weights, path)
    x = {"x": rng.standard_normal((192, 256)).astype(np.float32)}
    session = ort.InferenceSession(path)
    try:
        for precision in ("highest", "high", "medium", "highest"):
            ort.set_float32_matmul_precision(precision)
            fresh = ort.InferenceSession(path)
            np.testing.assert_array_equal(session.run(None, x)[0], fresh.run(None, x)[0])
            del fresh
    finally:
        ort.set_float32_matmul_precision("highest")


def test_foldings_of_foldings_end(tmp_path: Path) -> None:
    """Each step reads the one before twice: nobody counts or computes the 2^60 ways."""
    ort = engine.load_engine()
    names = ["a", *(f"c{i}" for i in range(59)), "w"]
    nodes = [helper.make_node("Max", [n, n], [y]) for n, y in itertools.pairwise(names)]
    a = np.random.default_rng(9).standard_normal((256, 256)).astype(np.float32)
    path = tmp_path / "m.onnx"
    product_of(nodes, {"a": a}, path)
    session = ort.InferenceSession(path)
    x = np.eye(64, 256, dtype=np.float32)
    try:
        for precision in ("highest", "medium"):
            ort.set_float32_matmul_precision(precision)
            np.testing.assert_allclose(session.run(None, {"x": x})[0], a[:64], rtol=1e-2)
    finally:
        ort.set_float32_matmul_precision("highest")


def gates_model(order: list[int], path: Path) -> dict[str, np.ndarray]:
    """An LSTM whose gates are put in order while loading, as PyTorch's exporter writes it."""
    hidden, rng = 160, np.random.default_rng(12)
    nodes: list[onnx.NodeProto] = []
    constants = {f"at{i}": np.array([i * hidden]) for i in range(5)}
    constants |= {"axis": np.array([0]), "first": np.array([0])}
    for name, cols in (("w", 320), ("r", hidden)):
        constants[f"{name}0"] = rng.standard_normal((4 * hidden, cols)).astype(np.float32) * 0.1
        gates = [f"{name}_{i}" for i in range(4)]
        for i, gate in zip(order, gates, strict=True):
            cut = [f"{name}0", f"at{i}", f"at{i + 1}", "axis"]
            nodes.append(helper.make_node("Slice", cut, [gate]))
        nodes.append(helper.make_node("Concat", gates, [f"{name}_all"], axis=0))
        nodes.append(helper.make_node("Unsqueeze", [f"{name}_all", "first"], [name]))
    nodes.append(helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=hidden))
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [tensor("x", TensorProto.FLOAT, [3, 1, 320])],
        [tensor("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    path.write_bytes(model.SerializeToString())
    assert path.stat().st_size > 1 << 20
    return {"x": rng.standard_normal((3, 1, 320)).astype(np.float32)}


COUNT_CODE = """
import sys, numpy as np, macart as ort
def peak():
    return next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith("VmHWM"))
feeds = dict(np.load(sys.argv[2]))
open("/proc/self/clear_refs", "w").write("5")
before = peak()
s = ort.InferenceSession(sys.argv[1])
print(peak() - before, file=sys.stderr)
sys.stdout.buffer.write(s.run(None, feeds)[0].tobytes())
"""


def test_folded_weights_are_known_by_their_steps(tmp_path: Path) -> None:
    """Weights in another order are not made at a second start, and other orders are others."""
    cache, path, feeds = tmp_path / "cache", tmp_path / "m.onnx", tmp_path / "x.npz"

    def start(folder: str) -> tuple[bytes, int]:
        env = {**os.environ, "MRT_CACHE_DIR": folder}
        command = [sys.executable, "-c", COUNT_CODE, str(path), str(feeds)]
        done = subprocess.run(command, env=env, capture_output=True, check=True)
        return done.stdout, int(done.stderr)

    want: dict[tuple[int, ...], bytes] = {}
    orders = [[0, 3, 1, 2], [0, 1, 2, 3], [0, 0, 1, 2]]
    for order in orders:
        np.savez(feeds, **gates_model(order, path))
        want[tuple(order)] = start("")[0]
        out, peak = start(str(cache))
        assert out == want[tuple(order)]
        again, second = start(str(cache))
        assert again == out
        # W and R are 1.2 MB: neither they nor the packed ones come into memory.
        assert second < 2000 < peak, (second, peak)
    assert len(set(want.values())) == 3
    assert len(list(cache.glob("*.mrtw"))) == 3
    # The same bytes elsewhere, and other bytes under the same steps.
    path = tmp_path / "n.onnx"
    gates_model(orders[0], path)
    assert start(str(cache))[0] == want[tuple(orders[0])]
    assert len(list(cache.glob("*.mrtw"))) == 3
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 1 << 6  # in the middle of a weight
    path.write_bytes(data)
    out = start("")[0]
    assert out not in want.values() and start(str(cache))[0] == out == start(str(cache))[0]


BRANCH_CODE = """
import sys, numpy as np, macart as ort
s = ort.InferenceSession(sys.argv[1])
x = np.ones((1, 256), np.float32)
def resident():
    kib, inside = 0, False
    for line in open("/proc/self/smaps"):
        if line[0] in "0123456789abcdef":
            inside = ".mrtw" in line
        elif inside and line.startswith("Rss:"):
            kib += int(line.split()[1])
    return kib
print(resident())
for yes in (True, True, False):
    s.run(None, {"x": x, "yes": np.array(yes)})
    print(resident())
"""


def test_weights_of_a_branch_wait(tmp_path: Path) -> None:
    """What a branch multiplies by comes into memory when it is taken first."""
    rng = np.random.default_rng(2)
    tensor = helper.make_tensor_value_info
    branches = {}
    for name in ("then_branch", "else_branch"):
        weight = numpy_helper.from_array(rng.standard_normal((256, 512)).astype(np.float32), "w")
        branches[name] = helper.make_graph(
            [
                helper.make_node("Constant", [], ["w"], value=weight),
                helper.make_node("MatMul", ["x", "w"], [f"{name}_y"]),
            ],
            name,
            [],
            [tensor(f"{name}_y", TensorProto.FLOAT, [1, 512])],
        )
    graph = helper.make_graph(
        [helper.make_node("If", ["yes"], ["y"], **branches)],
        "g",
        [tensor("x", TensorProto.FLOAT, [1, 256]), tensor("yes", TensorProto.BOOL, [])],
        [tensor("y", TensorProto.FLOAT, [1, 512])],
    )
    opset = [helper.make_opsetid("", 18)]
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    env = {**os.environ, "MRT_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", BRANCH_CODE, str(path)]
    for _ in range(2):
        done = subprocess.run(command, env=env, capture_output=True, check=True, text=True)
    made, first, same, both = (int(x) for x in done.stdout.split())
    assert made == 0
    assert 512 <= first == same < 1024 <= both
