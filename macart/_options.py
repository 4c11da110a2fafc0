"""SessionOptions, RunOptions and the enums, with ONNX Runtime's names and defaults."""

from __future__ import annotations

import copy
import enum
import os
from typing import TYPE_CHECKING, Any

from . import _core
from ._config import EFFECTIVE, HINT, RUN_KEYS, SESSION_KEYS, Option, check_key, unknown_key
from ._errors import make
from ._values import OrtValue

# What `from ._options import *` gives to the package and to capi.
__all__ = [
    "ExecutionMode", "ExecutionOrder", "GraphOptimizationLevel", "RunOptions", "SessionOptions",
]  # fmt: skip
MAX_CONFIG_KEY = 1024


class GraphOptimizationLevel(enum.IntEnum):
    """How much the graph is optimized."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(enum.IntEnum):
    """Accepted as a hint: nodes run one after the other."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(enum.IntEnum):
    """Accepted as a hint."""

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


def not_implemented(what: str) -> Exception:
    """The NotImplemented exception naming what is missing."""
    return make(9, "NOT_IMPLEMENTED", "NotImplemented", what)


def _entry(config: dict[str, str], key: str, value: str, method: str) -> None:
    if not isinstance(key, str) or not isinstance(value, str):
        raise TypeError(f"{method}(): both arguments are str")
    if not key or len(key) > MAX_CONFIG_KEY:
        raise RuntimeError(f"Config key is empty or longer than maximum length {MAX_CONFIG_KEY}")
    config[key] = value


class SessionOptions:
    """Options of a session. docs/options.md says which are effective, hints, or refused."""

    enable_cpu_mem_arena = Option(True, HINT, "runs reuse their memory in any case")
    enable_mem_pattern = Option(True, HINT, "memory is planned from shapes in any case")
    enable_mem_reuse = Option(True, HINT, "memory is reused in any case")
    enable_profiling = Option(False, EFFECTIVE, "write a Chrome trace of loading and running")
    profile_file_prefix = Option("onnxruntime_profile_", EFFECTIVE, "start of the trace's name")
    optimized_model_filepath = Option("", EFFECTIVE, "write the optimized model, as ONNX, there")
    logid = Option("", EFFECTIVE, "stands in each log line")
    log_severity_level = Option(-1, EFFECTIVE, "0 verbose to 4 fatal; -1: the process default")
    log_verbosity_level = Option(0, HINT, "verbose lines have one level")
    use_per_session_threads = Option(True, HINT, "there is one pool per process")
    intra_op_num_threads = Option(0, EFFECTIVE, "threads of a run; 0: one per usable CPU")
    inter_op_num_threads = Option(0, HINT, "nodes run one after the other")
    execution_mode = Option(ExecutionMode.ORT_SEQUENTIAL, HINT, "nodes run one after the other")
    execution_order = Option(ExecutionOrder.DEFAULT, HINT, "the order is the engine's")
    graph_optimization_level = Option(
        GraphOptimizationLevel.ORT_ENABLE_ALL, EFFECTIVE, "which passes run"
    )
    use_deterministic_compute = Option(
        False, EFFECTIVE, "results never depend on the number of threads"
    )

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._config: dict[str, str] = {}
        self._by_name: dict[str, int] = {}
        self._by_denotation: dict[str, int] = {}
        self._providers: list[tuple[str, dict[str, str]]] = []
        self._initializers: dict[str, OrtValue] = {}
        self._cancel = _core.make_flag()

    if not TYPE_CHECKING:  # checkers know the names themselves

        def __setattr__(self, name: str, value: Any) -> None:
            if not name.startswith("_") and not hasattr(type(self), name):
                raise AttributeError(f"'SessionOptions' object has no attribute '{name}'")
            super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_cancel"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._cancel = _core.make_flag()

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Sets a configuration entry; docs/options.md lists them."""
        _entry(self._config, key, value, "add_session_config_entry")

    def get_session_config_entry(self, key: str) -> str:
        """The entry; RuntimeError if it was never set."""
        if key not in self._config:
            raise RuntimeError(f"SessionOptions does not have configuration with key: {key}")
        return self._config[key]

    def add_free_dimension_override_by_name(self, name: str, value: int) -> None:
        """Fixes the named symbolic dim of the model's inputs."""
        self._by_name[name] = int(value)

    def add_free_dimension_override_by_denotation(self, denotation: str, value: int) -> None:
        """Fixes dims of that denotation ("DATA_BATCH") of the model's inputs."""
        self._by_denotation[denotation] = int(value)

    def add_provider(self, name: str, options: dict[str, Any] | None = None) -> None:
        """Appends an execution provider."""
        self._providers.append((name, {str(k): str(v) for k, v in (options or {}).items()}))

    def has_providers(self) -> bool:
        """Whether add_provider was called."""
        return bool(self._providers)

    def add_initializer(self, name: str, ort_value: OrtValue) -> None:
        """The value stands for the model's initializer of that name, without a copy."""
        if not isinstance(ort_value, OrtValue) and not hasattr(ort_value, "_ortvalue"):
            raise TypeError(f"expected an OrtValue, not {type(ort_value).__name__}")
        self._initializers[name] = ort_value

    def add_external_initializers(self, names: list[str], ort_values: list[OrtValue]) -> None:
        """The same for several initializers."""
        if len(names) != len(ort_values):
            raise RuntimeError("names and values must be of the same length")
        for name, value in zip(names, ort_values, strict=True):
            self.add_initializer(name, value)

    def add_external_initializers_from_files_in_memory(self, *args: Any) -> None:
        """Files of external data cannot come from memory yet."""
        raise not_implemented("add_external_initializers_from_files_in_memory")

    def set_load_cancellation_flag(self, value: bool) -> None:
        """True stops the making of sessions that use these options (ModelLoadCanceled)."""
        _core.set_flag(self._cancel, bool(value))

    def register_custom_ops_library(self, path: str) -> None:
        """Custom operator libraries are not loaded yet."""
        path = os.fspath(path)
        if not os.path.exists(path):
            why = f"{path}: cannot open shared object file: No such file or directory"
            raise make(1, "FAIL", "Fail", f"Failed to load library {path} with error: {why}")
        raise not_implemented(f"custom operator libraries: {path}")

    def add_provider_for_devices(self, ep_devices: Any, options: Any = None) -> None:
        """Devices of plugin providers do not exist here."""
        raise not_implemented("add_provider_for_devices")

    def set_provider_selection_policy(self, policy: Any) -> None:
        """Providers are chosen by the order of their names only."""
        raise not_implemented("set_provider_selection_policy")

    def set_provider_selection_policy_delegate(self, delegate: Any) -> None:
        """Providers are chosen by the order of their names only."""
        raise not_implemented("set_provider_selection_policy_delegate")

    def _check(self) -> None:
        """NotImplemented when an entry asks for what is refused; InvalidArgument for a key with our
        prefix that does not exist."""
        for key, value in self._config.items():
            wrong = unknown_key(SESSION_KEYS, key)
            if wrong:
                raise make(2, "INVALID_ARGUMENT", "InvalidArgument", wrong)
            reason = check_key(SESSION_KEYS, key, value)
            if reason:
                raise not_implemented(reason)

    def _copy(self) -> SessionOptions:
        other = copy.copy(self)
        for name, value in self.__dict__.items():
            if isinstance(value, (dict, list)):
                other.__dict__[name] = value.copy()
        other._cancel = self._cancel
        return other


