"""Errors against float64: each engine's outputs beside the same network computed in double.

    python benchmarks/accuracy.py [-k bert] [--engines macart macart:high onnxruntime openvino:bf16]

The model's float32 weights, constants and casts become float64 and onnx.reference, numpy's
arithmetic, runs it: minutes for a large network, once, then kept beside the model. Printed is the
largest |difference| over the largest |value|, the worst output of each engine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import suite
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from run import difference


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


def reference(row: suite.Row) -> Path:
    """Outputs of feed set 0 in float64."""
    plain = suite.plain_path(row.model)
    path = plain.with_name(f"{plain.stem}-{row.name}-float64.npz")
    if not path.exists():
        feeds = suite.feeds(row, 0)
        wide = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in feeds.items()}
        outputs = ReferenceEvaluator(double(onnx.load(plain))).run(None, wide)
        np.savez(path, *outputs)
    return path


def outputs_of(engine: str, row: suite.Row, folder: str) -> Path:
    """The outputs that an engine gives, from a process of its own."""
    path = Path(folder) / f"{engine.replace(':', '-')}.npz"
    script = str(Path(__file__).with_name("engines.py"))
    command = [sys.executable, script, engine, row.name, "2", str(path)]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return path


def main() -> None:
    """Prints one line per row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-k", nargs="*", default=[""], help="rows whose name contains one of these")
    parser.add_argument("--engines", nargs="+", default=["macart", "onnxruntime"])
    args = parser.parse_args()
    for row in suite.ROWS:
        if row.form != "fp32" or not any(part in row.name for part in args.k):
            continue
        exact = reference(row)
        with tempfile.TemporaryDirectory() as folder:
            errors = {e: difference(outputs_of(e, row, folder), exact) for e in args.engines}
        print(f"{row.name:24}", *(f"{e} {v:.2e}" for e, v in errors.items()), flush=True)


if __name__ == "__main__":
    main()
