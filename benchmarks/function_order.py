"""Writes cmake/function_order.txt: the functions that the benchmark's models run, side by side.

    python benchmarks/function_order.py        (about five minutes)

Linux maps 64 KiB of a program around a page that is first touched. In the order of the sources a
session of a small model touches every third page of the code and has all of it in memory; in this
order (cmake/order.cmake) it has about half as much. A function that is not in the list, or a name
there that is gone, costs nothing but its place: run this again when kernels were added or renamed.
"""

from __future__ import annotations

import collections
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import suite

ROOT = Path(__file__).resolve().parent.parent

CHILD = """
import sys, numpy as np, macart as ort
o = ort.SessionOptions()
o.intra_op_num_threads = 2
s = ort.InferenceSession(sys.argv[1], o, ["CPUExecutionProvider"])
feeds = dict(np.load(sys.argv[2]))
for _ in range(2):
    s.run(None, feeds)
"""
# The machine's own instruction set counts for every model, others for these.
CAPS = (("avx512bf16", "1"), ("avx512bf16", "0"), ("avx2", "0"))  # MRT_CPU_ISA, MRT_BF16_DOT
CAPPED = ("mobilenet_v2", "resnet50", "bert_base-s128", "gpt2-token", "lstm2", "mobilenet_v2-u8s8")

Function = tuple[str, str]  # file name, function
WINDOW = 64 << 10


class Group(NamedTuple):
    """Functions that the same runs use."""

    functions: list[Function]
    size: int  # bytes
    users: np.ndarray  # of bool: by run


