"""Draws results of run.py: bars of (peer's time / MacaRT's), one group per row. Needs matplotlib.

python benchmarks/chart.py results.json docs/performance.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Writes the picture."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "macart"  # the same file for the same numbers
    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text
    from matplotlib import pyplot as plt

    data: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    rows = [r for r in data["results"] if r.get("ratio")]
    peers = list(dict.fromkeys(name for r in rows for name in r["ratio"]))
    figure, axes = plt.subplots(figsize=(8, 0.14 * len(rows) * max(len(peers), 1) + 1))
    height = 0.8 / max(len(peers), 1)
    for k, peer in enumerate(peers):
        have = [(i, r["ratio"][peer]) for i, r in enumerate(rows) if peer in r["ratio"]]
        at = [i + (k - (len(peers) - 1) / 2) * height for i, _ in have]
        middle = [v["median"] for _, v in have]
        low = [max(v["median"] - v["low"], 0) for _, v in have]
        high = [max(v["high"] - v["median"], 0) for _, v in have]
        axes.barh(at, middle, height, xerr=[low, high], label=peer, error_kw={"lw": 0.8})
    axes.axvline(1, color="black", lw=0.8)
    axes.set_yticks(range(len(rows)), [f"{r['row']} ({r['threads']}T)" for r in rows])
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xscale("log")
    ticks = [0.5, 1, 1.5, 2, 3, 5, 10, 20]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_xlim(left=0.8 * min(1.0, *(v["low"] for r in rows for v in r["ratio"].values())))
    axes.minorticks_off()
    axes.set_xlabel("time of the peer / time of MacaRT (above 1: MacaRT is faster)")
    axes.set_title(f"{data['cpu'].split(';')[0]}), {data['date']}", fontsize=8)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(sys.argv[2], metadata={"Date": None})


if __name__ == "__main__":
    main()
