"""Attempts and verifications: where each lies in a text, what is true of it, and what S2R keeps."""

from __future__ import annotations

import pytest

from redi_ray.config.self_verification import SelfVerification, SelfVerifySettings
from redi_ray.text.self_verification import kept, labelled, parts_of, put_together, spelt, truths

FORM = SelfVerification()
RECHECK, AGAIN = FORM.recheck, FORM.again


def word(text: str, right: list[bool]) -> str:
    parts = parts_of(text, FORM)
    return spelt(parts, truths(parts, right, text, FORM))


def test_parts_are_what_stands_between_the_marks():
    text = f"It is 7.{RECHECK}That is incorrect.{AGAIN}It is 8.{RECHECK}That is correct.\n"
    parts = parts_of(text, FORM)
    assert [(part.kind, text[part.start : part.end]) for part in parts] == [
        ("R", "It is 7."), ("V", "That is incorrect."), ("R", "It is 8."), ("V", "That is correct."),
    ]  # fmt: skip
    assert [part.kind for part in parts_of(f"7{RECHECK}{RECHECK}It is correct.", FORM)] == ["R", "V"]
    assert parts_of("  ", FORM) == []


def test_what_is_put_together_is_taken_apart():
    text, places = put_together(["<think>\n7", "8"], ["It is incorrect.", "It is correct."], FORM)
    assert [text[start:end] for start, end in places] == ["<think>\n7", "8"]
    assert [text[part.start : part.end] for part in parts_of(text, FORM) if part.kind == "R"] == ["<think>\n7", "8"]


def test_a_verification_is_true_of_the_attempt_before_it():
    """One that says neither counts as `wrong` in the middle and as `right` at the end; one that says both as `wrong`."""
    assert word(f"7{RECHECK}It is incorrect.{AGAIN}8{RECHECK}It is correct.", [False, True]) == "R-V+R+V+"
    assert word(f"7{RECHECK}It is correct.{AGAIN}8{RECHECK}It is incorrect.", [False, True]) == "R-V-R+V-"
    assert word(f"7{RECHECK}Hm.{AGAIN}8{RECHECK}Hm.", [False, True]) == "R-V+R+V+"
    assert word(f"7{RECHECK}It is correct, or is incorrect.", [True]) == "R+V-"


@pytest.mark.parametrize(
    ("spelling", "parts"),
    [
        ("R-V+R+V+", 4), ("R+V+R+V+", 2), ("R-V+R+V-R+V+", 6), ("R-V+R+V+R-V+", 4), ("R+V-R-V+", 2), ("R-V+R-V+", 4),
        ("R+V-R+V-", 4), ("R-V+", 2), ("R-V-" * 5, 10), ("R-V-" * 6, None), ("R+", None), ("R-V+R-", None), ("R-V+V+", None),
        ("R+V+V+", 2), ("R-R+V+", None), ("V+R+", None), ("", None), ("R-V-" * 4 + "R+V+" + "R+V+" * 3, 10),
    ],
)  # fmt: skip
def test_what_stays(spelling: str, parts: int | None):
    """S2R: up to the first right attempt that is confirmed, else to the last right one; whole where none is right."""
    assert kept(spelling) == parts


def test_labels_tell_what_s2r_counts_twice():
    assert labelled("R-V+R+V+R+V-R-V-") == [
        "R-", "V+", "R+ changed", "V+ of right", "R+", "V- of right", "R- changed", "V-",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"says_right": ["It is incorrect."]}, "says_right: 'It is incorrect.' is read as the opposite"),
        ({"says_right": ["{answer}?"]}, "says_right: '7[?]' is read as the opposite .* or as neither"),
        ({"says_wrong": ["Hm."]}, "says_wrong: 'Hm.' is read as the opposite"),
        ({"says_right": ["{result} is correct"]}, "only {answer} are filled in"),
        ({"chains": [{"wrong": 2, "attempts": 2}, {"wrong": 1, "attempts": 1}]}, "must rise"),
        ({"form": {"again": " \n"}}, "not blank"),
        ({"form": {"again": FORM.recheck}}, "two texts"),
    ],
)
def test_settings_by_which_texts_would_say_otherwise_are_refused(settings: dict, told: str):
    with pytest.raises(ValueError, match=told):
        SelfVerifySettings(**settings)
