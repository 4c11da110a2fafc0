"""IOBinding: inputs and outputs in place, run after run; what it refuses, what it keeps alive."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from onnx import helper
from test_values import Value, X, make

import tiny

pytestmark = pytest.mark.quick


def test_binding_of_another_session() -> None:
    """A binding runs with the session that made it, and with no other object."""
    a, other = make(tiny.add_relu()), make(tiny.add_relu())
    b = a.io_binding()
    for name in ("x", "y"):
        b.bind_cpu_input(name, X)
    b.bind_output("z")
    with pytest.raises(ValueError, match="must be used with the session that created it."):
        other.run_with_iobinding(b)
    a.run_with_iobinding(b)
    assert (b.copy_outputs_to_cpu()[0] == 2 * X).all()
    with pytest.raises(TypeError, match="iobinding is an IOBinding, not NoneType"):
        a.run_with_iobinding(None)  # type: ignore[arg-type]
    a.set_providers(["CPUExecutionProvider"])  # the session is another one now
    with pytest.raises(ValueError, match="must be used with the session that created it."):
        a.run_with_iobinding(b)


def test_binding() -> None:
    """Inputs are read and outputs written in place, run after run."""
    s = make(tiny.add_relu())
    b = s.io_binding()
    x, out = X.copy(), np.zeros_like(X)
    b.bind_cpu_input("x", x)
    b.bind_input("y", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    b.bind_output("r", "cpu", 0, np.float32, out.shape, out.ctypes.data)
    b.bind_output("z")
    for k in range(3):
        x[:] = X + k
        b.synchronize_inputs()
        s.run_with_iobinding(b)
        b.synchronize_outputs()
        assert (out == 2 * (X + k)).all()
        r, z = b.get_outputs()
        assert r.data_ptr() == out.ctypes.data and (z.numpy() == out).all()
        copies = b.copy_outputs_to_cpu()
        assert (copies[1] == out).all() and not np.shares_memory(copies[0], out)
    vector = b.get_outputs_as_ortvaluevector()
    assert len(vector) == 2 and vector[0].shape() == [2, 3]
    b.clear_binding_outputs()
    assert b.get_outputs() == []
    with pytest.raises(RuntimeError, match="At least one output should be requested"):
        s.run_with_iobinding(b)


def test_binding_over_a_feed() -> None:
    """Input and output in the same memory: the feed is read before it is overwritten."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["y"]),
        helper.make_node("Add", ["x", "y"], ["z"]),
    ]
    s = make(tiny.model(nodes, [("x", tiny.F, [3, 3])], [("y", tiny.F, [3, 3]),
                                                         ("z", tiny.F, [3, 3])]))  # fmt: skip
    x = np.arange(9, dtype=np.float32).reshape(3, 3)
    want = x + x.T
    v = Value.ortvalue_from_numpy(x)
    b = s.io_binding()
    b.bind_ortvalue_input("x", v)
    b.bind_ortvalue_output("y", v)
    b.bind_output("z")
    s.run_with_iobinding(b)
    assert (b.get_outputs()[1].numpy() == want).all()
    assert (x == np.arange(9).reshape(3, 3).T).all()


def test_binding_errors() -> None:
    """Plain RuntimeErrors with ONNX Runtime's texts."""
    s = make(tiny.add_relu())
    b = s.io_binding()
    with pytest.raises(RuntimeError, match="Failed to find NodeArg with name: q in the def list"):
        b.bind_cpu_input("q", X)
    with pytest.raises(RuntimeError, match="Unable to create OrtValue"):
        b.bind_cpu_input("x", [1.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`element_type` and `shape` are to be provided"):
        b.bind_output("z", buffer_ptr=64)
    with pytest.raises(RuntimeError):
        b.bind_output("z", "cuda", 0)
    b.bind_cpu_input("x", X)
    b.bind_output("z")
    with pytest.raises(RuntimeError, match="Error in execution: .*Missing Input: y"):
        s.run_with_iobinding(b)
    b.bind_cpu_input("y", X)
    b.bind_ortvalue_output("z", Value.ortvalue_from_shape_and_type([3, 3], np.float32))
    with pytest.raises(RuntimeError, match="OrtValue shape verification failed"):
        s.run_with_iobinding(b)
    b.bind_ortvalue_output("z", Value.ortvalue_from_shape_and_type([2, 3], np.float64))
    with pytest.raises(RuntimeError, match="Unexpected output data type"):
        s.run_with_iobinding(b)
    frozen = X.copy()
    frozen.flags.writeable = False
    with pytest.raises(RuntimeError, match="read-only"):
        b.bind_ortvalue_output("z", Value.ortvalue_from_numpy(frozen))


def test_binding_keeps_what_it_needs() -> None:
    """The session and the arrays live as long as the binding; cycles are collected."""
    x = X.copy()
    gone = weakref.ref(x)
    b = make(tiny.add_relu()).io_binding()
    b.bind_cpu_input("x", x)
    b.bind_cpu_input("y", x)
    b.bind_output("z")
    del x
    gc.collect()
    b._iobinding.run()
    assert (b.get_outputs()[0].numpy() == 2 * X).all() and gone() is not None
    del b
    gc.collect()
    assert gone() is None
