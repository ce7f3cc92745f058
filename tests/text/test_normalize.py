"""Respelling: equal strings must mean equal answers, and repairs must not change a meaning."""

from __future__ import annotations

from fractions import Fraction

import pytest

from redi_ray.text.normalize import canonical, choice_letter, exact_number, repair


@pytest.mark.parametrize(
    "spellings",
    [
        [r"\frac{1}{2}", r"\dfrac12", r"\tfrac{1}{2}", r"$\frac12$", r"\( \frac {1}{2} \)", r"\frac{1}{2}."],
        [r"\frac{2}{\pi}-1", r"\frac2\pi-1", r"\frac{2}{\pi} - 1"],
        [r"\left(3,\frac{\pi}{2}\right)", r"(3, \frac\pi2)", r"\bigl(3,\, \frac{\pi}{2}\bigr)"],
        ["1234567", r"1,234,567", r"1{,}234{,}567", r"1,\!234,\!567", "1 234 567"],
        ["15000", r"15,000 \, \text{kcal}", r"15000\text{ cm}^2", r"\$15,000"],
        [r"12^{\mathrm{th}}", r"12^{\text{th}}", "12th", "12"],
        ["0.5", ".5"],
        [r"\text{Evelyn}", "Evelyn", "EVELYN"],
        [r"x_{\text{max}}", r"x_{max}", r"x_\text{max}"],
        ["-3", "\u22123"],
        [r"10\sqrt3", r"10\sqrt{3}"],
        ["1,-2", r"1 \text{ and } -2", r"1, \text{ or } -2", "1 and -2"],
    ],
)
def test_one_spelling(spellings):
    assert len({canonical(spelling) for spelling in spellings}) == 1, [canonical(s) for s in spellings]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1 2", "12"),
        ("32, 349", "32349"),
        ("0,111", "0111"),
        ("[0,1)", "[0,1]"),
        ("28%", "28"),
        ("a", "A"),
        (r"5\text{ million}", "5"),
        (r"6\text{ or }7", "6"),
        (r"\begin{matrix} 1 \\ 2 \end{matrix}", "12"),
        ("x^{12}", "x^12"),
        ("-5", "5"),
    ],
)
def test_different_answers_stay_different(one, other):
    assert canonical(one) != canonical(other)


def test_and_between_inequalities_is_no_list():
    assert repair(r"x>1 \text{ and } x<3") == r"x>1 \text{ and } x<3"
    assert repair(r"\text{red and blue}") == r"\text{red and blue}"


def test_repair_of_what_math_verify_misreads():
    assert repair(r"\lambda_{\text{red}}/\sqrt{2}") == r"\lambda_{red}/\sqrt{2}"
    assert repair(r"1-\frac{1}{\mathrm{e}}").replace(" ", "") == r"1-\frac{1}{e}"
    broken = r"\begin{matrix} \frac{ \\ 4 \\ \pi \\ }{ \\ 3 \\ } \\ + \\ \sqrt{ \\ 3 \\ } \end{matrix}"
    assert canonical(broken) == canonical(r"\frac{4 \pi}{3} + \sqrt{3}")
    column = r"\begin{matrix} 1 \\ 2 \end{matrix}"
    assert repair(column) == column


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("-7", -7),
        ("+7", 7),
        (r"\frac{-6}{4}", Fraction(-3, 2)),
        (r"-\frac{6}{4}", Fraction(-3, 2)),
        ("6/4", Fraction(3, 2)),
    ],
)
def test_exact_numbers(text, value):
    assert exact_number(text) == value


@pytest.mark.parametrize("text", ["0.5", "50%", "1/0", "x", "1/2/3", "2^3", r"\frac{1}{x}", "1:2", "9" * 30])
def test_no_exact_numbers(text):
    """Decimals and percentages above all: 0.5 and 50% must not be found unequal here."""
    assert exact_number(text) is None


def test_choices():
    assert choice_letter(r"\text{(C) Plane}") == ("C", "Plane")
    assert choice_letter(r"\textbf{(B)}\ 3(1 + r)") == ("B", "3(1 + r)")
    assert choice_letter("$(A)$") == ("A", "")
    assert choice_letter("Circle") is None
    assert choice_letter("E_1") is None
