"""Memory that the host may not touch: partition, copies, control flow and io on the test provider.

The provider (csrc/provider/test/provider_test.c) maps device memory without access rights, so any
engine code that reads or writes it on its own dies with a fault; every case therefore runs in a
process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import onnx
import onnx.helper as oh
import pytest
from onnx import TensorProto

F, B = TensorProto.FLOAT, TensorProto.BOOL

PROLOGUE = """
import sys
import numpy as np
import macart as ort

def session(path, claims):
    o = ort.SessionOptions()
    if claims is not None:
        o.add_session_config_entry("test.claims", claims)
    return ort.InferenceSession(path, o, providers=["TestExecutionProvider"])

rng = np.random.default_rng(0)
x = rng.standard_normal((3, 4)).astype(np.float32)
w = np.arange(16, dtype=np.float32).reshape(4, 4) / 7
"""


def run(code: str, path: str) -> None:
    """Runs PROLOGUE and code with the model's path as argument; it must end well."""
    script = PROLOGUE + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]


def save(tmp_path, nodes, inputs, outputs, initializers=(), opset=21) -> str:
    """A model file from its parts."""
    graph = oh.make_graph(
        nodes,
        "g",
        [oh.make_tensor_value_info(n, t, s) for n, t, s in inputs],
        [oh.make_tensor_value_info(n, t, s) for n, t, s in outputs],
        [onnx.numpy_helper.from_array(a, n) for n, a in initializers],
    )
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", opset)], ir_version=10)
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    return str(path)


W = np.arange(16, dtype=np.float32).reshape(4, 4) / 7


def chain(tmp_path) -> str:
    """MatMul, Add, Relu, Reshape and MatMul again, a dynamic first dim."""
    nodes = [
        oh.make_node("MatMul", ["x", "w"], ["a"]),
        oh.make_node("Add", ["a", "x"], ["b"]),
        oh.make_node("Relu", ["b"], ["c"]),
        oh.make_node("Shape", ["c"], ["s"]),
        oh.make_node("Reshape", ["c", "s"], ["d"]),
        oh.make_node("MatMul", ["d", "w"], ["y"]),
    ]
    return save(tmp_path, nodes, [("x", F, ["n", 4])], [("y", F, None), ("b", F, None)], [("w", W)])


@pytest.mark.quick
@pytest.mark.parametrize(
    "claims", [None, "MatMul", "Add,Relu", "Relu", "Reshape", "MatMul,Add,Relu,Reshape"]
)
def test_any_partition_gives_the_same(tmp_path, claims) -> None:
    """Every way to cut the graph between host and device computes what numpy does."""
    run(
        f"""
        want_b = x @ w + x
        want = np.maximum(want_b, 0) @ w
        q = session(sys.argv[1], {claims!r})
        for n in (3, 1, 2, 3):
            y, b = q.run(None, {{"x": x[:n]}})
            np.testing.assert_allclose(y, want[:n], rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(b, want_b[:n], rtol=1e-5, atol=1e-5)
        """,
        chain(tmp_path),
    )


def branches(tmp_path) -> str:
    """If whose bodies read values of both devices, nested once."""
    y = oh.make_tensor_value_info("t", F, None)
    inner_then = oh.make_graph(
        [oh.make_node("Mul", ["a", "k"], ["u"])],
        "it",
        [],
        [oh.make_tensor_value_info("u", F, None)],
    )
    inner_else = oh.make_graph(
        [oh.make_node("Identity", ["r"], ["v"])],
        "ie",
        [],
        [oh.make_tensor_value_info("v", F, None)],
    )
    then = oh.make_graph(
        [
            oh.make_node("If", ["c"], ["p"], then_branch=inner_then, else_branch=inner_else),
            oh.make_node("Add", ["p", "r"], ["t"]),
        ],
        "then",
        [],
        [y],
    )
    other = oh.make_graph(
        [oh.make_node("Sub", ["r", "a"], ["e"])],
        "else",
        [],
        [oh.make_tensor_value_info("e", F, None)],
    )
    nodes = [
        oh.make_node("MatMul", ["x", "w"], ["a"]),
        oh.make_node("Relu", ["a"], ["r"]),
        oh.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
        oh.make_node("Add", ["y", "a"], ["z"]),
    ]
    return save(
        tmp_path,
        nodes,
        [("x", F, ["n", 4]), ("c", B, [])],
        [("z", F, None)],
        [("w", W), ("k", np.float32([2.0]))],
    )


@pytest.mark.quick
@pytest.mark.parametrize("claims", [None, "MatMul", "Relu", "Mul,Add", "Sub,Relu"])
def test_if_bodies_cross_devices(tmp_path, claims) -> None:
    """Captured values and results of branches are copied where they are read."""
    run(
        f"""
        q = session(sys.argv[1], {claims!r})
        a = x @ w
        r = np.maximum(a, 0)
        for c, want in ((True, a * 2 + r + a), (False, r - a + a)):
            z, = q.run(None, {{"x": x, "c": np.array(c)}})
            np.testing.assert_allclose(z, want, rtol=1e-5, atol=1e-5)
        """,
        branches(tmp_path),
    )


@pytest.mark.quick
def test_profile_names_providers(tmp_path) -> None:
    """The trace says which provider ran a node, and shows the copies."""
    run(
        f"""
        import json
        o = ort.SessionOptions()
        o.enable_profiling = True
        o.profile_file_prefix = {str(tmp_path / "prof")!r}
        o.add_session_config_entry("test.claims", "Relu")
        q = ort.InferenceSession(sys.argv[1], o, providers=["TestExecutionProvider"])
        q.run(None, {{"x": x}})
        seen = {{(e["args"]["op_name"], e["args"]["provider"])
                for e in json.load(open(q.end_profiling())) if e.get("cat") == "Node"}}
        assert ("Relu", "TestExecutionProvider") in seen, seen
        assert ("Copy", "TestExecutionProvider") in seen, seen
        assert ("MatMul", "CPUExecutionProvider") in seen, seen
        """,
        chain(tmp_path),
    )
