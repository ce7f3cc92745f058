"""Variants of problems as tables: made shard by shard, held against their originals and right traces, counted to the last one."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from redi_ray.config.answers import AnswerSettings, VerifySettings
from redi_ray.config.perturb import ImportedVariants, PerturbSettings
from redi_ray.config.worlds import ArithmeticSource
from redi_ray.data.perturb.imported import import_variants
from redi_ray.data.perturb.kept import Keeping, keep_shard, look_at_traces
from redi_ray.data.perturb.made import Making, make_shard
from redi_ray.data.sources.readers import DataError
from redi_ray.data.sources.world import answer, build_world
from redi_ray.eval.robustness import hold_against
from redi_ray.schemas import PROBLEM, VERIFIED_TRACE
from redi_ray.store import parquet

RULES: dict[str, Any] = {"distractor": {}, "order": {}, "numbers": {}}


def rows_of(folder: Path, table: str) -> list[dict[str, Any]]:
    files = sorted((folder / table).glob("*.parquet"))
    return [row for found in parquet.read_tables([str(file) for file in files]) for row in found.to_pylist()]


def write_problems(folder: Path, rows: list[tuple[str, str, str | None]]) -> None:
    told = [{"problem_id": name, "problem": text, "answer": gold, "source": "x"} for name, text, gold in rows]
    parquet.write_table(str(folder / "in" / "part-0.parquet"), pa.Table.from_pylist(told, schema=PROBLEM))


def write_verified(path: Path, rows: list[tuple[str, str, str]]) -> str:
    none = {name: None for name in VERIFIED_TRACE.names} | {"verdict_by": [], "sample_index": 0, "problem": "?"}
    told = [
        {**none, "trace_id": f"{n}", "problem_id": name, "completion": text, "verdict": verdict}
        for n, (name, text, verdict) in enumerate(rows)
    ]
    parquet.write_table(str(path), pa.Table.from_pylist(told, schema=VERIFIED_TRACE))
    return str(path)


def made_and_kept(folder: Path, settings: PerturbSettings, of_world: bool = False) -> Counter[str]:
    how = Making(str(folder / "in"), str(folder / "out"), settings, AnswerSettings(), of_world)
    make_shard("part-0.parquet", how)
    assert make_shard("part-0.parquet", how) == 0, "a shard that is there is not made again"
    return keep_shard("part-0.parquet", Keeping(str(folder / "out"), settings.changed, VerifySettings()))


def test_chains_of_the_world_keep_their_results(tmp_path: Path) -> None:
    problems = build_world(ArithmeticSource(num_problems=200, num_test=5, num_dev=5)).train
    write_problems(tmp_path, [(f"p{n}", text, answer(text)) for n, text in enumerate(problems)])
    counts = made_and_kept(tmp_path, PerturbSettings(**RULES, originals=True), of_world=True)
    assert counts["in"] == 4 * 200
    assert counts["originals"] == 200
    assert counts["of/distractor/kept"] == 200
    found = rows_of(tmp_path / "out", "problems")
    assert counts["out"] == len(found) == 800 - sum(n for name, n in counts.items() if ": " in name)
    assert all(answer(row["problem"]) == row["answer"] for row in found)
    texts = {row["problem_id"]: row["problem"] for row in found}
    variants = rows_of(tmp_path / "out", "variants")
    assert {row["keeps_answer"] for row in variants} == {True}
    assert all(row["problem"] != texts[row["original_id"]] == row["original"] for row in variants)
    assert len(rows_of(tmp_path / "out", "dropped")) == 800 - len(found)


def test_the_seed_alone_decides_and_what_has_no_answer_has_no_variant(tmp_path: Path) -> None:
    rows = [("a", "Tom has 3 cats. How many cats has Tom?", "3"), ("b", "Prove that 2 is even. Is it?", None)]
    texts = []
    for name, seed in (("one", 1), ("two", 1), ("three", 7)):
        write_problems(tmp_path / name, rows)
        counts = made_and_kept(tmp_path / name, PerturbSettings(names={}, seed=seed))
        assert (counts["in"], counts["out"], counts["names: no_reference_answer"]) == (2, 1, 1)
        texts.append(rows_of(tmp_path / name / "out", "problems"))
    assert texts[0] == texts[1] != texts[2]


def test_the_checker_finds_which_variants_keep_the_answer(test_data: Path, tmp_path: Path) -> None:
    """mathcheck_perturb: 129 of 129 paraphrases and distractors, 1 of 129 scenarios, which ask something else."""
    settings = ImportedVariants(paths=[str(test_data / "steps_turns_rewards/mathcheck_perturb.jsonl.gz")])
    assert import_variants(settings, str(tmp_path)) == {"rows": 516, "rejected": {}}
    how = Keeping(str(tmp_path), "drop", VerifySettings())
    counts = keep_shard("part-00000.parquet", how)
    kept = {name: counts[f"of/{name}/kept"] for name in ("paraphrase", "distractor", "scenario")}
    assert kept == {"paraphrase": 129, "distractor": 129, "scenario": 1}
    assert counts["scenario: answer_changed"] == 128
    assert (counts["in"], counts["out"], counts["originals"]) == (516, 388, 129)
    assert keep_shard("part-00000.parquet", how) == counts, "a shard that is done is counted"


def test_right_traces_of_the_originals_tell_the_same(test_data: Path, tmp_path: Path) -> None:
    """A right trace of each seed, of the seed's own answer: by the scenarios' answers 128 are wrong, by the others' none."""
    file = test_data / "steps_turns_rewards/mathcheck_perturb.jsonl.gz"
    import_variants(ImportedVariants(paths=[str(file)]), str(tmp_path))
    with gzip.open(file, "rt") as lines:
        seeds = [row for row in map(json.loads, lines) if row["variant"] == "seed"]
    right = [(row["group_id"], f"So it is \\boxed{{{row['answer']:g}}}.", "correct") for row in seeds]
    wrong = [(row["group_id"], "\\boxed{-5}", "wrong") for row in seeds]
    verified, how = (
        write_verified(tmp_path / "verified.parquet", right + wrong),
        Keeping(str(tmp_path), "keep", VerifySettings()),
    )
    look_at_traces([str(tmp_path / "work/made/part-00000.parquet")], [verified], how)
    counts = keep_shard("part-00000.parquet", how)
    assert (counts["of/scenario/right"], counts["of/scenario/moved"]) == (128, 128)
    assert counts["of/paraphrase/moved"] == counts["of/distractor/moved"] == 0
    assert counts["out"] == 516, "what has changed is told, and stays where that is wanted"
    moved = [row for row in rows_of(tmp_path, "variants") if row["moved"]]
    assert {row["perturbation"] for row in moved} == {"scenario"}
    assert {row["keeps_answer"] for row in moved} == {False}


