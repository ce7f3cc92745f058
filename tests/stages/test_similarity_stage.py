"""A column of how near steps are to the response and to the step before: by hand from the model's own embeddings, whoever lies in
the pack. Killed behind a shard, the rest is the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from curation_runs import Rows, trace
from transformers import AutoModelForCausalLM

from redi_ray.config.resources import TrainerSettings
from redi_ray.config.student import Architecture
from redi_ray.config.trace_rewards import SimilarityScorer
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.data.columns import check_grain
from redi_ray.data.curate.work import Drops
from redi_ray.errors import UserError
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import character_tokenizer, load_tokenizer
from redi_ray.schemas import VERIFIED_TRACE
from redi_ray.stages.similarity import Comparing, SimilarityShard, compare_samples
from redi_ray.store import parquet
from redi_ray.text.tokens import plain_ids

NAMES = ["part-0.parquet", "part-1.parquet"]


def text(*lines: str) -> str:
    *thinking, response = lines
    return "\n".join(["<think>", *thinking, "</think>", response])


SHARDS: list[Rows] = [
    [
        trace("p", 0, "correct", text("1+1=2", "2+2=4", "4")),
        trace("p", 1, "wrong", text("1+1=3", "3+2=5", "5")),
        trace("q", 0, "correct", text("7+1=8", "8+1=9", "9+0=9", "9\n8=8")),
        trace("q", 1, "wrong", "<think>\n7+1=8\n8+1"),
    ],
    [trace("r", 0, "wrong", text("5+5=10", "4")), trace("r", 1, "wrong", text("4")), trace("r", 2, "wrong", "<think>\n")],
]  # fmt: skip


@pytest.fixture(scope="module")
def how(tmp_path_factory: pytest.TempPathFactory) -> Comparing:
    root = tmp_path_factory.mktemp("similarity")
    for name, rows in zip(NAMES, SHARDS, strict=True):
        asked = [{**row, "problem": "12+34"} for row in rows]
        parquet.write_table(f"{root}/in/{name}", pa.Table.from_pylist(asked, schema=VERIFIED_TRACE))
    shape = Architecture(hidden_size=32, num_layers=1, num_heads=2, num_kv_heads=2, max_position_embeddings=64)
    save_scratch_model(shape, character_tokenizer("0123456789+=\n"), root / "model")
    settings = SimilarityScorer(name="similarity", model="base", to="response", form="equations")
    train = TrainSettings(tokens_per_pack=32)
    return Comparing(f"{root}/in", f"{root}/out", str(root / "model"), settings, ModelOverrides(), train)


def spans(how: Comparing, shard: int) -> tuple[list[Any], Counter[str]]:
    (table,) = parquet.read_tables([f"{how.samples}/{NAMES[shard]}"])
    counts = Counter[str]()
    return SimilarityShard(how).spans(table.to_pylist(), counts, Drops()), counts


def embedded(how: Comparing, *texts: str) -> np.ndarray:
    """By transformers' own class, text after text."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(how.model).eval(), load_tokenizer(how.model, False)
    found = []
    with torch.no_grad():
        for one in texts:
            ids = torch.tensor([plain_ids(one, tokenizer)])
            found.append(model.model(input_ids=ids, use_cache=False).last_hidden_state[0].mean(0).numpy())
    return np.stack([mean / np.linalg.norm(mean) for mean in found])


def test_steps_are_aligned_to_the_nearest_of_the_response(how: Comparing) -> None:
    found, counts = spans(how, 0)
    assert [[span["label"] for span in row or ()] for row in found] == [
        ["thinking", "thinking", "response"],
        ["thinking", "thinking", "response"],
        ["thinking"] * 3 + ["response"] * 2,
        [],
    ]
    for row, made in zip(SHARDS[0], found, strict=True):
        assert "".join(row["completion"][span["start"] : span["end"]] for span in made or ()) in ("", row["completion"])
    thinking, response = embedded(how, "7+1=8", "8+1=9", "9+0=9"), embedded(how, "9", "8=8")
    expected = (thinking @ response.T).max(1)
    assert [span["value"] for span in found[2][:3]] == pytest.approx(expected.tolist(), abs=1e-5)
    assert [span["value"] for span in found[2][3:]] == [None, None]
    assert counts == {"in": 4, "scored": 3, "steps": 7, "no_response": 1}
    _, counts = spans(how, 1)
    assert counts == {"in": 3, "scored": 1, "steps": 1, "no_thinking": 2}


def test_coherence_is_told_from_other_problems_steps(how: Comparing) -> None:
    """With every other problem's step the same: the formula by hand. A trace that was cut off has its numbers, too."""
    settings = SimilarityScorer(
        name="similarity", model="base", to="previous", form="equations", negatives=3, temperature=0.5
    )
    coherent = replace(how, settings=settings)
    found, counts = spans(coherent, 0)
    assert counts == {"in": 4, "scored": 4, "steps": 9}
    assert all(0 < span["value"] < 1 for row in found for span in row if span["label"] == "thinking")
    assert [[span["value"] for span in row] for row in spans(coherent, 0)[0]] == [
        [span["value"] for span in row] for row in found
    ]
    other = settings.model_copy(update={"seed": 7})
    assert spans(replace(coherent, settings=other), 0)[0] != found
    alone, counts = spans(coherent, 1)
    assert alone == [None, None, None]
    assert counts == {"in": 3, "no_negatives": 1, "no_thinking": 2}

    rows = [{**SHARDS[0][0], "problem": "12+34"}, {**SHARDS[1][0], "problem": "12+34"}]
    made = SimilarityShard(coherent).spans(rows, Counter(), Drops())
    before, steps = embedded(how, "12+34", "1+1=2"), embedded(how, "1+1=2", "2+2=4")
    negative = embedded(how, "5+5=10")[0]
    near, far = np.exp((before * steps).sum(1) / 0.5), np.exp(steps @ negative / 0.5)
    assert [span["value"] for span in made[0][:2]] == pytest.approx((near / (near + 3 * far)).tolist(), abs=1e-5)


def test_what_lies_in_a_pack_has_no_say(how: Comparing) -> None:
    loose = replace(how, train=TrainSettings(tokens_per_pack=10_000))
    values = [[span["value"] for span in row or ()] for row in spans(how, 0)[0]]
    again = [[span["value"] for span in row or ()] for row in spans(loose, 0)[0]]
    for one, other in zip(values, again, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_a_folder_that_holds_another_model(how: Comparing, tmp_path: Path) -> None:
    with pytest.raises((UserError, OSError)):
        SimilarityShard(replace(how, model=str(tmp_path)))


@pytest.mark.slow
def test_the_column_on_ray(ray_session: None, how: Comparing) -> None:
    counts = compare_samples(NAMES, how, TrainerSettings())
    assert (counts["in"], counts["scored"]) == (7, 4)
    first, second = (Path(how.out_uri) / "column" / name for name in NAMES)
    check_grain(str(first), "span")
    before, untouched = second.read_bytes(), first.stat().st_mtime_ns
    second.write_bytes(b"cut off")
    (Path(how.out_uri) / "work" / f"{NAMES[1]}.json").unlink()
    assert compare_samples(NAMES, how, TrainerSettings()) == counts
    assert second.read_bytes() == before
    assert first.stat().st_mtime_ns == untouched
