"""A teacher's distributions as a column: those of the plain model on each sample alone, half precision apart; killed half way the
same bytes come; through groups they lie beside the tokens that they are of. Another tokenizer is refused with what would fit."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from curation_runs import Rows
from test_token_scoring import NAMES, PROMPT, SHARDS, tiny
from test_token_weights import grouped, made
from transformers import AutoModelForCausalLM

from redi_ray.config.group_steps import GroupSettings, TokenColumn
from redi_ray.config.objectives import ForwardKlObjective, JsObjective, SoftRediObjective
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.token_steps import LogpsSettings, SoftTargetSettings
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.data.columns import ColumnError, beside, check_grain
from redi_ray.data.curate.work import Drops
from redi_ray.data.weights import Reading
from redi_ray.errors import UserError
from redi_ray.modeling.soft_columns import SoftFormat, is_soft, unpack
from redi_ray.modeling.tokenizer import ModelError, load_tokenizer, tokenizer_fingerprints
from redi_ray.schemas import VERIFIED_TRACE
from redi_ray.stages.soft_scoring import SoftTargetsShard, format_of
from redi_ray.stages.token_scoring import TokenScoring, TokenScoringShard, require_one_tokenizer, score_samples_tokens
from redi_ray.store import parquet
from redi_ray.text.prompts import to_messages
from redi_ray.text.turns import encode_turns
from redi_ray.train.batches import plan_batches
from redi_ray.train.fingerprints import model_fingerprint

PLAIN, BARE = PromptSettings(prefix=""), {"finish_reason": None, "turns": None}


@pytest.fixture(scope="module")
def how(tmp_path_factory: pytest.TempPathFactory) -> TokenScoring:
    root = tmp_path_factory.mktemp("soft")
    for name, rows in zip(NAMES, SHARDS, strict=True):
        parquet.write_table(f"{root}/in/{name}", pa.Table.from_pylist(rows, schema=VERIFIED_TRACE))
    student, teacher = tiny(root / "student", 0), tiny(root / "teacher", 1, hidden=64)
    return TokenScoring(
        "soft_targets", f"{root}/in", f"{root}/out", {"model": teacher}, student, SoftTargetSettings(top_k=3), PROMPT,
        ModelOverrides(), TrainSettings(tokens_per_pack=64, head_chunk_tokens=8),
    )  # fmt: skip


def expected(how: TokenScoring, row: dict) -> tuple[np.ndarray, np.ndarray]:
    """The slow way: the teacher on the sample alone; shares of every token at each of its own."""
    tokenizer = load_tokenizer(how.tokenizer)
    turns = row.get("turns") or [{"role": "assistant", "content": row["completion"]}]
    whole = row.get("finish_reason") != "length"
    encoded = encode_turns(to_messages(row["problem"], how.prompt), turns, tokenizer, how.prompt, finished=whole)
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(how.models["model"])(torch.tensor([encoded.input_ids])).logits[0]
    own = np.array([t for turn in encoded.own for t in range(turn.start, turn.stop)])
    return logits[own - 1].softmax(-1).numpy(), np.array(encoded.input_ids)[own]


def assert_right(how: TokenScoring, row: dict, records: np.ndarray) -> None:
    shares, _ = expected(how, row)
    ids, logps = unpack(records)
    assert len(ids) == len(shares)
    best = np.sort(np.argsort(-shares, 1)[:, :3], 1)
    np.testing.assert_array_equal(ids, best)
    kept = np.take_along_axis(shares, best, 1)
    np.testing.assert_allclose(np.exp(logps[:, :-1]), kept, rtol=2e-3)
    np.testing.assert_allclose(np.exp(logps[:, -1]), 1 - kept.sum(1), rtol=5e-3)


def test_each_token_has_what_the_teacher_says_there(how: TokenScoring):
    """Turns and cut-off samples too; what cannot be scored has nothing, and is counted."""
    shard, counts, drops = SoftTargetsShard(how), Counter[str](), Drops()
    assert (shard.form.top_k, shard.form.bytes_per_token) == (3, 14)
    rows = [BARE | row for rows in SHARDS for row in rows]
    found = shard.values(rows, counts, drops)
    for row, value in zip(rows, found, strict=True):
        skipped = row["completion"] == "no thought" or len(row["completion"]) > 99
        assert (value is None) == skipped
        if value is not None:
            assert_right(how, row, np.frombuffer(value, shard.form.dtype))
    assert (counts["in"], counts["scored"]) == (9, 7)
    assert counts["tokens"] == sum(len(value) // 14 for value in found if value is not None)


@pytest.mark.long
def test_the_column_on_ray_and_again_after_it_was_cut_off(ray_session: None, how: TokenScoring):
    """The same bytes; the column says of which tokenizer's tokens it is, and whose."""
    trainer = TrainerSettings()
    counts = score_samples_tokens(NAMES, how, trainer, SoftTargetsShard)
    assert counts["scored"] == 7
    told = parquet.read_schema(f"{how.out_uri}/column/{NAMES[0]}").metadata
    assert told[b"model"].decode() == model_fingerprint(how.models["model"], ModelOverrides())
    form = SoftFormat.from_json(told[b"soft_targets"])
    for name, rows in zip(NAMES, SHARDS, strict=True):
        for _, (column,) in beside(f"{how.samples}/{name}", [f"{how.out_uri}/column/{name}"], []):
            for row, value in zip(rows, column["values"].to_pylist(), strict=True):
                if value is not None:
                    assert_right(how, row, np.frombuffer(value, form.dtype))
    first, second = (Path(how.out_uri) / "column" / name for name in NAMES)
    before, untouched = second.read_bytes(), first.stat().st_mtime_ns
    second.write_bytes(b"cut off")
    (Path(how.out_uri) / "work" / f"{NAMES[1]}.json").unlink()
    assert score_samples_tokens(NAMES, how, trainer, SoftTargetsShard) == counts
    assert second.read_bytes() == before
    assert first.stat().st_mtime_ns == untouched


