"""ONNX Runtime's subpackage, for scripts that name its exceptions by their full path."""

from __future__ import annotations

from . import onnxruntime_pybind11_state

__all__ = ["onnxruntime_pybind11_state"]
