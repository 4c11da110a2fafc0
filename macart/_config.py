"""What each option and configuration key does here: the one table, printed into docs/options.md.

``effective``: does what it says. ``hint``: accepted; the engine needs no such setting, or decides
itself. ``refused``: any value but the default raises NotImplemented when the session is made.
Keys that nobody knows are accepted, as in ONNX Runtime, but for those that start with
``session.macart.``: these are ours, and an unknown one is InvalidArgument.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar, overload

T = TypeVar("T")

EFFECTIVE, HINT, REFUSED = "effective", "hint", "refused"


class Option(Generic[T]):
    """A property of SessionOptions or RunOptions: its default, what it does, and its type check."""

    def __init__(
        self, default: T, status: str, doc: str, changed: Callable[[Any, T], None] | None = None
    ) -> None:
        self.default, self.status, self.doc, self.changed = default, status, doc, changed
        self.__doc__ = doc
        self._type = type(default)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, obj: None, owner: type) -> Option[T]: ...
    @overload
    def __get__(self, obj: object, owner: type) -> T: ...
    def __get__(self, obj: Any, owner: type) -> Option[T] | T:
        if obj is None:
            return self
        value: T = obj._values.get(self.name, self.default)
        return value

    def __set__(self, obj: Any, value: T) -> None:
        kind = self._type
        if issubclass(kind, enum.Enum):
            ok = isinstance(value, (kind, int)) and not isinstance(value, bool)
        elif kind is bool:
            ok = isinstance(value, (bool, int))
        elif kind is int:
            ok = hasattr(value, "__index__")
        else:
            ok = isinstance(value, kind)
        if not ok:
            raise TypeError(f"{self.name} takes {kind.__name__}, not {type(value).__name__}")
        obj._values[self.name] = kind(value)  # type: ignore[call-arg]
        if self.changed:
            self.changed(obj, value)


class Key(NamedTuple):
    """One configuration key."""

    name: str
    default: str
    status: str
    doc: str


SESSION_KEYS = (
    Key("session.macart.require_providers", "0", EFFECTIVE,
        "1: a provider that is not available is an error (EPFail), not a warning"),
    Key("session.macart.copy_model_files", "0", EFFECTIVE,
        "1: read model files into memory instead of mapping them (others may rewrite them)"),
    Key("session.model_external_initializers_file_folder_path", "", EFFECTIVE,
        "where the external data of a model from bytes lies"),
    Key("session.macart.decompose", "0", EFFECTIVE,
        "1: fused operators are taken apart again, to check what they stand for"),
    Key("session.macart.winograd", "1", EFFECTIVE,
        "0: 3x3 convolutions are summed directly, not by Winograd's algorithms"),
    Key("session.macart.inference_precision", "float32", REFUSED,
        "values between nodes are not stored as bfloat16 yet; "
        "session.float32_matmul_precision = medium multiplies in it"),
    Key("session.float32_matmul_precision", "", EFFECTIVE,
        "highest, high or medium: what float32 products promise; empty: "
        "macart.set_float32_matmul_precision, MRT_FLOAT32_MATMUL_PRECISION"),
    Key("session.disable_cpu_ep_fallback", "0", EFFECTIVE,
        "1: an error when no requested provider but the CPU can run a node"),
    Key("optimization.constant_folding_max_output_size_in_bytes", "67108864", EFFECTIVE,
        "largest constant that folding may make"),
    Key("session.load_model_format", "ONNX", REFUSED, "only ONNX files are read"),
    Key("session.save_model_format", "ONNX", REFUSED, "only ONNX files are written"),
    Key("session.use_ort_model_bytes_directly", "0", HINT, "bytes are always used in place"),
    Key("session.use_ort_model_bytes_for_initializers", "0", HINT, "weights are always in place"),
    Key("session.use_memory_mapped_ort_model", "0", HINT, "large files are always mapped"),
    Key("session.disable_prepacking", "0", HINT, "kernels decide what they pack"),
    Key("session.use_env_allocators", "0", HINT, "there is one allocator per process"),
    Key("session.use_device_allocator_for_initializers", "0", HINT, "weights never use an arena"),
    Key("session.save_external_prepacked_constant_initializers", "0", REFUSED,
        "packed weights are not written"),
    Key("session.optimized_model_external_initializers_file_name", "", EFFECTIVE,
        "file beside the optimized model that takes its initializers"),
    Key("session.optimized_model_external_initializers_min_size_in_bytes", "1024", EFFECTIVE,
        "smaller initializers stay in the optimized model"),
    Key("session.intra_op.allow_spinning", "1", HINT,
        "helpers spin during a run and for tens of microseconds after it"),
    Key("session.inter_op.allow_spinning", "1", HINT, "nodes run one after the other"),
    Key("session.intra_op.spin_duration_us", "", HINT, "see allow_spinning"),
    Key("session.inter_op.spin_duration_us", "", HINT, "see allow_spinning"),
    Key("session.intra_op.spin_backoff_max", "", HINT, "see allow_spinning"),
    Key("session.inter_op.spin_backoff_max", "", HINT, "see allow_spinning"),
    Key("session.force_spinning_stop", "0", HINT, "see allow_spinning"),
    Key("session.dynamic_block_base", "0", HINT, "work is cut by shape, so that bits never change"),
    Key("session.intra_op_thread_affinities", "", REFUSED, "threads are not pinned"),
    Key("session.set_denormal_as_zero", "0", REFUSED, "denormal numbers are computed exactly"),
    Key("session.disable_quant_qdq", "0", HINT, "only affects optimizations"),
    Key("session.disable_double_qdq_remover", "0", HINT, "only affects optimizations"),
    Key("session.enable_quant_qdq_cleanup", "0", HINT, "only affects optimizations"),
    Key("session.qdqisint8allowed", "", HINT, "only affects optimizations"),
    Key("session.x64quantprecision", "0", HINT, "integer products are exact"),
    Key("session.qdq_matmulnbits_accuracy_level", "4", HINT, "only affects optimizations"),
    Key("session.enable_dq_matmulnbits_fusion", "0", HINT, "only affects optimizations"),
    Key("optimization.enable_gelu_approximation", "0", HINT, "Gelu is always exact"),
    Key("optimization.enable_cast_chain_elimination", "0", HINT, "only affects optimizations"),
    Key("optimization.disable_specified_optimizers", "", HINT,
        "passes have other names here: MRT_PASSES in environment.md"),
    Key("session.graph_optimizations_loop_level", "1", HINT, "passes run until nothing changes"),
    Key("session.disable_aot_function_inlining", "0", HINT, "functions are always inlined"),
    Key("session.strict_shape_type_inference", "0", EFFECTIVE,
        "1: a declared shape that inference contradicts (outside of subgraphs) is an error; 0: the "
        "inferred one counts, get_outputs reports the declared one"),
    Key("session.allow_released_opsets_only", "1", HINT, "every known opset is read"),
    Key("session.record_ep_graph_assignment_info", "0", REFUSED, "assignments are not reported"),
    Key("session.disable_model_compile", "0", HINT, "nothing is compiled ahead"),
    Key("ep.context_enable", "0", REFUSED, "no provider writes context models"),
    Key("ep.context_file_path", "", HINT, "see ep.context_enable"),
    Key("ep.context_embed_mode", "0", HINT, "see ep.context_enable"),
)  # fmt: skip

RUN_KEYS = (
    Key(
        "memory.enable_memory_arena_shrinkage", "", HINT, "blocks shrink by themselves after a peak"
    ),
    Key("disable_synchronize_execution_providers", "0", HINT, "the CPU is always in step"),
    Key("gpu_graph_id", "0", HINT, "only for GPU providers"),
)


# Methods of SessionOptions and RunOptions that are settings too.
METHODS = (
    Key("add_session_config_entry", "", EFFECTIVE, "see the keys below"),
    Key("add_free_dimension_override_by_name", "", EFFECTIVE, "fixes a named dim of the inputs"),
    Key("add_free_dimension_override_by_denotation", "", EFFECTIVE, "fixes dims of a denotation"),
    Key("add_provider", "", EFFECTIVE, "as the session's providers argument"),
    Key("add_initializer", "", EFFECTIVE, "a value in place of an initializer, without a copy"),
    Key("add_external_initializers", "", EFFECTIVE, "the same for several"),
    Key("add_external_initializers_from_files_in_memory", "", REFUSED, "external data is read"),
    Key("set_load_cancellation_flag", "", EFFECTIVE, "stops the making of sessions"),
    Key("register_custom_ops_library", "", REFUSED, "custom operators are not there yet"),
    Key("add_provider_for_devices", "", REFUSED, "plugin providers are not there"),
    Key("set_provider_selection_policy", "", REFUSED, "providers are chosen by name"),
    Key("set_provider_selection_policy_delegate", "", REFUSED, "providers are chosen by name"),
    Key("add_run_config_entry", "", EFFECTIVE, "see the keys below (RunOptions)"),
    Key("add_active_adapter", "", REFUSED, "LoRA adapters are not there yet (RunOptions)"),
)


OUR_PREFIX = "session.macart."


def check_key(keys: tuple[Key, ...], name: str, value: str) -> str | None:
    """Why this entry is refused, or None."""
    for key in keys:
        if key.name == name and key.status == REFUSED and value not in (key.default, ""):
            return f"the configuration {name} = {value}: {key.doc}"
    return None


def unknown_key(keys: tuple[Key, ...], name: str) -> str | None:
    """What is wrong with a key of our own that does not exist, or None."""
    ours = [key.name for key in keys if key.name.startswith(OUR_PREFIX)]
    if not name.startswith(OUR_PREFIX) or name in ours:
        return None
    return f"there is no configuration {name}; there are {', '.join(ours) or 'none of ours here'}"
