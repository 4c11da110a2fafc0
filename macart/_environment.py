"""Environment variables: a name with our prefix that nobody reads is a slip, and is said."""

from __future__ import annotations

import os
import warnings

from . import _core

# Read by ./dev, the tests and the benchmarks: variable -> (default, meaning, where).
OF_SCRIPTS = {
    "MRT_VENV": (".venv", "the virtual environment that ./dev uses", "dev"),
    "MRT_BENCH_VENV": (".venv-bench", "the one of the benchmarks' peers", "dev"),
    "MACART_MODEL_CACHE": (
        "build/test-models", "where tests keep weights and reference outputs",
        "tests/models/refill.py",
    ),
    "MACART_TEST_MODULE": ("macart", "the module that the tests run", "tests/py/engine.py"),
}  # fmt: skip


def check() -> None:
    """Warns about MRT_ and MACART_ variables that nothing reads."""
    ours = [name for name in os.environ if name.startswith(("MRT_", "MACART_"))]
    known = {*_core.environment(), *OF_SCRIPTS} if ours else set()
    for name in sorted(set(ours) - known):
        import difflib

        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        warnings.warn(
            f"MacaRT reads no environment variable {name}{hint}", RuntimeWarning, stacklevel=3
        )
