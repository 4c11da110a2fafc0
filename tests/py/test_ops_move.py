"""Operators that move, index and select, and sequences and control flow, against onnxruntime.

Each row of the table is one use of an operator; it is run for every element type, once with free
dims and computed operands and once with static dims and constant operands, and compared with
onnxruntime wherever that has a kernel for the type (numpy knows the rest: see the lower half).
Files that this covers: common, packed, strided, trilu, string_normalizer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from compare import difference
from onnx import TensorProto, helper, numpy_helper

import engine

pytestmark = pytest.mark.full

INTS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float32", "float64", "float16"]
NUMBERS = FLOATS + INTS
WIDE = [*FLOATS, "int32", "int64", "uint32", "uint64"]
MOVED = [*NUMBERS, "bool", "str"]
Arrays = list[np.ndarray | None]
Make = Callable[[np.random.Generator, str], Arrays]


def sample(rng: np.random.Generator, dtype: str, *shape: int, high: int = 9) -> np.ndarray:
    """Small numbers (negative ones where the type has them), truth values or short strings."""
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype == "str":
        words = np.array(["", "a", "bc", "déjà", "x" * 40, "bc "], dtype=object)
        return words[rng.integers(0, len(words), shape)].reshape(shape)
    low = 0 if dtype.startswith("u") else -high
    values = rng.integers(low, high, shape)
    return (values / 2 if "float" in dtype else values).astype(dtype)


def i64(*values: Any) -> np.ndarray:
    """An int64 vector, or what its only list says."""
    return np.array(values[0] if len(values) == 1 else values, dtype=np.int64)


@dataclass(frozen=True)
class Row:
    """One use of an operator."""

    op: str
    make: Make
    dtypes: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    opset: int = 21
    label: str = ""
    tolerance: float = 0.0


def _kind(array: np.ndarray) -> int:
    return (
        TensorProto.STRING
        if array.dtype == object
        else helper.np_dtype_to_tensor_dtype(array.dtype)
    )


def build(row: Row, arrays: Arrays, static: bool) -> tuple[bytes, dict[str, np.ndarray]]:
    """The model of one node; static: known dims, and all operands but the first are constants."""
    names, inputs, weights, feeds = [], [], [], {}
    for i, array in enumerate(arrays):
        names.append("" if array is None else f"i{i}")
        if array is None:
            continue
        if static and i:
            weights.append(numpy_helper.from_array(array, f"i{i}"))
            continue
        dims: Any = array.shape if static else [f"i{i}_{d}" for d in range(array.ndim)]
        inputs.append(helper.make_tensor_value_info(f"i{i}", _kind(array), dims))
        feeds[f"i{i}"] = array
    outs = [f"o{k}" for k in range(row.outputs)]
    node = helper.make_node(row.op, names, outs, **row.attributes)
    results = [helper.make_empty_tensor_value_info(name) for name in outs]
    graph = helper.make_graph([node], "g", inputs, results, weights)
    opsets = [helper.make_opsetid("", row.opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return model.SerializeToString(), feeds


def run(model: bytes, feeds: dict[str, np.ndarray], module: str | None = None) -> list[Any]:
    """All outputs."""
    return engine.make_session(engine.load_engine(module), model).run(None, feeds)


def unsupported(error: Exception) -> bool:
    """Does onnxruntime have no kernel for this type (or not allow it)?"""
    return bool(
        re.search(
            r"NOT_IMPLEMENTED|INVALID_GRAPH|Type Error|kernel|type is not supported", str(error)
        )
    )


TABLE = [
    Row(
        "Mod",
        lambda g, t: [sample(g, t, 3, 5), sample(g, t, 5) * 0 + np.array([3, 2, 4, 1, 5], t)],
        INTS,
    ),
    Row(
        "Mod",
        lambda g, t: [sample(g, t, 3, 5), sample(g, t, 5) + np.array(20, t)],
        NUMBERS,
        {"fmod": 1},
        label="fmod",
    ),
    Row("Trilu", lambda g, t: [sample(g, t, 2, 4, 5)], MOVED),
    Row(
        "Trilu",
        lambda g, t: [sample(g, t, 3, 6, 4), i64([-2]).reshape(())],
        MOVED,
        {"upper": 0},
        label="below",
    ),
    Row("Trilu", lambda g, t: [sample(g, t, 3, 4), i64([9]).reshape(())], MOVED, label="far"),
    Row("Tile", lambda g, t: [sample(g, t, 2, 3, 2), i64(2, 1, 3)], MOVED),
    Row("Tile", lambda g, t: [sample(g, t, 2, 3), i64(0, 2)], MOVED, label="none"),
    Row("CumSum", lambda g, t: [sample(g, t, 3, 4, 2), np.array(1, np.int32)], WIDE),
    Row(
        "CumSum",
        lambda g, t: [sample(g, t, 3, 4), np.array(-1, np.int64)],
        WIDE,
        {"exclusive": 1, "reverse": 1},
        label="exclusive",
    ),
    Row(
        "GatherElements",
        lambda g, t: [sample(g, t, 4, 5), g.integers(-5, 5, (4, 3))],
        MOVED,
        {"axis": 1},
    ),
    Row(
        "GatherElements",
        lambda g, t: [sample(g, t, 4, 5, 3), g.integers(-4, 4, (7, 2, 3)).astype(np.int32)],
        MOVED,
        label="outer",
    ),
    Row(
        "ScatterElements",
        lambda g, t: [
            sample(g, t, 4, 5),
            g.permuted(np.tile(i64(range(4)), (3, 1)), axis=1).T[:, :3] - 4,
            sample(g, t, 4, 3),
        ],
        MOVED,
    ),
    Row(
        "ScatterElements",
        lambda g, t: [sample(g, t, 3, 5), g.integers(0, 5, (3, 4)), sample(g, t, 3, 4)],
        NUMBERS,
        {"axis": 1, "reduction": "add"},
        label="add",
    ),
    Row(
        "ScatterElements",
        lambda g, t: [sample(g, t, 3, 5), g.integers(0, 5, (3, 4)), sample(g, t, 3, 4)],
        NUMBERS,
        {"axis": 1, "reduction": "max"},
        label="max",
    ),
    Row(
        "ScatterND",
        lambda g, t: [sample(g, t, 4, 5, 2), i64([[0, 1], [-1, 4], [2, -5]]), sample(g, t, 3, 2)],
        MOVED,
    ),
    Row(
        "ScatterND",
        lambda g, t: [sample(g, t, 6), i64([[1], [1], [3]]), sample(g, t, 3)],
        NUMBERS,
        {"reduction": "mul"},
        label="mul",
    ),
    Row(
        "ScatterND",
        lambda g, t: [sample(g, t, 6), i64([[1], [1], [3]]), sample(g, t, 3)],
        NUMBERS,
        {"reduction": "min"},
        label="min",
    ),
    Row(
        "GatherND",
        lambda g, t: [sample(g, t, 3, 4, 5), g.integers(-4, 4, (3, 2, 1))],
        MOVED,
        {"batch_dims": 1},
    ),
    Row("NonZero", lambda g, t: [sample(g, t, 3, 4, high=2)], NUMBERS + ["bool"]),
    Row(
        "Compress",
        lambda g, t: [sample(g, t, 3, 4), np.array([True, False, True])],
        MOVED,
        {"axis": -1},
    ),
    Row(
        "Compress",
        lambda g, t: [sample(g, t, 3, 4), np.array([True, False, True, True])],
        MOVED,
        label="flat",
    ),
    Row("TopK", lambda g, t: [sample(g, t, 3, 7, 2), i64([4])], NUMBERS, {"axis": 1}, 2),
    Row(
        "TopK", lambda g, t: [sample(g, t, 40), i64([40])], NUMBERS, {"largest": 0}, 2, label="all"
    ),
    Row(
        "OneHot",
        lambda g, t: [g.integers(-7, 7, (2, 3)), i64([5]).reshape(()), sample(g, t, 2)],
        MOVED,
        {"axis": 1},
    ),
    Row("EyeLike", lambda g, t: [sample(g, t, 4, 6)], [*NUMBERS, "bool"], {"k": -1}),
    Row(
        "BitShift",
        lambda g, t: [sample(g, t, 3, 4), sample(g, t, 4)],
        INTS[4:],
        {"direction": "LEFT"},
    ),
    Row("BitwiseAnd", lambda g, t: [sample(g, t, 3, 4), sample(g, t, 4)], INTS),
    Row("BitwiseXor", lambda g, t: [sample(g, t, 3, 1), sample(g, t, 4)], INTS),
    Row("BitwiseNot", lambda g, t: [sample(g, t, 3, 4)], INTS),
    Row("PRelu", lambda g, t: [sample(g, t, 2, 3, 4), sample(g, t, 3, 1)], WIDE),
    Row("Hardmax", lambda g, t: [sample(g, t, 2, 3, 4)], FLOATS, {"axis": 1}),
    Row("Hardmax", lambda g, t: [sample(g, t, 2, 3, 4)], FLOATS, {"axis": 1}, opset=11, label="11"),
    Row("ReverseSequence", lambda g, t: [sample(g, t, 4, 3, 2), i64(4, 1, 0)], MOVED),
    Row(
        "ReverseSequence",
        lambda g, t: [sample(g, t, 3, 4), i64(2, 4, 3)],
        MOVED,
        {"batch_axis": 0, "time_axis": 1},
        label="rows",
    ),
    Row("SpaceToDepth", lambda g, t: [sample(g, t, 1, 2, 4, 6)], MOVED, {"blocksize": 2}),
    Row("DepthToSpace", lambda g, t: [sample(g, t, 1, 8, 2, 3)], MOVED, {"blocksize": 2}),
    Row(
        "DepthToSpace",
        lambda g, t: [sample(g, t, 1, 8, 2, 3)],
        MOVED,
        {"blocksize": 2, "mode": "CRD"},
        label="crd",
    ),
    Row("CenterCropPad", lambda g, t: [sample(g, t, 5, 4), i64(3, 7)], MOVED),
    Row("Unique", lambda g, t: [sample(g, t, 3, 6)], MOVED, outputs=4),
    Row("Unique", lambda g, t: [sample(g, t, 3, 6)], MOVED, {"sorted": 0}, 4, label="unsorted"),
    Row("Unique", lambda g, t: [sample(g, t, 6, 2, high=2)], MOVED, {"axis": 0}, 4, label="axis"),
    Row(
        "Gather",
        lambda g, t: [sample(g, t, 3, 4, 5), g.integers(-4, 4, (2, 3))],
        [*NUMBERS, "bool"],
        {"axis": 1},
    ),
    Row("Gather", lambda g, t: [sample(g, t, 5), i64([-1]).reshape(())], MOVED, label="scalar"),
    Row(
        "Concat",
        lambda g, t: [sample(g, t, 2, 3), sample(g, t, 2, 0), sample(g, t, 2, 4)],
        MOVED,
        {"axis": -1},
    ),
    Row(
        "Slice",
        lambda g, t: [sample(g, t, 6, 7), i64(5, 1), i64(-7, 100), i64(0, 1), i64(-2, 3)],
        MOVED,
    ),
    Row("Slice", lambda g, t: [sample(g, t, 6, 7), i64([3]), i64([3])], MOVED, label="empty"),
    Row("Transpose", lambda g, t: [sample(g, t, 2, 3, 4)], MOVED, {"perm": [2, 0, 1]}),
    Row(
        "Where",
        lambda g, t: [g.integers(0, 2, (3, 1)).astype(bool), sample(g, t, 4), sample(g, t, 3, 4)],
        MOVED,
    ),
    Row("Expand", lambda g, t: [sample(g, t, 3, 1), i64(2, 1, 4)], MOVED),
    Row("Split", lambda g, t: [sample(g, t, 7, 2), i64(3, 0, 4)], MOVED, outputs=3),
    Row(
        "Split",
        lambda g, t: [sample(g, t, 2, 7)],
        MOVED,
        {"axis": 1, "num_outputs": 3},
        3,
        label="even",
    ),
    Row(
        "Pad",
        lambda g, t: [sample(g, t, 3, 4), i64(1, -1, 2, 3), sample(g, t, 1).reshape(())],
        MOVED,
    ),
    Row(
        "Pad",
        lambda g, t: [sample(g, t, 3, 4), i64(2, 0, 1, 3)],
        MOVED,
        {"mode": "reflect"},
        label="reflect",
    ),
    Row(
        "Pad",
        lambda g, t: [sample(g, t, 3, 4), i64([5, 4]), None, i64([-1])],
        MOVED,
        {"mode": "wrap"},
        label="wrap",
    ),
    Row(
        "Pad",
        lambda g, t: [sample(g, t, 3, 4), i64(1, 0, 0, 3)],
        MOVED,
        {"mode": "edge"},
        label="edge",
    ),
    Row("StringConcat", lambda g, t: [sample(g, t, 3, 1), sample(g, t, 4)], ["str"]),
    Row(
        "StringSplit",
        lambda g, t: [np.array([" a b  c ", "", "  ", "de"], object)],
        ["str"],
        {"maxsplit": 5},
        2,
    ),
    Row(
        "StringSplit",
        lambda g, t: [np.array(["a--b---c", "", "--", "de"], object)],
        ["str"],
        {"delimiter": "--", "maxsplit": 1},
        2,
        label="delimiter",
    ),
    Row(
        "Multinomial",
        lambda g, t: [np.full((2, 1), 1.5, t)],
        ["float32", "float64"],
        {"sample_size": 3},
    ),
]


@pytest.mark.parametrize(
    "row", TABLE, ids=[r.op + (f"-{r.label}" if r.label else "") for r in TABLE]
)
def test_every_type_as_onnxruntime(row: Row) -> None:
    """Equal outputs, types and shapes for each element type that onnxruntime has."""
    compared = 0
    for dtype in row.dtypes:
        arrays = row.make(np.random.default_rng(7), dtype)
        try:
            want = run(*build(row, arrays, False), "onnxruntime")
        except Exception as error:
            assert unsupported(error), f"{dtype}: {error}"
            want = None
        for static in (False, True):
            got = run(*build(row, arrays, static))
            problem = difference(got, want, 0, row.tolerance) if want is not None else None
            assert problem is None, f"{dtype}, static={static}: {problem}"
        compared += want is not None
    assert compared, "onnxruntime has no type of these"


def expect(op: str, arrays: Arrays, want: list[Any], opset: int = 26, **attributes: Any) -> None:
    """The node gives these outputs, with free and with static dims."""
    row = Row(op, lambda g, t: arrays, [], attributes, len(want), opset)
    for static in (False, True):
        problem = difference(run(*build(row, arrays, static)), want, 0, 0)
        assert problem is None, f"static={static}: {problem}"


STRINGS = np.array([["a", "b", "c"], ["d", "", "é"]], object)


def test_strings_are_gathered_along_an_inner_axis() -> None:
    """numpy's answer (onnxruntime 1.31.1 mixes rows up here)."""
    index = i64([[2, -3], [1, 1]])
    expect("Gather", [STRINGS, index], [np.take(STRINGS, index, 1)], axis=1)


