"""SessionOptions, RunOptions, configuration keys and providers: each does what its table says."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

import macart as ort
import tiny
from macart import _config

ROOT = Path(__file__).resolve().parents[2]
X = np.arange(6, dtype=np.float32).reshape(2, 3)
FEED = {"x": X, "y": X}


def options(**values: Any) -> ort.SessionOptions:
    """Session options with these properties."""
    o = ort.SessionOptions()
    for name, value in values.items():
        setattr(o, name, value)
    return o


def with_keys(**entries: str) -> ort.SessionOptions:
    """Session options with these entries; __ stands for a dot."""
    o = ort.SessionOptions()
    for name, value in entries.items():
        o.add_session_config_entry(name.replace("__", "."), value)
    return o


# ---------------------------------------------------------------- the tables


@pytest.mark.quick
def test_table_is_written_out() -> None:
    """docs/options.md is what the table says."""
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "gen_options.py"), "--check"])
    assert done.returncode == 0


@pytest.mark.full
def test_properties_and_defaults_are_those_of_onnxruntime() -> None:
    """The same names, the same values; names that we lack are listed here."""
    theirs = pytest.importorskip("onnxruntime")
    lacking = {
        "add_external_initializers_from_files_in_memory", "clear_ep_context_data_read_func",
        "set_ep_context_data_read_func",
    }  # fmt: skip
    for cls in ("SessionOptions", "RunOptions"):
        a, b = getattr(ort, cls)(), getattr(theirs, cls)()
        for name in (n for n in dir(b) if not n.startswith("_")):
            if name in lacking:
                continue
            value = getattr(b, name)
            assert callable(value) == callable(getattr(a, name)), name
            if not callable(value):
                assert getattr(a, name) == getattr(value, "value", value), name
    for cls in ("InferenceSession", "OrtValue", "IOBinding", "OrtDevice"):
        names = {n for n in dir(getattr(theirs, cls)) if not n.startswith("_")}
        assert names - set(dir(getattr(ort, cls))) <= LATER, cls
    modules = {"capi", "contextlib", "onnxruntime_validation"}
    variables = {"cuda_version", "import_capi_exception", "package_name", "version"}
    names = {n for n in dir(theirs) if not n.startswith("_")} - modules - variables
    assert names - set(dir(ort)) == ort._MISSING
    for name in ("GraphOptimizationLevel", "ExecutionMode", "ExecutionOrder", "OrtDeviceVendorId"):
        members = getattr(theirs, name).__members__
        assert {k: int(v) for k, v in members.items()} == {
            k: int(v) for k, v in getattr(ort, name).__members__.items()
        }


LATER = {
    "create_ortvalue_from_shape_and_type", "get_input_epdevices", "get_input_memory_infos",
    "get_output_memory_infos", "get_provider_graph_assignment_info", "release_captured_graph",
    "set_tuning_results",
}  # fmt: skip


@pytest.mark.quick
@pytest.mark.parametrize("key", _config.SESSION_KEYS, ids=lambda k: k.name)
def test_every_session_key(key: _config.Key) -> None:
    """The default and hints are accepted; what is refused says so by name."""
    o = ort.SessionOptions()
    if key.default:
        o.add_session_config_entry(key.name, key.default)
        ort.InferenceSession(tiny.add_relu(), o).run(None, FEED)
    o.add_session_config_entry(key.name, "1" if key.default != "1" else "0")
    if key.status == _config.REFUSED:
        with pytest.raises(ort.NotImplemented, match=key.name):
            ort.InferenceSession(tiny.add_relu(), o)
    elif key.status == _config.HINT:
        ort.InferenceSession(tiny.add_relu(), o).run(None, FEED)


@pytest.mark.quick
def test_config_entries() -> None:
    """Set, get, and the texts of ONNX Runtime for what is wrong."""
    for o in (ort.SessionOptions(), ort.RunOptions()):
        add = getattr(o, "add_session_config_entry", None) or o.add_run_config_entry
        get = getattr(o, "get_session_config_entry", None) or o.get_run_config_entry
        add("some.key", "v")
        assert get("some.key") == "v"
        with pytest.raises(RuntimeError, match="does not have configuration with key: nope"):
            get("nope")
        with pytest.raises(RuntimeError, match="Config key is empty or longer than"):
            add("", "1")
        with pytest.raises(TypeError):
            add("k", 1)


@pytest.mark.quick
def test_property_types() -> None:
    """Wrong types and unknown names are errors, as in ONNX Runtime."""
    o = ort.SessionOptions()
    for name, value in (
        ("intra_op_num_threads", "x"), ("logid", 3), ("graph_optimization_level", "ALL"),
        ("enable_profiling", "yes"), ("execution_mode", None),
    ):  # fmt: skip
        with pytest.raises(TypeError):
            setattr(o, name, value)
    with pytest.raises(ValueError):
        o.graph_optimization_level = 7  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        o.no_such_option = 1  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        ort.RunOptions().no_such_option = 1  # type: ignore[attr-defined]
    o.graph_optimization_level = 1  # type: ignore[assignment]
    assert o.graph_optimization_level is ort.GraphOptimizationLevel.ORT_ENABLE_BASIC


# ---------------------------------------------------------------- what is effective


@pytest.mark.quick
def test_free_dimension_overrides() -> None:
    """By name and by denotation: declared shapes change, other sizes are refused."""
    o = ort.SessionOptions()
    o.add_free_dimension_override_by_name("N", 2)
    s = ort.InferenceSession(tiny.add_relu(), o)
    assert s.get_inputs()[0].shape == [2, 3]
    s.run(None, FEED)
    with pytest.raises(ort.InvalidArgument, match="Got: 1 Expected: 2"):
        s.run(None, {"x": X[:1], "y": X[:1]})
    info = helper.make_tensor_value_info("x", tiny.F, ["N", "M"])
    info.type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    data = tiny.model([helper.make_node("Neg", ["x"], ["y"])], [info], [("y", tiny.F, None)])
    o = ort.SessionOptions()
    o.add_free_dimension_override_by_denotation("DATA_BATCH", 5)
    assert ort.InferenceSession(data, o).get_inputs()[0].shape == [5, "M"]


@pytest.mark.quick
def test_declared_shapes_that_disagree() -> None:
    """They load, run and are reported as declared; strict_shape_type_inference makes them an error,
    with onnxruntime's words. Names and unknown dims contradict nothing."""
    node = helper.make_node("Neg", ["x"], ["y"])
    strict = with_keys(session__strict_shape_type_inference="1")
    cases: list[tuple[list[int | str] | None, str]] = [
        ([5, 3], "Output:y .*Inferred=2 Declared=5 Dimension=0"),
        ([2, 7], "Can't merge shape info. Both .*Inferred=3 Declared=7 Dimension=1"),
        ([2, 3, 1], "between number of inferred and declared dimensions. inferred=2 declared=3"),
        ([2, 3], ""),
        (["a", "b"], ""),
        (None, ""),
    ]
    for shape, words in cases:
        data = tiny.model([node], [("x", tiny.F, [2, 3])], [("y", tiny.F, shape)])
        s = ort.InferenceSession(data, with_keys(session__strict_shape_type_inference="0"))
        if shape and words:
            assert s.get_outputs()[0].shape == shape
        assert (s.run(None, {"x": X})[0] == -X).all()
        if words:
            with pytest.raises(ort.Fail, match=words):
                ort.InferenceSession(data, strict)
        else:
            assert (ort.InferenceSession(data, strict).run(None, {"x": X})[0] == -X).all()
    inside = [helper.make_node("Neg", ["x"], ["h"]), helper.make_node("Abs", ["h"], ["y"])]
    graph = helper.make_graph(
        inside, "g", [helper.make_tensor_value_info("x", tiny.F, ["n", 3])],
        [helper.make_tensor_value_info("y", tiny.F, ["n", 3])],
        value_info=[helper.make_tensor_value_info("h", tiny.F, ["n", 4])],
    )  # fmt: skip
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    with pytest.raises(ort.Fail, match="Output:h .*Inferred=3 Declared=4"):
        ort.InferenceSession(data.SerializeToString(), strict)
    assert ort.InferenceSession(data.SerializeToString()).run(None, {"x": X})[0].shape == X.shape


