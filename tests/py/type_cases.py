"""One-node models for every type that a default-domain schema allows, run and compared.

A case is (operator, type parameter, kind of value). The other type parameters stay at their base.
MacaRT's outputs are compared with the first of these that can compute the case:

    onnxruntime            the same model
    onnxruntime, older form    in an opset whose form of the operator says the same
    onnxruntime, widened   the parameter's type made wider (bfloat16 to float, int8 to int64), and
                           the results rounded to the case's type
    onnxruntime, by position   int64 numbers in the place of elements that are only moved
    onnx.reference, widened; onnx.reference    numpy code of the standard's own package
    onnxruntime, as float    a double case in float, compared with the precision of float

The outcome is `pass REFERENCE`, `gap` (NotImplemented), `unchecked` (nothing else can compute it),
`error:CODE` or `mismatch:KIND`. As a tool: python tests/py/type_cases.py [OPERATOR ...]
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import engine as engines
import type_values as tv
from compare import widen
from type_table import RECIPES, Recipe

Option = onnx.defs.OpSchema.FormalParameterOption


@dataclass(frozen=True)
class Case:
    """A type that a parameter of an operator's newest schema allows."""

    key: str  # the operator, or operator/variant
    param: str  # "-" for an operator without type parameters
    kind: str

    @property
    def op(self) -> str:
        """The operator."""
        return self.key.split("/")[0]

    @property
    def name(self) -> str:
        """`Add T int8`; kinds other than plain tensors in full."""
        plain = self.kind.startswith("tensor(")
        return f"{self.key} {self.param} {self.kind[7:-1] if plain else self.kind}"


@functools.cache
def schemas() -> dict[str, onnx.defs.OpSchema]:
    """The newest schema of every default-domain operator that is not deprecated, by name."""
    newest: dict[str, onnx.defs.OpSchema] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        old = newest.get(schema.name)
        if schema.domain == "" and (old is None or schema.since_version > old.since_version):
            newest[schema.name] = schema
    return {name: s for name, s in sorted(newest.items()) if not s.deprecated}


def find_cases(operators: list[str] | None = None) -> list[Case]:
    """All cases, or those of some operators."""
    cases, known = [], schemas()
    for key, recipe in sorted(RECIPES.items()):
        name = key.split("/")[0]
        if operators and name not in operators:
            continue
        for constraint in known[name].type_constraints:
            if recipe.only and constraint.type_param_str not in recipe.only:
                continue
            for kind in sorted(constraint.allowed_type_strs):
                cases.append(Case(key, constraint.type_param_str, kind))
        if not known[name].type_constraints:
            cases.append(Case(key, "-", "-"))
    return cases


# ---------------------------------------------------------------- types of the parameters


def bindings(schema: onnx.defs.OpSchema, recipe: Recipe, case: Case) -> dict[str, str]:
    """Kind of every type parameter in a case."""
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    kinds = {}
    for param, choices in allowed.items():
        wanted = [f"tensor({recipe.base[param]})"] if param in recipe.base else []
        wanted += ["tensor(float)", "seq(tensor(float))", "optional(tensor(float))"]
        wanted += ["tensor(int64)", *sorted(choices)]
        kinds[param] = next(w for w in wanted if w in choices)
    if case.param == "-":
        return kinds
    kinds[case.param] = case.kind
    for param, choices in allowed.items():
        partners = {recipe.link.get(param, ""), *(k for k, v in recipe.link.items() if v == param)}
        if param != case.param and (case.param in partners or {param, case.param} in TIED):
            kinds[param] = _follow(case.kind, kinds[param], choices)
    if schema.name == "BitCast":
        other = "T2" if case.param == "T1" else "T1"
        kinds[other] = f"tensor({_same_bits(tv.element(case.kind))})"
    return kinds


TIED = ({"S", "T"}, {"O", "V"})


def _follow(kind: str, old: str, choices: set[str]) -> str:
    """A tied parameter's kind: the same, wrapped or unwrapped, or of the same element type."""
    tries = [kind, f"seq({kind})", f"optional({kind})", kind.split("(", 1)[1][:-1]]
    tries.append(tv.with_element(old, tv.element(kind)))
    return next((t for t in tries if t in choices), old)


