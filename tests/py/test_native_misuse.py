"""The native types with arguments of every wrong kind, and without memory: exceptions, no crash."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from test_values import Value, X, make

import macart as ort
import tiny

pytestmark = pytest.mark.quick


class Evil:
    """Says that it is everything, and fails at all of it."""

    _ortvalue = 5

    def __dlpack__(self, **kwargs: Any) -> Any:
        return 3

    def __index__(self) -> int:
        raise KeyError("index")

    def __iter__(self) -> Any:
        raise LookupError("iter")


ODD = (
    None, 0, -1, 3.5, "x", "z", b"x", (), [], {}, {"x": X, "y": X}, {"x": Evil()}, ["z"], X, X[::2],
    np.array(["a"]), np.array([None]), Evil(), (1, 0), (2, 2**70), [2**62, 2**62], object(), True,
    iter([1]), {1: 2}, np.float32, 1 << 65, [[1, 2], [3]], [X, X], {"a": 1.0}, np.dtype("V8"),
    np.zeros(3, [("a", int)]), memoryview(b"abc"),
)  # fmt: skip
SKIPPED = {"from_pointer"}  # an address is believed, by design


@pytest.mark.parametrize("seed", range(4))
def test_misuse_of_the_native_types(seed: int) -> None:
    """Any method with any arguments answers or raises; nothing crashes, and no SystemError."""
    random = np.random.default_rng(seed)
    core = ort._core
    for _ in range(10):
        session = make(tiny.add_relu())._sess
        value = core.OrtValue.ortvalue_from_numpy(X)
        odd = [*ODD, value, core.make_flag(), session]
        binding = core.SessionIOBinding(session)
        for target in (session, value, binding, core.OrtValue, core):
            for name in dir(target):
                if name[:1] == "_" and "dlpack" not in name or name in SKIPPED:
                    continue
                if target is core and name in ("set_log_level", "set_seed"):
                    continue
                method = getattr(target, name)
                args = [odd[i] for i in random.integers(0, len(odd), random.integers(0, 4))]
                try:
                    method(*args)
                except SystemError:
                    raise
                except Exception:
                    pass
        assert (make(tiny.add_relu()).run(["z"], {"x": X, "y": X})[0] == 2 * X).all()


class Name(str):
    """A key that equals no other."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class Calls:
    """A producer that does something else when it is asked."""

    def __init__(self, what: Callable[[], Any]) -> None:
        self.what = what

    def __dlpack__(self, **kwargs: Any) -> Any:
        self.what()
        return X.copy().__dlpack__(**kwargs)


def test_containers_that_change_while_they_are_read() -> None:
    """Code of a feed adds feeds, takes them away, or empties the list of names."""
    session = make(tiny.add_relu())._sess
    for what in ("more", "fewer", "other"):
        feed: dict[str, Any] = {"x": 0, "y": X}

        def change(feed: dict[str, Any] = feed, what: str = what) -> None:
            if what == "more":
                feed.update({Name("y"): X for _ in range(100)})
            else:
                feed.clear()
                feed.update({f"{what}{i}": X for i in range(100 if what == "other" else 0)})

        feed["x"] = Calls(change)
        with pytest.raises((RuntimeError, ValueError, ort._errors.InvalidArgument)):
            session.run(None, feed)
    names = ["z"] * 3
    with pytest.raises(RuntimeError, match="list of output names changed"):
        session.run(names, {"x": Calls(names.clear), "y": X})
    assert (session.run(["z"] * 3, {"x": X, "y": X})[2] == 2 * X).all()


def test_memory_that_calls_back_when_it_is_given_up() -> None:
    """A bound value whose memory unbinds all when it goes."""
    binding = ort._core.SessionIOBinding(make(tiny.add_relu())._sess)

    class Memory(bytearray):
        def __del__(self) -> None:
            binding.clear_binding_inputs()
            binding.clear_binding_outputs()

    def value() -> Any:
        array = np.frombuffer(Memory(X.nbytes), X.dtype).reshape(X.shape)
        return ort._core.OrtValue.ortvalue_from_numpy(array)

    for bind, name in ((binding.bind_ortvalue_input, "x"), (binding.bind_ortvalue_output, "z")):
        bind(name, value())
        bind(name, value())
        gc.collect()
        assert binding.get_outputs() == []


def test_copy_onto_itself() -> None:
    """A value of strings takes itself."""
    strings = make(tiny.unary("Identity", TensorProto.STRING, [2]))
    text = np.array(["a" * 50, "b" * 50], object)
    (value,) = strings._sess.run_values(None, {"x": text})
    for _ in range(3):
        value.update_inplace(value)
    assert list(value.numpy()) == list(text)


def test_stream_that_is_no_stream() -> None:
    """A number that C cannot hold."""
    value = ort._core.OrtValue.ortvalue_from_numpy(X.copy())
    for stream in (1 << 80, -(1 << 80), 0, "x"):
        with pytest.raises(BufferError):
            value.__dlpack__(stream=stream)


@pytest.mark.full
def test_python_without_memory() -> None:
    """Each allocation of Python's fails in turn: MemoryError, and the next call is fine."""
    api = pytest.importorskip("_testcapi")
    session = make(tiny.add_relu())
    strings = make(tiny.unary("Identity", TensorProto.STRING, [2]))
    value = Value.ortvalue_from_numpy(X)
    binding = session.io_binding()
    binding.bind_cpu_input("x", X)
    binding.bind_cpu_input("y", X)
    binding.bind_output("z")
    core, text, odd = ort._core, np.array(["a", "b"], object), np.asfortranarray(X)
    feed, mixed = {"x": X, "y": X}, {"x": odd, "y": X.tolist()}
    calls = (
        lambda: session.run(None, feed),
        lambda: session._sess.run_values(None, mixed),
        lambda: (binding._iobinding.run(), binding.get_outputs()),
        lambda: core.OrtValue.from_dlpack(value).numpy(),
        lambda: strings.run(None, {"x": text}),
        lambda: session._sess.describe(),
        lambda: core.SessionIOBinding(session._sess).bind_ortvalue_input("x", value._ortvalue),
    )
    gc.disable()
    try:
        for call in calls:
            failures = 0
            for k in range(60):
                api.set_nomemory(k, k + 1)
                try:
                    call()
                except MemoryError:
                    failures += 1
                finally:
                    api.remove_mem_hooks()
            assert failures > 0
            call()
    finally:
        gc.enable()
