"""InferenceSession and what it describes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import _core, _providers
from ._binding import IOBinding
from ._errors import EPFail, InvalidArgument, NoSuchFile, make, missing_name
from ._options import RunOptions, SessionOptions, not_implemented
from ._values import OrtValue, OrtValueVector

CPU = "CPUExecutionProvider"

# Methods of ONNX Runtime's sessions that are not there.
_MISSING = {
    "create_ortvalue_from_shape_and_type", "get_input_epdevices", "get_input_memory_infos",
    "get_output_memory_infos", "get_provider_graph_assignment_info", "release_captured_graph",
    "set_tuning_results",
}  # fmt: skip


class NodeArg:
    """Name, type ("tensor(float)") and shape (int, str for a symbolic dim, None) of a value."""

    __slots__ = ("_name", "_shape", "_type")

    def __init__(self, name: str, type: str, shape: list[int | str | None]) -> None:  # noqa: A002
        self._name, self._type, self._shape = name, type, shape

    @property
    def name(self) -> str:
        """As in the model."""
        return self._name

    @property
    def type(self) -> str:
        """ "tensor(float)", "seq(tensor(int64))", ..."""
        return self._type

    @property
    def shape(self) -> list[int | str | None]:
        """An int, a symbolic dim's name, or None for each dim; [] if there is no shape."""
        return list(self._shape)

    def __repr__(self) -> str:
        return f"NodeArg(name={self.name!r}, type={self.type!r}, shape={self.shape})"

    __str__ = __repr__


class ModelMetadata:
    """What the model says of itself."""

    def __init__(self, d: Mapping[str, Any]) -> None:
        self.producer_name: str = d["producer_name"]
        self.graph_name: str = d["graph_name"]
        self.domain: str = d["domain"]
        self.description: str = d["description"]
        self.graph_description: str = d["graph_description"]
        self.version: int = d["version"]
        self.custom_metadata_map: dict[str, str] = dict(d["metadata"])


