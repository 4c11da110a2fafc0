"""Model-local functions (ir/clone, pass/inline): inlined wherever they are called, against the onnx
package's evaluator."""

from __future__ import annotations

import macart as ort
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

pytestmark = pytest.mark.quick

HERE, F32 = "here", TensorProto.FLOAT
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid(HERE, 1)]
node = helper.make_node


def ref(op: str, ins: list, outs: list, attribute: str, source: str, kind: int) -> onnx.NodeProto:
    """A node with an attribute that refers to the function's."""
    n = node(op, ins, outs)
    n.attribute.add(name=attribute, ref_attr_name=source, type=kind)
    return n


def function(name: str, ins: list, outs: list, nodes: list, **more: object) -> onnx.FunctionProto:
    """A function of the domain `here`."""
    opsets = more.pop("opsets", OPSETS)
    return helper.make_function(HERE, name, ins, outs, nodes, opsets, **more)


def model(
    nodes: list, functions: list, inputs: tuple = ("x",), outputs: tuple = ("y",)
) -> onnx.ModelProto:
    """Every value is a float matrix."""

    def info(n: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(n, F32, ["a", "b"])

    graph = helper.make_graph(nodes, "g", [info(n) for n in inputs], [info(n) for n in outputs])
    return helper.make_model(graph, opset_imports=OPSETS, functions=functions, ir_version=9)


def affine(**more: object) -> onnx.FunctionProto:
    """x * alpha + 1, alpha from an attribute."""
    return function(
        "Affine", ["x"], ["y"],
        [ref("Constant", [], ["a"], "value_float", "alpha", onnx.AttributeProto.FLOAT),
         node("Mul", ["x", "a"], ["m"]),
         node("Constant", [], ["one"], value_float=1.0),
         node("Add", ["m", "one"], ["y"])],
        **(more or {"attributes": ["alpha"]}),
    )  # fmt: skip


def branch(name: str, op: str, ins: list) -> onnx.GraphProto:
    """A branch of an If with one node and captures."""
    out = helper.make_tensor_value_info(f"{name}_out", F32, None)
    return helper.make_graph([node(op, ins, [f"{name}_out"], domain=HERE if op == "Twice" else "")],
                             name, [], [out])  # fmt: skip


TWICE = function("Twice", ["x"], ["y"], [node("Add", ["x", "x"], ["y"])])
NESTED = function(
    "Nested", ["x", "c"], ["y"],
    [node("Affine", ["x"], ["t"], name="inner", alpha=3.0, domain=HERE),
     node("ReduceSum", ["c"], ["s"], keepdims=0),
     node("Constant", [], ["zero"], value_float=0.0),
     node("Greater", ["s", "zero"], ["cond"]),
     node("If", ["cond"], ["y"], then_branch=branch("t", "Twice", ["t"]),
          else_branch=branch("e", "Neg", ["t"]))],
)  # fmt: skip
OPTIONAL = function(
    "Limit", ["x", "low", "high"], ["y"], [node("Clip", ["x", "low", "high"], ["y"])]
)
SWAP = function("Swap", ["p", "q"], ["a", "b", "c"], [node("Neg", ["p"], ["c"])])
SWAP.output[:] = ["q", "p", "c"]
OLD = function("Old", ["x"], ["y"], [node("Softmax", ["x"], ["y"], axis=0)],
               opsets=[helper.make_opsetid("", 11)])  # fmt: skip
DEFAULTED = affine(attribute_protos=[helper.make_attribute("alpha", 2.5)])

CASES = {
    "attribute": model([node("Affine", ["x"], ["y"], domain=HERE, alpha=-2.0)], [affine()]),
    "default": model([node("Affine", ["x"], ["y"], domain=HERE)], [DEFAULTED]),
    "default overridden": model(
        [node("Affine", ["x"], ["y"], domain=HERE, alpha=4.0)], [DEFAULTED]),
    "called twice": model(
        [node("Affine", ["x"], ["m"], domain=HERE, alpha=-2.0, name="one"),
         node("Affine", ["m"], ["y"], domain=HERE, alpha=5.0, name="two")], [affine()]),
    "names of the caller": model(
        [node("Neg", ["x"], ["m"]), node("Twice", ["m"], ["one"], domain=HERE),
         node("Affine", ["one"], ["t"], domain=HERE, alpha=5.0),
         node("Add", ["t", "m"], ["y"])], [TWICE, affine()]),
    "nested, with subgraphs": model(
        [node("Nested", ["x", "z"], ["y"], domain=HERE)], [TWICE, affine(), NESTED], ("x", "z")),
    "absent inputs": model(
        [node("Constant", [], ["h"], value_float=0.5),
         node("Limit", ["x", "", "h"], ["m"], domain=HERE),
         node("Limit", ["m"], ["y"], domain=HERE)], [OPTIONAL]),
    "outputs that are inputs": model(
        [node("Swap", ["x", "z"], ["u", "", "v"], domain=HERE),
         node("Swap", ["u", "v"], ["y", "w", "n"], domain=HERE)],
        [SWAP], ("x", "z"), ("y", "w", "n")),
    "older opset inside": model([node("Old", ["x"], ["y"], domain=HERE)], [OLD]),
}  # fmt: skip


# What the evaluator does not do.
DEFINED = {
    "default": lambda x: x * 2.5 + 1,
    "absent inputs": lambda x: np.minimum(x, 0.5),
    "older opset inside": lambda x: np.exp(x) / np.exp(x).sum(),  # axis 0 once meant flattened
}


@pytest.mark.parametrize("level", [0, 99])
@pytest.mark.parametrize("name", CASES)
def test_function(name: str, level: int) -> None:
    """Same results as the evaluator of the onnx package, or as the definition."""
    m = CASES[name]
    rng = np.random.default_rng(7)
    feeds = {i.name: rng.standard_normal((3, 4)).astype(np.float32) for i in m.graph.input}
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel(level)
    for sign in (1, -1):
        feeds = {n: sign * np.abs(v) if n == "z" else v for n, v in feeds.items()}
        ours = ort.InferenceSession(m.SerializeToString(), options).run(None, feeds)
        if name in DEFINED:
            theirs = [DEFINED[name](feeds["x"].astype(np.float64))]
        else:
            theirs = ReferenceEvaluator(m).run(None, feeds)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def doubling(levels: int) -> list[onnx.FunctionProto]:
    """Each calls the one below twice."""
    made = [function("F0", ["x"], ["y"], [node("Neg", ["x"], ["y"])])]
    for i in range(1, levels):
        made.append(function(f"F{i}", ["x"], ["y"], [
            node(f"F{i - 1}", ["x"], ["m"], domain=HERE),
            node(f"F{i - 1}", ["m"], ["y"], domain=HERE)]))  # fmt: skip
    return made


def chain(levels: int) -> list[onnx.FunctionProto]:
    """Each calls the one below."""
    made = [function("F0", ["x"], ["y"], [node("Neg", ["x"], ["y"])])]
    return made + [function(f"F{i}", ["x"], ["y"], [node(f"F{i - 1}", ["x"], ["y"], domain=HERE)])
                   for i in range(1, levels)]  # fmt: skip


def call(name: str, **more: object) -> list[onnx.NodeProto]:
    """One call."""
    return [node(name, ["x"], ["y"], name="caller", domain=HERE, **more)]


SELF = function("F", ["x"], ["y"], [node("F", ["x"], ["y"], domain=HERE)])
PAIR = [function("F", ["x"], ["y"], [node("G", ["x"], ["y"], domain=HERE)]),
        function("G", ["x"], ["y"], [node("F", ["x"], ["y"], domain=HERE)])]  # fmt: skip
HIDDEN = function("F", ["x"], ["y"], [node("Constant", [], ["c"], value_float=1.0),
                                      node("Cast", ["c"], ["b"], to=TensorProto.BOOL),
                                      node("If", ["b"], ["y"],
                                           then_branch=branch("t", "Neg", ["x"]),
                                           else_branch=branch("e", "Neg", ["x"]))])  # fmt: skip
HIDDEN.node[2].attribute[0].g.node[0].op_type = "F"
HIDDEN.node[2].attribute[0].g.node[0].domain = HERE
BAD = {
    "itself": (call("F"), [SELF], "recursion"),
    "each other": (call("F"), PAIR, "recursion"),
    "itself in a branch": (call("F"), [HIDDEN], "recursion"),
    "2^40 nodes": (call("F40"), doubling(41), "expand to more than"),
    "deep": (call("F300"), chain(301), "deeper than"),
    "twice defined": (call("F"), [SELF, SELF], "twice"),
    "too many inputs": ([node("Twice", ["x", "x"], ["y"], domain=HERE)], [TWICE], "2 inputs"),
    "undefined output": (call("F"), [function("F", ["x"], ["nothing"], [])], "nothing"),
    "undefined value": (
        call("F"),
        [function("F", ["x"], ["y"], [node("Neg", ["no"], ["y"])])],
        "no",
    ),
    "wrong kind": (call("Affine", alpha=3), [affine()], "alpha"),
    "unknown operator": (
        call("F"),
        [function("F", ["x"], ["y"], [node("Nope", ["x"], ["y"])])],
        "Nope",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_function(name: str) -> None:
    """An exception of ours that says what is wrong; nothing overflows."""
    nodes, functions, text = BAD[name]
    with pytest.raises((ort.InvalidGraph, ort.Fail, ort.InvalidArgument), match=text):
        ort.InferenceSession(model(nodes, functions).SerializeToString())


def test_long_chain_of_functions() -> None:
    """As deep as the limit allows."""
    m = model(call("F99"), chain(100))
    x = np.ones((2, 2), np.float32)
    np.testing.assert_array_equal(
        ort.InferenceSession(m.SerializeToString()).run(None, {"x": x})[0], -x
    )
