"""OrtValue, DLPack and IOBinding: values cross without copies and keep what they need alive.

Covers csrc/python: value, convert, numpy, ml_types, dlpack, binding, describe, errors, module,
session, run.
"""

from __future__ import annotations

import ctypes
import gc
import pickle
import weakref
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

import macart as ort
import tiny

pytestmark = pytest.mark.quick

Value = ort.OrtValue
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def make(data: bytes, **options: Any) -> ort.InferenceSession:
    """A session on the CPU."""
    o = ort.SessionOptions()
    for name, value in options.items():
        setattr(o, name, value)
    return ort.InferenceSession(data, o, providers=["CPUExecutionProvider"])


# ---------------------------------------------------------------- OrtValue


def test_value_over_an_array() -> None:
    """No copy in either direction; writing through one side shows on the other."""
    x = X.copy()
    v = Value.ortvalue_from_numpy(x)
    assert v.data_ptr() == x.ctypes.data
    assert (v.shape(), v.data_type(), v.element_type()) == ([2, 3], "tensor(float)", 1)
    assert (v.device_name(), v.tensor_size_in_bytes()) == ("cpu", 24)
    assert v.has_value() and v.is_tensor()
    assert not v.is_sparse_tensor() and not v.is_tensor_sequence()
    y = v.numpy()
    y[0, 0] = 77
    assert x[0, 0] == 77
    v.update_inplace(X + 1)
    assert (x == X + 1).all()
    v.update_inplace(Value.ortvalue_from_numpy(X))
    assert (x == X).all()
    with pytest.raises(RuntimeError, match="input size of numpy arrays does not match"):
        v.update_inplace(np.zeros(5, np.float32))
    with pytest.raises(RuntimeError):
        v.update_inplace(np.zeros((2, 3), np.int32))


def test_value_keeps_its_array() -> None:
    """The array lives as long as a value, or an array made of it, does."""
    x = X.copy()
    gone = weakref.ref(x)
    y = Value.ortvalue_from_numpy(x).numpy()
    del x
    gc.collect()
    assert gone() is not None and (y == X).all()
    del y
    gc.collect()
    assert gone() is None


def test_value_of_shape_and_type() -> None:
    """Own memory; types as numpy's or ONNX's numbers; nonsense refused."""
    v = Value.ortvalue_from_shape_and_type([2, 0, 3], np.int64)
    assert (v.data_ptr(), v.shape(), v.data_type()) == (0, [2, 0, 3], "tensor(int64)")
    v = Value.ortvalue_from_shape_and_type((4,), TensorProto.BFLOAT16)
    assert v.data_type() == "tensor(bfloat16)" and v.data_ptr() % 64 == 0
    assert v.numpy().dtype == ml_dtypes.bfloat16
    for shape, kind in (([-1], np.float32), ([2] * 17, np.float32), ([2], 99), ([2], "no")):
        with pytest.raises((ValueError, TypeError)):
            Value.ortvalue_from_shape_and_type(shape, kind)
    with pytest.raises((ort.InvalidArgument, ort.Fail)):
        Value.ortvalue_from_shape_and_type([2**40, 2**40], np.float32)
    with pytest.raises(RuntimeError, match="non-string"):
        Value.ortvalue_from_shape_and_type([2], TensorProto.STRING)
    with pytest.raises(RuntimeError, match="non-string"):
        Value.ortvalue_from_numpy(np.array(["a"]))
    with pytest.raises(RuntimeError, match="Can't allocate memory on"):
        Value.ortvalue_from_shape_and_type([2], np.float32, "cuda")
    with pytest.raises(Exception, match="Unsupported device type: foo"):
        Value.ortvalue_from_numpy(X, "foo")


