"""Token columns of models on Ray: two in contrast, and the log-probs of one, of each sample, turns and cut-off samples too; a
shard that an earlier attempt has left half done is made again, the same."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from curation_runs import Rows, trace
from transformers import AutoModelForCausalLM

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.student import Architecture
from redi_ray.config.token_steps import ContrastSettings, LogpsSettings
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.data.columns import beside, check_grain
from redi_ray.errors import UserError
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import character_tokenizer, load_tokenizer, tokenizer_fingerprints
from redi_ray.schemas import VERIFIED_TRACE
from redi_ray.stages.token_scoring import READ, TokenScoring, score_samples_tokens
from redi_ray.store import parquet
from redi_ray.text.prompts import to_messages
from redi_ray.text.turns import encode_turns
from redi_ray.train.fingerprints import model_fingerprint

PROMPT = PromptSettings(prefix="<think>\n")
TURNS = [
    {"role": "assistant", "content": "<think>\n12"},
    {"role": "user", "content": "3"},
    {"role": "assistant", "content": "<think>\n4"},
]
SHARDS: list[Rows] = [
    [trace("p", n, "wrong" if n % 2 else "correct", f"<think>\n{n}+{n}={n}</think>{n}") for n in range(5)],
    [
        trace("q", 0, "wrong", "<think>\n4", turns=TURNS),
        trace("q", 1, "wrong", "<think>\n12=12=", finish_reason="length"),
        trace("q", 2, "wrong", "no thought"),
        trace("q", 3, "wrong", "<think>\n" + "1+1=" * 40),
    ],
]  # fmt: skip
NAMES = ["round-000/part-0.parquet", "round-000/part-1.parquet"]


def tiny(folder: Path, seed: int, alphabet: str = "0123456789+=", hidden: int = 32) -> str:
    torch.manual_seed(seed)
    shape = Architecture(hidden_size=hidden, num_layers=1, num_heads=2, num_kv_heads=2, max_position_embeddings=128)
    save_scratch_model(shape, character_tokenizer(alphabet), folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def how(tmp_path_factory: pytest.TempPathFactory) -> TokenScoring:
    root = tmp_path_factory.mktemp("contrast")
    for name, rows in zip(NAMES, SHARDS, strict=True):
        parquet.write_table(f"{root}/in/{name}", pa.Table.from_pylist(rows, schema=VERIFIED_TRACE))
    right, wrong = tiny(root / "right", 0), tiny(root / "wrong", 1)
    models = {"right": right, "wrong": wrong}
    return TokenScoring(
        "contrast", f"{root}/in", f"{root}/out", models, right, ContrastSettings(beta=0.7), PROMPT, ModelOverrides(),
        TrainSettings(tokens_per_pack=64, head_chunk_tokens=8),
    )  # fmt: skip


def expected(how: TokenScoring, row: dict) -> np.ndarray:
    """The slow way: each model on the sample alone."""
    tokenizer = load_tokenizer(how.tokenizer)
    turns = row.get("turns") or [{"role": "assistant", "content": row["completion"]}]
    whole = row.get("finish_reason") != "length"
    encoded = encode_turns(to_messages(row["problem"], PROMPT), turns, tokenizer, PROMPT, finished=whole)
    ids = torch.tensor([encoded.input_ids])
    right, wrong = (
        AutoModelForCausalLM.from_pretrained(m)(ids).logits[0].log_softmax(-1).double()
        for m in (how.models["right"], how.models["wrong"])
    )
    own = [t for turn in encoded.own for t in range(turn.start, turn.stop)]
    if isinstance(how.settings, LogpsSettings):
        return np.array([right[t - 1, encoded.input_ids[t]].item() for t in own])
    scores = (1.7 * right - 0.7 * wrong).softmax(-1)
    return np.array([scores[t - 1, encoded.input_ids[t]].item() for t in own])


@pytest.mark.slow
def test_the_column_of_two_models(ray_session: None, how: TokenScoring):
    counts = score_samples_tokens(NAMES, how, TrainerSettings())
    assert {name: counts[name] for name in ("in", "scored", "verdict_correct", "not_encodable", "too_long_for_the_models")} == {
        "in": 9, "scored": 4, "verdict_correct": 3, "not_encodable": 1, "too_long_for_the_models": 1
    }  # fmt: skip
    tokens = 0
    for name, rows in zip(NAMES, SHARDS, strict=True):
        check_grain(
            f"{how.out_uri}/column/{name}", "token", tokenizer_fingerprints(load_tokenizer(how.tokenizer))["tokenizer"]
        )
        for _, (column,) in beside(f"{how.samples}/{name}", [f"{how.out_uri}/column/{name}"], []):
            for row, values in zip(rows, column["values"].to_pylist(), strict=True):
                skipped = (
                    row["verdict"] == "correct" or row["completion"] == "no thought" or len(row["completion"]) > 99
                )
                assert (values is None) == skipped
                if values is not None:
                    tokens += len(values)
                    assert values == pytest.approx(expected(how, row), rel=1e-4)
    assert counts["tokens"] == tokens
    (dropped,) = parquet.read_tables([f"{how.out_uri}/dropped/{NAMES[1]}"], ["trace_id", "reason"])
    assert [tuple(row.values()) for row in dropped.to_pylist()] == [
        ("q#2", "not_encodable"),
        ("q#3", "too_long_for_the_models"),
    ]

    first, second = (Path(how.out_uri) / "column" / name for name in NAMES)
    before, untouched = second.read_bytes(), first.stat().st_mtime_ns
    second.write_bytes(b"cut off")
    (Path(how.out_uri) / "work" / f"{NAMES[1]}.json").unlink()
    assert score_samples_tokens(NAMES, how, TrainerSettings()) == counts
    assert second.read_bytes() == before
    assert first.stat().st_mtime_ns == untouched

    other = tiny(Path(how.out_uri).parent / "other", 2, "0123456789+=*")
    shutil.rmtree(Path(how.out_uri) / "work")
    with pytest.raises(UserError, match=r"the model `wrong` .* has another tokenizer than the base model"):
        score_samples_tokens(NAMES[:1], replace(how, models={**how.models, "wrong": other}), TrainerSettings())


@pytest.mark.slow
def test_the_log_probs_of_one_model(ray_session: None, how: TokenScoring, tmp_path: Path):
    """Of every sample, whatever its verdict; the column says by which tokenizer and whose they are."""
    right = how.models["right"]
    one = replace(how, step="logps", out_uri=str(tmp_path), models={"model": right}, settings=LogpsSettings())
    twice = replace(one, models={"right": right, "wrong": right})
    counts = score_samples_tokens(NAMES, one, TrainerSettings())
    assert {name: counts[name] for name in ("in", "scored", "not_encodable", "too_long_for_the_models")} == {
        "in": 9, "scored": 7, "not_encodable": 1, "too_long_for_the_models": 1
    }  # fmt: skip
    for name in NAMES:
        told = parquet.read_schema(f"{tmp_path}/column/{name}").metadata
        assert told[b"model"].decode() == model_fingerprint(right, ModelOverrides())
        for rows, (column,) in beside(f"{how.samples}/{name}", [f"{tmp_path}/column/{name}"], READ):
            for row, values in zip(rows.to_pylist(), column["values"].to_pylist(), strict=True):
                if values is not None:
                    assert values == pytest.approx(expected(twice, row), rel=1e-4, abs=1e-5)
