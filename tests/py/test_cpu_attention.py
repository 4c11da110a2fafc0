"""Attention as exporters write it becomes one step (attend, attention_fuse, attention_node,
attention_cache)."""

from __future__ import annotations

import macart as ort
import numpy as np
import pytest
from graphs import Graph, check, kernels, run

pytestmark = pytest.mark.quick


def random(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def heads_first(graph: Graph, x: str, heads: int, width: int, perm: list[int]) -> str:
    """[batch, length, heads * width] cut into heads."""
    shape = graph.const(np.array([0, 0, heads, width]))
    return graph.add("Transpose", graph.add("Reshape", x, shape), perm=perm)


def attention(graph: Graph, style: str, masked: bool, batch: int, sq: int, sk: int) -> str:
    """One attention over 4 heads of 16, in the style of one exporter."""
    heads, width = 4, 16
    declared = (
        (lambda name: ["batch", name, heads * width]) if "dynamic" in style else (lambda _: None)
    )
    q = graph.input("q", random(batch, sq, heads * width), declared("sq"))
    k = graph.input("k", random(batch, sk, heads * width, seed=1), declared("sk"))
    v = graph.input("v", random(batch, sk, heads * width, seed=2), declared("sk"))
    q = heads_first(graph, q, heads, width, [0, 2, 1, 3])
    v = heads_first(graph, v, heads, width, [0, 2, 1, 3])
    if "two_steps" in style:
        k = heads_first(graph, k, heads, width, [0, 2, 1, 3])
        k = graph.add("Transpose", k, perm=[0, 1, 3, 2])
    else:
        k = heads_first(graph, k, heads, width, [0, 2, 3, 1])
    if "early" in style:
        root = graph.const(np.array([0.5], np.float32))
        q, k = graph.add("Mul", q, root), graph.add("Mul", root, k)
    scores = graph.add("MatMul", q, k)
    if "div" in style:
        scores = graph.add("Div", scores, graph.const(np.float32(4)))
    elif "early" not in style:
        scores = graph.add("Mul", scores, graph.const(np.float32(0.25)))
    if masked:
        mask = np.where(random(batch, 1, sq, sk, seed=3) > 1, np.float32(-3e38), np.float32(0))
        name = graph.input("mask", mask, ["batch", 1, "sq", "sk"] if "dynamic" in style else None)
        scores = graph.add("Add", *((name, scores) if "div" in style else (scores, name)))
    out = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), v)
    out = graph.add("Transpose", out, perm=[0, 2, 1, 3])
    return graph.add("Reshape", out, graph.const(np.array([0, 0, heads * width])))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("style", ["bert", "div two_steps", "early", "dynamic", "dynamic div"])
def test_exported_styles(style: str, masked: bool) -> None:
    """Equal results, and one step in place of seven and more."""
    for batch, sq, sk in [(1, 6, 9), (2, 130, 40), (3, 1, 65)]:
        graph = Graph()
        out = attention(graph, style, masked, batch, sq, sk)
        check(graph, out, bound=4e-6)
        steps = kernels(graph.model(out), graph.feeds)
        assert [op for op, _ in steps if op != "Reshape"] == ["Attention"], steps


@pytest.mark.parametrize(
    ("precision", "bound"), [("highest", 2e-6), ("high", 3e-5), ("medium", 0.03)]
)
def test_precision(precision: str, bound: float) -> None:
    """The session's precision holds for both products; against float64."""
    graph = Graph()
    out = attention(graph, "bert", False, 2, 130, 75)
    options = ort.SessionOptions()
    options.add_session_config_entry("session.float32_matmul_precision", precision)
    session = ort.InferenceSession(graph.model(out), options)
    (got,) = session.run(None, graph.feeds)
    q, k, v = (
        x.astype(np.float64).reshape(2, -1, 4, 16).transpose(0, 2, 1, 3)
        for x in (graph.feeds[name] for name in ("q", "k", "v"))
    )
    e = np.exp(q @ k.transpose(0, 1, 3, 2) * 0.25)
    want = (e / e.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(got.shape)
    assert np.abs(got - want).max() < bound


def test_rank_three() -> None:
    """Heads folded into the batch."""
    graph = Graph()
    q, k, v = (graph.input(n, random(6, 12, 20, seed=i)) for i, n in enumerate("qkv"))
    scores = graph.add("MatMul", q, graph.add("Transpose", k, perm=[0, 2, 1]))
    out = graph.add("MatMul", graph.add("Softmax", scores, axis=2), v)
    check(graph, out, bound=4e-6)
    assert ("Attention", "attention_f32") in kernels(graph.model(out), graph.feeds)


def test_what_is_not_attention() -> None:
    """A score that others read, another axis, a mask that widens: left alone, still right."""
    graph = Graph()
    q, k = graph.input("q", random(2, 3, 5, 8)), graph.input("k", random(2, 3, 8, 7, seed=1))
    v = graph.input("v", random(2, 3, 7, 4, seed=2))
    wide = graph.input("wide", random(2, 1, 3, 5, 7, seed=3))
    scores = graph.add("MatMul", q, k)
    first = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), v)
    second = graph.add("MatMul", graph.add("Softmax", graph.add("MatMul", q, k), axis=2), v)
    third = graph.add("Add", graph.add("MatMul", q, k), wide)
    third = graph.add("MatMul", graph.add("Softmax", third, axis=-1), v)
    shared = graph.add("Softmax", graph.add("MatMul", q, k), axis=-1)
    fourth = graph.add("MatMul", shared, v)
    check(graph, scores, first, second, third, shared, fourth, bound=4e-6)


