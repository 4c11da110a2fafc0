"""Text in pictures: finds and reads lines with the PP-OCRv4 models of rapidocr-onnxruntime.

    python examples/ocr_image.py              a picture drawn on the spot
    python examples/ocr_image.py photo.jpg    your own (needs Pillow)

Detection gives a map of how likely each pixel is inside a line of text; connected regions of it
become boxes. Recognition reads each box, scaled to 48 rows, as a sequence of character
probabilities, decoded greedily (CTC: repeats and blanks drop out). The character list travels
in the recognition model's metadata.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from dot_font import draw_page
from packaged import packaged_file

import macart as ort

PIXEL_THRESHOLD, BOX_THRESHOLD = 0.3, 0.5
UNCLIP = 1.6  # boxes of the map are shrunken lines: grow them by area * UNCLIP / perimeter
LINE_HEIGHT = 48
TEXT = ["MACART READS THIS LINE", "ORDER 20417 SUM 36.50", "THANK YOU"]


def open_model(name: str) -> ort.InferenceSession:
    """A session for one of the package's models."""
    path = packaged_file("rapidocr-onnxruntime", name)
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear; image: [rows, columns, 3] -> [height, width, 3], float32."""

    def positions(new: int, old: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        return low, np.minimum(low + 1, old - 1), (at - low).astype(np.float32)

    top, bottom, down = positions(height, image.shape[0])
    left, right, along = positions(width, image.shape[1])
    rows = image[top] * (1 - down)[:, None, None] + image[bottom] * down[:, None, None]
    return rows[:, left] * (1 - along)[None, :, None] + rows[:, right] * along[None, :, None]


def to_feed(image: np.ndarray) -> np.ndarray:
    """[rows, columns, 3] of 0..255 -> [1, 3, rows, columns] of -1..1."""
    return ((image / 127.5 - 1.0).transpose(2, 0, 1)[None]).astype(np.float32)


def regions(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Bounding boxes (top, left, bottom, right) of 4-connected regions, by flooding."""
    left_over = mask.copy()
    boxes = []
    for y, x in np.argwhere(mask):
        if not left_over[y, x]:
            continue
        left_over[y, x] = False
        todo, seen = [(y, x)], []
        while todo:
            row, column = todo.pop()
            seen.append((row, column))
            for r, c in ((row - 1, column), (row + 1, column), (row, column - 1),
                         (row, column + 1)):  # fmt: skip
                inside = 0 <= r < mask.shape[0] and 0 <= c < mask.shape[1]
                if inside and left_over[r, c]:
                    left_over[r, c] = False
                    todo.append((r, c))
        rows, columns = zip(*seen, strict=True)
        boxes.append((min(rows), min(columns), max(rows) + 1, max(columns) + 1))
    return boxes


def find_lines(session: ort.InferenceSession, image: np.ndarray) -> list[tuple[int, ...]]:
    """Boxes of lines in pixels of the image, from top to bottom."""
    height, width = image.shape[:2]
    size = [max(32, round(side / 32) * 32) for side in (height, width)]
    chances = session.run(None, {"x": to_feed(resize(image, size[0], size[1]))})[0][0, 0]
    scale = (height / size[0], width / size[1])
    lines = []
    for top, left, bottom, right in regions(chances > PIXEL_THRESHOLD):
        tall, wide = bottom - top, right - left
        if min(tall, wide) < 3 or chances[top:bottom, left:right].mean() < BOX_THRESHOLD:
            continue
        grow = tall * wide * UNCLIP / (2 * (tall + wide))
        y, x = max(0, (top - grow) * scale[0]), max(0, (left - grow) * scale[1])
        lines.append((int(y), int(x), int((bottom + grow) * scale[0]) + 1,
                      int((right + grow) * scale[1]) + 1))  # fmt: skip
    return sorted(lines)


def read_line(session: ort.InferenceSession, image: np.ndarray) -> tuple[str, float]:
    """Text of one line and the mean probability of its characters."""
    characters = session.get_modelmeta().custom_metadata_map["character"].splitlines()
    alphabet = ["", *characters, " "]  # number 0 is the blank of CTC
    width = max(LINE_HEIGHT, round(image.shape[1] * LINE_HEIGHT / image.shape[0]))
    chances = session.run(None, {"x": to_feed(resize(image, LINE_HEIGHT, width))})[0][0]
    best = chances.argmax(axis=1)
    kept = [i for i in range(len(best)) if best[i] and (i == 0 or best[i] != best[i - 1])]
    text = "".join(alphabet[best[i]] for i in kept)
    return text, float(np.mean(chances[kept, best[kept]])) if kept else 0.0


def load_picture(path: str) -> np.ndarray:
    """Blue, green, red, as the models were trained."""
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))[:, :, ::-1].astype(np.float32)


def main() -> None:
    """Reads the picture of the command line, or a drawn one."""
    if len(sys.argv) > 1:
        image = load_picture(sys.argv[1])
    else:
        image = draw_page(TEXT)
        print("drawn:", *TEXT, sep="\n  ")
    detect, recognize = open_model("PP-OCRv4_det_infer.onnx"), open_model("PP-OCRv4_rec_infer.onnx")
    print(f"read in {Path(sys.argv[1]).name if len(sys.argv) > 1 else 'the drawn picture'}:")
    for top, left, bottom, right in find_lines(detect, image):
        text, sure = read_line(recognize, image[top:bottom, left:right])
        print(f"  {text}   ({sure:.2f}, at {left},{top})")


if __name__ == "__main__":
    main()
