"""Numbers of a row's tokens: log-probs are those of the model as transformers has it, weights those that training reads, and each
stands where its token is in the text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rows_run import PAIRS, TEXTS, id_of, write_rows_run
from transformers import AutoModelForCausalLM

from redi_ray.report.browse import graph_of_run
from redi_ray.report.row_pages import find_row
from redi_ray.report.row_places import read_rows
from redi_ray.report.row_tables import rows_of
from redi_ray.report.token_series import Reader
from redi_ray.store.manifests import current_manifest


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_rows_run(str(tmp_path_factory.mktemp("rows") / "run"))


def row_of(run: str, step: str, name: str) -> dict[str, Any]:
    table = rows_of(run, graph_of_run(run), step)
    place = find_row(table, name)
    return read_rows(table.shard(place.shard), [place.row], large=True)[place.row]


def asked(run: str, step: str, table: str, name: str, **series: Any) -> dict[str, Any]:
    return Reader(run).answer({"row": row_of(run, step, name), "table": table, "series": series})


def test_log_probs_are_the_models(run: str):
    """Of both sides of a pair, next to transformers' own forward pass over the same tokens."""
    name, _, *texts = PAIRS[0]
    export = current_manifest(run, "checkpoints/redi").facts["export"]
    told = asked(run, "curated", "pairs", name, **{"tokens": None, "logp:redi": export})
    reader, model = Reader(run), AutoModelForCausalLM.from_pretrained(export)
    group = {
        "prompt": [{"role": "user", "content": "What is plain?"}],
        "members": [
            {"turns": [{"role": "assistant", "content": text}], "finished": finished}
            for text, finished in zip(texts, (True, False), strict=True)
        ],
    }
    for sequence, values, tokens, closed in zip(
        reader.encoded(group), told["logp:redi"], told["tokens"], (True, False), strict=True
    ):
        ids = torch.tensor(sequence.input_ids)
        logps = model(ids[None]).logits[0].log_softmax(-1)[:-1].gather(1, ids[1:, None])[:, 0]
        own = logps[sequence.prompt_length - 1 :].tolist()
        assert values == pytest.approx(own, abs=1e-4)
        assert len(tokens["places"]) == len(values)
        assert (tokens["places"][-1] == [0, -1, -1]) is closed


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "huge"])
def test_tokens_stand_where_they_are_in_the_text(run: str, name: str):
    """In order, and together they are the text, whatever is in it."""
    (told,) = asked(run, "verified", "verified", id_of(name), tokens=None)["tokens"]
    text, reached = told["turns"][0]["content"], 0
    assert text == TEXTS[name]
    for _, start, end in told["places"][:-1]:
        assert start <= reached <= end
        reached = end
    assert reached == len(text)


def test_weights_are_those_of_the_training(run: str):
    told = asked(run, "curated", "pairs", PAIRS[0][0], **{"weight:redi": None, "weight:sft": None})
    chosen, rejected = told["weight:redi"]
    assert set(chosen) == {1.0}
    assert set(rejected) == {-1.0}
    assert set(told["weight:sft"][0]) == {1.0}
    assert set(told["weight:sft"][1]) == {None}, "imitation does not learn from what was rejected"


def test_what_cannot_be_shown_says_why(run: str):
    """A text that is too long, a column of other tokens, a model that reaches less far: each for itself."""
    export = current_manifest(run, "checkpoints/sft").facts["export"]
    huge = asked(run, "curated", "pairs", PAIRS[3][0], tokens=None)
    assert "characters, more than the 200,000 whose tokens are looked at here" in huge["tokens"]["error"]
    row = {**row_of(run, "curated", PAIRS[0][0]), "chosen": [{"role": "assistant", "content": "4 " * 50_000}]}
    told = Reader(run).answer({"row": row, "table": "pairs", "series": {"tokens": None}})
    assert "tokens, more than the 20,000 that are looked at here" in told["tokens"]["error"]
    told = asked(
        run,
        "verified",
        "verified",
        "plain#0",
        **{"tokens": None, "column:likely": [[0.5]], "logp:sft": f"{export}-gone"},
    )
    assert "likely has 1 numbers for the" in told["column:likely"]["error"]
    assert "export-gone" in told["logp:sft"]["error"]
    assert "error" not in told["tokens"]
    turns = [{"role": "assistant", "content": "4 " * 600}]
    row = {**row_of(run, "curated", PAIRS[0][0]), "chosen": turns}
    told = Reader(run).answer({"row": row, "table": "pairs", "series": {"tokens": None, "logp:sft": export}})
    assert "sft reaches over 512 tokens, and this row has" in told["logp:sft"]["error"]


def test_a_run_without_a_model_has_no_tokens(tmp_path: Path):
    run = write_rows_run(str(tmp_path / "run"), models=False)
    with pytest.raises(ValueError, match=r"checkpoints/base: no finished"):
        Reader(run)
