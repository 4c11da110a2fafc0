"""Loop, Scan, SequenceMap, sequences and optionals inside bodies, against onnxruntime.

The bodies here carry state whose shape or kind changes, stop early, do not run at all, read values
of the enclosing graph and nest: what the shared inference of bodies (control_types) must survive.
Bodies whose shapes change run on concrete inference (exec/concrete). Also the edges of sequences
(sequence_split) and of ai.onnx.ml's tables (ml_category).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import difference
from onnx import TensorProto, helper, parser

import engine

pytestmark = pytest.mark.full


def session(text: str, module: str | None = None) -> Any:
    """A session of a model in ONNX's text form."""
    model = parser.parse_model(text)
    return engine.make_session(engine.load_engine(module), model.SerializeToString())


def same(text: str, *feeds: dict[str, Any]) -> list[Any]:
    """Runs every feed through one session of each engine; the last outputs."""
    ours, theirs = session(text), session(text, "onnxruntime")
    got: list[Any] = []
    for feed in feeds:
        got, want = ours.run(None, feed), theirs.run(None, feed)
        problem = difference(got, want, 1e-6, 1e-6)
        assert problem is None, problem
    return got


HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
F32 = np.float32


def ints(*values: int) -> np.ndarray:
    """An int64 vector."""
    return np.array(values, np.int64)


def test_state_that_grows() -> None:
    """The carried tensor is longer after each iteration; scan outputs keep their shape."""
    text = (
        HEAD
        + """
    g (int64 n, float[N] x) => (float[M] last, int64[T] lengths) {
      yes = Constant<value = bool {1}>()
      last, lengths = Loop(n, yes, x) <
        body = b (int64 i, bool c, float[K] s) => (bool d, float[L] t, int64 len) {
        d = Identity(c)
        t = Concat<axis = 0>(s, s)
        one = Shape(t)
        axes = Constant<value = int64[1] {0}>()
        len = Squeeze(one, axes)
      }>
    }"""
    )
    got = same(
        text,
        {"n": np.array(3), "x": np.arange(2, dtype=F32)},
        {"n": np.array(1), "x": np.arange(5, dtype=F32)},
        {"n": np.array(4), "x": np.arange(3, dtype=F32)},
    )
    assert got[0].shape == (48,) and got[1].tolist() == [6, 12, 24, 48]


def test_stop_by_condition_and_no_iteration() -> None:
    """M absent, condition from the body; then loops that never run."""
    text = (
        HEAD
        + """
    g (bool go, float[2] x, float limit) => (float[2] y, float[T, 2] all) {
      y, all = Loop("", go, x) <
        body = b (int64 i, bool c, float[2] s) => (bool d, float[2] t, float[2] o) {
        two = Constant<value = float {2.0}>()
        t = Mul(s, two)
        most = ReduceMax<keepdims = 0>(t)
        d = Less(most, limit)
        o = Identity(t)
      }>
    }"""
    )
    feed = {"go": np.array(True), "x": np.array([1, 3], F32), "limit": np.array(40, F32)}
    got = same(text, feed, {**feed, "go": np.array(False)}, feed)
    assert got[1].shape == (4, 2)


def test_captured_values_and_nesting() -> None:
    """An inner loop reads the outer state and a graph input."""
    text = (
        HEAD
        + """
    g (int64 n, float[A] x, float[A] w) => (float[A] y) {
      y = Loop(n, "", x) <body = outer (int64 i, bool c, float[A] s) => (bool d, float[A] t) {
        d = Identity(c)
        t = Loop(i, "", s) <body = inner (int64 j, bool e, float[A] u) => (bool f, float[A] v) {
          f = Identity(e)
          p = Add(u, w)
          v = Add(p, s)
        }>
      }>
    }"""
    )
    for size in (3, 1, 4):
        same(text, {"n": np.array(4), "x": np.ones(size, F32), "w": np.arange(size, dtype=F32)})


def test_sequence_as_state() -> None:
    """Tensors of different shapes are collected, then joined."""
    text = (
        HEAD
        + """
    g (int64 n, float[N] x) => (float[M] y, int64 k, float[L] second) {
      none = SequenceEmpty()
      all = Loop(n, "", none) <
        body = b (int64 i, bool c, seq(float[K]) s) => (bool d, seq(float[K]) t) {
        d = Identity(c)
        axes = Constant<value = int64[1] {0}>()
        begin = Constant<value = int64[1] {0}>()
        end = Unsqueeze(i, axes)
        part = Slice(x, begin, end)
        t = SequenceInsert(s, part)
      }>
      y = ConcatFromSequence<axis = 0>(all)
      k = SequenceLength(all)
      at = Constant<value = int64 {-2}>()
      second = SequenceAt(all, at)
    }"""
    )
    feed = {"n": np.array(4), "x": np.arange(3, dtype=F32)}
    assert same(text, feed, {**feed, "n": np.array(2)}, feed)[0].tolist() == [0, 0, 1, 0, 1, 2]


