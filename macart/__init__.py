"""MacaRT: ONNX Runtime's Python API on a small C11 engine. ``import macart as ort``."""

from __future__ import annotations

from . import _core
from ._errors import (
    DeviceReset,
    EngineError,
    EPFail,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    ModelLoadCanceled,
    ModelLoaded,
    ModelRequiresCompilation,
    NoModel,
    NoSuchFile,
    NotFound,
    NotImplemented,  # noqa: A004
    OutOfMemory,
    RuntimeException,
)
from ._options import (
    ExecutionMode,
    ExecutionOrder,
    GraphOptimizationLevel,
    RunOptions,
    SessionOptions,
)
from ._session import (
    AVAILABLE_PROVIDERS,
    KNOWN_PROVIDERS,
    InferenceSession,
    ModelMetadata,
    NodeArg,
)

__version__ = "0.1.0"


def get_available_providers() -> list[str]:
    """Providers that this build can use."""
    return list(AVAILABLE_PROVIDERS)


def get_all_providers() -> list[str]:
    """Providers that MacaRT knows by name."""
    return list(KNOWN_PROVIDERS)


def get_device() -> str:
    """"CPU"."""
    return "CPU"


def set_default_logger_severity(severity: int) -> None:
    """Lowest severity that is written: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal."""
    _core.set_log_level(severity)


__all__ = [n for n in dir() if not n.startswith("_")]
