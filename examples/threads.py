"""Threads: one session serves many of them, and a slow request can be stopped.

    python examples/threads.py [--threads N] [--requests N]

A session is immutable: any number of Python threads run it at once, without locks and with the
same bits as alone, because the interpreter is free while the engine computes. run_async does the
same from a callback. RunOptions.terminate stops runs from another thread; Ctrl-C stops a run of
the main thread.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from file_type import CONFIG, MODEL, features, made_files
from packaged import packaged_file

import macart as ort


def main() -> None:
    """The same requests alone, by a pool of threads, and by run_async; then one that is stopped."""
    parser = argparse.ArgumentParser(description="one session, many threads")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--requests", type=int, default=64)
    arguments = parser.parse_args()

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # each request on one core; many requests share the cores
    session = ort.InferenceSession(packaged_file("magika", MODEL), options)
    config = json.loads(Path(packaged_file("magika", CONFIG)).read_text())
    files = [np.array([features(d, config)], np.int32) for d in made_files().values()]
    requests = [files[i % len(files)] for i in range(arguments.requests)]

    def serve(x: np.ndarray) -> np.ndarray:
        return session.run(None, {"bytes": x})[0]

    def timed(name: str, results: list[np.ndarray], begin: float) -> None:
        print(f"{name}: {len(results) / (time.perf_counter() - begin):.0f} requests a second")

    begin = time.perf_counter()
    alone = [serve(x) for x in requests]
    timed("one thread", alone, begin)

    begin = time.perf_counter()
    with ThreadPoolExecutor(arguments.threads) as pool:
        together = list(pool.map(serve, requests))
    timed(f"{arguments.threads} threads", together, begin)
    same = all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    print("same bits:", same)

    shared = ort.InferenceSession(packaged_file("magika", MODEL))
    left, done = threading.Semaphore(0), {}

    def callback(results: list[np.ndarray], number: int, error: str) -> None:
        done[number] = error or np.array_equal(results[0], alone[number])
        left.release()

    for number in range(8):
        shared.run_async(None, {"bytes": requests[number]}, callback, number)
    for _ in range(8):
        left.acquire()
    print("by callback:", all(v is True for v in done.values()))

    stop = ort.RunOptions()
    stop.terminate = True  # as a watchdog would set it while the run goes on
    try:
        session.run(None, {"bytes": requests[0]}, stop)
    except ort.Fail as error:
        print("stopped:", str(error).rsplit(" : ", 1)[-1])


if __name__ == "__main__":
    main()
