"""Errors against float64: each engine's outputs beside the same network computed in double.

    python benchmarks/accuracy.py [-k bert] [--engines macart macart:high onnxruntime openvino:bf16]

The model's float32 weights, constants and casts become float64 and onnx.reference, numpy's
arithmetic, runs it: minutes for a large network, once, then kept beside the model. Printed is the
largest |difference| over the largest |value|, the worst output of each engine. Quantised models
compute in exact integers with float64 scales; a value that float32 rounds to the other neighbour
once in a million then grows through a deep network, in every engine alike.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import suite
from run import EXACT_FORMS, difference, float64_outputs


def outputs_of(engine: str, row: suite.Row, folder: str) -> Path:
    """The outputs that an engine gives, from a process of its own."""
    path = Path(folder) / f"{engine.replace(':', '-')}.npz"
    script = str(Path(__file__).with_name("engines.py"))
    command = [sys.executable, script, engine, row.name, "2", str(path)]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return path


def main() -> None:
    """Prints one line per row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-k", nargs="*", default=[""], help="rows whose name contains one of these")
    parser.add_argument("--engines", nargs="+", default=["macart", "onnxruntime"])
    args = parser.parse_args()
    for row in suite.ROWS:
        if row.form not in ("fp32", *EXACT_FORMS) or not any(part in row.name for part in args.k):
            continue
        exact = float64_outputs(row)
        with tempfile.TemporaryDirectory() as folder:
            errors = {e: difference(outputs_of(e, row, folder), exact) for e in args.engines}
        print(f"{row.name:24}", *(f"{e} {v:.2e}" for e, v in errors.items()), flush=True)


if __name__ == "__main__":
    main()
