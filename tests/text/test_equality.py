r"""Pairs of answers that Math-Verify alone, or a careless repair, calls equal or different, each beside its neighbours.

A false `correct` teaches a wrong answer, a false `wrong` punishes a right one: every kind has pairs of both.
"""

# ruff: noqa: RUF001
from __future__ import annotations

import pytest

from redi_ray.config.answers import AnswerSettings
from redi_ray.text.answers import quick_verdict
from redi_ray.text.equivalence import compare

HUGE = r"\frac{123456789012345678901234567890}{987654321098765432109876543211}"
NEXT = r"\frac{123456789012345678901234567891}{987654321098765432109876543211}"

EQUAL = {
    "small and huge numbers": [
        (r"1.6\times10^{-19}", r"1.60\times 10^{-19}"),
        (r"1.6\times10^{-19}", r"16\cdot 10^{-20}"),
        ("0.0000002", r"\frac{1}{5000000}"),
        (r"\frac{1}{300000}", "0.00000333333"),
        ("e^{-20}", r"2.06115\times10^{-9}"),
        (r"\{10^{-9}, 10^{-8}\}", r"\{10^{-8}, 10^{-9}\}"),
        (r"6.022\times10^{23}", "602200000000000000000000"),
        (r"9.11\times10^{-31}\text{ kg}", "9.11e-31"),
        (HUGE, r"\frac{246913578024691357802469135780}{1975308642197530864219753086422}"),
        (r"\frac{2^{100}-1}{2^{100}}", r"1-\frac{1}{2^{100}}"),
        (r"0.\overline{3}", r"\frac13"),
        (r"0.1\overline{6}", r"\frac16"),
        ("0.1x+0.2x", "0.3x"),
    ],
    "units side by side": [
        (r"6\text{ hours }30\text{ minutes}", "6 hours and 30 minutes"),
        (r"6\text{ hours }30\text{ minutes}", r"6\mathrm{~h}\ 30\mathrm{~min}"),
        (r"6\text{ hours }30\text{ minutes}", r"390\text{ minutes}"),
        (r"5\text{ ft }6\text{ in}", r"5\text{ feet }6\text{ inches}"),
        (r"30^\circ15'20''", r"30^{\circ}15^{\prime}20^{\prime\prime}"),
        (r"3\text{ boys and }4\text{ girls}", r"4\text{ girls and }3\text{ boys}"),
        (r"3\text{ m}, 4\text{ m}", "3,4"),
        (r"x=3\text{ cm}, y=4\text{ cm}", "x=3, y=4"),
        (r"5\frac{1}{2}\text{ hours}", r"5\frac{1}{2}"),
        (r"\angle ABC", r"\angle CBA"),
    ],
    "bases": [
        ("1011_2", r"(1011)_{2}"),
        ("1011_2", r"1011_{\text{two}}"),
        ("1011_2", "1011"),
        ("11_{10}", "1011_2"),
        ("FF_{16}", "0xFF"),
        ("0x1F", "31"),
    ],
    "words that count": [
        (r"3\text{ p.m.}", r"3\text{ PM}"),
        ("3:00 PM", r"3:00\text{ p.m.}"),
        ("3:00 PM", "3:00"),
        (r"12\text{ noon}", r"12:00\text{ PM}"),
        (r"90^\circ\text{ clockwise}", r"90^\circ"),
        (r"20\%\text{ profit}", r"20\%\text{ gain}"),
        (r"5\text{ million}", "5000000"),
        (r"x\equiv 3\pmod 5", r"x\equiv 8\pmod{5}"),
    ],
    "lists": [
        ("3,12", "$3$;$12$"),
        ("12,3", r"\(3\); \(12\)"),
        ("3,12", "$x=3$ or $x=12$"),
        ("(1,2),(3,4)", "$(1,2)$;$(3,4)$"),
        (r"\frac{-1\pm\sqrt5}{2}", r"\frac{-1+\sqrt5}{2},\frac{-1-\sqrt5}{2}"),
        *(("1,2", f"1\\text{{{word}}}2") for word in (" or ", "或", " 和 ", "及", "与", " oder ", " et ", " y ", "или")),
        *(("1,2", f"1{word}2") for word in ("或", " 和 ", "、", "，", "；", " oder ", " et ")),
        ("1,2", r"x=1\text{或}x=2"),
    ],
    "emphasis": [
        ("7", r"\underline{7}"), (r"\frac12", r"\bm{\frac{1}{2}}"), ("x+1", r"\boldsymbol{x+1}"), ("7", r"$\underline{7}$"),
    ],
    "full-width and Unicode": [
        ("１２", "12"), ("(1,2)", "（１，２）"), ("x=5", "ｘ＝５"), ("3.5", "３．５"), (r"50\%", "50％"), ("34", "٣٤"),
        ("2·10⁻³", "0.002"), ("3×10⁸", r"3\times10^{8}"), ("2⁴", "16"), ("x²+1", "x^{2}+1"), ("a₁₂", "a_{12}"),
        ("½", "0.5"), ("2½", r"\frac52"), ("√2/2", r"\frac{\sqrt2}{2}"), ("√(x+1)", r"\sqrt{x+1}"), ("∛27", "3"),
        ("√12", r"2\sqrt3"), ("2π/3", r"\frac{2\pi}{3}"), ("(−∞, 3)", r"(-\infty,3)"), ("x ≤ 3", r"x\le3"),
        ("(1,2)∪(3,4)", r"(1,2)\cup(3,4)"), ("±2", "2,-2"), ("θ/2", r"\frac{\theta}{2}"), ("x ∈ ℝ", r"x\in\mathbb{R}"),
        ("30°15′", r"30^\circ 15'"), ("20℃", "20"), ("10 m²", "10"), ("eˣ", "e^x"),
    ],
    "plain text": [
        ("pi/3", r"\frac{\pi}{3}"), ("sqrt(2)/2", r"\frac{\sqrt{2}}{2}"), ("2*x+1", "2x+1"), ("x**2 - 2*x", "x^2-2x"),
        ("sqrt((x+1)^2+3)", r"\sqrt{(x+1)^2+3}"), ("(1+sqrt(5))/2", r"\frac{1+\sqrt5}{2}"), ("x^(n+1)", "x^{n+1}"),
        ("exp(-2*x)", "e^{-2x}"), ("cos(x)**2", r"\cos^2 x"), ("ln(x)/x", r"\frac{\ln x}{x}"), ("log(2)", r"\ln 2"),
        ("log(100)", r"\log 100"), ("asin(1/2)", r"\frac{\pi}{6}"), ("2**(1/3)", r"\sqrt[3]{2}"), ("2^-1", r"\frac12"),
        ("(-oo, 3]", r"(-\infty,3]"), ("inf", r"\infty"), ("(-1, 1] U [2, 3)", r"(-1,1]\cup[2,3)"),
        ("theta/2", r"\frac{\theta}{2}"), ("x >= 3", r"x\ge3"), ("abs(x-1)", "|x-1|"), ("binomial(10, 3)", "120"),
        ("3+4*I", "3+4i"), ("3e8", r"3\times10^8"), ("3E-5", "0.00003"), ("3*10^8", "3e8"),
        ("3 x 10^8", r"3\times10^8"), ("2**0.5/2", r"\frac{\sqrt2}{2}"), ("x**.5", r"\sqrt{x}"),
    ],
    "names before the parts": [
        ("(-2,-2)", "a = -2, b = -2"), ("(-2,-2)", "$a = -2$, $b = -2$"), ("a = -2, b = -2", "(a,b)=(-2,-2)"),
        ("(1,2)", r"x=1,\ y=2"), ("(2,3)", "b=3, a=2"), (r"(1,\pi)", r"r=1,\theta=\pi"), ("x=1,y=2", "y=2,x=1"),
        ("(3,-3)", r"\begin{cases}p=3\\q=-3\end{cases}"),
    ],
    "a letter that may be a unit": [
        (r"\frac{37}{4}m", r"\frac{37m}{4}"), (r"\frac{37m}{4}", r"\frac{37}{4}m"), (r"\frac{37}{4}m", r"\frac{37}{4}"),
        ("2.5h", r"\frac{5h}{2}"), (r"\frac{1}{2}gt", r"\frac{gt}{2}"), ("x = 5m", "5"),
    ],
    "functions": [
        (r"\sinh x", r"\frac{e^x-e^{-x}}{2}"), (r"\tanh x", r"\frac{e^{2x}-1}{e^{2x}+1}"),
        (r"\operatorname{sech} x", r"\frac{2}{e^x+e^{-x}}"), (r"\coth^2 x - 1", r"\operatorname{csch}^2 x"),
        (r"\operatorname{arsinh} x", r"\ln(x+\sqrt{x^2+1})"),
        (r"\operatorname{artanh} x", r"\frac12\ln\frac{1+x}{1-x}"),
        (r"\sin x", r"\frac{e^{ix}-e^{-ix}}{2i}"), ("(1+2i)^2", "-3+4i"), (r"\lg x", r"\log_{10} x"),
    ],
    "a condition behind it": [
        ("2x+1", "2x+1, x>0"), ("2x+1, x>0", "2x+1"), ("2x+1, x>0", "2x+1, 0<x"), ("2x", r"2x \quad (x \ge 0)"),
        ("y=2x", r"y = 2x \text{ for } x \ge 0"), ("2x", "2x for x >= 0"), ("n^2", r"n^2 (n \ge 1)"),
        ("5", r"5 \text{ (if } n \text{ is odd)}"), (r"x = k\pi", r"x = k\pi, k\in\mathbb{Z}"), ("x=1", "x=1, x>0"),
        (r"x = k\pi, k\in\mathbb{Z}", r"x=k\pi \text{ for any integer } k"), ("(t,2t)", r"(t,2t), t\in\mathbb{R}"),
    ],
}  # fmt: skip