def test_numpy_says_the_same() -> None:
    """Operators newer than onnxruntime, and corners of older ones."""
    x = np.arange(1, 7, dtype=np.float64).reshape(2, 3)
    expect("CumProd", [x, np.array(1)], [np.cumprod(x, 1)])
    reverse = np.cumprod(x[::-1], 0)[::-1]
    expect(
        "CumProd", [x, np.array(-2)], [np.array([reverse[1], [1, 1, 1]])], exclusive=1, reverse=1
    )
    expect("BitCast", [x.astype(np.float32)], [x.astype(np.float32).view(np.uint32)], to=12)
    empty = np.zeros((0, 3), np.float32)
    expect("Tile", [empty, i64(4, 2)], [np.zeros((0, 6), np.float32)])
    expect("CumSum", [empty, np.array(0)], [empty])
    expect("Trilu", [np.zeros((2, 0, 3), np.int8)], [np.zeros((2, 0, 3), np.int8)])
    expect("NonZero", [np.array(5.0)], [i64([[0]])])
    expect("NonZero", [empty], [np.zeros((2, 0), np.int64)])
    expect("Unique", [np.zeros(0, np.int32)], [np.zeros(0, np.int32)] + [i64([])] * 3)
    nan = np.array([np.nan, 1, np.nan, -0.0, 0.0], np.float32)
    expect(
        "Unique",
        [nan],
        [np.array([-0.0, 1, np.nan], np.float32), i64(3, 1, 0), i64(2, 1, 2, 0, 0), i64(2, 1, 2)],
    )
    cache, update = np.zeros((2, 4, 1), np.int16), np.ones((2, 2, 1), np.int16)
    want = np.array([[1, 0, 0, 1], [0, 1, 1, 0]], np.int16)[..., None]
    expect("TensorScatter", [cache, update, i64(3, 1)], [want], mode="circular")
    expect("Compress", [np.arange(4.0), np.array([False, True] * 4)], [np.array([1.0, 3.0])])
    upper = np.array(["ÉTÉ", "STRASSE", ""], object)
    text = np.array(["été", "STRASSE", "the", ""], object)
    expect("StringNormalizer", [text], [upper], case_change_action="UPPER", stopwords=["THE"])
    expect("StringNormalizer", [text[2:3]], [np.array([""], object)], stopwords=["the"])
    expect(
        "BitShift",
        [np.array([1, 255], np.uint8), np.array([8, 200], np.uint8)],
        [np.zeros(2, np.uint8)],
        direction="RIGHT",
    )
    lowest = i64([-(2**63)])
    expect("Slice", [np.arange(5.0), i64([4]), lowest, i64([0]), lowest], [np.array([4.0])])
    low = np.array([-128, 7], np.int8)
    expect("Mod", [low, np.array([-1, 0], np.int8)], [np.zeros(2, np.int8)])  # nothing traps


