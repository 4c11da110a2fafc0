"""Outputs of onnxruntime for the models of real_models.py, kept in a cache.

They are computed by a process of their own (`python reference.py NAME`), so that a test process
holds one engine only: no second thread pool, no second copy of the weights, and a sanitizer that
is preloaded for our engine does not meet onnxruntime.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from real_models import ModelCase, Outputs, cache_folder, find

import engine


def reference_outputs(case: ModelCase) -> list[Outputs]:
    """Outputs of each run, from the cache or from onnxruntime."""
    path = _cache_path(case)
    if not path.exists():
        hidden = ("LD_PRELOAD", "PYTHONSAFEPATH")  # of runs under a sanitizer
        clean = {key: value for key, value in os.environ.items() if key not in hidden}
        command = [sys.executable, str(Path(__file__).resolve()), case.name]
        done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"onnxruntime fails on {case.name}:\n{done.stderr[-3000:]}")
    with np.load(path) as data:
        runs: list[Outputs] = [[] for _ in range(case.runs)]
        for key in data.files:
            runs[int(key.split(".")[0])].append(data[key])
    return runs


def compute(case: ModelCase, module: str, optimize: bool) -> list[Outputs]:
    """All runs in this process, each fed with the outputs of the one before."""
    session = engine.make_session(engine.load_engine(module), str(case.path()), optimize)
    runs: list[Outputs] = []
    for run in range(case.runs):
        runs.append(session.run(None, case.feeds(run, runs[-1] if runs else [])))
    return runs


def _cache_path(case: ModelCase) -> Path:
    """Keyed by the feeds' code, the model file and the versions that made the numbers."""
    code = Path(__file__).with_name("real_models.py").read_bytes()
    model = case.path()
    facts = [case.name, model.name, model.stat().st_size, np.__version__]
    facts.append(importlib.metadata.version("onnxruntime"))
    key = hashlib.sha256(repr(facts).encode() + code).hexdigest()[:16]
    return cache_folder() / f"reference-{case.name.replace(' ', '_')}-{key}.npz"


def main(name: str) -> None:
    """Computes and stores the outputs of one model."""
    case = find(name)
    runs = compute(case, "onnxruntime", optimize=True)
    path = _cache_path(case)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    arrays: dict[str, Any] = {
        f"{run}.{i:03}": array
        for run, outputs in enumerate(runs)
        for i, array in enumerate(outputs)
    }
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    partial.replace(path)


if __name__ == "__main__":
    main(sys.argv[1])