DIFFERENT = {
    "small and huge numbers": [
        (r"1.6\times10^{-19}", "10^{-18}"), (r"1.6\times10^{-19}", r"1.602\times 10^{-19}"), ("0.0000002", "0.0000004"),
        ("0.0000002", "0"), ("0.0000123", "0.0000124"), (r"\frac{1}{300000}", "0.00000333"), ("e^{-50}", "e^{-60}"),
        ("(0.0000002, 1)", "(0.0000004, 1)"), (r"\{0.0000002, 1\}", r"\{0.0000004, 1\}"),
        ("[0, 0.0000002]", "[0, 0.0000004]"),
        (r"10^{-18}\pi", r"2\cdot 10^{-18}\pi"), (r"\sqrt{10^{-40}}", "10^{-19}"), ("10^{-20}", "10^{-21}"),
        (r"0.00000000001\%", r"0.00000000002\%"), ("x = 10^{-9}", "10^{-10}"),
        (r"\begin{pmatrix} 0.0000002 \\ 1 \end{pmatrix}", r"\begin{pmatrix} 0.0000004 \\ 1 \end{pmatrix}"),
        (HUGE, NEXT), (f"({HUGE}, 1)", f"({NEXT}, 1)"), (f"x={HUGE}", f"x={NEXT}"), ("2^{200}-1", "2^{200}"),
        (r"\frac{10^{30}}{10^{30}+1}", r"\frac{10^{30}+1}{10^{30}+2}"), ("1-10^{-20}", "1"),
        (r"1.0\times10^{20}", "100000000000000000001"),
        (r"0.\overline{3}", "0.3"), (r"1.\overline{23}", r"1.\overline{24}"),
    ],
    "units side by side": [
        (r"6\text{ hours }30\text{ minutes}", r"6\text{ hours }45\text{ minutes}"),
        ("6 hours 30 minutes", "6 hours 45 minutes"),
        (r"6\text{ hours }30\text{ minutes}", r"6\text{ hours}"), (r"6\text{ hours }30\text{ minutes}", "6"),
        (r"1\text{ hour 30 minutes}", r"1\text{ hour 45 minutes}"),
        (r"5\text{ ft }6\text{ in}", r"5\text{ ft }7\text{ in}"),
        (r"2\text{ kg }300\text{ g}", r"2\text{ kg }400\text{ g}"), ("30^\\circ 15'", "30^\\circ 45'"),
        (r"3\text{ boys and }4\text{ girls}", r"3\text{ girls and }4\text{ boys}"), (r"3\text{ m}, 4\text{ m}", "3,5"),
        (r"5\text{ cm and }6\text{ cm}", r"5\text{ cm and }7\text{ cm}"),
        (r"5\frac{1}{2}\text{ hours}", r"\frac{1}{2}"),
        (r"6.5\text{ hours}", r"391\text{ minutes}"),
        (r"\angle ABC", r"\angle ACB"),
    ],
    "bases": [
        ("1011_2", "1011_3"), (r"1011_{\text{two}}", r"1011_{\text{three}}"), ("(1011)_2", "(1011)_3"),
        ("A3F_{16}", "A3E_{16}"),
        (r"1011\text{ (base 2)}", r"1011\text{ (base 3)}"), ("0x1F", "0x1E"), ("1011_2, 110_2", "1011_3, 110_3"),
        ("a_1", "a_2"),
    ],
    "words that count": [
        (r"3\text{ p.m.}", r"3\text{ a.m.}"), ("3 pm", "3 am"), ("3:00 PM", "3:30 PM"),
        ("12:30 pm", "0:30"),
        (r"12\text{ noon}", r"12\text{ midnight}"),
        (r"5\text{ km north}", r"5\text{ km south}"), (r"50\text{ BC}", r"50\text{ AD}"),
        (r"\$5\text{ profit}", r"\$5\text{ loss}"),
        (r"5\% \text{ increase}", r"5\% \text{ decrease}"),
        (r"90^\circ\text{ clockwise}", r"90^\circ\text{ counterclockwise}"),
        (r"5\text{ or more}", r"5\text{ or less}"), (r"5\text{ million}", r"5\text{ billion}"),
        (r"3 \pmod{5}", r"3 \pmod{7}"),
        (r"5 \text{ remainder } 3", r"5 \text{ remainder } 4"), ("f'(x)", "f''(x)"), (r"\bar z", "z"),
        (r"\frac{dy}{dx}=2x", r"\frac{dy}{dx}=3x"),
    ],
    "lists": [
        ("12", "$3$;$12$"), ("12", "$3$ ; $12$"), ("12", r"\(3\);\(12\)"), ("12", "$3$ $12$"), ("12", "$x=3$;$x=12$"),
        ("$3$;$12$", "12"), ("12", "3；12"), ("12", "3、12"), ("12", r"3\text{或}12"), ("12", "3 & 12"),
        ("12", r"3 \\ 12"),
        ("x", "$y$;$x$"), ("1,2", r"1\text{或}3"),
    ],
    "emphasis": [("8", r"\underline{7}"), ("7", r"\underline{7}+\underline{1}")],
    "full-width and Unicode": [
        ("１２", "１3"), ("(1,2)", "（2，1）"), ("2⁴", "24"), ("10⁶", "106"), ("2³", "23"), ("2·10⁻³", r"2\times10^{-2}"),
        ("1½", r"\frac{11}{2}"), ("⅓", r"\frac23"), ("√12", r"2\sqrt2"), ("x ≥ 1", "x > 1"), ("2×3", "23"),
    ],
    "plain text": [
        ("pi/3", r"\frac{\pi}{4}"), ("sqrt(2)/2", r"\frac{\sqrt{3}}{2}"), ("2*x+1", "2x+2"), ("x**2", "x^3"),
        ("x >= 3", "x > 3"),
        ("3e8", r"3\times10^9"), ("floor(x)", r"\lceil x\rceil"), ("sin(x^2)", r"\sin^2 x"), ("pi", "p"),
    ],
    "names before the parts": [
        ("(-2,-2)", "a = -2, b = -3"), ("(-2,-2)", "a=-2"), ("(1,2)", "x=2, y=1"), ("(1,2)", "x=1,y=2,z=3"),
        ("(2,3)", "b=2, a=3"),
        ("x=1,y=2", "(2,1)"), ("a=1,b=2", "a=2,b=1"), ("[1,2]", "x=1,y=2"), ("2", "x=1,y=2"),
    ],
    "a letter that may be a unit": [
        (r"\frac{37}{4}m", r"\frac{39m}{4}"), (r"\pi r^2 h", r"\pi r^2"), ("a+2c", "a+2"), ("3+2t", "5"),
        ("v_0 t", "v_0"),
        (r"1-\frac{1}{2}t", r"1-\frac12"), (r"\frac{\sqrt{3}}{2}s", r"\frac{t\sqrt3}{2}"),
    ],
    "functions": [
        (r"\cosh x", r"\frac{e^x-e^{-x}}{2}"), (r"\sinh x", r"\sin x"), (r"\ln(x+\sqrt{x^2-1})", r"\sinh^{-1}x"),
        ("(1+2i)^2", "-3+5i"),
        (r"\sqrt{x^2}", "x"), (r"\arctan x+\arctan\frac1x", r"\frac{\pi}{2}"), (r"\ln x", r"\log_{10} x"),
    ],
    "a condition behind it": [
        ("2x+1, x>0", "2x+1, x<0"), ("2x+1, x>0", r"2x+1, x\ge 0"), ("2x+1", "2x+2, x>0"), ("x>0", "x>0, y>0"),
        ("x>1", r"x>1, x\ne2"),
        (r"x = k\pi, k\in\mathbb{Z}", r"x=2k\pi, k\in \mathbb{Z}"), (r"n, n\in\mathbb{N}", r"n, n\in\mathbb{Z}"),
        ("x=1", "x=1, x>2"),
        (r"n^2 \text{ if } n\text{ is even}", r"n^2 \text{ if } n\text{ is odd}"), ("a=1, b>0", "a=1"),
        ("x", r"x \text{ if } x>0, -x \text{ if } x<0"), ("0", r"0\text{ if odd, }1\text{ if even}"),
        (r"0\text{ if odd, }1\text{ if even}", r"1\text{ if odd, }0\text{ if even}"),
    ],
}  # fmt: skip


