"""From a column of numbers for each token to the loss: pairs and groups store what their tokens weigh, sequences have it, cDPO's
published numbers come out; another tokenizer or another number of tokens is refused by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from curation_runs import Rows, plan, run_here, trace

from redi_ray.config.group_steps import GroupSettings, TokenColumn, TokenWeights
from redi_ray.config.objectives import DpoObjective, Objective, RediObjective
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.training import TrainSettings
from redi_ray.data.columns import ColumnError
from redi_ray.data.groups import make as groups_make
from redi_ray.data.groups.scan import Grouping
from redi_ray.data.weights import NO_WEIGHTS, Reading, Weighing
from redi_ray.errors import UserError
from redi_ray.modeling.tokenizer import character_tokenizer, tokenizer_fingerprints
from redi_ray.schemas import token_scores
from redi_ray.stages.encoding import Weighting
from redi_ray.stages.groups import Learnt
from redi_ray.stages.joining import join_parts
from redi_ray.stages.parts import plan_parts
from redi_ray.stages.tokenising import Tokenising, tokenise_part
from redi_ray.store import parquet, storage
from redi_ray.train.batches import BatchPlan, Pack
from redi_ray.train.bound import BoundObjective, batch_units
from redi_ray.train.packs import pack_tensors
from redi_ray.train.sequences import REFERENCE, SequenceStore

PLAIN = PromptSettings(prefix="")
ROWS: Rows = [trace("p", 0, "correct", "12", problem="1"), trace("p", 1, "wrong", "3", problem="1")]
LOGPS, REFERENCES = [-0.5, -1.0, -0.2, -1.2, -0.3], [-0.7, -0.9, -0.4, -0.8, -0.5]
"""SYSTEMS.md, section 0: the chosen side's three tokens and the rejected one's two, each with the token that closes the turn."""
Values = list[list[float] | None]


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    character_tokenizer("0123456789+=").save_pretrained(tmp_path / "tokenizer")
    return str(tmp_path / "tokenizer")


def fingerprint(alphabet: str = "0123456789+=") -> str:
    return tokenizer_fingerprints(character_tokenizer(alphabet))["tokenizer"]


def column(root: Path, values: Values, rows: Rows = ROWS, tokenizer: str | None = None, **settings: Any) -> Weighing:
    told = [{"trace_id": row["trace_id"], "values": one} for row, one in zip(rows, values, strict=True)]
    schema = token_scores(tokenizer or fingerprint())
    parquet.write_table(f"{root}/column/part-0.parquet", pa.Table.from_pylist(told, schema=schema))
    return Weighing(TokenWeights(column="c", **settings), (f"{root}/column/part-0.parquet",), fingerprint())


def made(root: Path, table: Learnt, tokenizer: str, kind: Learnt = "pairs") -> SequenceStore:
    """The sequences of a table that a pass has written."""
    weighting = Weighting(end_of_turn=False, think_tags=False)
    how = Tokenising(table, kind, f"{root}/arrays", tokenizer, PLAIN, weighting)
    parts = plan_parts(storage.list_files(f"{root}/out/{table}"))
    for part in parts:
        tokenise_part(part, how)
    join_parts(parts, how)
    return SequenceStore.load(Path(root) / "arrays/arrays")


def pairs(root: Path, tokenizer: str, weighing: Weighing | None, rows: Rows = ROWS, **config: Any) -> tuple[Any, Rows]:
    """What curation makes of the rows."""
    curation = replace(plan(root, tokenizer, [rows], **config), prompt=PLAIN, weighing=weighing)
    counts = run_here(curation)
    files = storage.list_files(f"{root}/out/pairs")
    return counts, [row for found in parquet.read_tables(files) for row in found.to_pylist()]


def grouped(
    root: Path,
    tokenizer: str,
    weighing: Weighing | None,
    rows: Rows = ROWS,
    readings: tuple[Reading, ...] = (),
    **settings: Any,
) -> Any:
    """What the passes of groups make of the rows."""
    grouping = Grouping(
        **groups_make.plan([plan(root, tokenizer, [rows]).verified[0]]), out_uri=f"{root}/out", tokenizer=tokenizer,
        prompt=PLAIN, settings=GroupSettings(**settings), max_prompt_tokens=99, max_response_tokens=99, weighing=weighing,
        readings=readings,
    )  # fmt: skip
    worker = groups_make.Worker(grouping)

    def run(name: str, tasks: list[int]) -> Iterator[Counter[str]]:
        for task in tasks:
            yield worker.work(name, task)

    return groups_make.run_passes(grouping, run)


def loss(store: SequenceStore, objective: Objective) -> float:
    """Of the only pair, its own tokens' log-probs being the fixture's."""
    own = np.concatenate([np.arange(store.span(n).start + store.prompt_lengths[n], store.span(n).stop) for n in (0, 1)])
    flat = {name: np.zeros(len(store.tokens)) for name in ("l", "r")}
    flat["l"][own], flat["r"][own] = LOGPS, REFERENCES
    store = store.with_column(REFERENCE, flat["r"])
    whole = BatchPlan(store, TrainSettings(batch_size=1), 1)[0]
    units = batch_units(store, whole.sequences)
    bound = BoundObjective(store, whole, objective, 0.0, units, None)
    tensors = pack_tensors(store, Pack((0, 1), len(store.tokens)), units.slots, torch.device("cpu"))
    sums = torch.zeros(len(units.lengths), dtype=torch.float64)
    tensors.add_to(sums, torch.from_numpy(flat["l"][np.asarray(store.weights) != 0]))
    return bound.evaluate(sums, 0.0)[0]


@pytest.mark.parametrize("by", ["pairs", "groups"])
def test_cdpo_from_the_column_to_the_loss(tmp_path: Path, tokenizer: str, by: Learnt):
    """Weights and values are float32 on the way, which is what is left of the tolerance."""

    def store(name: str, values: list[float] | None, **settings: Any) -> SequenceStore:
        root = tmp_path / name
        weighing = None if values is None else column(root, [None, values], **settings)
        (pairs if by == "pairs" else grouped)(root, tokenizer, weighing)
        return made(root, by, tokenizer)

    some = store("some", [0.9, 0.25])
    own = [some.weights[some.span(n)][some.prompt_lengths[n] :].tolist() for n in (0, 1)]
    assert own == [[1, 1, 1], pytest.approx([0.1, 0.75])]
    assert loss(some, DpoObjective(beta=1.0)) == pytest.approx(0.6026529093, abs=2e-8)
    assert loss(some, DpoObjective(beta=0.1)) == pytest.approx(0.6836923049, abs=2e-9)
    plain, none = store("plain", None), store("none", [0.0, 0.0])
    assert (
        loss(none, DpoObjective(beta=1.0))
        == loss(plain, DpoObjective(beta=1.0))
        == pytest.approx(0.4740769842, abs=2e-8)
    )
    nearly = store("nearly", [1 - 2.0**-24] * 2)
    assert nearly.scored.tolist() == [3, 2], "a token that weighs next to nothing is counted"
    assert loss(nearly, DpoObjective(beta=1.0)) == pytest.approx(0.5543552445, abs=1e-6)
    exact = store("exact", [0.5, 0.25])  # numbers that float32 has
    expected = 1.7 / 3 - (0.5 * 1.2 + 0.75 * 0.3) / 2
    assert loss(exact, RediObjective(alpha=1.0)) == pytest.approx(expected, abs=1e-9)
    values = store("values", [0.5, 0.75], use="value")
    assert values.weights.tolist() == exact.weights.tolist()


def test_sides_and_what_is_without_values(tmp_path: Path, tokenizer: str):
    rows = [*ROWS, trace("q", 0, "correct", "4", problem="2"), trace("q", 1, "wrong", "5", problem="2")]
    values: Values = [[0.5, 0.5, 0.5], [0.5, 0.5], [0.25, 0.25], None]
    both = {"side": "both", "use": "value"}
    counts, (pair,) = pairs(tmp_path / "pairs", tokenizer, column(tmp_path, values, rows, **both), rows)
    assert pair["token_weights"] == [[0.5] * 3, [0.5] * 2]
    assert (counts.pairs, counts.pairs_dropped) == (1, {NO_WEIGHTS: 1})
    made_of = grouped(tmp_path / "groups", tokenizer, column(tmp_path, values, rows, **both), rows)
    assert (made_of.groups, made_of.dropped, made_of.problems_dropped) == (
        1,
        {NO_WEIGHTS: 1, "too_few": 1},
        {"too_few": 1},
    )
    chosen = {"side": "chosen", "use": "value"}
    _, (pair, other) = pairs(tmp_path / "chosen", tokenizer, column(tmp_path, values, rows, **chosen), rows)
    assert sorted([pair["token_weights"], other["token_weights"]]) == [[[0.25] * 2, None], [[0.5] * 3, None]]


def test_tokens_that_are_others_are_refused(tmp_path: Path, tokenizer: str):
    with pytest.raises(ColumnError, match="of another tokenizer"):
        column(tmp_path, [None, [0.5, 0.5]], tokenizer=fingerprint("0123")).check()
    pairs(tmp_path, tokenizer, column(tmp_path, [None, [0.5, 0.5]]))
    character_tokenizer("0123456789+=*").save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="it weighs the tokens of another tokenizer"):
        made(tmp_path, "pairs", str(tmp_path / "other"))
    pairs(tmp_path / "more", tokenizer, column(tmp_path, [None, [0.5, 0.5, 0.5]]))
    with pytest.raises(
        UserError, match=r"part-00000-00000.parquet:0:0 \(.*/p#0/p#1\): 3 token weights for the 2 tokens"
    ):
        made(tmp_path / "more", "pairs", tokenizer)
    shuffled = column(tmp_path, [[0.5, 0.5], None], [ROWS[1], ROWS[0]])
    with pytest.raises(ColumnError, match="row 0 is of p#1, not p#0"):
        pairs(tmp_path / "shuffled", tokenizer, shuffled)


def test_objectives_read_columns_by_name(tmp_path: Path, tokenizer: str):
    """Beside the tokens lie the sampler's log-probs, and the running mean of a reward model's logits (SYSTEMS.md, section 6: .4,
    -.4, 0); 0 outside the model's own tokens. A sample without numbers goes by name; other tokens are refused."""
    rows = [*ROWS, trace("p", 2, "wrong", "55", problem="1")]

    def reading(name: str, values: Values, **settings: Any) -> Reading:
        made_of = column(tmp_path / name, values, rows)
        return Reading(name, TokenColumn(column="c", **settings), made_of.shards, made_of.tokenizer)

    logps: Values = [LOGPS[:3], LOGPS[3:], [-1.0] * 3]
    logits: Values = [[0.4, -1.2, 0.8], [1.0, 0.0], None]
    readings = (reading("reward_mean", logits, use="running mean"), reading("sampler_logps", logps))
    counts = grouped(tmp_path, tokenizer, column(tmp_path, [None, [0.5, 0.5], [0.5] * 3], rows), rows, readings)
    assert (counts.members, counts.dropped) == (2, {"no_reward_mean": 1})
    store = made(tmp_path, "groups", tokenizer, "groups")
    prompt = int(store.prompt_lengths[0])
    found = {name: [store.columns[name][store.span(n)] for n in (0, 1)] for name in ("reward_mean", "sampler_logps")}
    assert not any(part[:prompt].any() for parts in found.values() for part in parts)
    own = {name: [part[prompt:].tolist() for part in parts] for name, parts in found.items()}
    assert own["sampler_logps"] == [pytest.approx(LOGPS[:3]), pytest.approx(LOGPS[3:])]
    assert own["reward_mean"] == [pytest.approx([0.4, -0.4, 0.0], abs=1e-7), pytest.approx([1.0, 0.5])]
    assert store.column_sums(0, "sampler_logps").tolist() == pytest.approx([sum(LOGPS[:3])])
    longer = (reading("more", [LOGPS, LOGPS[3:], LOGPS[:3]]),)
    grouped(tmp_path / "more", tokenizer, None, rows, longer)
    with pytest.raises(UserError, match="5 more for the 3 tokens of the model's own turns"):
        made(tmp_path / "more", "groups", tokenizer, "groups")
    with pytest.raises(ColumnError, match="of another tokenizer"):
        replace(longer[0], tokenizer=fingerprint("0123")).check()


