"""A problem that is the last question of a dialogue: asked with what went before, shown as speech; other texts are themselves."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from redi_ray.config.prompts import PromptSettings
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.text.dialogue import as_problem, dialogue_of, spoken
from redi_ray.text.prompts import render_prompt, to_messages


def said(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def test_real_dialogues_come_back_as_they_were(test_data: Path) -> None:
    """The last question of each of 1,388, of which two go before on the average, whatever quotes and braces they hold."""
    before = 0
    with gzip.open(test_data / "steps_turns_rewards/mtbench101_dialogues.jsonl.gz", "rt") as file:
        for row in map(json.loads, file):
            asked = [{"role": turn["role"], "content": turn["content"]} for turn in row["messages"][:-1]]
            problem = as_problem(asked)
            assert dialogue_of(problem) == asked
            settings = PromptSettings(template="Q: {problem}", system="Think.")
            first, *history, last = to_messages(problem, settings)
            assert (first["role"], history, last["content"]) == ("system", asked[:-1], f"Q: {asked[-1]['content']}")
            assert all(turn["content"] in spoken(problem) for turn in asked)
            before += len(history) // 2
    assert before == 4208 - 1388


@pytest.mark.parametrize(
    "text",
    [
        "What is 1 + 1?", '[{"role": "user", "content": "a"}]', '[{"role": "user", "content": "a', "[1, 2]", "",
        json.dumps(said("a", "b")), json.dumps([*said("a", "b"), {"role": "tool", "content": "c"}]),
        '[{"role": "user", "content": "a"}, 1, 2]',
    ],
)  # fmt: skip
def test_other_texts_are_themselves(text: str) -> None:
    assert dialogue_of(text) == said(text)
    assert (spoken(text), as_problem(said(text))) == (text, text)


def test_the_model_sees_what_went_before() -> None:
    tokenizer = character_tokenizer("abcqt<>hink/\n ")
    settings = PromptSettings(prefix="<think>")
    whole = render_prompt(to_messages(as_problem(said("a", "b", "c")), settings), tokenizer, settings)
    assert whole.index("a") < whole.index("b") < whole.rindex("c")
    assert whole.endswith(render_prompt(to_messages("c", settings), tokenizer, settings))
    for turns in (said("a", "b"), said("a") * 2, said("a", "b", "c")[1:], []):
        with pytest.raises(ValueError, match="between each two"):
            as_problem(turns)