def test_another_tokenizer_and_too_many_tokens_are_refused(how: TokenScoring, tmp_path: Path):
    other = tiny(tmp_path / "other", 2, "0123456789+=*")
    with pytest.raises(
        UserError, match=r"`model` .*/other\) has another tokenizer .*What would fit: .* same vocabulary"
    ):
        require_one_tokenizer(replace(how, models={"model": other}))
    assert format_of(SoftTargetSettings(top_k=3), tokens=151_665, rows=152_064) == SoftFormat(3, 151_665)
    assert format_of(SoftTargetSettings(top_k=3), tokens=20, rows=16) == SoftFormat(3, 16)
    with pytest.raises(UserError, match="top_k 64 is more than the 16 tokens that there are; 16 keeps them all"):
        format_of(SoftTargetSettings(), tokens=20, rows=16)


def test_a_teacher_without_numbers_is_named(how: TokenScoring, tmp_path: Path):
    """By its step and folder: when it is loaded, and where single tokens have none, which the first look does not meet."""
    model = AutoModelForCausalLM.from_pretrained(how.models["model"])
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    shutil.copytree(how.models["model"], broken := tmp_path / "broken")
    model.save_pretrained(broken)
    told = rf"soft_targets: the model `model` \({broken}\): .*its weights hold NaN"
    with pytest.raises(ModelError, match=told):
        SoftTargetsShard(replace(how, models={"model": str(broken)}))
    rows = [BARE | row for row in SHARDS[0]]
    logps = replace(how, step="logps", settings=LogpsSettings())
    for kind, asked in ((SoftTargetsShard, how), (TokenScoringShard, logps)):
        shard = kind(asked)
        with torch.no_grad():
            shard.policies["model"].model.model.norm.weight.fill_(torch.nan)
        with pytest.raises(UserError, match=rf"{asked.step}: the model `model` \(.*/teacher\): .* weights hold NaN"):
            shard.values(rows, Counter(), Drops())


