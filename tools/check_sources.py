#!/usr/bin/env python3
"""Checks rules on single source files.

- no file over 1,000 lines, without exceptions;
- no abort, exit, printf or assert-like way out of csrc/: every failure is a status;
- no PyObject below csrc/python/;
- a test for each C file: its name without folder and suffix stands in a file under tests/, or, for
  an operator file, each of its operators has a passing case under tests/golden/ or its name in a
  test; a file of one
  instruction set counts when a test includes the .def that names its kernels. UNTESTED lists
  what is let off, each with its reason; an entry that is no longer needed is a finding too.

Usage: check_sources.py [TREE]. Prints one line per finding; exits with 1 when there is one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LINE_LIMIT = 1000
LIMITED = ("csrc", "macart", "tests", "tools", "examples", "benchmarks", "cmake")
LIMITED_SUFFIXES = {".c", ".h", ".inl", ".def", ".py", ".cmake"}

# Path below csrc/ -> why no test names it. Keep it short.
UNTESTED: dict[str, str] = {}

# Operators whose cases in the ONNX backend suite are not called after them.
CASE_NAMES = {"GreaterOrEqual": "greater_equal", "LessOrEqual": "less_equal", "Pad": "constant_pad"}

_WAY_OUT = re.compile(r"(?<![\w.>])(abort|_?exit|quick_exit|v?f?printf|puts|putchar|perror)\s*\(")
_COMMENT_OR_STRING = re.compile(
    r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S
)
_VARIANT = re.compile(r"_(scalar|avx2|avx512\w*|amx)$")
_OPERATOR = re.compile(r"^MRT_OP(?:_IN\(\s*\w+\s*,|\()\s*(\w+)\s*\)", re.M)


def code_only(text: str) -> str:
    """Blanks comments and literals, keeping every line where it is."""
    return _COMMENT_OR_STRING.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def long_files(tree: Path) -> Iterator[str]:
    """Files over the limit."""
    for folder in LIMITED:
        for path in sorted((tree / folder).rglob("*")):
            if path.suffix in LIMITED_SUFFIXES and path.is_file() and not path.is_symlink():
                count = path.read_bytes().count(b"\n")
                if count > LINE_LIMIT:
                    yield f"{path.relative_to(tree)}: {count} lines, the limit is {LINE_LIMIT}"


def forbidden_words(tree: Path) -> Iterator[str]:
    """Ways out of the process, and Python below python/."""
    for path in sorted(p for p in (tree / "csrc").rglob("*") if p.suffix in {".c", ".h", ".inl"}):
        text = code_only(path.read_text(encoding="utf-8"))
        found = [(m.start(), f"{m.group(1)}() in csrc/") for m in _WAY_OUT.finditer(text)]
        if path.relative_to(tree).parts[1] != "python":
            found += [(m.start(), "PyObject below python/") for m in re.finditer("PyObject", text)]
        for start, what in sorted(found):
            yield f"{path.relative_to(tree)}:{text.count(chr(10), 0, start) + 1}: {what}"


def untested_files(tree: Path) -> Iterator[str]:
    """C files that no test names, and needless entries of UNTESTED."""
    tests = "\n".join(
        f"{p.name}\n{p.read_text(encoding='utf-8')}"
        for p in sorted((tree / "tests").rglob("*"))
        if p.suffix in {".c", ".h", ".py", ".ir"}
    )
    # A test that includes FAMILY.def runs every variant that the list names.
    lists = [tree / "csrc" / name for name in re.findall(r'#include "([\w/]+\.def)"', tests)]
    listed = "\n".join(p.read_text(encoding="utf-8") for p in lists if p.is_file())
    known = Known(
        kernels=set(re.findall(r"\bmrt_\w+", listed)),
        # test_gemm.c names gemm.
        words={re.sub(r"^(test|mrt)_", "", word) for word in re.findall(r"\w+", tests)},
        cases=[
            match.group(1).replace("_", "")
            for p in sorted((tree / "tests" / "golden").rglob("*.txt"))
            for match in re.finditer(r"^test_(\w+) pass$", p.read_text(encoding="utf-8"), re.M)
        ],
    )
    for path in sorted((tree / "csrc").rglob("*.c")):
        name = path.relative_to(tree / "csrc").as_posix()
        if path.name.startswith("_"):
            continue
        missing = what_lacks(path, known)
        if missing and name not in UNTESTED:
            yield f"csrc/{name}: {missing}"
        elif not missing and name in UNTESTED:
            yield f"tools/check_sources.py: {name} is tested, take it out of UNTESTED"
    for name in UNTESTED:
        if not (tree / "csrc" / name).is_file():
            yield f"tools/check_sources.py: {name} in UNTESTED does not exist"


class Known(NamedTuple):
    """What the tests speak of: kernels by lists, words, passing ONNX cases without underscores."""

    kernels: set[str]
    words: set[str]
    cases: list[str]


def what_lacks(path: Path, known: Known) -> str | None:
    """Says which test a C file lacks, or None."""
    if path.stem in known.words:
        return None
    text = path.read_text(encoding="utf-8")
    if _VARIANT.search(path.stem) and known.kernels & set(re.findall(r"\bmrt_\w+", text)):
        return None
    operators = _OPERATOR.findall(text)
    if operators:
        lacking = [
            op for op in operators if op not in known.words and not has_case(op, known.cases)
        ]
        return f"no passing golden case of {', '.join(lacking)}" if lacking else None
    return f"no file under tests/ mentions {path.stem}"


def has_case(operator: str, cases: list[str]) -> bool:
    """True when a passing case is called after the operator."""
    start = CASE_NAMES.get(operator, operator).lower().replace("_", "")
    return any(case.startswith(start) for case in cases)


def main() -> int:
    """Prints the findings."""
    tree = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    found = [*long_files(tree), *forbidden_words(tree), *untested_files(tree)]
    print("\n".join(found), end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