@pytest.mark.quick
def test_initializers_from_outside() -> None:
    """An OrtValue in place of an initializer; a wrong one names it."""
    data = tiny.model(
        [helper.make_node("Add", ["x", "w"], ["y"])], [("x", tiny.F, [3])], [("y", tiny.F, [3])],
        {"w": np.zeros(3, np.float32)},
    )  # fmt: skip
    o = ort.SessionOptions()
    o.add_initializer("w", ort.OrtValue.ortvalue_from_numpy(np.full(3, 7, np.float32)))
    s = ort.InferenceSession(data, o)
    assert s.run(None, {"x": X[0]})[0].tolist() == [7, 8, 9]
    for name, value, text in (
        ("q", np.zeros(3, np.float32), "no initializer is called 'q'"),
        ("w", np.zeros(4, np.float32), "initializer 'w' is float {3}"),
        ("w", np.zeros(3, np.int32), "the given value int32 {3}"),
    ):
        o = ort.SessionOptions()
        o.add_external_initializers([name], [ort.OrtValue.ortvalue_from_numpy(value)])
        with pytest.raises(ort.InvalidArgument, match=re.escape(text)):
            ort.InferenceSession(data, o)


@pytest.mark.quick
def test_profiling(tmp_path: Path) -> None:
    """A Chrome trace with an event for each node that ran."""
    o = options(enable_profiling=True, profile_file_prefix=str(tmp_path / "trace"))
    s = ort.InferenceSession(tiny.add_relu(), o)
    assert s.get_profiling_start_time_ns() > 0
    s.run(None, FEED)
    name = s.end_profiling()
    assert name.startswith(str(tmp_path / "trace_")) and name.endswith(".json")
    events = json.loads(Path(name).read_text())
    assert {e["ph"] for e in events} == {"X"}
    names = [e["name"] for e in events]
    assert "model_run" in names and any("add" in n for n in names)
    assert ort.InferenceSession(tiny.add_relu()).end_profiling() == ""


