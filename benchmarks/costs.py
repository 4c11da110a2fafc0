"""What is paid beside computing: start, memory, plans, calls, concurrent callers.

    python benchmarks/costs.py start    [-k bert_base-s128]   create + first run, cold and again
    python benchmarks/costs.py memory   [-k ...]              peak RSS over weights and activations
    python benchmarks/costs.py plan                           plan evaluation for unseen lengths
    python benchmarks/costs.py calls                          cost of run() per node
    python benchmarks/costs.py callers  [-k resnet50]         1 to 8 threads on one session
    python benchmarks/costs.py nodes                          create + run of graphs of many nodes
    python benchmarks/costs.py import                         import time beside numpy's
    python benchmarks/costs.py idle                           CPU time while nothing runs

Each figure comes from processes of their own, interleaved with onnxruntime's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import suite
from plain_graphs import Net

# A tree that was built in its folder only has no module in macart/: the folder is not on the path.
ENV = {**os.environ, "PYTHONSAFEPATH": "1"}

# Imports nothing but numpy and the engine, so that the peaks are the engine's.
CHILD = """
import json, sys, time
import numpy as np
module, path, feeds, runs = sys.argv[1:5]
t = time.perf_counter()
import importlib
ort = importlib.import_module(module)
if module == "onnxruntime":
    ort.set_default_logger_severity(3)
imported = time.perf_counter() - t
def kib(key):
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(key))
# numpy's own threads spin for a while after its import: they are not what is measured.
time.sleep(0.3)
given = dict(np.load(feeds))
with open("/proc/self/clear_refs", "w") as f:
    f.write("5")  # peaks count from here on: import and inputs are the caller's
out = {"import": imported, "base_kib": kib("VmRSS"), "base_anonymous_kib": kib("RssAnon")}
o = ort.SessionOptions()
o.intra_op_num_threads = 2
o.log_severity_level = 1 if module == "macart" else 3
c, t = time.process_time(), time.perf_counter()
s = ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])
out["create"], out["create_cpu"] = time.perf_counter() - t, time.process_time() - c
t = time.perf_counter()
s.run(None, given)
out["first"] = time.perf_counter() - t
out["first_peak_kib"] = kib("VmHWM")
times = []
for _ in range(int(runs)):
    t = time.perf_counter()
    s.run(None, given)
    times.append(time.perf_counter() - t)
