"""Speech detection: finds the talking in a made-up recording with the silero-vad model.

    python examples/detect_speech.py [--write out.wav] [--rate 8000|16000]

The recording is synthesised here: hiss, then a voice (a pulse train through formant resonators,
in syllables), then hiss, a steady hum, and a second voice. The model hears windows of 32 ms and
carries a state from window to window; it answers with the probability of speech.
"""

from __future__ import annotations

import argparse
import wave

import numpy as np
from packaged import packaged_file

import macart as ort

THRESHOLD = 0.5
SHORTEST_PAUSE = 0.35  # seconds; shorter gaps belong to the talking
SHORTEST_TALK = 0.25
# Formant frequencies of five vowels, in Hz.
VOWELS = [(730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410),
          (300, 870, 2240)]  # fmt: skip


def resonate(signal: np.ndarray, frequency: float, width: float, rate: int) -> np.ndarray:
    """A two-pole resonator: y[t] = g x[t] + 2 r cos(w) y[t-1] - r^2 y[t-2]."""
    radius = np.exp(-np.pi * width / rate)
    a, b = 2 * radius * np.cos(2 * np.pi * frequency / rate), -radius * radius
    out = np.zeros(len(signal) + 2)
    for t, x in enumerate(signal):
        out[t + 2] = x + a * out[t + 1] + b * out[t]
    return out[2:] * (1 - a - b)


def voice(seconds: float, pitch: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Syllables: a glottal pulse train whose vowel changes, with breath between them."""
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < seconds * rate:
        samples = int(rate * rng.uniform(0.14, 0.24))
        glide = np.linspace(1.05, 0.93, samples) * pitch * rng.uniform(0.92, 1.08)
        phase = np.cumsum(glide / rate)
        pulses = np.diff(np.floor(phase), prepend=0.0) + 0.01 * rng.standard_normal(samples)
        sound = pulses
        for formant, width in zip(VOWELS[rng.integers(len(VOWELS))], (80, 90, 120), strict=True):
            sound = resonate(sound, formant, width, rate)
        loud = np.sin(np.linspace(0, np.pi, samples)) ** 0.5
        parts += [sound / np.abs(sound).max() * loud]
        parts += [np.zeros(int(rate * rng.uniform(0.02, 0.06)))]
    return 0.3 * np.concatenate(parts)[: int(seconds * rate)]


def recording(rate: int) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """The samples, and where somebody talks (start and end in seconds)."""
    rng = np.random.default_rng(11)
    hum = 0.05 * np.sin(2 * np.pi * 50 * np.arange(int(1.5 * rate)) / rate)
    plan = [(None, 1.5), (120.0, 2.5), (None, 1.5), (hum, 1.5), (210.0, 2.0), (None, 1.0)]
    parts, talks, now = [], [], 0.0
    for what, seconds in plan:
        if isinstance(what, float):
            parts.append(voice(seconds, what, rate, rng))
            talks.append((now, now + seconds))
        else:
            parts.append(np.zeros(int(seconds * rate)) if what is None else what)
        now += seconds
    clean = np.concatenate(parts)
    return (clean + 0.003 * rng.standard_normal(len(clean))).astype(np.float32), talks


def probabilities(session: ort.InferenceSession, sound: np.ndarray, rate: int) -> np.ndarray:
    """One number per window; each window comes with the last samples of the one before."""
    window, context = (512, 64) if rate == 16000 else (256, 32)
    state = np.zeros((2, 1, 128), np.float32)
    padded = np.concatenate([np.zeros(context, np.float32), sound])
    result = []
    for start in range(0, len(sound) - window + 1, window):
        piece = padded[start : start + context + window][None, :]
        feeds = {"input": piece, "state": state, "sr": np.array(rate, np.int64)}
        probability, state = session.run(None, feeds)
        result.append(float(probability[0, 0]))
    return np.array(result)


def segments(chances: np.ndarray, seconds: float) -> list[tuple[float, float]]:
    """Stretches above the threshold, over short pauses, without short blips."""
    found: list[list[float]] = []
    for i, chance in enumerate(chances):
        if chance < THRESHOLD:
            continue
        begin, end = i * seconds, (i + 1) * seconds
        if found and begin - found[-1][1] < SHORTEST_PAUSE:
            found[-1][1] = end
        else:
            found.append([begin, end])
    return [(begin, end) for begin, end in found if end - begin >= SHORTEST_TALK]


def main() -> None:
    """Makes the recording, listens, and prints both truths."""
    parser = argparse.ArgumentParser(description="speech detection on generated audio")
    parser.add_argument("--rate", type=int, default=16000, choices=(8000, 16000))
    parser.add_argument("--write", metavar="FILE", help="also write the recording (WAV)")
    args = parser.parse_args()
    sound, talks = recording(args.rate)
    if args.write:
        with wave.open(args.write, "wb") as out:
            out.setparams((1, 2, args.rate, 0, "NONE", ""))
            out.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    model = packaged_file("silero-vad", "data/silero_vad.onnx")
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    chances = probabilities(session, sound, args.rate)
    print(f"{len(sound) / args.rate:.1f} s of sound, {len(chances)} windows of 32 ms")
    for begin, end in talks:
        print(f"made      {begin:5.2f} - {end:5.2f} s")
    for begin, end in segments(chances, 0.032):
        print(f"detected  {begin:5.2f} - {end:5.2f} s")


if __name__ == "__main__":
    main()
