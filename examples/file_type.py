"""File typing: tells what files are from their first and last kilobyte, with magika's model.

    python examples/file_type.py              files made on the spot
    python examples/file_type.py PATH ...     your own

The model of the PyPI package magika takes 1024 byte values from either end of a file (spaces
stripped, 256 where the file is shorter) and gives a probability for each of 214 types. The
package's configuration says how confident it must be before its answer is believed.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import wave
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from packaged import packaged_file

import macart as ort

MODEL = "models/standard_v3_3/model.onnx"
CONFIG = "models/standard_v3_3/config.min.json"


def features(data: bytes, config: dict[str, Any]) -> list[int]:
    """Byte values of both ends, as the model was trained on them."""
    block, padding = config["block_size"], config["padding_token"]
    begin_size, end_size = config["beg_size"], config["end_size"]
    begin = list(data[:block].lstrip()[:begin_size])
    end = list(data[-block:].rstrip()[-end_size:])
    begin += [padding] * (begin_size - len(begin))
    return begin + [padding] * (end_size - len(end)) + end


def verdict(scores: np.ndarray, config: dict[str, Any]) -> tuple[str, float]:
    """Best label, or "unsure" where its score is below the label's threshold."""
    best = int(scores.argmax())
    label, score = config["target_labels_space"][best], float(scores[best])
    enough = config["thresholds"].get(label, config["medium_confidence_threshold"])
    return (config["overwrite_map"].get(label, label) if score >= enough else "unsure"), score


def made_files() -> dict[str, bytes]:
    """One small file of each of several kinds, under the label that is expected."""
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 255, (16, 49), dtype=np.uint8)
    pixels[:, 0] = 0
    table = "".join(f"{i},item {i},{i * 3.5:.2f},2024-01-{i % 28 + 1:02}\n" for i in range(60))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("readme.txt", "An archive with two members.\n" * 20)
        archive.writestr("data.bin", rng.bytes(500))
    sound = io.BytesIO()
    with wave.open(sound, "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes((3000 * np.sin(np.arange(4000) / 9)).astype("<i2").tobytes())
    return {
        "python": Path(__file__).read_bytes(),
        "json": json.dumps(
            {f"key{i}": {"n": i, "tags": ["a"]} for i in range(30)}, indent=2
        ).encode(),
        "csv": ("id,name,price,date\n" + table).encode(),
        "html": HTML.encode(),
        "c": C_SOURCE.encode(),
        "zip": zipped.getvalue(),
        "png": png(pixels),
        "wav": sound.getvalue(),
    }


def png(rows: np.ndarray) -> bytes:
    """A PNG of 16x16 RGB pixels; each row starts with its filter byte."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes()))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


HTML = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>A page</title><style>p { color: #333; }</style></head>
<body>
<h1>A page</h1>
<p>With a <a href="https://example.org/">link</a> and a list:</p>
<ul><li>one</li><li>two</li></ul>
<script>document.querySelector("h1").textContent = "Changed";</script>
</body>
</html>
"""
C_SOURCE = """#include <stdio.h>
#include <stdlib.h>

/* Prints the squares of the first numbers. */
static int square(int x) { return x * x; }

int main(int argc, char **argv) {
  int n = argc > 1 ? atoi(argv[1]) : 10;
  for (int i = 0; i < n; ++i) {
    printf("%d\\n", square(i));
  }
  return 0;
}
"""


def main() -> None:
    """Types the files of the command line, or the made ones."""
    config = json.loads(packaged_file("magika", CONFIG).read_text())
    session = ort.InferenceSession(
        str(packaged_file("magika", MODEL)), providers=["CPUExecutionProvider"]
    )
    files = {path: Path(path).read_bytes() for path in sys.argv[1:]} or made_files()
    batch = np.array([features(data, config) for data in files.values()], np.int32)
    all_scores = session.run(None, {"bytes": batch})[0]
    for name, scores in zip(files, all_scores, strict=True):
        label, score = verdict(scores, config)
        print(f"{name:24} {label:12} {score:.3f}")


if __name__ == "__main__":
    main()
