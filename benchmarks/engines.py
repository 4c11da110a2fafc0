"""The engines under comparison, each behind the same three calls, and the process that measures.

    python benchmarks/engines.py ENGINE ROW THREADS RESULT.npz

loads the row's model, warms up, stores the outputs of feed set 0, prints a JSON line with what
starting cost, then answers each line "SECONDS" on stdin with a JSON line {"ms": median time of a
run, "runs": how many, "cpu": CPU time / wall time}. The feed set changes with every run.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import suite

Run = Callable[[suite.Feeds], list[np.ndarray]]
LEAST_RUNS = 3


def load_macart(path: str, threads: int, precision: str) -> tuple[Run, str]:
    """MacaRT at one precision of float32 products."""
    import macart as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    if precision != "highest":
        options.add_session_config_entry("session.float32_matmul_precision", precision)
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds), ort.__version__


def load_onnxruntime(path: str, threads: int) -> tuple[Run, str]:
    """onnxruntime; its threads stop spinning between runs, since another engine runs then."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds), ort.__version__


def load_openvino(path: str, threads: int, precision: str) -> tuple[Run, str]:
    """OpenVINO's CPU plugin, precision pinned, one stream."""
    import openvino as ov

    core = ov.Core()
    config = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(path, "CPU", config)
    request = compiled.create_infer_request()

    def run(feeds: suite.Feeds) -> list[np.ndarray]:
        result = request.infer(feeds, share_inputs=True, share_outputs=True)
        return [np.asarray(result[port]) for port in compiled.outputs]

    return run, ov.__version__.split("-")[0]


def load_torch(name: str, threads: int, compiled: bool) -> tuple[Run, str]:
    """torch, eager or compiled, for the networks of tests/models/networks.py (own weights)."""
    import torch
    from networks import NETWORKS

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    export = NETWORKS[name]()
    module = torch.compile(export.module.eval()) if compiled else export.module.eval()

    def run(feeds: suite.Feeds) -> list[np.ndarray]:
        with torch.inference_mode():
            result = module(*(torch.from_numpy(feeds[key]) for key in export.inputs))
        flat = result if isinstance(result, tuple | list) else [result]
        return [t.numpy() for t in flat if isinstance(t, torch.Tensor)]

    return run, torch.__version__


def load(engine: str, row: suite.Row, threads: int) -> tuple[Run, str]:
    """An engine by the name it has in the table."""
    path = str(suite.model_path(row))
    kind, _, mode = engine.partition(":")
    if kind == "macart":
        return load_macart(path, threads, mode or "highest")
    if kind == "onnxruntime":
        return load_onnxruntime(path, threads)
    if kind == "openvino":
        return load_openvino(path, threads, mode or "f32")
    if kind == "torch":
        if row.form != "fp32" or row.model in suite.GRAPHS:
            raise SystemExit("torch has no module for this row")
        return load_torch(row.model, threads, mode == "compile")
    raise SystemExit(f"unknown engine: {engine}")


def peak_kib() -> int:
    """Highest resident size of this process so far, KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    return 0


def main() -> None:
    """The measuring process."""
    engine, name, threads, result = sys.argv[1:]
    row = next(r for r in suite.ROWS if r.name == name)
    sets = [suite.feeds(row, k) for k in range(suite.FEED_SETS)]
    begin = time.perf_counter()
    run, version = load(engine, row, int(threads))
    created = time.perf_counter()
    outputs = run(sets[0])
    first = time.perf_counter()
    np.savez(result, *[np.array(o) for o in outputs])
    for k in range(LEAST_RUNS):
        run(sets[k % len(sets)])
    start = {"version": version, "create_s": created - begin, "first_run_s": first - created,
             "peak_kib": peak_kib()}  # fmt: skip
    print(json.dumps(start), flush=True)
    for line in sys.stdin:
        times, end = [], time.perf_counter() + float(line)
        wall, cpu = time.perf_counter(), time.process_time()
        while len(times) < LEAST_RUNS or time.perf_counter() < end:
            feeds = sets[len(times) % len(sets)]
            t = time.perf_counter()
            run(feeds)
            times.append(time.perf_counter() - t)
        busy = (time.process_time() - cpu) / (time.perf_counter() - wall)
        median = 1e3 * statistics.median(times[1:] if len(times) > LEAST_RUNS else times)
        print(json.dumps({"ms": median, "runs": len(times), "cpu": busy}), flush=True)


if __name__ == "__main__":
    main()