def test_scan_directions_and_axes() -> None:
    """Two scan inputs along different axes, one backwards; outputs stacked inside and reversed."""
    text = (
        HEAD
        + """
    g (float[2] s0, float[2, T] a, float[T, 2] b) => (float[2] s, float[2, T] p, float[T, 2] q) {
      s, p, q = Scan <num_scan_inputs = 2, scan_input_axes = [1, 0], scan_input_directions = [0, 1],
                      scan_output_axes = [1, 0], scan_output_directions = [0, 1],
        body = f (float[2] x, float[2] u, float[2] v) => (float[2] y, float[2] w, float[2] z) {
          y = Add(x, u)
          w = Mul(y, v)
          z = Sub(u, v)
        }> (s0, a, b)
    }"""
    )
    g = np.random.default_rng(0)
    for t in (4, 1, 6):
        a, b = g.standard_normal((2, t)).astype(F32), g.standard_normal((t, 2)).astype(F32)
        same(text, {"s0": np.ones(2, F32), "a": a, "b": b})


@pytest.mark.parametrize("with_lengths", [False, True])
def test_scan_of_opset_8(with_lengths: bool) -> None:
    """Batches, each entry up to a length of its own, padded with zeros."""
    lens = "lens" if with_lengths else '""'
    text = f"""<ir_version: 3, opset_import: ["" : 8]>
    g (int64[B] lens, float[B, 2] s0, float[B, T, 2] x) => 
        (float[B, 2] s, float[B, T, 2] y) {{
      s, y = Scan <num_scan_inputs = 1, 
          body = f (float[2] a, float[2] u) => (float[2] b, float[2] z) {{
          b = Add(a, u)
          z = Identity(b)
        }}> ({lens}, s0, x)
    }}"""
    x = np.arange(24, dtype=F32).reshape(3, 4, 2)
    got = same(text, {"lens": ints(2, 4, 1), "s0": np.zeros((3, 2), F32), "x": x})
    assert (got[1][0, 2:] == 0).all() == with_lengths


def test_if_of_sequences_and_optionals() -> None:
    """Branches that give sequences; an optional that is empty in one of them."""
    text = (
        HEAD
        + """
    g (bool c, float[N] x) => (int64 k, bool has) {
      s = If(c) <then_branch = t () => (seq(float[N]) a) { a = SequenceConstruct(x, x) },
                 else_branch = e () => (seq(float[N]) b) { b = SequenceConstruct(x) }>
      k = SequenceLength(s)
      o = Optional(s)
      has = OptionalHasElement(o)
    }"""
    )
    feed = {"x": np.ones(3, F32)}
    got = same(text, {"c": np.array(True), **feed}, {"c": np.array(False), **feed})
    assert got[0] == 1 and bool(got[1])


def test_split_to_sequence_forms() -> None:
    """Sizes as a scalar, as a vector, and none at all."""
    for split, rest in (("p", "3"), ("q", "[2, 0, 5]"), ('""', "")):
        attributes = " <keepdims = 0>" if not rest else " <axis = 0>"
        text = (
            HEAD
            + f"""
        g (float[N, 2] x, int64 p, int64[K] q) => (seq(float[M, 2]) s) {{
          s = SplitToSequence{attributes} (x, {split})
        }}"""
        )
        x = np.arange(14, dtype=F32).reshape(7, 2)
        same(text, {"x": x, "p": np.array(3), "q": ints(2, 0, 5)})


def test_sequences_are_edited() -> None:
    """Insert, erase and stack at negative positions; the first sequence stays as it was."""
    text = (
        HEAD
        + """
    g (float[2] x, float[2] y) => (float[A, 2] one, float[B, 2] two, seq(float[2]) three) {
      a = SequenceConstruct(x, y, x)
      at = Constant<value = int64 {-1}>()
      b = SequenceInsert(a, y, at)
      three = SequenceErase(b)
      one = ConcatFromSequence<axis = 0, new_axis = 1>(a)
      two = ConcatFromSequence<axis = -2, new_axis = 1>(b)
    }"""
    )
    same(text, {"x": np.zeros(2, F32), "y": np.ones(2, F32)})


def test_outputs_do_not_alias_sequences_that_were_fed() -> None:
    """A tensor taken from a sequence of the caller is a copy once it is an output."""
    text = (
        HEAD
        + """
    g (seq(float[N]) s) => (float[N] y) {
      at = Constant<value = int64 {0}>()
      y = SequenceAt(s, at)
    }"""
    )
    mine = np.ones(4, F32)
    y = session(text).run(None, {"s": [mine, mine]})[0]
    y[:] = 7
    assert (mine == 1).all()


