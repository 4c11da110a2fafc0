"""``python -m macart``: what it prints, and that wrong calls end in one line and status 2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import macart as ort
import tiny
from macart import _core
from macart.__main__ import difference, main

pytestmark = pytest.mark.quick


@pytest.fixture
def model(tmp_path: Path) -> str:
    """Path of a small model."""
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny.add_relu())
    return str(path)


def text_of(model: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The model as text, with every constant."""
    assert main(["run", model, "--print-ir", "--max-elems", "-1"]) == 0
    return capsys.readouterr().out


def test_commands(model: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each command does its work; the version and the names of what this machine has."""
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    facts = _core.info()
    assert all(name in out for name in facts["isa_names"]) and "0x" not in out
    assert len(facts["isa_names"]) == bin(facts["isa"]).count("1")
    assert main(["run", model, "--size", "N=4", "--repeat", "1"]) == 0
    assert "z: tensor(float) [4, 3]" in capsys.readouterr().out
    path = tmp_path / "m.ir"
    path.write_text(text_of(model, capsys))
    assert main(["opt", str(path), "--passes", "cse,dce"]) == 0
    assert "# fired" in capsys.readouterr().err
    with pytest.raises(SystemExit) as e:
        main(["--version"])
    assert e.value.code == 0 and capsys.readouterr().out == f"macart {ort.__version__}\n"


@pytest.mark.parametrize(
    ("a", "b", "want"),
    [
        ([1, 3], [2, 4], 0.25),
        ([np.nan, np.inf], [np.nan, np.inf], 0),
        ([1, np.nan], [1, 2], np.inf),
        ([1, 2], [1, np.nan], np.inf),
        ([1, np.inf], [1, -np.inf], np.inf),
        ([1, 2], [1, np.inf], np.inf),
        ([], [], 0),
    ],
)
def test_difference(a: list[float], b: list[float], want: float) -> None:
    """What `compare` judges by: an output that is not a number is not a small difference."""
    assert difference(np.float32(a), np.float32(b)) == want


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The names of passes, and what -1 means, are in the help."""
    for command, words in (("opt", [*_core.passes(), "-1"]), ("run", ["-1 prints everything"])):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        out = " ".join(capsys.readouterr().out.split())
        assert all(word in out for word in words)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["run", "/no/x.onnx"], "File doesn't exist"),
        (["compare", "/no/x.onnx"], ""),
        (["run", "MODEL", "--size", "N"], "'N' is not NAME=N"),
        (["run", "MODEL", "--size", "N=two"], "'N=two' is not NAME=N"),
        (["run", "MODEL", "--size", "M=2"], "no free dimension M: there are N"),
        (["run", "MODEL", "--repeat", "0"], "'0' is not a number above 0"),
        (["run", "MODEL", "--no-such"], "unrecognized arguments"),
        (["opt", "/no/x.ir"], "No such file"),
        (["opt", "MODEL"], ""),
        (["opt", "TEXT", "--passes", "no_such_pass"], "no_such_pass"),
        ([], "required"),
    ],
)
def test_user_errors(
    words: list[str], text: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on standard error, status 2, no traceback."""
    path = tmp_path / "m.ir"
    path.write_text(text_of(model, capsys))
    words = [{"MODEL": model, "TEXT": str(path)}.get(word, word) for word in words]
    try:
        status = main(words)
    except SystemExit as e:
        status = int(e.code or 0)
    out = capsys.readouterr()
    assert status == 2 and out.out == ""
    assert out.err.count("\n") == 1 and "error: " in out.err and text in out.err
