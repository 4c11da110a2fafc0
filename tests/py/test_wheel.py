"""The wheel stands alone: repaired to manylinux, installed beside numpy only, it runs a model."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

ROOT = Path(__file__).resolve().parents[2]
SIZE_LIMIT = 8 << 20  # "a few MB"

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

SCRIPT = """
import importlib.metadata, sys
import numpy as np
import macart as ort
packages = {d.metadata["Name"] for d in importlib.metadata.distributions()} - {"pip", "setuptools"}
session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
x = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
print(sorted(packages))
print(session.run(None, {"x": x})[0].tolist())
print(ort.__file__)
with open("/proc/self/maps") as maps:
    print(sorted({line.split()[-1] for line in maps if "protobuf-c" in line}))
"""


def call(*command: str | Path) -> str:
    """Runs a program away from the tree's own package; fails with its messages."""
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME"}}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd="/", env=environment
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_wheel_runs_beside_numpy_alone(tmp_path: Path) -> None:
    """Built as a user's pip would, from the files that git knows."""
    tree, raw, repaired = tmp_path / "tree", tmp_path / "raw", tmp_path / "repaired"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if name.startswith(("tests/", "docs/", "benchmarks/")) or not (ROOT / name).is_file():
            continue
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
    call(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", raw, tree)
    (wheel,) = raw.glob("macart-*.whl")
    call(sys.executable, "-m", "auditwheel", "repair", "-w", repaired, wheel)
    (wheel,) = repaired.glob("macart-*.whl")
    assert "manylinux" in wheel.name
    assert wheel.stat().st_size < SIZE_LIMIT
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert [n for n in names if n.startswith("macart/_core") and n.endswith(".so")], names
    assert [n for n in names if n.startswith("macart.libs/libprotobuf-c")], names

    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "tiny.onnx"
    path.write_bytes(model.SerializeToString())

    venv = tmp_path / "venv"
    call(sys.executable, "-m", "venv", venv)
    python = venv / "bin" / "python"
    call(python, "-m", "pip", "--disable-pip-version-check", "-q", "install",
         f"numpy=={np.__version__}", wheel)  # fmt: skip
    packages, result, place, libraries = call(python, "-c", SCRIPT, path).splitlines()
    assert packages == "['macart', 'numpy']"
    assert result == "[[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]"
    assert Path(place).is_relative_to(venv)
    # The library of the wheel is the one in use, whatever the machine has.
    (library,) = ast.literal_eval(libraries)
    assert Path(library).is_relative_to(venv), library
