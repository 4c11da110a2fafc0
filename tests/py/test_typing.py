"""The package is typed: a user's script passes mypy, and a wrong one does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RIGHT = """
import numpy as np
import macart as ort

options = ort.SessionOptions()
options.intra_op_num_threads = 2
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
options.add_session_config_entry("session.disable_prepacking", "1")
level: ort.GraphOptimizationLevel = options.graph_optimization_level
session = ort.InferenceSession("m.onnx", options, providers=["CPUExecutionProvider"])
names: list[str] = [i.name for i in session.get_inputs()]
value: ort.OrtValue = ort.OrtValue.ortvalue_from_numpy(np.zeros(3, np.float32))
out: list[ort.OrtValue] = session.run_with_ort_values(None, {names[0]: value})
shape: list[int] = out[0].shape()
binding: ort.IOBinding = session.io_binding()
binding.bind_output("y")
"""
WRONG = {
    "options.intra_op_num_threads = 'two'": "Incompatible types in assignment",
    "options.no_such_option = 1": "has no attribute",
    "x: str = session.get_inputs()": "Incompatible types in assignment",
    "session.run_with_ort_values(None, {'a': 1})": "Dict entry 0 has incompatible type",
    "ort.OrtValue.ortvalue_from_numpy(3)": 'has incompatible type "int"',
}


@pytest.mark.full
def test_user_scripts_are_checked(tmp_path: Path) -> None:
    """Annotations and py.typed are there, and say what is so."""
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(RIGHT + "\n".join(WRONG) + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(script)],
        env={"MYPYPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if "script.py:" in line]
    first = RIGHT.count("\n") + 1
    for k, text in enumerate(WRONG.values()):
        assert any(f"script.py:{first + k}:" in line and text in line for line in lines), lines
    assert all(int(line.split(":")[1]) >= first for line in lines), lines