def _same_bits(name: str) -> str:
    """Another type of the same size, for BitCast."""
    groups = ["int8 uint8 bool float8e4m3fn", "int16 uint16", "float uint32", "double uint64",
              "complex64 int64", "int4 uint4", "int2 uint2"]  # fmt: skip
    for group in groups:
        if name in group.split():
            return next(t for t in group.split() if t != name)
    size = tv.dtype(name).itemsize
    if name == "float4e2m1":
        return "uint4"
    return {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64", 16: name}[size]


# ---------------------------------------------------------------- models


@dataclass
class Built:
    """A model with its feeds, by name; an input that is left out has none."""

    graph: onnx.GraphProto
    feeds: dict[str, Any]
    version: int

    def model(self, constant: bool = False, version: int = 0) -> bytes:
        """The serialized model; `constant`: tensors of numbers are initializers, not inputs."""
        graph = onnx.GraphProto()
        graph.CopyFrom(self.graph)
        if constant:
            fixed = {n: v for n, v in self.feeds.items() if _is_numeric(v)}
            graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in fixed.items())
            kept = [i for i in graph.input if i.name not in fixed]
            del graph.input[:]
            graph.input.extend(kept)
        opset = [helper.make_opsetid("", version or self.version)]
        return helper.make_model(graph, opset_imports=opset, ir_version=13).SerializeToString()


def _is_numeric(value: Any) -> bool:
    return not isinstance(value, list) and value.dtype.kind != "O"


def build(
    case: Case, schema: onnx.defs.OpSchema, kinds: dict[str, str], source: dict[str, str]
) -> Built:
    """The model of a case whose type parameters are `kinds`; values are made as of `source`."""
    recipe = RECIPES[case.key]
    names, inputs, feeds = [], [], {}
    for k, text in enumerate(recipe.inputs):
        if text == "_":
            names.append("")
            continue
        parameter = schema.inputs[min(k, len(schema.inputs) - 1)]
        kind, origin = (
            table.get(parameter.type_str, parameter.type_str) for table in (kinds, source)
        )
        names.append(f"x{k}")
        inputs.append(helper.make_value_info(names[-1], tv.type_proto(kind)))
        feeds[names[-1]] = _convert(_value(text, origin, k), kind)
    count = recipe.outputs or len(schema.outputs)
    outs = [f"y{k}" for k in range(count)]
    results = []
    for k, name in enumerate(outs):
        parameter = schema.outputs[min(k, len(schema.outputs) - 1)]
        kind = kinds.get(parameter.type_str, parameter.type_str)
        results.append(helper.make_value_info(name, tv.type_proto(kind)))
    node = helper.make_node(case.op, names, outs)
    if case.op == "If":  # the branches look at a value outside
        inputs.append(helper.make_value_info("v", tv.type_proto(kinds["V"])))
        feeds["v"] = _convert(_value("2x3", source["V"], 0), kinds["V"])
    for key, value in recipe.attributes.items():
        node.attribute.append(_attribute(key, value, kinds, source))
    graph = helper.make_graph([node], "g", inputs, results)
    return Built(graph, feeds, max(schema.since_version, 21))


def _attribute(
    key: str, value: Any, kinds: dict[str, str], source: dict[str, str]
) -> onnx.AttributeProto:
    if isinstance(value, str) and value.startswith("@"):
        value = tv.number(tv.element(kinds[value[1:]]))
    elif key == "fmod":
        value = int(not tv.is_integer(tv.element(kinds["T"])))
    elif value in ("tensor", "one"):
        param = "T" if value == "tensor" else "T2"
        text = "2x3" if value == "tensor" else "1:w"
        array = _convert(_value(text, source[param], 0), kinds[param])
        value = numpy_helper.from_array(array)
    elif key in ("then_branch", "else_branch"):
        out = helper.make_value_info("b", tv.type_proto(kinds["V"]))
        value = helper.make_graph([helper.make_node("Identity", ["v"], ["b"])], key, [], [out])
    elif key == "body":
        value = _body(value, kinds)
    elif key == "pool":
        strings = kinds["T"] == "tensor(string)"
        key = "pool_strings" if strings else "pool_int64s"
        value = ["a", "Bc", "Bc", "zü"] if strings else value
    return helper.make_attribute(key, value)


