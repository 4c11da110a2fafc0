"""The ONNX backend test data that the PyPI package `onnx` carries, as a list of cases.

A case is a model file with feeds and expected outputs. Five sets: node, simple,
pytorch-converted and pytorch-operator are folders with model.onnx and test_data_set_0; light
has nine CNNs whose weights are ConstantOfShape nodes, fed with a ramp as in ONNX's own runner.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

SETS = ("node", "light", "simple", "pytorch-converted", "pytorch-operator")


@dataclass(frozen=True)
class Case:
    """One model of one set."""

    set_name: str
    name: str
    model: Path


def data_folder() -> Path:
    """backend/test/data of the installed onnx package."""
    spec = importlib.util.find_spec("onnx")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package onnx is not installed")
    return Path(spec.origin).parent / "backend" / "test" / "data"


def find_cases(set_name: str) -> list[Case]:
    """All cases of a set, sorted by name."""
    folder = data_folder() / set_name
    if set_name == "light":
        return [Case(set_name, path.stem, path) for path in sorted(folder.glob("*.onnx"))]
    models = sorted(folder.glob("*/model.onnx"))
    return [Case(set_name, path.parent.name, path) for path in models]


def load_values(case: Case) -> tuple[dict[str, Any], list[Any]]:
    """Feeds by input name and expected outputs in graph order."""
    graph = onnx.load(case.model, load_external_data=False).graph
    if case.set_name == "light":
        return _light_values(case, graph)
    folder = case.model.parent / "test_data_set_0"
    feeds = {
        info.name: value
        for info, value in _read_all(folder, "input", list(graph.input))
        if value is not None
    }
    return feeds, [value for _, value in _read_all(folder, "output", list(graph.output))]


def _light_values(case: Case, graph: onnx.GraphProto) -> tuple[dict[str, Any], list[Any]]:
    constants = {tensor.name for tensor in graph.initializer}
    feeds = {}
    for info in graph.input:
        if info.name in constants:
            continue
        dims = info.type.tensor_type.shape.dim
        shape = [dim.dim_value if dim.HasField("dim_value") else 1 for dim in dims]
        size = int(np.prod(shape))
        feeds[info.name] = (np.arange(size).reshape(shape) / size).astype(np.float32)
    outputs = []
    for i, info in enumerate(graph.output):
        path = case.model.with_name(f"{case.name}_output_{i}.pb")
        outputs.append(_parse(path.read_bytes(), info.type))
    return feeds, outputs


def _read_all(
    folder: Path, prefix: str, infos: list[onnx.ValueInfoProto]
) -> Iterator[tuple[onnx.ValueInfoProto, Any]]:
    for i, info in enumerate(infos):
        path = folder / f"{prefix}_{i}.pb"
        if path.exists():
            yield info, _parse(path.read_bytes(), info.type)


def _parse(data: bytes, kind: onnx.TypeProto) -> Any:
    """A value file holds the message of the graph's own type; optional ones may hold the inner."""
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind.HasField("map_type"):
        return numpy_helper.to_dict(onnx.MapProto.FromString(data))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def operators(case: Case) -> set[str]:
    """Operator types that a model names, subgraphs and functions included."""
    model = onnx.load(case.model, load_external_data=False)
    found: set[str] = set()
    todo: list[Any] = [model.graph, *model.functions]
    while todo:
        for node in todo.pop().node:
            found.add(node.op_type)
            for attribute in node.attribute:
                todo.extend([attribute.g] if attribute.HasField("g") else attribute.graphs)
    return found