@pytest.mark.quick
def test_fold_limit(tmp_path: Path) -> None:
    """The limit of folding decides whether a constant is made; a wrong number is refused."""
    key = "optimization.constant_folding_max_output_size_in_bytes"
    with pytest.raises(ort.InvalidArgument, match=key):
        ort.InferenceSession(tiny.add_relu(), with_keys(**{key: "many"}))
    data = tiny.model(
        [helper.make_node("CumSum", ["w", "i"], ["e"]), helper.make_node("Add", ["x", "e"], ["y"])],
        [("x", tiny.F, [1000])], [("y", tiny.F, [1000])],
        {"w": np.ones(1000, np.float32), "i": np.array(0)},
    )  # fmt: skip
    for limit, folded in (("100", False), ("100000", True)):
        o = with_keys(**{key: limit})
        o.enable_profiling = True
        o.profile_file_prefix = str(tmp_path / limit)
        s = ort.InferenceSession(data, o)
        assert s.run(None, {"x": np.zeros(1000, np.float32)})[0][0] == 1
        ran = [e["args"].get("op_name") for e in json.loads(Path(s.end_profiling()).read_text())]
        assert ("CumSum" not in ran) is folded


@pytest.mark.quick
def test_seed() -> None:
    """Random operators without a seed repeat after set_seed."""
    node = helper.make_node("RandomUniformLike", ["x"], ["y"])
    s = ort.InferenceSession(tiny.model([node], [("x", tiny.F, [4])], [("y", tiny.F, [4])]))
    x = {"x": np.zeros(4, np.float32)}
    ort.set_seed(3)
    a, b = s.run(None, x)[0], s.run(None, x)[0]
    ort.set_seed(3)
    assert (s.run(None, x)[0] == a).all() and (a != b).any()


@pytest.mark.quick
def test_log_level_and_id(capfd: pytest.CaptureFixture[str]) -> None:
    """A session's lines carry its logid; its own level counts."""
    ort.InferenceSession(tiny.add_relu())
    assert not capfd.readouterr().err
    ort.InferenceSession(tiny.add_relu(), options(log_severity_level=1, logid="mine"))
    assert ":onnxruntime:mine, " in capfd.readouterr().err
    ort.set_default_logger_severity(1)
    ort.InferenceSession(tiny.add_relu(), options(logid="all"))
    ort.InferenceSession(tiny.add_relu(), options(log_severity_level=3, logid="none"))
    err = capfd.readouterr().err
    assert ":onnxruntime:all, " in err and "none" not in err
    for severity in (-1, 5):
        with pytest.raises(RuntimeError, match="Invalid logging severity"):
            ort.set_default_logger_severity(severity)
    ort.set_default_logger_severity(2)
    ort.set_default_logger_verbosity(1)
    for call in (ort.set_default_logger_severity, ort.set_default_logger_verbosity):
        with pytest.raises(TypeError):
            call("3")


