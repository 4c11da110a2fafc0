"""Speed beside onnxruntime, from Python: BERT-base s128, a 6-node MLP, convolutional networks.

    python benchmarks/first_mark.py [--threads 1 2] [--rounds 12] [--json out.json] [-k resnet]

One process per engine, both warm. They take turns in short slices, in flipped order each round;
the one that waits is stopped (SIGSTOP), so that its threads cannot take a CPU. The number that
counts is the median over rounds of (peer's time / our time): above 1, MacaRT is faster. Both
processes are pinned to the first N CPUs for N threads. Outputs are compared in the same run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "models"), str(ROOT / "benchmarks")]

SLICE_SECONDS = 0.4
LEAST_RUNS = 3
PICTURES = {"resnet50": 224, "mobilenet_v2": 224, "efficientnet_b0": 224}
NETWORKS = {"densenet121": 224, "unet256": 256}
MODELS = ("tiny_mlp", "bert_base_s128", *PICTURES, *NETWORKS)


def tiny_mlp() -> Path:
    """Gemm-Relu-Gemm-Relu-Gemm-Softmax, 32-64-64-8."""
    import onnx
    import refill
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(5)
    sizes, nodes, weights, value = (32, 64, 64, 8), [], [], "x"
    for i in range(3):
        shape = (sizes[i], sizes[i + 1])
        w = rng.standard_normal(shape) * (2 / shape[0]) ** 0.5
        b = 0.1 * rng.standard_normal(shape[1])
        for name, data in ((f"w{i}", w), (f"b{i}", b)):
            weights.append(numpy_helper.from_array(data.astype(np.float32), name))
        nodes.append(helper.make_node("Gemm", [value, f"w{i}", f"b{i}"], [f"g{i}"]))
        last = ("Softmax", "y") if i == 2 else ("Relu", f"r{i}")
        nodes.append(helper.make_node(last[0], [f"g{i}"], [last[1]]))
        value = last[1]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])
    graph = helper.make_graph(nodes, "tiny_mlp", [x], [y], weights)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, producer_name="first_mark"
    )
    path = refill.cache_folder() / "tiny_mlp.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def model_path(name: str) -> Path:
    """The model file, made if needed."""
    if name == "tiny_mlp":
        return tiny_mlp()
    import refill

    if name in NETWORKS:
        import conv_nets

        return conv_nets.model_path(name)
    return refill.model_path(name if name in PICTURES else "bert_base")


def model_feeds(name: str) -> dict[str, np.ndarray]:
    """The same feeds for both engines."""
    rng = np.random.default_rng(3)
    if name == "tiny_mlp":
        return {"x": rng.standard_normal((1, 32)).astype(np.float32)}
    if size := PICTURES.get(name) or NETWORKS.get(name):
        image = rng.standard_normal((1, 3, size, size)).astype(np.float32)
        return {"pixel_values" if name in PICTURES else "x": image}
    ids = rng.integers(999, 30000, (1, 128))
    ones = np.ones_like(ids)
    return {"input_ids": ids, "attention_mask": ones, "token_type_ids": 0 * ones}


# ---------------------------------------------------------------- the measuring process


def serve(module: str, model: str, name: str, threads: int, result: str) -> None:
    """Loads, warms up, stores the output; then measures one slice per line of stdin."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    engine = importlib.import_module(module)
    options = engine.SessionOptions()
    options.intra_op_num_threads = threads
    session = engine.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = model_feeds(name)
    for _ in range(LEAST_RUNS):
        outputs = session.run(None, feeds)
    np.save(result, outputs[0])
    print(f"ready {getattr(engine, '__version__', '?')}", flush=True)
    for _ in sys.stdin:
        print(measure(session, feeds), flush=True)


def measure(session: Any, feeds: dict[str, np.ndarray]) -> float:
    """Median time of a run, in milliseconds, over one slice; the first run is not counted."""
    session.run(None, feeds)
    times: list[float] = []
    end = time.perf_counter() + SLICE_SECONDS
    while len(times) < LEAST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        session.run(None, feeds)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


