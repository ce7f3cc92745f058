"""Token arrays hold what was curated, in the order of the ids; no pairs is an error before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tiny_families import family
from token_arrays import build_sequences
from transformers import ByT5Tokenizer

from redi_ray.config.load import load_config
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.training import TrainSettings
from redi_ray.data.sources.readers import DataError
from redi_ray.errors import UserError
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.schemas import EXAMPLE, PAIR
from redi_ray.stages.encoding import Encoder, Weighting
from redi_ray.stages.groups import groups_of
from redi_ray.stages.run import Run
from redi_ray.stages.sequences import sequences
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Manifest
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
        parquet.write_table(f"{tmp_path}/in/part-{number}.parquet", pa.Table.from_pylist([row], schema=PAIR))
    weighting = Weighting(end_of_turn=True, think_tags=True)
    shards = storage.list_files(f"{tmp_path}/in")
    built = build_sequences("pairs", shards, f"{tmp_path}/out", f"{tmp_path}/tokenizer", PROMPT, weighting)
    store = SequenceStore.load(tmp_path / "out" / "arrays")
    assert built["counts"]["groups"] == store.num_groups == 2
    assert built["facts"]["prompt"]["text"] == "<|user|>1+1<|end|><|assistant|><think>"
    texts = [tokenizer.decode(store.tokens[store.span(i)]) for i in range(4)]
    assert texts[0] == "<|user|>1+1<|end|><|assistant|><think>2<|end|>"  # `a` comes first, whichever shard it is in
    assert texts[3].endswith("3</think>3<|end|>")
    assert store.side.tolist() == [1, -1, 1, -1]
    scored = [
        "".join(tokenizer.decode(t) for t in store.tokens[store.span(i)][store.weights[store.span(i)] != 0])
        for i in range(4)
    ]
    assert scored == ["2<|end|>", "1", "2</think>2<|end|>", "33"]


def test_a_pair_whose_rejected_side_is_masked_whole_is_dropped_with_a_count(tmp_path: Path):
    """A rejected trace of nothing but a tag: half a pair is no pair, and the others keep their order."""
    character_tokenizer("0123456789+=").save_pretrained(tmp_path / "tokenizer")
    rows = [
        pair("a", "<think>1", "<think></think>"),
        pair("b", "<think>2", "<think>3"),
        pair("c", "<think>4", "<think>5"),
    ]
    parquet.write_table(f"{tmp_path}/in/part-0.parquet", pa.Table.from_pylist(rows, schema=PAIR))
    arguments = (
        [f"{tmp_path}/in/part-0.parquet"],
        f"{tmp_path}/out",
        f"{tmp_path}/tokenizer",
        PROMPT,
        Weighting(True, True),
    )
    built = build_sequences("pairs", *arguments)
    assert built["dropped"] == {"nothing_scored": 1}
    assert (built["counts"]["in"], built["counts"]["out"], built["counts"]["groups"]) == (3, 2, 2)
    assert SequenceStore.load(tmp_path / "out" / "arrays").group.tolist() == [0, 0, 1, 1]
    parquet.write_table(f"{tmp_path}/in/part-0.parquet", pa.Table.from_pylist(rows[:1], schema=PAIR))
    with pytest.raises(DataError, match="none of the 1 pairs has a token to score"):
        build_sequences("pairs", *arguments)


def test_a_completion_that_was_cut_off_has_no_end_of_turn(tmp_path: Path):
    """On either side, and in the examples; the mask of the end takes nothing else away. Unknown counts as finished."""
    tokenizer = character_tokenizer("0123456789+=")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    flags = {"a": (True, False), "b": (False, True), "c": (None, None)}
    rows = [
        {**pair(key, "<think>2</think>2", "<think>3"), "chosen_finished": good, "rejected_finished": bad}
        for key, (good, bad) in flags.items()
    ]
    parquet.write_table(f"{tmp_path}/pairs/part-0.parquet", pa.Table.from_pylist(rows, schema=PAIR))
    chat = [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "<think>2</think>2"}]
    rows = [
        {"example_id": key, "problem_id": key, "messages": chat, "finished": good} for key, (good, _) in flags.items()
    ]
    parquet.write_table(f"{tmp_path}/examples/part-0.parquet", pa.Table.from_pylist(rows, schema=EXAMPLE))
    expected: dict[Any, tuple[list[str], int]] = {
        "pairs": (["2</think>2<|end|>", "3", "2</think>2", "3", "2</think>2<|end|>", "3"], 2),
        "examples": (["2</think>2<|end|>", "2</think>2", "2</think>2<|end|>"], 1),
    }
    for kind, (scored, cut_off) in expected.items():
        shards, out = storage.list_files(f"{tmp_path}/{kind}"), f"{tmp_path}/out-{kind}"
        built = build_sequences(kind, shards, out, f"{tmp_path}/tokenizer", PROMPT, Weighting(True, False))
        store = SequenceStore.load(f"{out}/arrays")
        spans = [store.span(number) for number in range(len(store))]
        assert [tokenizer.decode(store.tokens[span][store.weights[span] != 0]) for span in spans] == scored
        assert built["counts"]["cut_off"] == cut_off


def test_the_end_of_turn_that_is_masked_is_the_templates(tmp_path: Path):
    """A base model whose eos ends a document, and whose template closes a turn with another token."""
    tokenizer = family("qwen-base")
    encoder = Encoder(tokenizer, PromptSettings(), Weighting(end_of_turn=True, think_tags=False))
    row = {**pair("a", "<think>\n1", "<think>\n2"), "chosen_finished": True, "rejected_finished": True}
    (group,) = groups_of(row, "pairs", "pairs")
    good, bad = encoder.group(group)
    assert tokenizer.decode(good.tokens[good.prompt_length :]) == "1<|im_end|>"
    assert tokenizer.decode(bad.tokens[bad.prompt_length :]) == "2<|im_end|>"
    assert good.weights[-2:].tolist() == [1, 1]
    assert bad.weights[-2:].tolist() == [1, 0]


def test_think_tags_cannot_be_masked_by_a_tokenizer_without_offsets():
    with pytest.raises(UserError, match=r"mask_rejected_think_tags needs .* fast one.*ByT5Tokenizer"):
        Encoder(ByT5Tokenizer(), PROMPT, Weighting(end_of_turn=False, think_tags=True)).check()


def test_an_empty_pair_set_is_refused_with_the_reasons(tmp_path: Path):
    run = Run.of(load_config("configs/demo.yaml", [f"storage.root={tmp_path}"]))
    base = Manifest("checkpoints/base", "k", "u", {}, {}, facts={"export": "x"})
    curated = Manifest(
        "curated", "k", "u", {}, {}, counts={"positives": 3, "pairs": 0}, facts={"pairs_dropped": {"no_wrong_trace": 3}}
    )
    with pytest.raises(DataError, match=r"there are no pairs to train on.*no_wrong_trace.*samples_per_round"):
        sequences(run, "pairs", curated, base, TrainSettings())
