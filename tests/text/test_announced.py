"""Announced answers: found in any dress, last one first, and never taken from prose, denials or questions.

What is protected above all: a guess is never `wrong`. C, W and N are the verdicts correct, wrong and no_answer.
"""

from __future__ import annotations

import pytest

from redi_ray.schemas import Verdict
from redi_ray.text.answers import verify_answer
from redi_ray.text.values import is_expression

LONG = "We try this and that for a while, and count the ways one by one. " * 20
C, W, N = Verdict.CORRECT, Verdict.WRONG, Verdict.NO_ANSWER


def verdict(completion: str, gold: str, finished: bool = True) -> Verdict:
    return verify_answer(completion, gold, finished=finished).verdict


@pytest.mark.parametrize("before", ["", LONG + "\n\n"], ids=["short", "long"])
@pytest.mark.parametrize(
    "statement",
    [
        *("Answer: 34", "ANSWER: 34.", "answer\uff1a34", "Answer = 34", "Answer - 34", "Answer \u2014 34", "Ans: 34"),
        *("Final answer: 34", "The answer is 34.", "So the answer is **34**.", "The final answer would be $34$."),
        *(
            "The answer to the problem is 34.",
            "My answer: 34",
            "This is my final answer: 34",
            "I think the answer is 34.",
        ),
        *("**Answer:** 34", "**Answer: 34**", "**Answer**: 34", "__Answer:__ 34", "`Answer: 34`", "> Answer: 34"),
        *("(Answer: 34)", "[Answer: 34]", "<b>Answer:</b> 34", '{"answer": 34}', '{"answer": "34"}', "1. Answer: 34"),
        *(
            "### Answer\n34",
            "## Final Answer\n\n**34**",
            "**Answer**\n\n$34$",
            "Answer:\n34",
            "The answer is:\n\n$$34$$",
        ),
        *(r"\text{Answer: } 34", r"\textbf{Answer}: 34", r"$\text{Answer: } 34$", r"\[\text{Answer} = 34\]"),
        *(r"$$\text{The answer is } 34$$", r"Answer: \(34\)", r"Answer: \[34\]", "The answer is\n\\[\n34\n\\]"),
        *(
            "Answer: $34",
            r"Answer: \$34",
            "Answer: 34 dollars.",
            "Answer: $34$ dollars",
            "Answer: 34 km/h",
            "Answer: 34%",
        ),
        *("Answer: 34<|im_end|>", "Answer: 34</s>", "Answer: 34, because 17*2 = 34.", "The answer is 34, not 35."),
        *("Answer: 34. Because 17*2 = 34.", "Answer: 30\nAnswer: 34", "Answer: 34\n\n(That took 5 steps.)"),
        *(
            "\u7b54\u6848\uff1a34",
            "\u6700\u7ec8\u7b54\u6848\u662f34\u3002",
            "Antwort: 34",
            "R\u00e9ponse : 34",
            "Respuesta: 34",
        ),
        *(
            "Result: 34",
            "**Final Result:** 34",
            "Result = 34",
            "Solution: x = 34",
            "Output:\n34",
            "A: 34",
            "Q: what? A: 34",
        ),
        *(
            "#### 34",
            "#### 34 dollars",
            r"Answer: \boxed{34}",
            r"\boxed{Answer: 34}",
            r"\boxed{\text{The answer is } 34}",
        ),
        *("<answer>34</answer>", "<answer>\n34\n</answer>", "<final_answer>34</final_answer>", "[ANSWER]34[/ANSWER]"),
        *(
            "<answer>30</answer> <answer>34</answer>",
            "<answer>The answer is 34</answer>",
            r"<answer>\boxed{34}</answer>",
        ),
        *("<Answer>**34**</Answer> Thank you.", r"Is it \boxed{30}? <answer>34</answer>"),
    ],
)
def test_announced(before, statement):
    """However long the text before it is; and another value than the gold is wrong."""
    assert verdict(before + statement, "34") == C
    assert verdict(before + statement, "35") == W


