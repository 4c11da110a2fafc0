"""IOBinding: memory bound to inputs and outputs once, for many runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._device import where
from ._values import OrtValue, OrtValueVector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._session import InferenceSession


class IOBinding:
    """Made by ``session.io_binding()``. Bound outputs are written in place."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session._sess
        self._iobinding = _core.SessionIOBinding(self._session)

    def bind_cpu_input(self, name: str, arr_on_cpu: np.ndarray) -> None:
        """Reads the array where it lies, at each run."""
        if not isinstance(arr_on_cpu, np.ndarray):
            raise RuntimeError("Unable to create OrtValue from the given python object")
        value = (
            _core.OrtValue.from_python(arr_on_cpu)
            if arr_on_cpu.dtype.kind in "USOV"
            else _core.OrtValue.ortvalue_from_numpy(arr_on_cpu)
        )
        self._iobinding.bind_ortvalue_input(name, value)

    def bind_input(
        self,
        name: str,
        device_type: str,
        device_id: int,
        element_type: Any,
        shape: Sequence[int],
        buffer_ptr: int,
    ) -> None:
        """Reads memory at an address that the caller keeps alive.

        element_type: a numpy type or ONNX's number.
        """
        _host_only(device_type, device_id)
        value = _core.OrtValue.from_pointer(element_type, shape, buffer_ptr)
        self._iobinding.bind_ortvalue_input(name, value)

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """Reads the value's memory at each run."""
        self._iobinding.bind_ortvalue_input(name, ortvalue._ortvalue)

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Writes to an address that the caller keeps alive, or (without one) to new memory."""
        _host_only(device_type, device_id)
        if buffer_ptr is None:
            self._iobinding.bind_ortvalue_output(name, None)
            return
        if element_type is None or shape is None:
            raise ValueError(
                "`element_type` and `shape` are to be provided if pre-allocated memory is provided"
            )
        value = _core.OrtValue.from_pointer(element_type, shape, buffer_ptr)
        self._iobinding.bind_ortvalue_output(name, value)

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """Writes into the value's memory."""
        self._iobinding.bind_ortvalue_output(name, ortvalue._ortvalue)

    def synchronize_inputs(self) -> None:
        """Waits for copies to devices."""
        self._iobinding.synchronize_inputs()

    def synchronize_outputs(self) -> None:
        """Waits for results on devices."""
        self._iobinding.synchronize_outputs()

    def get_outputs(self) -> list[OrtValue]:
        """Results of the last run, in the order in which outputs were bound."""
        return [OrtValue(v) for v in self._iobinding.get_outputs()]

    def get_outputs_as_ortvaluevector(self) -> OrtValueVector:
        """The same as native values."""
        return OrtValueVector(self._iobinding.get_outputs())

    def copy_outputs_to_cpu(self) -> list[Any]:
        """The same as arrays of their own memory."""
        return [_copy(v.to_python()) for v in self._iobinding.get_outputs()]

    def clear_binding_inputs(self) -> None:
        """Unbinds all inputs."""
        self._iobinding.clear_binding_inputs()

    def clear_binding_outputs(self) -> None:
        """Unbinds all outputs."""
        self._iobinding.clear_binding_outputs()


def _copy(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    return [_copy(v) for v in value] if isinstance(value, list) else value


def _host_only(device_type: str, device_id: int) -> None:
    if where(device_type, device_id)[0] != 0:
        raise RuntimeError(
            f"Can't bind memory on the device '{device_type}': this build has no provider for it."
        )
