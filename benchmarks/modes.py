"""Is `high` never slower than `highest`, and `medium` never than `high`, over convolutions?

    python benchmarks/modes.py [--count 60] [--seed 0] [--threads 1 2] [--limit 1.05]

Chains of three convolutions (channels, windows, strides, image sizes, batches drawn from lists; the
first has the input's channels and the stride) run in all three precisions by turns. A shape whose
ratio is over the limit is measured again, longer; what is still over it is printed, and the exit
status is 1.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import time
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import macart

MODES = ("highest", "high", "medium")
CHANNELS = (3, 8, 16, 24, 32, 48, 64)
OUTPUTS = (8, 32, 64, 96)
KERNELS = (1, 3, 5, 7)
STRIDES = (1, 2)
IMAGES = (7, 14, 28, 56, 112, 224)
BATCHES = (1, 8)
DEPTH = 3
MOST_WORK = 1.5e9  # multiplications of a shape


class Shape(NamedTuple):
    """A chain, padded so that stride 1 keeps the size."""

    cin: int
    cout: int
    kernel: int
    stride: int
    image: int
    batch: int

    def work(self) -> float:
        """Multiplications."""
        side = self.image // self.stride
        pairs = (self.cin + (DEPTH - 1) * self.cout) * self.cout
        return self.batch * side**2 * pairs * self.kernel**2


def model(s: Shape) -> bytes:
    """The chain, each with a Relu behind it."""
    rng = np.random.default_rng(0)

    def weights(name: str, *dims: int) -> TensorProto:
        fan = float(np.prod(dims[1:]))
        return numpy_helper.from_array(
            (rng.standard_normal(dims) / fan**0.5).astype(np.float32), name
        )

    pads = [s.kernel // 2] * 4
    nodes, tensors, x = [], [], "x"
    for i in range(DEPTH):
        strides = [1 if i else s.stride] * 2
        tensors.append(weights(f"w{i}", s.cout, s.cout if i else s.cin, s.kernel, s.kernel))
        nodes.append(helper.make_node("Conv", [x, f"w{i}"], [f"c{i}"], pads=pads, strides=strides))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"y{i}"]))
        x = f"y{i}"
    size = [s.batch, s.cin, s.image, s.image]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, None)],
        tensors,
    )
    opset = [helper.make_opsetid("", 21)]
    return onnx.ModelProto.SerializeToString(
        helper.make_model(graph, opset_imports=opset, ir_version=10)
    )


def sessions(s: Shape, threads: int) -> list[macart.InferenceSession]:
    """One a mode."""
    made = []
    for mode in MODES:
        options = macart.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.float32_matmul_precision", mode)
        made.append(macart.InferenceSession(model(s), options))
    return made


def ratios(made: list[macart.InferenceSession], feed: dict[str, np.ndarray], seconds: float,
           rounds: int) -> list[float]:  # fmt: skip
    """high / highest and medium / high: medians over rounds of the best run of each."""
    best: list[list[float]] = [[] for _ in made]
    for k in range(rounds):
        for i in range(len(made)) if k % 2 else reversed(range(len(made))):
            least, end = 1e9, time.perf_counter() + seconds
            while time.perf_counter() < end:
                start = time.perf_counter()
                made[i].run(None, feed)
                least = min(least, time.perf_counter() - start)
            best[i].append(least)
    return [
        statistics.median(b / a for a, b in zip(best[i], best[i + 1], strict=True))
        for i in range(len(made) - 1)
    ]


def main() -> int:
    """Draws shapes, measures, prints those over the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--limit", type=float, default=1.05)
    args = parser.parse_args()
    grid = (CHANNELS, OUTPUTS, KERNELS, STRIDES, IMAGES, BATCHES)
    shapes = [s for s in itertools.starmap(Shape, itertools.product(*grid)) if s.work() < MOST_WORK]
    over, all_ratios = 0, []
    for s in random.Random(args.seed).sample(shapes, min(args.count, len(shapes))):
        feed = {
            "x": np.random.default_rng(1)
            .standard_normal((s.batch, s.cin, s.image, s.image))
            .astype(np.float32)
        }
        for threads in args.threads:
            made = sessions(s, threads)
            got = ratios(made, feed, 0.004, 5)
            for again in (1, 2):
                if max(got) > args.limit:
                    got = ratios(made, feed, 0.015 * again, 7)
            all_ratios.append(got)
            if max(got) > args.limit:
                over += 1
                print(f"{s} threads {threads}: high {got[0]:.2f}, medium {got[1]:.2f}", flush=True)
    for name, values in zip(MODES[1:], zip(*all_ratios, strict=True), strict=True):
        print(f"{name}: median {statistics.median(values):.2f}, largest {max(values):.2f}")
    print(f"{over} of {len(all_ratios)} over {args.limit}")
    return over > 0


if __name__ == "__main__":
    sys.exit(main())
