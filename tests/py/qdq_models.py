"""Networks in QDQ form, made with numpy: what a quantiser writes, without a quantiser."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """Nodes and initializers of one graph; float values are quantised and dequantised in passing.

    Activations are uint8 or int8 with one scale, weights int8 with one scale per channel, biases
    int32 with the scale of the products.
    """

    def __init__(self, activations: type = np.uint8, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.type = activations
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.scales: dict[str, float] = {}

    def constant(self, value: np.ndarray) -> str:
        """A new initializer."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], **attributes: object) -> str:
        """A new node; its only output."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def quantised(self, x: str, low: float, high: float) -> str:
        """QuantizeLinear and DequantizeLinear over [low, high]."""
        info = np.iinfo(self.type)
        scale = np.float32((high - low) / 255)
        zero = int(np.clip(np.rint(info.min - low / scale), info.min, info.max))
        s, z = self.constant(scale), self.constant(np.array(zero, self.type))
        y = self.node("DequantizeLinear", [self.node("QuantizeLinear", [x, s, z]), s, z])
        self.scales[y] = float(scale)
        return y

    def weight(self, shape: tuple[int, ...], axis: int) -> tuple[str, np.ndarray]:
        """A dequantised int8 tensor with scales along the axis."""
        fan_in = int(np.prod(shape)) // shape[axis]
        w = self.rng.integers(-127, 128, shape).astype(np.int8)
        scale = self.rng.uniform(0.5, 1.0, shape[axis]) / (60 * np.sqrt(fan_in))
        scale = scale.astype(np.float32)
        zero = self.constant(np.zeros(shape[axis], np.int8))
        names = [self.constant(w), self.constant(scale), zero]
        return self.node("DequantizeLinear", names, axis=axis), scale

    def bias(self, n: int, scale: np.ndarray) -> str:
        """A dequantised int32 vector."""
        b = np.rint(self.rng.standard_normal(n) * 0.1 / scale).astype(np.int32)
        names = [self.constant(b), self.constant(scale), self.constant(np.zeros(n, np.int32))]
        return self.node("DequantizeLinear", names, axis=0)

    def conv(
        self, x: str, cin: int, cout: int, k: int, *, group: int = 1, stride: int = 1, act: str = ""
    ) -> str:
        """Conv with bias, an activation, QuantizeLinear and DequantizeLinear."""
        return self.activated(self.plain_conv(x, cin, cout, k, group=group, stride=stride), act)

    def plain_conv(
        self, x: str, cin: int, cout: int, k: int, *, group: int = 1, stride: int = 1,
        unit: float = 1,
    ) -> str:  # fmt: skip
        """Conv with a bias, quantised in so many units of the sums."""
        w, scale = self.weight((cout, cin // group, k, k), 0)
        b = self.bias(cout, (scale * self.scales[x] * unit).astype(np.float32))
        pads = [k // 2] * 4
        return self.node("Conv", [x, w, b], group=group, strides=[stride] * 2, pads=pads)

    def activated(self, y: str, act: str) -> str:
        """Relu, Relu6 or nothing, then quantised."""
        if act == "Relu":
            return self.quantised(self.node("Relu", [y]), 0, 4)
        if act == "Relu6":
            bounds = [self.constant(np.float32(0)), self.constant(np.float32(6))]
            return self.quantised(self.node("Clip", [y, *bounds]), -1, 5)
        return self.quantised(y, -4, 4)

    def model(self, x: tuple[int, ...], result: str) -> bytes:
        """The model from "x" to "y"."""
        self.nodes.append(helper.make_node("Identity", [result], ["y"]))
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes, "qdq", [info("x", TensorProto.FLOAT, x)],
            [info("y", TensorProto.FLOAT, None)], self.constants,
        )  # fmt: skip
        opset = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


def resnet_like(activations: type, size: int = 32, width: int = 16) -> bytes:
    """Stem, pool, a plain and a strided residual block, a head."""
    b = Builder(activations)
    x = b.quantised("x", -3, 3)
    x = b.conv(x, 3, width, 7, stride=2, act="Relu")
    pooled = b.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    x, b.scales[pooled] = b.quantised(pooled, 0, 4), 0
    for cin, cout, stride in ((width, width, 1), (width, 2 * width, 2)):
        y = b.conv(x, cin, width, 1, act="Relu")
        y = b.conv(y, width, width, 3, stride=stride, act="Relu")
        y = b.conv(y, width, cout, 1)
        side = x if cin == cout and stride == 1 else b.conv(x, cin, cout, 1, stride=stride)
        x = b.activated(b.node("Add", [y, side]), "Relu")
    x = b.quantised(b.node("GlobalAveragePool", [x]), 0, 2)
    x = b.quantised(b.node("Flatten", [x]), 0, 2)
    w, scale = b.weight((10, 2 * width), 0)
    c = b.bias(10, (scale * b.scales[x]).astype(np.float32))
    return b.model((1, 3, size, size), b.quantised(b.node("Gemm", [x, w, c], transB=1), -4, 4))


def mobilenet_like(activations: type, size: int = 32, width: int = 16) -> bytes:
    """Inverted residuals: 1 x 1, depthwise with Relu6, 1 x 1, sum."""
    b = Builder(activations)
    x = b.conv(b.quantised("x", -3, 3), 3, width, 3, stride=2, act="Relu6")
    for stride in (1, 2):
        y = b.conv(x, width, 4 * width, 1, act="Relu6")
        y = b.conv(y, 4 * width, 4 * width, 3, group=4 * width, stride=stride, act="Relu6")
        y = b.conv(y, 4 * width, width, 1)
        x = b.quantised(b.node("Add", [x, y]), -5, 5) if stride == 1 else y
    gate = b.quantised(b.node("Sigmoid", [x]), 0, 1)
    x = b.quantised(b.node("Mul", [x, gate]), -4, 4)
    x = b.quantised(b.node("Concat", [x, gate], axis=1), -4, 4)
    return b.model((2, 3, size, size), b.node("GlobalAveragePool", [x]))


def attention_like(activations: type, length: int = 12, size: int = 32) -> bytes:
    """Products with weights and of two activations, softmax, a sum."""
    b = Builder(activations)
    x = b.quantised("x", -3, 3)
    q, k, v = (b.quantised(b.node("MatMul", [x, b.weight((size, size), 1)[0]]), -3, 3)
               for _ in range(3))  # fmt: skip
    k = b.node("Transpose", [k], perm=[0, 2, 1])
    s = b.quantised(b.node("MatMul", [q, k]), -40, 40)
    p = b.quantised(b.node("Softmax", [s], axis=-1), 0, 1)
    y = b.quantised(b.node("MatMul", [p, v]), -3, 3)
    y = b.activated(b.node("MatMul", [y, b.weight((size, size), 1)[0]]), "Relu")
    return b.model((2, length, size), b.quantised(b.node("Add", [x, y]), -5, 5))


def dynamic_like(shared: bool, bias: bool, rows: int = 6, size: int = 40) -> bytes:
    """Dynamically quantised products (dynamic_fuse), two of one quantised input if shared."""
    b = Builder()
    x = "x"
    for width in (48, 24):
        q, s, z = (f"q{len(b.nodes)}", f"s{len(b.nodes)}", f"z{len(b.nodes)}")
        b.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], [q, s, z]))
        parts = []
        for _ in range(2 if shared else 1):
            w = b.constant(b.rng.integers(-127, 128, (size, width)).astype(np.int8))
            ws = b.constant((b.rng.uniform(0.5, 1, width) / 500).astype(np.float32))
            wz = b.constant(np.zeros(width, np.int8))
            product = b.node("MatMulInteger", [q, w, z, wz])
            product = b.node("Cast", [product], to=TensorProto.FLOAT)
            y = b.node("Mul", [product, b.node("Mul", [s, ws])])
            if bias:
                c = b.constant(b.rng.standard_normal(width).astype(np.float32))
                y = b.node("Add", [y, c])
            parts.append(y)
        x = b.node("Add", parts) if shared else b.node("Relu", parts)
        size = width
    return b.model((2, rows, 40), x)


def weight_only(form: str, rows: int = 5, size: int = 96) -> bytes:
    """Float products with int8 weights: behind Cast and Mul, or DequantizeLinear (q8_node)."""
    b = Builder()
    x = "x"
    for width in (70, 130):
        q = b.rng.integers(-127, 128, (size, width)).astype(np.int8)
        scales = {"scalar": (), "row": (1, width)}.get(form, (width,))
        s = b.constant(b.rng.uniform(0.5, 1, scales).astype(np.float32) / 500)
        if form == "dequantize":
            w = b.node("DequantizeLinear", [b.constant(q), s], axis=1)
        else:
            w = b.node("Cast", [b.constant(q)], to=TensorProto.FLOAT)
            w = b.node("Mul", [w, s] if form == "row" else [s, w])
        x = b.node("MatMul", [x, w])
        size = width
    return b.model((2, rows, 96), x)
