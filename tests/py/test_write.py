"""optimized_model_filepath: what is written loads in MacaRT (full tier: in onnxruntime) and says
the same; names, documentation and metadata stay; the same model gives the same bytes. (csrc/save:
onnx_save, onnx_build, onnx_build_value, onnx_splice over base/writer.)"""

from __future__ import annotations

from pathlib import Path

import macart as ort
import numpy as np
import onnx
import pytest
import real_models
from onnx import TensorProto, helper, numpy_helper
from test_functions import CASES as FUNCTIONS
from test_load import three_uses

EXTERNAL = "session.optimized_model_external_initializers_file_name"
MIN_SIZE = "session.optimized_model_external_initializers_min_size_in_bytes"
F32 = TensorProto.FLOAT
node = helper.make_node


def write(
    m: onnx.ModelProto | Path, path: Path, level: int = 99, **config: str
) -> ort.InferenceSession:
    """A session that writes its model to `path`."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel(level)
    options.optimized_model_filepath = str(path)
    for key, text in config.items():
        options.add_session_config_entry({"external": EXTERNAL, "min_size": MIN_SIZE}[key], text)
    return ort.InferenceSession(m if isinstance(m, Path) else m.SerializeToString(), options)


def info(name: str, dims: list, kind: int = F32) -> onnx.ValueInfoProto:
    """A declared value."""
    return helper.make_tensor_value_info(name, kind, dims)


def rich() -> onnx.ModelProto:
    """Documentation, metadata, every kind of attribute and constant, a subgraph with captures."""
    strings = helper.make_tensor("words", TensorProto.STRING, [2], [b"a\0b", "\u00e9".encode()])
    then = helper.make_graph([node("Add", ["x", "w"], ["same"])], "then", [], [info("same", None)])
    other = helper.make_graph([node("Mul", ["x", "k"], ["same"])], "else", [], [info("same", None)],
                              [numpy_helper.from_array(np.float32(3), "k")])  # fmt: skip
    nodes = [
        node("If", ["c"], ["r"], name="choose", doc_string="picks one", then_branch=then,
             else_branch=other),
        node("Pad", ["r", "pads"], ["p"], mode="reflect", name="pad"),
        node("Concat", ["p", "same"], ["y"], axis=0),
        node("Neg", ["w"], ["same"]),
        node("Identity", ["words"], ["t"]),
    ]  # fmt: skip
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    graph = helper.make_graph(
        nodes, "rich graph",
        [info("c", [], TensorProto.BOOL), info("x", ["n", 3]), info("w", [2, 3])],
        [info("y", ["m", 3]), info("t", [2], TensorProto.STRING)],
        [strings, numpy_helper.from_array(weight, "w"),
         numpy_helper.from_array(np.array([1, 0, 1, 0]), "pads")],
        doc_string="of the graph")  # fmt: skip
    graph.input[1].doc_string = "rows"
    for k, part in enumerate([graph, *graph.node]):
        part.metadata_props.add(key="origin", value=f"part {k}")
        part.metadata_props.add(key="empty", value="")
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    m.producer_name, m.producer_version, m.domain, m.doc_string = (
        "me",
        "1.2",
        "org.x",
        "of the model",
    )
    m.model_version = 5
    helper.set_model_props(m, {"b": "2", "a": "1"})
    return m


def rich_feeds() -> list[dict[str, np.ndarray]]:
    """Both branches."""
    x = np.random.default_rng(3).standard_normal((2, 3)).astype(np.float32)
    return [{"c": np.array(c), "x": x} for c in (True, False)]


def props(part: onnx.GraphProto | onnx.NodeProto) -> dict[str, str]:
    """metadata_props of a graph or a node."""
    return {p.key: p.value for p in part.metadata_props}


@pytest.mark.quick
@pytest.mark.parametrize("level", [0, 1, 99])
def test_everything_stays(tmp_path: Path, level: int) -> None:
    """What the file says besides the numbers."""
    m = rich()
    session = write(m, tmp_path / "o.onnx", level)
    saved = onnx.load(tmp_path / "o.onnx")
    onnx.checker.check_model(saved, full_check=True)
    for field in ("producer_name", "producer_version", "domain", "doc_string", "model_version"):
        assert getattr(saved, field) == getattr(m, field)
    assert [(p.key, p.value) for p in saved.metadata_props] == [("b", "2"), ("a", "1")]
    assert (saved.graph.name, saved.graph.doc_string) == ("rich graph", "of the graph")
    assert [i.name for i in saved.graph.input] == ["c", "x", "w"]
    assert saved.graph.input[1].doc_string == "rows"
    assert props(saved.graph) == props(m.graph) == {"origin": "part 0", "empty": ""}
    written = {n.name: props(n) for n in m.graph.node if n.name}
    assert all(props(n) == written[n.name] for n in saved.graph.node if n.name)
    assert props(next(n for n in saved.graph.node if n.op_type == "If"))["empty"] == ""
    assert saved.graph.input[1].type.tensor_type.shape.dim[0].dim_param == "n"
    assert [o.name for o in saved.graph.output] == ["y", "t"]
    chosen = next(n for n in saved.graph.node if n.op_type == "If")
    assert (chosen.name, chosen.doc_string) == ("choose", "picks one")
    again = ort.InferenceSession(tmp_path / "o.onnx")
    assert [i.name for i in again.get_overridable_initializers()] == ["w"]
    assert again.get_modelmeta().custom_metadata_map == {"a": "1", "b": "2"}
    for feeds in rich_feeds():
        for extra in ({}, {"w": np.ones((2, 3), np.float32)}):
            a = session.run(None, {**feeds, **extra})
            b = again.run(None, {**feeds, **extra})
            np.testing.assert_array_equal(a[0], b[0])
            assert a[1].tolist() == b[1].tolist() == ["a\0b", "\u00e9"]


@pytest.mark.quick
def test_same_bytes(tmp_path: Path) -> None:
    """Twice the same model; and the written model, written again."""
    write(rich(), tmp_path / "a.onnx")
    write(rich(), tmp_path / "b.onnx")
    write(tmp_path / "a.onnx", tmp_path / "c.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "c.onnx").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "b.onnx", "c.onnx"]


@pytest.mark.quick
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_gone(tmp_path: Path, name: str) -> None:
    """Inlined bodies stand in the file, under names of their own."""
    m = FUNCTIONS[name]
    session = write(m, tmp_path / "o.onnx", 0)
    saved = onnx.load(tmp_path / "o.onnx")
    onnx.checker.check_model(saved, full_check=True)
    assert not saved.functions
    feeds = {i.name: np.ones((3, 4), np.float32) for i in m.graph.input}
    again = ort.InferenceSession(tmp_path / "o.onnx")
    for a, b in zip(session.run(None, feeds), again.run(None, feeds), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.quick
def test_external_initializers(tmp_path: Path) -> None:
    """Large ones in a file beside the model; both move together."""
    m, feeds, expected = three_uses()
    m.graph.initializer.append(numpy_helper.from_array(np.ones(64, np.float32), "small"))
    m.graph.node.append(node("Add", ["y", "small"], ["z"]))
    m.graph.output[0].name = "z"
    (tmp_path / "one").mkdir()
    session = write(m, tmp_path / "one" / "o.onnx", external="o.bin", min_size="300")
    (tmp_path / "one").rename(tmp_path / "two")
    saved = onnx.load(tmp_path / "two" / "o.onnx", load_external_data=False)
    where = {t.name: {e.key: e.value for e in t.external_data} for t in saved.graph.initializer}
    assert not where["small"] and where["table"]["location"] == "o.bin"
    assert all(int(e["offset"]) % 64 == 0 for e in where.values() if e)
    onnx.checker.check_model(str(tmp_path / "two" / "o.onnx"), full_check=True)
    again = ort.InferenceSession(tmp_path / "two" / "o.onnx")
    a, b = session.run(None, feeds)[0], again.run(None, feeds)[0]
    np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(b, expected + 1, rtol=1e-4, atol=1e-4)


@pytest.mark.quick
def test_private_forms(tmp_path: Path) -> None:
    """Softmax before 13 flattened; Resize-10 had a rounding of its own."""
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "s")
    nodes = [node("Softmax", ["x"], ["a"], axis=2), node("LogSoftmax", ["x"], ["b"]),
             node("Add", ["a", "b"], ["c"]), node("Resize", ["c", "s"], ["y"])]  # fmt: skip
    graph = helper.make_graph(nodes, "g", [info("x", [1, 2, "h", 3])], [info("y", None)], [scales])
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=5)
    session = write(m, tmp_path / "o.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "o.onnx"), full_check=True)
    x = np.random.default_rng(3).standard_normal((1, 2, 5, 3)).astype(np.float32)

    def soft(v: np.ndarray, axes: tuple) -> np.ndarray:
        e = np.exp(v)
        return e / e.sum(axes, keepdims=True)

    d = x.astype(np.float64)
    expected = (soft(d, (2, 3)) + np.log(soft(d, (1, 2, 3)))).repeat(2, 2).repeat(2, 3)
    for s in (session, ort.InferenceSession(tmp_path / "o.onnx")):
        np.testing.assert_allclose(s.run(None, {"x": x})[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("path", "config", "error"),
    [
        ("none/o.onnx", {}, "No such file"),
        ("o.ort", {}, "ORT format"),
        ("o.onnx", {"external": "../w.bin"}, "not a name"),
        ("o.onnx", {"external": "/w.bin"}, "not a name"),
        ("o.onnx", {"external": "w.bin", "min_size": "big"}, "not a number"),
    ],
)
def test_refused(tmp_path: Path, path: str, config: dict, error: str) -> None:
    """No file is left behind."""
    with pytest.raises(Exception, match=error) as caught:
        write(rich(), tmp_path / path, **config)
    assert type(caught.value).__module__.startswith("macart")
    assert not list(tmp_path.iterdir())


REAL = [c.name for c in real_models.CASES]


@pytest.mark.full
@pytest.mark.parametrize("level", [1, 99])
@pytest.mark.parametrize("name", REAL)
def test_real_model(tmp_path: Path, name: str, level: int) -> None:
    """The written file in onnxruntime and in MacaRT against the original in MacaRT."""
    import onnxruntime

    case = real_models.find(name)
    session = write(Path(case.path()), tmp_path / "o.onnx", level)
    ours = ort.InferenceSession(tmp_path / "o.onnx")
    theirs = onnxruntime.InferenceSession(tmp_path / "o.onnx", providers=["CPUExecutionProvider"])
    last: list[np.ndarray] = []
    for run in range(min(case.runs, 2)):
        feeds = case.feeds(run, last)
        last = session.run(None, feeds)
        for other in (ours, theirs):
            for a, b in zip(other.run(None, feeds), last, strict=True):
                scale = np.abs(b.astype(np.float64)).max(initial=1e-30)
                difference = np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0)
                assert difference <= case.bound * scale


QUICK = [c.name for c in real_models.CASES if c.quick]


@pytest.mark.quick
@pytest.mark.parametrize("name", QUICK)
def test_decompositions(name: str) -> None:
    """Fused operators, taken apart again, give what they gave together."""
    case = real_models.find(name)
    options = ort.SessionOptions()
    options.add_session_config_entry("session.macart.decompose", "1")
    fused, apart = ort.InferenceSession(case.path()), ort.InferenceSession(case.path(), options)
    last: list[np.ndarray] = []
    for run in range(2):
        feeds = case.feeds(run, last)
        last = fused.run(None, feeds)
        for a, b in zip(apart.run(None, feeds), last, strict=True):
            scale = np.abs(b.astype(np.float64)).max(initial=1e-30)
            difference = np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0)
            assert difference <= case.bound * scale
