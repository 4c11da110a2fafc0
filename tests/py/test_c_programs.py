"""Runs each C test program of the dev build as one case."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(p.stem for p in (ROOT / "tests" / "c").glob("test_*.c"))
# Of the order of ten seconds of a core that they have for themselves; the others take a few.
SLOW = ("test_band", "test_conv_split")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.full if n in SLOW else pytest.mark.quick) for n in NAMES],
)
def test_c_program(name: str) -> None:
    """The program exits with 0."""
    program = ROOT / "build" / "dev" / "tests" / name
    done = subprocess.run([program], capture_output=True, text=True, timeout=480)
    assert done.returncode == 0, done.stderr
