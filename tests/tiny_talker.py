"""A model of 0.1 million parameters, trained here in seconds, that can be asked to solve and to judge.

Everything it does hangs on two words of the prompt, so that what it should say is known: asked to `solve` a problem that
names RED or BLUE it boxes that colour, asked to `check` one it finds RED correct and BLUE wrong.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM

from redi_ray.config.student import Architecture
from redi_ray.modeling.scratch import save_scratch_model
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
    save_scratch_model(Architecture(hidden_size=64, num_layers=2, num_heads=2, num_kv_heads=2), tokenizer, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        batch, prompts = [], []
        for prompt, said in (talk(*task, generator) for task in tasks):
            chat = [{"role": "user", "content": prompt}]
            opened = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (opened, said)]
            batch.append(torch.tensor([*ids[0], *ids[1], tokenizer.eos_token_id]))
            prompts.append(len(ids[0]))
        ids = pad_sequence(batch, batch_first=True, padding_value=tokenizer.pad_token_id)
        labels = ids.clone()
        labels[ids == tokenizer.pad_token_id] = -100
        for row, length in enumerate(prompts):
            labels[row, :length] = -100
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02, f"it has not learnt its lines: loss {loss.item():.3f}"
    model.save_pretrained(folder)
    return str(folder)
