"""Convolutional networks for the benchmarks, written as exporters write them, random weights.

DenseNet-121 (BatchNormalization before the convolutions stays, behind them it is folded, as
exporters do) and a UNet with 32 to 512 channels. Weights are He-scaled, so that activations keep
their size.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "models"))


class Builder:
    """Collects nodes and weights."""

    def __init__(self, seed: int) -> None:
        """Starts an empty graph."""
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        """Adds a node and names its output."""
        output = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def weight(self, data: np.ndarray) -> str:
        """Adds an initializer."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(data.astype(np.float32), name))
        return name

    def conv(self, x: str, cin: int, cout: int, k: int, stride: int = 1, bias: bool = True) -> str:
        """A convolution with padding that keeps the size."""
        scale = (2 / (cin * k * k)) ** 0.5
        inputs = [x, self.weight(scale * self.rng.standard_normal((cout, cin, k, k)))]
        if bias:
            inputs.append(self.weight(0.1 * self.rng.standard_normal(cout)))
        half = k // 2
        pads = [half] * 4
        return self.add(
            "Conv", *inputs, kernel_shape=[k, k], pads=pads, strides=[stride] * 2, group=1
        )

    def norm_relu(self, x: str, channels: int) -> str:
        """BatchNormalization and Relu."""
        draws = [self.rng.uniform(0.8, 1.2, channels), 0.1 * self.rng.standard_normal(channels)]
        draws += [0.1 * self.rng.standard_normal(channels), self.rng.uniform(0.8, 1.2, channels)]
        normal = self.add("BatchNormalization", x, *(self.weight(d) for d in draws))
        return self.add("Relu", normal)

    def save(self, path: Path, result: str, shape: list[int]) -> Path:
        """Writes the model: input x, output y."""
        self.nodes.append(helper.make_node("Identity", [result], ["y"]))
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            self.weights,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="macart"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path)
        return path


def densenet121(path: Path) -> Path:
    """DenseNet-121 at 224 x 224."""
    b = Builder(11)
    x = b.add("Relu", b.conv("x", 3, 64, 7, 2))
    x = b.add("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    channels = 64
    for layers in (6, 12, 24, 16):
        parts = [x]
        for _ in range(layers):
            joined = b.add("Concat", *parts, axis=1)
            y = b.conv(b.norm_relu(joined, channels), channels, 128, 1)
            parts.append(b.conv(b.add("Relu", y), 128, 32, 3, bias=False))
            channels += 32
        x = b.add("Concat", *parts, axis=1)
        if layers != 16:
            x = b.conv(b.norm_relu(x, channels), channels, channels // 2, 1, bias=False)
            x = b.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
            channels //= 2
    x = b.add("Flatten", b.add("GlobalAveragePool", b.norm_relu(x, channels)))
    matrix = b.weight(b.rng.standard_normal((1000, channels)) / channels**0.5)
    return b.save(
        path,
        b.add("Gemm", x, matrix, b.weight(0.1 * b.rng.standard_normal(1000)), transB=1),
        [1, 3, 224, 224],
    )


def unet256(path: Path) -> Path:
    """UNet, 32 channels at 256 x 256 down to 512 at 16 x 16."""
    b = Builder(12)

    def double(x: str, cin: int, cout: int) -> str:
        for source in (cin, cout):
            x = b.add("Relu", b.conv(x, source, cout, 3))
        return x

    x, channels, skips = double("x", 3, 32), 32, []
    for _ in range(4):
        skips.append(x)
        x = b.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        x = double(x, channels, 2 * channels)
        channels *= 2
    for skip in reversed(skips):
        half = channels // 2
        weight = b.weight(b.rng.standard_normal((channels, half, 2, 2)) / channels**0.5)
        bias = b.weight(0.1 * b.rng.standard_normal(half))
        x = b.add("ConvTranspose", x, weight, bias, kernel_shape=[2, 2], strides=[2, 2])
        x = double(b.add("Concat", skip, x, axis=1), channels, half)
        channels = half
    return b.save(path, b.conv(x, channels, 1, 1), [1, 3, 256, 256])


NETWORKS = {"densenet121": densenet121, "unet256": unet256}


def model_path(name: str) -> Path:
    """The model file, made if needed."""
    import refill

    path = Path(refill.cache_folder()) / f"{name}.onnx"
    return path if path.exists() else NETWORKS[name](path)
