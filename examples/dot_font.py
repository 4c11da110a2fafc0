"""Draws lines of text into an array with a 5x7 dot font, smoothed; no image library needed.

Each letter is seven rows of five dots, written as base-32 digits. Drawn large and blurred a
little, they look enough like print for a text recognizer.
"""

from __future__ import annotations

import numpy as np

# Seven rows from the top; a digit's bits (16 8 4 2 1) are the dots from left to right.
ROWS = {
    "A": "EHHVHHH", "B": "UHHUHHU", "C": "EHGGGHE", "D": "SIHHHIS", "E": "VGGUGGV",
    "F": "VGGUGGG", "G": "EHGNHHF", "H": "HHHVHHH", "I": "E44444E", "J": "72222IC",
    "K": "HIKOKIH", "L": "GGGGGGV", "M": "HRLLHHH", "N": "HHPLJHH", "O": "EHHHHHE",
    "P": "UHHUGGG", "Q": "EHHHLID", "R": "UHHUKIH", "S": "FGGE11U", "T": "V444444",
    "U": "HHHHHHE", "V": "HHHHHA4", "W": "HHHLLLA", "X": "HHA4AHH", "Y": "HHHA444",
    "Z": "V1248GV", "0": "CIIIIIC", "1": "4C4444E", "2": "EH1248V", "3": "V2421HE",
    "4": "26AIV22", "5": "VGU11HE", "6": "68GUHHE", "7": "V124888", "8": "EHHEHHE",
    "9": "EHHF12C", ".": "00000CC", " ": "0000000",
}  # fmt: skip
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUV"
DOT = 4  # pixels
MARGIN, GAP = 40, 36


def letter(character: str) -> np.ndarray:
    """[7, 6] of 0 and 1; the last column is the gap to the next letter. A space has 3 columns."""
    rows = [DIGITS.index(digit) for digit in ROWS[character]]
    dots = [[row >> (4 - i) & 1 for i in range(5)] + [0] for row in rows]
    return np.array(dots, np.float32)[:, : 3 if character == " " else 6]


def draw_line(text: str) -> np.ndarray:
    """Ink of one line, [7 * DOT, columns * DOT], 0 to 1."""
    dots = np.concatenate([letter(character) for character in text], axis=1)
    return np.kron(dots, np.ones((DOT, DOT), np.float32))


def blur(ink: np.ndarray) -> np.ndarray:
    """Rounds the dots' corners: 3x3 means, three times, then more contrast."""
    for axis in (0, 1) * 3:
        ink = (np.roll(ink, -1, axis) + ink + np.roll(ink, 1, axis)) / 3
    return np.clip(ink * 2.2 - 0.6, 0, 1)


def draw_page(lines: list[str]) -> np.ndarray:
    """Dark letters on light paper, [rows, columns, 3] of 0..255."""
    drawn = [draw_line(line) for line in lines]
    width = max(line.shape[1] for line in drawn) + 2 * MARGIN
    height = 2 * MARGIN + len(drawn) * (7 * DOT + GAP) - GAP
    ink = np.zeros((height, width), np.float32)
    for i, line in enumerate(drawn):
        top = MARGIN + i * (7 * DOT + GAP)
        ink[top : top + line.shape[0], MARGIN : MARGIN + line.shape[1]] = line
    return np.repeat((245 - 215 * blur(ink))[:, :, None], 3, axis=2)
