"""Lists inner loops of a module that keep vector registers on the stack.

    python tools/check_spills.py build/release/py/macart/_core*.so [--least 8]

A hot loop of multiply-adds should hold its sums in registers. For each innermost loop (natural
loops of the disassembly's flow graph) with at least `--least` products (FMA, dot products, tiles),
it prints how many instructions move whole vectors to or from the stack, as a share and a number,
the products, all instructions, the function and its file. Constants that are read from the stack
count too. x86-64, needs binutils.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

Instruction = tuple[int, str]  # address, text

PRODUCT = re.compile(r"vfn?m|vpdp|vdpbf|tdp|vpmadd")
JUMP = re.compile(r"(j\w+)\s+([0-9a-f]+)\b")


def lines_of(*command: str | Path) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def source_files(module: Path) -> dict[int, str]:
    """The file of each local function, by address."""
    found: dict[int, str] = {}
    file = "?"
    for line in lines_of("readelf", "-sW", module):
        part = line.split()
        if len(part) >= 7 and part[3] == "FILE":
            file = part[7] if len(part) > 7 else "?"
        elif len(part) >= 7 and part[3] == "FUNC":
            found.setdefault(int(part[1], 16), file)
    return found


def functions(module: Path) -> Iterator[tuple[str, list[Instruction]]]:
    name, body = "", list[Instruction]()
    for line in lines_of("objdump", "-d", "--no-show-raw-insn", module):
        head = re.match(r"[0-9a-f]+ <(.+)>:$", line)
        at = re.match(r"\s+([0-9a-f]+):\s+(.*)$", line)
        if head:
            yield name, body
            name, body = head[1], []
        elif at:
            body.append((int(at[1], 16), at[2]))
    yield name, body


def successors(code: list[Instruction]) -> list[list[int]]:
    """Where each instruction may go on, by index; calls come back."""
    index = {address: i for i, (address, _) in enumerate(code)}
    out: list[list[int]] = []
    for i, (_, text) in enumerate(code):
        jump = JUMP.match(text)
        to = [index[int(jump[2], 16)]] if jump and int(jump[2], 16) in index else []
        ends = text.startswith(("jmp", "ret", "notrack jmp"))
        out.append(to + ([i + 1] if not ends and i + 1 < len(code) else []))
    return out


def inner_loops(code: list[Instruction]) -> list[set[int]]:
    after = successors(code)
    before: list[list[int]] = [[] for _ in code]
    for i, to in enumerate(after):
        for j in to:
            before[j].append(i)
    loops: dict[int, set[int]] = {}
    for i, to in enumerate(after):
        for head in (j for j in to if j <= i):
            body, left = {head}, [i]
            while left:
                x = left.pop()
                if x not in body:
                    body.add(x)
                    left += before[x]
            loops.setdefault(head, set()).update(body)
    return [b for b in loops.values() if not any(o < b for h, o in loops.items() if h in b)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("module", type=Path)
    parser.add_argument("--least", type=int, default=8, help="products of a loop that counts")
    options = parser.parse_args()
    files = source_files(options.module)
    found = []
    for name, code in functions(options.module):
        for loop in inner_loops(code):
            texts = [code[i][1] for i in sorted(loop)]
            products = sum(bool(PRODUCT.match(t)) for t in texts)
            moved = sum(
                "(%rsp" in t and "{1to" not in t and bool(re.search("%[yz]mm", t)) for t in texts
            )
            if products >= options.least and moved:
                found.append((moved / len(texts), moved, products, len(texts), name, code[0][0]))
    for share, moved, products, n, name, address in sorted(found, reverse=True):
        where = f"{name} {files.get(address, '?')}"
        print(f"{100 * share:3.0f} %: {moved} moves, {products} products of {n}: {where}")


if __name__ == "__main__":
    main()