def test_value_with_onnx_type() -> None:
    """Bits of one type read as another of the same size."""
    bits = np.array([0x3F80, 0x4000], np.uint16)
    v = Value.ortvalue_from_numpy_with_onnx_type(bits, TensorProto.BFLOAT16)
    assert v.data_ptr() == bits.ctypes.data
    assert v.numpy().astype(np.float32).tolist() == [1.0, 2.0]
    with pytest.raises(RuntimeError):
        Value.ortvalue_from_numpy_with_onnx_type(X, TensorProto.BFLOAT16)


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3fn", "int4", "uint2", "float4_e2m1fn"])
def test_value_of_ml_dtypes(kind: str) -> None:
    """Types that numpy lacks; narrower than a byte they are packed on the way in."""
    x = np.array([[0, 1, 1], [1, 0, 1]]).astype(getattr(ml_dtypes, kind))
    v = Value.ortvalue_from_numpy(x)
    assert v.shape() == [2, 3]
    assert v.numpy().dtype == x.dtype and (v.numpy() == x).all()


def test_values_pickle_and_subclass() -> None:
    """The public classes are Python classes."""

    class Mine(Value):
        extra = 1

    v = Mine.ortvalue_from_numpy(X)
    assert isinstance(v, Mine)
    assert (pickle.loads(pickle.dumps(v)).numpy() == X).all()
    with pytest.raises(TypeError):
        ort._core.OrtValue()


def test_value_of_odd_strides() -> None:
    """Arrays that are not plain are compacted once; feeds with them are too."""
    for x in (X.T, X[:, ::-1], X[::2], np.broadcast_to(X[0], (4, 3)), X.astype(">f4")):
        assert (Value.ortvalue_from_numpy(x).numpy() == x).all()
        assert (make(tiny.unary("Neg", tiny.F)).run(None, {"x": x})[0] == -x).all()
    odd = np.zeros(25, np.uint8)[1:].view(np.float32)
    odd[:] = 3
    assert (make(tiny.unary("Neg", tiny.F)).run(None, {"x": odd})[0] == -3).all()


# ---------------------------------------------------------------- DLPack


class Producer:
    """Only DLPack, nothing else of an array; with or without max_version."""

    def __init__(self, array: np.ndarray, old: bool) -> None:
        self.array, self.old = array, old

    def __dlpack__(self, **kwargs: Any) -> Any:
        if self.old and kwargs:
            raise TypeError("unexpected keyword argument")
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


@pytest.mark.parametrize("old", [False, True])
def test_dlpack_producers_are_feeds(old: bool) -> None:
    """Versioned and old, strided, offset and (versioned only) read-only memory."""
    s = make(tiny.unary("Neg", tiny.F))
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    for view in (x, x[1:], x[:, ::2], x.T, x[:0]):
        assert (s.run(None, {"x": Producer(view, old)})[0] == -view).all()
    x.flags.writeable = False
    if old:
        with pytest.raises(BufferError):
            s.run(None, {"x": Producer(x, old)})
    else:
        assert (s.run(None, {"x": Producer(x, old)})[0] == -x).all()


@pytest.mark.parametrize("old", [False, True])
def test_dlpack_in_keeps_the_producer(old: bool) -> None:
    """No copy; the memory stays until the value goes, then goes once."""
    x = X.copy()
    gone = weakref.ref(x)
    v = Value.from_dlpack(Producer(x, old))
    assert v.data_ptr() == x.ctypes.data
    del x
    gc.collect()
    assert gone() is not None
    del v
    gc.collect()
    assert gone() is None


def test_dlpack_capsules() -> None:
    """A capsule can be taken once; one that nobody takes frees its tensor."""
    x = X.copy()
    capsule = x.__dlpack__()
    assert (Value.from_dlpack(capsule).numpy() == X).all()
    with pytest.raises(ValueError):
        Value.from_dlpack(capsule)
    gone = weakref.ref(x)
    v = Value.ortvalue_from_numpy(x)
    for version in (None, (1, 0)):
        capsule = v.__dlpack__(max_version=version)
        assert ("versioned" in repr(capsule)) is (version is not None)
        del capsule
    capsule = v._ortvalue.to_dlpack()
    del x, v
    gc.collect()
    assert gone() is not None
    del capsule
    gc.collect()
    assert gone() is None
    with pytest.raises((AttributeError, TypeError)):
        Value.from_dlpack(3)


