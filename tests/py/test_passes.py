"""Passes and fusions fire on real models, and change no result; the command line around them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from real_models import find

import macart as ort
from macart import _core

ROOT = Path(__file__).resolve().parents[2]

# pass or fusion, model, least number of times it fires there
FIRES = [
    ("upgrade", "rapidocr recognition", 30),
    ("noop", "vit_b16", 25),
    ("fold", "gpt2", 1000),
    ("cse", "bert_base", 400),
    ("transpose", "minilm int8 weights", 6),
    ("reshape", "bert_base", 48),
    ("conv_fold", "efficientnet_b0", 49),
    ("hard_swish", "rapidocr detection", 24),
    ("dce", "vit_b16", 60),
    ("conv_epilogue", "resnet50", 49),
    ("layout", "mobilenet_v2", 50),
    ("conv_band", "mobilenet_v2", 17),
    ("attention", "vit_b16", 12),
    ("pointwise", "gpt2", 12),
    ("hard_swish", "rapidocr detection", 24),
    ("normalization", "rapidocr recognition", 5),
    ("matmul_add", "magika", 1),
    ("matmul_epilogue", "bert_base", 73),
    ("matmul_q8", "minilm int8 weights", 36),
    ("dynamic_matmul", "pyfrspell lemma", 4),
]


@pytest.mark.full
@pytest.mark.parametrize(("name", "model", "least"), FIRES)
def test_fires_on_a_real_model(name: str, model: str, least: int) -> None:
    """The rewrite finds what it is for in a network as exporters write it."""
    session = ort.InferenceSession(str(find(model).path()))
    fired = session._sess.fired()
    assert fired.get(name, 0) >= least, fired


@pytest.mark.full
@pytest.mark.parametrize("name", [row[0] for row in FIRES if row[0] != "upgrade"])
def test_result_without_it_is_the_same(name: str) -> None:
    """Leaving one pass out (MRT_PASSES) gives the same outputs within rounding."""
    case = find(next(model for n, model, _ in FIRES if n == name))
    code = (
        "import sys; sys.path[:0] = sys.argv[4:];"
        "import numpy as np, macart as ort; from real_models import find;"
        "c = find(sys.argv[1]); s = ort.InferenceSession(str(c.path()));"
        "np.savez(sys.argv[2], *s.run(None, c.feeds(0, [])));"
        "print(s._sess.fired().get(sys.argv[3], 0))"
    )
    results = []
    for disabled in ("", f"-{name}"):
        path = ROOT / "build" / f"passes-{os.getpid()}-{name}.npz"
        command = [
            sys.executable,
            "-c",
            code,
            case.name,
            str(path),
            name,
            str(ROOT / "tests" / "py"),
        ]
        env = {**os.environ, "MRT_PASSES": disabled}
        done = subprocess.run(command, check=True, env=env, capture_output=True, text=True)
        assert (int(done.stdout) == 0) == bool(disabled)
        with np.load(path) as data:
            results.append([data[key] for key in data.files])
        path.unlink()
    for a, b in zip(*results, strict=True):
        if a.dtype.kind == "f":
            scale = np.abs(b).max(initial=0.0) or 1.0
            assert np.abs(a - b).max(initial=0.0) <= case.bound * scale
        else:
            np.testing.assert_array_equal(a, b)


TEXT = """model opset 21
graph main(%x: float[N, 4]) {
  %a: float[N, 4] = Relu(%x)
  %b: float[N, 4] = Relu(%x)
  %y: float[N, 4] = Add(%a, %b)
  return %y
}
"""


@pytest.mark.quick
def test_one_pass_on_text() -> None:
    """A pass runs alone on a graph in text form."""
    text, fired = _core.run_passes(TEXT, "cse", -1)
    assert fired == 1
    assert "Add(%a, %a)" in text and "%b" not in text
    with pytest.raises(ort.InvalidArgument, match="there is no pass 'nope'"):
        _core.run_passes(TEXT, "nope", -1)
    with pytest.raises(ort.InvalidArgument, match="line 2: expected"):
        _core.run_passes("model opset 21\nnope", "", -1)


def cli(*args: str) -> subprocess.CompletedProcess[str]:
    """python -m macart ARGS."""
    command = [sys.executable, "-m", "macart", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.full
def test_command_line(tmp_path: Path) -> None:
    """info, opt, run, run --print-ir and compare do what their help says."""
    assert "CPUExecutionProvider" in cli("info").stdout
    source = tmp_path / "g.ir"
    source.write_text(TEXT)
    done = cli("opt", str(source), "--passes", "cse")
    assert "Add(%a, %a)" in done.stdout and "fired 1" in done.stderr
    model = str(find("lstm 2x512").path())
    sizes = ["--size", "batch=2", "time=5"]
    done = cli("run", model, *sizes, "--trace", str(tmp_path / "t"))
    assert "[2, 5, 29]" in done.stdout, done.stderr
    assert list(tmp_path.glob("t_*.json"))
    assert "LSTM" in cli("run", model, "--print-ir").stdout
    done = cli("compare", model, *sizes)
    assert done.returncode == 0, done.stdout + done.stderr
