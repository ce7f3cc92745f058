"""A column of rewards: what transformers' own class says of each sample's text, whoever lies in its pack; a step's number is what
it says of the text up to the step's end. Killed behind a shard, the rest is the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from curation_runs import Rows, trace
from transformers import AutoModelForSequenceClassification

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.reward_objectives import OutcomeBceObjective
from redi_ray.config.scorers import RewardScorer
from redi_ray.config.student import Architecture
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.data.columns import check_grain
from redi_ray.data.curate.work import Drops
from redi_ray.errors import UserError
from redi_ray.modeling.export import export_policy
from redi_ray.modeling.rewards import load_reward_policy, record_values
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import character_tokenizer, load_tokenizer
from redi_ray.schemas import VERIFIED_TRACE
from redi_ray.stages.rewards import Rewarding, RewardShard, reward_samples
from redi_ray.store import parquet
from redi_ray.text.prompts import to_messages
from redi_ray.text.turns import encode_turns

PROMPT = PromptSettings(prefix="<think>\n")
TURNS = [
    {"role": "assistant", "content": "<think>\n12"},
    {"role": "user", "content": "3"},
    {"role": "assistant", "content": "<think>\n4+4=8\n8+1=9"},
]
SHARDS: list[Rows] = [
    [trace("p", n, "wrong" if n % 2 else "correct", f"<think>\n{n}+{n}=1\n1+1=2\n</think>{n}") for n in range(5)],
    [
        trace("q", 0, "wrong", "<think>\n4", turns=TURNS),
        trace("q", 1, "wrong", "<think>\n12=12=", finish_reason="length"),
        trace("q", 2, "wrong", "no thought"),
        trace("q", 3, "wrong", "<think>\n" + "1+1=" * 40),
        trace("q", 4, "correct", "1+1=2\n2+2=4</think>4"),
    ],
]  # fmt: skip
NAMES = ["round-000/part-0.parquet", "round-000/part-1.parquet"]


def export(root: Path, link: str, at_last: bool) -> str:
    folder = root / f"{link}-{at_last}"
    tokenizer = character_tokenizer("0123456789+=\n")
    torch.manual_seed(0)
    shape = Architecture(hidden_size=32, num_layers=1, num_heads=2, num_kv_heads=2, max_position_embeddings=128)
    save_scratch_model(shape, tokenizer, root / "start")
    policy = load_reward_policy(str(root / "start"), ModelOverrides(), OutcomeBceObjective(head_init="normal"))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    record_values(policy.model.config, "made_up", link, at_last)
    export_policy(policy, folder, tokenizer=tokenizer)
    return str(folder)


@pytest.fixture(scope="module")
def how(tmp_path_factory: pytest.TempPathFactory) -> Rewarding:
    root = tmp_path_factory.mktemp("rewards")
    for name, rows in zip(NAMES, SHARDS, strict=True):
        parquet.write_table(f"{root}/in/{name}", pa.Table.from_pylist(rows, schema=VERIFIED_TRACE))
    scorer = RewardScorer(name="reward", model="rm")
    train = TrainSettings(tokens_per_pack=64)
    model = export(root, "identity", True)
    return Rewarding(f"{root}/in", f"{root}/out", model, scorer, PROMPT, ModelOverrides(), train)


def said(how: Rewarding, row: dict, upto: str | None = None, mean: bool = False) -> float:
    """What the class says of a sample's text alone, or of its text cut off behind `upto`."""
    tokenizer = load_tokenizer(how.model)
    turns = row.get("turns") or [{"role": "assistant", "content": row["completion"]}]
    turns = [{**turn, "content": turn["content"]} for turn in turns]
    if not turns[-1]["content"].startswith("<think>"):
        turns[-1]["content"] = "<think>\n" + turns[-1]["content"]
    if upto is not None:
        turns[-1]["content"] = turns[-1]["content"][: turns[-1]["content"].index(upto) + len(upto)]
    whole = row.get("finish_reason") != "length" and upto is None
    encoded = encode_turns(to_messages(row["problem"], PROMPT), turns, tokenizer, PROMPT, finished=whole)
    model = AutoModelForSequenceClassification.from_pretrained(how.model).eval()
    own = [t for turn in encoded.own for t in range(turn.start, turn.stop)]
    with torch.no_grad():
        values = [
            model(torch.tensor([encoded.input_ids[: end + 1]])).logits.item() for end in (own if mean else own[-1:])
        ]
    return float(np.mean(values))


