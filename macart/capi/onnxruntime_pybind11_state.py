"""The exceptions and native classes under the names of ONNX Runtime's extension module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._core import OrtValue, SessionIOBinding
from .._device import OrtDevice
from .._errors import (
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
    RuntimeException,
)
from .._options import (
    ExecutionMode,
    ExecutionOrder,
    GraphOptimizationLevel,
    RunOptions,
    SessionOptions,
)
from .._session import ModelMetadata, NodeArg
from .._values import OrtValueVector

if not TYPE_CHECKING:  # checkers know the names themselves

    def __getattr__(name: str) -> Any:
        """The functions, and NotImplemented for what is not there, are the package's."""
        import macart

        if name.startswith("_") or name == "InferenceSession":  # the native one takes other words
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        return getattr(macart, name)


__all__ = [
    "DeviceReset", "EPFail", "EngineError", "ExecutionMode", "ExecutionOrder", "Fail",
    "GraphOptimizationLevel", "InvalidArgument", "InvalidGraph", "InvalidProtobuf",
    "ModelLoadCanceled", "ModelLoaded", "ModelMetadata", "ModelRequiresCompilation", "NoModel",
    "NoSuchFile", "NodeArg", "NotFound", "NotImplemented", "OrtDevice", "OrtValue",
    "OrtValueVector", "RunOptions", "RuntimeException", "SessionIOBinding", "SessionOptions",
]  # fmt: skip
