"""DLPack: tensors of other libraries are feeds, and results are theirs, without a copy.

    python examples/dlpack.py

Any object with __dlpack__ can be fed: tensors of PyTorch (used here when it is installed), CuPy,
JAX, or a class of your own, like the ring buffer below. Results and OrtValues have __dlpack__ too.
The model of magika tells file types from bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from file_type import CONFIG, MODEL, features, made_files
from packaged import packaged_file

import macart as ort


class Ring:
    """A buffer that others fill; consumers see one row of it, read-only, where it lies."""

    def __init__(self, rows: int, size: int) -> None:
        self.memory = np.zeros((rows, size), np.int32)
        self.at = 0

    def push(self, values: list[int]) -> None:
        """Fills the next row."""
        self.at = (self.at + 1) % len(self.memory)
        self.memory[self.at] = values

    def __dlpack__(self, **kwargs: Any) -> Any:
        row = self.memory[self.at : self.at + 1]
        row.flags.writeable = False
        return row.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.memory.__dlpack_device__()


def main() -> None:
    """Files through the ring, then one through PyTorch if it is there."""
    import json

    config = json.loads(Path(packaged_file("magika", CONFIG)).read_text())
    session = ort.InferenceSession(packaged_file("magika", MODEL))
    labels = config["target_labels_space"]
    ring = Ring(4, 2 * config["beg_size"])
    for name, data in made_files().items():
        ring.push(features(data, config))
        (scores,) = session.run(None, {"bytes": ring})
        print(f"{name:8} {labels[int(scores.argmax())]}")

    value = ort.OrtValue.from_dlpack(ring)
    row = ring.memory[ring.at : ring.at + 1]
    print("read in place:", value.data_ptr() == row.ctypes.data)
    (result,) = session.run_with_ort_values(None, {"bytes": value})
    array = np.from_dlpack(result)
    print("result in place:", result.data_ptr() == array.ctypes.data)

    try:
        import torch
    except ImportError:
        return
    tensor = torch.from_numpy(row.copy())
    (result,) = session.run_with_ort_values(None, {"bytes": ort.OrtValue.from_dlpack(tensor)})
    print("torch:", labels[int(torch.from_dlpack(result).argmax())])


if __name__ == "__main__":
    main()
