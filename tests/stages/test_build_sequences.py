"""Token arrays hold what was curated, in the order of the ids; no pairs is an error before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from redi_ray import storage
from redi_ray.config.load import load_config
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.training import TrainSettings
from redi_ray.data.readers import DataError
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.schemas import PAIR
from redi_ray.stages.run import Run
from redi_ray.stages.sequences import build_sequences, sequences
from redi_ray.storage import Manifest
from redi_ray.train.sequences import SequenceStore

PROMPT = PromptSettings(prefix="<think>")


def pair(key: str, chosen: str, rejected: str) -> dict[str, Any]:
    return {
        "pair_id": key,
        "problem_id": key,
        "prompt": [{"role": "user", "content": "1+1"}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def test_pairs_become_two_sequences_with_masks_on_the_rejected_side(tmp_path: Path):
    tokenizer = character_tokenizer("0123456789+=")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    for number, row in enumerate(
        [pair("b", "<think>2</think>2", "<think>3</think>3"), pair("a", "<think>2", "<think>1")]
    ):
        storage.write_table(f"{tmp_path}/in/part-{number}.parquet", pa.Table.from_pylist([row], schema=PAIR))
    masks = {"end_of_turn": True, "think_tags": True}
    shards = storage.list_files(f"{tmp_path}/in")
    facts = build_sequences("pairs", shards, f"{tmp_path}/out", f"{tmp_path}/tokenizer", PROMPT, masks)
    store = SequenceStore.load(tmp_path / "out" / "arrays")
    assert facts["counts"]["groups"] == store.num_groups == 2
    assert facts["prompt"]["text"] == "<|user|>1+1<|end|><|assistant|><think>"
    texts = [tokenizer.decode(store.tokens[store.span(i)]) for i in range(4)]
    assert texts[0] == "<|user|>1+1<|end|><|assistant|><think>2<|end|>"  # `a` comes first, whichever shard it is in
    assert texts[3].endswith("3</think>3<|end|>")
    assert store.side.tolist() == [1, -1, 1, -1]
    scored = [
        "".join(tokenizer.decode(t) for t in store.tokens[store.span(i)][store.loss_mask[store.span(i)] == 1])
        for i in range(4)
    ]
    assert scored == ["2<|end|>", "1", "2</think>2<|end|>", "33"]


def test_an_empty_pair_set_is_refused_with_the_reasons(tmp_path: Path):
    run = Run.of(load_config("configs/demo.yaml", [f"storage.root={tmp_path}"]))
    base = Manifest("checkpoints/base", "k", "u", {}, {}, facts={"export": "x"})
    curated = Manifest(
        "curated", "k", "u", {}, {}, counts={"positives": 3, "pairs": 0}, facts={"pairs_dropped": {"no_wrong_trace": 3}}
    )
    with pytest.raises(DataError, match=r"there are no pairs to train on.*no_wrong_trace.*samples_per_round"):
        sequences(run, "pairs", curated, base, TrainSettings())
