"""Instructions that one run of a tiny model costs, counted by callgrind on the AVX2 path.

Time on a shared machine says little; a count is the same everywhere. A run of N = 1100 less one of
N = 100, over 1000, is a run without its start. onnxruntime 1.31 needs 32,000 (tiny MLP) and
369,000 (chain of 100 nodes), counted the same way.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from plain_graphs import GRAPHS  # noqa: E402

BOUND = {"tiny_mlp": 13_000, "chain100": 36_000}
TOOL = ROOT / "build" / "dev" / "tests" / "tool_run_model"


def count(model: Path, runs: int, folder: Path) -> int:
    """Instructions of the whole process."""
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder / 'out'}"]
    done = subprocess.run(
        [*command, str(TOOL), str(model), str(runs)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "MRT_CPU_ISA": "avx2"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found, done.stderr[-2000:]
    return int(found.group(1))


@pytest.mark.full
@pytest.mark.parametrize("name", list(BOUND))
def test_instructions_of_a_run(name: str, tmp_path: Path) -> None:
    """A run stays under its bound."""
    if not shutil.which("valgrind"):
        pytest.fail("valgrind is missing: ./dev setup installs it")
    model = tmp_path / "m.onnx"
    onnx.save(GRAPHS[name](), model)
    per_run = (count(model, 1100, tmp_path) - count(model, 100, tmp_path)) / 1000
    print(f"{name}: {per_run:.0f} instructions a run")
    assert 0 < per_run <= BOUND[name]
