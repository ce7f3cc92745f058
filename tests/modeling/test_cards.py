"""A card is read by the hub, by people who copy its lines, and never taken for a part of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from tiny_models import tiny_policy

from redi_ray.modeling.cards import CARD, Asked, Card, Score, is_written_here, render_card
from redi_ray.modeling.export import export_policy
from redi_ray.modeling.tokenizer import character_tokenizer, content_of_model

TOKENIZER = character_tokenizer("0123456789+-*= ")

FULL = Card(
    name="run: redi",
    model_type="qwen2",
    facts={"run": "a | b\nc"},
    history=["`base` (base); Qwen/Qwen2.5-0.5B"],
    scores=[Score("math500", 0.8125, (0.75, 0.875), 500, 4)],
    tags=["redi"],
    base_model="Qwen/Qwen2.5-0.5B",
    datasets=["open-r1/OpenR1-Math-Raw"],
    licence="apache-2.0",
    licences={"the base model": "apache-2.0", "problems": "unknown"},
    versions={"redi_ray": "0.1.0", "commit": "abc"},
)


def test_the_hub_reads_names_scores_and_licence():
    card = ModelCard(render_card(FULL))
    data = card.data.to_dict()
    assert (data["base_model"], data["license"], data["datasets"]) == (
        "Qwen/Qwen2.5-0.5B", "apache-2.0", ["open-r1/OpenR1-Math-Raw"],
    )  # fmt: skip
    assert (data["pipeline_tag"], data["tags"]) == ("text-generation", ["redi_ray", "reasoning", "qwen2", "redi"])
    (result,) = card.data.eval_results
    assert (result.dataset_name, result.metric_type, result.metric_value) == ("math500", "pass@1", 81.25)
    assert "| run | a \\| b c |" in card.text  # a value stays in its cell
    assert "| math500 | 81.2 | 75.0 to 87.5 | 500 x 4 |" in card.text
    unknown = ModelCard(render_card(Card("x", "llama", is_reward=True))).data.to_dict()
    assert "license" not in unknown
    assert unknown["pipeline_tag"] == "text-classification"


def test_the_lines_to_copy_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    export_policy(tiny_policy(True, torch.float32), tmp_path / "export", tokenizer=TOKENIZER)
    messages = [{"role": "user", "content": 'it\'s "2"?'}]
    asked = Asked(messages, prefix="<think>\n", template_args={"deep": True}, temperature=0.0, max_tokens=3)
    code = render_card(Card("x", "qwen2", asked=asked)).split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {"MODEL": str(tmp_path / "export")}
    exec(compile(code, "card", "exec"), names)
    there = TOKENIZER.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + "<think>\n"
    assert names["prompt"] == there
    assert 1 <= names["tokens"].shape[1] - names["inputs"]["input_ids"].shape[1] <= 3
    assert capsys.readouterr().out.startswith("<|user|>")


def test_what_tells_of_a_model_is_no_part_of_it(tmp_path: Path):
    """A card is written again when scores come in, a README or a licence added: whoever starts from the folder must not do so
    anew. What decides its output counts."""
    folder = tmp_path / "export"
    export_policy(tiny_policy(True, torch.float32), folder, tokenizer=TOKENIZER, name="x")
    assert is_written_here((folder / CARD).read_text())
    before = content_of_model(str(folder))
    for name in (CARD, "NOTES.md", "LICENSE", "LICENSE.txt", ".gitattributes", "assets/curve.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
        assert content_of_model(str(folder)) == before, name
    (folder / CARD).unlink()
    assert content_of_model(str(folder)) == before
    found = [before]
    for name in ("modeling_mine.py", "generation_config.json", "chat_template.jinja", "tokenizer.json", "merges.txt"):
        (folder / name).write_text("other")
        found.append(content_of_model(str(folder)))
    assert len(set(found)) == len(found)
