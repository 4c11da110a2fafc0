"""Sizes past 32 bits: external data over 2 GiB, graphs of many nodes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import pytest
from onnx import TensorProto

import macart as ort

ROWS, WIDTH = 9_500_000, 64  # 2.3 GiB of float32


def big_table(folder: Path) -> Path:
    """A Gather from a table in external data; the file is sparse, its last row is not zero."""
    data = folder / "table.bin"
    with data.open("wb") as file:
        file.truncate(4 * ROWS * WIDTH)
        file.seek(4 * (ROWS - 1) * WIDTH)
        file.write(np.arange(WIDTH, dtype=np.float32).tobytes())
    table = onnx.TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[ROWS, WIDTH])
    table.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "table.bin"), ("length", str(4 * ROWS * WIDTH))):
        table.external_data.add(key=key, value=value)
    graph = oh.make_graph(
        [oh.make_node("Gather", ["table", "ids"], ["y"])],
        "g",
        [oh.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [oh.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])],
        [table],
    )
    path = folder / "big.onnx"
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 21)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def resident_kib() -> int:
    """Anonymous memory of this process, KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1])
    return 0


@pytest.mark.full
def test_external_data_over_two_gib(tmp_path: Path) -> None:
    """The table is read where it lies: right values past 2^31 bytes, no copy of the file."""
    path = big_table(tmp_path)
    before = resident_kib()
    session = ort.InferenceSession(str(path))
    (y,) = session.run(None, {"ids": np.array([0, ROWS - 1, -1], np.int64)})
    np.testing.assert_array_equal(y[0], np.zeros(WIDTH, np.float32))
    np.testing.assert_array_equal(y[1], np.arange(WIDTH, dtype=np.float32))
    np.testing.assert_array_equal(y[2], y[1])
    assert resident_kib() - before < 64 * 1024
    os.remove(path)


def chain(n: int) -> bytes:
    """n point-wise nodes in a row."""
    nodes = [
        oh.make_node("Add" if i % 2 else "Mul", [f"v{i}", f"c{i % 40}"], [f"v{i + 1}"])
        for i in range(n)
    ]
    constants = [onnx.numpy_helper.from_array(np.float32(1 + 1e-6 * i), f"c{i}") for i in range(40)]
    graph = oh.make_graph(
        nodes,
        "g",
        [oh.make_tensor_value_info("v0", TensorProto.FLOAT, ["n"])],
        [oh.make_tensor_value_info(f"v{n}", TensorProto.FLOAT, ["n"])],
        constants,
    )
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 21)], ir_version=10)
    return model.SerializeToString()


@pytest.mark.full
def test_many_nodes() -> None:
    """80,000 nodes in a row load and run (benchmarks/costs.py nodes times it)."""
    n = 80_000
    session = ort.InferenceSession(chain(n))
    (y,) = session.run(None, {"v0": np.ones(3, np.float32)})
    want = np.ones(3)
    for i in range(n):
        c = float(np.float32(1 + 1e-6 * (i % 40)))
        want = want + c if i % 2 else want * c
    np.testing.assert_allclose(y, want, rtol=1e-3)
