"""Coefficients of tanh, erf, GELU and sigmoid in csrc/provider/cpu/simd/simd_math.inl.

f(x) = x P(z) / Q(z), z = min(x x, limit), least maximum of the relative error up to the limit:
linearised least squares (each round weighs with the last one's Q) under Lawson's weights; then one
coefficient after another is rounded to float32 and the rest fitted again. Prints C initialisers
and the error of the rounded function in float64 and in emulated float32 arithmetic.

    python tools/fit_functions.py [tanh erf phi exp]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

erf = np.vectorize(math.erf, otypes=[np.float64])
# name: (f, degree of P, degree of Q, limit of |x|); phi is the normal distribution less 1/2.
FITS: dict[str, tuple[Callable[[Array], Array], int, int, float]] = {
    "tanh": (np.tanh, 4, 4, 9.01),
    "erf": (erf, 5, 5, 3.92),
    "phi": (lambda x: 0.5 * erf(x * math.sqrt(0.5)), 5, 5, 5.53),
}


def columns(x: Array, f: Array, p: int, q: int, limit: float) -> tuple[Array, Array]:
    """Columns of P (as relative contributions) and of Q, in z scaled to [0, 1]."""
    u = (x / limit) ** 2
    base = x / f
    return (
        np.stack([base * u**i for i in range(p + 1)], axis=1),
        np.stack([u**i for i in range(q + 1)], axis=1),
    )


def fit(name: str) -> tuple[Array, Array]:
    """float32 coefficients of P and Q in rising powers of z, Q[0] = 1."""
    f, p, q, limit = FITS[name]
    x = limit * np.sin(np.linspace(1e-4, math.pi / 2, 6000)) ** 1.5
    y = f(x)
    a, b = columns(x, y, p, q, limit)
    full = np.concatenate([a, -b[:, 1:]], axis=1)  # a . P - b . Q' = 1
    scale = np.array([limit ** (-2 * i) for i in [*range(p + 1), *range(1, q + 1)]])
    fixed = np.full(p + 1 + q, np.nan)  # rounded coefficients, in powers of z

    def solve(rounds: int) -> Array:
        free = np.isnan(fixed)
        known = np.where(free, 0.0, fixed) / scale
        den, lawson = np.ones_like(x), np.ones_like(x)
        best, best_error = known, math.inf
        for _ in range(rounds):
            w = np.sqrt(lawson) / den
            rhs = (1 - full @ known) * w
            c = known.copy()
            if free.any():
                c[free] = np.linalg.lstsq(full[:, free] * w[:, None], rhs, rcond=1e-15)[0]
            den = b @ np.concatenate([[1.0], c[p + 1 :]])
            e = np.abs((a @ c[: p + 1]) / den - 1)
            if e.max() < best_error:
                best, best_error = c, e.max()
            lawson = lawson * (e / e.max() + 1e-3)
            lawson /= lawson.mean()
        return best * scale

    order = [i for k in range(max(p, q) + 1) for i in (k, p + k) if i <= p or k >= 1]
    order = [i for i in dict.fromkeys(order) if i < p + 1 + q and (i <= p or i - p <= q)]
    for n, i in enumerate(order):
        c = solve(400 if n == 0 else 120)
        fixed[i] = np.float32(c[i])
    c = fixed.astype(np.float32)
    return c[: p + 1], np.concatenate([np.ones(1, np.float32), c[p + 1 :]])


def evaluate(x: Array, p: Array, q: Array, limit: float, rounded: bool) -> Array:
    """x P / Q; `rounded`: every step is a float32 operation or fused multiply-add."""
    r = (lambda v: v.astype(np.float32).astype(np.float64)) if rounded else (lambda v: v)
    z = np.minimum(r(x * x), float(np.float32(limit * limit)))

    def horner(c: Array) -> Array:
        s = np.full_like(z, float(c[-1]))
        for k in c[-2::-1]:
            s = r(s * z + float(k))
        return s

    return r(x * r(horner(p) / horner(q)))


def fit_exp(degree: int) -> tuple[Array, float]:
    """e^r for |r| <= ln 2 / 2 as a polynomial that is 1 at 0, and its relative error."""
    r = math.log(2) / 2 * 1.0005 * np.cos(np.linspace(0, math.pi, 4001))
    a = r[:, None] ** np.arange(1, degree + 1) / np.exp(r)[:, None]
    want, lawson, best, best_error = 1 - np.exp(-r), np.ones_like(r), a[0], math.inf
    for _ in range(300):
        w = np.sqrt(lawson)
        c = np.linalg.lstsq(a * w[:, None], want * w, rcond=1e-15)[0]
        e = np.abs(a @ c - want)
        if e.max() < best_error:
            best, best_error = c, float(e.max())
        lawson = lawson * (e / e.max() + 1e-3)
        lawson /= lawson.mean()
    return np.concatenate([[1.0], best]), best_error


def main(names: list[str]) -> None:
    for name in names:
        if name == "exp":
            c, error = fit_exp(5)
            print(f"exp: relative error {error:.2e}")
            print("  P: " + ", ".join(f"{v:.9g}f" for v in c[::-1]))
            continue
        f, dp, dq, limit = FITS[name]
        p, q = fit(name)
        x: Array = np.geomspace(1e-6, limit * 1.2, 400000).astype(np.float32).astype(np.float64)
        y = f(x)
        top = 0.5 if name == "phi" else 1.0
        print(f"{name}: P of degree {dp}, Q of degree {dq}, z up to {np.float32(limit * limit)!r}")
        for rounded in (False, True):
            got = np.minimum(evaluate(x, p, q, limit, rounded), top)
            e: Array = np.abs(got / y - 1)
            print(
                f"  {'float32' if rounded else 'exact'}: relative error {e.max():.2e}"
                f" at {x[e.argmax()]:.4g}, beyond the limit {e[x > limit].max():.1e}"
            )
        for n, c in (("P", p), ("Q", q)):
            print(f"  {n}: " + ", ".join(f"{v:.9g}f" for v in c[::-1].astype(float)))


if __name__ == "__main__":
    main(sys.argv[1:] or [*FITS, "exp"])