def test_mask_gives_the_sizes() -> None:
    """Queries, keys and heads of length 1 that the mask spreads out; names that may differ."""
    graph = Graph()
    q = graph.input("q", random(2, 1, 1, 8), ["b", 1, "a", 8])
    k = graph.input("k", random(2, 1, 1, 8, seed=1), ["b", 1, "s", 8])
    v = graph.input("v", random(2, 1, 6, 5, seed=2), ["b", 1, "t", 5])
    mask = graph.input("mask", random(3, 4, 6, seed=3), ["h", "m", "n"])
    scores = graph.add("MatMul", q, graph.add("Transpose", k, perm=[0, 1, 3, 2]))
    soft = graph.add("Softmax", graph.add("Add", mask, scores), axis=-1)
    out = graph.add("MatMul", soft, v)
    check(graph, out, bound=4e-6)
    assert ("Attention", "attention_f32") in kernels(graph.model(out), graph.feeds)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("mask", ["none", "float", "bool", "dark"])
@pytest.mark.parametrize("rank", [3, 4])
def test_attention_operator(rank: int, mask: str, causal: int) -> None:
    """ONNX Attention on the strided kernel equals its reference (attention_op_node)."""
    batch, heads, kv_heads, sq, sk, size = 2, 6, 3, 7, 11, 8
    graph = Graph(23)
    names = []
    for i, (count, length) in enumerate([(heads, sq), (kv_heads, sk), (kv_heads, sk)]):
        shape = (batch, length, count * size) if rank == 3 else (batch, count, length, size)
        names.append(graph.input("qkv"[i], random(*shape, seed=i)))
    if mask != "none":
        value = random(batch, 1, sq, sk, seed=4)
        shown = value > (9 if mask == "dark" else -0.5)
        names.append(graph.input("mask", value if mask == "float" else shown))
    more = {"q_num_heads": heads, "kv_num_heads": kv_heads} if rank == 3 else {}
    out = graph.add("Attention", *names, is_causal=causal, **more)
    model = graph.model(out)
    got = run(model, graph.feeds)[0]
    assert [kernel for _, kernel in kernels(model, graph.feeds)] == ["attention_f32"]
    want = reference(graph.feeds, rank, heads, kv_heads, causal)
    assert got.shape == want.shape and np.abs(got - want).max() < 2e-6


def reference(
    feeds: dict[str, np.ndarray], rank: int, heads: int, kv_heads: int, causal: int
) -> np.ndarray:
    """The formula in float64; rows that see nothing give 0."""
    q, k, v = (feeds[name].astype(np.float64) for name in "qkv")
    if rank == 3:
        q, k, v = (
            t.reshape(*t.shape[:2], n, -1).transpose(0, 2, 1, 3)
            for t, n in ((q, heads), (k, kv_heads), (v, kv_heads))
        )
    k, v = (np.repeat(t, heads // kv_heads, axis=1) for t in (k, v))
    scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1])
    if "mask" in feeds:
        mask = feeds["mask"]
        scores = scores + (np.where(mask, 0.0, -np.inf) if mask.dtype == bool else mask)
    if causal:
        scores = np.where(np.tril(np.ones(scores.shape[-2:])) > 0, scores, -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isinf(top), 0, top))
    total = weights.sum(axis=-1, keepdims=True)
    out = (weights / np.where(total == 0, 1, total)) @ v
    return out.transpose(0, 2, 1, 3).reshape(*out.shape[:1], out.shape[2], -1) if rank == 3 else out


