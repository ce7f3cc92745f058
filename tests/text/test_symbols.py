"""Unicode and plain formulas as LaTeX: the right command, nothing lost, and prose left alone."""

from __future__ import annotations

import pytest

from redi_ray.text.plain import from_plain
from redi_ray.text.symbols import from_unicode, scripts


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("10\u207b\u2076x\u2081\u00bd", r"10^{-6}x_{1}\frac{1}{2}"),
        ("x\u00b2\u207a\u00b9", "x^{2+1}"),
        ("plain 2^4", "plain 2^4"),
    ],
)
def test_scripts(text: str, latex: str) -> None:
    assert scripts(text) == latex


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("\uff11\uff12\uff0c\uff41", "12,a"),
        ("\u221a(a\u00b2+b\u00b2)/2", r"\sqrt{a^{2}+b^{2}}/2"),
        ("\u221b27", r"\sqrt[3]{27}"),
        ("3 \u2264 \u03b8", r"3 \le  \theta "),
        ("\u211d", r"\mathbb{R}"),
        ("45\u00b0", r"45^\circ"),
        ("\u221a(2", r"\sqrt(2"),
    ],
)
def test_unicode(text: str, latex: str) -> None:
    assert from_unicode(text) == latex


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("sqrt(2)/2", r"\sqrt{2}/2"),
        ("sqrt(sqrt(2))", r"\sqrt{\sqrt{2}}"),
        ("x**2 + 3e8", r"x^{2} + 3\times 10^{8}"),
        ("2^(n+1)", "2^{n+1}"),
        ("(-oo, 3)", r"(-\infty , 3)"),
        ("theta/2", r"\theta /2"),
        (r"\frac{pi}{3}", r"\frac{\pi }{3}"),
    ],
)
def test_plain(text: str, latex: str) -> None:
    assert from_plain(text) == latex


@pytest.mark.parametrize(
    "text",
    [
        "The sin of pride",
        r"\text{pi is exp}",
        "api",
        "2x+1",
        r"\sin(x)",
        "sqrt(2",
        "2**3**4",
        "1e5_{16}",
        "f(x)",
        r"\text{inf}",
    ],
)
def test_left_alone(text: str) -> None:
    assert from_plain(text) == text
