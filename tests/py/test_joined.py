"""Inputs of Concat that lie in its output from the beginning (plan/build.c, plan/eval.c), against
onnxruntime: which ones may, sizes where they cannot, what else reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import macart as ort

pytestmark = pytest.mark.quick


class Net:
    """Convolutions of 3x3 over images of [n, 16, 24, 24], by name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.rng = np.random.default_rng(3)

    def conv(self, x: str, y: str, cin: int, cout: int) -> None:
        """y = relu(conv(x))"""
        w = (self.rng.standard_normal((cout, cin, 3, 3)) / np.sqrt(9 * cin)).astype(np.float32)
        self.weights.append(numpy_helper.from_array(w, f"w_{y}"))
        self.nodes.append(helper.make_node("Conv", [x, f"w_{y}"], [f"c_{y}"], pads=[1] * 4))
        self.nodes.append(helper.make_node("Relu", [f"c_{y}"], [y]))

    def add(self, op: str, x: str, y: str, **attrs: Any) -> None:
        """A node of any kind, its values divided by spaces."""
        self.nodes.append(helper.make_node(op, x.split(), [y], **attrs))

    def check(self, outputs: str, batches: tuple[int, ...] = (1, 2, 1)) -> ort.InferenceSession:
        """The same session for all batches."""
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16, 24, 24])],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs.split()],
            self.weights,
        )
        imports = [helper.make_opsetid("", 17)]
        data = helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
        ours, theirs = ort.InferenceSession(data), onnxruntime.InferenceSession(data)
        for n in batches:
            x = self.rng.standard_normal((n, 16, 24, 24)).astype(np.float32)
            for got, want in zip(ours.run(None, {"x": x}), theirs.run(None, {"x": x}), strict=True):
                np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())
        return ours


def test_skip() -> None:
    """As in a U-Net: a value that is read before, and one that is made in between."""
    net = Net()
    net.conv("x", "a", 16, 32)
    net.add("MaxPool", "a", "p", kernel_shape=[2, 2], strides=[2, 2])
    net.conv("p", "d", 32, 64)
    w = net.rng.standard_normal((64, 48, 2, 2)).astype(np.float32)
    net.weights.append(numpy_helper.from_array(w, "u"))
    net.add("ConvTranspose", "d u", "b", strides=[2, 2])
    net.add("Concat", "a b", "j", axis=1)
    net.conv("j", "y", 80, 16)
    net.check("y")


@pytest.mark.parametrize("later", ["conv", "add", "output"])
def test_read_afterwards(later: str) -> None:
    """One of them is still wanted behind the Concat."""
    net = Net()
    net.conv("x", "a", 16, 16)
    net.conv("a", "b", 16, 16)
    net.add("Concat", "a b", "j", axis=1)
    net.conv("j", "y", 32, 16)
    if later == "conv":
        net.conv("a", "z", 16, 16)
    elif later == "add":
        net.add("Add", "a y", "z")
    net.check("y a" if later == "output" else "y z")


def test_same_twice_and_nested() -> None:
    net = Net()
    net.conv("x", "a", 16, 16)
    net.conv("x", "b", 16, 32)
    net.add("Concat", "a a b", "j", axis=1)
    net.conv("j", "d", 64, 16)
    net.conv("d", "e", 16, 16)
    net.add("Concat", "d e", "k", axis=1)
    net.add("Concat", "k b", "l", axis=1)
    net.conv("l", "y", 64, 16)
    net.check("y")


def test_sums_in_place() -> None:
    """A residual sum that takes over the memory of its input, then is joined."""
    net = Net()
    net.conv("x", "a", 16, 16)
    net.conv("a", "b", 16, 16)
    net.add("Add", "a b", "s")
    net.conv("s", "d", 16, 16)
    net.add("Concat", "s d", "j", axis=1)
    net.add("Sigmoid", "j", "t")
    net.conv("t", "y", 32, 16)
    net.check("y")


def test_dense() -> None:
    """All values so far are joined again and again."""
    net = Net()
    names = ["x"]
    for i in range(5):
        net.add("Concat", " ".join(names), f"j{i}", axis=1)
        net.conv(f"j{i}", f"v{i}", 16 * len(names), 16)
        names.append(f"v{i}")
    net.add("Concat", " ".join(names), "j", axis=1)
    net.conv("j", "y", 96, 16)
    net.check("y", (1, 3, 1))


def test_planned_memory() -> None:
    """Joined values take no memory of their own."""
    net = Net()
    net.conv("x", "a", 16, 64)
    net.conv("a", "b", 64, 64)
    net.add("Concat", "a b", "j", axis=1)
    net.conv("j", "y", 128, 16)
    image = 24 * 24 * 4
    assert net.check("y", (1,))._sess.stats()["plan_bytes"] <= 144 * image
    assert net.check("y", (2,))._sess.stats()["plan_bytes"] >= 2 * 256 * image  # not side by side
