"""A model of 0.1 million parameters, trained here in seconds, that can be asked to solve and to judge.

Everything it does hangs on two words of the prompt, so that what it should say is known: asked to `solve` a problem that
names RED or BLUE it boxes that colour, asked to `check` one it finds RED correct and BLUE wrong.
"""

from __future__ import annotations

import random
from pathlib import Path

from tiny_lines import Line, teach

from redi_ray.modeling.tokenizer import train_bpe_tokenizer

COLOURS = ("RED", "BLUE")
SOLVED = "<think>\nI see {colour}.\n</think>\n\\boxed{{{colour}}}"
JUDGED = {"RED": "Fine.\nVERDICT: CORRECT", "BLUE": "Not so.\nVERDICT: WRONG"}
JUDGE_PROMPT = "check: {problem} is {answer}?\n{extracted_answer}"


def problem(colour: str, number: int) -> str:
    return f"case {number}: {colour}"


def talk(task: str, colour: str, generator: random.Random) -> tuple[str, str]:
    """A prompt as the tests make them, and what is said to it."""
    text = problem(colour, generator.randrange(100))
    if task == "solve":
        return f"solve {text}", SOLVED.format(colour=colour)
    mark = f"{generator.getrandbits(48):012x}"
    seen = f"----- begin {mark} -----\n{colour}\n----- end {mark} -----"
    return JUDGE_PROMPT.format(problem=text, answer=colour, extracted_answer=seen), JUDGED[colour]


def train_talker(folder: Path, steps: int = 150) -> str:
    """Train it and save it as a Hugging Face folder. Fails if it has not learnt its lines."""
    generator = random.Random(0)
    tasks = [(task, colour) for task in ("solve", "check") for colour in COLOURS] * 2
    tokenizer = train_bpe_tokenizer(["".join(talk(*task, generator)) for task in tasks * 20], 420)

    def line(task: str, colour: str) -> Line:
        prompt, said = talk(task, colour, generator)
        chat = [{"role": "user", "content": prompt}]
        opened = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids, own = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (opened, said))
        return [*ids, *own, tokenizer.eos_token_id], [0.0] * len(ids) + [1.0] * (len(own) + 1)

    return teach(folder, tokenizer, ([line(*task) for task in tasks] for _ in range(steps)), learning_rate=3e-3)
