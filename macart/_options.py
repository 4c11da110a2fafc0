"""SessionOptions, RunOptions and the enums, with ONNX Runtime's names and defaults."""

from __future__ import annotations

import enum
from typing import Any

from . import _core


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


class SessionOptions:
    """Options of a session. docs/options.md says which are effective, hints, or refused."""

    def __init__(self) -> None:
        self.enable_cpu_mem_arena = True
        self.enable_mem_pattern = True
        self.enable_mem_reuse = True
        self.enable_profiling = False
        self.profile_file_prefix = "onnxruntime_profile_"
        self.optimized_model_filepath = ""
        self.logid = ""
        self.log_severity_level = -1
        self.log_verbosity_level = 0
        self.use_per_session_threads = True
        self.intra_op_num_threads = 0
        self.inter_op_num_threads = 0
        self.execution_mode = ExecutionMode.ORT_SEQUENTIAL
        self.execution_order = ExecutionOrder.DEFAULT
        self.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_ALL
        self.use_deterministic_compute = False
        self._config: dict[str, str] = {}
        self._overrides: dict[str, int] = {}
        self._providers: list[tuple[str, dict[str, str]]] = []

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Sets a configuration entry."""
        self._config[str(key)] = str(value)

    def get_session_config_entry(self, key: str) -> str:
        """The entry; RuntimeError if it was never set."""
        if key not in self._config:
            raise RuntimeError(f"SessionOptions does not have configuration with key: {key}")
        return self._config[key]

    def add_free_dimension_override_by_name(self, name: str, value: int) -> None:
        """Fixes the named symbolic dim of the model's inputs."""
        self._overrides[str(name)] = int(value)

    def add_provider(self, name: str, options: dict[str, Any] | None = None) -> None:
        """Appends an execution provider."""
        self._providers.append((name, {str(k): str(v) for k, v in (options or {}).items()}))

    def has_providers(self) -> bool:
        """Whether add_provider was called."""
        return bool(self._providers)

    def register_custom_ops_library(self, path: str) -> None:
        """Custom operator libraries are not loaded yet."""
        from ._errors import NotImplemented as NotThere

        raise NotThere(f"[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : custom operators: {path}")


class RunOptions:
    """Options of one run; ``terminate = True`` stops the runs that use it."""

    def __init__(self) -> None:
        self.log_severity_level = 2
        self.log_verbosity_level = 0
        self.logid = ""
        self.only_execute_path_to_fetches = False
        self._flag = _core.make_flag()
        self._terminate = False
        self._config: dict[str, str] = {}

    @property
    def terminate(self) -> bool:
        """Whether runs are asked to stop."""
        return self._terminate

    @terminate.setter
    def terminate(self, value: bool) -> None:
        self._terminate = bool(value)
        _core.set_flag(self._flag, self._terminate)

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Sets a configuration entry."""
        self._config[str(key)] = str(value)

    def get_run_config_entry(self, key: str) -> str:
        """The entry; RuntimeError if it was never set."""
        if key not in self._config:
            raise RuntimeError(f"RunOptions does not have configuration with key: {key}")
        return self._config[key]