def symbols(module: Path) -> Iterator[tuple[int, int, Function]]:
    """Address, bytes, file and name (without gcc's suffixes) of a module's functions. Only local
    symbols know their file; the others get "*"."""
    file = "*"
    listed = subprocess.run(["readelf", "-sW", module], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        part = line.split()
        if len(part) < 7 or not part[0].endswith(":"):
            continue
        if part[3] == "FILE":  # without a name: hidden functions of all files follow
            file = part[7] if len(part) > 7 else "*"
        elif part[3] == "FUNC" and part[6] != "UND":
            name = part[7].split(".")[0]
            yield int(part[1], 16), int(part[2], 0), (file if part[4] == "LOCAL" else "*", name)


def functions(module: Path) -> dict[int, Function]:
    """By address."""
    return {address: function for address, _, function in symbols(module)}


def function_sizes(module: Path) -> dict[Function, int]:
    """Bytes by function, as the linker pads them."""
    sizes: collections.Counter[Function] = collections.Counter()
    for _, size, function in symbols(module):
        sizes[function] += -(-size // 16) * 16
    return dict(sizes)


def trace(build: Path, row: suite.Row, env: dict[str, str]) -> set[int]:
    """Addresses of the functions that making a session of row and two runs enter: from an empty
    cache folder and from a filled one."""
    ran: set[int] = set()
    with tempfile.TemporaryDirectory() as folder:
        feeds, out = f"{folder}/feeds.npz", Path(folder) / "trace"
        np.savez(feeds, **suite.feeds(row, 0))  # type: ignore[arg-type]
        more = {
            "LD_PRELOAD": str(build / "function_trace.so"),
            "FUNCTION_TRACE": str(out),
            "MRT_CACHE_DIR": folder,
            "PYTHONPATH": str(build / "py"),
            "PYTHONSAFEPATH": "1",
        }
        command = [sys.executable, "-c", CHILD, str(suite.model_path(row)), feeds]
        for _ in range(2):
            subprocess.run(command, env={**os.environ, **more, **env}, check=True)
            ran |= {int(line, 16) for line in out.read_text().split()}
    return ran


def make(build: Path) -> Path:
    """An instrumented build; its module."""
    subprocess.run(
        ["cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja", "-DMRT_TESTS=OFF"]
        + ["-DCMAKE_C_FLAGS=-finstrument-functions", f"-DPython_EXECUTABLE={sys.executable}"],
        check=True,
    )
    subprocess.run(["cmake", "--build", build], check=True)
    source = ROOT / "benchmarks" / "function_trace.c"
    subprocess.run(
        [
            "cc",
            "-D_GNU_SOURCE",
            "-O1",
            "-shared",
            "-fPIC",
            source,
            "-o",
            build / "function_trace.so",
        ],
        check=True,
    )
    return next((build / "py" / "macart").glob("_core.*.so"))


def windows(groups: list[Group], order: list[int]) -> int:
    """64 KiB windows that the models touch in all, were the groups laid out in this order."""
    sizes = np.array([groups[i].size for i in order])
    end = np.cumsum(sizes)
    first, last = (end - sizes) // WINDOW, (end - 1) // WINDOW
    users = np.array([groups[i].users for i in order])
    touched = np.zeros((users.shape[1], int(last[-1]) + 1), bool)
    for i in range(len(order)):
        touched[users[i], first[i] : last[i] + 1] = True
    return int(touched.sum())


def arrange(groups: list[Group]) -> list[int]:
    """An order of the groups that lets the models touch few windows: a chain of like groups that
    begins with what all use, then runs of it are moved to other places as long as that helps."""
    left = set(range(len(groups)))
    order = [max(left, key=lambda i: groups[i].users.sum())]
    left -= set(order)
    while left:
        have = groups[order[-1]].users
        like = {i: (groups[i].users & have).sum() / (groups[i].users | have).sum() for i in left}
        order.append(max(left, key=lambda i: (like[i], groups[i].users.sum())))
        left.remove(order[-1])
    best, chance = windows(groups, order), random.Random(1)
    for _ in range(20_000):
        a, length = chance.randrange(len(order)), chance.choice((1, 1, 2, 4, 8, 16, 32))
        rest = order[:a] + order[a + length :]
        b = chance.randrange(len(rest) + 1)
        moved = rest[:b] + order[a : a + length] + rest[b:]
        now = windows(groups, moved)
        if now <= best:
            best, order = now, moved
    return order


def main() -> None:
    build = ROOT / "build" / "order"
    module = make(build)
    rows: dict[tuple[str, str], suite.Row] = {}
    for row in suite.ROWS:
        rows.setdefault((row.model, row.form), row)
    table = functions(module)
    users: dict[Function, list[int]] = collections.defaultdict(list)
    capped = [r for r in rows.values() if r.name in CAPPED or r.model == "bert_base"]
    runs: list[tuple[suite.Row, dict[str, str]]] = [(r, {}) for r in rows.values()]
    runs += [(r, {"MRT_CPU_ISA": c, "MRT_BF16_DOT": d}) for c, d in CAPS for r in capped]
    for i, (row, env) in enumerate(runs):
        for function in {table[a] for a in trace(build, row, env) if a in table}:
            users[function].append(i)
    # What the compiler always inlines is a function of the instrumented build only.
    subprocess.run([ROOT / "dev", "build", "release"], check=True)
    sizes = function_sizes(next((ROOT / "build/release/py/macart").glob("_core.*.so")))
    alike: dict[tuple[int, ...], list[Function]] = collections.defaultdict(list)
    for f, by in users.items():
        if f in sizes:
            alike[tuple(by)].append(f)
    groups = []
    for runners, members in alike.items():
        mask = np.zeros(len(runs), bool)
        mask[list(runners)] = True
        groups.append(Group(sorted(members), sum(sizes[f] for f in members), mask))
    lines = [" ".join(f) for i in arrange(groups) for f in groups[i].functions]
    head = "# Written by benchmarks/function_order.py: file (* is any) and function."
    (ROOT / "cmake" / "function_order.txt").write_text("\n".join([head, *lines]) + "\n")
    print(f"{len(lines)} functions of {len(sizes)}")


if __name__ == "__main__":
    main()