@pytest.mark.parametrize(
    ("rows", "change", "told"),
    [
        ([{"group_id": "1", "variant": "seed", "problem": "?"}], {}, "no row has a column answer"),
        ([{"group_id": "1", "variant": "new", "problem": "?", "answer": 1}], {}, "Name what the originals are called"),
        ([{"group_id": "1", "variant": "seed", "problem": "?", "answer": 1}] * 2, {}, "'two_originals': 2"),
    ],
)
def test_files_that_hold_no_groups_are_refused(
    rows: list[dict[str, Any]], change: dict[str, Any], told: str, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=told):
        import_variants(ImportedVariants(paths=[str(tmp_path / "rows.jsonl")], **change), str(tmp_path / "out"))


def test_accuracies_are_paired_by_problem(tmp_path: Path) -> None:
    """By hand: a loses one of two samples, b keeps none, c stays right; d has no original, e no variant."""
    rows = [
        ("a", "r", "correct"), ("a", "r", "correct"), ("a~names", "r", "correct"), ("a~names", "w", "wrong"),
        ("b", "r", "correct"), ("b~names", "w", "no_answer"), ("b~order", "r", "correct"), ("c", "r", "correct"),
        ("c~names", "r", "correct"), ("d~names", "r", "correct"), ("e", "r", "correct"),
    ]  # fmt: skip
    shard = write_verified(tmp_path / "v.parquet", rows)
    counts, found = hold_against([shard], [shard], 0, str(tmp_path / "paired.parquet"))
    assert (counts["in"], counts["out"], counts["original_not_sampled"]) == (11, 10, 1)
    names = found["by"]["names"]
    assert (names["problems"], names["original"], names["variants"]) == (3, 1.0, 0.5)
    assert (names["difference"], names["lost"], names["gained"]) == (-0.5, 2, 0)
    assert names["ci95"][0] < -0.5 < names["ci95"][1]
    assert found["by"]["order"]["difference"] == 0
    assert found["all"]["variants"] == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert found["worst"]["accuracy"] == pytest.approx((0.5 + 0 + 1) / 3)