out["later"] = sorted(times)[len(times) // 2] if times else 0
out["peak_kib"] = kib("VmHWM")
result_bytes = sum(x.nbytes for x in s.run(None, given))
if module == "macart":
    out.update(s._sess.stats())
out["result_bytes"] = result_bytes
print(json.dumps(out))
"""


def start_process(
    module: str, model: Path, feeds: str, runs: int, env: dict[str, str]
) -> dict[str, float]:
    """Create and run in a new process; what it measured about itself."""
    command = [sys.executable, "-c", CHILD, module, str(model), feeds, str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, env={**ENV, **env})
    if done.returncode:
        raise SystemExit(f"{module}: {done.stderr[-400:]}")
    out = json.loads(done.stdout)
    told = re.search(r"anonymous memory: (\d+) KiB", done.stderr)
    if told:
        out["packing_anonymous_kib"] = int(told[1])
    return out


def child(module: str, row: suite.Row, runs: int, env: dict[str, str]) -> dict[str, float]:
    """start_process on a row's model and feeds."""
    with tempfile.TemporaryDirectory() as folder:
        feeds = str(Path(folder) / "feeds.npz")
        np.savez(feeds, **suite.feeds(row, 0))
        return start_process(module, suite.model_path(row), feeds, runs, env)


def empty_session() -> dict[str, float]:
    """The same process around a model of one Neg."""
    net = Net("empty")
    net.output(net.op("Neg", net.input("x", [4])), 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.onnx"
        path.write_bytes(net.model().SerializeToString())
        feeds = str(Path(folder) / "feeds.npz")
        np.savez(feeds, x=np.zeros(4, np.float32))
        return start_process("macart", path, feeds, 10, {})


def chosen(words: list[str], default: list[str]) -> list[suite.Row]:
    """Rows whose names contain a word."""
    return [r for r in suite.ROWS if any(w in r.name for w in (words or default))]


def start(words: list[str]) -> None:
    """Create and first run: cold cache, warm cache, onnxruntime; medians of interleaved starts."""
    for row in chosen(words, ["bert_base-s128", "resnet50", "gpt2-token"]):
        with tempfile.TemporaryDirectory() as cache:
            cold = child("macart", row, 3, {"MRT_CACHE_DIR": cache})
            warm, peer = [], []
            for _ in range(7):
                warm.append(child("macart", row, 3, {"MRT_CACHE_DIR": cache}))
                peer.append(child("onnxruntime", row, 3, {}))
        for key in ("create", "first", "later"):
            a, b = (1e3 * statistics.median(x[key] for x in xs) for xs in (warm, peer))
            print(
                f"{row.name:20} {key:7} cold {1e3 * cold[key]:9.1f} ms  warm {a:9.1f}  "
                f"onnxruntime {b:9.1f}  ratio {b / a:6.2f}"
            )


MIB = 1 << 20


def over_empty(x: dict[str, float], empty: dict[str, float]) -> float:
    """Bytes of a process's peak from its base on, less those of one with an empty session."""
    return 1024 * ((x["peak_kib"] - x["base_kib"]) - (empty["peak_kib"] - empty["base_kib"]))


def each_model() -> list[suite.Row]:
    """The first row of every model and form, and the larger batches."""
    seen: set[tuple[str, str]] = set()
    rows = []
    for row in suite.ROWS:
        if (row.model, row.form) not in seen or row.name.endswith("-b8"):
            rows.append(row)
        seen.add((row.model, row.form))
    return rows


def memory(words: list[str]) -> None:
    """Peaks of ten runs from a warm cache over weights and all values, planned ones and results
    (which lie in buffers of their own); onnxruntime's peak.
    With chosen rows: also those of load and first run over the file, and what is anonymous when
    packing begins."""
    empty = empty_session()
    base = 1024 * (empty["peak_kib"] - empty["base_kib"])
    print(f"an empty session: {base / MIB:.2f} MiB over its imports; MiB:")
    print(f"{'':24} peak over empty  weights    plan  ratio  scratch  results  onnxruntime")
    for row in chosen(words, []) if words else each_model():
        with tempfile.TemporaryDirectory() as cache:
            env = {"MRT_CACHE_DIR": cache}
            child("macart", row, 0, env)
            warm = child("macart", row, 10, env)
        peer = child("onnxruntime", row, 10, {})
        extra = over_empty(warm, empty)
        planned = warm["weight_bytes"] + warm["plan_bytes"] + warm["result_bytes"]
        other = 1024 * (peer["peak_kib"] - peer["base_kib"])
        print(
            f"{row.name:24} {extra / MIB:15.1f} {warm['weight_bytes'] / MIB:8.1f} "
            f"{warm['plan_bytes'] / MIB:7.1f} {extra / planned:6.2f} "
            f"{warm['scratch_bytes'] / MIB:8.1f} {warm['result_bytes'] / MIB:8.1f} "
            f"{other / MIB:12.1f}",
            flush=True,
        )
        if words:
            load_memory(row, warm)


def load_memory(row: suite.Row, warm: dict[str, float]) -> None:
    """Peaks through the first run over the size of the file, without a cache and with one."""
    size = suite.model_path(row).stat().st_size
    bare = child("macart", row, 0, {"MRT_CACHE_DIR": ""})
    for name, x in (("no cache", bare), ("from cache", warm)):
        peak = 1024 * (x["first_peak_kib"] - x["base_kib"]) / size
        early = 1024 * (x["packing_anonymous_kib"] - x["base_anonymous_kib"]) / size
        print(
            f"{'':24} {name}: peak through the first run / file {peak:.3f}, "
            f"anonymous when packing begins {100 * early:.2f} % of the file"
        )


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
    """Runs a second of 1 to 8 Python threads on one session, both engines in turn."""
    import threading

    import macart
    import onnxruntime

    def rate(session: Any, feeds: suite.Feeds, n: int) -> float:
        done = [0] * n
        end = time.perf_counter() + 0.5

        def loop(i: int) -> None:
            while time.perf_counter() < end:
                session.run(None, feeds)
                done[i] += 1

        threads = [threading.Thread(target=loop, args=(i,)) for i in range(n)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return sum(done) / 0.5

    for row in chosen(words, ["mobilenet_v2", "minilm-s32", "tiny_mlp"])[:3]:
        feeds = suite.feeds(row, 0)
        sessions = []
        for module in (macart, onnxruntime):
            options = module.SessionOptions()
            options.intra_op_num_threads = 2
            options.add_session_config_entry("session.force_spinning_stop", "1")
            path = str(suite.model_path(row))
            sessions.append(module.InferenceSession(path, options, ["CPUExecutionProvider"]))
            sessions[-1].run(None, feeds)
        for n in (1, 2, 4, 8):
            rates = [[rate(s, feeds, n) for s in sessions] for _ in range(4)]
            ours, theirs = (statistics.median(column) for column in zip(*rates, strict=True))
            print(
                f"{row.name:14} {n} callers: macart {ours:9.1f}, onnxruntime {theirs:9.1f} "
                f"runs/s, ratio {ours / theirs:.2f}"
            )


def idle() -> None:
    """CPU time while nothing runs, right after a run and in the second that follows."""
    import macart as ort

    row = next(r for r in suite.ROWS if r.name == "minilm-s32")
    session = ort.InferenceSession(str(suite.model_path(row)), providers=["CPUExecutionProvider"])
    feeds = suite.feeds(row, 0)
    for _ in range(20):
        session.run(None, feeds)
    begin = time.process_time()
    time.sleep(2)
    spent = time.process_time() - begin
    print(f"idle for 2 s after runs: {1e3 * spent:.2f} ms of CPU time")


def import_times(n: int) -> list[float]:
    """Seconds of `import macart` in n processes that have numpy."""
    code = (
        "import time, numpy; t = time.perf_counter(); import macart; print(time.perf_counter() - t)"
    )
    return [
        float(
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, env=ENV
            ).stdout
        )
        for _ in range(n)
    ]


def imports() -> None:
    """`import macart` over `import numpy`, medians of 20."""
    median = statistics.median(import_times(20))
    print(f"import macart: {1e3 * median:.1f} ms over numpy's")


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
    choices = ["start", "memory", "plan", "calls", "callers", "nodes", "import", "idle"]
    parser.add_argument("what", choices=choices)
    parser.add_argument("-k", nargs="*", default=[])
    args = parser.parse_args()
    if args.what in ("start", "memory", "callers"):
        {"start": start, "memory": memory, "callers": callers}[args.what](args.k)
    else:
        {"plan": plan, "calls": calls, "nodes": nodes, "import": imports, "idle": idle}[args.what]()


if __name__ == "__main__":
    main()
