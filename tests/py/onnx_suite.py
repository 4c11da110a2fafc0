"""Runs the ONNX backend data through an engine and reports one outcome per case.

Cases run in worker processes, many per process; a worker that dies or hangs costs the case that
it was running (`crash`, `timeout`) and is replaced. Parent and worker talk over pipes of their
own, so whatever the engine prints cannot disturb them. Outcomes are

    pass | drawn | load-error:CODE | run-error:CODE | mismatch:type|shape|dtype|value | crash
    | timeout

`drawn`: types and shapes are right and the values are random ones, which only chance makes equal to
the stored ones (tests/py/test_ops_random.py looks at their distributions).

Command line, for people who fill in operators:

    python tests/py/onnx_suite.py --set node -k softmax --errors
    python tests/py/onnx_suite.py --module onnxruntime --set node --op Conv -v
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import select
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import engine as engines
from compare import difference
from onnx_cases import SETS, Case, find_cases, load_values, operators

RTOL, ATOL = 1e-3, 1e-5
# The specification leaves their generators open.
RANDOM = {"Bernoulli", "RandomNormalLike", "RandomUniformLike"}
CASE_SECONDS = 60.0
START_SECONDS = 120.0


@dataclass(frozen=True)
class Result:
    """Outcome of a case, and the message behind it (empty for pass)."""

    name: str
    outcome: str
    message: str = ""


# ---------------------------------------------------------------- one case, inside a worker


def run_case(engine: Any, case: Case, optimize: bool, threads: int) -> Result:
    """Loads, runs and compares; every exception of the engine becomes an outcome."""
    feeds, want = load_values(case)
    try:
        session = engines.make_session(engine, str(case.model), optimize, threads)
    except Exception as error:
        return _failed(case, "load-error", error)
    try:
        got = session.run(None, feeds)
    except Exception as error:
        return _failed(case, "run-error", error)
    problem = difference(list(got), want, RTOL, ATOL)
    drawn = case.set_name == "node" and RANDOM & operators(case)
    if drawn and (problem is None or problem.startswith("value")):
        return Result(case.name, "drawn")
    if problem:
        return Result(case.name, f"mismatch:{problem.split(':')[0]}", problem)
    return Result(case.name, "pass")


def _failed(case: Case, kind: str, error: Exception) -> Result:
    message = " ".join(str(error).split())
    return Result(case.name, f"{kind}:{engines.error_code(error)}", message)


def serve(requests: int, replies: int, module: str, optimize: bool, threads: int) -> None:
    """Worker: reads one case per line (set, name, model), answers one JSON line each."""
    engine = engines.load_engine(module)
    with os.fdopen(requests) as lines, os.fdopen(replies, "w", buffering=1) as out:
        out.write("ready\n")
        for line in lines:
            set_name, name, model = json.loads(line)
            case = Case(set_name, name, Path(model))
            result = run_case(engine, case, optimize, threads)
            out.write(json.dumps(asdict(result)) + "\n")


# ---------------------------------------------------------------- the driver


class Worker:
    """A child process that runs cases; replaced by its owner after a death."""

    def __init__(self, module: str, optimize: bool, threads: int) -> None:
        request_read, request_write = os.pipe()
        reply_read, reply_write = os.pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        command = [sys.executable, str(Path(__file__).resolve()), "--module", module]
        command += ["--worker", f"{request_read},{reply_write}", "--threads", str(threads)]
        if not optimize:
            command.append("--no-opt")
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=(request_read, reply_write),
        )
        os.close(request_read)
        os.close(reply_write)
        self._requests, self._replies, self._pending = request_write, reply_read, b""
        if self._read_line(START_SECONDS) != "ready":
            text = self._last_words()
            self.close()
            raise RuntimeError(f"a worker with the module {module} does not start: {text}")

    def run(self, case: Case) -> Result:
        """One case; a result with outcome crash or timeout means that the worker is gone."""
        request = json.dumps([case.set_name, case.name, str(case.model)]) + "\n"
        try:
            os.write(self._requests, request.encode())
            line = self._read_line(CASE_SECONDS)
        except OSError:
            line = ""
        if line:
            return Result(**json.loads(line))
        if line is None:
            self._child.kill()
            self._child.wait()
            return Result(case.name, "timeout", f"no answer within {CASE_SECONDS:.0f} s")
        code = self._child.wait()
        return Result(case.name, "crash", f"exit status {code}: {self._last_words()}")

    def close(self) -> None:
        """Ends the worker, which stops at the end of its request pipe."""
        os.close(self._requests)
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        os.close(self._replies)
        self._log.close()

    def _read_line(self, seconds: float) -> str | None:
        """A line, "" when the worker closed its pipe, None when the time is over."""
        while b"\n" not in self._pending:
            if not select.select([self._replies], [], [], seconds)[0]:
                return None
            data = os.read(self._replies, 65536)
            if not data:
                return ""
            self._pending += data
        line, self._pending = self._pending.split(b"\n", 1)
        return line.decode()

    def _last_words(self) -> str:
        self._log.seek(0)
        text = self._log.read().decode(errors="replace")
        return " ".join(text[-2000:].split())


def run_cases(
    cases: Iterable[Case], module: str, optimize: bool = True, threads: int = 1, jobs: int = 0
) -> dict[str, Result]:
    """Outcome of each case, by name, with `jobs` workers (0: one per two CPUs, at least two)."""
    todo: queue.SimpleQueue[Case] = queue.SimpleQueue()
    listed = list(cases)
    for case in listed:
        todo.put(case)
    jobs = min(jobs or max(2, len(os.sched_getaffinity(0)) // 2), max(1, len(listed)))
    results: dict[str, Result] = {}
    failures: list[BaseException] = []

    def drive() -> None:
        worker = None
        try:
            while not failures:
                case = todo.get_nowait()
                worker = worker or Worker(module, optimize, threads)
                results[case.name] = worker.run(case)
                if results[case.name].outcome in ("crash", "timeout"):
                    worker.close()
                    worker = None
        except queue.Empty:
            pass
        except BaseException as error:
            failures.append(error)
        finally:
            if worker:
                worker.close()

    drivers = [threading.Thread(target=drive) for _ in range(jobs)]
    for thread in drivers:
        thread.start()
    for thread in drivers:
        thread.join()
    if failures:
        raise failures[0]
    return {case.name: results[case.name] for case in listed}


# ---------------------------------------------------------------- the report


def error_class(message: str) -> str:
    """A message without what is special to one case: paths, node names, numbers in shapes."""
    text = re.sub(r"\S*/\S*\.onnx", "MODEL", message)
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"\[\w+/[\w/]+\.\w+:\d+\]", "", text)
    text = re.sub(r"(node|name|input|output|value) ?:?'[^']*'", r"\1 '*'", text)
    text = re.sub(r"(?<![\w(.:])\d+(\.\d+)?(e[-+]?\d+)?", "N", text)
    return text[:200]


def report(results: dict[str, Result], cases: list[Case], errors: bool, verbose: bool) -> str:
    """Counts of outcomes; with `errors` the to-do list, with `verbose` one line per failure."""
    lines = []
    by_name = {case.name: case for case in cases}
    bad = [r for r in results.values() if r.outcome != "pass"]
    if verbose:
        lines += [f"{r.name}: {r.outcome}: {r.message[:400]}" for r in bad]
    if errors:
        classes: dict[tuple[str, str], list[Result]] = {}
        for result in bad:
            used = " ".join(sorted(operators(by_name[result.name])))
            wrong = result.outcome.startswith("mismatch")
            text = used if wrong else error_class(result.message)
            classes.setdefault((result.outcome, text), []).append(result)
        for (outcome, text), same in sorted(classes.items(), key=lambda item: -len(item[1])):
            lines.append(f"{len(same):5}  {outcome}  {text}")
            lines.append("       " + " ".join(r.name for r in same[:4]))
    for outcome, count in Counter(r.outcome for r in results.values()).most_common():
        lines.append(f"{count:5}  {outcome}")
    lines.append(f"{len(results) - len(bad)} of {len(results)} pass")
    return "\n".join(lines)


def select_cases(sets: list[str], names: str, operator: str) -> list[Case]:
    """Cases of the sets whose name contains one of the comma-separated words and that use an op."""
    cases = [case for set_name in sets for case in find_cases(set_name)]
    if names:
        cases = [case for case in cases if any(word in case.name for word in names.split(","))]
    if operator:
        cases = [case for case in cases if operator in operators(case)]
    return cases


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status 1 when a case does not pass."""
    parser = argparse.ArgumentParser(description="ONNX backend data through an engine")
    parser.add_argument("--module", default=engines.module_name(), help="macart or onnxruntime")
    parser.add_argument("--set", action="append", choices=[*SETS, "all"], dest="sets")
    parser.add_argument("-k", default="", metavar="WORDS", help="names containing a word (a,b,c)")
    parser.add_argument("--op", default="", help="only models that use this operator")
    parser.add_argument("--errors", action="store_true", help="histogram of error messages")
    parser.add_argument("-v", "--verbose", action="store_true", help="one line per failing case")
    parser.add_argument("--no-opt", action="store_true", help="graph optimizations off")
    parser.add_argument("--threads", type=int, default=1, help="intra-op threads")
    parser.add_argument("-j", "--jobs", type=int, default=0, help="worker processes")
    parser.add_argument("--in-process", action="store_true", help="no worker (for a debugger)")
    parser.add_argument("--write", metavar="FILE", help="write 'name outcome' lines")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        requests, replies = (int(fd) for fd in args.worker.split(","))
        serve(requests, replies, args.module, not args.no_opt, args.threads)
        return 0
    sets = list(SETS) if "all" in (args.sets or []) else args.sets or ["node"]
    cases = select_cases(sets, args.k, args.op)
    if not cases:
        which = " ".join(filter(None, [args.op and f"operator {args.op}", args.k]))
        print(f"no case of {', '.join(sets)} for {which or 'that'}", file=sys.stderr)
        return 2
    if args.in_process:
        engine = engines.load_engine(args.module)
        results = {c.name: run_case(engine, c, not args.no_opt, args.threads) for c in cases}
    else:
        results = run_cases(cases, args.module, not args.no_opt, args.threads, args.jobs)
    print(report(results, cases, args.errors, args.verbose))
    if args.write:
        rows = "".join(f"{name} {r.outcome}\n" for name, r in sorted(results.items()))
        Path(args.write).write_text(rows)
    return 0 if all(r.outcome == "pass" for r in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
