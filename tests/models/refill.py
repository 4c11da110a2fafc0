"""Gives the committed networks weights again: deterministic, and scaled like the exported ones.

NAME.onnx.gz holds a model whose large float initializers have dims and no data; NAME.json has
[mean, std, min, max] for each, and a 1 where filters sum to 0. Numbers come from PCG64's raw
64-bit stream, which numpy promises to keep: four 16-bit parts are added, which is near enough to
a normal distribution and needs no transcendental function, so every machine makes the same bits.
Filled models are cached under build/ (or $MACART_MODEL_CACHE).

    python tests/models/refill.py [NAME ...]        prints the paths
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import onnx

HERE = Path(__file__).resolve().parent
FORMAT = "1"
CHUNK = 1 << 20


def names() -> list[str]:
    """The networks that are committed."""
    return sorted(path.name.removesuffix(".onnx.gz") for path in HERE.glob("*.onnx.gz"))


def model_path(name: str) -> Path:
    """Path of the network with weights; made on first use."""
    packed = (HERE / f"{name}.onnx.gz").read_bytes()
    table = (HERE / f"{name}.json").read_bytes()
    key = hashlib.sha256(FORMAT.encode() + packed + table).hexdigest()[:16]
    path = cache_folder() / f"{name}-{key}.onnx"
    if not path.exists():
        model = onnx.ModelProto.FromString(gzip.decompress(packed))
        fill(model, json.loads(table), name)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        partial.write_bytes(model.SerializeToString())
        partial.replace(path)
    return path


def cache_folder() -> Path:
    """Where filled models are kept."""
    chosen = os.environ.get("MACART_MODEL_CACHE")
    return Path(chosen) if chosen else HERE.parents[1] / "build" / "test-models"


def fill(model: onnx.ModelProto, table: dict[str, list[float]], name: str) -> None:
    """Fills every initializer that the table names; each has a stream of its own."""
    left = dict(table)
    for tensor in model.graph.initializer:
        if tensor.name in left:
            row = left.pop(tensor.name)
            tensor.raw_data = weights(f"{name}/{tensor.name}", list(tensor.dims), row)
    if left:
        raise ValueError(f"{name}: the table names unknown weights: {sorted(left)[:3]}")


def weights(stream: str, dims: list[int], row: list[float]) -> bytes:
    """Little-endian floats with the mean, deviation and range of the row."""
    mean, deviation, low, high = (np.float32(value) for value in row[:4])
    totals = four_dice(stream, math.prod(dims))
    # Four uniform 16-bit numbers: mean 2 * 65535, variance 4 * (65536^2 - 1) / 12.
    scale = np.float32(1.0 / math.sqrt((65536.0**2 - 1) / 3))
    if len(row) > 4:  # each filter sums to 0; its mean comes from an exact integer sum
        totals = totals.reshape(dims[0], -1)
        centre = (totals.sum(axis=1, dtype=np.int64) / totals.shape[1]).astype(np.float32)
        normal = (totals.astype(np.float32) - centre[:, None]) * scale
    else:
        normal = (totals.astype(np.float32) - np.float32(131070.0)) * scale
    normal *= deviation
    normal += mean
    return np.clip(normal, low, high, out=normal).astype("<f4").tobytes()


def four_dice(stream: str, count: int) -> np.ndarray:
    """Sums of four 16-bit numbers, from a stream of its own for each name."""
    seed = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:16], "little")
    bits = np.random.PCG64(np.random.SeedSequence(seed))
    totals = np.zeros(count, np.int32)
    for start in range(0, count, CHUNK):
        part = totals[start : start + CHUNK]
        raw = bits.random_raw(part.size)
        for shift in (0, 16, 32, 48):
            part += ((raw >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int32)
    return totals


if __name__ == "__main__":
    for each in sys.argv[1:] or names():
        print(model_path(each))
