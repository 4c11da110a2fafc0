"""Comparison of run results with expected values, for every kind of value that ONNX has.

`difference` answers None or one line that starts with the kind of the difference (type, shape,
dtype, value), which the conformance suite keeps as part of an outcome. `relative_error` is the
single number that the model tables print.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def difference(got: Any, want: Any, rtol: float, atol: float) -> str | None:
    """None where got equals want within the tolerance, else "<kind>: <what differs>"."""
    if want is None or got is None:
        return None if want is got else f"type: got {_kind(got)}, want {_kind(want)}"
    if isinstance(want, (list, tuple)):
        return _list_difference(got, want, rtol, atol)
    if isinstance(want, dict):
        return _dict_difference(got, want, rtol, atol)
    if isinstance(got, (list, tuple, dict)):
        return f"type: got {_kind(got)}, want {_kind(want)}"
    return _array_difference(np.asarray(got), np.asarray(want), rtol, atol)


def _kind(value: Any) -> str:
    return "none" if value is None else type(value).__name__


def _list_difference(got: Any, want: Any, rtol: float, atol: float) -> str | None:
    if not isinstance(got, (list, tuple)):
        return f"type: got {_kind(got)}, want a list"
    if len(got) != len(want):
        return f"shape: got {len(got)} items, want {len(want)}"
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        problem = difference(a, b, rtol, atol)
        if problem:
            return f"{problem} (item {i})"
    return None


def _dict_difference(got: Any, want: dict[Any, Any], rtol: float, atol: float) -> str | None:
    if not isinstance(got, dict) or sorted(got) != sorted(want):
        return "type: maps with different keys"
    for key, value in want.items():
        problem = difference(got[key], value, rtol, atol)
        if problem:
            return f"{problem} (key {key!r})"
    return None


def _array_difference(got: np.ndarray, want: np.ndarray, rtol: float, atol: float) -> str | None:
    if got.shape != want.shape:
        return f"shape: got {list(got.shape)}, want {list(want.shape)}"
    if got.dtype != want.dtype:
        return f"dtype: got {got.dtype}, want {want.dtype}"
    if want.dtype.kind in "OSU":
        wrong = [(a, b) for a, b in zip(got.ravel(), want.ravel(), strict=True) if a != b]
        return f"value: {len(wrong)} strings differ, first {wrong[0]!r}" if wrong else None
    a, b = widen(got), widen(want)
    if b.dtype.kind in "biu" and rtol == 0 and atol == 0:
        close = a == b
    else:
        with np.errstate(all="ignore"):
            close = np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=True)
    if bool(close.all()):
        return None
    where = np.argwhere(~close)
    first = tuple(int(i) for i in where[0]) if where.ndim == 2 and where.shape[1] else ()
    return (
        f"value: {len(where)} of {b.size} differ, first at {list(first)}: "
        f"got {a[first]}, want {b[first]}"
    )


def widen(array: np.ndarray) -> np.ndarray:
    """Numbers in a type that numpy computes with; ml_dtypes floats and narrow integers widen."""
    if array.dtype.kind in "fc":
        return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    if array.dtype.kind == "V" or array.dtype.name.startswith(("bfloat", "float8", "float4")):
        name = array.dtype.name
        return array.astype(np.int64 if name.lstrip("u").startswith("int") else np.float64)
    return array


def relative_error(got: np.ndarray, want: np.ndarray) -> float:
    """max|got - want| / max|want|; infinite where shapes or non-finite values differ."""
    if got.shape != want.shape:
        return float("inf")
    if want.size == 0:
        return 0.0
    a, b = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(np.isfinite(a), finite) or not np.array_equal(
        a[~finite], b[~finite], equal_nan=True
    ):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = float(np.abs(b[finite]).max())
    worst = float(np.abs(a[finite] - b[finite]).max())
    return worst / scale if scale else worst
