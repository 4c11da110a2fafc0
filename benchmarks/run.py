"""The benchmark: MacaRT beside onnxruntime, OpenVINO and torch, interleaved, beside the limit.

    python benchmarks/run.py [-k resnet bert] [--engines macart onnxruntime openvino]
                             [--threads 2] [--rounds 10] [--json out.json]

One process per engine, warm, pinned to the first N CPUs, stopped while another measures. They take
turns in slices, in flipped order each round. Before and after every slice the peak of the unit in
question (float32 FMA; for 8-bit rows AMX or VNNI) is measured on the same threads; rounds whose
calibration is more than 15 % under the best are dropped, since a neighbour had the core then.

What counts is the ratio peer's time / ours, per round: median and quartiles over the rounds; above
1 MacaRT is faster. `limit`: the arithmetic of the network at the calibrated peak, as a share of the
time taken. `error`: largest |difference| to onnxruntime's output over its largest magnitude
(accuracy.py compares with float64). Quantised networks: difference to exact integers with float64
scales, and onnxruntime's own difference to the same in brackets.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import suite

HERE = Path(__file__).resolve().parent
DEFAULT_ENGINES = ["macart", "onnxruntime", "openvino"]
SLICE_SECONDS = 0.3
CALIBRATION_SECONDS = 0.05


class Calibrator:
    """Peaks of the CPU, measured by c/calibrate.c, which is compiled here on first use."""

    def __init__(self) -> None:
        """Compiles if needed, and starts the server."""
        source = HERE / "c" / "calibrate.c"
        program = HERE.parent / "build" / f"calibrate-{source.stat().st_mtime_ns}"
        if not program.exists():
            program.parent.mkdir(exist_ok=True)
            subprocess.run(["cc", "-O2", "-pthread", "-o", program, source], check=True)
        self.child = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def peak(self, kind: str, threads: int, seconds: float = CALIBRATION_SECONDS) -> float:
        """Operations (dram: bytes) per second; 0 where the CPU has no such unit."""
        assert self.child.stdin and self.child.stdout
        self.child.stdin.write(f"{kind} {threads} {seconds}\n")
        self.child.stdin.flush()
        return float(self.child.stdout.readline())

    def close(self) -> None:
        """Ends the server."""
        self.child.kill()
        self.child.wait()


class Engine:
    """A measuring process (engines.py), stopped whenever it is not its turn."""

    def __init__(self, name: str, row: suite.Row, threads: int, folder: str, python: str) -> None:
        """Starts the process and waits until it is warm; `error` says why it could not."""
        self.name, self.output = name, Path(folder) / f"{name.replace(':', '-')}.npz"
        self.log = Path(folder) / f"{name.replace(':', '-')}.log"
        cpus = sorted(os.sched_getaffinity(0))[:threads]
        command = [python, str(HERE / "engines.py"), name, row.name, str(threads), str(self.output)]
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )
        line = self._readline()
        self.start = json.loads(line) if line.startswith("{") else {}
        text = self.log.read_text().strip().splitlines()
        self.error = "" if self.start else (text[-1] if text else "ended without a word")
        if not self.error:
            self.child.send_signal(signal.SIGSTOP)

    def _readline(self) -> str:
        assert self.child.stdout
        return self.child.stdout.readline()

    def slice(self, seconds: float) -> dict[str, float]:
        """One slice of runs."""
        assert self.child.stdin
        self.child.send_signal(signal.SIGCONT)
        self.child.stdin.write(f"{seconds}\n")
        self.child.stdin.flush()
        result = json.loads(self._readline())
        self.child.send_signal(signal.SIGSTOP)
        return result

    def close(self) -> None:
        """Ends the process."""
        self.child.kill()
        self.child.wait()


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    if len(values) < 2:
        return {"median": values[0], "low": values[0], "high": values[0]}
    quarters = statistics.quantiles(values, n=4)
    return {"median": statistics.median(values), "low": quarters[0], "high": quarters[2]}


def difference(a: Path, b: Path) -> float:
    """Largest |a - b| over largest |b|, over all outputs of a kind; NaN where shapes differ, or
    where an output is not a number.

    Rows of integers (selected boxes) are compared in sorted order: scores that differ in their last
    bit may change places.
    """
    worst = 0.0
    with np.load(a) as x, np.load(b) as y:
        for name in y.files:
            if name not in x.files or x[name].shape != y[name].shape:
                return float("nan")
            got, want = x[name], y[name].astype(np.float64)
            if got.ndim == 2 and got.dtype == np.int64:
                got, want = got[np.lexsort(got.T)], want[np.lexsort(want.T)]
            scale = np.abs(want).max(initial=0.0) or 1.0
            worst = np.maximum(worst, np.abs(got - want).max(initial=0.0) / scale)  # NaN stays
    return float(worst)


EXACT_FORMS = ("u8s8", "s8s8", "dynamic")


def unit_of(row: suite.Row, calibrator: Calibrator) -> str:
    """The unit whose peak bounds a row: the fastest that this CPU has for its type."""
    eight_bits = ("amx_int8", "vnni") if row.form in EXACT_FORMS else ()
    return next((unit for unit in eight_bits if calibrator.peak(unit, 1, 0.01)), "fma")


def float64_outputs(row: suite.Row) -> Path:
    """Outputs of feed set 0 in float64; quantised models with exact integers (exact.py)."""
    import onnx
    from exact import double, evaluator
    from onnx.reference import ReferenceEvaluator

    model = suite.model_path(row)
    path = model.with_name(f"{model.stem}-{row.name}-float64.npz")
    if not path.exists():
        feeds = suite.feeds(row, 0)
        wide = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in feeds.items()}
        make = evaluator if row.form in EXACT_FORMS else ReferenceEvaluator
        np.savez(path, *make(double(onnx.load(model))).run(None, wide))
    return path


def errors_of(row: suite.Row, engines: list[Engine]) -> dict[str, float]:
    """By engine; empty without onnxruntime to compare with."""
    engines = [e for e in engines if not e.name.startswith("torch")]
    if row.form in EXACT_FORMS:
        exact = float64_outputs(row)
        return {e.name: difference(e.output, exact) for e in engines}
    peer = next((e for e in engines if e.name == "onnxruntime"), None)
    if not peer:
        return {}
    return {e.name: difference(e.output, peer.output) for e in engines if e is not peer}


def rounds_of(
    engines: list[Engine],
    row: suite.Row,
    calibrator: Calibrator,
    threads: int,
    args: argparse.Namespace,
) -> list[dict[str, object]]:
    """Interleaved slices: per round, each engine's slice and the lowest calibration around it."""
    rounds: list[dict[str, object]] = []
    unit = unit_of(row, calibrator)
    for turn in range(args.rounds):
        order = engines if turn % 2 else engines[::-1]
        slices: dict[str, object] = {}
        peaks = [calibrator.peak(unit, threads)]
        for engine in order:
            slices[engine.name] = engine.slice(args.slice)
            peaks.append(calibrator.peak(unit, threads))
        rounds.append({"slices": slices, "peak": min(peaks)})
    best = max(float(r["peak"]) for r in rounds)  # type: ignore[arg-type]
    kept = [r for r in rounds if float(r["peak"]) >= 0.85 * best]  # type: ignore[arg-type]
    return kept if len(kept) >= 3 else rounds


