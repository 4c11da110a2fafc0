"""``python -m macart``: what a person at a terminal asks of the engine.

python -m macart info                                 CPU, instruction sets, providers
python -m macart run model.onnx --size batch=2        random feeds, times, output shapes
python -m macart run model.onnx --print-ir            the optimized graph as text
python -m macart run model.onnx --trace prefix        a Chrome trace of the runs
python -m macart opt --passes cse,dce graph.ir        passes on a graph in text form
python -m macart compare model.onnx                   outputs beside onnxruntime's
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import NoReturn

import numpy as np

from . import (
    GraphOptimizationLevel,
    InferenceSession,
    NodeArg,
    SessionOptions,
    _core,
    _errors,
    _providers,
)

_NUMPY = {
    "float": "float32", "double": "float64", "float16": "float16", "int64": "int64",
    "int32": "int32", "int16": "int16", "int8": "int8", "uint8": "uint8", "uint16": "uint16",
    "uint32": "uint32", "uint64": "uint64", "bool": "bool",
}  # fmt: skip


class _Wrong(Exception):
    """What the user asked for cannot be done."""


# What a wrong argument or model ends in; anything else is a bug and keeps its traceback.
_USER_ERRORS: tuple[type[Exception], ...] = (OSError, UnicodeError, _Wrong, *_errors.classes())


class _Parser(argparse.ArgumentParser):
    """Errors in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def _size(word: str) -> tuple[str, int]:
    name, _, value = word.partition("=")
    if not name or not value.isdecimal():
        raise argparse.ArgumentTypeError(f"'{word}' is not NAME=N")
    return name, int(value)


def _count(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"'{word}' is not a number above 0")
    return int(word)


def random_feed(arg: NodeArg, sizes: dict[str, int], rng: np.random.Generator) -> np.ndarray:
    """Random data for an input: normal floats, small integers; free dims from `sizes`, else 1."""
    kind = arg.type.removeprefix("tensor(").removesuffix(")")
    if kind not in _NUMPY or not arg.type.startswith("tensor("):
        raise _Wrong(f"input {arg.name} is {arg.type}: no random data for that")
    shape = [d if isinstance(d, int) else sizes.get(str(d), 1) for d in arg.shape]
    dtype = np.dtype(_NUMPY[kind])
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 2, shape).astype(dtype)


def _feeds(session: InferenceSession, args: argparse.Namespace) -> dict[str, np.ndarray]:
    """Random data for every input. A size for a dimension that no input has is a user's error."""
    sizes, rng = dict(args.size), np.random.default_rng(args.seed)
    free = {str(d) for a in session.get_inputs() for d in a.shape if not isinstance(d, int) and d}
    wrong = sorted(set(sizes) - free)
    if wrong:
        names = f"there are {', '.join(sorted(free))}" if free else "it has none with a name"
        raise _Wrong(f"the model has no free dimension {', '.join(wrong)}: {names}")
    return {a.name: random_feed(a, sizes, rng) for a in session.get_inputs()}


def _session(args: argparse.Namespace) -> InferenceSession:
    options = SessionOptions()
    options.intra_op_num_threads = args.threads
    if args.no_opt:
        options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    if getattr(args, "trace", None):
        options.enable_profiling = True
        options.profile_file_prefix = args.trace
    return InferenceSession(args.model, options)


def _info(args: argparse.Namespace) -> int:
    facts = _core.info()
    sets = " ".join(facts["isa_names"]) or "scalar"
    print(f"macart {_core.version} on {facts['cpu']}, instruction sets: {sets}")
    print(f"threads {facts['threads']}, providers: {', '.join(_providers.available())}")
    return 0


