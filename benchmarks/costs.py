"""What is paid beside computing: start, memory, plans, calls, concurrent callers.

    python benchmarks/costs.py start    [-k bert_base-s128]   create + first run, cold and again
    python benchmarks/costs.py memory   [-k ...]              peak RSS over weights and activations
    python benchmarks/costs.py plan                           plan evaluation for unseen lengths
    python benchmarks/costs.py calls                          cost of run() per node
    python benchmarks/costs.py callers  [-k resnet50]         1 to 8 threads on one session
    python benchmarks/costs.py nodes                          create + run of graphs of many nodes
    python benchmarks/costs.py import                         import time beside numpy's

Each figure comes from processes of their own, interleaved with onnxruntime's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import suite
from plain_graphs import Net

CHILD_START = """
import json, sys, time, resource
import numpy as np
module, path, feeds = sys.argv[1:4]
t = time.perf_counter()
import importlib
ort = importlib.import_module(module)
if hasattr(ort, "set_default_logger_severity"): ort.set_default_logger_severity(3)
def hwm():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM"))
base = hwm()
given = dict(np.load(feeds))
t0 = time.perf_counter()
o = ort.SessionOptions(); o.intra_op_num_threads = 2
s = ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])
t1 = time.perf_counter()
out = s.run(None, given)
t2 = time.perf_counter()
for _ in range(int(sys.argv[4])): s.run(None, given)
print(json.dumps({"create": t1 - t0, "first": t2 - t1, "import": t0 - t,
                  "peak_kib": hwm() - base}))
"""


def child(module: str, row: suite.Row, runs: int, env: dict[str, str]) -> dict[str, float]:
    """Create and run in a new process."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        feeds = str(Path(folder) / "feeds.npz")
        np.savez(feeds, **suite.feeds(row, 0))
        command = [sys.executable, "-c", CHILD_START, module, str(suite.model_path(row)), feeds]
        done = subprocess.run(
            [*command, str(runs)], capture_output=True, text=True, env={**os.environ, **env}
        )
    if done.returncode:
        raise SystemExit(f"{module}: {done.stderr[-400:]}")
    return json.loads(done.stdout)


def chosen(words: list[str], default: list[str]) -> list[suite.Row]:
    """Rows whose names contain a word."""
    return [r for r in suite.ROWS if any(w in r.name for w in (words or default))]


def start(words: list[str]) -> None:
    """Create and first run: cold cache, warm cache, onnxruntime; medians of interleaved starts."""
    for row in chosen(words, ["bert_base-s128", "resnet50", "gpt2-token"]):
        with tempfile.TemporaryDirectory() as cache:
            cold = child("macart", row, 0, {"MRT_CACHE_DIR": cache})
            warm, peer = [], []
            for _ in range(7):
                warm.append(child("macart", row, 0, {"MRT_CACHE_DIR": cache}))
                peer.append(child("onnxruntime", row, 0, {}))
        for key in ("create", "first"):
            a, b = (1e3 * statistics.median(x[key] for x in xs) for xs in (warm, peer))
            print(
                f"{row.name:20} {key:7} cold {1e3 * cold[key]:9.1f} ms  warm {a:9.1f}  "
                f"onnxruntime {b:9.1f}  ratio {b / a:6.2f}"
            )


def memory(words: list[str]) -> None:
    """Peak RSS of ten runs over an empty session's, beside the model file."""
    for row in chosen(words, ["bert_base-s128", "resnet50", "gpt2-token"]):
        size = suite.model_path(row).stat().st_size / 1024
        with tempfile.TemporaryDirectory() as cache:
            env = {"MRT_CACHE_DIR": cache}
            cold, warm = (child("macart", row, 10, env)["peak_kib"] for _ in range(2))
        peer = child("onnxruntime", row, 10, {})["peak_kib"]
        parts = (("macart", cold), ("from cache", warm), ("onnxruntime", peer))
        text = ", ".join(f"{name} {peak / size:5.2f}" for name, peak in parts)
        print(f"{row.name:20} file {size / 1024:7.1f} MiB; peak over import / file: {text}")


