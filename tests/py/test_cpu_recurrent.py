"""LSTM, GRU and RNN with constant weights (recurrent_node) against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Graph, check, kernels

pytestmark = pytest.mark.quick

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def layer(
    graph: Graph, op: str, direction: str, hidden: int, seq: int, state: bool, **more: object
) -> list[str]:
    """A layer over random numbers; batch 3, width 10."""
    rng = np.random.default_rng(hidden)
    dirs, gates, batch, width = 1 + (direction == "bidirectional"), GATES[op], 3, 10

    def random(*shape: int) -> np.ndarray:
        return (0.4 * rng.standard_normal(shape)).astype(np.float32)

    inputs = [graph.input("x", random(seq, batch, width))]
    inputs += [graph.const(random(dirs, gates * hidden, k)) for k in (width, hidden)]
    inputs.append(graph.const(random(dirs, 2 * gates * hidden)))
    if state:
        lens = graph.input("lens", np.full(batch, seq, np.int32))
        inputs += [lens, graph.input("h", random(dirs, batch, hidden))]
        if op == "LSTM":
            inputs.append(graph.input("c", random(dirs, batch, hidden)))
    if op == "GRU":
        more.setdefault("linear_before_reset", 1)
    outputs: list[str] = graph.add(
        op,
        *inputs,
        outputs=3 if op == "LSTM" else 2,
        hidden_size=hidden,
        direction=direction,
        **more,
    )
    return outputs


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("state", [False, True])
def test_layer(op: str, direction: str, state: bool) -> None:
    """Every direction, with and without a state, all outputs; on the packed kernel."""
    for hidden, seq in [(16, 5), (37, 9), (1, 1), (200, 3)]:
        graph = Graph()
        outputs = layer(graph, op, direction, hidden, seq, state)
        check(graph, *outputs, bound=1e-5, threads=2)
        assert (op, "recurrent_f32") in kernels(graph.model(*outputs), graph.feeds)


@pytest.mark.parametrize("op", GATES)
def test_what_the_kernel_leaves_alone(op: str) -> None:
    """Short sequences, clipping, other activations: still right."""
    graph = Graph()
    outputs = layer(graph, op, "forward", 8, 6, state=True)
    graph.feeds["lens"] = np.array([6, 2, 4], np.int32)
    check(graph, *outputs, bound=1e-5)
    graph = Graph()
    check(graph, *layer(graph, op, "forward", 8, 6, state=False, clip=0.3), bound=1e-5)
    graph = Graph()
    names = {"LSTM": ["Tanh", "Sigmoid", "Tanh"], "GRU": ["Tanh", "Sigmoid"], "RNN": ["Sigmoid"]}
    check(graph, *layer(graph, op, "forward", 8, 6, False, activations=names[op]), bound=1e-5)


def test_relu_and_both_resets() -> None:
    """RNN with Relu on the kernel; GRU whose reset stands before the product on the reference."""
    graph = Graph()
    outputs = layer(graph, "RNN", "bidirectional", 20, 7, False, activations=["Relu", "Relu"])
    check(graph, *outputs, bound=1e-5)
    assert ("RNN", "recurrent_f32") in kernels(graph.model(*outputs), graph.feeds)
    graph = Graph()
    outputs = layer(graph, "GRU", "forward", 20, 7, False, linear_before_reset=0)
    check(graph, *outputs, bound=1e-5)
