"""Models in float64 on onnx.reference: what exact arithmetic gives, quantised models included.

`evaluator(double(model))` runs a model. Weights, scales and casts become float64 with their float32
values; products of bytes are sums of integers, exact in float64; a quantisation rounds half to
even. Convolutions and products go through BLAS.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

Array = np.ndarray[Any, Any]


def along(v: Array, rank: int, axis: int) -> Array:
    """A vector of one entry per index of the axis, shaped to broadcast; scalars as they are."""
    return v.reshape([-1 if i == axis % rank else 1 for i in range(rank)]) if v.size > 1 else v


def to_bytes(x: Array, scale: Array, zero: Array) -> Array:
    """Round half to even, in float64."""
    info = np.iinfo(zero.dtype)
    y = np.rint(x.astype(np.float64) / scale.astype(np.float64)) + zero.astype(np.float64)
    return np.clip(y, info.min, info.max).astype(zero.dtype)


class QuantizeLinear(OpRun):
    """To 8 or 16 bits."""

    def _run(self, x: Array, scale: Array, zero: Array | None = None, **a: Any) -> tuple[Array]:
        axis = a.get("axis", 1)
        zero = np.zeros_like(scale, np.uint8) if zero is None else zero
        return (to_bytes(x, along(scale, x.ndim, axis), along(zero, x.ndim, axis)),)


class DequantizeLinear(OpRun):
    """To float64: (x - zero) * scale."""

    def _run(self, x: Array, scale: Array, zero: Array | None = None, **a: Any) -> tuple[Array]:
        axis, wide = a.get("axis", 1), x.astype(np.float64)
        if zero is not None:
            wide = wide - along(zero, x.ndim, axis)
        return (wide * along(scale.astype(np.float64), x.ndim, axis),)


class DynamicQuantizeLinear(OpRun):
    """Scale and zero point of the range, 0 included."""

    def _run(self, x: Array) -> tuple[Array, Array, Array]:
        low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
        scale = np.array((high - low) / 255)
        zero = np.array(np.clip(np.rint(-low / scale), 0, 255), np.uint8)
        return to_bytes(x, scale, zero), scale, zero


class MatMulInteger(OpRun):
    """Sums of products of bytes."""

    def _run(
        self, a: Array, b: Array, a_zero: Array | None = None, b_zero: Array | None = None
    ) -> tuple[Array]:
        x, y = a.astype(np.float64), b.astype(np.float64)
        if a_zero is not None:
            x = x - along(a_zero, a.ndim, -2)
        if b_zero is not None:
            y = y - along(b_zero, b.ndim, -1)
        return ((x @ y).astype(np.int32),)


class Conv(OpRun):
    """2-d, over the taps of the window."""

    def _run(self, x: Array, w: Array, b: Array | None = None, **a: Any) -> tuple[Array]:
        group, pads = a.get("group") or 1, a.get("pads") or [0] * 4
        sh, sw = a.get("strides") or [1, 1]
        x = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
        n, channels, height, width = x.shape
        cout, cin, kh, kw = w.shape
        oh, ow = (height - kh) // sh + 1, (width - kw) // sw + 1
        y = np.zeros((n, group, cout // group, oh * ow))
        for i in range(kh):
            for j in range(kw):
                part = x[:, :, i : i + oh * sh : sh, j : j + ow * sw : sw]
                part = part.reshape(n, group, channels // group, oh * ow)
                y += w[:, :, i, j].reshape(group, cout // group, cin) @ part
        y = y.reshape(n, cout, oh, ow)
        return (y if b is None else y + b.reshape(-1, 1, 1),)


def double(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model in float64; weights keep their float32 values exactly."""
    graph = model.graph
    for tensor in graph.initializer:
        _widen(tensor)
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
            if attribute.HasField("t"):
                _widen(attribute.t)
    return model


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        array = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


OPERATORS = [QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, MatMulInteger, Conv]


def evaluator(model: onnx.ModelProto) -> ReferenceEvaluator:
    """onnx.reference with the operators above in place of its own."""
    return ReferenceEvaluator(model, new_ops=OPERATORS)
