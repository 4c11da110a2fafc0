"""OrtValue: a tensor or another value that stays on the engine's side of the boundary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from . import _core
from ._device import where


class OrtValue:
    """Holds one value: usually a tensor over memory of its own, of an array, or of a DLPack
    producer. Nothing is copied when it is made from an array or turned into one.
    """

    def __init__(self, ortvalue: _core.OrtValue, numpy_obj: np.ndarray | None = None) -> None:
        if not isinstance(ortvalue, _core.OrtValue):
            raise ValueError(
                "`Provided ortvalue` needs to be of type "
                "`onnxruntime.capi.onnxruntime_pybind11_state.OrtValue`"
            )
        self._ortvalue = ortvalue
        self._numpy_obj = numpy_obj

    def _get_c_value(self) -> _core.OrtValue:
        return self._ortvalue

    @classmethod
    def ortvalue_from_numpy(
        cls,
        numpy_obj: np.ndarray,
        /,
        device_type: str = "cpu",
        device_id: int = 0,
        vendor_id: int = -1,
    ) -> OrtValue:
        """Over the array's memory (a compact copy when its strides are not plain)."""
        device = where(device_type, device_id, vendor_id)
        if not isinstance(numpy_obj, np.ndarray):
            raise RuntimeError(
                "Creation of OrtValues is currently only supported from non-string numpy arrays"
            )
        return cls(_core.OrtValue.ortvalue_from_numpy(numpy_obj, device), numpy_obj)

    @classmethod
    def ortvalue_from_numpy_with_onnx_type(
        cls, data: np.ndarray, /, onnx_element_type: int
    ) -> OrtValue:
        """Over the array's memory, its elements read as an ONNX type of the same size."""
        return cls(_core.OrtValue.ortvalue_from_numpy_with_onnx_type(data, onnx_element_type), data)

    @classmethod
    def ortvalue_from_shape_and_type(
        cls,
        shape: Sequence[int],
        element_type: Any,
        device_type: str = "cpu",
        device_id: int = 0,
        vendor_id: int = -1,
        memory_info: Any = None,
    ) -> OrtValue:
        """Uninitialized memory. element_type: a numpy type or ONNX's number."""
        if memory_info is not None:
            raise _not_implemented("ortvalue_from_shape_and_type with memory_info")
        device = where(device_type, device_id, vendor_id)
        return cls(_core.OrtValue.ortvalue_from_shape_and_type(shape, element_type, device))

    @classmethod
    def from_dlpack(cls, data: Any, /) -> OrtValue:
        """Over the memory of a DLPack producer, or of a capsule."""
        return cls(_core.OrtValue.from_dlpack(data))

    @classmethod
    def ort_value_from_sparse_tensor(cls, sparse_tensor: Any) -> OrtValue:
        """Sparse tensors cannot be values of their own yet."""
        raise _not_implemented("OrtValue of a sparse tensor")

    def as_sparse_tensor(self) -> Any:
        """Sparse tensors cannot be taken apart yet."""
        if not self.is_sparse_tensor():
            raise RuntimeError(
                "This OrtValue does not contain SparseTensor. Check data_type() value."
            )
        raise _not_implemented("as_sparse_tensor")

    def data_ptr(self) -> int:
        """Address of the first element; 0 for empty tensors."""
        return self._ortvalue.data_ptr()

    def device_name(self) -> str:
        """Where the memory is: "cpu"."""
        return self._ortvalue.device_name().lower()

    def shape(self) -> list[int]:
        """Dimensions."""
        return self._ortvalue.shape()

    def data_type(self) -> str:
        """ "tensor(float)", "seq(tensor(int64))", ..."""
        return self._ortvalue.data_type()

    def element_type(self) -> int:
        """Number of onnx.TensorProto.DataType."""
        return self._ortvalue.element_type()

    def tensor_size_in_bytes(self) -> int:
        """Bytes of the elements."""
        return self._ortvalue.tensor_size_in_bytes()

    def has_value(self) -> bool:
        """False for an empty optional."""
        return self._ortvalue.has_value()

    def is_tensor(self) -> bool:
        """Whether it is a dense tensor."""
        return self._ortvalue.is_tensor()

    def is_sparse_tensor(self) -> bool:
        """Whether it is a sparse tensor."""
        return self._ortvalue.is_sparse_tensor()

    def is_tensor_sequence(self) -> bool:
        """Whether it is a sequence of tensors."""
        return self._ortvalue.is_tensor_sequence()

    def numpy(self) -> np.ndarray:
        """An array over the tensor's memory. RuntimeError for values that are not tensors."""
        return self._ortvalue.numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError("a copy is needed to change the type")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        return self._ortvalue.__dlpack__(
            stream=stream, max_version=max_version, dl_device=dl_device, copy=copy
        )

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._ortvalue.__dlpack_device__()

    def update_inplace(self, data: np.ndarray | OrtValue) -> None:
        """Copies contents of the same shape and type into the tensor's memory."""
        self._ortvalue.update_inplace(data)

    def __reduce__(self) -> tuple:
        return OrtValue.ortvalue_from_numpy, (self.numpy().copy(),)


class OrtValueVector:
    """A list of native values; iterates as them."""

    def __init__(self, values: Iterable[_core.OrtValue] = ()) -> None:
        self._values = list(values)

    def push_back(self, value: Any, is_bool_tensor: bool = False) -> None:
        """Adds an OrtValue, or the tensor of a DLPack capsule."""
        value = getattr(value, "_ortvalue", value)
        if not isinstance(value, _core.OrtValue):
            value = _core.OrtValue.from_dlpack(value, is_bool_tensor)
        self._values.append(value)

    def reserve(self, n: int) -> None:
        """Nothing to do."""

    def shrink_to_fit(self) -> None:
        """Nothing to do."""

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[_core.OrtValue]:
        return iter(self._values)

    def __getitem__(self, index: int) -> _core.OrtValue:
        return self._values[index]

    def dlpack_at(self, index: int) -> Any:
        """A capsule over the tensor's memory."""
        return self._values[index].to_dlpack()

    def element_type_at(self, index: int) -> int:
        """Number of onnx.TensorProto.DataType."""
        return self._values[index].element_type()

    def bool_tensor_indices(self) -> list[int]:
        """Positions of tensors of bool."""
        return [i for i, v in enumerate(self._values) if v.data_type() == "tensor(bool)"]


def _not_implemented(what: str) -> Exception:
    from ._errors import make

    return make(9, "NOT_IMPLEMENTED", "NotImplemented", what)