class InferenceSession:
    """A model, ready to run. Thread safe: any number of threads may call ``run`` at once.

    path_or_bytes: a path; the model as bytes or another buffer; or a file object. Bytes and
    read-only buffers are used in place. providers: names, best first, or (name, options) tuples.
    Raises ONNX Runtime's exceptions (see ``macart._errors``).
    """

    def __init__(
        self,
        path_or_bytes: Any,
        sess_options: SessionOptions | None = None,
        providers: Sequence[Any] | None = None,
        provider_options: Sequence[dict] | None = None,
        **kwargs: Any,
    ) -> None:
        self._model = _source(path_or_bytes)
        options = sess_options if sess_options is not None else SessionOptions()
        if not isinstance(options, SessionOptions):
            raise TypeError(f"sess_options is a SessionOptions, not {type(options).__name__}")
        self._options = options._copy()
        self._enable_fallback = bool(kwargs.get("enable_fallback", 1))
        self._sess: _core.Session
        if options._providers and providers:
            warnings.warn(
                "Specified 'providers'/'provider_options' when creating InferenceSession but "
                "SessionOptions has already been configured with providers. "
                "InferenceSession will only use the providers passed to InferenceSession().",
                stacklevel=2,
            )
        if options._providers and not providers:
            providers = list(options._providers)
        try:
            self._create(providers, provider_options)
        except (ValueError, RuntimeError) as e:
            if not self._enable_fallback or _required(self._options._config):
                raise
            print("*************** EP Error ***************")
            print(f"EP Error {e} when using {providers}")
            print(f"Falling back to {[CPU]} and retrying.")
            print("****************************************")
            self._create([CPU], None)
            self.disable_fallback()

    def _create(self, providers: Sequence[Any] | None, options: Sequence[dict] | None) -> None:
        """Makes the native session."""
        o = self._options
        o._check()
        names, opts = _providers.normalize(providers, options)
        usable = [n for n in names if _core.has_provider(n)]
        unknown = [n for n in names if n not in usable and n not in _providers.KNOWN]
        if unknown and not _required(o._config):
            raise RuntimeError(f"Unknown Provider Type: {unknown[0]}")
        _require(names, usable, o._config)
        path = os.fsencode(self._model) if isinstance(self._model, str) else b""
        self._sess = _core.Session(
            path=path,
            data=None if path else self._model,
            level=int(o.graph_optimization_level),
            threads=max(o.intra_op_num_threads, 0),
            log_level=o.log_severity_level,
            logid=o.logid,
            providers=usable,
            config=[x for pair in o._config.items() for x in pair],
            by_name=list(o._by_name.items()),
            by_denotation=list(o._by_denotation.items()),
            profile=o.profile_file_prefix if o.enable_profiling else None,
            optimized=o.optimized_model_filepath or None,
            cancel=o._cancel,
            initializers=[(n, v._ortvalue) for n, v in o._initializers.items()],
        )
        d = self._describe = self._sess.describe()
        self._inputs = [NodeArg(*t) for t in d["inputs"]]
        self._outputs = [NodeArg(*t) for t in d["outputs"]]
        self._overridable = [NodeArg(*t) for t in d["overridable"]]
        self._provider_options = dict(zip(names, opts, strict=True))
        self._requested = (providers, options)

    def __reduce__(self) -> tuple:
        return _rebuild, (type(self), self._pickled_model(), self._options, *self._requested)

    def _pickled_model(self) -> str | bytes:
        return self._model if isinstance(self._model, str) else bytes(self._model)

    if not TYPE_CHECKING:  # checkers know the names themselves

        def __getattr__(self, name: str) -> Any:
            if name in _MISSING:
                raise missing_name(f"InferenceSession.{name}")
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def get_session_options(self) -> SessionOptions:
        """The options that the session was made with (a copy)."""
        return self._options._copy()

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

    def get_providers(self) -> list[str]:
        """Providers in use; the CPU is always last."""
        return list(self._describe["providers"])

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """Options of each provider in use."""
        return {n: dict(self._provider_options.get(n, {})) for n in self.get_providers()}

    def set_providers(
        self, providers: Sequence[Any] | None = None, provider_options: Sequence[dict] | None = None
    ) -> None:
        """Makes the session anew with these providers; on failure the old one stays."""
        self._create(providers, provider_options)

    def disable_fallback(self) -> None:
        """A provider that fails is an error."""
        self._enable_fallback = False

    def enable_fallback(self) -> None:
        """A provider that fails while the session is made is replaced by the CPU."""
        self._enable_fallback = True

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: RunOptions | None = None,
    ) -> list[Any]:
        """Runs the model. output_names None or empty: all outputs.

        Feeds are numpy arrays (read in place), OrtValues, DLPack producers, lists of numbers or
        strings, lists of arrays for sequences, dicts for maps. Returns arrays that own their
        memory, lists and dicts.
        """
        if run_options is None:
            return self._sess.run(output_names, input_feed)
        return self._sess.run(output_names, input_feed, _flag(run_options))

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:
        """As run, from and to OrtValues."""
        for name, value in input_dict_ort_values.items():
            if not hasattr(value, "_get_c_value"):
                raise TypeError(f"input '{name}' takes an OrtValue, not {type(value).__name__}")
        feeds = {n: v._get_c_value() for n, v in input_dict_ort_values.items()}
        results = self._sess.run_values(output_names, feeds, _flag(run_options))
        return [OrtValue(v) for v in results]

    def run_with_ortvaluevector(
        self,
        run_options: RunOptions | None,
        feed_names: Sequence[str],
        feeds: OrtValueVector,
        fetch_names: Sequence[str],
        fetches: OrtValueVector,
        fetch_devices: Sequence[Any],
    ) -> None:
        """As run_with_ort_values; appends the results to `fetches`."""
        named = dict(zip(feed_names, feeds, strict=True))
        for value in self._sess.run_values(fetch_names, named, _flag(run_options)):
            fetches.push_back(value)

    def run_with_iobinding(
        self, iobinding: IOBinding, run_options: RunOptions | None = None
    ) -> None:
        """Runs with what is bound; results are in the binding. Failures are RuntimeErrors."""
        if not isinstance(iobinding, IOBinding):
            raise TypeError(f"iobinding is an IOBinding, not {type(iobinding).__name__}")
        if iobinding._session is not self._sess:
            raise ValueError("IOBinding must be used with the session that created it.")
        flag = _flag(run_options)
        try:
            iobinding._iobinding.run(flag)
        except MemoryError:
            raise
        except Exception as e:
            text = str(e).split(" : ", 3)[-1]
            raise RuntimeError(f"Error in execution: {text}") from e

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[list[Any], Any, str], None],
        user_data: Any,
        run_options: RunOptions | None = None,
    ) -> None:
        """Runs in another thread, then calls callback(results, user_data, error text) there."""
        from ._async import submit

        if self._options.intra_op_num_threads == 1:
            raise make(
                2,
                "INVALID_ARGUMENT",
                InvalidArgument.__name__,
                "intra op thread pool must have at least one thread for RunAsync",
            )
        if not callable(callback):
            raise TypeError(f"callback is a function, not {type(callback).__name__}")
        _flag(run_options)
        feeds = dict(input_feed)
        needed = [i.name for i in self._inputs if not i.type.startswith("optional(")]
        lacking = [name for name in needed if name not in feeds]
        if lacking:
            raise ValueError(
                f"Required inputs ({lacking}) are missing from input feed ({list(feeds)})."
            )

        def work() -> None:
            try:
                results, error = self.run(output_names, feeds, run_options), ""
            except Exception as e:
                results, error = [], str(e)
            feeds.clear()
            callback(results, user_data, error)

        submit(work)

    def io_binding(self) -> IOBinding:
        """A new binding to this session."""
        return IOBinding(self)

    def end_profiling(self) -> str:
        """Writes the profile; the file's name."""
        return self._sess.end_profiling()

    def get_profiling_start_time_ns(self) -> int:
        """When profiling began, monotonic."""
        return self._sess.stats()["profiling_start_ns"]

    def set_ep_dynamic_options(self, options: dict[str, str]) -> None:
        """No provider has options that change while it works."""
        if not options:
            raise RuntimeError("No options were provided")
        raise not_implemented(f"dynamic options: {', '.join(options)}")

    def get_tuning_results(self) -> list[Any]:
        """No provider tunes."""
        return []


