"""One real model through the engine under test, compared with the reference run by run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from compare import relative_error
from real_models import ModelCase
from reference import reference_outputs

import engine


@dataclass
class Check:
    """Worst max|a-b| / max|b| of each output over all runs, and rows with another argmax."""

    errors: dict[str, float]
    shapes: list[str]
    other_argmax: int = 0

    def worst(self) -> float:
        """The largest error of any output."""
        return max(self.errors.values())


def check_model(case: ModelCase, optimize: bool, module: str | None = None) -> Check:
    """Runs every feed of a case; raises what the engine raises."""
    want = reference_outputs(case)
    session = engine.make_session(engine.load_engine(module), str(case.path()), optimize)
    names = [output.name for output in session.get_outputs()]
    check = Check(dict.fromkeys(names, 0.0), [])
    for run in range(case.runs):
        feeds = case.feeds(run, want[run - 1] if run else [])
        check.shapes.append("x".join(map(str, next(iter(feeds.values())).shape)))
        for name, a, b in zip(names, session.run(None, feeds), want[run], strict=True):
            if a.dtype != b.dtype:
                raise AssertionError(f"{case.name}: output {name} is {a.dtype}, not {b.dtype}")
            check.errors[name] = max(check.errors[name], relative_error(a, b))
            if case.equal_argmax and a.shape == b.shape:
                check.other_argmax += int(np.sum(a.argmax(-1) != b.argmax(-1)))
    return check
