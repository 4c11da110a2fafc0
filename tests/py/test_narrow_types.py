"""Results of types that numpy lacks, in a process without ml_dtypes: what can be numbers is, the
rest is an error that names the package, never bits that look like numbers.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from onnx import TensorProto, helper

pytestmark = pytest.mark.quick

SCRIPT = """
import sys
sys.modules["ml_dtypes"] = None  # import ml_dtypes raises ImportError
import numpy as np
import macart as ort
x = np.array([1.0, 0.0, 1.0, -1.0], np.float32)
session = ort.InferenceSession(sys.argv[1])
(value,) = session.run_with_ort_values(["y"], {"x": ort.OrtValue.ortvalue_from_numpy(x)})
print(value.data_type())
try:
    (y,) = session.run(None, {"x": x})
    print(y.dtype, y.tolist())
except RuntimeError as error:
    print("RuntimeError", error)
"""
RESULTS = {
    "INT4": "int8 [1, 0, 1, -1]",
    "INT2": "int8 [1, 0, 1, -1]",
    "UINT4": "uint8 [1, 0, 1, 1]",
    "FLOAT8E4M3FN": "uint8 [56, 0, 56, 184]",
    "FLOAT4E2M1": "uint8 [2, 0, 2, 10]",
    "BFLOAT16": "RuntimeError No corresponding Numpy type for Tensor Type. bfloat16 needs the "
    "package ml_dtypes: pip install ml_dtypes",
    "FLOAT8E5M2": "RuntimeError No corresponding Numpy type for Tensor Type. float8e5m2 needs the "
    "package ml_dtypes: pip install ml_dtypes",
}


@pytest.mark.parametrize("kind", RESULTS)
def test_without_ml_dtypes(kind: str, tmp_path: Path) -> None:
    """A Cast, whose result is fetched as an OrtValue and as an array."""
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=getattr(TensorProto, kind))]
    if kind.startswith("U"):  # of negative numbers that would not be defined
        nodes = [helper.make_node("Abs", ["x"], ["a"]), *nodes]
        nodes[1].input[0] = "a"
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", getattr(TensorProto, kind), [4])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=13)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    command = [sys.executable, "-c", SCRIPT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"tensor({kind.lower()})", RESULTS[kind]]