def plan() -> None:
    """Evaluating the plan of the dynamic BERT for lengths never seen: median of 50."""
    import macart as ort

    path = str(suite.plain_path("bert_base"))
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    spent, builds = [], ort._core.info()["plan_builds"]
    for n in range(5, 57):
        before = session._sess.stats()
        session.run(None, suite.feeds(suite.row("bert_base", sequence=n), 0))
        after = session._sess.stats()
        assert after["plan_evals"] > before["plan_evals"]
        spent.append(after["plan_eval_ns"] - before["plan_eval_ns"])
    more = ort._core.info()["plan_builds"] - builds
    median = 1e-3 * statistics.median(spent[2:])
    print(f"unseen length: plan evaluated in {median:.0f} us (median of 50), {more} plans built")


def calls() -> None:
    """run() of the tiny models, both engines in turn, and the cost of one node more."""
    import macart
    import onnxruntime

    times: dict[tuple[str, str], float] = {}
    for name in ("tiny_mlp", "chain100"):
        row = next(r for r in suite.ROWS if r.name == name)
        feeds = suite.feeds(row, 0)
        for module in (macart, onnxruntime):
            options = module.SessionOptions()
            options.intra_op_num_threads = 1
            path = str(suite.model_path(row))
            session = module.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            best = []
            for _ in range(30):
                t = time.perf_counter()
                for _ in range(200):
                    session.run(None, feeds)
                best.append((time.perf_counter() - t) / 200)
            times[module.__name__, name] = statistics.median(best)
    for name in ("tiny_mlp", "chain100"):
        a, b = times["macart", name], times["onnxruntime", name]
        print(
            f"{name:10} macart {1e6 * a:7.2f} us, onnxruntime {1e6 * b:7.2f} us, ratio {b / a:.2f}"
        )


def callers(words: list[str]) -> None:
    """Runs a second of 1 to 8 Python threads on one session."""
    import threading

    import macart as ort

    for row in chosen(words, ["resnet50", "minilm-s32"])[:2]:
        options = ort.SessionOptions()
        session = ort.InferenceSession(str(suite.model_path(row)), options)
        feeds = suite.feeds(row, 0)
        session.run(None, feeds)
        for n in (1, 2, 4, 8):
            done = [0] * n
            end = time.perf_counter() + 1.5

            def loop(i: int, done: list[int] = done, end: float = end) -> None:
                while time.perf_counter() < end:
                    session.run(None, feeds)  # noqa: B023
                    done[i] += 1

            threads = [threading.Thread(target=loop, args=(i,)) for i in range(n)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            print(f"{row.name:20} {n} callers: {sum(done) / 1.5:8.1f} runs/s")


def imports() -> None:
    """`import macart` over `import numpy`, medians of 20."""
    code = (
        "import time, numpy; t = time.perf_counter(); import macart; print(time.perf_counter() - t)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
        for _ in range(20)
    ]
    print(f"import macart: {1e3 * statistics.median(times):.1f} ms over numpy's")


def nodes() -> None:
    """Seconds per node of creating a session of a long chain: flat when creation is linear."""
    import macart as ort

    for count in (1_000, 10_000, 100_000):
        net = Net("chain")
        x = net.input("x", ["n", 8])
        step = net.normal(8, scale=0.01)
        for i in range(count):
            x = net.op("Add" if i % 2 else "Sub", x, step)
        net.output(x, 2)
        data = net.model().SerializeToString()
        begin = time.perf_counter()
        ort.InferenceSession(data)
        print(f"{count:8} nodes: {1e6 * (time.perf_counter() - begin) / count:.2f} us a node")


def main() -> None:
    """Runs one of the measurements."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    choices = ["start", "memory", "plan", "calls", "callers", "nodes", "import"]
    parser.add_argument("what", choices=choices)
    parser.add_argument("-k", nargs="*", default=[])
    args = parser.parse_args()
    if args.what in ("start", "memory", "callers"):
        {"start": start, "memory": memory, "callers": callers}[args.what](args.k)
    else:
        {"plan": plan, "calls": calls, "nodes": nodes, "import": imports}[args.what]()


if __name__ == "__main__":
    main()
