"""Prints the table of real models: error of every output against onnxruntime.

python tests/py/model_table.py [--module macart|onnxruntime] [-k words] [--all-outputs]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from model_check import Check, check_model
from real_models import CASES, ModelCase

import engine


def row(case: ModelCase, module: str, every: bool) -> tuple[str, bool]:
    """One line (or one per output) with both optimization levels."""
    checks: list[Check] = []
    for optimize in (True, False):
        try:
            checks.append(check_model(case, optimize, module))
        except Exception as error:
            return f"{case.name:22} {' '.join(str(error).split())[:200]}", False
    fine = all(c.worst() <= case.bound and c.other_argmax == 0 for c in checks)
    shapes = " ".join(checks[0].shapes)
    errors = f"{checks[0].worst():9.1e} {checks[1].worst():9.1e} {case.bound:7.0e}"
    text = f"{case.name:22} {errors}  {'ok' if fine else 'OVER'}  {shapes}"
    if every:
        for name in checks[0].errors:
            values = f"{checks[0].errors[name]:9.1e} {checks[1].errors[name]:9.1e}"
            text += f"\n    {name[:18]:18} {values}"
    return text, fine


def main() -> int:
    """Exit status 1 when a model is out of its bound or fails."""
    parser = argparse.ArgumentParser(description="real models against onnxruntime")
    parser.add_argument("--module", default=engine.module_name())
    parser.add_argument(
        "-k", default="", help="names containing one of these comma-separated words"
    )
    parser.add_argument("--all-outputs", action="store_true")
    args = parser.parse_args()
    version = importlib.metadata.version("onnxruntime")
    print(f"max|a-b| / max|b|, worst output over all runs; reference onnxruntime {version}")
    print(f"{'model':22} optimized   plain     bound       first feed's shapes")
    good = True
    for case in CASES:
        if any(word in case.name for word in args.k.split(",")):
            text, fine = row(case, args.module, args.all_outputs)
            print(text, flush=True)
            good = good and fine
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