def _body(name: str, kinds: dict[str, str]) -> onnx.GraphProto:
    """Bodies that hand their arguments on: of a Scan, of a Loop, of a SequenceMap."""
    if name == "loop":
        types = {"i": "tensor(int64)", "c": "tensor(bool)", "v": kinds["V"]}
        passed = ["c", "v"]
    elif name == "identity2":
        types = {"v": kinds["S"][4:-1], "w": kinds["V"].removeprefix("seq(").replace("))", ")")}
        passed = ["v"]
    else:
        types, passed = {"v": kinds["V"]}, ["v"]
    ins = [helper.make_value_info(n, tv.type_proto(t)) for n, t in types.items()]
    outs = [helper.make_value_info(n + "_out", tv.type_proto(types[n])) for n in passed]
    nodes = [helper.make_node("Identity", [n], [n + "_out"]) for n in passed]
    return helper.make_graph(nodes, "body", ins, outs)


SPECIAL = {
    "rois": [[0, 0, 0, 3, 3], [0, 1, 1, 5, 4]],
    "boxes": [[0, 0, 3, 3]],
    "unpool": [[[[0, 3], [8, 10]]]],
    "nms": [[[0, 0, 1, 1], [0, 0, 1, 1.5], [2, 2, 3, 3]]],
}


def _value(text: str, kind: str, salt: int) -> Any:
    name = tv.element(kind)
    if text in SPECIAL:
        return np.array(SPECIAL[text], np.float64).astype(tv.dtype(name))
    if text == "zp":  # a zero point: only integers may have one, and int32 may not
        text = "=1" if tv.is_integer(name) and name != "int32" else "=0"
    return tv.value(text, kind, salt)


def _convert(value: Any, kind: str) -> Any:
    """The same numbers in the element type of `kind`."""
    want = tv.dtype(tv.element(kind))
    if isinstance(value, list):
        return [item if item.dtype == want else item.astype(want) for item in value]
    return value if value.dtype == want else value.astype(want)


# ---------------------------------------------------------------- engines


def run_ours(built: Built, optimize: bool) -> list[Any]:
    """MacaRT's outputs."""
    engine = engines.load_engine("macart")
    session = engines.make_session(engine, built.model(), optimize)
    return session.run(None, built.feeds)


def run_onnxruntime(built: Built, version: int = 0) -> list[Any]:
    """onnxruntime's outputs; tensors are read from memory: it makes no array of some types."""
    engine = engines.load_engine("onnxruntime")
    session = engines.make_session(engine, built.model(constant=True, version=version), False)
    feeds = {n: v for n, v in built.feeds.items() if not _is_numeric(v)}
    if feeds and any("float8" in o.type for o in session.get_outputs()):
        raise NotImplementedError("an array of this type")
    if feeds:
        return session.run(None, feeds)
    return [_read(value) for value in session.run_with_ort_values(None, {})]


