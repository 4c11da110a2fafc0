"""Sums of quantised numbers have the same bits on every instruction set.

QLinearAdd alone, as the last step of a convolution (QLinearConvAdd) and of a band (QLinearBand).
Scales are hundredths here whose ratios put thousands of sums so near to the middle of two steps
that the way products are rounded decides (ops/qlinear.h says which way it is).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import qdq_models
from onnx import helper, numpy_helper

pytestmark = pytest.mark.quick
TYPES = [np.uint8, np.int8]
SCALES = [(1, 1, 6), (3, 2, 10), (5, 7, 12), (9, 9, 2), (10, 11, 6), (13, 4, 14)]  # of a, b, c
SETS = ["amx", "avx512vnni", "avx512", "avx2", "scalar"]
RUN = """
import sys, numpy as np, macart
for path in sys.argv[1:]:
    session = macart.InferenceSession(path + ".onnx")
    np.save(path + ".out.npy", session.run(None, dict(np.load(path + ".npz")))[0])
"""


def run_on(isa: str, paths: list[Path]) -> list[np.ndarray]:
    """The only output of each model with the instruction sets capped."""
    names = [str(p) for p in paths]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *names],
        capture_output=True,
        text=True,
        env={**os.environ, "MRT_CPU_ISA": isa},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [np.load(name + ".out.npy") for name in names]


def sum_of_arrays(path: Path, kind: type, one: str, scales: tuple[int, ...]) -> np.ndarray:
    """Writes a QLinearAdd and its inputs; what its definition gives in numpy.

    All pairs of bytes; with `one`, that side is a single number.
    """
    rng, info = np.random.default_rng(scales), np.iinfo(kind)
    all_bytes = np.arange(info.min, info.max + 1).astype(kind)
    a, b = np.repeat(all_bytes, 256).reshape(4, -1), np.tile(all_bytes, 256).reshape(4, -1)
    if one == "a":
        a = all_bytes[[77]].reshape(())
    elif one == "b":
        b = all_bytes[[77]].reshape(())
    sa, sb, sc = (np.float32(n / 100) for n in scales)
    za, zb, zc = (kind(n) for n in rng.integers(info.min, info.max + 1, 3))
    names, values = ["as", "az", "bs", "bz", "cs", "cz"], (sa, za, sb, zb, sc, zc)
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    value = helper.make_tensor_value_info
    node = helper.make_node(
        "QLinearAdd", ["a", "as", "az", "b", "bs", "bz", "cs", "cz"], ["y"], domain="com.microsoft"
    )
    graph = helper.make_graph(
        [node], "sum",
        [value("a", dtype, a.shape), value("b", dtype, b.shape)], [value("y", dtype, None)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in zip(names, values, strict=True)],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), f"{path}.onnx")
    np.savez(f"{path}.npz", a=a, b=b)
    second = (b.astype("f4") - np.float32(zb)) * np.float32(sb / sc)  # a product is rounded,
    first = (a.astype("f8") - float(za)) * float(sa / sc)  # the other is exact
    return np.clip(np.rint((first + second).astype("f4")) + int(zc), info.min, info.max).astype(
        kind
    )


def sums_like(kind: type, seed: int) -> bytes:
    """Residual sums behind convolutions: 3 x 3 ones, and inverted residuals."""
    b = qdq_models.Builder(kind, seed)

    def rounded(x: str, hundredths: int) -> str:
        return b.quantised(x, -1.28 * hundredths, 1.27 * hundredths)

    x = rounded("x", 3)
    for block, (of_y, of_sum) in enumerate([(2, 10), (5, 6), (7, 10), (7, 12)]):
        y = x
        if block % 2:
            y = b.conv(y, 24, 96, 1, act="Relu6")
            y = b.conv(y, 96, 96, 3, group=96, act="Relu6")
            y = b.plain_conv(y, 96, 24, 1)
        else:
            y = b.plain_conv(y, 24, 24, 3)
        x = rounded(b.node("Add", [x, rounded(y, of_y)]), of_sum)
    return b.model((1, 24, 23, 29), x)


def test_sums_of_arrays(tmp_path: Path) -> None:
    """Two arrays, and an array with one number on either side: numpy's bits on each set."""
    paths, wanted = [], []
    for i, scales in enumerate(SCALES * 6):
        paths.append(tmp_path / f"sum{i}")
        wanted.append(sum_of_arrays(paths[-1], TYPES[i // 6 % 2], ["", "a", "b"][i // 12], scales))
    for isa in SETS:
        for path, got, want in zip(paths, run_on(isa, paths), wanted, strict=True):
            np.testing.assert_array_equal(got, want, f"{isa} {path.name}")


def test_sums_of_convolutions(tmp_path: Path) -> None:
    """Whole networks: the scalar set's bits on each other one."""
    paths = []
    for i in range(6):
        paths.append(tmp_path / f"net{i}")
        paths[-1].with_suffix(".onnx").write_bytes(sums_like(TYPES[i % 2], i))
        x = np.random.default_rng(i).standard_normal((1, 24, 23, 29)).astype(np.float32)
        np.savez(f"{paths[-1]}.npz", x=x)
    wanted = run_on("scalar", paths)
    assert min(len(np.unique(w)) for w in wanted) > 50
    for isa in SETS[:-1]:
        for path, got, want in zip(paths, run_on(isa, paths), wanted, strict=True):
            np.testing.assert_array_equal(got, want, f"{isa} {path.name}")
