#!/usr/bin/env python3
"""Checks that the folders of csrc/ include only what lies below them.

ALLOWED is the table of the architecture: a folder may use itself and the folders of its row, no
others. Includes are spelled from csrc/ ("ir/ir.h"); "gen/..." comes from the build folder. Python.h
and numpy stand in python/ alone.

Usage: check_includes.py [TREE]. Prints one line per violation; exits with 1 when there is one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ALLOWED: dict[str, tuple[str, ...]] = {
    "base": (),
    "tensor": ("base",),
    "ir": ("tensor", "base"),
    "ops": ("ir", "tensor", "base"),
    "load": ("ops", "ir", "tensor", "base"),
    "save": ("load", "ops", "ir", "tensor", "base"),
    "pass": ("ops", "ir", "tensor", "base"),
    "comm": ("tensor", "base"),
    "provider": ("comm", "pass", "ops", "ir", "tensor", "base"),
    "plan": ("provider", "ops", "ir", "tensor", "base"),
    "exec": ("plan", "provider", "comm", "pass", "save", "load", "ops", "ir", "tensor", "base"),
    "python": ("exec", "plan", "provider", "pass", "load", "ops", "ir", "tensor", "base"),
    "include": (),
}
# Of pass/, a provider sees pattern matching and rewriting only.
PROVIDER_PASS_HEADERS = {"pass/pattern.h", "pass/rewrite.h"}

_INCLUDE = re.compile(r'^\s*#\s*(?:include|define\s+MRT_TEMPLATE)\s*([<"])([^>"]+)[>"]', re.M)


def violations(csrc: Path) -> Iterator[str]:
    """Yields "file:line: what is wrong" for every include that points up or nowhere."""
    for path in sorted(p for p in csrc.rglob("*") if p.suffix in {".c", ".h", ".inl", ".def"}):
        where = path.relative_to(csrc)
        layer = where.parts[0]
        text = path.read_text(encoding="utf-8")
        for match in _INCLUDE.finditer(text):
            line = text.count("\n", 0, match.start(2)) + 1
            problem = judge(csrc, where.as_posix(), layer, match.group(1), match.group(2))
            if problem:
                yield f"csrc/{where}:{line}: {problem}"


def judge(csrc: Path, where: str, layer: str, quote: str, name: str) -> str | None:
    """Says what is wrong with one include, or None."""
    if quote == "<":
        outside = name == "Python.h" or name.startswith("numpy/")
        return f"<{name}> belongs to python/ alone" if outside and layer != "python" else None
    if name.startswith("gen/"):
        return None
    if layer not in ALLOWED:
        return f"folder {layer}/ has no row in tools/check_includes.py"
    if "/" not in name:
        return f'"{name}" is not spelled from csrc/'
    if not (csrc / name).is_file():
        return f'"{name}" does not exist'
    target = name.split("/", 1)[0]
    if target != layer and target not in ALLOWED[layer]:
        return f'{layer}/ may not include {target}/ ("{name}")'
    if layer == "provider" and target == "pass" and name not in PROVIDER_PASS_HEADERS:
        return (
            f'provider/ sees {" and ".join(sorted(PROVIDER_PASS_HEADERS))} of pass/, not "{name}"'
        )
    if "_avx" in where or "_amx" in where:
        family = where.rsplit("/", 1)[0]
        shared = name.startswith(("provider/cpu/simd/", "provider/cpu/amx/", family + "/"))
        if target not in {"base", "tensor"} and not shared:
            return f'a file of one instruction set may include its own family only, not "{name}"'
    return None


def main() -> int:
    """Prints the violations."""
    tree = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    found = list(violations(tree / "csrc"))
    print("\n".join(found), end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
