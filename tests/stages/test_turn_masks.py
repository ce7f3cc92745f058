"""Conversations with tools under the templates of three families, for four objectives: the model's own turns count, what closes
them too; a tool's and a user's words never do, nor the headers of turns.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from array_scores import Arrays, group, member
from tiny_families import FAMILIES, family

from redi_ray.config.data import FileSet
from redi_ray.config.imports import ImportSettings
from redi_ray.config.objectives import DpoObjective, KtoObjective, RediObjective, SftObjective
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.sources.import_sets import _import_rows
from redi_ray.store import parquet, storage
from redi_ray.text.tokens import plain_ids

TOOL = ("tool", "```output\n42 model assistant\n```")
ROWS = [
    group(
        "a",
        member("12 + 30:\n```python\nprint(12 + 30)\n```", TOOL, "So 42", ("user", "sure?"), "yes, 42", side=1),
        member("is 41", ("user", "and?"), "41", side=-1),
        asks="12 + 30?",
    ),
    group("b", member("13", side=1), member("print(7)", TOOL, TOOL, "7", side=-1), asks="6 + 7?"),
]
PROMPTS = {
    "qwen2.5": PromptSettings(prefix=""),
    "llama3": PromptSettings(prefix=""),
    "gemma": PromptSettings(prefix="", tool_role="user"),  # which knows no tools
}


def logps(token: int) -> tuple[float, float]:
    """Of policy and reference, made up."""
    return -(token % 7 + 1) / 10, -(token % 5 + 1) / 10


def by_hand(name: str) -> list[tuple[float, float, int, int]]:
    """Sum of log-probs and of log-ratios, number of tokens and side of every member, of the texts of its own turns alone."""
    tokenizer = family(name)
    end = tokenizer.convert_tokens_to_ids(FAMILIES[name][3])
    found = []
    for one in (one for row in ROWS for one in row["members"]):
        own = [turn["content"] for turn in one["turns"] if turn["role"] == "assistant"]
        pairs = [logps(token) for text in own for token in [*plain_ids(text, tokenizer), end]]
        found.append((sum(lp for lp, _ in pairs), sum(lp - ref for lp, ref in pairs), len(pairs), one["side"]))
    return found


def expected(name: str) -> dict[str, float]:
    """The four losses as their papers write them, over two pairs, or four answers."""
    told = by_hand(name)
    chosen, rejected = [one for one in told if one[3] > 0], [one for one in told if one[3] < 0]
    z = max(0.0, sum(ratio for _, ratio, _, _ in told) / len(told))
    terms = [1 - 1 / (1 + math.exp(-0.1 * side * (ratio - z))) for _, ratio, _, side in told]
    margins = [right[1] - wrong[1] for right, wrong in zip(chosen, rejected, strict=True)]
    means = [-right[0] / right[2] + 0.8 * wrong[0] / wrong[2] for right, wrong in zip(chosen, rejected, strict=True)]
    return {
        "dpo": sum(math.log1p(math.exp(-0.1 * margin)) for margin in margins) / 2,
        "redi": sum(means) / 2,
        "kto": sum(terms) / 4,
        "sft": -sum(one[0] for one in chosen) / sum(one[2] for one in chosen),
    }


OBJECTIVES: list[tuple[Any, Any]] = [
    (DpoObjective(beta=0.1), "pairs"),
    (RediObjective(alpha=0.8), "pairs"),
    (KtoObjective(beta=0.1), "groups"),
    (SftObjective(normalization="token_mean"), "examples"),
]


@pytest.mark.parametrize("name", PROMPTS)
def test_own_turns_alone_make_the_loss(tmp_path: Path, name: str):
    """Of chats of several turns, in which a tool, too, writes the names of roles."""
    arrays = Arrays(ROWS, tmp_path, family(name), logps, prompt=PROMPTS[name])
    end = FAMILIES[name][3]
    own = [
        "".join(f"{turn['content']}{end}" for turn in one["turns"] if turn["role"] == "assistant")
        for row in ROWS
        for one in row["members"]
    ]
    assert arrays.scored("pairs") == own
    wanted = expected(name)
    for objective, kind in OBJECTIVES:
        found, slopes = arrays.evaluate(objective, kind)
        assert found == pytest.approx(wanted[objective.name], abs=1e-12), objective.name
        assert all(slopes)


def test_of_real_dialogues_the_assistants_turns_are_learnt_and_nothing_else(tmp_path: Path, real_set: Any):
    """Dialogues of seen topics, imported and tokenised: what is scored, decoded, is every answer with what closes it, in turn."""
    file = tmp_path / "dialogues.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in real_set("mtbench101_dialogues")[::12]))
    settings = ImportSettings(
        source=FileSet(paths=[str(file)]), shape="sft", split={"by": "topic", "held_out": ["AR", "IC", "SI"]}
    )
    _import_rows(settings, PROMPTS["qwen2.5"], str(tmp_path / "imported"), "steps.x")
    (table,) = parquet.read_tables(storage.list_files(str(tmp_path / "imported" / "groups")))
    rows = sorted(table.to_pylist(), key=lambda row: row["group_id"])  # the order of training
    assert sum(len(row["members"][0]["turns"]) > 1 for row in rows) > 60
    end = FAMILIES["qwen2.5"][3]
    said = [
        "".join(f"{turn['content']}{end}" for turn in row["members"][0]["turns"] if turn["role"] == "assistant")
        for row in rows
    ]
    assert Arrays(rows, tmp_path, family("qwen2.5"), logps, prompt=PROMPTS["qwen2.5"]).scored("examples") == said