# ---------------------------------------------------------------- providers


@pytest.mark.quick
@pytest.mark.parametrize(
    ("providers", "opts", "text"),
    [
        (3, None, "'providers' should be a sequence."),
        (["CPUExecutionProvider"], 3, "'provider_options' should be a sequence."),
        (["CPUExecutionProvider"], [], "should be the same length"),
        ([("CPUExecutionProvider", {})], [{}], "Only string values for 'providers'"),
        (["CPUExecutionProvider"], [3], "'provider_options' values must be dicts."),
        ([3], None, "values must be either strings or"),
    ],
)
def test_provider_arguments(providers: Any, opts: Any, text: str) -> None:
    """ValueErrors with ONNX Runtime's texts when there is no fallback."""
    with pytest.raises(ValueError, match=text):
        ort.InferenceSession(
            tiny.add_relu(), providers=providers, provider_options=opts, enable_fallback=0
        )


@pytest.mark.quick
def test_provider_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """A warning that says what is missing, then the next; or an error where that was asked for."""
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    with pytest.warns(UserWarning, match="'CUDAExecutionProvider' is not in available.*not part"):
        s = ort.InferenceSession(tiny.add_relu(), providers=names)
    assert s.get_providers() == ["CPUExecutionProvider"]
    with pytest.warns(UserWarning), pytest.raises(ort.EPFail, match="CUDAExecutionProvider"):
        ort.InferenceSession(
            tiny.add_relu(), with_keys(session__macart__require_providers="1"), providers=names
        )
    with pytest.warns(UserWarning), pytest.raises(ort.Fail, match="Conflicting session"):
        ort.InferenceSession(
            tiny.add_relu(), with_keys(session__disable_cpu_ep_fallback="1"), providers=names
        )
    with pytest.warns(UserWarning), pytest.raises(ort.Fail, match="explicitly disabled by"):
        ort.InferenceSession(
            tiny.add_relu(), with_keys(session__disable_cpu_ep_fallback="1"), providers=names[:1]
        )
    assert capsys.readouterr().out == ""
    with pytest.warns(UserWarning, match="'Foo' is not in available"):
        s = ort.InferenceSession(tiny.add_relu(), providers=["Foo"])
    assert "EP Error Unknown Provider Type: Foo when using" in capsys.readouterr().out
    with pytest.warns(UserWarning), pytest.raises(RuntimeError, match="Unknown Provider Type: Foo"):
        s.set_providers(["Foo"])
    s.set_providers(["CPUExecutionProvider"], [{"k": 1}])
    assert s.get_provider_options() == {"CPUExecutionProvider": {"k": "1"}}
    with pytest.warns(UserWarning, match="Duplicate provider"):
        ort.InferenceSession(tiny.add_relu(), providers=["CPUExecutionProvider"] * 2)


