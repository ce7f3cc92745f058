"""Blocks that go by embeddings: other words for one problem, and problems that stand for all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curation_runs import Rows, plan, read_out, run_here, solved, trace

from redi_ray.config.curation import CurateConfig
from redi_ray.config.load import ConfigError, load_config
from redi_ray.data.curate.work import order_key
from redi_ray.store import parquet, storage
from redi_ray.text.counted import figures, numbers_named

GOODS = ("eggs", "lamps", "ropes", "coins", "bricks", "tents", "boats", "flutes")
TEXTS = [f"A shop in the old harbour sold {n + 3} {thing} on {thing}day. How many?" for n, thing in enumerate(GOODS)]
SAME = "In the old harbour a shop, on eggsday, sold three eggs. How many?"
OTHER_NUMBER = "In the old harbour a shop, on eggsday, sold 17 eggs. How many?"
SEMANTIC: dict[str, Any] = {"exact": False, "near": None, "semantic": {"threshold": 0.35}}


def with_answers(texts: dict[str, str]) -> Rows:
    """A right trace of each text, the answer behind its last `=`."""
    return [
        trace(name, 0, "correct", problem=text.partition("=")[0], answer=text.partition("=")[2] or "unknown")
        for name, text in texts.items()
    ]


def similar(folder: Path) -> Rows:
    return next(parquet.read_tables([f"{folder}/out/similar/part-00000.parquet"])).to_pylist()


def test_other_words_go_and_other_numbers_stay(tmp_path: Path, bpe_tokenizer: str):
    """The one with the smaller key stays, the reason names it, and the pair is shown with its texts."""
    texts = {f"p{n}": text for n, text in enumerate([*TEXTS, SAME, OTHER_NUMBER])}
    rows = with_answers(texts)
    counts = run_here(plan(tmp_path, bpe_tokenizer, [rows[::2], rows[1::2]], duplicates=SEMANTIC))
    assert counts.dropped == {"semantic_duplicate": 1}
    gone = next(row for row in read_out(tmp_path)["dropped"] if row["what"] == "problem")
    first, second = sorted(("p0", "p8"), key=lambda name: order_key(42, name))
    assert gone["problem_id"] == second
    assert gone["detail"].startswith(f"of {first}, similarity 0.")
    shown = next(row for row in similar(tmp_path) if row["dropped"])
    assert (shown["problem"], shown["other"]) == (texts[second], texts[first])
    assert all(row["similarity"] < 0.35 for row in similar(tmp_path) if not row["dropped"])


@pytest.mark.parametrize(
    ("agree", "one", "other", "left"),
    [
        ("answer", "3", "3.0", 1),
        ("answer", "3", "4", 2),  # however equal their numbers are
        ("answer", "3", "some word", 1),  # then the numbers of the texts decide
        ("numbers", "3", "4", 1),
        ("nothing", "3", "4", 1),
    ],
)
def test_what_must_agree(agree: str, one: str, other: str, left: int, tmp_path: Path, bpe_tokenizer: str):
    rows = with_answers({"p0": f"{TEXTS[0]}={one}", "p1": f"{SAME}={other}"})
    duplicates = {**SEMANTIC, "semantic": {"threshold": 0.35, "agree": agree}}
    counts = run_here(plan(tmp_path, bpe_tokenizer, [rows], duplicates=duplicates))
    assert counts.positives == left


def test_no_sharding_changes_what_stays(tmp_path: Path, bpe_tokenizer: str):
    """Neither order nor number of shards; the embedder is fitted on the same texts in the same order."""
    chance = np.random.default_rng(0)
    texts = [f"{TEXTS[n % 8]} {' '.join(chance.choice(GOODS, 2))}" for n in range(80)]
    blocks = {
        "duplicates": SEMANTIC,
        "diversity": {"problems": 5, "by": "farthest"},
        "embedder": {"name": "words", "fit_on": 100},
    }
    rows, found = solved(texts), []
    for name, shards in {"one": [rows], "many": [rows[n::7] for n in reversed(range(7))]}.items():
        run_here(plan(tmp_path / name, bpe_tokenizer, shards, **blocks))
        out = read_out(tmp_path / name)
        gone = sorted(
            (row["problem_id"], row["reason"], row["detail"]) for row in out["dropped"] if row["what"] == "problem"
        )
        found.append((gone, sorted(row["problem_id"] for row in out["examples"])))
    assert found[0] == found[1]
    assert len(found[0][1]) == 5
    assert {reason for _, reason, _ in found[0][0]} == {"semantic_duplicate", "not_diverse"}


@pytest.mark.parametrize("by", ["farthest", "clusters", "random"])
def test_problems_that_stand_for_all(by: str, tmp_path: Path, bpe_tokenizer: str):
    """Of eight kinds of problems in unequal numbers, eight: by distance or clusters most kinds are there, by chance three."""
    texts = [f"{TEXTS[kind]} Variant {n}" for kind in range(8) for n in range(40 if kind < 2 else 2)]
    counts = run_here(plan(tmp_path, bpe_tokenizer, [solved(texts)], diversity={"problems": 8, "by": by}))
    kept = {texts[int(row["problem_id"][1:])].split(" ")[8] for row in read_out(tmp_path)["examples"]}
    assert counts.positives == 8
    assert counts.dropped == {"not_diverse": len(texts) - 8}
    assert (len(kept) >= 6) is (by != "random"), kept
    selected, control = counts.diversity["selected"], counts.diversity["random"]
    assert selected["mean_nearest"] >= control["mean_nearest"]
    assert selected == json.loads(storage.read_bytes(f"{tmp_path}/out/work/diversity.json"))["selected"]


def test_nothing_left_and_fewer_than_wanted(tmp_path: Path, bpe_tokenizer: str):
    blocks: dict[str, Any] = {"duplicates": SEMANTIC, "diversity": {"problems": 5}}
    counts = run_here(plan(tmp_path / "none", bpe_tokenizer, [[trace("p0", 0, "wrong")]], **blocks))
    assert counts.dropped == {"no_correct_trace": 1}
    counts = run_here(plan(tmp_path / "few", bpe_tokenizer, [solved(TEXTS[:3])], diversity={"problems": 5}))
    assert counts.positives == 3


def test_an_embedder_that_nothing_reads_is_refused():
    with pytest.raises(ValueError, match="nothing reads embedder"):
        CurateConfig.model_validate({"embedder": {"name": "words"}})
    with pytest.raises(ConfigError, match=r"curate\.embedder"):
        load_config("configs/demo.yaml", ["curate.embedder={name: model}", "curate.diversity={problems: 3}"])


def test_numbers_in_figures_and_words():
    text = "Twenty dogs run 2.50 miles, half of them twice, with 1,000 fleas."
    assert figures(text) == {"5/2", "1000"}
    assert {"20", "2", "5/2", "1000"} <= numbers_named(text)
    assert "3" not in numbers_named(text)
