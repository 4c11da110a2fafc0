"""RegexFullMatch (regex, regex_parse, regex_match): Python's re on patterns and texts of every
kind, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from test_ops_move import STRINGS, Row, build, run

pytestmark = pytest.mark.full


PATTERNS = [
    r"a*b+c?",
    r"(ab|a)(bc|c)?",
    r"[a-c]+\d{2,3}",
    r"[^x-z\s]*",
    r"\w+@\w+\.(com|org)",
    r"(?i)straSSe",
    r"(a{2}){2,}",
    r"x{0}",
    r".",
    r"(?s).*",
    r"a\.b",
    r"[[:alpha:]]+".replace("[[:alpha:]]", "[A-Za-z]"),
    r"^ab$",
    r"\Aab\z".replace(r"\z", r"\Z"),
    r"\bab\b",
    r"(?:a|b|)+",
    r"(?P<n>a)b",
    r"[\]\-a]+",
    r"a{,2}",
    r"\x41\t",
    r"é+",
    r"",
    r"(a|b)*?abb",
    r"[.]",
    r"\D+",
    r"a||b",
]
TEXTS = [
    "",
    "ab",
    "abc",
    "aab",
    "abbb",
    "abcc",
    "aaaa",
    "b12",
    "c1234",
    "x",
    "\n",
    "me@site.com",
    "STRASSE",
    "a.b",
    "a-]",
    "a{,2}",
    "A\t",
    "ééé",
    "é",
    "babb",
    ".",
    "aaa",
    "x y",
]


def test_regular_expressions_against_python() -> None:
    """Whole-string matches as Python's re sees them."""
    texts = np.array(TEXTS, object)
    for pattern in PATTERNS:
        literal = pattern.replace(
            "a{,2}", "a\\{,2\\}"
        )  # Python reads {,2} as a count, RE2 does not
        want = np.array([re.fullmatch(literal, t) is not None for t in TEXTS])
        ours = pattern.replace(r"\Z", r"\z")
        row = Row("RegexFullMatch", lambda g, t: [texts], [], {"pattern": ours})
        got = run(*build(row, [texts], False))[0]
        wrong = [t for t, a, b in zip(TEXTS, got, want, strict=True) if a != b]
        assert not wrong, f"{pattern!r}: {wrong}"
        peer = run(*build(row, [texts], False), "onnxruntime")[0]
        np.testing.assert_array_equal(got, peer, err_msg=pattern)


@pytest.mark.parametrize(
    "pattern", ["(", "a**", "[z-a]", "a{3,1}", r"\1", r"(?=a)", "x{2000}", r"\pL", "[", "+"]
)
def test_regular_expressions_that_are_refused(pattern: str) -> None:
    """RE2 refuses these too, or (\\pL) we say what is missing."""
    row = Row("RegexFullMatch", lambda g, t: [STRINGS], [], {"pattern": pattern})
    with pytest.raises(Exception, match="[Rr]egex"):
        run(*build(row, [STRINGS], False))


def test_a_hard_pattern_takes_linear_time() -> None:
    """Back-tracking would need 2^100 steps."""
    texts = np.array(["a" * 100 + "b"], object)
    row = Row("RegexFullMatch", lambda g, t: [texts], [], {"pattern": "(a*)*(a|aa)+c?"})
    assert not run(*build(row, [texts], False))[0][0]