@pytest.mark.quick
def test_required_providers_have_no_fallback(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the options ask for every provider, no error ends in a session on the CPU."""
    o = with_keys(session__macart__require_providers="1")
    for names in (["FooExecutionProvider"], ["FooExecutionProvider", "CPUExecutionProvider"]):
        with pytest.warns(UserWarning), pytest.raises(ort.EPFail, match="is called FooExecution"):
            ort.InferenceSession(tiny.add_relu(), o, providers=names)
    with pytest.raises(ValueError, match="should be a sequence"):
        ort.InferenceSession(tiny.add_relu(), o, providers=3)  # type: ignore[arg-type]
    s = ort.InferenceSession(tiny.add_relu(), o, providers=["CPUExecutionProvider"])
    with pytest.warns(UserWarning), pytest.raises(ort.EPFail):
        s.set_providers(["FooExecutionProvider"])
    assert s.get_providers() == ["CPUExecutionProvider"]
    assert capsys.readouterr().out == ""


@pytest.mark.quick
def test_provider_runs_a_part_only() -> None:
    """With the fallback disabled, a node that only the CPU can run is named."""
    o = with_keys(session__disable_cpu_ep_fallback="1", test__claims="Relu")
    with pytest.raises(ort.Fail, match=r"explicitly disabled by the user: node 'add' \(Add"):
        ort.InferenceSession(tiny.add_relu(), o, providers=["TestExecutionProvider"])


@pytest.mark.quick
def test_provider_of_the_options() -> None:
    """add_provider counts; the constructor's list wins over it, with a warning."""
    o = ort.SessionOptions()
    assert not o.has_providers()
    o.add_provider("CPUExecutionProvider", {"a": 1})
    assert o.has_providers()
    s = ort.InferenceSession(tiny.add_relu(), o)
    assert s.get_provider_options() == {"CPUExecutionProvider": {"a": "1"}}
    with pytest.warns(UserWarning, match="will only use the providers passed"):
        s = ort.InferenceSession(tiny.add_relu(), o, providers=["CPUExecutionProvider"])
    assert s.get_provider_options() == {"CPUExecutionProvider": {}}


@pytest.mark.quick
def test_module_functions() -> None:
    """Names that scripts ask for."""
    assert ort.get_available_providers() == ["CPUExecutionProvider"]
    assert ort.get_all_providers()[-1] == "CPUExecutionProvider"
    assert ort.get_device() == "CPU"
    assert ort.get_version_string() == ort.__version__
    assert "Build Info" in ort.get_build_info()
    ort.enable_telemetry_events()
    ort.disable_telemetry_events()
    assert ort.OrtDevice.make("cuda", 1).device_type() == 1
    assert ort.OrtDevice.make("cuda", 1).device_vendor_id() == ort.OrtDeviceVendorId.NVIDIA
    assert ort.OrtDevice.make("cpu", 0)._get_c_device().device_mem_type() == 0


@pytest.mark.quick
def test_capi() -> None:
    """Exceptions by the path that they have in ONNX Runtime; the native classes and functions."""
    state = ort.capi.onnxruntime_pybind11_state
    with pytest.raises(state.InvalidArgument):
        ort.InferenceSession(b"")
    with pytest.raises(state.NoSuchFile):
        ort.InferenceSession("/no/x.onnx")
    for name in state.__all__:
        value = getattr(state, name)
        assert name == "OrtValue" or value is getattr(ort, name)
    value = ort.OrtValue.ortvalue_from_numpy(X)
    assert isinstance(value._get_c_value(), state.OrtValue)
    assert state.get_available_providers is ort.get_available_providers
    with pytest.raises(ort.NotImplemented, match="OrtMemoryInfo"):
        state.OrtMemoryInfo  # noqa: B018
    assert not hasattr(state, "InferenceSession") and not hasattr(state, "no_such_name")


@pytest.mark.quick
def test_names_that_are_not_there() -> None:
    """NotImplemented with the name; hasattr says False, as for names that nobody knows."""
    for name in sorted(ort._MISSING):
        assert not hasattr(ort, name)
        with pytest.raises(ort.NotImplemented, match=name):
            getattr(ort, name)
    s = ort.InferenceSession(tiny.add_relu())
    for name in sorted(LATER):
        assert not hasattr(s, name)
        with pytest.raises(ort.NotImplemented, match=f"InferenceSession.{name}"):
            getattr(s, name)
    for thing in (ort, s):
        with pytest.raises(AttributeError, match="no attribute 'no_such_name'") as e:
            thing.no_such_name  # type: ignore[attr-defined]  # noqa: B018
        assert not isinstance(e.value, ort.NotImplemented)


# ---------------------------------------------------------------- where models come from


@pytest.mark.quick
def test_sources(tmp_path: Path) -> None:
    """Paths, bytes, buffers and files; anything else is a TypeError."""
    data = tiny.add_relu()
    path = tmp_path / "ü m.onnx"
    path.write_bytes(data)
    for model in (path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data)):
        s = ort.InferenceSession(model)
        assert (s.run(["z"], FEED)[0] == 2 * X).all()
    with path.open("rb") as file:
        assert ort.InferenceSession(file).run(["z"], FEED)
    for wrong in (3, None, io.StringIO("x"), object()):
        with pytest.raises(TypeError):
            ort.InferenceSession(wrong)
    with pytest.raises(ort.NoSuchFile, match="Load model from /no/x.onnx failed:Load model /no/x"):
        ort.InferenceSession("/no/x.onnx")
    with pytest.raises(ort.NoSuchFile, match="Load model from  failed"):
        ort.InferenceSession("")
    with pytest.raises(ort.InvalidProtobuf, match="Failed to load model because protobuf parsing"):
        ort.InferenceSession(b"garbage!")
    with pytest.raises(ort.InvalidArgument, match="No graph was found in the protobuf"):
        ort.InferenceSession(b"")
    with pytest.raises(TypeError, match="SessionOptions"):
        ort.InferenceSession(data, {})  # type: ignore[arg-type]


