"""Every example runs as a user would run it, and what it prints is right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import engine

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# Runs a script with another engine under the name macart, to check these tests themselves.
LAUNCHER = """
import importlib, os, runpy, sys, types
name, script, *arguments = sys.argv[1:]
if name != "macart":
    module = types.ModuleType("macart")
    module.__dict__.update(importlib.import_module(name).__dict__, __name__="macart")
    sys.modules["macart"] = module
sys.argv = [script, *arguments]
sys.path.insert(0, os.path.dirname(script))
runpy.run_path(script, run_name="__main__")
"""

pytestmark = pytest.mark.full


def run_example(name: str, *arguments: str, typed: str = "") -> str:
    """What the example prints; fails with its messages when it fails."""
    command = [sys.executable, "-c", LAUNCHER, engine.module_name(), str(EXAMPLES / name)]
    environment = os.environ | {"ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [*command, *arguments],
        input=typed,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def nearest(output: str) -> dict[str, str]:
    """Question to the first sentence under it."""
    found = re.findall(r"(?:^|\n)([^\n]+\?[^\n]*)\n  [-\d.]+  ([^\n]+)\n", output)
    return {question.split(": ")[-1]: sentence for question, sentence in found}


def test_embed_search_answers_its_questions() -> None:
    """Each default question finds its sentence; the engines agree where both are there."""
    output = run_example("embed_search.py")
    expected = {
        "Why does dough get bigger?": "Bread rises",
        "What keeps a plane in the air?": "The wing of an aircraft",
        "How do animals know where to go on long journeys?": "Migrating birds",
        "What makes the sea rise and fall twice a day?": "The moon pulls",
        "I am tired and cannot focus, why?": "Too little sleep",
        "How can I avoid losing my files?": "Backups are only useful",
    }
    answers = nearest(output)
    assert set(answers) == set(expected)
    for question, start in expected.items():
        assert answers[question].startswith(start), output
    match = re.search(r"difference between their vectors: (\S+)", output)
    assert match and float(match.group(1)) < 1e-5
    assert re.search(r"macart [\d.]+ ms per sentence, onnxruntime [\d.]+ ms", output)


def test_embed_search_answers_typed_questions() -> None:
    """From the command line and from the terminal."""
    output = run_example("embed_search.py", "Which insects dance?")
    assert nearest(output)["Which insects dance?"].startswith("Bees tell each other")
    output = run_example("embed_search.py", "--ask", typed="What is a loan's cost?\n\n")
    assert "Interest is the price" in output.split("\n  ")[1]


def test_ocr_reads_what_was_drawn() -> None:
    """Every drawn line is read letter by letter."""
    drawn, read = run_example("ocr_image.py").split("read in the drawn picture:")
    lines = [line.strip() for line in drawn.splitlines()[1:]]
    assert [re.sub(r"   \(.*", "", line).strip() for line in read.splitlines() if line] == lines


@pytest.mark.parametrize("rate", ["16000", "8000"])
def test_speech_is_found_where_it_was_made(rate: str) -> None:
    """Most of each made talk is detected, and nothing well outside of it."""
    output = run_example("detect_speech.py", "--rate", rate)
    span = r"\s+([\d.]+) - +([\d.]+)"
    times = {
        word: [(float(a), float(b)) for a, b in re.findall(word + span, output)]
        for word in ("made", "detected")
    }
    assert len(times["made"]) == 2
    for begin, end in times["made"]:
        found = sum(max(0.0, min(b, end) - max(a, begin)) for a, b in times["detected"])
        assert found > 0.7 * (end - begin), output
    for a, b in times["detected"]:
        assert any(a > begin - 0.3 and b < end + 0.3 for begin, end in times["made"]), output


def test_file_types_are_told() -> None:
    """Each made file gets the label under which it was made."""
    rows = [line.split() for line in run_example("file_type.py").splitlines()]
    assert len(rows) == 8
    assert all(name == label and float(score) > 0.5 for name, label, score in rows), rows


def test_file_type_reads_files(tmp_path: Path) -> None:
    """Paths of the command line."""
    script = tmp_path / "x"
    script.write_text('#!/bin/sh\nset -e\nfor f in *.txt; do\n  echo "$f"\n  cat "$f"\ndone\n')
    assert " shell " in run_example("file_type.py", str(script))


def test_io_binding_computes_the_same() -> None:
    """With and without binding, and the made talks are found."""
    output = run_example("io_binding.py")
    assert "same probabilities: True" in output
    assert "talks made: 2, found: 2" in output


def test_dlpack_feeds_and_results() -> None:
    """Every made file is told, and nothing was copied."""
    lines = run_example("dlpack.py").splitlines()
    rows = [line.split() for line in lines[:8]]
    assert all(name == label for name, label in rows), lines
    assert "read in place: True" in lines and "result in place: True" in lines


def test_threads_share_a_session() -> None:
    """Threads, callbacks and termination."""
    output = run_example("threads.py", "--requests", "16")
    assert "same bits: True" in output and "by callback: True" in output
    assert "stopped: Exiting due to terminate flag" in output
