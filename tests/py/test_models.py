"""Real models against onnxruntime, optimized and not, run by run, within each model's bound.

`python tests/py/model_table.py` prints the same numbers as a table.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from compare import relative_error
from model_check import check_model
from real_models import CASES, ModelCase, find, refill

import engine

EVERY = [
    pytest.param(case, id=case.name.replace(" ", "-"), marks=pytest.mark.quick if case.quick else
                 pytest.mark.full)
    for case in CASES
]  # fmt: skip


@pytest.mark.parametrize("optimize", [True, False], ids=["optimized", "plain"])
@pytest.mark.parametrize("case", EVERY)
def test_model_matches_reference(case: ModelCase, optimize: bool) -> None:
    """Every output of every run is within the bound; classes of quantised models are equal."""
    check = check_model(case, optimize)
    assert check.worst() <= case.bound, f"{case.name}: {check.errors}"
    assert check.other_argmax == 0, f"{case.name}: {check.other_argmax} rows with another argmax"


@pytest.mark.quick
@pytest.mark.parametrize("optimize", [True, False], ids=["optimized", "plain"])
@pytest.mark.parametrize("name", ["pyfrspell derive", "pyfrspell lemma"])
def test_integer_products_are_exact(name: str, optimize: bool) -> None:
    """Each dynamically quantised product equals exact integer arithmetic on its own input.

    The input and the scaled product of every MatMulInteger become outputs of the model, so the
    check does not depend on how the layers before rounded.
    """
    case = find(name)
    model = onnx.load(case.path())
    products = quantized_products(model)
    assert products
    for source, _, product in products:
        for value in (source, product):
            if value not in {output.name for output in model.graph.output}:
                model.graph.output.append(onnx.ValueInfoProto(name=value))
    session = engine.make_session(engine.load_engine(), model.SerializeToString(), optimize)
    names = [output.name for output in session.get_outputs()]
    for run in range(case.runs):
        values = dict(zip(names, session.run(None, case.feeds(run, [])), strict=True))
        for source, weight, product in products:
            want = exact_product(values[source], *weight)
            assert relative_error(values[product], want) < 1e-6, product


Weight = tuple[np.ndarray, np.ndarray, np.ndarray]


def quantized_products(model: onnx.ModelProto) -> list[tuple[str, Weight, str]]:
    """For each MatMulInteger: what is quantised, (weight, scale, zero point), scaled result."""
    makers = {output: node for node in model.graph.node for output in node.output}
    users = {value: node for node in model.graph.node for value in node.input}
    numbers = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type == "MatMulInteger":
            scaled = users[users[node.output[0]].output[0]]
            scales = makers[next(v for v in scaled.input if makers[v].op_type == "Mul")]
            scale = next(numbers[v] for v in scales.input if v in numbers)
            weight = (numbers[node.input[1]], scale, numbers[node.input[3]])
            found.append((makers[node.input[0]].input[0], weight, scaled.output[0]))
    return found


def exact_product(x: np.ndarray, w: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """DynamicQuantizeLinear as ONNX defines it, then an integer product, then both scales."""
    low, high = min(np.float32(0), x.min()), max(np.float32(0), x.max())
    step = np.float32((high - low) / np.float32(255))
    x_zero = np.clip(np.rint(np.float32(0) - low / step), 0, 255)
    x_int = np.clip(np.rint(x / step) + x_zero, 0, 255).astype(np.int64) - np.int64(x_zero)
    return (x_int @ (w.astype(np.int64) - zero)) * (np.float64(step) * scale)


@pytest.mark.full
@pytest.mark.parametrize("name", refill.names())
def test_refilled_network_is_sound(name: str) -> None:
    """Every weight is there and finite, and a checker of ONNX has nothing to say."""
    path = refill.model_path(name)
    onnx.checker.check_model(str(path))
    for tensor in onnx.load(path).graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            assert np.isfinite(values).all(), tensor.name


@pytest.mark.quick
def test_refill_makes_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the same file, and for one tensor the bits of the day it was written."""
    first = refill.model_path("lstm").read_bytes()
    monkeypatch.setenv("MACART_MODEL_CACHE", str(tmp_path))
    assert refill.model_path("lstm").read_bytes() == first
    assert len(os.listdir(tmp_path)) == 1
    plain = np.frombuffer(refill.weights("a", [2, 3], [0.5, 2.0, -1.0, 3.0]), "<f4")
    centred = np.frombuffer(refill.weights("a", [2, 3], [0.0, 1.0, -9.0, 9.0, 1.0]), "<f4")
    assert plain.min() >= -1.0 and plain.max() <= 3.0
    assert np.abs(centred.reshape(2, 3).sum(axis=1)).max() < 1e-6
    assert plain.view(np.uint32).tolist() == PLAIN_BITS


PLAIN_BITS = [1070689459, 1076673857, 1065287320, 3212836864, 3212836864, 3206341050]