# ---------------------------------------------------------------- the driver


class Engine:
    """A measuring process, stopped whenever it is not its turn."""

    def __init__(self, module: str, name: str, threads: int, folder: str, pin: bool) -> None:
        """Starts the process and waits until it is warm."""
        self.output = Path(folder) / f"{module}.npy"
        command = [sys.executable, str(Path(__file__).resolve()), "--serve", module]
        command += [str(model_path(name)), name, str(threads), str(self.output)]
        cpus = sorted(os.sched_getaffinity(0))[:threads] if pin else os.sched_getaffinity(0)
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )
        assert self._child.stdin and self._child.stdout
        self._in, self._out = self._child.stdin, self._child.stdout
        ready = self._out.readline().split()
        if ready[:1] != ["ready"]:
            self.close()
            raise SystemExit(f"{module} does not run {name}")
        self.version = ready[1]
        self._child.send_signal(signal.SIGSTOP)

    def slice(self) -> float:
        """One slice of runs."""
        self._child.send_signal(signal.SIGCONT)
        self._in.write("\n")
        self._in.flush()
        milliseconds = float(self._out.readline())
        self._child.send_signal(signal.SIGSTOP)
        return milliseconds

    def close(self) -> None:
        """Ends the process."""
        self._child.kill()
        self._child.wait()


@dataclass
class Mark:
    """Result of one model at one number of threads; times are medians in milliseconds."""

    model: str
    threads: int
    ours: float
    peer: float
    ratio: float
    low: float
    high: float
    error: float


def compare(name: str, threads: int, args: argparse.Namespace) -> Mark:
    """Interleaved rounds of both engines."""
    with tempfile.TemporaryDirectory() as folder:
        engines = []
        try:
            for module in (args.module, args.peer):
                engines.append(Engine(module, name, threads, folder, not args.no_pin))
            rounds: list[list[float]] = []
            for turn in range(args.rounds):
                order = (0, 1) if turn % 2 else (1, 0)
                times = {i: engines[i].slice() for i in order}
                rounds.append([times[0], times[1]])
            ours, peer = (np.load(engine.output).astype(np.float64) for engine in engines)
        finally:
            for engine in engines:
                engine.close()
    ratios = [b / a for a, b in rounds]
    quarters = statistics.quantiles(ratios, n=4)
    mine, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
    error = float(np.abs(ours - peer).max() / np.abs(peer).max())
    middle = statistics.median(ratios)
    return Mark(name, threads, mine, theirs, middle, quarters[0], quarters[2], error)


def cpu_name() -> str:
    """Model name of the processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def main() -> None:
    """Prints the table, and writes it as JSON if asked."""
    if sys.argv[1:2] == ["--serve"]:
        module, model, name, threads, result = sys.argv[2:]
        serve(module, model, name, int(threads), result)
        return
    parser = argparse.ArgumentParser(description="first speed mark")
    parser.add_argument("--module", default="macart")
    parser.add_argument("--peer", default="onnxruntime")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("-k", default="", help="only models whose name contains this")
    parser.add_argument("--no-pin", action="store_true", help="leave the CPUs to the system")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    print(f"{cpu_name()}, {len(os.sched_getaffinity(0))} CPUs; {args.rounds} rounds")
    print(f"{'model':16} T  {args.module:>12} {args.peer:>12} ms   speed ratio (quartiles)  error")
    marks = []
    for name in (name for name in MODELS if args.k in name):
        for threads in args.threads:
            mark = compare(name, threads, args)
            marks.append(mark)
            print(
                f"{mark.model:16} {mark.threads}  {mark.ours:12.4f} {mark.peer:12.4f}      "
                f"{mark.ratio:6.2f}  ({mark.low:.2f} - {mark.high:.2f})     {mark.error:.1e}",
                flush=True,
            )
    if args.json:
        rows = {"cpu": cpu_name(), "marks": [asdict(mark) for mark in marks]}
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
