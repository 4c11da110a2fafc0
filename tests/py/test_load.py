"""Loading (csrc/load, plan/align): weights wherever they lie in the file, external data and its
rules, sparse initializers."""

from __future__ import annotations

import os
from pathlib import Path

import macart as ort
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.quick

F32 = TensorProto.FLOAT
COPY = "session.macart.copy_model_files"


def value(name: str, dims: list, kind: int = F32) -> onnx.ValueInfoProto:
    """A declared input or output."""
    return helper.make_tensor_value_info(name, kind, dims)


def model(
    nodes: list, inputs: list, outputs: list, initializers: list, **more: object
) -> onnx.ModelProto:
    """A model of opset 17."""
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers, **more)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def weights(seed: int, *dims: int) -> np.ndarray:
    """Random float32."""
    return np.random.default_rng(seed).standard_normal(dims).astype(np.float32)


def three_uses() -> tuple[onnx.ModelProto, dict[str, np.ndarray], np.ndarray]:
    """A table that is looked up, a weight that is packed and read too, one that is added."""
    table, w, b = weights(1, 100, 64), weights(2, 64, 64), weights(3, 64, 64)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["s"]),
        helper.make_node("MatMul", ["w", "w"], ["ww"]),
        helper.make_node("Mul", ["ids_f", "w"], ["iw"]),
        helper.make_node("Add", ["s", "ww"], ["sw"]),
        helper.make_node("Add", ["sw", "iw"], ["y"]),
    ]
    named = [numpy_helper.from_array(a, n) for a, n in ((table, "table"), (w, "w"), (b, "b"))]
    inputs = [value("ids", [64], TensorProto.INT64), value("ids_f", [64])]
    m = model(nodes, inputs, [value("y", [64, 64])], named)
    ids = np.arange(64, dtype=np.int64) % 100
    f = ids.astype(np.float32)
    d = [a.astype(np.float64) for a in (table, w, b)]
    return m, {"ids": ids, "ids_f": f}, d[0][ids] @ d[1] + d[2] + d[1] @ d[1] + f * d[1]


@pytest.mark.parametrize("shift", range(5))
@pytest.mark.parametrize("level", [0, 99])
def test_weights_at_any_offset(shift: int, level: int) -> None:
    """Payloads move by one byte with every byte of the producer's name."""
    m, feeds, expected = three_uses()
    m.producer_name = "p" * shift
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel(level)
    session = ort.InferenceSession(m.SerializeToString(), options)
    for _ in range(2):
        np.testing.assert_allclose(session.run(None, feeds)[0], expected, rtol=1e-4, atol=1e-4)


def save_external(m: onnx.ModelProto, folder: Path, place: str = "w.bin", **more: str) -> Path:
    """Moves every initializer into a file beside the model."""
    data = b"pad"
    for t in m.graph.initializer:
        entries = {"location": place, "offset": str(len(data)), "length": str(len(t.raw_data))}
        data += t.raw_data
        t.ClearField("raw_data")
        t.data_location = TensorProto.EXTERNAL
        for key, text in {**entries, **more}.items():
            t.external_data.add(key=key, value=text)
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).write_bytes(data)
    path = folder / "m.onnx"
    path.write_bytes(m.SerializeToString())
    return path


@pytest.mark.parametrize("copy", ["0", "1"])
@pytest.mark.parametrize("location", ["w.bin", "deep/w.bin"])
def test_external_data(tmp_path: Path, copy: str, location: str) -> None:
    """Mapped or copied; a copied model does not care what becomes of its files."""
    m, feeds, expected = three_uses()
    path = save_external(m, tmp_path, location)
    options = ort.SessionOptions()
    options.add_session_config_entry(COPY, copy)
    session = ort.InferenceSession(path, options)
    if copy == "1":
        for file in (path, tmp_path / location):
            file.write_bytes(bytes(file.stat().st_size))
    np.testing.assert_allclose(session.run(None, feeds)[0], expected, rtol=1e-4, atol=1e-4)


