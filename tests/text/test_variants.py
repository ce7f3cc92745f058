"""Variants of problems in words: each keeps what decides the answer, and each check refuses what a careless maker would do."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pydantic import ValidationError

from redi_ray.config.perturb import Distractor, Names, Numbers, Order, PerturbSettings, Units
from redi_ray.text.number_words import in_words, numbers_in
from redi_ray.text.perturbations import PERTURBATIONS
from redi_ray.text.sentences import sentences
from redi_ray.text.variants import NotPerturbed, Problem, origin_of, variant_id

EGGS = (
    "Janet's ducks lay 16 eggs per day. She eats three for breakfast. Mr. Bean buys 12 for 2 hours of work at $1.50 each. "
    "How many eggs does Janet sell every day?"
)
FACTS = "Ham is 40 calories per ounce. Cheese is 120 calories per ounce. How many calories has a sandwich of an ounce of each?"


def made(name: str, text: str, settings: Any, answer: str = "1", seed: int = 0) -> str:
    problem = Problem(text, answer)
    variant = PERTURBATIONS[name].make(problem, random.Random(seed), settings)
    assert PERTURBATIONS[name].check(problem, variant) is None
    return variant


def reason(name: str, text: str, variant: str, answer: str = "1") -> str | None:
    return PERTURBATIONS[name].check(Problem(text, answer), variant)


def test_ids_tell_the_original() -> None:
    assert origin_of(variant_id("a~b#1", "names")) == ("a~b#1", "names")
    assert origin_of("train-7") is None


def test_sentences_end_where_they_do() -> None:
    assert [one[:9] for one in sentences(EGGS)] == ["Janet's d", "She eats ", "Mr. Bean ", "How many "]
    assert len(sentences(r"If \[x. Y = 3.\] holds. What is $x. Y$?")) == 2, "formulas are whole"


def test_a_distractor_stands_before_the_question_and_is_about_other_things() -> None:
    found = {made("distractor", EGGS, Distractor(), seed=seed) for seed in range(9)}
    assert len(found) > 4
    for variant in found:
        parts = sentences(variant)
        assert parts[:3] + parts[4:] == sentences(EGGS)
    taken = Distractor(sentences=["Two ducks swim by."])
    with pytest.raises(NotPerturbed, match="no_foreign_sentence"):
        made("distractor", EGGS, taken)
    assert reason("distractor", EGGS, EGGS.replace("How", "Her ducks lay 3 more. How")) == "not_foreign"
    assert reason("distractor", EGGS, EGGS.replace("three", "four")) == "other_sentences_changed"
    assert reason("distractor", EGGS, EGGS + " It rained.") == "other_sentences_changed", (
        "the question is no longer last"
    )


def test_names_change_alike_everywhere() -> None:
    variant = made("names", EGGS, Names())
    name = variant.split("'")[0]
    assert name != "Janet"
    assert variant.replace(name, "Janet") == EGGS
    with pytest.raises(NotPerturbed, match="no_name"):
        made("names", FACTS, Names())
    with pytest.raises(NotPerturbed, match="answer_names_somebody"):
        made("names", "Tom is taller than Bob. Who is taller?", Names(), answer="Tom")
    assert reason("names", EGGS, EGGS.replace("Janet", "Linda", 1)) == "names_mixed_up"
    assert reason("names", EGGS, EGGS.replace("Janet", "Tom")) == "names_mixed_up", "she"
    assert reason("names", "Tom has 1. Bob has 2.", "Ken has 1. Ken has 2.") == "names_mixed_up"
    assert reason("names", EGGS, EGGS.replace("16", "17").replace("Janet", "Linda")) == "names_mixed_up"


def test_only_facts_that_lean_on_nothing_change_places() -> None:
    variant = made("order", FACTS, Order())
    assert sentences(variant) == [sentences(FACTS)[place] for place in (1, 0, 2)]
    for leaning in (
        "Tom has 3 cats. He buys 2 more. How many cats has Tom?",
        "A shelf holds 3 books. Then 2 books fall. How many are left?",
        "Tom has 5 cats. The cats have 4 legs. How many legs are there?",
        "Compute 2 plus 3. Express 5 in words. What is it?",
    ):
        with pytest.raises(NotPerturbed, match="no_independent_facts"):
            made("order", leaning, Order())
    assert reason("order", FACTS, FACTS.replace("40", "120", 1)) == "other_sentences_changed"
    assert reason("order", FACTS, " ".join(sentences(FACTS)[::-1])) == "other_sentences_changed"


def test_numbers_are_read_as_the_same_ones() -> None:
    assert all(numbers_in(in_words(number)) == [str(number)] for number in range(1000))
    assert numbers_in("Three cats eat 1,500 g in twenty-one days, .5 a day") == ["3", "1500", "21", "1/2"]
    variant = made("numbers", EGGS, Numbers())
    assert "lay sixteen eggs" in variant
    assert "$1.50" in variant
    assert (
        made("numbers", "It costs 12345 euros in 1999. How much?", Numbers())
        == "It costs 12,345 euros in 1999. How much?"
    )
    assert made("numbers", "5 cats. Of 1,000 how many?", Numbers()) == "Five cats. Of 1000 how many?"
    for kept in ("Take 3/4 of $x_2 = 5$ in 12:30, 20% of it.", "What is 2 + 3 * 5?", "The 3rd of 0.5 and x=4."):
        with pytest.raises(NotPerturbed, match="no_number_in_prose"):
            made("numbers", kept, Numbers())
    joined = "Scores of 100 and 86 are added. What is the sum?"
    read_as = PERTURBATIONS["numbers"].make(Problem(joined, "186"), random.Random(0), Numbers())
    assert reason("numbers", joined, read_as) == "numbers_changed", "one hundred and eighty-six"


def test_quantities_are_as_large_as_they_were() -> None:
    assert "for 120 minutes of" in made("units", EGGS, Units())
    text = "A rope of 2.5 meters is cut into 1 meter and the rest. How many centimeters is the rest?"
    assert made("units", text, Units()).startswith("A rope of 250 centimeters is cut into 100 centimeters and")
    for kept, why in (
        ("A rope of 2 meters loses 1 meter. How long is it?", "asks_in_no_unit"),
        ("He works 3 hours a day and 5 hours per week. How many days is that?", "no_quantity"),
        ("He works for 3 days. How many meals is that?", "no_quantity"),
        ("He changes 20 pounds sterling. How many dollars does he get?", "no_quantity"),
    ):
        with pytest.raises(NotPerturbed, match=why):
            made("units", kept, Units())
    assert reason("units", text, text.replace("2.5 meters", "25 centimeters")) == "quantities_changed"
    assert reason("units", text, text.replace("cut", "torn")) == "words_changed"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "no perturbation is on"),
        ({"names": {}, "imported": {"paths": ["x"]}}, "are as they are; leave out names"),
        ({"imported": {"paths": ["x"]}, "part": "dev"}, "bring their own"),
        ({"distractor": {"sentences": ["Is it {n}?"]}}, "must end with a full stop"),
        ({"distractor": {"sentences": ["It is {x}."]}}, "only {n} is filled in"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        PerturbSettings(**settings)