@pytest.mark.parametrize(
    ("completion", "gold", "expected"),
    [
        *[(text, "B", C) for text in ("Option B", "**Option B**", "choice (B).", "(B)", "B", "**B**", "Answer: **B**")],
        *[(text, "B", C) for text in ("The correct option is (B).", "Option (B) is correct.", "Answer: B) Plane")],
        *[(text, r"\text{(B)}", C) for text in ("Option B", "<answer>Option B</answer>", r"\boxed{\text{Option B}}")],
        *[(text, "C", W) for text in ("Option B", "Choice B.", "The answer is B.", "(B)", "B.", LONG + "\nOption B")],
        ("The answer is **(B) 12**.", "12", C),
        (r"\boxed{\text{(B) }12}", "12", C),
        (r"\boxed{\text{(B) }12}", "13", W),
        (r"\boxed{B}", "12", N),  # whatever option B was
        ("Option B", "12", N),
        ("A: 5\nB: 6\nC: 7", "5", N),  # a list of options
    ],
)
def test_options(completion, gold, expected):
    assert verdict(completion, gold) == expected


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        *(
            ("25%", r"25\%"),
            ("25%", "25"),
            ("-5", "-5"),
            ("\u22125", "-5"),
            ("1,234", "1234"),
            (".5", "1/2"),
            ("3:4", "3:4"),
        ),
        *(("x = 5 or x = -2", "5,-2"), ("$1$, $2$, and $3$", "1,2,3"), ("[0,1)", "[0,1)"), (r"\frac{1}{2}", "0.5")),
        *(("no solution", r"\text{no solution}"), ("East", "East"), ("Yes", "Yes"), ("There are 6 ways.", "6")),
        *(("The probability is $\\frac{1}{2}$.", "1/2"), ("2\u03c0", r"2\pi"), ("\u221e", r"\infty")),
    ],
)
def test_values(answer, gold):
    assert verdict(f"Answer: {answer}", gold) == C


@pytest.mark.parametrize("before", ["", LONG + "\n\n"], ids=["short", "long"])
@pytest.mark.parametrize(
    "text",
    [
        *(
            "The answer is twelve.",
            "Answer: twelve",
            "Answer: no solution",
            "Answer: unknown",
            "Answer: N/A",
            "Answer: ?",
        ),
        *(
            "Answer: we need to find the number 5.",
            "The final answer is obtained by adding 3 and 4.",
            "To answer: add 5",
        ),
        *("Is the answer 5?", "The answer is 5?", "If the answer is 5, then x = 3.", "The answer may be 5"),
        *(
            "The answer is 5. Wait, that is wrong.",
            "Number of ways: 5",
            "Sum: 5",
            "x: 5",
            "The result is 5.",
            "Thus x = 5.",
        ),
        *(
            "Answer: 5 (five)",
            "Answer: 2 hours and 30 minutes",
            "Answer: 5 thousand",
            "The answer is about 5.",
            "Answer: 5!",
        ),
        *(
            "I give up.",
            "It is 5 apples, I think.",
            "<answer>twelve</answer>",
            "<answer>5",
            "<answer>We get 5.</answer>",
        ),
        *(
            "<answer></answer>",
            "Step 5",
            "Answer: \\frac{1",
            "Answer: $\\frac{1",
            "Answer: $10 and $12",
            "1e5",
            "Answer:",
        ),
        *("The sum of right and wrong answers:\n\n\\[ 5c - 2i = 32 \\]\n\n" + LONG, "Result: 5. So we go on.\n" + LONG),
    ],
)
def test_a_guess_is_never_wrong(before, text):
    assert verdict(before + text, "17") == N


@pytest.mark.parametrize(
    "text",
    [
        *(
            "The answer is not 5.",
            "The answer is not 5",
            "So the answer isn't 5.",
            "The answer cannot be 5.",
            "It's not 5.",
        ),
        *(
            "I don't think the answer is 5.",
            "The answer is 34, not 5.",
            "The answer is not 5 but 34.",
            "<answer>not 5</answer>",
        ),
        *(
            "The answer is less than 5.",
            "The answer is a multiple of 5.",
            "The answer is 5. Wait, it is 34.",
            "A: 5\nA: 34",
        ),
        "Answer: 34, because 29 + 5 = 34.",
    ],
)
def test_what_is_denied_or_taken_back_is_no_answer(text):
    assert verdict(text, "5") != C


def test_what_a_cut_off_text_ends_with_may_go_on():
    assert verdict("Answer: 3", "34", finished=False) == N
    assert verdict("Answer: 34", "34", finished=False) == C
    assert verdict("Answer: 34\n", "35", finished=False) == W
    assert verdict("<answer>3", "34", finished=False) == N
    assert verdict("<answer>3</answer>", "34", finished=False) == W


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, True) for text in ("34", "x=5", r"\frac12", "$x$ and $y$", "3 square units", "(1, 2]", "B", "yes")),
        *(
            (text, False)
            for text in ("twelve", "no solution", "34 of them", "5 times 3", "so 5", "x: 5", "", "$", "5\n6")
        ),
    ],
)
def test_expressions(text, expected):
    assert is_expression(text) == expected
