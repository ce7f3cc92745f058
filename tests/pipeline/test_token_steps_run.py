"""Rectifying, contrasting and weighing tokens for real, in a small world: vLLM goes on from wrong steps, two trained models score
tokens, DPO and REDI learn from both; the sampler's log-probs go to OREAL; killed and made again."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from processes import kill_when, rows, start
from small_world import small_world

from redi_ray.config.load import load_config
from redi_ray.data.sources.readers import DataError
from redi_ray.data.sources.world import apply, read_chain
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.pipeline.runner import Pipeline
from redi_ray.store.manifests import current_manifest
from redi_ray.train.monitors import read_metrics
from redi_ray.train.sequences import SequenceStore

STEPS = {
    "located": {"do": "locate", "of": "verified", "locator": {"kind": "exact"}},
    "mended": {"do": "rectify", "of": "verified", "at": "located", "model": "base", "samples_per_round": 4, "max_rounds": 1},
    "often": {"do": "groups", "of": "verified", "rewards": {"wrong": 1}, "least": 1, "frequent_answers": 0.5},
    "wrongly": {"do": "train", "from": "base", "on": "often", "objective": {"name": "sft"}, "train": {"learning_rate": 1e-3}},
    "critical": {"do": "contrast", "of": "verified", "right": "sft", "wrong": "wrongly"},
    "judged": {"do": "critical", "of": "verified", "column": "critical", "model": "base", "samples_per_round": 4,
               "max_samples": 6, "later": 0},
    "weighed": {"do": "pairs", "of": "verified", "weights": {"column": "critical"},
                "rejected": {"pick": "random_frequent_wrong"}},
    "step_dpo": {"do": "train", "from": "sft", "on": "mended", "objective": {"name": "dpo"}},
    "cdpo": {"do": "train", "from": "sft", "on": "weighed", "objective": {"name": "dpo"}},
    "weighted_redi": {"do": "train", "from": "sft", "on": "weighed", "objective": {"name": "redi"}},
    "logps": {"do": "logps", "of": "verified", "model": "base"},
    "stored": {"do": "logps", "of": "verified"},
    "agree": {"do": "check", "of": "verified", "column": "stored", "to": "logps", "max_difference": 1e-4},
    "of_sft": {"do": "logps", "of": "verified", "model": "sft"},
    "apart": {"do": "check", "of": "verified", "column": "stored", "to": "of_sft", "max_difference": 1e-4},
    "rollouts": {"do": "groups", "of": "verified", "both_sides": True, "token_columns": {"sampler_logps": "logps"},
                 "repeats": [{"below": 0.5, "times": 2}, {"below": 1, "times": 1}]},
    "anchored": {"do": "train", "from": "sft", "on": "curated", "objective": {"name": "sft", "kl_vocabulary": 0.1}},
    "oreal": {"do": "train", "from": "sft", "on": "rollouts", "objective": {"name": "oreal"}},
}  # fmt: skip
CONFIG = small_world("tokens", STEPS, concurrent_steps=2)
CONFIG["generate"] |= {"logprobs": True}
GOALS = ("step_dpo", "weighted_redi", "oreal")
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tokens.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


@pytest.fixture(scope="module")
def calm(ray_session: None, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run's root."""
    root = tmp_path_factory.mktemp("calm")
    pipeline = Pipeline(load_config(str(config), [f"storage.root={root}"]))
    pipeline.make((*GOALS, "stored"))
    return root


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_comes_out(calm: Path):
    assert_sound(calm / "tokens")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_engines_log_probs_are_those_of_the_pass_that_trains(calm: Path, config: Path):
    """Of every sample, every token; another model's are not, which ends the run."""
    pipeline = Pipeline(load_config(str(config), [f"storage.root={calm}"]))
    pipeline.make(("agree",))
    run = calm / "tokens"
    told, stored = (current_manifest(str(run), f"steps/{name}") for name in ("agree/checked_tokens", "stored/column"))
    samples = rows(run, "verified", "verified")
    assert told.counts == stored.counts == {"in": len(samples), "out": len(samples)}
    assert told.facts["tokens"] == stored.facts["tokens"] == sum(row["num_tokens"] for row in samples)
    assert 0 < told.facts["mean_difference"] <= told.facts["max_difference"] < 1e-4
    with pytest.raises(DataError, match="apart: stored and of_sft are too far apart: max_difference"):
        pipeline.make(("apart",))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_comes_out_near_the_start(calm: Path, config: Path):
    """At the first step the KL from the model that training starts from is 0, then it is not."""
    Pipeline(load_config(str(config), [f"storage.root={calm}"])).make(("anchored",))
    anchored = read_metrics(Path(current_manifest(str(calm / "tokens"), "checkpoints/anchored").uri) / "metrics.jsonl")
    assert abs(anchored[0]["kl"]) < 1e-6
    assert anchored[1]["kl"] > anchored[0]["kl"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_critical_tokens_by_rollouts(calm: Path, config: Path):
    """A model goes on from behind every token of the samples that are drawn, and from nothing else."""
    Pipeline(load_config(str(config), [f"storage.root={calm}"])).make(("judged",))
    run = calm / "tokens"
    verified = {row["trace_id"]: row for row in rows(run, "verified", "verified")}
    tokenizer = load_tokenizer(current_manifest(str(run), "checkpoints/base").facts["export"])
    found = rows(run, "steps/judged/critical", "critical")
    assert 0 < len(found) <= 6
    assert {verified[row["trace_id"]]["verdict"] for row in found} == {"wrong"}
    starts = rows(run, "steps/judged-starts/starts", "problems")
    for row in found:
        text = verified[row["trace_id"]]["completion"]
        begun = [one["begun"] for one in starts if one["problem_id"].rpartition("@")[0] == row["trace_id"]]
        assert begun == sorted(set(begun), key=len)
        assert all(text.startswith(one) for one in begun)
        assert begun[-1] == text
        assert len(begun) == len(row["right"]) == len(tokenizer(text.removeprefix("<think>\n"))["input_ids"])
        assert all(0 <= right <= 4 for right in row["right"])
    told = current_manifest(str(run), "steps/judged/critical")
    assert told.counts == {"in": len(found), "out": len(found)}
    assert told.facts["with_critical"] + told.facts["without_critical"] == len(found)


def assert_sound(run: Path) -> None:
    """The steps of every pair stand behind the same text, which is right, and the rejected one is not the line that belongs
    there; every wrong sample has its numbers, and what is trained on has the very weights."""
    verified = {row["trace_id"]: row for row in rows(run, "verified", "verified")}
    groups = rows(run, "steps/mended/groups", "groups")
    assert groups
    for group in groups:
        chosen, rejected = group["members"]
        texts = [member["turns"][0]["content"] for member in (chosen, rejected)]
        begun, steps = texts[0][: chosen["spans"][0]["start"]], [t[chosen["spans"][0]["start"] :] for t in texts]
        wrong = verified[group["group_id"].partition("/")[2].rpartition("#")[0]]
        assert wrong["verdict"] == "wrong"
        assert wrong["completion"].startswith(texts[1])
        assert texts[1].startswith(begun)
        assert steps[0] != steps[1]
        lines, before = lines_of(wrong["problem"]), begun.removeprefix("<think>\n").splitlines()
        assert before == lines[: len(before)]
        assert steps[1] != [*lines, ""][len(before)]
    store = SequenceStore.load(Path(current_manifest(str(run), "steps/step_dpo/sequences/pairs").uri) / "arrays")
    tokenizer = load_tokenizer(current_manifest(str(run), "checkpoints/base").facts["export"])
    scored = {
        tokenizer.decode(store.tokens[store.span(n)][store.weights[store.span(n)] != 0]) for n in range(len(store))
    }
    assert scored == {m["turns"][0]["content"][m["spans"][0]["start"] :] for group in groups for m in group["members"]}

    values = {row["trace_id"]: row["values"] for row in rows(run, "steps/critical/column", "column")}
    assert {key for key, found in values.items() if found is not None} == {
        key for key, row in verified.items() if row["verdict"] == "wrong"
    }
    store = SequenceStore.load(Path(current_manifest(str(run), "steps/weighted_redi/sequences/pairs").uri) / "arrays")
    pairs = sorted(rows(run, "steps/weighed/curated", "pairs"), key=lambda row: row["pair_id"])
    assert len(pairs) == store.num_groups
    for number, pair in enumerate(pairs):
        good, bad = store.sequences_of_group(number)
        own = store.weights[store.span(bad)][store.prompt_lengths[bad] :]
        expected = 1 - np.array(values[pair["pair_id"].rpartition("/")[2]], np.float64)
        assert own == pytest.approx(expected, abs=1e-7)
        assert (own > 0).all()
        assert (store.weights[store.span(good)][store.prompt_lengths[good] :] == 1).all()

    values = {row["trace_id"]: row["values"] for row in rows(run, "steps/logps/column", "column")}
    assert all(values[key] is not None for key in verified)
    of_text = {(row["problem_id"], row["completion"]): values[key] for key, row in verified.items()}
    store = SequenceStore.load(Path(current_manifest(str(run), "steps/oreal/sequences/groups").uri) / "arrays")
    groups = sorted(rows(run, "steps/rollouts/groups", "groups"), key=lambda row: row["group_id"])
    assert len(groups) == store.num_groups > len({group["problem_id"] for group in groups})
    for number, group in enumerate(groups):
        for sequence, member in zip(store.sequences_of_group(number), group["members"], strict=True):
            own = store.columns["sampler_logps"][store.span(sequence)][store.prompt_lengths[sequence] :]
            assert own.tolist() == of_text[group["problem_id"], member["turns"][0]["content"]]
            assert (own < 0).all()


def lines_of(problem: str) -> list[str]:
    """A chain's lines without a mistake."""
    (value, steps), found = read_chain(problem), []
    for operator, digit in steps:
        found.append(f"{value}{operator}{digit}={apply(value, operator, digit)}")
        value = apply(value, operator, digit)
    return found


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_killed_in_the_continuations_in_the_contrast_and_before_the_pairs(calm: Path, config: Path, tmp_path: Path):
    """kill -9 of the driver; what comes out is what the undisturbed run has: the same rows, the same weights."""
    columns, trained = ("critical", "logps", "stored"), ("step_dpo", "cdpo", "weighted_redi", "oreal")
    late = ("mended*", "judged*", "weighed", "rollouts", *columns, *trained)
    shutil.copytree(calm, tmp_path / "torn", ignore=shutil.ignore_patterns(*late))
    run, calmly = tmp_path / "torn/tokens", calm / "tokens"
    command = ("run", str(config), "--until", "step_dpo", f"storage.root={tmp_path / 'torn'}")
    samples = run / "steps/mended-samples/traces"
    kill_when(start(*command), lambda: any(samples.glob("*/traces/*/part-*.parquet")))
    kill_when(start(*command), lambda: any((run / "steps/mended/groups").rglob("right/*.json")))
    command = (*command[:3], "cdpo", command[-1])
    kill_when(start(*command), lambda: any((run / "steps/critical/column").glob("*/work/*/*.json")))
    command = (*command[:3], "oreal", command[-1])
    kill_when(start(*command), lambda: any((run / "steps/logps/column").glob("*/work/*/*.json")))
    stored = (*command[:3], "stored", command[-1])
    kill_when(start(*stored), lambda: any((run / "steps/stored/column").glob("*/work/*/*.json")))
    kill_when(start(*command), lambda: any((run / "steps/rollouts/groups").rglob("chosen/*.json")))
    Pipeline(load_config(str(config), [f"storage.root={tmp_path / 'torn'}"])).make((*GOALS, "stored"))

    for stage, table in (
        ("mended/groups", "groups"),
        ("critical/column", "column"),
        ("weighed/curated", "pairs"),
        ("logps/column", "column"),
        ("stored/column", "column"),
        ("rollouts/groups", "groups"),
    ):
        key = {"groups": "group_id", "column": "trace_id", "pairs": "pair_id"}[table]
        ours, theirs = (sorted(rows(where, f"steps/{stage}", table), key=lambda r: r[key]) for where in (run, calmly))
        assert ours == theirs
    for name in GOALS:
        ours, theirs = (current_manifest(str(where), f"checkpoints/{name}").facts["export"] for where in (run, calmly))
        assert (Path(ours) / WEIGHTS).read_bytes() == (Path(theirs) / WEIGHTS).read_bytes()
