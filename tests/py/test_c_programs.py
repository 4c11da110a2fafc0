"""Runs each C test program of the dev build as one case."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(p.stem for p in (ROOT / "tests" / "c").glob("test_*.c"))

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("name", NAMES)
def test_c_program(name: str) -> None:
    """The program exits with 0; the slowest takes ten seconds of a core that it has for itself."""
    program = ROOT / "build" / "dev" / "tests" / name
    done = subprocess.run([program], capture_output=True, text=True, timeout=480)
    assert done.returncode == 0, done.stderr
