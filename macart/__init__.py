"""MacaRT: ONNX Runtime's Python API on a small C11 engine. ``import macart as ort``."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from . import _core, _environment, _errors, _options, _providers, capi
from ._binding import IOBinding
from ._core import SessionIOBinding
from ._device import OrtDevice, OrtDeviceVendorId
from ._errors import *  # noqa: F403 - the exceptions, by its __all__
from ._errors import missing_name
from ._options import *  # noqa: F403 - options and their enums
from ._session import InferenceSession, ModelMetadata, NodeArg
from ._values import OrtValue, OrtValueVector

__version__ = _core.version

# Names of ONNX Runtime that are not there.
_MISSING = {
    "AdapterFormat", "LoraAdapter", "ModelCompiler", "OrtAllocatorType", "OrtArenaCfg",
    "OrtCompileApiFlags", "OrtDeviceMemoryType", "OrtEpAssignedNode", "OrtEpAssignedSubgraph",
    "OrtEpContextData", "OrtEpContextDataBuffer", "OrtEpDevice",
    "OrtExecutionProviderDevicePolicy", "OrtExternalInitializerInfo", "OrtHardwareDevice",
    "OrtHardwareDeviceType", "OrtMemType", "OrtMemoryInfo", "OrtMemoryInfoDeviceType",
    "OrtSparseFormat", "OrtSyncStream", "SparseTensor", "copy_tensors",
    "create_and_register_allocator", "create_and_register_allocator_v2", "get_ep_devices",
    "has_collective_ops", "preload_dlls", "print_debug_info",
    "register_execution_provider_library", "set_global_thread_pool_sizes",
    "unregister_execution_provider_library",
}  # fmt: skip

if not TYPE_CHECKING:  # checkers know the names themselves

    def __getattr__(name: str) -> Any:
        if name in _MISSING:
            raise missing_name(name)
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def get_available_providers() -> list[str]:
    """Providers that this build can use."""
    return _providers.available()


def get_all_providers() -> list[str]:
    """Providers that MacaRT knows by name; the CPU is last."""
    return list(_providers.KNOWN)


def get_device() -> str:
    """ "CPU"."""
    return "CPU"


def get_version_string() -> str:
    """The package's version."""
    return __version__


def get_build_info() -> str:
    """One line on the build."""
    return f"ORT Build Info: macart={__version__}, cpu={_core.info()['cpu']}"


def set_default_logger_severity(severity: int) -> None:
    """Lowest severity that is written: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal."""
    severity = operator.index(severity)
    if not 0 <= severity <= 4:
        raise RuntimeError(
            "Invalid logging severity. 0:Verbose, 1:Info, 2:Warning, 3:Error, 4:Fatal"
        )
    _core.set_log_level(severity)


def set_default_logger_verbosity(level: int) -> None:
    """Accepted as a hint: verbose lines have one level."""
    if operator.index(level) < 0:
        raise RuntimeError("verbosity levels are not negative")


def set_float32_matmul_precision(precision: str) -> None:
    """What float32 products promise, as PyTorch's function of that name: ``"highest"`` (not above
    the error of a float32 loop; the default), ``"high"`` (3 to 6 times that) or ``"medium"``
    (bf16 products). Holds from the next run on for sessions without the configuration entry
    ``session.float32_matmul_precision``. ValueError for other words.
    """
    _core.set_precision(precision)


def get_float32_matmul_precision() -> str:
    """The precision that set_float32_matmul_precision (or the environment) has chosen."""
    return _core.get_precision()


def set_seed(seed: int) -> None:
    """Random operators that the model gives no seed repeat their numbers from here on."""
    _core.set_seed(seed)


def enable_telemetry_events() -> None:
    """There is no telemetry."""


def disable_telemetry_events() -> None:
    """There is no telemetry."""


__all__ = [
    *_errors.__all__, *_options.__all__,
    "IOBinding", "InferenceSession", "ModelMetadata", "NodeArg", "OrtDevice", "OrtDeviceVendorId",
    "OrtValue", "OrtValueVector", "SessionIOBinding", "capi",
    "disable_telemetry_events", "enable_telemetry_events", "get_all_providers",
    "get_available_providers", "get_build_info", "get_device", "get_float32_matmul_precision",
    "get_version_string", "set_default_logger_severity", "set_default_logger_verbosity",
    "set_float32_matmul_precision", "set_seed",
]  # fmt: skip

_environment.check()