def at(value: int) -> str:
    """A node that makes a position."""
    return f"at = Constant<value = int64 {{{value}}}>()\n"


BAD = [
    (at(2) + "z = SequenceAt(s, at)", "sequence index"),
    (at(-3) + "t = SequenceErase(s, at)\n z = SequenceLength(t)", "index"),
    (at(1) + "t = SequenceInsert(s, at)\n z = SequenceLength(t)", "type"),
    ("e = SequenceEmpty()\n z = ConcatFromSequence<axis = 0>(e)", "1 or more"),
    ("z = ConcatFromSequence<axis = 3>(s)", "axis"),
    ("o = Optional<type = float[2]>()\n z = OptionalGetElement(o)", "no data"),
]


@pytest.mark.parametrize(("body", "text"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_positions_are_errors(body: str, text: str) -> None:
    """A status with the reason; the session can be used again."""
    model = parser.parse_model(
        HEAD + f"g (float[2] x) => () {{\n s = SequenceConstruct(x, x)\n {body}\n }}"
    )
    model.graph.output.append(helper.make_empty_tensor_value_info("z"))
    with pytest.raises(Exception, match=text):
        engine.make_session(engine.load_engine(), model.SerializeToString()).run(
            None, {"x": np.zeros(2, F32)}
        )


def test_optionals_are_not_tensors() -> None:
    """An operator on tensors refuses an optional or a sequence when the model is loaded."""
    for maker in ("Optional(x)", "SequenceConstruct(x)", "Optional<type = float[2]>()"):
        text = HEAD + f"g (float[2] x) => (float[2] y) {{ o = {maker}\n y = Add(o, x) }}"
        with pytest.raises(Exception, match="Type Error"):
            session(text)


def test_dict_vectorizer() -> None:
    """A map becomes a row in the order of the vocabulary; keys that it lacks are left out."""
    node = helper.make_node(
        "DictVectorizer", ["x"], ["y"], domain="ai.onnx.ml", string_vocabulary=["a", "b", "c"]
    )
    kind = helper.make_map_type_proto(
        TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    )
    x = helper.make_value_info("x", kind)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])
    opsets = [helper.make_opsetid("ai.onnx.ml", 1), helper.make_opsetid("", 17)]
    graph = helper.make_graph([node], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    feed = {"x": {"c": 3.0, "a": 1.0, "z": 9.0}}
    got, want = (
        engine.make_session(engine.load_engine(m), model).run(None, feed)
        for m in (None, "onnxruntime")
    )
    assert difference(got, want, 0, 0) is None


def test_label_encoder_types() -> None:
    """ai.onnx.ml LabelEncoder (ml_label_encoder) between numbers and strings, NaN included."""
    nan = float("nan")
    table = [
        ([1.5, nan, -0.0], "keys_floats", [4, 5, 6], "values_int64s", np.array([nan, 0.0, 9], F32)),
        (["a", "é"], "keys_strings", [1.0, 2.5], "values_floats", np.array(["é", "x"], object)),
        ([7, -1], "keys_int64s", ["s", ""], "values_strings", np.array([[-1], [7], [0]])),
    ]
    for keys, key_name, values, value_name, x in table:
        attributes: dict[str, Any] = {key_name: keys, value_name: values}
        node = helper.make_node("LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", **attributes)
        kind = TensorProto.STRING if x.dtype == object else helper.np_dtype_to_tensor_dtype(x.dtype)
        inputs = [helper.make_tensor_value_info("x", kind, [None] * x.ndim)]
        outputs = [helper.make_empty_tensor_value_info("y")]
        graph = helper.make_graph([node], "g", inputs, outputs)
        opsets = [helper.make_opsetid("ai.onnx.ml", 4), helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
        got, want = (
            engine.make_session(engine.load_engine(m), model).run(None, {"x": x})
            for m in (None, "onnxruntime")
        )
        assert difference(got, want, 0, 0) is None


def test_array_feature_extractor() -> None:
    """Columns of a matrix and of a vector (ml_features), and an index that is too large."""
    opsets = '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>\n'
    for shape, x in (
        ("N, 3", np.arange(6, dtype=F32).reshape(2, 3)),
        ("N", np.arange(3.0, dtype=F32)),
    ):
        text = (
            opsets
            + f"""g (float[{shape}] x, int64[K] i) => (float[A, B] y) {{
          y = ai.onnx.ml.ArrayFeatureExtractor(x, i) }}"""
        )
        same(text, {"x": x, "i": ints(2, 0, 2)})
        with pytest.raises(Exception, match="out of range"):
            session(text).run(None, {"x": x, "i": ints(3)})
