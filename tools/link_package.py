#!/usr/bin/env python3
"""Makes a package folder of links to the Python sources, beside a build's own extension module.

So PYTHONPATH=<build>/py runs a build that is not in place (asan, release) without touching the
tree. Called by the build: link_package.py SOURCE_PACKAGE TARGET_PACKAGE.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> int:
    """Links every file and folder but extension modules and caches; drops stale links."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    wanted = {p.name: p for p in source.iterdir() if p.suffix != ".so" and p.name != "__pycache__"}
    for link in target.iterdir():
        if link.is_symlink() and link.name not in wanted:
            link.unlink()
    for name, path in wanted.items():
        link = target / name
        if not link.is_symlink():
            link.symlink_to(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
