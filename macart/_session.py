"""InferenceSession and what it describes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from . import _core
from ._errors import InvalidArgument
from ._options import RunOptions, SessionOptions

KNOWN_PROVIDERS = [
    "MACAExecutionProvider", "ROCMExecutionProvider", "CUDAExecutionProvider",
    "OpenCLExecutionProvider", "CPUExecutionProvider",
]
AVAILABLE_PROVIDERS = ["CPUExecutionProvider"]


class NodeArg:
    """Name, type ("tensor(float)") and shape (int, str for a symbolic dim, None) of a value."""

    def __init__(self, name: str, type: str, shape: list[int | str | None]) -> None:  # noqa: A002
        self.name, self.type, self.shape = name, type, shape

    def __repr__(self) -> str:
        return f"NodeArg(name={self.name!r}, type={self.type!r}, shape={self.shape})"

    __str__ = __repr__


class ModelMetadata:
    """What the model says of itself."""

    def __init__(self, d: dict[str, Any]) -> None:
        self.producer_name: str = d["producer_name"]
        self.graph_name: str = d["graph_name"]
        self.domain: str = d["domain"]
        self.description: str = d["description"]
        self.graph_description: str = d["graph_description"]
        self.version: int = d["version"]
        self.custom_metadata_map: dict[str, str] = d["metadata"]


def _providers(providers: Sequence[Any] | None, options: Sequence[dict] | None) -> list[str]:
    if providers is None:
        return []
    if isinstance(providers, str) or not isinstance(providers, Sequence):
        raise ValueError("'providers' should be a sequence.")
    if options is not None:
        if not isinstance(options, Sequence):
            raise ValueError("'provider_options' should be a sequence.")
        if len(options) != len(providers):
            raise ValueError(
                "'providers' and 'provider_options' should be the same length if both are given."
            )
        if not all(isinstance(p, str) for p in providers):
            raise ValueError(
                "Only string values for 'providers' are supported if 'provider_options' is given."
            )
        if not all(isinstance(o, dict) for o in options):
            raise ValueError("'provider_options' values must be dicts.")
    names: list[str] = []
    for p in providers:
        ok = isinstance(p, tuple) and len(p) == 2 and isinstance(p[0], str) and isinstance(p[1], dict)
        if not ok and not isinstance(p, str):
            raise ValueError("'providers' values must be either strings or (string, dict) tuples.")
        name = p if isinstance(p, str) else p[0]
        if name in names:
            warnings.warn(f"Duplicate provider '{name}' encountered, ignoring.", stacklevel=4)
            continue
        if name not in AVAILABLE_PROVIDERS:
            if name not in KNOWN_PROVIDERS and not name.endswith("ExecutionProvider"):
                raise RuntimeError(f"Unknown Provider Type: {name}")
            warnings.warn(
                f"Specified provider '{name}' is not in available provider names."
                f"Available providers: '{', '.join(AVAILABLE_PROVIDERS)}'",
                stacklevel=4,
            )
            continue
        names.append(name)
    return names


class InferenceSession:
    """A model, ready to run. Thread safe: any number of threads may call ``run`` at once.

    path_or_bytes: a path, or the model as bytes, bytearray or memoryview. providers: names, best
    first, or (name, options) tuples. Raises ONNX Runtime's exceptions (see ``macart._errors``).
    """

    def __init__(
        self,
        path_or_bytes: str | bytes | os.PathLike,
        sess_options: SessionOptions | None = None,
        providers: Sequence[Any] | None = None,
        provider_options: Sequence[dict] | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(path_or_bytes, (str, os.PathLike)):
            self._model: str | bytes = os.fspath(path_or_bytes)
        elif isinstance(path_or_bytes, (bytes, bytearray, memoryview)):
            self._model = bytes(path_or_bytes)
        else:
            raise TypeError(f"Unable to load from type '{type(path_or_bytes)}'")
        self._options = sess_options or SessionOptions()
        self._requested = providers
        o = self._options
        names = _providers(providers, provider_options) or [n for n, _ in o._providers]
        path = self._model if isinstance(self._model, str) else None
        data = None if path is not None else self._model
        config = [x for pair in o._config.items() for x in pair]
        self._sess = _core.Session(
            path, data, int(o.graph_optimization_level), int(o.intra_op_num_threads),
            int(o.log_severity_level), o.logid, names, config, list(o._overrides.items()), [],
            o.profile_file_prefix if o.enable_profiling else None, o.optimized_model_filepath, None,
        )
        d = self._describe = self._sess.describe()
        self._inputs = [NodeArg(*t) for t in d["inputs"]]
        self._outputs = [NodeArg(*t) for t in d["outputs"]]
        self._overridable = [NodeArg(*t) for t in d["overridable"]]
        self._required = [i.name for i in self._inputs if not i.type.startswith("optional")]
        self._types = {i.name: i.type for i in self._inputs + self._overridable}

    def __reduce__(self) -> tuple:
        """Pickles as the path (or bytes) and the graph level and thread count."""
        o = self._options
        return _rebuild, (self._model, int(o.graph_optimization_level), o.intra_op_num_threads)

    def get_inputs(self) -> list[NodeArg]:
        """The inputs that have no initializer."""
        return list(self._inputs)

    def get_outputs(self) -> list[NodeArg]:
        """The outputs, in the model's order."""
        return list(self._outputs)

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Inputs with an initializer as default."""
        return list(self._overridable)

    def get_modelmeta(self) -> ModelMetadata:
        """Producer, description and custom metadata."""
        return ModelMetadata(self._describe)

    def get_session_options(self) -> SessionOptions:
        """The options that the session was made with."""
        return self._options

    def get_providers(self) -> list[str]:
        """Providers in use; the CPU is always last."""
        return list(self._describe["providers"])

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """Options of each provider."""
        return {name: {} for name in self.get_providers()}

    def _feed(self, name: str, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value
        kind = self._types.get(name, "")
        if isinstance(value, list):
            if kind.startswith("seq(") or kind.startswith("optional(seq("):
                return [np.asarray(v) for v in value]
            dtype = _NUMPY.get(kind[7:-1])
            return np.asarray(value, dtype=dtype)
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
        raise RuntimeError(f"Input '{name}': cannot be fed with {type(value)}")

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: RunOptions | None = None,
    ) -> list[Any]:
        """Runs the model. output_names None or empty: all outputs. Returns a list of arrays."""
        if run_options is None:
            return self._sess.run(output_names, input_feed)
        return self._sess.run(output_names, input_feed, run_options._flag)

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[list[Any], Any, str], None],
        user_data: Any,
        run_options: RunOptions | None = None,
    ) -> None:
        """Runs in another thread, then calls callback(results, user_data, error text)."""
        if self._options.intra_op_num_threads == 1:
            raise InvalidArgument(
                "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : intra op thread pool must have at "
                "least one thread for RunAsync"
            )

        def work() -> None:
            try:
                results, error = self.run(output_names, input_feed, run_options), ""
            except Exception as e:
                results, error = [], str(e)
            callback(results, user_data, error)

        if not hasattr(self, "_async"):
            self._async = ThreadPoolExecutor(max_workers=4)
        self._async.submit(work)

    def end_profiling(self) -> str:
        """Writes the profile; the file's name."""
        return self._sess.end_profiling()

    def get_profiling_start_time_ns(self) -> int:
        """When profiling began, monotonic."""
        return int(self._sess.stats()["profiling_start_ns"])


_NUMPY = {
    "float": np.float32, "double": np.float64, "float16": np.float16, "bool": np.bool_,
    **{f"{u}int{b}": np.dtype(f"{u}int{b}").type for u in ("", "u") for b in (8, 16, 32, 64)},
}


def _rebuild(model: str | bytes, level: int, threads: int) -> InferenceSession:
    o = SessionOptions()
    o.graph_optimization_level = level  # type: ignore[assignment]
    o.intra_op_num_threads = threads
    return InferenceSession(model, o)