def verdict(gold: str, answer: str) -> str:
    return str(quick_verdict(gold, answer) or compare(gold, answer, AnswerSettings()))


@pytest.mark.parametrize("kind", EQUAL)
def test_equal(kind: str) -> None:
    assert [pair for pair in EQUAL[kind] if verdict(*pair) != "correct"] == []


@pytest.mark.parametrize("kind", DIFFERENT)
def test_different(kind: str) -> None:
    assert [pair for pair in DIFFERENT[kind] if verdict(*pair) == "correct"] == []
    assert [pair for pair in DIFFERENT[kind] if verdict(*reversed(pair)) == "correct"] == []


@pytest.mark.parametrize(
    ("gold", "answer", "settings"),
    [
        ("0.33", "0.334", AnswerSettings(float_rounding=2)),
        ("0.0123", "0.0124", AnswerSettings(float_rounding=2)),
        ("0.00012341", "0.00012344", AnswerSettings(float_rounding=4)),
    ],
)
def test_rounding_is_a_setting(gold: str, answer: str, settings: AnswerSettings) -> None:
    assert compare(gold, answer, settings) == "correct"
    assert compare(gold, answer, AnswerSettings()) == "wrong"


def test_an_order_that_names_leave_open_says_nothing() -> None:
    assert verdict("(2,3)", "m=2, b=3") == "no_answer"
