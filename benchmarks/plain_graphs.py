"""Plain ONNX graphs of the benchmark's networks, built with numpy weights and no framework.

Weights are random with He's scale from a fixed seed, so activations stay in range through any
depth. The architectures follow their papers: DenseNet (Huang et al. 2017), MobileNetV3 (Howard et
al. 2019), U-Net (Ronneberger et al. 2015), ConvNeXt (Liu et al. 2022), Whisper (Radford et al.
2022), BERT (Devlin et al. 2019), YOLOv5's detection head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20


class Net:
    """A graph under construction; every method adds nodes and returns the name of the result."""

    def __init__(self, name: str, seed: int = 7) -> None:
        """An empty graph."""
        self.name, self.rng = name, np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> str:
        """A graph input."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, value: str, rank: int, kind: int = TensorProto.FLOAT) -> None:
        """Makes a value of that rank a graph output."""
        dims = [f"{value}_{i}" for i in range(rank)]
        self.outputs.append(helper.make_tensor_value_info(value, kind, dims))

    def const(self, array: np.ndarray) -> str:
        """An initializer."""
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def normal(self, *shape: int, scale: float) -> str:
        """A float32 initializer with that deviation."""
        return self.const((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def op(self, kind: str, *inputs: str, n: int = 1, **attributes: object) -> str:
        """One node; returns its first output (`name`), further ones are `name.1`, ..."""
        name = f"v{len(self.nodes)}"
        outputs = [name] + [f"{name}.{i}" for i in range(1, n)]
        domain = str(attributes.pop("domain", ""))
        self.nodes.append(
            helper.make_node(
                kind, list(inputs), outputs, name=f"n{len(self.nodes)}", domain=domain, **attributes
            )
        )
        return name

    def conv(
        self,
        x: str,
        cin: int,
        cout: int,
        k: int = 3,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
        pad: int | None = None,
    ) -> str:
        """A 2-d convolution with "same"-like padding."""
        fan = cin // groups * k * k
        p = (k - 1) // 2 if pad is None else pad
        args = [x, self.normal(cout, cin // groups, k, k, scale=math.sqrt(2 / fan))]
        if bias:
            args.append(self.normal(cout, scale=0.1))
        return self.op(
            "Conv",
            *args,
            kernel_shape=[k, k],
            strides=[stride, stride],
            pads=[p, p, p, p],
            group=groups,
        )

    def bn(self, x: str, c: int) -> str:
        """Batch normalization with statistics near (0, 1)."""
        parts = (
            1 + 0.1 * self.rng.standard_normal(c),
            0.1 * self.rng.standard_normal(c),
            0.1 * self.rng.standard_normal(c),
            1 + 0.2 * self.rng.random(c),
        )
        return self.op("BatchNormalization", x, *(self.const(p.astype(np.float32)) for p in parts))

    def linear(self, x: str, cin: int, cout: int) -> str:
        """x W + b, as exporters write it for inputs of rank 3."""
        y = self.op("MatMul", x, self.normal(cin, cout, scale=1 / math.sqrt(cin)))
        return self.op("Add", self.normal(cout, scale=0.1), y)

    def layer_norm(self, x: str, c: int) -> str:
        """Over the last axis."""
        scale = self.const((1 + 0.1 * self.rng.standard_normal(c)).astype(np.float32))
        return self.op("LayerNormalization", x, scale, self.normal(c, scale=0.1), axis=-1)

    def gelu(self, x: str) -> str:
        """The exact one, from Erf."""
        e = self.op("Erf", self.op("Div", x, self.const(np.float32(math.sqrt(2)))))
        y = self.op("Mul", x, self.op("Add", e, self.const(np.float32(1))))
        return self.op("Mul", y, self.const(np.float32(0.5)))

    def reshape(self, x: str, *shape: int) -> str:
        """To a constant shape."""
        return self.op("Reshape", x, self.const(np.array(shape, np.int64)))

    def model(self) -> onnx.ModelProto:
        """The finished model."""
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.weights)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=10, producer_name="macart-bench"
        )
        onnx.checker.check_model(model)
        return model


def tiny_mlp() -> onnx.ModelProto:
    """Gemm-Relu-Gemm-Relu-Gemm-Softmax, 32-64-64-8: six nodes."""
    net = Net("tiny_mlp")
    x = net.input("x", [1, 32])
    for cin, cout in ((32, 64), (64, 64), (64, 8)):
        w, b = net.normal(cin, cout, scale=math.sqrt(2 / cin)), net.normal(cout, scale=0.1)
        x = net.op("Gemm", x, w, b)
        x = net.op("Relu", x) if cout == 64 else net.op("Softmax", x)
    net.output(x, 2)
    return net.model()


def chain100() -> onnx.ModelProto:
    """A hundred alternating Add and Mul on 64 floats."""
    net = Net("chain100")
    x = net.input("x", [1, 64])
    for i in range(100):
        c = net.normal(64, scale=0.01) if i % 2 == 0 else net.const(np.float32(1.001))
        x = net.op("Add" if i % 2 == 0 else "Mul", x, c)
    net.output(x, 2)
    return net.model()


def elementwise_1m() -> onnx.ModelProto:
    """Twelve point-wise nodes over a million floats."""
    net = Net("elementwise_1m")
    x = net.input("x", [1024, 1024])
    y = net.op("Sigmoid", net.op("Mul", net.op("Add", x, net.const(np.float32(1))), x))
    y = net.gelu(net.op("Add", net.op("Mul", y, x), x))
    net.output(net.op("Tanh", net.op("Sub", y, net.normal(1024, scale=0.1))), 2)
    return net.model()


def densenet121() -> onnx.ModelProto:
    """Growth 32, blocks 6-12-24-16; pre-activation, so no batch norm folds backwards."""
    net = Net("densenet121")
    x = net.op("Relu", net.bn(net.conv(net.input("x", ["batch", 3, 224, 224]), 3, 64, 7, 2), 64))
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    c = 64
    for block, layers in enumerate((6, 12, 24, 16)):
        for _ in range(layers):
            y = net.conv(net.op("Relu", net.bn(x, c)), c, 128, 1, bias=False)
            y = net.conv(net.op("Relu", net.bn(y, 128)), 128, 32, 3, bias=False)
            x, c = net.op("Concat", x, y, axis=1), c + 32
        if block < 3:
            x = net.conv(net.op("Relu", net.bn(x, c)), c, c // 2, 1, bias=False)
            x, c = net.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]), c // 2
    x = net.op("Flatten", net.op("GlobalAveragePool", net.op("Relu", net.bn(x, c))))
    net.output(net.op("Gemm", x, net.normal(c, 1000, scale=0.03), net.normal(1000, scale=0.1)), 2)
    return net.model()


def unet256() -> onnx.ModelProto:
    """Channels 32 to 512, 256 x 256 pixels."""
    net = Net("unet256")
    x, c, skips = net.input("x", ["batch", 3, 256, 256]), 3, []

    def double(value: str, cin: int, cout: int) -> str:
        value = net.op("Relu", net.conv(value, cin, cout))
        return net.op("Relu", net.conv(value, cout, cout))

    for width in (32, 64, 128, 256):
        x, c = double(x, c, width), width
        skips.append(x)
        x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x, c = double(x, 256, 512), 512
    for width in (256, 128, 64, 32):
        w = net.normal(c, width, 2, 2, scale=math.sqrt(1 / c))
        x = net.op(
            "ConvTranspose", x, w, net.normal(width, scale=0.1), kernel_shape=[2, 2], strides=[2, 2]
        )
        x, c = double(net.op("Concat", skips.pop(), x, axis=1), 2 * width, width), width
    net.output(net.conv(x, 32, 1, 1), 4)
    return net.model()


# kernel, expansion, output, squeeze-excite, hard-swish, stride (Howard et al., table 1)
MOBILENET_V3 = (
    (3, 16, 16, 0, 0, 1), (3, 64, 24, 0, 0, 2), (3, 72, 24, 0, 0, 1), (5, 72, 40, 1, 0, 2),
    (5, 120, 40, 1, 0, 1), (5, 120, 40, 1, 0, 1), (3, 240, 80, 0, 1, 2), (3, 200, 80, 0, 1, 1),
    (3, 184, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1), (3, 480, 112, 1, 1, 1), (3, 672, 112, 1, 1, 1),
    (5, 672, 160, 1, 1, 2), (5, 960, 160, 1, 1, 1), (5, 960, 160, 1, 1, 1),
)  # fmt: skip


def mobilenet_v3() -> onnx.ModelProto:
    """The large one, batch norms folded."""
    net = Net("mobilenet_v3")
    x = net.op("HardSwish", net.conv(net.input("x", ["batch", 3, 224, 224]), 3, 16, 3, 2))
    cin = 16
    for k, wide, cout, squeeze, swish, stride in MOBILENET_V3:
        act = "HardSwish" if swish else "Relu"
        y = net.op(act, net.conv(x, cin, wide, 1)) if wide != cin else x
        y = net.conv(y, wide, wide, k, stride, groups=wide)
        if squeeze:
            s = net.op("Relu", net.conv(net.op("GlobalAveragePool", y), wide, wide // 4, 1))
            s = net.op("HardSigmoid", net.conv(s, wide // 4, wide, 1), alpha=1 / 6)
            y = net.op("Mul", y, s)
        y = net.conv(net.op(act, y), wide, cout, 1)
        x, cin = net.op("Add", y, x) if stride == 1 and cin == cout else y, cout
    x = net.op("HardSwish", net.conv(x, 160, 960, 1))
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    x = net.op("HardSwish", net.op("Gemm", x, net.normal(960, 1280, scale=0.04)))
    net.output(
        net.op("Gemm", x, net.normal(1280, 1000, scale=0.03), net.normal(1000, scale=0.1)), 2
    )
    return net.model()


def convnext_tiny() -> onnx.ModelProto:
    """Depths 3-3-9-3; blocks as exporters write them: permute, LayerNormalization, MatMul, GELU."""
    net = Net("convnext_tiny")

    def norm_first(x: str, c: int) -> str:
        x = net.layer_norm(net.op("Transpose", x, perm=[0, 2, 3, 1]), c)
        return net.op("Transpose", x, perm=[0, 3, 1, 2])

    x = net.conv(net.input("x", ["batch", 3, 224, 224]), 3, 96, 4, 4, pad=0)
    x = norm_first(x, 96)
    for stage, (c, depth) in enumerate(((96, 3), (192, 3), (384, 9), (768, 3))):
        if stage:
            x = net.conv(norm_first(x, c // 2), c // 2, c, 2, 2, pad=0)
        for _ in range(depth):
            y = net.op("Transpose", net.conv(x, c, c, 7, groups=c), perm=[0, 2, 3, 1])
            y = net.linear(net.layer_norm(y, c), c, 4 * c)
            y = net.linear(net.gelu(y), 4 * c, c)
            y = net.op("Mul", net.const(np.full(c, 0.1, np.float32)), y)
            x = net.op("Add", x, net.op("Transpose", y, perm=[0, 3, 1, 2]))
    x = net.layer_norm(net.op("Flatten", net.op("GlobalAveragePool", x)), 768)
    net.output(net.op("Gemm", x, net.normal(768, 1000, scale=0.03), net.normal(1000, scale=0.1)), 2)
    return net.model()


def encoder_block(net: Net, x: str, width: int, heads: int, inner: int, mask: str = "") -> str:
    """One post-norm transformer layer as exporters write it."""
    size = width // heads

    def split(value: str, perm: Sequence[int]) -> str:
        value = net.reshape(value, 0, -1, heads, size)
        return net.op("Transpose", value, perm=list(perm))

    q = split(net.linear(x, width, width), (0, 2, 1, 3))
    k = split(net.linear(x, width, width), (0, 2, 3, 1))
    v = split(net.linear(x, width, width), (0, 2, 1, 3))
    scores = net.op("Div", net.op("MatMul", q, k), net.const(np.float32(math.sqrt(size))))
    if mask:
        scores = net.op("Add", scores, mask)
    y = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
    y = net.reshape(net.op("Transpose", y, perm=[0, 2, 1, 3]), 0, -1, width)
    x = net.layer_norm(net.op("Add", net.linear(y, width, width), x), width)
    y = net.linear(net.gelu(net.linear(x, width, inner)), inner, width)
    return net.layer_norm(net.op("Add", y, x), width)


def minilm() -> onnx.ModelProto:
    """Six layers of width 384, 12 heads, embeddings included; free batch and length."""
    net = Net("minilm")
    ids = net.input("input_ids", ["batch", "sequence"], TensorProto.INT64)
    mask = net.input("attention_mask", ["batch", "sequence"], TensorProto.INT64)
    m = net.op("Unsqueeze", mask, net.const(np.array([1, 2], np.int64)))
    m = net.op("Sub", net.const(np.float32(1)), net.op("Cast", m, to=TensorProto.FLOAT))
    m = net.op("Mul", m, net.const(np.float32(-1e9)))
    x = net.op("Gather", net.normal(30522, 384, scale=1.0), ids)
    x = net.layer_norm(x, 384)
    for _ in range(6):
        x = encoder_block(net, x, 384, 12, 1536, m)
    net.output(x, 3)
    return net.model()


def whisper_tiny_encoder() -> onnx.ModelProto:
    """Two 1-d convolutions, then four layers over 1500 frames."""
    net = Net("whisper_tiny_encoder")
    x = net.input("mel", [1, 80, 3000])
    for cin, stride in ((80, 1), (384, 2)):
        w = net.normal(384, cin, 3, scale=math.sqrt(2 / (3 * cin)))
        x = net.op(
            "Conv",
            x,
            w,
            net.normal(384, scale=0.1),
            kernel_shape=[3],
            strides=[stride],
            pads=[1, 1],
        )
        x = net.gelu(x)
    x = net.op("Transpose", x, perm=[0, 2, 1])
    x = net.op("Add", x, net.normal(1500, 384, scale=0.1))
    for _ in range(4):
        x = encoder_block(net, x, 384, 6, 1536)
    net.output(x, 3)
    return net.model()


def yolo_head() -> onnx.ModelProto:
    """Three scales of a 640 x 640 picture, 80 classes, boxes decoded, then NMS."""
    net = Net("yolo_head")
    parts = []
    for cin, size, stride in ((128, 80, 8), (256, 40, 16), (512, 20, 32)):
        x = net.conv(net.input(f"p{stride}", [1, cin, size, size]), cin, 255, 1)
        x = net.op("Transpose", net.reshape(x, 1, 3, 85, size, size), perm=[0, 1, 3, 4, 2])
        x = net.op("Sigmoid", x)
        split = net.const(np.array([2, 2, 81], np.int64))
        xy = net.op("Split", x, split, axis=4, n=3)
        grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).astype(np.float32)
        centre = net.op("Add", net.op("Mul", xy, net.const(np.float32(2))), net.const(grid - 0.5))
        centre = net.op("Mul", centre, net.const(np.float32(stride)))
        wh = net.op("Mul", f"{xy}.1", net.const(np.float32(2)))
        anchor = anchors(net, stride)
        wh = net.op("Mul", net.op("Pow", wh, net.const(np.float32(2))), anchor)
        parts.append(net.reshape(net.op("Concat", centre, wh, f"{xy}.2", axis=4), 1, -1, 85))
    x = net.op("Concat", *parts, axis=1)
    split = net.const(np.array([4, 1, 80], np.int64))
    boxes = net.op("Split", x, split, axis=2, n=3)
    scores = net.op("Transpose", net.op("Mul", f"{boxes}.1", f"{boxes}.2"), perm=[0, 2, 1])
    limits = (np.array([100], np.int64), np.array([0.45], np.float32), np.array([0.6], np.float32))
    picked = net.op(
        "NonMaxSuppression", boxes, scores, *(net.const(v) for v in limits), center_point_box=1
    )
    net.output(x, 3)
    net.output(picked, 2, TensorProto.INT64)
    return net.model()


def anchors(net: Net, stride: int) -> str:
    """Three anchor sizes of a scale, [1, 3, 1, 1, 2] pixels."""
    sizes = np.array([[1.25, 1.6], [2.0, 3.75], [4.1, 2.9]], np.float32) * stride
    return net.const(sizes.reshape(1, 3, 1, 1, 2))


def recurrent(kind: str, directions: int) -> Callable[[], onnx.ModelProto]:
    """Two layers of width 512 over 100 steps of 80 features."""

    def build() -> onnx.ModelProto:
        gates = {"LSTM": 4, "GRU": 3}[kind]
        net = Net(f"{kind.lower()}{directions}")
        x, cin, hidden = net.input("x", [100, 1, 80]), 80, 512
        for _ in range(2):
            d = directions
            args = (
                net.normal(d, gates * hidden, cin, scale=1 / math.sqrt(hidden)),
                net.normal(d, gates * hidden, hidden, scale=1 / math.sqrt(hidden)),
                net.normal(d, 2 * gates * hidden, scale=0.1),
            )
            extra = {"linear_before_reset": 1} if kind == "GRU" else {}
            way = "bidirectional" if d == 2 else "forward"
            y = net.op(kind, x, *args, hidden_size=hidden, direction=way, **extra)
            y = net.op("Transpose", y, perm=[0, 2, 1, 3])
            x, cin = net.reshape(y, 100, 1, d * hidden), d * hidden
        net.output(x, 3)
        return net.model()

    return build


def gemv4(accuracy_level: int) -> Callable[[], onnx.ModelProto]:
    """One row times a 4096 x 4096 matrix of 4-bit weights in blocks of 32 (MatMulNBits)."""

    def build() -> onnx.ModelProto:
        net = Net(f"gemv4_{accuracy_level}")
        n = k = 4096
        packed = net.rng.integers(0, 256, (n, k // 32, 16), dtype=np.uint8)
        scales = (0.002 + 0.001 * net.rng.random(n * k // 32)).astype(np.float32)
        y = net.op(
            "MatMulNBits",
            net.input("x", [1, k]),
            net.const(packed),
            net.const(scales),
            domain="com.microsoft",
            K=k,
            N=n,
            bits=4,
            block_size=32,
            accuracy_level=accuracy_level,
        )
        net.output(y, 2)
        return net.model()

    return build


GRAPHS: dict[str, Callable[[], onnx.ModelProto]] = {
    "tiny_mlp": tiny_mlp,
    "chain100": chain100,
    "elementwise_1m": elementwise_1m,
    "densenet121": densenet121,
    "mobilenet_v3": mobilenet_v3,
    "unet256": unet256,
    "convnext_tiny": convnext_tiny,
    "minilm": minilm,
    "whisper_tiny_encoder": whisper_tiny_encoder,
    "yolo_head": yolo_head,
    "lstm2": recurrent("LSTM", 1),
    "gru2": recurrent("GRU", 1),
    "bilstm2": recurrent("LSTM", 2),
    "gemv4_level0": gemv4(0),
    "gemv4_level4": gemv4(4),
}