def _read(value: Any) -> Any:
    """An OrtValue of onnxruntime as an array of any type, or as a list."""
    if not value.is_tensor() or "string" in value.data_type() or not value.has_value():
        return value.numpy() if value.is_tensor() else value._ortvalue.to_python_list()
    kind = tv.dtype(tv.element(value.data_type()))
    name, shape = tv.element(value.data_type()), value.shape()
    size = int(np.prod(shape))
    if name.endswith(("int4", "int2")) or name == "float4e2m1":
        packed = onnx.TensorProto(dims=shape, data_type=tv.number(name))
        bits = 2 if name.endswith("2") and "int" in name else 4
        packed.raw_data = ctypes.string_at(value.data_ptr(), (size * bits + 7) // 8)
        return numpy_helper.to_array(packed)
    data = ctypes.string_at(value.data_ptr(), size * kind.itemsize) if size else b""
    return np.frombuffer(data, kind).reshape(shape).copy()


def run_standard(built: Built) -> list[Any]:
    """Outputs of the ONNX package's evaluator."""
    from onnx.reference import ReferenceEvaluator

    with np.errstate(all="ignore"):
        return ReferenceEvaluator(onnx.load_from_string(built.model())).run(None, built.feeds)


WIDER = {
    "float16": ["double", "float"], "bfloat16": ["double", "float"], "float": ["double"],
    "double": [], "bool": [], "float4e2m1": ["float8e4m3fn", "float"],
}  # fmt: skip


def wider(name: str) -> list[str]:
    """Types that hold every number of a type, the best first."""
    if name in WIDER:
        return WIDER[name]
    if name.startswith("float"):
        return ["double", "float"]
    if tv.is_integer(name):
        signed = ["int64", "int32", "double", "float"]
        return [w for w in (["uint64", *signed] if name[0] == "u" else signed) if w != name]
    return []


def with_type(
    case: Case, schema: onnx.defs.OpSchema, kinds: dict[str, str], name: str, own: bool = False
) -> Built | None:
    """The case with another element type, if the schema has it; with the same numbers, or with
    the type's own."""
    changed = dict(kinds)
    for c in schema.type_constraints:
        param, kind = c.type_param_str, kinds[c.type_param_str]
        new = tv.with_element(kind, name)
        if tv.element(kind) == tv.element(case.kind) and new in c.allowed_type_strs:
            changed[param] = new
    same = changed.get(case.param) == kinds.get(case.param)
    return None if same else build(case, schema, changed, changed if own else kinds)


def by_position(
    case: Case, schema: onnx.defs.OpSchema, kinds: dict[str, str], numbers: str
) -> list[Any]:
    """Elements are numbered, onnxruntime moves the numbers, and these stand for elements again."""
    param = RECIPES[case.key].moves
    name = tv.element(kinds[param])
    kind = tv.dtype(numbers)
    zero = np.zeros(1, tv.dtype(name)) if name != "string" else np.array([""], object)
    table, numbered = [zero], with_type(case, schema, kinds, numbers, own=True)
    real = build(case, schema, kinds, kinds)
    if numbered is None:
        raise NotImplementedError(f"no {numbers}")
    for key, value in real.feeds.items():
        items = value if isinstance(value, list) else [value]
        if items[0].dtype != tv.dtype(name):
            continue
        made = []
        for item in items:
            first = sum(t.size for t in table)
            table.append(item.ravel())
            made.append(np.arange(first, first + item.size, dtype=kind).reshape(item.shape))
        numbered.feeds[key] = made if isinstance(value, list) else made[0]
    every = np.concatenate(table)  # at a position: the element with that number

    def back(value: Any) -> Any:
        if isinstance(value, list):
            return [back(item) for item in value]
        return every[value.astype(int)] if getattr(value, "dtype", None) == kind else value

    return [back(value) for value in run_onnxruntime(numbered)]


def references(
    case: Case, schema: onnx.defs.OpSchema, kinds: dict[str, str]
) -> Iterator[tuple[str, Any]]:
    """(name, thunk) of every way to get expected outputs, the best first."""
    recipe, built, wide = RECIPES[case.key], build(case, schema, kinds, kinds), []
    moved = case.param == recipe.moves or {case.param, recipe.moves} in TIED
    positions = [(lambda n=n: by_position(case, schema, kinds, n)) for n in ("int64", "float")]
    if moved and case.kind == "tensor(string)":  # onnxruntime's Gather loses some
        yield "onnxruntime, by position", positions[0]
    yield "onnxruntime", lambda: run_onnxruntime(built)
    if recipe.old_form:
        yield "onnxruntime, older form", lambda: run_onnxruntime(built, recipe.old_form)
    if case.param != "-" and case.param not in recipe.exact:
        names = wider(tv.element(case.kind))
        if case.op.startswith("Cast"):  # of numerals
            names = names or ["float"]
        tries = [with_type(case, schema, kinds, name) for name in names]
        wide = [other for other in tries if other]
    for version in (0, recipe.old_form) if recipe.old_form else (0,):
        for other in wide:
            yield (
                "onnxruntime, widened",
                lambda other=other, version=version: run_onnxruntime(other, version),
            )
    for thunk in positions if moved else []:
        yield "onnxruntime, by position", thunk
    for other in wide:
        yield "onnx.reference, widened", lambda other=other: run_standard(other)
    yield "onnx.reference", lambda: run_standard(built)
    if case.kind == "tensor(double)":
        narrow = with_type(case, schema, kinds, "float")
        for version in (0, recipe.old_form):
            if narrow and recipe.exact != (case.param,):
                yield ("onnxruntime, as float",
                       lambda version=version: run_onnxruntime(narrow, version))  # fmt: skip


# ---------------------------------------------------------------- comparison

EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float": 2.0**-22, "double": 2.0**-48}


def compare(got: Any, want: Any, kind: str, loose: float, in_float: bool = False) -> str:
    """ "" or what differs; `kind` is what the schema says that the output is."""
    if isinstance(got, list) or isinstance(want, list):
        if not (isinstance(got, list) and isinstance(want, list) and len(got) == len(want)):
            return "type: a list on one side, or another length"
        problems = [compare(a, b, kind, loose, in_float) for a, b in zip(got, want, strict=True)]
        return next((p for p in problems if p), "")
    if got is None or want is None:
        return "" if got is want else "type: nothing on one side"
    got, want = np.asarray(got), np.asarray(want)
    name = tv.element(kind)
    if got.dtype != tv.dtype(name):
        return f"dtype: got {got.dtype}, want {name}"
    if got.shape != want.shape:
        return f"shape: got {got.shape}, want {want.shape}"
    if name in ("string", "bool"):
        same = bool((got == want).all())
        return "" if same else f"value: got {got.ravel()[:6]}, want {want.ravel()[:6]}"
    a, b = widen(got), widen(want)
    bound = EPSILON.get("float" if in_float and name == "double" else name, 0.0) * loose
    finite = b[np.isfinite(b)]
    scale = float(np.abs(finite).max()) if finite.size else 0.0
    with np.errstate(all="ignore"):
        if name not in EPSILON and not name.startswith("complex"):
            b = widen(want.astype(tv.dtype(name)))
        close = np.isclose(a, b, rtol=bound, atol=bound * scale, equal_nan=True)
    if close.all():
        return ""
    where = tuple(np.argwhere(~close)[0]) if close.shape else ()
    wrong = f"{int((~close).sum())} of {close.size}"
    return f"value: {wrong}, first {where}: got {a[where]}, want {b[where]}"


def fits(outputs: list[Any], names: list[str]) -> bool:
    """Whether widened results are numbers that the case's integer types could have."""
    for value, name in zip(outputs, names, strict=True):
        for item in value if isinstance(value, list) else [value]:
            array = np.asarray(item)
            if tv.is_integer(name) and array.dtype.kind == "f" and (array != np.rint(array)).any():
                return False
    return True


def run_case(case: Case) -> tuple[str, str]:
    """(outcome, message)."""
    schema, recipe = schemas()[case.op], RECIPES[case.key]
    kinds = bindings(schema, recipe, case)
    built = build(case, schema, kinds, kinds)
    outs = [o.type_str for o in schema.outputs]
    count = recipe.outputs or len(outs)
    out_kinds = [kinds.get(t, t) for t in (outs + outs[-1:] * count)[:count]]
    try:
        ours = run_ours(built, optimize=False)
        optimized = run_ours(built, optimize=True)
    except Exception as error:
        code = engines.error_code(error)
        message = " ".join(str(error).split())
        return ("gap" if code == "NOT_IMPLEMENTED" else f"error:{code}"), message
    if recipe.check:
        problem = compare(ours[0], ours[0], out_kinds[0], 1) or recipe.check(ours)
        return ("mismatch:value", problem) if problem else ("pass range", "")
    reasons = []
    for name, compute in references(case, schema, kinds):
        try:
            want = compute()
        except Exception as error:
            reasons.append(f"{name}: {' '.join(str(error).split())[-150:]}")
            continue
        if not recipe.cut and not fits(want, [tv.element(k) for k in out_kinds]):
            reasons.append(f"{name}: not whole")
            continue
        in_float = recipe.in_float or name == "onnxruntime, as float"
        for results in (ours, optimized):
            for have, expected, kind in zip(results, want, out_kinds, strict=True):
                problem = compare(have, expected, kind, recipe.loose, in_float)
                if problem:
                    return f"mismatch:{problem.split(':')[0]}", f"{name}: {problem}"
        return f"pass {name}", ""
    return "unchecked", "; ".join(reasons)


def main() -> int:
    """A line `case: outcome | message` for every case of the operators named (all: no name)."""
    for case in find_cases(sys.argv[1:]):
        print(case.name, end=": ", flush=True)  # a crash is known by the line that it cuts off
        outcome, message = run_case(case)
        text = "" if outcome.startswith("pass") else " ".join(message.split())[:600]
        print(f"{outcome} | {text}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
