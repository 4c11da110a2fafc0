"""Every default-domain operator x every type of its schema, one expected outcome per line in
tests/golden/types.txt (type_cases.py says what the outcomes are, type_table.py what is fed).

The test fails when an outcome changes either way; UPDATE_REFS=1 rewrites the file, from which
tools/gen_docs.py makes the list of gaps. Wrong results and crashes never are an expected outcome.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import type_cases
import type_values
from type_table import RECIPES

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden" / "types.txt"
ALLOWED = ("pass ", "gap", "unchecked")


def run_all() -> dict[str, tuple[str, str]]:
    """Outcome and message of every case, from a process of its own; a crash is an outcome."""
    command = [sys.executable, "-W", "ignore", str(HERE / "type_cases.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    results = {}
    for line in done.stdout.splitlines():
        name, _, rest = line.partition(": ")
        outcome, _, message = rest.partition(" | ")
        results[name] = (outcome or "crash", message)
    assert done.returncode == 0, f"after {list(results)[-1:]}: {done.stderr[-2000:]}"
    return results


def write_golden(results: dict[str, tuple[str, str]]) -> None:
    """The file, with the sums on top."""
    counts = Counter(outcome for outcome, _ in results.values())
    head = [f"# {count} {outcome}" for outcome, count in sorted(counts.items())]
    head.append("# operator[/variant] type-parameter type: outcome. UPDATE_REFS=1 rewrites this.")
    lines = [f"{name}: {outcome}" for name, (outcome, _) in sorted(results.items())]
    GOLDEN.write_text("\n".join(head + lines) + "\n", encoding="utf-8")


@pytest.mark.full
def test_every_type_of_every_operator() -> None:
    """Outcomes are as the file says, and none is a wrong result."""
    results = run_all()
    if os.environ.get("UPDATE_REFS") == "1":
        write_golden(results)
    lines = GOLDEN.read_text(encoding="utf-8").splitlines()
    want = dict(line.split(": ", 1) for line in lines if line[0] != "#")
    changed = [
        f"{name}: want {want.get(name, 'no line')}, got {outcome} {message}"
        for name, (outcome, message) in results.items()
        if want.get(name) != outcome or not outcome.startswith(ALLOWED)
    ]
    changed += [f"{name}: no such case any more" for name in want if name not in results]
    assert not changed, f"{len(changed)} outcomes changed:\n" + "\n".join(changed[:50])


@pytest.mark.quick
def test_table_is_complete() -> None:
    """Every operator of the newest schemas has a recipe; no recipe is for another name."""
    known = set(type_cases.schemas())
    assert len(known) >= 199
    assert {key.split("/")[0] for key in RECIPES} == known


@pytest.mark.quick
def test_comparison_can_fail() -> None:
    """A difference of a few units of the type, of a type, of a shape or of a string is seen."""
    one = np.array([1.0, 2.0], np.float32)
    assert type_cases.compare(one, one.copy(), "tensor(float)", 1) == ""
    for got, want, kind in [
        (one, one * np.float32(1 + 1e-5), "tensor(float)"),
        (one.astype(np.float64), one, "tensor(float)"),
        (one[:1], one, "tensor(float)"),
        (one.astype(np.int8), one + 1, "tensor(int8)"),
        ([one], [one, one], "seq(tensor(float))"),
        (np.array(["a"], object), np.array(["b"], object), "tensor(string)"),
    ]:
        assert type_cases.compare(got, want, kind, 1), (got, want)
    half = type_values.tensor("2x3", "bfloat16")
    assert type_cases.compare(half, half.astype(np.float32) * 1.02, "tensor(bfloat16)", 1)


@pytest.mark.full
def test_a_wrong_result_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way of a case, with an engine that adds a little to its results."""
    case = type_cases.Case("Add", "T", "tensor(float)")
    assert type_cases.run_case(case) == ("pass onnxruntime", "")
    ours = type_cases.run_ours
    monkeypatch.setattr(type_cases, "run_ours", lambda *a, **k: [y * 1.001 for y in ours(*a, **k)])
    outcome, message = type_cases.run_case(case)
    assert outcome == "mismatch:value" and message.startswith("onnxruntime: value: ")