def _run(args: argparse.Namespace) -> int:
    begin = time.perf_counter()
    session = _session(args)
    created = time.perf_counter() - begin
    if args.print_ir:
        print(session._sess.text(args.max_elems), end="")
        return 0
    feeds = _feeds(session, args)
    times = []
    for _ in range(args.repeat + 1):
        begin = time.perf_counter()
        outputs = session.run(None, feeds)
        times.append(1e3 * (time.perf_counter() - begin))
    for arg, value in zip(session.get_outputs(), outputs, strict=True):
        print(f"{arg.name}: {arg.type} {list(np.shape(value))}")
    print(f"created in {1e3 * created:.1f} ms; first run {times[0]:.3f} ms, "
          f"then {statistics.median(times[1:]):.3f} ms (median of {args.repeat})")  # fmt: skip
    if args.trace:
        print(f"trace: {session.end_profiling()}")
    return 0


def _opt(args: argparse.Namespace) -> int:
    text = sys.stdin.read() if args.file == "-" else Path(args.file).read_text()
    result, fired = _core.run_passes(text, args.passes, args.max_elems)
    print(result, end="")
    print(f"# fired {fired}", file=sys.stderr)
    return 0


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest |a - b| over the largest finite |b|; inf where only one is NaN or the infinity."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
    scale = np.abs(y[np.isfinite(y)]).max(initial=0.0) or 1.0
    return float(np.where(np.isnan(error), np.inf, error).max(initial=0.0) / scale)


def _compare(args: argparse.Namespace) -> int:
    session = _session(args)
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError:
        raise _Wrong("compare needs onnxruntime: pip install onnxruntime") from None
    feeds = _feeds(session, args)
    peer = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
    worst = 0.0
    pairs = zip(session.get_outputs(), session.run(None, feeds), peer.run(None, feeds), strict=True)
    for arg, a, b in pairs:
        if not isinstance(b, np.ndarray) or b.dtype.kind not in "fiu" or np.shape(a) != b.shape:
            same = np.array_equal(a, b)
            worst = worst if same else float("inf")
            print(f"{arg.name}: {'same' if same else 'DIFFERENT'}")
            continue
        error = difference(np.asarray(a), b)
        worst = max(worst, error)
        print(f"{arg.name}: largest difference {error:.2e} of the largest value")
    return 0 if worst <= args.bound else 1


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and runs the command; returns the exit status (2: a user's error)."""
    parser = _Parser(
        prog="python -m macart", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"macart {_core.version}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="CPU, instruction sets, providers").set_defaults(do=_info)
    model = _Parser(add_help=False)
    model.add_argument("model", help="path of an ONNX file")
    model.add_argument(
        "--size", nargs="*", default=[], type=_size, metavar="NAME=N", help="free dimensions"
    )
    model.add_argument("--threads", type=int, default=0)
    model.add_argument("--no-opt", action="store_true", help="graph optimizations off")
    model.add_argument("--seed", type=int, default=0)
    run = commands.add_parser("run", parents=[model], help="run with random feeds")
    run.add_argument("--repeat", type=_count, default=10, metavar="N")
    run.add_argument("--print-ir", action="store_true", help="print the optimized graph, no run")
    run.add_argument(
        "--max-elems",
        type=int,
        default=8,
        metavar="N",
        help="larger constants are elided (default 8); -1 prints everything",
    )
    run.add_argument("--trace", metavar="PREFIX", help="write a Chrome trace")
    run.set_defaults(do=_run)
    compare = commands.add_parser("compare", parents=[model], help="beside onnxruntime")
    compare.add_argument("--bound", type=float, default=1e-4)
    compare.set_defaults(do=_compare)
    opt = commands.add_parser("opt", help="passes on a graph in text form")
    opt.add_argument("file", help="the text, - for standard input")
    opt.add_argument(
        "--passes",
        default="",
        help="names with commas between; none: only inference. "
        f"There are {', '.join(sorted(_core.passes()))}",
    )
    opt.add_argument(
        "--max-elems",
        type=int,
        default=-1,
        metavar="N",
        help="larger constants are elided; -1 (default) prints everything",
    )
    opt.set_defaults(do=_opt)
    args = parser.parse_args(argv)
    try:
        return args.do(args)
    except _USER_ERRORS as e:
        print(f"{parser.prog}: error: {' '.join(str(e).split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
