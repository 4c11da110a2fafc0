"""Compares two results of run.py: did a row get faster or slower by more than its noise?

    python benchmarks/compare.py old.json new.json

A row's figure is the ratio to onnxruntime (times of different days are not comparable, ratios of
interleaved runs are). The noise band is the wider of the two interquartile ranges; a change within
it is printed as `=`. Exits with 1 when a row got slower.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def ratios(path: str) -> dict[tuple[str, int], dict[str, float]]:
    """(row, threads) -> ratio to onnxruntime with its quartiles."""
    data: dict[str, Any] = json.loads(Path(path).read_text())
    return {
        (r["row"], r["threads"]): r["ratio"]["onnxruntime"]
        for r in data["results"]
        if "onnxruntime" in r.get("ratio", {})
    }


def main() -> int:
    """Prints the table."""
    old, new = (ratios(path) for path in sys.argv[1:3])
    slower = 0
    for key in sorted(old.keys() & new.keys()):
        a, b = old[key], new[key]
        band = max(a["high"] - a["low"], b["high"] - b["low"])
        change = b["median"] - a["median"]
        mark = "=" if abs(change) <= band else "+" if change > 0 else "-"
        slower += mark == "-"
        figures = f"{a['median']:6.2f} -> {b['median']:6.2f}  band {band:.2f}"
        print(f"{mark} {key[0]:26} {key[1]}  {figures}")
    for key in sorted(old.keys() ^ new.keys()):
        print(f"? {key[0]:26} {key[1]}  only in {'the first' if key in old else 'the second'}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
