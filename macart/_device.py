"""OrtDevice: where memory lives."""

from __future__ import annotations

import enum

# name -> (type, vendor). Types are ONNX Runtime's: CPU 0, GPU 1, FPGA 2, NPU 3.
_NAMES = {
    "cpu": (0, 0), "cuda": (1, 0x10DE), "gpu": (1, 0), "cann": (3, 0x19E5), "dml": (1, 0x1414),
    "webgpu": (1, 0), "npu": (3, 0),
}  # fmt: skip


class OrtDeviceVendorId(enum.IntEnum):
    """PCI vendor ids."""

    NONE = 0
    AMD = 0x1002
    NVIDIA = 0x10DE
    ARM = 0x13B5
    MICROSOFT = 0x1414
    HUAWEI = 0x19E5
    QUALCOMM = 0x5143
    INTEL = 0x8086


class OrtDevice:
    """A device by type, id and vendor. Exists whether or not a provider for it does."""

    def __init__(self, type: int, mem_type: int = 0, vendor: int = 0, id: int = 0) -> None:  # noqa: A002
        self._type, self._mem_type, self._vendor, self._id = type, mem_type, vendor, id

    @staticmethod
    def make(ort_device_name: str, device_id: int, vendor_id: int = -1) -> OrtDevice:
        """The device of that name: cpu, cuda, cann, dml, webgpu, gpu or npu."""
        name = ort_device_name.lower()
        if name not in _NAMES:
            raise Exception(f"Unsupported device type: {ort_device_name}")
        kind, vendor = _NAMES[name]
        return OrtDevice(kind, 0, vendor if vendor_id < 0 else int(vendor_id), int(device_id))

    def device_id(self) -> int:
        """Which one of its kind."""
        return self._id

    def device_type(self) -> int:
        """0 CPU, 1 GPU, 2 FPGA, 3 NPU."""
        return self._type

    def device_vendor_id(self) -> int:
        """PCI vendor id; 0: none."""
        return self._vendor

    def device_mem_type(self) -> int:
        """0: the device's default memory."""
        return self._mem_type

    def _get_c_device(self) -> OrtDevice:
        return self

    def __repr__(self) -> str:
        return f"OrtDevice(type={self._type}, vendor={self._vendor:#x}, id={self._id})"


def where(device_type: str | OrtDevice, device_id: int, vendor_id: int = -1) -> tuple[int, int]:
    """(type, id) for the C side."""
    if not isinstance(device_type, OrtDevice):
        device_type = OrtDevice.make(device_type, device_id, vendor_id)
    return device_type.device_type(), device_type.device_id()