@pytest.mark.parametrize("kind", "?bBhHiIlLefdFD")
def test_dlpack_out(kind: str) -> None:
    """numpy reads every type of ours that it knows, in place."""
    x = np.array([[0, 1, 1], [0, 0, 1]]).astype(kind)
    v = Value.ortvalue_from_numpy(x)
    assert v.__dlpack_device__() == (1, 0)
    y = np.from_dlpack(v)
    assert y.dtype == x.dtype and (y == x).all()
    assert y.ctypes.data == x.ctypes.data
    assert np.from_dlpack(v, copy=True).ctypes.data != x.ctypes.data


def test_dlpack_read_only() -> None:
    """The flag of DLPack 1.0 goes both ways; older consumers are refused."""
    x = X.copy()
    x.flags.writeable = False
    v = Value.ortvalue_from_numpy(x)
    assert not v.numpy().flags.writeable
    assert not np.from_dlpack(v).flags.writeable
    with pytest.raises(BufferError):
        v.__dlpack__()
    with pytest.raises(BufferError):
        v.__dlpack__(stream=5)
    with pytest.raises(BufferError):
        v.__dlpack__(dl_device=(2, 0))
    with pytest.raises(RuntimeError, match="read-only"):
        v.update_inplace(X)
    assert not Value.from_dlpack(Producer(x, False)).numpy().flags.writeable


class DLVersioned(ctypes.Structure):
    """DLManagedTensorVersioned with its DLTensor inside."""

    _fields_ = [
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("ctx", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p), ("flags", ctypes.c_uint64), ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]  # fmt: skip


def capsule_of(memory: bytes, shape: list[int], **fields: Any) -> Any:
    """A hand-made versioned capsule without a deleter, and what it needs to live."""
    dims = (ctypes.c_int64 * max(1, len(shape)))(*shape)
    buffer = ctypes.create_string_buffer(memory, len(memory))
    m = DLVersioned(major=1, minor=0, device_type=1, ndim=len(shape), lanes=1, shape=dims)
    m.data = ctypes.addressof(buffer)
    for name, value in fields.items():
        setattr(m, name, value)
    new = ctypes.pythonapi.PyCapsule_New
    new.restype = ctypes.py_object
    new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(ctypes.addressof(m), b"dltensor_versioned", None), (m, dims, buffer)


def test_dlpack_hand_made() -> None:
    """byte_offset, packed and padded narrow types, misaligned memory; wrong ones are refused."""
    floats = np.arange(5, dtype=np.float32).tobytes()
    capsule, keep = capsule_of(floats, [3], code=2, bits=32, byte_offset=8)
    assert Value.from_dlpack(capsule).numpy().tolist() == [2, 3, 4]
    capsule, keep = capsule_of(b"\0" + floats, [5], code=2, bits=32, byte_offset=1)
    assert Value.from_dlpack(capsule).numpy().tolist() == [0, 1, 2, 3, 4]
    capsule, keep = capsule_of(b"\x21\x03", [3], code=1, bits=4)
    assert Value.from_dlpack(capsule).numpy().astype(int).tolist() == [1, 2, 3]
    capsule, keep = capsule_of(b"\x01\x02\x03", [3], code=1, bits=4, flags=4)
    assert Value.from_dlpack(capsule).numpy().astype(int).tolist() == [1, 2, 3]
    for wrong in (
        {"code": 2, "bits": 24}, {"code": 2, "bits": 32, "lanes": 4}, {"code": 99, "bits": 8},
        {"code": 2, "bits": 32, "device_type": 2}, {"code": 2, "bits": 32, "major": 2},
        {"code": 2, "bits": 32, "ndim": 17}, {"code": 2, "bits": 32, "ndim": -1},
    ):  # fmt: skip
        capsule, keep = capsule_of(floats, [3], **wrong)
        with pytest.raises(ort.NotImplemented):
            Value.from_dlpack(capsule)
        assert "used" not in repr(capsule)
    capsule, keep = capsule_of(floats, [-3], code=2, bits=32)
    with pytest.raises(ort.InvalidArgument):
        Value.from_dlpack(capsule)


