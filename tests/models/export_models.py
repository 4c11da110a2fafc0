"""Exports the networks of networks.py and commits them without their weights.

    python tests/models/export_models.py [NAME ...]        (torch 2.13, transformers, onnxscript)

NAME.onnx.gz is the model as torch.onnx.export writes it, with the data of large float
initializers cut out (name, type and dims stay); NAME.json has the mean, deviation and range of
each (and a 1 where every filter sums to 0), from which refill.py makes new data. Nothing else is
changed, but for doc strings and exporter metadata, which name files of the exporting machine.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from networks import NETWORKS, Export
from onnx import numpy_helper

HERE = Path(__file__).resolve().parent
KEPT_BYTES = 1024
SEED = 20240601


def export(spec: Export, path: Path) -> None:
    """Writes the model with its weights."""
    options: dict[str, object] = {"opset_version": 18, "dynamo": False, **spec.options}
    if options["dynamo"]:
        names = zip(spec.inputs, spec.feeds, strict=True)
        options["dynamic_shapes"] = tuple(
            {axis: torch.export.Dim(label) for axis, label in spec.dynamic.get(name, {}).items()}
            for name, _ in names
        )
        options["external_data"] = False
    else:
        options["dynamic_axes"] = spec.dynamic
    torch.onnx.export(
        spec.module,
        spec.feeds,
        str(path),
        input_names=spec.inputs,
        output_names=spec.outputs,
        **options,
    )


def strip(model: onnx.ModelProto) -> dict[str, list[float]]:
    """Cuts the data out of large float initializers; returns what the table says of each."""
    table: dict[str, list[float]] = {}
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.nbytes <= KEPT_BYTES:
            continue
        wide = values.astype(np.float64)
        numbers = (wide.mean(), wide.std(), wide.min(), wide.max())
        row = [float(f"{number:.5g}") for number in numbers]
        table[tensor.name] = row + ([1.0] if centred(wide) else [])
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
    return table


def centred(values: np.ndarray) -> bool:
    """True for convolution weights whose filters all sum to 0."""
    if values.ndim != 4:
        return False
    means = values.reshape(values.shape[0], -1).mean(axis=1)
    return bool(np.abs(means).max() < 1e-4 * values.std())


def forget_origin(model: onnx.ModelProto) -> None:
    """Removes doc strings and metadata, subgraphs and functions included."""
    model.ClearField("doc_string")
    del model.metadata_props[:]
    todo = [model.graph, *model.functions]
    while todo:
        holder = todo.pop()
        parts = [holder, *holder.node, *holder.value_info]
        if isinstance(holder, onnx.GraphProto):
            parts += [*holder.initializer, *holder.input, *holder.output]
        for part in parts:
            part.ClearField("doc_string")
            del part.metadata_props[:]
        for node in holder.node:
            for attribute in node.attribute:
                todo.extend([attribute.g] if attribute.HasField("g") else attribute.graphs)


def write(name: str, model: onnx.ModelProto, table: dict[str, list[float]]) -> None:
    """Both files, the same bytes for the same model."""
    data = model.SerializeToString(deterministic=True)
    (HERE / f"{name}.onnx.gz").write_bytes(gzip.compress(data, 9, mtime=0))
    rows = ",\n".join(f"{json.dumps(key)}: {json.dumps(row)}" for key, row in table.items())
    (HERE / f"{name}.json").write_text("{\n" + rows + "\n}\n")


def main(names: list[str]) -> None:
    """Exports the named networks, or all."""
    warnings.filterwarnings("ignore")
    for name in names or NETWORKS:
        torch.manual_seed(SEED)
        spec = NETWORKS[name]()
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            path = Path(folder) / "model.onnx"
            export(spec, path)
            model = onnx.load(path)
        table = strip(model)
        forget_origin(model)
        write(name, model, table)
        size = (HERE / f"{name}.onnx.gz").stat().st_size // 1024
        print(f"{name}: {len(model.graph.node)} nodes, {len(table)} weights, {size} KB")


if __name__ == "__main__":
    main(sys.argv[1:])