BAD = [
    ("Gather", [np.arange(3.0), i64([3])], {}, "out of data bounds, idx=3"),
    ("Gather", [STRINGS, i64(0, -4)], {"axis": 1}, "out of data bounds, idx=-4"),
    ("GatherElements", [np.arange(3.0), i64([-4])], {}, "idx=-4"),
    ("GatherElements", [np.ones((2, 2)), i64([0])], {}, "[Rr]ank"),
    ("GatherElements", [np.ones((2, 2)), np.zeros((3, 1), np.int64)], {"axis": 1}, "bounds"),
    ("GatherND", [np.ones((2, 2)), i64([[0, 2]])], {}, "index"),
    ("GatherND", [STRINGS, i64([[0, 0], [5, 0]])], {}, "index"),
    ("ScatterElements", [np.arange(3.0), i64([3]), np.ones(1)], {}, "idx=3"),
    ("ScatterElements", [np.arange(3.0), i64([0]), np.ones(2)], {}, "updates"),
    ("ScatterND", [np.arange(3.0), i64([[7]]), np.ones(1)], {}, "indice = 7"),
    ("ScatterND", [np.arange(3.0), i64([[1]]), np.ones(2)], {}, "updates"),
    ("TopK", [np.arange(3.0), i64([4])], {}, r"k argument \[4\]"),
    ("TopK", [np.arange(3.0), i64([-1])], {}, "negative"),
    ("Tile", [np.ones((2, 2)), i64([2])], {}, "repeat"),
    ("Tile", [np.ones(2), i64([-1])], {}, "negative"),
    ("CumSum", [np.ones(2), np.array(1)], {}, "axis"),
    ("Trilu", [np.ones(2)], {}, "rank"),
    ("OneHot", [i64(1), np.array(-2), np.ones(2)], {}, "[Dd]epth"),
    ("ReverseSequence", [np.ones((2, 2)), i64(3, 1)], {}, "sequence length"),
    ("Compress", [np.ones(2), np.array([True])], {"axis": 3}, "axis"),
    ("Concat", [np.ones((2, 2)), np.ones((3, 3))], {"axis": 0}, "Concat|differ|fit"),
    ("Slice", [np.ones(4), i64([0]), i64([4]), i64([0]), i64([0])], {}, "step"),
    ("Split", [np.ones(4), i64(3, 3)], {}, "split|sum"),
    ("Expand", [np.ones(4), i64([3])], {}, "expand"),
    ("Where", [np.array([True]), np.ones(3), np.ones(2)], {}, "broadcast|dimension"),
    ("Mod", [np.ones(2), np.ones(2)], {}, "fmod"),
    ("SpaceToDepth", [np.ones((1, 1, 3, 2))], {"blocksize": 2}, "multiple|block"),
    ("Transpose", [np.ones((2, 2))], {"perm": [0, 2]}, "perm"),
    ("Transpose", [np.ones((2, 2))], {"perm": [0]}, "perm"),
    ("BitCast", [np.ones(2)], {"to": 1}, "sizes"),
    ("StringNormalizer", [STRINGS], {}, "dimensions"),
]