def measure(
    row: suite.Row, threads: int, calibrator: Calibrator, args: argparse.Namespace
) -> dict[str, object]:
    """One row at one number of threads."""
    result: dict[str, object] = {"row": row.name, "form": row.form, "threads": threads}
    with tempfile.TemporaryDirectory() as folder:
        engines: list[Engine] = []
        try:
            for name in args.engines:
                python = args.peer_python if name.split(":")[0] != "macart" else sys.executable
                engines.append(Engine(name, row, threads, folder, python))
            alive = [e for e in engines if not e.error]
            result["failed"] = {e.name: e.error for e in engines if e.error}
            if not alive:
                return result
            rounds = rounds_of(alive, row, calibrator, threads, args)
            ours = alive[0].name
            times = {e.name: [r["slices"][e.name]["ms"] for r in rounds] for e in alive}  # type: ignore[index]
            result["rounds"] = len(rounds)
            result["ms"] = {name: spread(values) for name, values in times.items()}
            result["ratio"] = {
                name: spread([b / a for a, b in zip(times[ours], values, strict=True)])
                for name, values in times.items()
                if name != ours
            }
            result["cpu"] = {
                e.name: statistics.median(r["slices"][e.name]["cpu"] for r in rounds)  # type: ignore[index]
                for e in alive
            }
            result["start"] = {e.name: e.start for e in alive}
            peak = statistics.median(float(r["peak"]) for r in rounds)  # type: ignore[arg-type]
            work = suite.flops(row)
            result["peak"], result["flops"] = peak, work
            result["limit"] = {
                name: 1e3 * work / peak / statistics.median(values)
                for name, values in times.items()
            }
            result["error"] = errors_of(row, alive)
        finally:
            for engine in engines:
                engine.close()
    return result


