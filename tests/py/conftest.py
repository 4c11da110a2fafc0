"""Tiers of the Python tests: every test carries quick, full or long.

quick runs in seconds and without onnxruntime in the process, full is what a change has to pass
(quick and full together), long is for sanitizers and soak runs.
"""

from __future__ import annotations

import pytest

TIERS = ("quick", "full", "long")


def pytest_configure(config: pytest.Config) -> None:
    """Registers the tiers as markers."""
    for tier in TIERS:
        config.addinivalue_line("markers", f"{tier}: test of the tier {tier}")
