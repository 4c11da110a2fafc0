"""Point-wise float32 kernels and groups (pointwise, pointwise_node, lower, pointwise_fuse), and
the kernels softmax_node, norm_node and transpose_node, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Graph, check, kernels, run

pytestmark = pytest.mark.quick

UNARY = {
    "Relu": {}, "Sigmoid": {}, "Tanh": {}, "Erf": {}, "Exp": {}, "Log": {}, "Sqrt": {}, "Neg": {},
    "Abs": {}, "Floor": {}, "Ceil": {}, "Round": {}, "Sign": {}, "Reciprocal": {}, "Softplus": {},
    "Softsign": {}, "Mish": {}, "HardSwish": {}, "LeakyRelu": {"alpha": 0.3},
    "Elu": {"alpha": 0.7}, "Selu": {"alpha": 1.5, "gamma": 1.1},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
}  # fmt: skip


def random(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers, times 3."""
    return (3 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize("op", UNARY)
@pytest.mark.parametrize("shape", [(), (1,), (7, 13), (3, 1500), (0, 4)])
def test_unary(op: str, shape: tuple[int, ...]) -> None:
    """Each operator alone, on tails, tiles, a scalar and nothing."""
    graph = Graph()
    x = np.asarray(random(*shape))
    if op in ("Log", "Sqrt"):
        x = np.asarray(np.abs(x))
    check(graph, graph.add(op, graph.input("x", x), **UNARY[op]))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow", "Min", "Max"])
@pytest.mark.parametrize(
    "shapes",
    [((5, 7), (5, 7)), ((2, 3, 40), (40,)), ((4, 1, 9), (1, 6, 1)), ((700,), (1,)), ((3, 5), ())],
)
def test_binary(op: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """Broadcasting in both directions."""
    graph = Graph()
    a, b = np.asarray(random(*shapes[0])), np.asarray(random(*shapes[1], seed=1))
    if op == "Pow":
        a = np.asarray(np.abs(a))
    check(graph, graph.add(op, graph.input("a", a), graph.input("b", b)), bound=4e-6)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow"])
@pytest.mark.parametrize("value", [2.0, 3.0, 0.7, 1.0, -0.5])
@pytest.mark.parametrize("first", [False, True])
def test_scalar_constant(op: str, value: float, first: bool) -> None:
    """A known scalar on either side; every other row whole, so that negative bases have powers."""
    graph = Graph()
    x = np.abs(random(33, 5)) + np.float32(0.1)
    x[::2] = np.round(3 * x[::2]) + 1
    names = [graph.input("x", x), graph.const(np.float32(value))]
    check(graph, graph.add(op, *(names[::-1] if first else names)), bound=4e-6)


def test_variadic_and_clip() -> None:
    """Lists of operands; bounds that are constants, absent, or known only at run time."""
    graph = Graph()
    x, y, z = (graph.input(n, random(4, 30, seed=i)) for i, n in enumerate("xyz"))
    low, high = graph.const(np.float32(-1)), graph.const(np.float32(2))
    limit = graph.input("limit", np.asarray(0.5, np.float32))
    outputs = [graph.add(op, x, y, z, x) for op in ("Min", "Max", "Sum")]
    outputs += [graph.add("Clip", x, low, high), graph.add("Clip", x, "", high)]
    outputs += [graph.add("Clip", x, low), graph.add("Clip", x, low, limit)]
    check(graph, *outputs)


def test_not_a_number() -> None:
    """NaN and infinities go through as onnxruntime lets them."""
    graph = Graph()
    x = graph.input("x", np.array([np.nan, np.inf, -np.inf, 1, -0.0] * 9, np.float32))
    ops = ["Relu", "Sigmoid", "Tanh", "Erf", "Exp", "Neg", "Abs", "Sqrt", "Log", "Floor"]
    check(graph, *[graph.add(op, x) for op in ops])


def long_chain(graph: Graph, dynamic: bool) -> str:
    """GELU by hand, a bias, a residual, a column; everything of one shape."""
    declared: list[int | str] | None = ["n", "m", 48] if dynamic else None
    x = graph.input("x", random(3, 17, 48), declared)
    r = graph.input("r", random(3, 17, 48, seed=2), declared)
    column = graph.input("column", random(17, 1, seed=3), ["m", 1] if dynamic else None)
    v = graph.add("Add", x, graph.const(random(48, seed=4)))
    e = graph.add("Erf", graph.add("Div", v, graph.const(np.float32(2**0.5))))
    e = graph.add("Mul", v, graph.add("Add", e, graph.const(np.float32(1))))
    v = graph.add("Mul", e, graph.const(np.float32(0.5)))
    v = graph.add("Mul", graph.add("Add", v, r), graph.add("Sigmoid", column))
    return graph.add("Pow", graph.add("Sub", v, r), graph.const(np.float32(2)))


@pytest.mark.parametrize("dynamic", [False, True])
def test_group(dynamic: bool) -> None:
    """A chain becomes one step (and the column's own sigmoid another), with the same results."""
    graph = Graph()
    out = long_chain(graph, dynamic)
    check(graph, out)
    steps = kernels(graph.model(out), graph.feeds)
    assert ("Pointwise", "pointwise_f32") in steps and len(steps) <= 3, steps


def test_group_keeps_values_that_others_read() -> None:
    """A value that is an output, or read outside, ends a group."""
    graph = Graph()
    x = graph.input("x", random(6, 50))
    a = graph.add("Tanh", graph.add("Neg", x))
    b = graph.add("Softmax", a)
    c = graph.add("Add", graph.add("Mul", a, b), graph.add("Exp", a))
    d = graph.add("Sqrt", graph.add("Abs", c))
    check(graph, c, d, graph.add("Add", d, graph.add("Neg", c)))


def test_large_groups() -> None:
    """More nodes, inputs and live values than one program holds."""
    graph = Graph()
    x = graph.input("x", random(9, 9))
    v = x
    for i in range(150):
        v = graph.add(("Add", "Sub")[i % 2], graph.add("Tanh", v), x)
    many = [graph.input(f"m{i}", random(9, 9, seed=i)) for i in range(40)]
    parts = [graph.add("Sigmoid", name) for name in many]
    while len(parts) > 1:
        parts = [graph.add("Mul", *parts[i : i + 2]) for i in range(0, len(parts) - 1, 2)] + (
            parts[-1:] if len(parts) % 2 else []
        )
    check(graph, v, parts[0], bound=1e-5)


def test_threads_do_not_change_bits() -> None:
    """The same result for any number of threads."""
    graph = Graph()
    graph.input("x", random(64, 4096))
    out = graph.add("Softmax", graph.add("Tanh", graph.add("Exp", "x")))
    model = graph.model(out)
    one, two = (run(model, graph.feeds, threads=n)[0] for n in (1, 2))
    assert (one.view(np.uint32) == two.view(np.uint32)).all()


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_softmax(op: str, opset: int, axis: int) -> None:
    """Every axis, both meanings of the axis, short and long rows."""
    for shape in [(3, 5, 7), (2, 33, 300), (4, 1, 1), (2, 3, 0)]:
        graph = Graph(opset)
        check(graph, graph.add(op, graph.input("x", random(*shape)), axis=axis), bound=3e-6)


@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_layer_normalization(axis: int) -> None:
    """With and without bias, over one and over several axes, all three outputs."""
    graph = Graph()
    shape = (3, 6, 35)
    x = graph.input("x", random(*shape) + 2)
    gain, bias = (graph.const(random(*shape[axis:], seed=i)) for i in (1, 2))
    outputs = graph.add("LayerNormalization", x, gain, bias, outputs=3, axis=axis, epsilon=1e-3)
    outputs.append(graph.add("LayerNormalization", x, gain, axis=axis))
    scalar = graph.const(np.ones([1], np.float32) * 2)
    if axis == -1:
        outputs.append(graph.add("LayerNormalization", x, scalar, axis=axis))
    check(graph, *outputs, bound=3e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.float16, bool])
def test_transpose(dtype: type) -> None:
    """Rows kept, two dims changing places, everything reversed; sizes around a tile."""
    graph, outputs = Graph(), []
    shapes = [((3, 17, 33), (0, 2, 1)), ((2, 5, 3, 64), (0, 2, 1, 3)), ((40, 16), (1, 0))]
    shapes += [((2, 3, 4, 5), (3, 2, 1, 0)), ((1, 7, 1, 9), (3, 0, 2, 1)), ((2, 0, 3), (2, 1, 0))]
    shapes += [((2, 3, 4, 5, 6), (4, 0, 3, 1, 2)), ((1, 1), (1, 0))]
    for i, (shape, perm) in enumerate(shapes):
        x = graph.input(f"x{i}", random(*shape, seed=i).astype(dtype))
        outputs.append(graph.add("Transpose", x, perm=perm))
    model = graph.model(*outputs)
    for i, got in enumerate(run(model, graph.feeds)):
        assert (got == graph.feeds[f"x{i}"].transpose(shapes[i][1])).all()


@pytest.mark.parametrize("op", ["Sum", "Mean", "Max", "Min", "SumSquare", "L1", "L2"])
def test_reductions(op: str) -> None:
    """Along rows, across rows, everything, scattered dims, dims of 1 (reduce_node)."""
    cases = [
        ((3, 5, 300), [-1]),
        ((3, 70, 9), [1]),
        ((2, 300, 4, 1), [1, 2]),
        ((2, 3, 5, 7), [0, 2]),
    ]
    cases += [
        ((6, 9000), [1]),
        ((4, 1, 3), [1]),
        ((7, 600), [0]),
        ((5, 6), []),
        ((2, 3, 4, 5), [2, 3]),
    ]
    graph, outputs = Graph(), []
    for i, (shape, axes) in enumerate(cases):
        x = graph.input(f"x{i}", random(*shape, seed=i))
        names = [x, graph.const(np.array(axes, np.int64))] if axes else [x]
        outputs += [graph.add(f"Reduce{op}", *names, keepdims=i % 2)]
    check(graph, *outputs, bound=1e-5)
    steps = kernels(graph.model(*outputs), graph.feeds)
    assert steps == [(f"Reduce{op}", "reduce_f32")] * len(cases)


def by_hand(graph: Graph, x: str, style: str) -> str:
    """Layer or RMS normalization in single operators."""
    gain, bias = graph.const(random(24, seed=8)), graph.const(random(24, seed=9))
    eps, two = graph.const(np.float32(1e-3)), graph.const(np.float32(2))
    if "rms" in style:
        square = graph.add("Mul", x, x) if "mul" in style else graph.add("Pow", x, two)
    else:
        mean = graph.add("ReduceMean", x, graph.const(np.array([-1])))
        centred = graph.add("Sub", x, mean)
        second = graph.add("Sub", x, mean) if "twice" in style else centred
        square = (
            graph.add("Mul", second, second) if "mul" in style else graph.add("Pow", second, two)
        )
    variance = graph.add("ReduceMean", square, graph.const(np.array([2])))
    root = graph.add("Sqrt", graph.add("Add", variance, eps))
    if "rms" in style:
        inverse = graph.add("Reciprocal", root)
        return graph.add("Mul", gain, graph.add("Mul", x, inverse))
    return graph.add("Add", graph.add("Mul", graph.add("Div", centred, root), gain), bias)


@pytest.mark.parametrize("style", ["pow", "mul", "twice", "mul twice", "rms", "rms mul"])
def test_normalization_by_hand(style: str) -> None:
    """One step in place of many (norm_fuse); twice in a row, with x read elsewhere too."""
    graph = Graph()
    x = graph.input("x", random(2, 5, 24), ["a", "b", 24])
    first = by_hand(graph, x, style)
    out = graph.add("Add", by_hand(graph, first, style), x)
    check(graph, out, bound=4e-6)
    steps = kernels(graph.model(out), graph.feeds)
    assert [kernel for _, kernel in steps][:2] == ["norm_f32", "norm_f32"] and len(steps) == 3, (
        steps
    )


def test_not_a_normalization() -> None:
    """Another axis, a variance that others read, a gain of another shape."""
    graph = Graph()
    x = graph.input("x", random(6, 8, 24))
    mean = graph.add("ReduceMean", x, graph.const(np.array([1])))
    d = graph.add("Sub", x, mean)
    square = graph.add("Mul", d, d)
    variance = graph.add("ReduceMean", square, graph.const(np.array([-1])))
    root = graph.add("Sqrt", graph.add("Add", variance, graph.const(np.float32(1e-3))))
    scaled = graph.add("Mul", graph.add("Div", d, root), graph.const(random(24)))
    out = graph.add("Add", scaled, graph.const(random(24, seed=1)))
    column = graph.add("Mul", graph.add("Div", x, root), graph.const(random(8, 1)))
    check(graph, out, variance, column, bound=4e-6)
