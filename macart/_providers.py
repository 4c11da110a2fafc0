"""Execution providers: which exist, and ONNX Runtime's rules for what users pass."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from . import _core

# ONNX Runtime's names and ours; the CPU is last, as there.
KNOWN = (
    "MACAExecutionProvider", "ROCMExecutionProvider", "OpenCLExecutionProvider",
    "NvTensorRTRTXExecutionProvider", "TensorrtExecutionProvider", "CUDAExecutionProvider",
    "MIGraphXExecutionProvider", "OpenVINOExecutionProvider", "DnnlExecutionProvider",
    "VitisAIExecutionProvider", "QNNExecutionProvider", "NnapiExecutionProvider",
    "VSINPUExecutionProvider", "JsExecutionProvider", "CoreMLExecutionProvider",
    "ACLExecutionProvider", "DmlExecutionProvider", "RknpuExecutionProvider",
    "WebNNExecutionProvider", "WebGpuExecutionProvider", "XnnpackExecutionProvider",
    "CANNExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider",
)  # fmt: skip


def available() -> list[str]:
    """Providers of this build, best first."""
    return _core.providers()


def why_not(name: str) -> str:
    """What is missing for a provider that is not available."""
    if name in KNOWN:
        return f"{name} is not part of this build, which computes with: {', '.join(available())}"
    return f"no provider is called {name}"


def normalize(
    providers: Sequence[Any] | None, options: Sequence[dict] | None
) -> tuple[list[str], list[dict[str, str]]]:
    """Names and options as two lists; the errors and warnings are ONNX Runtime's."""
    if providers is None:
        return [], []
    found: dict[str, dict[str, str]] = {}

    def add(name: str, opts: dict) -> None:
        if not _core.has_provider(name):
            warnings.warn(
                f"Specified provider '{name}' is not in available provider names."
                f"Available providers: '{', '.join(available())}'. {why_not(name)}.",
                stacklevel=6,
            )
        if name in found:
            warnings.warn(f"Duplicate provider '{name}' encountered, ignoring.", stacklevel=6)
            return
        found[name] = {str(k): str(v) for k, v in opts.items()}

    if not isinstance(providers, Sequence):
        raise ValueError("'providers' should be a sequence.")
    if options is not None:
        if not isinstance(options, Sequence):
            raise ValueError("'provider_options' should be a sequence.")
        if len(options) != len(providers):
            raise ValueError(
                "'providers' and 'provider_options' should be the same length if both are given."
            )
        if not all(isinstance(p, str) for p in providers):
            raise ValueError(
                "Only string values for 'providers' are supported if 'provider_options' is given."
            )
        if not all(isinstance(o, dict) for o in options):
            raise ValueError("'provider_options' values must be dicts.")
        for name, opts in zip(providers, options, strict=True):
            add(name, opts)
        return list(found), list(found.values())
    for p in providers:
        if isinstance(p, str):
            add(p, {})
        elif (
            isinstance(p, tuple)
            and len(p) == 2
            and isinstance(p[0], str)
            and isinstance(p[1], dict)
        ):
            add(*p)
        else:
            raise ValueError("'providers' values must be either strings or (string, dict) tuples.")
    return list(found), list(found.values())