@pytest.mark.quick
def test_buffers_are_used_in_place() -> None:
    """Immutable bytes are not copied and stay; what others could change is copied."""
    w = np.arange(1 << 18, dtype=np.float32)
    data = tiny.model(
        [helper.make_node("Add", ["x", "w"], ["y"])], [("x", tiny.F, [w.size])],
        [("y", tiny.F, [w.size])], {"w": w},
    )  # fmt: skip
    zero = {"x": np.zeros(w.size, np.float32)}
    mutable = bytearray(data)
    s = ort.InferenceSession(mutable)
    mutable[:] = bytes(len(mutable))
    assert (s.run(None, zero)[0] == w).all()
    before = ort._core.info()["live_bytes"]
    references = sys.getrefcount(data)
    s = ort.InferenceSession(data)
    assert ort._core.info()["live_bytes"] - before < w.nbytes / 2
    assert sys.getrefcount(data) > references
    assert (s.run(None, zero)[0] == w).all()
    del s
    assert sys.getrefcount(data) == references


@pytest.mark.quick
def test_descriptions() -> None:
    """Inputs, outputs, overridable initializers and metadata as the model has them."""
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    data = tiny.model(
        nodes, [("x", tiny.F, ["N", None, 3]), ("w", tiny.F, [3])], [("y", tiny.F, None)],
        {"w": np.ones(3, np.float32)}, producer_name="p", domain="d", model_version=7,
        doc_string="text",
    )  # fmt: skip
    s = ort.InferenceSession(data)
    assert str(s.get_inputs()[0]) == "NodeArg(name='x', type='tensor(float)', shape=['N', None, 3])"
    assert [i.name for i in s.get_inputs()] == ["x"]
    assert [i.name for i in s.get_overridable_initializers()] == ["w"]
    assert (s.get_outputs()[0].name, s.get_outputs()[0].shape) == ("y", ["N", None, 3])
    meta = s.get_modelmeta()
    assert (meta.producer_name, meta.domain, meta.version) == ("p", "d", 7)
    assert (meta.description, meta.graph_name, meta.custom_metadata_map) == ("text", "tiny", {})
    x = np.zeros((1, 2, 3), np.float32)
    assert s.run(None, {"x": x})[0].max() == 1
    assert s.run(None, {"x": x, "w": np.full(3, 4, np.float32)})[0].max() == 4
    assert s.get_session_options().graph_optimization_level == 99
    with pytest.raises(RuntimeError, match="No options were provided"):
        s.set_ep_dynamic_options({})


@pytest.mark.quick
def test_what_is_refused_says_so(tmp_path: Path) -> None:
    """NotImplemented names the thing; a missing library has ONNX Runtime's text."""
    with pytest.raises(ort.Fail, match="Failed to load library /no.so with error: /no.so: cannot"):
        ort.SessionOptions().register_custom_ops_library("/no.so")
    library = tmp_path / "a.so"
    library.write_bytes(b"")
    o = ort.SessionOptions()
    for method, args in (
        ("register_custom_ops_library", (str(library),)), ("add_provider_for_devices", ([],)),
        ("set_provider_selection_policy", (0,)), ("set_provider_selection_policy_delegate", (0,)),
        ("add_external_initializers_from_files_in_memory", ([], [], [])),
    ):  # fmt: skip
        with pytest.raises(ort.NotImplemented):
            getattr(o, method)(*args)
    with pytest.raises(ort.NotImplemented):
        ort.RunOptions().add_active_adapter(None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert issubclass(ort.OutOfMemory, MemoryError) and issubclass(ort.OutOfMemory, ort.Fail)
