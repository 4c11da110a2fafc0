"""Random operators (random, dropout): moments, seeds, shares."""

from __future__ import annotations

import numpy as np
import pytest
from test_ops_move import Row, build, run

import engine

pytestmark = pytest.mark.full


def test_random_operators() -> None:
    """Moments, seeds, and that runs without a seed differ."""
    shape = [200, 100]
    uniform = run(
        *build(
            Row("RandomUniform", lambda g, t: [], [], {"shape": shape, "low": -1.0, "high": 3.0}),
            [],
            False,
        )
    )[0]
    assert uniform.dtype == np.float32 and uniform.min() >= -1 and uniform.max() < 3
    assert abs(uniform.mean() - 1) < 0.05 and abs(uniform.var() - 16 / 12) < 0.05
    row = Row(
        "RandomNormal",
        lambda g, t: [],
        [],
        {"shape": shape, "mean": 2.0, "scale": 3.0, "dtype": 11, "seed": 4.0},
    )
    model, feeds = build(row, [], False)
    session = engine.make_session(engine.load_engine(), model, True, 2)
    first, again = session.run(None, feeds)[0], session.run(None, feeds)[0]
    assert (first != again).any()  # as onnxruntime: a seed names the numbers of a session
    np.testing.assert_array_equal(first, run(model, feeds)[0])  # for any number of threads
    assert first.dtype == np.float64 and abs(first.mean() - 2) < 0.1 and abs(first.std() - 3) < 0.1
    rows = np.corrcoef(first)
    assert np.abs(rows - np.eye(shape[0])).max() < 0.5
    like = Row("RandomUniformLike", lambda g, t: [], [])
    model, feeds = build(like, [np.zeros(50, np.float16)], False)
    session = engine.make_session(engine.load_engine(), model)
    assert (session.run(None, feeds)[0] != session.run(None, feeds)[0]).any()
    p = np.full(20000, 0.3)
    assert (
        abs(
            run(*build(Row("Bernoulli", lambda g, t: [], [], {"dtype": 9}), [p], False))[0].mean()
            - 0.3
        )
        < 0.02
    )
    odds = np.log(np.array([[1, 2, 7], [4, 4, 2]], np.float64))
    drawn = run(
        *build(
            Row("Multinomial", lambda g, t: [], [], {"sample_size": 20000, "dtype": 7}),
            [odds],
            False,
        )
    )[0]
    shares = np.stack([np.bincount(r, minlength=3) / 20000 for r in drawn])
    np.testing.assert_allclose(shares, np.exp(odds) / 10, atol=0.02)
    x = np.ones(20000, np.float32)
    row = Row("Dropout", lambda g, t: [], [], {"seed": 3}, 2)
    y, mask = run(*build(row, [x, np.array(0.25, np.float32), np.array(True)], False))
    assert mask.dtype == bool and abs(mask.mean() - 0.75) < 0.02
    np.testing.assert_allclose(y, mask / 0.75, rtol=1e-6)
