"""Exceptions, named and worded as ONNX Runtime's: ``[ONNXRuntimeError] : 1 : FAIL : message``."""

from __future__ import annotations


class Fail(Exception):
    """General failure."""


class InvalidArgument(Exception):
    """A wrong feed, shape, type or option."""


class NoSuchFile(Exception):
    """The model file does not exist."""


class NoModel(Exception):
    """There is no model."""


class EngineError(Exception):
    """The engine failed."""


class RuntimeException(Exception):
    """A failure while running."""


class InvalidProtobuf(Exception):
    """The bytes are not an ONNX model."""


class ModelLoaded(Exception):
    """A model is loaded already."""


class NotImplemented(Exception):  # noqa: A001 - ONNX Runtime's name
    """Something that MacaRT does not do yet; the message names it."""


class InvalidGraph(Exception):
    """The model is not a valid graph."""


class EPFail(Exception):
    """An execution provider failed."""


class ModelLoadCanceled(Exception):
    """Loading was cancelled."""


class ModelRequiresCompilation(Exception):
    """The model must be compiled first."""


class NotFound(Exception):
    """Something named was not found."""


class DeviceReset(Exception):
    """The device was reset."""


class OutOfMemory(Fail, MemoryError):
    """No memory; also a MemoryError."""


class MissingName(NotImplemented, AttributeError):
    """A name of ONNX Runtime that is not there; hasattr answers False."""


# What `from ._errors import *` gives to the package and to capi: the exceptions.
__all__ = [
    "DeviceReset", "EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph",
    "InvalidProtobuf", "ModelLoadCanceled", "ModelLoaded", "ModelRequiresCompilation", "NoModel",
    "NoSuchFile", "NotFound", "NotImplemented", "OutOfMemory", "RuntimeException",
]  # fmt: skip
_CLASSES: dict[str, type[Exception]] = {name: globals()[name] for name in __all__}


def classes() -> tuple[type[Exception], ...]:
    """All of them."""
    return tuple(_CLASSES.values())


def make(code: int, name: str, cls: str, message: str) -> Exception:
    """The exception for a status; codes of our own (>= 100) print as FAIL."""
    shown = code if code < 100 else 1
    return _CLASSES.get(cls, Fail)(f"[ONNXRuntimeError] : {shown} : {name} : {message}")


def missing_name(name: str) -> MissingName:
    """The exception for a name of ONNX Runtime that is not there."""
    return MissingName(f"[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : {name} is not there yet")