def _source(model: Any) -> str | bytes | memoryview:
    """A path as str, or the model's bytes, in place if nobody can change them."""
    if isinstance(model, (str, os.PathLike)):
        path = os.fsdecode(model)
        if not path:
            raise make(
                3,
                "NO_SUCHFILE",
                NoSuchFile.__name__,
                "Load model from  failed:Load model  failed. File doesn't exist",
            )
        return path
    if isinstance(model, bytes):
        return model
    if isinstance(model, (bytearray, memoryview)):
        view = memoryview(model)
        return view if view.readonly and view.c_contiguous else view.tobytes()
    if callable(getattr(model, "read", None)):
        data = model.read()
        if isinstance(data, bytes):
            return data
        raise TypeError(f"the file gives {type(data).__name__}, not bytes: open it with 'rb'")
    raise TypeError(f"Unable to load from type '{type(model)}'")


def _flag(run_options: RunOptions | None) -> Any:
    """What stops a run, for the C side."""
    if run_options is None:
        return None
    if not isinstance(run_options, RunOptions):
        raise TypeError(f"run_options is a RunOptions, not {type(run_options).__name__}")
    return run_options._flag


def _required(config: Mapping[str, str]) -> bool:
    """Whether every provider that is asked for has to be there."""
    return config.get("session.macart.require_providers") == "1"


def _require(names: list[str], usable: list[str], config: Mapping[str, str]) -> None:
    """Errors for providers that are not there, where the options ask for errors."""
    absent = [n for n in names if n not in usable]
    if absent and _required(config):
        raise make(11, "EP_FAIL", EPFail.__name__, _providers.why_not(absent[0]))
    if config.get("session.disable_cpu_ep_fallback") == "1":
        if CPU in names:
            raise make(
                1,
                "FAIL",
                "Fail",
                "Conflicting session configuration: explicitly added the CPU EP to the session, "
                "but also disabled fallback to the CPU EP via session configuration options.",
            )
        if names and len(absent) == len(names):
            raise make(
                1,
                "FAIL",
                "Fail",
                "This session contains graph nodes that are assigned to the default CPU EP, but "
                "fallback to CPU EP has been explicitly disabled by the user. "
                + _providers.why_not(absent[0]),
            )


def _rebuild(
    cls: type[InferenceSession],
    model: str | bytes,
    options: SessionOptions,
    providers: Any,
    provider_options: Any,
) -> InferenceSession:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said when the first one was made
        return cls(model, options, providers, provider_options)
