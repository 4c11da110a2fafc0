"""Which engine the tests talk to, and the few facts about it that tests share.

Every harness under tests/py is written against the public API of ONNX Runtime. The module that
provides it is named by the environment variable MACART_TEST_MODULE (default: macart), so the
same tests can be run against onnxruntime to check the tests themselves.
"""

from __future__ import annotations

import importlib
import os
import re
from types import ModuleType
from typing import Any

DEFAULT_MODULE = "macart"

_CODED = re.compile(r"^\[ONNXRuntimeError\] : \d+ : (\w+) : ")


def module_name() -> str:
    """Name of the module under test."""
    return os.environ.get("MACART_TEST_MODULE", DEFAULT_MODULE)


def load_engine(name: str | None = None) -> ModuleType:
    """Imports the engine; a stock onnxruntime is told to stay offline and to take new opsets."""
    name = name or module_name()
    if name == "onnxruntime":
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        os.environ.setdefault("ALLOW_RELEASED_ONNX_OPSET_ONLY", "0")
    engine = importlib.import_module(name)
    if hasattr(engine, "set_default_logger_severity"):
        engine.set_default_logger_severity(4)
    return engine


def make_session(
    engine: ModuleType, model: str | bytes, optimize: bool = True, threads: int = 1
) -> Any:
    """A CPU session with all optimizations or none."""
    options = engine.SessionOptions()
    options.intra_op_num_threads = threads
    level = engine.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    return engine.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def error_code(error: BaseException) -> str:
    """NAME of the engine's status code in an exception, or the class of the exception."""
    match = _CODED.match(str(error))
    return match.group(1) if match else type(error).__name__