def test_external_data_behind_links(tmp_path: Path) -> None:
    """A cache of symbolic links: the data lies beside the model's real file only."""
    m, feeds, expected = three_uses()
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    real = save_external(m, tmp_path / "blobs")
    link = tmp_path / "snapshot" / "m.onnx"
    link.symlink_to(real)
    (tmp_path / "snapshot" / "w.bin").symlink_to(tmp_path / "blobs" / "w.bin")
    session = ort.InferenceSession(link)
    np.testing.assert_allclose(session.run(None, feeds)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"location": "../w.bin"}, "escapes model directory"),
        ({"location": "link.bin"}, "escapes model directory"),
        ({"location": "/etc/passwd"}, "Absolute path not allowed"),
        ({"location": "none.bin"}, "does not exist"),
        ({"location": "pipe"}, "not a regular file"),
        ({"location": ""}, "cannot be empty"),
        ({"offset": "9999999"}, "do not fit"),
        ({"offset": "-8"}, "offset"),
        ({"offset": "18446744073709551615"}, "offset"),
        ({"length": "12"}, "do not fit"),
        ({"length": "x"}, "length"),
    ],
)
def test_bad_external_data(tmp_path: Path, change: dict, text: str) -> None:
    """Escapes and wrong places are refused, naming file and tensor."""
    m, _, _ = three_uses()
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(1 << 20))
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    os.mkfifo(folder / "pipe")
    path = save_external(m, folder, "own.bin", **change)
    with pytest.raises(ort.Fail, match=text) as caught:
        ort.InferenceSession(path)
    assert "table" in str(caught.value) and "m.onnx" in str(caught.value)


def test_external_data_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From memory: under the working directory, or under the folder that an option names."""
    m, feeds, expected = three_uses()
    data = save_external(m, tmp_path, "w.bin").read_bytes()
    with pytest.raises(ort.Fail, match="does not exist"):
        ort.InferenceSession(data)
    options = ort.SessionOptions()
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(tmp_path)
    )
    for inside, o in ((False, options), (True, None)):
        if inside:
            monkeypatch.chdir(tmp_path)
        session = ort.InferenceSession(data, o)
        np.testing.assert_allclose(session.run(None, feeds)[0], expected, rtol=1e-4, atol=1e-4)
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    for t in m.graph.initializer:
        t.external_data[0].value = "../w.bin"
    with pytest.raises(ort.Fail, match="escapes"):
        ort.InferenceSession(m.SerializeToString())


@pytest.mark.parametrize("linear", [True, False])
def test_sparse_initializer(linear: bool) -> None:
    """Dense for whoever reads it."""
    dense = np.zeros((4, 5), np.float32)
    dense[[0, 2, 3], [1, 4, 0]] = [1.5, -2, 7]
    flat = np.flatnonzero(dense)
    at = flat if linear else np.stack(np.unravel_index(flat, dense.shape), 1)
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(dense.reshape(-1)[flat], "s"),
        numpy_helper.from_array(at.astype(np.int64), "i"), [4, 5],
    )  # fmt: skip
    m = model([helper.make_node("Add", ["x", "s"], ["y"])], [value("x", [4, 5])],
              [value("y", [4, 5])], [], sparse_initializer=[sparse])  # fmt: skip
    x = weights(5, 4, 5)
    np.testing.assert_array_equal(
        ort.InferenceSession(m.SerializeToString()).run(None, {"x": x})[0], x + dense
    )


@pytest.mark.parametrize("at", [[20], [-1], [1 << 40]])
def test_bad_sparse_initializer(at: list[int]) -> None:
    """An index outside of the shape; a shape that no memory holds."""

    def sparse(dims: list[int]) -> onnx.SparseTensorProto:
        return helper.make_sparse_tensor(
            numpy_helper.from_array(np.ones(1, np.float32), "s"),
            numpy_helper.from_array(np.array(at), "i"), dims,
        )  # fmt: skip

    for dims in ([4, 5], [1 << 40, 1 << 30], [1 << 20, 1 << 20]):
        m = model([helper.make_node("Identity", ["s"], ["y"])], [], [value("y", [4, 5])], [],
                  sparse_initializer=[sparse(dims)])  # fmt: skip
        with pytest.raises(Exception, match="'s'") as caught:
            ort.InferenceSession(m.SerializeToString())
        assert type(caught.value).__module__.startswith("macart")
