"""What documents say about the tree is true: paths that they name are there, rooms are named."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick
ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += sorted(p for p in ROOT.glob("*/README.md") if not p.parent.name.startswith((".", "build")))
# Where a path may begin. Pages leave out what their reader knows.
STARTS = ["", "docs", "csrc", "csrc/provider/cpu"]
TREES = ["benchmarks", "cmake", "csrc", "docs", "examples", "macart", "tests", "tools"]
ENDS = r"c|cmake|def|h|inl|md|py|pyi|proto|svg|toml|txt"
PATH = re.compile(rf"(?:[\w.*-]+/)*[\w.*-]+\.(?:{ENDS})|(?:[\w.-]+/)+")
NAMES = {p.name for tree in TREES for p in (ROOT / tree).rglob("*")}


def paths_of(text: str) -> set[str]:
    """Words of code, and targets of links, that look like paths of this tree."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    words = [w for code in re.findall(r"`([^`\n]+)`", text) for w in code.split()]
    words += re.findall(r"\]\(([^)\s]+)\)", text)
    words += [w for line in re.findall(r"^ {4}(.*)", text, flags=re.M) for w in line.split()]
    words = [w.strip(",;:()").removeprefix("./") for w in words]
    return {w for w in words if PATH.fullmatch(w)}


def is_there(path: str, page: Path) -> bool:
    """From one of the places where paths begin; a file's name alone may be anywhere."""
    if "/" not in path and fnmatch.filter(NAMES, path):
        return True
    return any(list(start.glob(path)) for start in (page.parent, *(ROOT / s for s in STARTS)))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_paths_are_there(page: Path) -> None:
    """No page sends its reader to a file that has moved."""
    made = {"my_operator.c", "csrc/ops/my_operator.c", "model.onnx"}
    missing = sorted(p for p in paths_of(page.read_text()) - made if not is_there(p, page))
    assert not missing, missing


def test_looks_at_paths() -> None:
    """What counts as one."""
    text = "see `conv/gone.c`, `gemm/` and [x](y.svg)\n\n    python tools/gone.py --all\n\n`a.b`"
    assert paths_of(text) == {"conv/gone.c", "gemm/", "y.svg", "tools/gone.py"}
    assert not is_there("conv/gone.c", PAGES[0]) and is_there("gemm/", PAGES[0])


def test_every_room_is_in_the_tour() -> None:
    """Layers of csrc/ and families of the CPU provider."""
    tour = (ROOT / "docs" / "tour.md").read_text()
    families = [p.name for p in (ROOT / "csrc/provider/cpu").iterdir() if p.is_dir()]
    assert len(families) > 10
    assert not [f for f in families if f"`{f}/`" not in tour]
    layers = tour.split("```")[1]
    for layer in (p.name for p in (ROOT / "csrc").iterdir() if p.is_dir()):
        assert re.search(rf"^{layer} |  {layer} ", layers, flags=re.M), layer
