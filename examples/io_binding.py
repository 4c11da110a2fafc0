"""IO binding: a stream of sound through silero-vad, whose state never leaves its two buffers.

    python examples/io_binding.py

The model turns 32 ms of sound and a state into a probability of speech and the next state. With
plain run() every window makes new arrays. Bound once, the sound is read from one buffer, and the
state goes back and forth between two: each run reads one and writes the other, in place.
"""

from __future__ import annotations

import time

import numpy as np
from detect_speech import recording, segments
from packaged import packaged_file

import macart as ort

RATE, WINDOW, CONTEXT = 16000, 512, 64


def windows(wave: np.ndarray) -> np.ndarray:
    """Overlapping windows (CONTEXT samples of the one before in front)."""
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), wave])
    count = wave.size // WINDOW
    return np.stack([padded[i * WINDOW : i * WINDOW + WINDOW + CONTEXT] for i in range(count)])


def plain(session: ort.InferenceSession, wave: np.ndarray) -> list[float]:
    """New arrays for each window."""
    state, rate, found = np.zeros((2, 1, 128), np.float32), np.array(RATE), []
    for window in windows(wave):
        feed = {"input": window[None], "state": state, "sr": rate}
        probability, state = session.run(None, feed)
        found.append(float(probability[0, 0]))
    return found


def bound(session: ort.InferenceSession, wave: np.ndarray) -> list[float]:
    """One input buffer, two state buffers, two bindings that swap them."""
    buffer = np.zeros((1, WINDOW + CONTEXT), np.float32)
    probability = ort.OrtValue.ortvalue_from_shape_and_type([1, 1], np.float32)
    states = [ort.OrtValue.ortvalue_from_numpy(np.zeros((2, 1, 128), np.float32)) for _ in "ab"]
    names = [o.name for o in session.get_outputs()]
    bindings = []
    for turn in (0, 1):
        b = session.io_binding()
        b.bind_cpu_input("input", buffer)
        b.bind_cpu_input("sr", np.array(RATE))
        b.bind_ortvalue_input("state", states[turn])
        b.bind_ortvalue_output(names[0], probability)
        b.bind_ortvalue_output(names[1], states[1 - turn])
        bindings.append(b)
    answer, found = probability.numpy(), []  # a view: it shows what each run writes
    for i, window in enumerate(windows(wave)):
        buffer[0] = window
        session.run_with_iobinding(bindings[i % 2])
        found.append(float(answer[0, 0]))
    return found


def main() -> None:
    """Both ways over the same made recording, then where speech was found."""
    wave, talks = recording(RATE)
    session = ort.InferenceSession(packaged_file("silero-vad", "silero_vad.onnx"))
    results = []
    for name, work in (("run", plain), ("io binding", bound)):
        work(session, wave[:RATE])
        begin = time.perf_counter()
        results.append(work(session, wave))
        count = len(results[-1])
        print(f"{name:10}  {(time.perf_counter() - begin) / count * 1e6:7.1f} us per window")
    print("same probabilities:", results[0] == results[1])
    found = segments(np.array(results[1]), WINDOW / RATE)
    print(f"talks made: {len(talks)}, found: {len(found)}")


if __name__ == "__main__":
    main()