class RunOptions:
    """Options of one run; ``terminate = True`` stops the runs that use it."""

    log_severity_level = Option(-1, HINT, "the session's level counts")
    log_verbosity_level = Option(0, HINT, "verbose lines have one level")
    logid = Option("", HINT, "the session's logid counts")
    only_execute_path_to_fetches = Option(False, HINT, "the whole graph runs")
    terminate = Option(
        False,
        EFFECTIVE,
        "stops runs within a step or a loop's trip",
        lambda self, on: _core.set_flag(self._flag, bool(on)),
    )

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._flag = _core.make_flag()
        self._config: dict[str, str] = {}

    if not TYPE_CHECKING:  # checkers know the names themselves

        def __setattr__(self, name: str, value: Any) -> None:
            if not name.startswith("_") and not hasattr(type(self), name):
                raise AttributeError(f"'RunOptions' object has no attribute '{name}'")
            super().__setattr__(name, value)

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Sets a configuration entry."""
        wrong = unknown_key(RUN_KEYS, key) if isinstance(key, str) else None
        if wrong:
            raise make(2, "INVALID_ARGUMENT", "InvalidArgument", wrong)
        _entry(self._config, key, value, "add_run_config_entry")
        reason = check_key(RUN_KEYS, key, value)
        if reason:
            raise not_implemented(reason)

    def get_run_config_entry(self, key: str) -> str:
        """The entry; RuntimeError if it was never set."""
        if key not in self._config:
            raise RuntimeError(f"RunOptions does not have configuration with key: {key}")
        return self._config[key]

    def add_active_adapter(self, adapter: Any) -> None:
        """LoRA adapters are not there yet."""
        raise not_implemented("LoRA adapters")