def test_what_models_of_right_and_wrong_samples_learn_from(tmp_path: Path, tokenizer: str):
    """cDPO's data: one sample of each of the most frequent wrong answers until they are those of half of them, after the
    first only answers that several have; unreadable ones are left out. And as rejected one by chance of the most frequent."""
    answers = ["7", "5", "7", "9", None, "5", "7", "4", "$7$"]
    rows = [
        trace("p", n, "wrong", str(n), problem="1", extracted_answer=answer) for n, answer in enumerate(answers)
    ] + [trace("p", 9, "correct", "1", problem="1", extracted_answer="1")]  # fmt: skip

    def members(name: str, share: float) -> tuple[list[str], dict[str, int]]:
        root = tmp_path / name
        counts = grouped(root, tokenizer, None, rows, rewards={"wrong": 1.0}, least=1, frequent_answers=share)
        (group,) = next(parquet.read_tables(storage.list_files(f"{root}/out/groups"))).to_pylist()
        assert all(member["side"] == 1 for member in group["members"]), "each is an example to imitate"
        return [member["turns"][0]["content"] for member in group["members"]], counts.dropped

    kept, dropped = members("half", 0.5)
    assert kept == ["0"], "7 is the answer of 4 of 8"
    assert dropped == {"no_answer_read": 1, "same_answer_again": 3, "seldom_answer": 4, "verdict_correct": 1}
    assert members("more", 0.6)[0] == ["0", "1"]
    assert members("all", 1.0)[0] == ["0", "1"], "9 and 4 are seen once"
    drawn = set()
    for seed in range(8):
        _, (pair,) = pairs(
            tmp_path / f"{seed}", tokenizer, None, rows, seed=seed, rejected={"pick": "random_frequent_wrong"}
        )
        drawn.add(pair["rejected"][0]["content"])
    assert drawn <= {"0", "2", "6", "8"}
    assert len(drawn) > 1
