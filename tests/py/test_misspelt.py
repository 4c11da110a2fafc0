"""Names that nobody knows are said, not passed over: configuration keys, environment variables,
passes, operators. (Command-line words: test_command.py.)
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import macart as ort
import tiny
from macart import _core, _environment

pytestmark = pytest.mark.quick
ROOT = Path(__file__).resolve().parents[2]
MAKE = "import macart as ort, sys; ort.InferenceSession(sys.argv[1]); print('made')"


def in_process(code: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A Python process with these environment variables."""
    env = {**os.environ, **variables}
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def test_configuration_keys() -> None:
    """Ours have to exist; others need not, as in ONNX Runtime."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.no_such_key", "1")
    ort.InferenceSession(tiny.add_relu(), options)
    options.add_session_config_entry("session.macart.winogard", "0")
    with pytest.raises(ort.InvalidArgument, match="no configuration .*winogard; .*winograd"):
        ort.InferenceSession(tiny.add_relu(), options)
    with pytest.raises(ort.InvalidArgument, match="session.macart.winograd"):
        ort.RunOptions().add_run_config_entry("session.macart.winograd", "0")


def test_environment_variables(tmp_path: Path) -> None:
    """A warning names the variable and the one that was meant; known ones are silent."""
    done = in_process("import macart", MRT_PASES="-fold", MRT_CACHE_LIMIT="10")
    assert "reads no environment variable MRT_PASES; did you mean MRT_PASSES?" in done.stderr
    assert "MRT_CACHE_LIMIT" not in done.stderr and done.returncode == 0
    known = {**dict.fromkeys(_core.environment(), ""), **dict.fromkeys(_environment.OF_SCRIPTS, "")}
    assert "MRT_CPU_ISA" in known and not in_process("import macart", **known).stderr
    page = (ROOT / "docs" / "environment.md").read_text()
    assert all(f"| `{name}` |" in page for name in known)


def test_words_of_variables(tmp_path: Path) -> None:
    """Passes, fusions and instruction sets that do not exist are an error of the session."""
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny.add_relu())
    for value in ("", "-pointwise,-layout", ",".join(f"-{name}" for name in _core.passes())):
        done = in_process(MAKE, str(path), MRT_PASSES=value)
        assert done.stdout == "made\n", done.stderr
    for value, word in (("-fold,-fodl", "-fodl"), ("fold", "fold"), ("-layout,x", "x")):
        done = in_process(MAKE, str(path), MRT_PASSES=value)
        assert f"MRT_PASSES: '{word}' is not a pass" in done.stderr and done.returncode
    done = in_process(MAKE, str(path), MRT_CPU_ISA="avx3")
    assert "MRT_CPU_ISA: there is no instruction set 'avx3'" in done.stderr and done.returncode
    page = (ROOT / "docs" / "environment.md").read_text()
    sets = [line for line in (ROOT / "csrc" / "base" / "cpu_isa.def").read_text().splitlines()
            if line.startswith("MRT_ISA(")]  # fmt: skip
    for name in ("scalar", *(line.split('"')[1] for line in sets)):
        assert name in next(line for line in page.splitlines() if "`MRT_CPU_ISA`" in line)
        assert in_process(MAKE, str(path), MRT_CPU_ISA=name).stdout == "made\n"


def test_operator_without_cases() -> None:
    """The tool behind ./dev op says that there is nothing, and fails."""
    tool = [sys.executable, str(ROOT / "tests" / "py" / "onnx_suite.py"), "--op", "NoSuchOp"]
    done = subprocess.run(tool, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "no case of node for operator NoSuchOp" in done.stderr


def nodes(*operators: tuple[str, str]) -> bytes:
    """A model with a node of each (domain, operator), one after the other."""
    made = [
        helper.make_node(name, [f"v{k}"], [f"v{k + 1}"], name=f"n{k}", domain=domain)
        for k, (domain, name) in enumerate(operators)
    ]
    ins = [helper.make_tensor_value_info("v0", TensorProto.FLOAT, [2])]
    outs = [helper.make_tensor_value_info(f"v{len(made)}", TensorProto.FLOAT, None)]
    domains = sorted({domain for domain, _ in operators} | {""})
    opsets = [helper.make_opsetid(d, 21 if d == "" else 1) for d in domains]
    graph = helper.make_graph(made, "g", ins, outs)
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def test_missing_operators() -> None:
    """What ONNX or ONNX Runtime has and we have not is NotImplemented, all of it at once; a name
    that is nobody's makes the model invalid, and no message speaks of our passes."""
    lines = (ROOT / "csrc" / "pass" / "elsewhere.def").read_text().splitlines()
    listed = [line[14:-1].split(", ") for line in lines if line.startswith("MRT_ELSEWHERE(")]
    pairs = [(domain.strip('"'), name) for domain, name in listed]
    rows = {(domain, name) for domain, name, *_ in _core.operators()}
    lacking = [pair for pair in pairs if pair not in rows]
    assert len(lacking) > 20 and ("", "ImageDecoder") in pairs
    with pytest.raises(ort.NotImplemented) as e:
        ort.InferenceSession(nodes(*lacking[:20]))
    for k, (domain, name) in enumerate(lacking[:20]):
        full = f"{domain}.{name}" if domain else name
        assert f"an implementation for {full}(" in str(e.value) and f"'n{k}'" in str(e.value)
    for unknown, kind in ((("", "NoSuchOp"), ort.InvalidGraph), (("my.domain", "Op"), ort.Fail)):
        with pytest.raises(kind) as invalid:
            ort.InferenceSession(nodes(lacking[0], unknown))
        text = str(invalid.value)
        assert lacking[0][1] in text and unknown[1] in text and "pass '" not in text


def test_every_operator_of_onnx_is_known() -> None:
    """No operator of the installed standard is taken for an unknown name."""
    schemas = onnx.defs.get_all_schemas()
    lines = (ROOT / "csrc" / "pass" / "elsewhere.def").read_text()
    rows = {(domain, name) for domain, name, *_ in _core.operators()}
    for schema in schemas:
        here = (schema.domain, schema.name) in rows
        assert here or f'MRT_ELSEWHERE("{schema.domain}", {schema.name})' in lines, schema.name


def test_seeded_nodes_go_on() -> None:
    """As in ONNX Runtime: a seed starts a node's numbers at a new session, and each run goes on;
    two nodes with one seed draw the same."""
    made = [helper.make_node("RandomUniform", [], [n], shape=[5], seed=3.0) for n in ("y", "z")]
    outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("y", "z")]
    graph = helper.make_graph(made, "g", [], outs)
    opsets = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    runs = [[s.run(None, {}) for _ in range(3)] for s in map(ort.InferenceSession, [model, model])]
    for one, other in zip(*runs, strict=True):
        assert np.array_equal(one[0], one[1]) and np.array_equal(one[0], other[0])
    assert not np.array_equal(runs[0][0][0], runs[0][1][0])
    assert not np.array_equal(runs[0][1][0], runs[0][2][0])
