"""The exceptions and native classes under the names of ONNX Runtime's extension module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _errors, _options
from .._core import OrtValue, SessionIOBinding
from .._device import OrtDevice
from .._errors import *  # noqa: F403 - the exceptions, by its __all__
from .._options import *  # noqa: F403 - options and their enums
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
    *_errors.__all__, *_options.__all__, "ModelMetadata", "NodeArg", "OrtDevice", "OrtValue",
    "OrtValueVector", "SessionIOBinding",
]  # fmt: skip
