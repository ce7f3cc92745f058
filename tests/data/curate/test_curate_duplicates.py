"""Of equal problems one stays; problems that only look alike all stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curation_runs import curate_here, reasons, solved, trace

from redi_ray.data.curate.duplicates import candidate_pairs, jaccard, lsh_shape
from redi_ray.data.curate.work import order_key

ROPE = "A rope of 30 meters is cut into 5 equal pieces, and 2 of them are sold. How many meters are left?"
SAME = [
    ROPE,
    "A rope of $30$ meters is cut into $5$ equal pieces and $2$ of them are sold... how many meters are left",
    "a ROPE of 30 meters is cut into 5 equal pieces; and 2 of them are sold: how many meters are left?!",
]
NEAR = [
    ROPE.replace("sold", "lost"),
    ROPE.replace("pieces, and", "pieces -- and"),
    "How many meters are left? A rope of 30 meters is cut into 5 equal pieces, and 2 of them are sold.",
]
DIFFERENT = [
    ROPE.replace("30", "40"),
    ROPE.replace("2 of", "3 of"),
    "A train of 30 wagons needs 5 hours for 2 trips. How many hours does one of them take?",
]


def kept(tmp_path: Path, tokenizer: str, texts: list[str], **duplicates: Any) -> tuple[list[str], dict[str, str]]:
    """Texts that stay, and why the others went."""
    counts, tables = curate_here(tmp_path, tokenizer, solved(texts), duplicates=duplicates)
    gone = reasons(tables)
    assert counts.positives + sum(counts.dropped.values()) == len(texts)
    return [text for number, text in enumerate(texts) if f"p{number}" not in gone], gone


def test_typing_makes_no_other_problem(tmp_path: Path, bpe_tokenizer: str):
    stayed, gone = kept(tmp_path, bpe_tokenizer, [*SAME, *DIFFERENT], near=None)
    assert len([text for text in stayed if text in SAME]) == 1
    assert set(DIFFERENT) <= set(stayed)
    assert set(gone.values()) == {"duplicate"}


def test_the_smallest_key_stays_and_the_others_name_it(tmp_path: Path, bpe_tokenizer: str):
    _, tables = curate_here(tmp_path, bpe_tokenizer, solved(SAME), duplicates={}, seed=7)
    first = min((f"p{number}" for number in range(3)), key=lambda name: order_key(7, name))
    assert [row["problem_id"] for row in tables["examples"]] == [first]
    assert {row["detail"] for row in tables["dropped"]} == {f"of {first}"}


def test_edited_copies_go_and_other_numbers_stay(tmp_path: Path, bpe_tokenizer: str):
    stayed, gone = kept(tmp_path, bpe_tokenizer, [ROPE, *NEAR, *DIFFERENT], exact=False)
    assert len([text for text in stayed if text in (ROPE, *NEAR)]) == 1
    assert set(DIFFERENT) <= set(stayed)
    assert list(gone.values()) == ["near_duplicate"] * 3


def test_words_alone_on_request(tmp_path: Path, bpe_tokenizer: str):
    """Without `same_formulas` another number is just one more word."""
    stayed, _ = kept(tmp_path, bpe_tokenizer, [ROPE, DIFFERENT[0]], near={"same_formulas": False})
    assert len(stayed) == 1


def test_contradicting_answers_make_two_problems(tmp_path: Path, bpe_tokenizer: str):
    """`least` and `largest` are one word apart; spellings of one number contradict nothing."""
    texts = [
        "Find the least integer that lies between 3 and 7 exclusive.",
        "Find the largest integer that lies between 3 and 7 exclusive.",
    ]
    for answers, left in ((("4", "6"), 2), ((r"\frac{8}{2}", "$4$"), 1), (("4", "unknown"), 1)):
        rows = [
            trace(f"p{n}", 0, "correct", problem=text, answer=answer)
            for n, (text, answer) in enumerate(zip(texts, answers, strict=True))
        ]  # fmt: skip
        counts, _ = curate_here(tmp_path / answers[1].strip("$"), bpe_tokenizer, rows, duplicates={})
        assert counts.positives == left


def test_an_unsolved_copy_displaces_no_solved_one(tmp_path: Path, bpe_tokenizer: str):
    """Whichever of the two has the smaller key."""
    for number, verdicts in enumerate((("correct", "wrong"), ("wrong", "correct"))):
        rows = [trace(f"p{n}", 0, verdict, problem=ROPE) for n, verdict in enumerate(verdicts)]
        counts, _ = curate_here(tmp_path / str(number), bpe_tokenizer, rows, duplicates={})
        assert counts.dropped == {"no_correct_trace": 1}


def test_near_problems_form_groups_of_which_one_stays(tmp_path: Path, bpe_tokenizer: str):
    """Each text is near to the next, the first is not near to the last; another chain and a lone text are left alone."""
    words = [[f"{letter}ord{chr(97 + n)}" for n in range(20)] for letter in "wl"]
    texts = [" ".join(some[shift : shift + 12]) for some in words for shift in (0, 3, 6)]
    _, tables = curate_here(tmp_path, bpe_tokenizer, solved([*texts, ROPE]), duplicates={})
    assert set(reasons(tables).values()) == {"near_duplicate"}
    for chain in (range(3), range(3, 6)):
        first = min((f"p{n}" for n in chain), key=lambda name: order_key(42, name))
        told = {row["problem_id"]: row["detail"].partition(",")[0] for row in tables["dropped"]}
        assert {name: told.get(name) for name in (f"p{n}" for n in chain)} == {
            f"p{n}": None if f"p{n}" == first else f"of {first}" for n in chain
        }
    assert "p6" in {row["problem_id"] for row in tables["examples"]}


@pytest.mark.parametrize("threshold", [0.4, 0.55, 0.7, 0.9])
def test_hardly_a_pair_at_the_threshold_is_no_candidate(threshold: float):
    """The probability that a pair of exactly this similarity agrees in no band."""
    bands, rows = lsh_shape(threshold, 128)
    assert bands * rows <= 128
    assert (1 - threshold**rows) ** bands < 0.03


def test_candidates_and_similarity_by_hand():
    bands = np.array([[1, 9], [2, 8], [1, 8], [3, 7]], np.uint64)
    assert sorted(candidate_pairs(bands)) == [(0, 2), (1, 2)]
    assert jaccard(np.array([1, 2, 3], np.uint32), np.array([2, 3, 4], np.uint32)) == 0.5