def test_attention_operator_with_cache() -> None:
    """Past keys and values go out joined with the new ones, and are attended to."""
    graph = Graph(23)
    q, k, v = (graph.input(n, random(1, 2, 3, 8, seed=i)) for i, n in enumerate("qkv"))
    past_k = graph.input("pk", random(1, 2, 5, 8, seed=5))
    past_v = graph.input("pv", random(1, 2, 5, 8, seed=6))
    outputs = graph.add("Attention", q, k, v, "", past_k, past_v, outputs=3, is_causal=1)
    got = run(graph.model(*outputs), graph.feeds)
    f = graph.feeds
    joined = {"q": f["q"], "k": np.concatenate([f["pk"], f["k"]], 2)}
    joined["v"] = np.concatenate([f["pv"], f["v"]], 2)
    joined["mask"] = np.tril(np.ones((3, 8)), 5) > 0
    assert np.abs(got[0] - reference(joined, 4, 2, 2, 0)).max() < 2e-6
    assert (got[1] == joined["k"]).all() and (got[2] == joined["v"]).all()
    steps = kernels(graph.model(*outputs), graph.feeds)
    assert steps == [("Attention", "attention_f32")]


def decoder(past: int, now: int, batch: int = 2, used: bool = False) -> tuple[Graph, list[str]]:
    """Attention of a decoder's step whose cache is joined by Concat; used: one more reader."""
    heads, width = 3, 16
    graph = Graph()
    cut = {}
    for i, name in enumerate("qkv"):
        shape = ["batch", "now", heads * width]
        x = graph.input(name, random(batch, now, heads * width, seed=i), shape)
        cut[name] = heads_first(graph, x, heads, width, [0, 2, 1, 3])
    for i, name in enumerate("kv"):
        old = random(batch, heads, past, width, seed=5 + i)
        old = graph.input("past_" + name, old, ["batch", heads, "past", width])
        cut[name] = graph.add("Concat", old, cut[name], axis=-2)
    mask = np.tril(np.ones((now, past + now), bool), past)
    bias = np.where(mask, 0, -3e38).astype(np.float32)
    scores = graph.add("MatMul", cut["q"], graph.add("Transpose", cut["k"], perm=[0, 1, 3, 2]))
    scores = graph.add("Mul", scores, graph.const(np.float32(0.25)))
    scores = graph.add("Add", scores, graph.input("mask", bias, ["now", "all"]))
    out = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), cut["v"])
    out = graph.add("Transpose", out, perm=[0, 2, 1, 3])
    more = [graph.add("Neg", cut["k"])] if used else []
    return graph, [out, cut["k"], cut["v"], *more]


@pytest.mark.parametrize("now", [1, 3, 9])
@pytest.mark.parametrize("past", [0, 1, 40, 700])
def test_cache_joined_by_concat(past: int, now: int) -> None:
    """The Concats are part of the attention, whose outputs the joined keys and values are."""
    graph, outputs = decoder(past, now)
    check(graph, *outputs, bound=4e-6, threads=2)
    steps = kernels(graph.model(*outputs), graph.feeds)
    assert [op for op, _ in steps if op != "Reshape"] == ["Attention"], steps


def test_cache_taken_apart() -> None:
    """decompose: Concat and attention as ONNX nodes again, under the outputs' names."""
    graph, outputs = decoder(20, 2)
    options = ort.SessionOptions()
    options.add_session_config_entry("session.macart.decompose", "1")
    session = ort.InferenceSession(graph.model(*outputs), options)
    assert [o.name for o in session.get_outputs()] == outputs
    want = run(graph.model(*outputs), graph.feeds)
    for have, expected in zip(session.run(None, graph.feeds), want, strict=True):
        assert np.abs(have - expected).max() < 2e-6


def test_cache_with_another_reader() -> None:
    """Who else reads the joined keys may stand before the attention: they stay a Concat."""
    graph, outputs = decoder(20, 2, used=True)
    check(graph, *outputs, bound=4e-6)
    steps = [op for op, _ in kernels(graph.model(*outputs), graph.feeds)]
    assert "Concat" in steps and "Attention" in steps


def test_cache_bound_to_its_feed() -> None:
    """An output in the memory of a feed is written after the run."""
    graph, outputs = decoder(8, 1, batch=1)
    want = run(graph.model(*outputs), graph.feeds)
    session = ort.InferenceSession(graph.model(*outputs))
    binding = session.io_binding()
    room = np.zeros((1, 3, 9, 16), np.float32)
    past = room.reshape(-1)[: 3 * 8 * 16].reshape(1, 3, 8, 16)
    past[:] = graph.feeds["past_k"]
    values = {**graph.feeds, "past_k": past}
    for name, value in values.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value))
    binding.bind_output(outputs[0])
    binding.bind_ortvalue_output(outputs[1], ort.OrtValue.ortvalue_from_numpy(room))
    binding.bind_output(outputs[2])
    session.run_with_iobinding(binding)
    for have, expected in zip(binding.copy_outputs_to_cpu(), want, strict=True):
        np.testing.assert_array_equal(have, expected)