# ---------------------------------------------------------------- runs


def test_outputs_own_their_memory() -> None:
    """Outputs outlive the session and do not share memory with feeds or each other."""
    s = make(tiny.add_relu())
    x = X.copy()
    z, r = s.run(None, {"x": x, "y": x})
    del s
    gc.collect()
    x[:] = -1
    z[0, 0] = 5
    assert (r == 2 * X).all() and z.base is not None and z.flags.writeable


def test_feeds_of_every_kind() -> None:
    """OrtValues, lists, wrappers with _ortvalue; None is no feed; other mappings than dict."""
    s = make(tiny.add_relu())
    v = Value.ortvalue_from_numpy(X)

    class OrtLike:
        _ortvalue = v._ortvalue

    from types import MappingProxyType

    for y in (v, v._ortvalue, X.tolist(), OrtLike(), memoryview(X)):
        assert (s.run(["z"], {"x": X, "y": y})[0] == 2 * X).all()
        assert (s.run(("z",), MappingProxyType({"x": X, "y": y}))[0] == 2 * X).all()
    assert len(s.run([], {"x": X, "y": X})) == 2
    again = s.run(["r", "z", "r"], {"x": X, "y": X})
    assert all((a == 2 * X).all() for a in again)
    assert not np.shares_memory(again[0], again[2])


@pytest.mark.parametrize(
    ("names", "feed", "error", "text"),
    [
        (None, {"x": X}, ValueError, r"Required inputs \(\['y'\]\) are missing from input feed"),
        (None, {"x": X, "y": X, "q": X}, ort.InvalidArgument, "Invalid input name: q"),
        (["q"], {"x": X, "y": X}, ort.InvalidArgument, "Invalid output name:q"),
        (None, {"x": X, "y": X.astype(int)}, ort.InvalidArgument, "Unexpected input data type"),
        (None, {"x": X, "y": X[0]}, ort.InvalidArgument, "Invalid rank for input: y Got: 1"),
        (None, {"x": X, "y": X[:, :2]}, ort.InvalidArgument, "index: 1 Got: 2 Expected: 3"),
        (None, {"x": X, "y": 1.0}, RuntimeError, "Unable to handle object of type <class 'float'>"),
        (None, {"x": X, "y": np.float32(1)}, RuntimeError, "Unable to handle object of type"),
        ("z", {"x": X, "y": X}, TypeError, "sequence of str"),
        ([3], {"x": X, "y": X}, TypeError, "names are str"),
        (None, {3: X, "y": X}, TypeError, "names are str"),
        (None, None, AttributeError, "no attribute 'keys'"),
    ],
)
def test_wrong_feeds(names: Any, feed: Any, error: type, text: str) -> None:
    """The exceptions and texts of ONNX Runtime."""
    with pytest.raises(error, match=text):
        make(tiny.add_relu()).run(names, feed)


def test_many_inputs() -> None:
    """More than fit on the stack of a call."""
    names = [f"x{i}" for i in range(40)]
    nodes = [helper.make_node("Sum", names, ["y"])]
    s = make(tiny.model(nodes, [(n, tiny.F, [2]) for n in names], [("y", tiny.F, [2])]))
    assert s.run(None, {n: np.full(2, i, np.float32) for i, n in enumerate(names)})[0][0] == 780


STRINGS = [
    np.array(["a", "ü", ""]), np.array([b"a", "ü".encode(), b""]),
    np.array(["a", "ü", ""], object), ["a", "ü", ""],
    np.array([b"a", "ü".encode(), b""]).view("V2"),
]  # fmt: skip


@pytest.mark.parametrize("value", STRINGS, ids=["U", "S", "O", "list", "V"])
def test_strings(value: Any) -> None:
    """Every encoding of numpy goes in; arrays of str come out."""
    s = make(tiny.unary("Identity", TensorProto.STRING, [3]))
    (y,) = s.run(None, {"x": value})
    assert y.dtype == object and y.tolist() == ["a", "ü", ""]