@pytest.mark.parametrize(
    ("op", "arrays", "attributes", "text"), BAD, ids=[f"{b[0]}-{i}" for i, b in enumerate(BAD)]
)
def test_bad_operands_are_errors(
    op: str, arrays: Arrays, attributes: dict[str, Any], text: str
) -> None:
    """A status with the reason, when shapes are known early and when they are not."""
    outputs = 2 if op in ("TopK", "Split") else 1
    row = Row(op, lambda g, t: arrays, [], attributes, outputs, 26)
    for static in (False, True):
        with pytest.raises(Exception, match=text):
            run(*build(row, arrays, static))


RARE = [
    "complex64",
    "complex128",
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
    "int4",
    "uint4",
    "int2",
    "uint2",
]


@pytest.mark.parametrize("name", RARE)
def test_rare_types_are_moved(name: str) -> None:
    """Types that onnxruntime's kernels lack: every bit goes where numpy puts it."""
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    rng = np.random.default_rng(3)
    x = rng.integers(-2 if name == "int2" else 0, 2, (3, 5, 2)).astype(dtype)
    x[1] = np.array(1 if name == "int2" else 3, dtype)
    expect("Transpose", [x], [x.transpose(1, 2, 0)], 25, perm=[1, 2, 0])
    value = np.array(1, dtype)
    padded = np.pad(x, ((0, 1), (2, 0), (0, 1)), constant_values=value)
    expect("Pad", [x, i64(0, 2, 0, 1, 0, 1), value], [padded], 25)
    expect("Reshape", [x, i64(5, -1)], [x.reshape(5, 6)], 25)
    update = x[:, :2]
    if not name.startswith(("int2", "uint2")):
        want = x.copy()
        for b, at in enumerate((1, 3, 0)):
            want[b, at : at + 2] = update[b]
        expect("TensorScatter", [x, update, i64(1, 3, 0)], [want], 24)
    fill = numpy_helper.from_array(np.array([1], dtype), "value")
    if "complex" not in name:
        expect("ConstantOfShape", [i64(3, 3)], [np.ones((3, 3), dtype)], 25, value=fill)
    if "int" in name:
        return
    index = i64([[1, 4], [-5, 0]])
    expect("Gather", [x, index], [np.take(x, index, 1)], axis=1)
    expect("Concat", [x, x[:, :1]], [np.concatenate([x, x[:, :1]], 1)], axis=1)
    expect("Slice", [x, i64([4]), i64([0]), i64([1]), i64([-2])], [x[:, 4:0:-2]])
    expect("Slice", [x, i64([-99]), i64([-99]), i64([1]), i64([-1])], [x[:, :1]])  # as ORT clamps
    picked = np.where(np.array([True, False]), x, x[:1])
    expect("Where", [np.array([True, False]), x, x[:1]], [picked])
    expect("Expand", [x[:, :1], i64(3, 4, 2)], [np.broadcast_to(x[:, :1], (3, 4, 2))])
