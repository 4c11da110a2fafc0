"""Models in QDQ form run on integer kernels and agree with onnxruntime.

What runs: the fusions (qdq_fuse, qdq_bias, qdq, nhwc_fuse), the nodes (qconv_node, qmatmul_node,
qbinary_node,
quantize_node), their loops (qconv, bytes, quantize, qgemm_avx512vnni, qgemm_avx2, qgemm_scalar,
qbytes_avx512vnni, qbytes_avx2, qbytes_scalar, qgemm_amx, qpool_node, qdirect, qdepth,
qdepth_avx512vnni, qplanes, qplanes_avx512vnni, qplanes_avx2, qband, qband_fuse, qband_node,
fused_qband, qwide, qwide_avx512vnni, qfold, qfold_avx512vnni, quantize_last_node,
quantize_last_avx512vnni).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
import qdq_models

import engine
from macart import _core

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
import exact  # noqa: E402

pytestmark = pytest.mark.quick
MODELS = [qdq_models.resnet_like, qdq_models.mobilenet_like, qdq_models.attention_like]
EACH = pytest.mark.parametrize("make", MODELS, ids=lambda f: f.__name__)
TYPES = pytest.mark.parametrize("activations", [np.uint8, np.int8], ids=lambda t: t.__name__)


def feed(model: bytes) -> dict[str, np.ndarray]:
    """Normal numbers for the only input."""
    dims = onnx.load_from_string(model).graph.input[0].type.tensor_type.shape.dim
    shape = [d.dim_value for d in dims]
    return {"x": np.random.default_rng(5).standard_normal(shape).astype(np.float32)}


def run(module: str | None, model: bytes, optimize: bool = True, threads: int = 1) -> np.ndarray:
    """The only output."""
    session = engine.make_session(engine.load_engine(module), model, optimize, threads)
    return session.run(None, feed(model))[0]


@EACH
@TYPES
def test_agrees_with_onnxruntime(make: Callable[[type], bytes], activations: type) -> None:
    """Fused and plain, within one step of the last scale in nearly all places."""
    model = make(activations)
    want = run("onnxruntime", model)
    for optimize in (True, False):
        got = run(None, model, optimize)
        error = np.abs(got - want) / max(np.abs(want).max(), 1e-9)
        assert np.quantile(error, 0.98) < 0.02 and error.max() < 0.06, (optimize, error.max())


def operator_by_operator(model: bytes) -> list[tuple[np.ndarray, np.ndarray]]:
    """(ours, exact) of every quantisation; the exact ones are made of what ours gave before it."""
    graph = onnx.load_from_string(model)
    quantised = [n.output[0] for n in graph.graph.node if n.op_type == "QuantizeLinear"]
    for name in quantised:
        graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    feeds = feed(model)
    session = engine.make_session(engine.load_engine(None), graph.SerializeToString(), True, 1)
    ours = dict(zip(quantised, session.run(quantised, feeds), strict=True))
    del graph.graph.output[:]
    for node in graph.graph.node:
        for i, name in enumerate(node.input):
            if name in ours:
                node.input[i] = f"{name} given"
    for name, value in ours.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        info = onnx.helper.make_tensor_value_info
        graph.graph.input.append(info(f"{name} given", kind, value.shape))
        graph.graph.output.append(info(name, kind, value.shape))
        feeds[f"{name} given"] = value
    wide = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in feeds.items()}
    want = exact.evaluator(exact.double(graph)).run(None, wide)
    return [(ours[name], w) for name, w in zip(quantised, want, strict=True)]


@EACH
@TYPES
def test_every_operator_within_one_step_of_exact(
    make: Callable[[type], bytes], activations: type
) -> None:
    """float64 scales and exact integers: another neighbour only where float32 ties differ."""
    pairs = operator_by_operator(make(activations))
    assert len(pairs) > 8
    for ours, want in pairs:
        steps = np.abs(ours.astype(np.int32) - want.astype(np.int32))
        assert steps.max() <= 1 and np.mean(steps > 0) <= 2e-3, (steps.max(), np.mean(steps > 0))


@EACH
@TYPES
def test_the_same_bits_with_two_threads(make: Callable[[type], bytes], activations: type) -> None:
    """Work is cut by shape."""
    model = make(activations)
    np.testing.assert_array_equal(run(None, model, True, 1), run(None, model, True, 2))


@EACH
@TYPES
def test_runs_on_integer_kernels(
    make: Callable[[type], bytes], activations: type, tmp_path: Path
) -> None:
    """Nothing is computed in float: what is left of float nodes is at the ends."""
    model = make(activations)
    ops = operators_of(engine.load_engine(), model, tmp_path)
    assert ops
    for op in ("Conv", "MatMul", "Gemm", "Add", "Mul", "Relu", "Clip", "Sigmoid", "Softmax"):
        assert op not in ops, ops
    assert ops.count("QuantizeLinear") <= 2, ops


@EACH
@TYPES
def test_taken_apart_again(make: Callable[[type], bytes], activations: type) -> None:
    """Fused operators with bounds equal the operator and Clip, bit for bit."""
    model = make(activations)
    module = engine.load_engine()
    options = module.SessionOptions()
    options.add_session_config_entry("session.macart.decompose", "1")
    apart = module.InferenceSession(model, options).run(None, feed(model))[0]
    np.testing.assert_array_equal(apart, run(None, model))


@TYPES
def test_sums_are_the_last_step_of_convolutions(activations: type, tmp_path: Path) -> None:
    """add_fuse: QLinearConvAdd; the numbers are those of the two operators (taken apart above)."""
    model = qdq_models.resnet_like(activations)
    ops = operators_of(engine.load_engine(), model, tmp_path)
    assert ops.count("QLinearConvAdd") == 2 and "QLinearAdd" not in ops, ops


@TYPES
def test_sums_have_the_bits_of_two_operators(activations: type) -> None:
    """QLinearConvAdd taken apart, with scales whose ratios are thirds: sums stand between numbers,
    and the order of multiplications decides."""
    b = qdq_models.Builder(activations)
    x = b.quantised("x", -3, 3)
    y = b.quantised(b.plain_conv(x, 16, 16, 1), -4, 4)
    model = b.model((1, 16, 64, 64), b.quantised(b.node("Add", [y, x]), -6, 6))
    module = engine.load_engine()
    options = module.SessionOptions()
    options.add_session_config_entry("session.macart.decompose", "1")
    apart = module.InferenceSession(model, options).run(None, feed(model))[0]
    np.testing.assert_array_equal(apart, run(None, model))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@TYPES
def test_images_enter_and_leave(activations: type, channels: int, tmp_path: Path) -> None:
    """Few channels are quantised and turned to NHWC at once; a mean over pixels stays integer."""
    b = qdq_models.Builder(activations, seed=channels)
    y = b.conv(b.quantised("x", -3, 3), channels, 40, 3, act="Relu")
    mean = b.node("ReduceMean", [y], axes=[-1, 2], keepdims=1)
    flat = b.node("Reshape", [mean, b.constant(np.array([2, -1]))])
    model = b.model((2, channels, 9, 13), b.quantised(flat, 0, 1))
    module = engine.load_engine()
    ops = operators_of(module, model, tmp_path)
    assert ("QuantizeToLast" in ops) == (channels <= 4), ops
    assert "QLinearGlobalAveragePool" in ops and "ReduceMean" not in ops, ops
    options = module.SessionOptions()
    options.add_session_config_entry("session.macart.decompose", "1")
    apart = module.InferenceSession(model, options)
    feeds = feed(model)
    want = run("onnxruntime", model)
    assert np.abs(run(None, model) - want).max() < 1.01 / 255
    np.testing.assert_array_equal(run(None, model), apart.run(None, feeds)[0])
    feeds["x"][1, channels - 1, 3, :5] = [np.nan, np.inf, -np.inf, 3e38, 1e-42]
    both = [s.run(None, feeds)[0] for s in (module.InferenceSession(model), apart)]
    np.testing.assert_array_equal(*both)


SIZES = ((1, 16, 37), (3, 20, 17), (4, 33, 26), (24, 70, 9), (48, 33, 30), (72, 72, 7),
         (128, 40, 9), (130, 64, 5))  # fmt: skip


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("group", ["dense", "depthwise"])
@TYPES
def test_convolutions_of_many_shapes(
    activations: type, group: str, kernel: int, stride: int
) -> None:
    """Odd channels, sizes and tails of qdirect, qfold, qdepth, qplanes, with Relu6: float64."""
    for cin, cout, size in SIZES:
        b = qdq_models.Builder(activations, seed=cin)
        x = b.quantised("x", -3, 3)
        wide, groups = (cin, cin) if group == "depthwise" else (cout, 1)
        y = b.conv(x, cin, wide, kernel, group=groups, stride=stride, act="Relu6")
        model = b.model((2, cin, size, size + 4), y)
        for ours, want in operator_by_operator(model):
            steps = np.abs(ours.astype(np.int32) - want.astype(np.int32))
            assert steps.max() <= 1 and np.mean(steps > 0) <= 2e-3, (cin, cout, steps.max())


@pytest.mark.parametrize("unit", [0.37, 1])
@TYPES
def test_bias_in_units_of_its_own(activations: type, unit: float, tmp_path: Path) -> None:
    """qdq_bias: a bias whose scale is not that of the sums is rounded to theirs: float64."""
    b = qdq_models.Builder(activations)
    x = b.quantised("x", -3, 3)
    model = b.model((1, 24, 9, 9), b.activated(b.plain_conv(x, 24, 40, 3, unit=unit), "Relu"))
    assert "Conv" not in operators_of(engine.load_engine(), model, tmp_path)
    for ours, want in operator_by_operator(model):
        steps = np.abs(ours.astype(np.int32) - want.astype(np.int32))
        assert steps.max() <= 1 and np.mean(steps > 0) <= 2e-3, (steps.max(), np.mean(steps > 0))


def test_a_quantised_bias_of_a_float_convolution() -> None:
    """What no fusion took becomes a float constant after all."""
    b = qdq_models.Builder(np.uint8)
    model = b.model((1, 24, 9, 9), b.plain_conv(b.quantised("x", -3, 3), 24, 40, 3))
    want = run("onnxruntime", model)
    np.testing.assert_allclose(run(None, model), want, rtol=1e-4, atol=1e-5)


def computes_bands(activations: type) -> bool:
    """Depthwise loops of planes, tiles that read signed bytes."""
    names = _core.info()["isa_names"]
    return "amx" in names or (activations is np.uint8 and "avx2" in names)


def band_model(
    activations: type, narrow: int, wide: int, size: int, stride: int, first: bool
) -> bytes:
    """Two inverted residuals; the second one has a sum behind it. Without `first`: no expansion."""
    b = qdq_models.Builder(activations, seed=wide)
    x = b.quantised("x", -3, 3)
    if not first:
        x = b.conv(x, narrow, wide, 3, act="Relu6")  # no part of a band
    for k, s in enumerate((stride, 1)):
        act = ("Relu6", "Relu")[k]  # bounds and a zero point in the middle, or neither
        y = b.conv(x, narrow, wide, 1, act=act) if first or k else x
        y = b.conv(y, wide, wide, 3, group=wide, stride=s, act=act)
        y = b.conv(y, wide, narrow, 1)
        x = b.quantised(b.node("Add", [x, y]), -5, 5) if k else y
    return b.model((2, narrow, size, size + 3), x)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("first", [True, False], ids=["expand", "depthwise"])
@TYPES
def test_inverted_residuals_in_one_pass(
    activations: type, first: bool, stride: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bits of the convolutions one by one: slices of 64 channels or all of them, bands with few
    rows in a ring, short sums in pairs of rows, small images cut by channels, rests of tiles,
    half a block of weights behind whole ones."""
    module = engine.load_engine()
    for narrow, wide, size in (
        (16, 64, 5),
        (24, 144, 33),
        (20, 192, 19),
        (40, 320, 7),
        (8, 96, 58),
        (16, 48, 20),
        (32, 80, 21),
        (96, 256, 15),
        (160, 128, 7),
        (96, 144, 9),
    ):
        model = band_model(activations, narrow, wide, size, stride, first)
        ops = operators_of(module, model, tmp_path)
        assert ops.count("QLinearBand") == (2 if computes_bands(activations) else 0), ops
        got = [run(None, model, True, threads) for threads in (1, 2)]
        monkeypatch.setenv("MRT_PASSES", "-qlinear_band")
        assert "QLinearBand" not in operators_of(module, model, tmp_path)
        want = run(None, model)
        monkeypatch.delenv("MRT_PASSES")
        assert len(np.unique(want)) > 50, (narrow, wide)
        np.testing.assert_array_equal(got[0], want, str((narrow, wide, size)))
        np.testing.assert_array_equal(got[1], want, str((narrow, wide, size)))


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
def test_windows_in_front_of_bands(
    dynamic: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first convolution of few channels in one pass with what is behind it: the bits of the
    convolutions one by one, also from a saved model, which holds them apart."""
    module = engine.load_engine()
    names = _core.info()["isa_names"]
    for k, (cin, wide, kernel, stride, second, size) in enumerate(
        (
            (3, 32, 3, 2, 1, 45),
            (3, 48, 3, 1, 2, 20),
            (1, 64, 5, 2, 2, 63),
            (2, 80, 3, 2, 1, 7),
            (1, 16, 3, 1, 1, 130),
            (3, 96, 3, 2, 1, 3),
        )
    ):
        b = qdq_models.Builder(np.uint8, seed=k)
        act = ("Relu6", "Relu")[k % 2]
        y = b.conv(b.quantised("x", -3, 3), cin, wide, kernel, stride=stride, act=act)
        y = b.conv(y, wide, wide, 3, group=wide, stride=second, act=act)
        y = b.conv(y, wide, 24, 1)
        shape = ("n", cin, "h", "w") if dynamic else (2, cin, size, size + 5)
        model = b.model(shape, y)
        x = {"x": np.random.default_rng(k).normal(0, 1, (2, cin, size, size + 5))}
        x = {"x": x["x"].astype(np.float32)}
        got = []
        for threads in (1, 2):
            options = module.SessionOptions()
            options.intra_op_num_threads = threads
            options.optimized_model_filepath = str(tmp_path / "saved.onnx")
            got.append(module.InferenceSession(model, options).run(None, x)[0])
        got.append(module.InferenceSession(tmp_path / "saved.onnx").run(None, x)[0])
        if not dynamic and "avx512vnni" in names:
            ops = operators_of(module, model, tmp_path)
            assert "QLinearBand" in ops and "QLinearConv" not in ops, ops
        monkeypatch.setenv("MRT_PASSES", "-qlinear_band")
        want = module.InferenceSession(model).run(None, x)[0]
        monkeypatch.delenv("MRT_PASSES")
        assert len(np.unique(want)) > 20, (cin, wide)
        for ours in got:
            np.testing.assert_array_equal(ours, want, str((cin, wide, kernel, size)))


@pytest.mark.parametrize("isa", ["avx512vnni", "avx2", "scalar"])
def test_other_instruction_sets(isa: str) -> None:
    """These tests and those of the operators, on what lesser machines have."""
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-k", "not instruction_sets"]
    command += [str(here / "test_qdq.py"), str(here / "test_ops_quant.py")]
    environment = {**os.environ, "MRT_CPU_ISA": isa}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
def test_dynamic_products(shared: bool, bias: bool, tmp_path: Path) -> None:
    """One operator instead of five; as onnxruntime, and as without optimization."""
    model = qdq_models.dynamic_like(shared, bias)
    want = run("onnxruntime", model)
    for optimize in (True, False):
        np.testing.assert_allclose(run(None, model, optimize), want, rtol=1e-4, atol=2e-4)
    module = engine.load_engine()
    ops = operators_of(module, model, tmp_path)
    assert ops.count("MatMulIntegerToFloat" if shared else "DynamicQuantizeMatMul") == (
        4 if shared else 2
    ), ops
    assert "MatMulInteger" not in ops and "Cast" not in ops, ops


def operators_of(module: ModuleType, model: bytes, folder: Path) -> list[str]:
    """The operator of every node that a run executes."""
    options = module.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "p")
    session = module.InferenceSession(model, options)
    session.run(None, feed(model))
    events = json.loads(Path(session.end_profiling()).read_text())
    return [e["args"].get("op_name", "") for e in events if e.get("cat") == "Node"]


@pytest.mark.parametrize("rows", [1, 5, 70])
@pytest.mark.parametrize("form", ["scalar", "row", "vector", "dequantize"])
def test_weights_stay_int8(form: str, rows: int, tmp_path: Path) -> None:
    """No widened copy of the weights is kept, and the product is that of the wide weights."""
    model = qdq_models.weight_only(form, rows)
    want = run("onnxruntime", model, False)  # its optimizer quantises activations here
    for optimize in (True, False):
        np.testing.assert_allclose(run(None, model, optimize), want, rtol=1e-4, atol=1e-4)
    ops = operators_of(engine.load_engine(), model, tmp_path)
    assert ops.count("MatMulQ8") == 2 and "MatMul" not in ops and "Mul" not in ops, ops