def show(result: dict[str, object]) -> None:
    """One line of the table."""
    ms = result.get("ms")
    head = f"{result['row']:24} {result['threads']}"
    if not isinstance(ms, dict):
        print(f"{head}  did not run: {result['failed']}", flush=True)
        return
    ours = next(iter(ms))
    limit, errors = result["limit"], result.get("error", {})
    assert isinstance(limit, dict) and isinstance(errors, dict)
    text = f"{head} {ms[ours]['median']:10.3f} ms {100 * limit[ours]:4.0f} %"
    ratios = result["ratio"]
    assert isinstance(ratios, dict)
    for name, r in ratios.items():
        text += f"  {name} {r['median']:5.2f} ({r['low']:.2f}-{r['high']:.2f})"
    if ours in errors:
        text += f"  error {errors[ours]:.1e}"
        text += f" ({errors['onnxruntime']:.1e})" if "onnxruntime" in errors else ""
    print(text, *(f" [{k}: {v[:60]}]" for k, v in result["failed"].items()), flush=True)  # type: ignore[attr-defined]


def cpu_name() -> str:
    """Model name of the processor, with the units that decide."""
    info = Path("/proc/cpuinfo").read_text()
    name = next((x.split(":", 1)[1].strip() for x in info.splitlines() if "model name" in x), "")
    flags = next((x for x in info.splitlines() if x.startswith("flags")), "").split()
    units = [f for f in ("amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni", "avx512f", "avx2")
             if f in flags]  # fmt: skip
    family = next(
        (x.split(":")[1].strip() for x in info.splitlines() if x.startswith("model\t")), ""
    )
    return f"{name or platform.processor()} (model {family}; {' '.join(units)})"


def main() -> None:
    """Prints the table, and writes it as JSON if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-k", nargs="*", default=[""], help="rows whose name contains one of these")
    more = "ours first; also macart:high, macart:medium, openvino:bf16, torch, torch:compile"
    parser.add_argument("--engines", nargs="+", default=DEFAULT_ENGINES, help=more)
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--slice", type=float, default=SLICE_SECONDS, help="seconds")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter with the peers")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    calibrator = Calibrator()
    print(cpu_name(), f"{len(os.sched_getaffinity(0))} CPUs; columns: time and share of the FMA "
          f"limit of {args.engines[0]}, then peer's time / ours", sep="\n")  # fmt: skip
    results = []
    try:
        for row in (r for r in suite.ROWS if any(part in r.name for part in args.k)):
            for threads in args.threads:
                results.append(measure(row, threads, calibrator, args))
                show(results[-1])
    finally:
        peaks = {k: calibrator.peak(k, max(args.threads), 0.2)
                 for k in ("fma", "bf16", "vnni", "amx_bf16", "amx_int8", "dram")}  # fmt: skip
        calibrator.close()
    if args.json:
        stamp = time.strftime("%Y-%m-%d")
        data = {"cpu": cpu_name(), "date": stamp, "peaks": peaks, "results": results}
        Path(args.json).write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
