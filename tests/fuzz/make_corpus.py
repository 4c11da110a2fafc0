"""Makes tests/fuzz/corpus/seed_*.onnx: tiny models, each for one feature of loading, optimizing,
planning or running. The fuzzer starts from them, the quick tests replay them, test_oom.c runs each
under every failing allocation.

    python tests/fuzz/make_corpus.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
T = TensorProto
node = helper.make_node
Models = dict[str, onnx.ModelProto]


def info(spec: str) -> onnx.ValueInfoProto:
    """ "x:2,n" is a float matrix, "i:int64:3" another, "s::" a scalar, "u" of unknown type."""
    name, *rest = spec.split(":")
    if not rest:
        return helper.make_empty_tensor_value_info(name)
    kind = rest[0].upper() if len(rest) > 1 else "FLOAT"
    dims = [int(d) if d.lstrip("-").isdigit() else d for d in rest[-1].split(",") if d]
    return helper.make_tensor_value_info(name, getattr(T, kind or "FLOAT"), dims)


def const(name: str, values: object, dtype: str = "float32") -> onnx.TensorProto:
    """An initializer."""
    return numpy_helper.from_array(np.array(values, dtype), name)


def graph(nodes: list, ins: str, outs: str, weights: tuple = (), **more: object) -> onnx.GraphProto:
    """Inputs and outputs are lists of specs."""
    return helper.make_graph(
        nodes,
        "g",
        [info(s) for s in ins.split()],
        [info(s) for s in outs.split()],
        list(weights),
        **more,
    )


def model(g: onnx.GraphProto, opset: int = 21, **more: object) -> onnx.ModelProto:
    """With the domains that the seeds use."""
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    more.setdefault("ir_version", 10)
    return helper.make_model(g, opset_imports=opsets, producer_name="", **more)


def ramp(*dims: int) -> np.ndarray:
    """Small numbers of both signs."""
    n = int(np.prod(dims))
    return ((np.arange(n) * 7 % 11 - 5) / 8).reshape(dims).astype(np.float32)


def networks() -> Models:
    """What exporters write, cut down."""
    mlp = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Add", ["h", "b"], ["hb"]),
        node("Relu", ["hb"], ["r"]),
        node("Gemm", ["r", "v", "c"], ["g"], transB=1),
        node("Softmax", ["g"], ["y"]),
    ]
    conv = [
        node("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["h", "s", "t", "m", "v"], ["n"]),
        node("Relu", ["n"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["p"], ["q"]),
        node("Flatten", ["q"], ["y"]),
    ]
    block = [
        node("LayerNormalization", ["x", "s", "t"], ["n"]),
        node("MatMul", ["n", "w"], ["q"]),
        node("Transpose", ["n"], ["k"], perm=[0, 2, 1]),
        node("MatMul", ["q", "k"], ["a"]),
        node("Softmax", ["a"], ["p"]),
        node("MatMul", ["p", "n"], ["o"]),
        node("Add", ["o", "x"], ["e"]),
        node("Erf", ["e"], ["f"]),
        node("Mul", ["e", "f"], ["y"]),
    ]
    shapes = [
        node("Shape", ["x"], ["d"]),
        node("Gather", ["d", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axes"], ["u"]),
        node("Concat", ["u", "minus"], ["to"], axis=0),
        node("Reshape", ["x", "to"], ["f"]),
        node("Slice", ["f", "axes", "two"], ["y"]),
    ]
    v = [const(n, ramp(8)) for n in "st"] + [const(n, np.abs(ramp(8)) + 1) for n in "mv"]
    return {
        "mlp": model(
            graph(
                mlp,
                "x:n,4",
                "y:n,3",
                (
                    const("w", ramp(4, 5)),
                    const("b", ramp(5)),
                    const("v", ramp(3, 5)),
                    const("c", ramp(3)),
                ),
            )
        ),
        "conv": model(graph(conv, "x:n,3,h,6", "y:n,8", (const("w", ramp(8, 3, 3, 3)), *v))),
        "attention": model(
            graph(
                block,
                "x:b,s,4",
                "y:b,s,4",
                (const("s", ramp(4)), const("t", ramp(4)), const("w", ramp(4, 4))),
            )
        ),
        "shapes": model(
            graph(
                shapes,
                "x:n,2,3",
                "y:a,6",
                (
                    const("zero", 0, "int64"),
                    const("axes", [0], "int64"),
                    const("minus", [-1], "int64"),
                    const("two", [2], "int64"),
                ),
            )
        ),
        "lstm": model(
            graph(
                [node("LSTM", ["x", "w", "r"], ["y", "h"], hidden_size=2)],
                "x:s,1,3",
                "y:s,1,1,2 h:1,1,2",
                (const("w", ramp(1, 8, 3)), const("r", ramp(1, 8, 2))),
            )
        ),
        "old": model(
            graph(
                [
                    node("Softmax", ["x"], ["a"], axis=1),
                    node("Squeeze", ["a"], ["b"], axes=[0]),
                    node("Upsample", ["x", "s"], ["u"]),
                ],
                "x:1,2,2,2 s:4",
                "b:2,2,2 u:1,2,4,4",
                (const("s", [1, 1, 2, 2]),),
            ),
            9,
            ir_version=3,
        ),
    }


def control() -> Models:
    """Subgraphs, functions."""

    def branch(op: str, *ins: str) -> onnx.GraphProto:
        return graph([node(op, list(ins), [f"{op}_y"])], "", f"{op}_y")

    choose = node(
        "If", ["c"], ["y"], then_branch=branch("Add", "x", "w"), else_branch=branch("Neg", "x")
    )
    body = graph(
        [
            node("Add", ["a", "x"], ["b"]),
            node("Identity", ["go"], ["on"]),
            node("Identity", ["b"], ["each"]),
        ],
        "i:int64: go:bool: a:2",
        "on:bool: b:2 each:2",
    )
    loop = node("Loop", ["n", "", "x"], ["last", "all"], body=body)
    step = graph(
        [node("Add", ["s", "e"], ["t"]), node("Identity", ["t"], ["u"])], "s:2 e:2", "t:2 u:2"
    )
    scan = node("Scan", ["x", "m"], ["last", "all"], body=step, num_scan_inputs=1)
    fn = helper.make_function(
        "here",
        "F",
        ["a"],
        ["b"],
        [node("Mul", ["a", "a"], ["c"]), node("Selu", ["c"], ["b"])],
        [helper.make_opsetid("", 21)],
    )
    calls = model(
        graph(
            [node("F", ["x"], ["m"], domain="here"), node("F", ["m"], ["y"], domain="here")],
            "x:2",
            "y:2",
        ),
        functions=[fn],
    )
    calls.opset_import.append(helper.make_opsetid("here", 1))
    return {
        "if": model(graph([choose], "c:bool: x:2", "y:2", (const("w", [1, 2]),))),
        "loop": model(graph([loop], "n:int64: x:2", "last:2 all:k,2")),
        "scan": model(graph([scan], "x:2 m:3,2", "last:2 all:3,2")),
        "functions": calls,
    }


def values() -> Models:
    """Kinds and types of values, places of payloads."""
    typed = [
        helper.make_tensor(f"t{k}", k, [2], [1, 0])
        for k in (T.INT32, T.INT64, T.UINT8, T.BOOL, T.DOUBLE, T.FLOAT16, T.UINT64)
    ]
    casts = [node("Cast", [t.name], [f"c{i}"], to=T.FLOAT) for i, t in enumerate(typed)]
    sparse = helper.make_sparse_tensor(const("s", [1, 2]), const("", [0, 3], "int64"), [2, 2])
    sequence = [
        node("SequenceConstruct", ["x", "x"], ["q"]),
        node("SequenceAt", ["q", "i"], ["a"]),
        node("ConcatFromSequence", ["q"], ["y"], axis=0),
        node("SequenceLength", ["q"], ["n"]),
    ]
    words = helper.make_tensor("w", T.STRING, [2], [b"a", b"bc"])
    inner = node("Constant", [], ["k"], value=const("", ramp(2, 2)))
    overridable = graph([node("Add", ["x", "w"], ["y"])], "x:2 w:2", "y:2", (const("w", [1, 2]),))
    aliases = graph(
        [node("Identity", ["x"], ["y"]), node("Identity", ["x"], ["z"])],
        "x:2",
        "y:2 z:2 w:2",
        (const("w", [1, 2]),),
    )
    return {
        "types": model(
            graph(
                [*casts, node("Sum", [f"c{i}" for i in range(len(casts))], ["y"])], "", "y:2", typed
            )
        ),
        "sparse": model(
            graph(
                [node("MatMul", ["x", "s"], ["y"])], "x:2,2", "y:2,2", sparse_initializer=[sparse]
            )
        ),
        "sequence": model(
            graph(sequence, "x:2,2", "a:2,2 y:4,2 n:int64:", (const("i", 1, "int64"),))
        ),
        "strings": model(
            graph([node("Concat", ["w", "x"], ["y"], axis=0)], "x:string:2", "y:string:4", (words,))
        ),
        "constant": model(graph([inner, node("Mul", ["x", "k"], ["y"])], "x:2,2", "y:2,2")),
        "overridable": model(overridable),
        "aliases": model(aliases),
        "dynamic": model(
            graph(
                [
                    node("NonZero", ["x"], ["i"]),
                    node("Transpose", ["i"], ["t"]),
                    node("GatherND", ["x", "t"], ["y"]),
                    node("Neg", ["y"], ["z"]),
                ],
                "x:2,2",
                "z:k",
            )
        ),
    }


def operators() -> Models:
    """Families whose code differs."""
    quant = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
        node("Cast", ["i"], ["f"], to=T.FLOAT),
        node("Mul", ["f", "s"], ["y"]),
    ]
    qdq = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["w", "s", "wz"], ["e"]),
        node("MatMul", ["d", "e"], ["y"]),
    ]
    points = [
        node("Sigmoid", ["x"], ["a"]),
        node("Mul", ["x", "a"], ["b"]),
        node("Clip", ["b", "lo"], ["c"]),
        node("Where", ["k", "c", "x"], ["d"]),
        node("Tanh", ["d"], ["e"]),
        node("Pow", ["e", "two"], ["y"]),
    ]
    reduce = [
        node("ReduceMean", ["x", "ax"], ["m"]),
        node("Sub", ["x", "m"], ["d"]),
        node("ReduceSumSquare", ["d", "ax"], ["v"]),
        node("ReduceMax", ["d"], ["t"], keepdims=0),
        node("ArgMax", ["d"], ["i"]),
        node("TopK", ["x", "one"], ["k", "j"]),
    ]
    moves = [
        node("Pad", ["x", "p"], ["a"]),
        node("Tile", ["a", "r"], ["b"]),
        node("Split", ["b"], ["c", "d"], num_outputs=2),
        node("Expand", ["c", "e"], ["y"]),
        node("DepthToSpace", ["z"], ["o"], blocksize=2),
    ]
    resize = [
        node("Resize", ["x", "", "s"], ["a"], mode="linear"),
        node("AveragePool", ["a"], ["b"], kernel_shape=[2, 2]),
        node("ConvTranspose", ["b", "w"], ["y"]),
    ]
    return {
        "dynamic_quant": model(
            graph(
                quant,
                "x:n,4",
                "y:n,3",
                (const("w", ramp(4, 3) * 8, "int8"), const("wz", 0, "int8")),
            )
        ),
        "qdq": model(
            graph(
                qdq,
                "x:n,4",
                "y:n,3",
                (
                    const("s", 0.1),
                    const("z", 3, "uint8"),
                    const("w", ramp(4, 3) * 8, "int8"),
                    const("wz", 0, "int8"),
                ),
            )
        ),
        "points": model(
            graph(points, "x:2,n k:bool:2,1", "y:2,n", (const("lo", -1), const("two", 2)))
        ),
        "reduce": model(
            graph(
                reduce,
                "x:2,3",
                "m:2,1 v:2,1 t: i:int64:1,3 k:2,1 j:int64:2,1",
                (const("ax", [1], "int64"), const("one", [1], "int64")),
            )
        ),
        "moves": model(
            graph(
                moves,
                "x:2,2 z:1,4,1,1",
                "y:2,2,9 o:1,1,2,2",
                (
                    const("p", [0, 1, 0, 0], "int64"),
                    const("r", [2, 3], "int64"),
                    const("e", [2, 1, 1], "int64"),
                ),
            )
        ),
        "resize": model(
            graph(
                resize,
                "x:1,2,2,2",
                "y:1,3,h,w",
                (const("s", [1, 1, 2, 2]), const("w", ramp(2, 3, 2, 2))),
            )
        ),
        "microsoft": model(
            graph(
                [
                    node("Gelu", ["x"], ["g"], domain="com.microsoft"),
                    node("SkipLayerNormalization", ["g", "x", "w"], ["y"], domain="com.microsoft"),
                ],
                "x:1,2,4",
                "y:1,2,4",
                (const("w", ramp(4)),),
            )
        ),
        "einsum": model(
            graph([node("Einsum", ["x", "x"], ["y"], equation="ij,kj->ik")], "x:2,3", "y:2,2")
        ),
    }


def main() -> None:
    """Writes every seed."""
    for name, m in {**networks(), **control(), **values(), **operators()}.items():
        onnx.checker.check_model(m)
        (HERE / "corpus" / f"seed_{name}.onnx").write_bytes(m.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