def test_optionals() -> None:
    """An optional input may be left out or None; an empty optional output is None."""
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(tiny.F, [2]))
    has = [helper.make_node("OptionalHasElement", ["x"], ["y"])]
    s = make(tiny.model(has, [helper.make_value_info("x", kind)], [("y", TensorProto.BOOL, [])]))
    assert s.get_inputs()[0].type == "optional(tensor(float))"
    assert s.run(None, {"x": np.zeros(2, np.float32)})[0]
    assert not s.run(None, {})[0] and not s.run(None, {"x": None})[0]


def test_run_with_ort_values() -> None:
    """Values in, values out."""
    s = make(tiny.add_relu())
    v = Value.ortvalue_from_numpy(X)
    (z,) = s.run_with_ort_values(["z"], {"x": v, "y": v})
    assert isinstance(z, Value) and (z.numpy() == 2 * X).all()
    with pytest.raises(ValueError, match="Required inputs"):
        s.run_with_ort_values(None, {"x": v})
    with pytest.raises(TypeError, match="input 'y' takes an OrtValue, not ndarray"):
        s.run_with_ort_values(None, {"x": v, "y": X})  # type: ignore[dict-item]


def test_run_options_of_a_wrong_type() -> None:
    """Every way to run refuses what is no RunOptions, at once and by type."""
    s = make(tiny.add_relu())
    v = Value.ortvalue_from_numpy(X)
    b = s.io_binding()
    b.bind_output("z")
    wrong: Any = 5
    for call in (
        lambda: s.run(None, {"x": X, "y": X}, wrong),
        lambda: s.run_with_ort_values(None, {"x": v, "y": v}, wrong),
        lambda: s.run_with_iobinding(b, wrong),
        lambda: s.run_async(None, {"x": X, "y": X}, print, None, wrong),
    ):
        with pytest.raises(TypeError, match="run_options is a RunOptions, not int"):
            call()


# ---------------------------------------------------------------- containers


def test_sequences() -> None:
    """Lists of arrays in and out; of OrtValues and DLPack producers too; empty ones."""
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(tiny.F, None))
    nodes = [
        helper.make_node("SequenceInsert", ["s", "x"], ["t"]),
        helper.make_node("SequenceLength", ["s"], ["n"]),
    ]
    s = make(tiny.model(
        nodes, [helper.make_value_info("s", kind), ("x", tiny.F, None)],
        [helper.make_value_info("t", kind), ("n", TensorProto.INT64, [])],
    ))  # fmt: skip
    assert s.get_inputs()[0].type == "seq(tensor(float))"
    for items in ([X, X[0]], [], [Value.ortvalue_from_numpy(X)], (Producer(X, False),)):
        t, n = s.run(None, {"s": items, "x": X})
        assert n == len(items) and isinstance(t, list) and len(t) == len(items) + 1
        assert all(a.dtype == np.float32 for a in t) and (t[-1] == X).all()
    (t, _) = s.run_with_ort_values(
        None, {"s": Value(ort._core.OrtValue.from_python([X])), "x": Value.ortvalue_from_numpy(X)}
    )
    assert t.is_tensor_sequence() and not t.is_tensor() and t.data_type() == "seq(tensor(float))"
    with pytest.raises(RuntimeError, match="convertible to Numpy"):
        t.numpy()
    with pytest.raises(RuntimeError):
        s.run(None, {"s": [X, 1.0], "x": X})
    with pytest.raises((TypeError, ort.InvalidArgument)):
        s.run(None, {"s": 3, "x": X})


def test_maps() -> None:
    """A dict is a map: of int or str to numbers; it comes out as a dict."""
    for d in ({1: 0.5, 7: 2.0}, {"a": 0.5, "b": 2.0}):
        v = Value(ort._core.OrtValue.from_python(d))
        assert v.data_type().startswith("map(") and not v.is_tensor()
        assert v._ortvalue.to_python() == d
    v = Value(ort._core.OrtValue.from_python([{1: 0.5}, {2: 1.5}]))
    assert v.data_type() == "seq(map(int64,tensor(float)))"
    assert v._ortvalue.to_python() == [{1: 0.5}, {2: 1.5}]