SUMS: Rows = [
    {**BARE, **row, "problem": "1", "problem_id": "p", "completion": text, "verdict": verdict, "trace_id": f"p#{n}",
     "sample_index": n}
    for n, (row, text, verdict) in enumerate(
        zip(SHARDS[0], ("12", "3", "45+6"), ("correct", "wrong", "correct"), strict=False)
    )
]  # fmt: skip


def taught(root: Path, how: TokenScoring, rows: Rows = SUMS, side: Any = "both") -> tuple[Reading, list[bytes | None]]:
    """A column of the rows, as a step writes it."""
    shard = SoftTargetsShard(replace(how, prompt=PLAIN))
    values = shard.values(rows, Counter(), Drops())
    table = [{"trace_id": row["trace_id"], "values": value} for row, value in zip(rows, values, strict=True)]
    parquet.write_table(f"{root}/column/part-0.parquet", pa.Table.from_pylist(table, schema=shard.schema))
    column = TokenColumn(column="taught", side=side)
    return Reading("soft_targets", column, (f"{root}/column/part-0.parquet",), shard.fingerprint), values


def test_from_the_column_to_the_arrays(how: TokenScoring, tmp_path: Path):
    """Beside other columns, for every own token, through groups, parts and the join; a sample without is left out."""
    reading, values = taught(tmp_path, how)
    counts = grouped(tmp_path, how.tokenizer, None, SUMS, (reading,), least=1)
    assert counts.members == 3
    store = made(tmp_path, "groups", how.tokenizer, "groups")
    column = store.columns["soft_targets"]
    form = SoftFormat(3, 16)
    assert column.dtype == form.dtype
    assert is_soft(column)
    for n in range(3):
        own = column[store.span(n)][store.prompt_lengths[n] :]
        assert own.tobytes() == values[n]
        unpack(column[store.span(n)])  # prompts have blanks
    plan_batches(store, TrainSettings(batch_size=2), 1, ForwardKlObjective(top_k=3))
    with pytest.raises(ValueError, match="top_k 9 is more than the 3 tokens that the column has of each"):
        plan_batches(store, TrainSettings(batch_size=2), 1, JsObjective(top_k=9))
    store.save(tmp_path / "saved")
    again = type(store).load(tmp_path / "saved").columns["soft_targets"]
    np.testing.assert_array_equal(np.asarray(again), np.asarray(column))


def test_rejected_sides_need_none_where_none_is_read(how: TokenScoring, tmp_path: Path):
    """A teacher that has scored the right samples alone is enough for `soft_redi`; with both sides asked, wrong ones go."""
    some = replace(how, settings=SoftTargetSettings(top_k=3, verdicts=["correct"]))
    for side, members in (("both", 0), ("chosen", 2)):
        root = tmp_path / side
        reading, values = taught(root, some, SUMS[:2], side=side)
        assert [value is None for value in values] == [False, True]
        counts = grouped(root, how.tokenizer, None, SUMS[:2], (reading,), both_sides=True)
        assert (counts.members, counts.dropped.get("no_soft_targets", 0)) == (members, int(side == "both"))
    store = made(root, "groups", how.tokenizer, "pairs")
    plan_batches(store, TrainSettings(batch_size=1), 1, SoftRediObjective())


def test_what_is_no_column_of_distributions_is_refused(how: TokenScoring, tmp_path: Path):
    reading, _ = taught(tmp_path, how)
    reading.check()
    with pytest.raises(ColumnError, match="a column at grain distribution; one at grain token is needed"):
        replace(reading, name="sampler_logps").check()
    with pytest.raises(ColumnError, match="values of the tokens of another tokenizer"):
        replace(reading, tokenizer="another").check()
    with pytest.raises(ValueError, match="objectives read it on both sides"):
        GroupSettings(token_columns={"sampler_logps": {"column": "x", "side": "chosen"}})
    with pytest.raises(ValueError, match="holds distributions, of which there is no running mean"):
        GroupSettings(token_columns={"soft_targets": {"column": "x", "use": "running mean"}})
    ours = tokenizer_fingerprints(load_tokenizer(how.tokenizer))["tokenizer"]
    check_grain(reading.shards[0], "distribution", ours)
