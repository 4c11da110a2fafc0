"""The ONNX backend data, one expected outcome per case in tests/golden/onnx/<set>.txt.

A test fails when an outcome differs from its line, for the worse or for the better, and when a
case appears or disappears; UPDATE_REFS=1 rewrites the file, and the diff is reviewed with the
change that caused it. `python tests/py/onnx_suite.py --help` is the same as a tool. Every operator
that ops/registry lists is found here.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import engine
from compare import difference
from onnx_cases import find_cases
from onnx_suite import Result, run_cases

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "onnx"


def read_golden(path: Path) -> dict[str, str]:
    """Lines of `name outcome`; # starts a comment."""
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))


def write_golden(path: Path, results: dict[str, Result]) -> None:
    """All outcomes, sorted by name, with the sum on top."""
    passed = sum(result.outcome == "pass" for result in results.values())
    lines = [f"# {passed} of {len(results)} pass. UPDATE_REFS=1 rewrites this file."]
    lines += [f"{name} {results[name].outcome}" for name in sorted(results)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def check_outcomes(set_name: str) -> None:
    """Runs a set and compares its outcomes with the file."""
    results = run_cases(find_cases(set_name), engine.module_name())
    path = GOLDEN / f"{set_name}.txt"
    if os.environ.get("UPDATE_REFS") == "1":
        write_golden(path, results)
    want = read_golden(path)
    changed = [
        f"{name}: want {want.get(name, 'no line')}, got {result.outcome} {result.message[:300]}"
        for name, result in results.items()
        if want.get(name) != result.outcome
    ]
    changed += [f"{name}: no such case any more" for name in want if name not in results]
    assert not changed, f"{len(changed)} outcomes changed:\n" + "\n".join(changed[:50])


@pytest.mark.quick
@pytest.mark.parametrize("set_name", ["node", "simple", "pytorch-operator", "pytorch-converted"])
def test_outcomes(set_name: str) -> None:
    """Small models: every case has the outcome that its line promises."""
    check_outcomes(set_name)


@pytest.mark.full
def test_light_outcomes() -> None:
    """Nine classic CNNs against stored outputs."""
    check_outcomes("light")


@pytest.mark.quick
def test_comparison_can_fail() -> None:
    """The comparison behind the outcomes sees each kind of difference."""
    import ml_dtypes
    import numpy as np

    def floats(*numbers: float) -> np.ndarray:
        return np.array(numbers, np.float32)

    one = floats(1.0, np.nan, np.inf)
    assert difference([one], [one.copy()], 1e-3, 1e-5) is None
    cases = [
        (one[:2], one, "shape"),
        (one.astype(np.float64), one, "dtype"),
        (floats(1.0, 0.0, np.inf), one, "value"),
        (floats(1.0, np.nan, -np.inf), one, "value"),
        (floats(1.01, np.nan, np.inf), one, "value"),
        ([one], one, "type"),
        (None, one, "type"),
        (np.array(["a"], object), np.array(["b"], object), "value"),
        (np.array([1], ml_dtypes.bfloat16), np.array([2], ml_dtypes.bfloat16), "value"),
        (np.array([1], ml_dtypes.int4), np.array([2], ml_dtypes.int4), "value"),
        (np.array([True]), np.array([False]), "value"),
    ]
    for got, want, kind in cases:
        problem = difference([got], [want], 1e-3, 1e-5)
        assert problem is not None and problem.startswith(kind), (got, want, problem)


@pytest.mark.quick
def test_driver_survives_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case that kills its process costs that case only; exceptions become outcomes."""
    (tmp_path / "falling_engine.py").write_text(FALLING_ENGINE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    names = ("test_abs", "test_relu", "test_sigmoid", "test_tanh", "test_neg", "test_exp")
    cases = [case for case in find_cases("node") if case.name in names]
    results = run_cases(cases, "falling_engine", jobs=1)
    assert {name: result.outcome for name, result in results.items()} == {
        "test_abs": "crash",
        "test_exp": "load-error:NOT_IMPLEMENTED",
        "test_neg": "run-error:ValueError",
        "test_relu": "mismatch:shape",
        "test_sigmoid": "crash",
        "test_tanh": "mismatch:value",
    }
    assert "last words" in results["test_abs"].message


FALLING_ENGINE = """
import os, sys
import numpy as np
from types import SimpleNamespace

GraphOptimizationLevel = SimpleNamespace(ORT_ENABLE_ALL=99, ORT_DISABLE_ALL=0)
SessionOptions = SimpleNamespace

class InferenceSession:
    def __init__(self, path, options, providers):
        self.path = path
        if "test_abs" in path:
            print("last words", file=sys.stderr, flush=True)
            os.abort()
        if "test_exp" in path:
            raise Exception("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : no Exp")

    def run(self, names, feeds):
        if "test_sigmoid" in self.path:
            os._exit(0)
        if "test_neg" in self.path:
            raise ValueError("no")
        if "test_relu" in self.path:
            return [np.zeros(1, np.float32)]
        return [np.zeros_like(value) for value in feeds.values()]
"""
