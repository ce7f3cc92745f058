"""A model of 0.1 million parameters, trained here in seconds, that calls tools: what it should say is known.

Asked to `add` a number to itself it has the calculator do it and boxes what came back; asked to `fail` it runs Python that
raises, and says so; asked to `repeat` it calls for ever; asked to `know` a number it boxes it without a call.
"""

from __future__ import annotations

from pathlib import Path

from tiny_lines import Line, teach

from redi_ray.config.prompts import PromptSettings
from redi_ray.modeling.tokenizer import train_bpe_tokenizer
from redi_ray.text.spans import own_weights
from redi_ray.text.templates import ASSISTANT, TOOL, Message
from redi_ray.text.turns import encode_turns

PROMPT = PromptSettings(prefix="", tool_role="user")
OUTPUT = "```output\n{output}\n```"
ADDED, FAILS = "<calculator>{a}+{a}</calculator>", "```python\n1 / 0\n```"
RAISED = 'Traceback (most recent call last):\n  File "<tool>", line 1, in <module>\nZeroDivisionError: division by zero'


def talk(task: str, a: int) -> tuple[str, list[Message]]:
    """A problem, and the turns behind it."""
    said = {
        "add": [ADDED.format(a=a), str(2 * a), f"\\boxed{{{2 * a}}}"],
        "fail": [FAILS, RAISED, "\\boxed{none}"],
        "repeat": [ADDED.format(a=a), str(2 * a)] * 3 + [ADDED.format(a=a)],
        "know": [f"\\boxed{{{a}}}"],
    }[task]
    roles = [ASSISTANT, TOOL] * len(said)
    texts = [OUTPUT.format(output=text) if role == TOOL else text for role, text in zip(roles, said, strict=False)]
    return f"{task} {a}", [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]


def train_caller(folder: Path, steps: int = 120) -> str:
    """Train it and save it as a Hugging Face folder. Fails if it has not learnt its lines."""
    tasks = ("add", "fail", "repeat", "know")
    every = [(task, a) for task in tasks for a in range(1, 4)]
    texts = [problem + "".join(turn["content"] for turn in turns) for problem, turns in (talk(*one) for one in every)]
    tokenizer = train_bpe_tokenizer(texts * 20, 420)

    def line(task: str, a: int) -> Line:
        problem, turns = talk(task, a)
        encoded = encode_turns([{"role": "user", "content": problem}], turns, tokenizer, PROMPT)
        return encoded.input_ids, own_weights(encoded).tolist()

    lines = [line(*one) for one in every]
    return teach(folder, tokenizer, (lines for _ in range(steps)), learning_rate=4e-3)
