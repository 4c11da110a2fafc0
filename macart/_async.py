"""Threads for run_async: a few, started when first needed, ending with the process."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any

MAX_THREADS = 8

_lock = threading.Lock()
_jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
_threads = 0
_idle = 0


def _work() -> None:
    global _idle
    job: Any = None
    while True:
        with _lock:
            _idle += 1
        job = _jobs.get()
        try:
            job()
        except Exception:  # a callback's: the thread goes on
            args = (*sys.exc_info(), threading.current_thread())
            threading.excepthook(threading.ExceptHookArgs(args))
        job = None  # what the job held is collectable while this thread waits


def submit(job: Callable[[], None]) -> None:
    """Runs the job soon, in another thread."""
    global _threads, _idle
    with _lock:
        _jobs.put(job)
        if _idle:
            _idle -= 1
        elif _threads < MAX_THREADS:
            _threads += 1
            threading.Thread(target=_work, name="macart-async", daemon=True).start()
            _idle -= 1


def _after_fork() -> None:
    global _lock, _jobs, _threads, _idle
    _lock, _jobs, _threads, _idle = threading.Lock(), queue.SimpleQueue(), 0, 0


os.register_at_fork(after_in_child=_after_fork)