def scored(how: Rewarding) -> list[dict]:
    rows = [row for name in NAMES for part in parquet.read_batches(f"{how.samples}/{name}") for row in part.to_pylist()]
    counts = Counter[str]()
    found = RewardShard(how).values(rows, counts, Drops())
    assert counts["in"] == 10
    assert counts["in"] == counts["scored"] + counts["not_encodable"] + counts["too_long_for_the_models"]
    return found


def test_a_sample_has_the_value_of_its_text(how: Rewarding) -> None:
    """Turns, a text that was cut off, one whose thought is opened for it; null for what cannot be read."""
    values = [row["value"] for row in scored(how)]
    rows = [row for shard in SHARDS for row in shard]
    assert [row["trace_id"] for row, value in zip(rows, values, strict=True) if value is None] == ["q#2", "q#3"]
    for row, value in zip(rows, values, strict=True):
        if value is not None:
            assert value == pytest.approx(said(how, row), abs=1e-4)
    loose = replace(how, train=TrainSettings(tokens_per_pack=10_000))
    assert [row["value"] for row in scored(loose)] == pytest.approx(values, abs=1e-5, nan_ok=True)


def test_a_step_has_the_value_of_the_text_up_to_its_end(how: Rewarding) -> None:
    folder = export(Path(how.out_uri).parent, "sigmoid", True)
    steps = replace(how, model=folder, settings=RewardScorer(name="reward", model="rm", at="steps", form="equations"))
    spans = [row["spans"] for row in scored(steps)]
    several = spans[5]
    assert [(span["turn"], span["start"], span["end"]) for span in several] == [(2, 0, 14), (2, 14, 19)]
    row = SHARDS[1][0]
    for span, upto in zip(several, ("4+4=8\n", "8+1=9"), strict=True):
        expected = 1 / (1 + np.exp(-said(steps, row, upto)))
        assert span["value"] == pytest.approx(expected, abs=1e-4)
        assert span["label"] == ("right" if expected >= 0.5 else "wrong")
    mended = spans[9]
    assert [(span["start"], span["end"]) for span in mended] == [(0, 6), (6, 20)], "in the text as it is stored"
    assert mended[0]["value"] == pytest.approx(1 / (1 + np.exp(-said(steps, SHARDS[1][4], "1+1=2\n"))), abs=1e-4)
    assert spans[7] is None
    plain = replace(steps, model=how.model)
    assert {span["label"] for span in scored(plain)[5]["spans"]} == {None}, (
        "of a number that is no chance a half says nothing"
    )
    worst = replace(steps, settings=RewardScorer(name="reward", model="rm", at="worst_step", form="equations"))
    expected = [None if of is None else min(span["value"] for span in of) for of in spans]
    assert [row["value"] for row in scored(worst)] == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_what_was_trained_on_the_mean_is_read_as_the_mean(how: Rewarding) -> None:
    mean = replace(how, model=export(Path(how.out_uri).parent, "identity", False))
    value = scored(mean)[0]["value"]
    assert value == pytest.approx(said(mean, SHARDS[0][0], mean=True), abs=1e-4)
    tokens = replace(mean, settings=RewardScorer(name="reward", model="rm", at="tokens"))
    assert np.mean(scored(tokens)[0]["values"]) == pytest.approx(value, abs=1e-6)


@pytest.mark.slow
def test_the_column_on_ray(ray_session: None, how: Rewarding) -> None:
    counts = reward_samples(NAMES, how, TrainerSettings())
    assert (counts["in"], counts["scored"]) == (10, 8)
    first, second = (Path(how.out_uri) / "column" / name for name in NAMES)
    check_grain(str(first), "row")
    before, untouched = second.read_bytes(), first.stat().st_mtime_ns
    second.write_bytes(b"cut off")
    (Path(how.out_uri) / "work" / f"{NAMES[1]}.json").unlink()
    assert reward_samples(NAMES, how, TrainerSettings()) == counts
    assert second.read_bytes() == before
    assert first.stat().st_mtime_ns == untouched


def test_a_language_model_is_no_reward_model(how: Rewarding) -> None:
    headless = replace(how, model=str(Path(how.out_uri).parent / "start"))
    with pytest.raises(UserError, match="language model and no reward model"):
        RewardShard(headless)
