"""Every kind of named step is made again exactly when its output would be another: each of its fields, one after the other."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from redi_ray.config.curation import Difficulty
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.group_steps import GroupsStep, ScoreStep, TokenWeights, TurnFilter
from redi_ray.config.load import parse_config
from redi_ray.config.locators import LocateStep, Locator
from redi_ray.config.posed import PoseStep
from redi_ray.config.scorers import Scorer
from redi_ray.config.selection import Balance, KeptSamples, RandomProblems, Rounds
from redi_ray.config.self_verification import ExamineStep, SelfVerifyStep
from redi_ray.config.step_judges import AskStep, CompareStep, StateStep
from redi_ray.config.steps import AnyStep, CriticalStep, PairsStep, RectifyStep, SampleStep, SelectStep, VerifyStep
from redi_ray.config.token_steps import CheckStep, ContrastStep, LogpsStep
from redi_ray.config.training_steps import MergeStep, RehearsedStep, TrainStep
from redi_ray.pipeline.graph import Graph
from redi_ray.pipeline.kinds import KINDS
from redi_ray.pipeline.standard import graph_of
from redi_ray.pipeline.states import states
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Stage

SERVED = {"base_url": "http://a/v1", "model": "m"}
JUDGE: dict[str, Any] = {"kind": "judge", "endpoint": SERVED}
ASK = "Of {problem}, which of {steps} is wrong?"
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "select, by rate": (
        {"do": "select", "of": "verified", "difficulty": {"max_rate": 0.5}},
        {"of": "own_math", "by": "own_math", "difficulty": {"max_rate": 0.4}, "difficulty.model": "m",
         "difficulty.min_samples": 2, "difficulty.min_rate": 0.1, "difficulty.max_rate": 0.6},
    ),
    "select, by rounds": (
        {"do": "select", "of": "verified", "rounds": {"more_than": 1}},
        {"rounds.more_than": 2, "rounds.at_most": 3, "rounds.never": False, "rounds.samples": 2, "rounds.model": "m"},
    ),
    "select, by chance": (
        {"do": "select", "of": "verified", "random": {"problems": 3}},
        {"random.problems": 4, "random.seed": 1, "random": {"like": "own_math"}, "random.rest": True},
    ),
    "select, balanced": (
        {"do": "select", "of": "verified", "balance": {}}, {"balance.needs": "both", "balance.seed": 1},
    ),
    "select, by a column": (
        {"do": "select", "of": "verified", "by": "length", "keep": {"per_problem": 2}},
        {"by": "ruled", "keep.order": "lowest", "keep.per_problem": 3, "keep.overall": 9, "keep.like": "own_math",
         "keep.at_least": 1.0, "keep.at_most": 9.0, "keep.verdicts": ["correct"], "keep.seed": 1},
    ),
    "score, length": (
        {"do": "score", "of": "verified", "scorer": {"name": "length"}}, {"of": "own_math", "scorer.unit": "tokens"},
    ),
    "score, rule": (
        {"do": "score", "of": "verified", "scorer": {"name": "rule", "pattern": "a"}},
        {"scorer.pattern": "b", "scorer.value": 2.0, "scorer.spans": True, "scorer": {"name": "rule", "format": {}}},
    ),
    "score, imported": (
        {"do": "score", "of": "verified", "scorer": {"name": "imported", "paths": ["FILE"]}},
        {"scorer.paths": ["OTHER"], "scorer.trace_id": "id", "scorer.value": "b"},
    ),
    "score, retrieval": (
        {"do": "score", "of": "verified", "scorer": {"name": "retrieval", "corpus": ["FILE"]}},
        {"scorer.corpus": ["OTHER"], "scorer.id": "key", "scorer.text": "body", "scorer.measure": "recall", "scorer.k": 10,
         "scorer.distinct": False, "scorer.format": False, "scorer.k1": 1.0, "scorer.b": 0.5, "scorer.bad_format": 0.0,
         "scorer.bonus": 0.0},
    ),
    "score, self_verification": (
        {"do": "score", "of": "verified", "scorer": {"name": "self_verification"}}, {"scorer.form": {"right": ["yes"]}},
    ),
    "self_verify": (
        {"do": "self_verify", "of": "grouped"},
        {"of": "others_grouped", "form": {"again": "Again:"}, "chains": [{"wrong": 3, "attempts": 2}],
         "says_right": ["It is correct."], "says_wrong": ["It is incorrect."], "seed": 1,
         "checks": "asked_math"},
    ),
    "examine": (
        {"do": "examine", "of": "grouped"},
        {"of": "others_grouped", "prompt": "Is {solution} right of {problem}?", "right": "yes", "wrong": "no"},
    ),
    "score, reward": (
        {"do": "score", "of": "verified", "scorer": {"name": "reward", "model": "rm", "at": "steps"}},
        {"scorer.model": "prm", "scorer.at": "last", "scorer.form": "sentences", "scorer": {"name": "reward", "model": "FOLDER"}},
    ),
    "score, similarity": (
        {"do": "score", "of": "verified", "scorer": {"name": "similarity", "model": "sft", "to": "previous"}},
        {"scorer.model": "base", "scorer.to": "response", "scorer.form": "sentences", "scorer.temperature": 0.5,
         "scorer.negatives": 3, "scorer.seed": 1, "scorer": {"name": "similarity", "model": "FOLDER", "to": "previous"}},
    ),
    "score, alignment": (
        {"do": "score", "of": "verified", "scorer": {"name": "similarity", "model": "sft", "to": "response"}}, {"of": "own_math"},
    ),
    "score, step rewards": (
        {"do": "score", "of": "verified", "scorer": {"name": "step_rewards", "columns": {"judged": "value"}}},
        {"scorer.columns": {"judged": {"right": 1}}, "scorer.weights": "equal", "scorer.trajectory": "length"},
    ),
    "score, pass rate": (
        {"do": "score", "of": "verified", "scorer": {"name": "pass_rate", "samples": "own_math"}}, {"scorer.samples": "verified"},
    ),
    "score, trace reward": (
        {"do": "score", "of": "verified", "scorer": {"name": "trace_reward", "column": "judged"}},
        {"scorer.column": "marked", "scorer.alpha": 0.5},
    ),
    "locate, by lines": (
        {"do": "locate", "of": "verified", "locator": {"kind": "exact"}},
        {"of": "own_math", "ask": "all", "form": "sentences", "locator": JUDGE},
    ),
    "locate, judge": (
        {"do": "locate", "of": "verified", "locator": JUDGE},
        {"locator.neutral": "right", "locator.prompt": ASK, "locator.system": "s", "locator.max_tokens": 9,
         "locator.temperature": 0.5, "locator.top_p": 0.5, "locator.seed": 1, "locator.endpoint.model": "n",
         "locator.endpoint.omit": ["seed"], "locator.endpoint.extra_body": {"top_k": 1}},
    ),
    "locate, judge here": (
        {"do": "locate", "of": "verified", "locator": {"kind": "judge", "model": "FOLDER"}},
        {"locator.model": "OTHER_FOLDER", "locator.engine": {"device": "cpu", "dtype": "bfloat16"}},
    ),
    "locate, rollouts": (
        {"do": "locate", "of": "verified", "model": "sft", "locator": {"kind": "rollouts"}},
        {"model": "base", "locator.samples": 3, "locator.threshold": 0.1, "locator.search": "linear", "locator.temperature": 0.5,
         "locator.top_p": 0.5, "locator.max_tokens": 9, "locator.seed": 1},
    ),
    "locate, by a judge of its own": (
        {"do": "locate", "of": "verified", "model": "sft", "locator": {"kind": "step_judge"}},
        {"locator.question": {"numbered": False}, "locator.analyses": 3, "locator.average": "votes", "locator.threshold": 0.4,
         "locator.temperature": 0.5, "locator.top_p": 0.5, "locator.max_tokens": 9, "locator.seed": 1,
         "locator": {"kind": "step_judge", "analyses": 0, "opening": "<think>\nIs the step correct (Yes/No)?"}},
    ),
    "locate, imported": (
        {"do": "locate", "of": "verified", "locator": {"kind": "imported", "paths": ["FILE"]}},
        {"locator.paths": ["OTHER"], "locator.trace_id": "id", "locator.first_error": "first"},
    ),
    "groups": (
        {"do": "groups", "of": "verified", "scores": {"length": 1}},
        {"of": "own_math", "scores": {"length": 2}, "rewards": {"correct": 2}, "spans": "matches",
         "labels": {"right": 1, "wrong": -1}, "weights": {"column": "tokens"}, "frequent_answers": 0.5, "threshold": 0.5,
         "min_rate": 0.1, "max_rate": 0.9,
         "both_sides": True, "least": 1, "most": 4, "margin": 0.5, "per_side": 1, "most_wrong": 1, "turns": {}, "seed": 1,
         "max_prompt_tokens": 9, "max_response_tokens": 9, "weights.side": "both", "weights.use": "value",
         "turns.least_calls": 2, "turns.most_turns": 3, "turns.error_words": ["no"], "turns.cut_off": True,
         "repeats": [{"below": 0.5, "times": 2}], "token_columns": {"sampler_logps": "tokens"}, "span_baseline": 10,
         "span_factors": {"match": 2}},
    ),
    "groups, repeated, with token columns": (
        {"do": "groups", "of": "verified", "repeats": [{"below": 0.5, "times": 2}], "token_columns": {"one": "tokens"}},
        {"repeats": [{"below": 0.5, "times": 3}], "token_columns": {"one": {"column": "tokens", "use": "running mean"}}},
    ),
    "logps": (
        {"do": "logps", "of": "verified", "model": "sft"}, {"of": "own_math", "model": "base", "verdicts": ["correct"]},
    ),
    "logps, stored": (
        {"do": "logps", "of": "drawn"}, {"of": "drawn_math", "model": "base", "verdicts": ["correct"]},
    ),
    "check": (
        {"do": "check", "of": "verified", "column": "tokens", "to": "others"},
        {"column": "others", "to": "tokens", "max_difference": 0.1, "mean_difference": 0.1},
    ),
    "contrast": (
        {"do": "contrast", "of": "verified", "right": "sft", "wrong": "base"},
        {"of": "own_math", "right": "redi", "wrong": "redi", "beta": 0.5, "verdicts": ["no_answer"]},
    ),
    "rectify": (
        {"do": "rectify", "of": "verified", "at": "marked", "model": "sft"},
        {"model": "base", "verdicts": ["no_answer"], "labels": ["wrong"], "form": "sentences", "max_pairs": 3,
         "at": "judged"},
    ),
    "ask": (
        {"do": "ask", "of": "verified", "at": "marked"},
        {"at": "judged", "question": {"numbered": False}, "right": ["right", "unseen"], "wrong": ["wrong"],
         "part": {"up_to": 0.8}},
    ),
    "state": ({"do": "state", "problems": "problems", "text": "<think>\nIt is {answer}"}, {"text": "<think>\n{answer}"}),
    "pose": ({"do": "pose", "of": "verified"}, {"of": "own_math", "guides": "own", "prompt": "{problem}"}),
    "compare": (
        {"do": "compare", "of": "verified", "column": "judged", "to": "marked"},
        {"column": "marked", "to": "judged", "threshold": 0.4, "part": {"up_to": 0.8}, "seed": 1},
    ),
    "critical": (
        {"do": "critical", "of": "verified", "column": "tokens", "model": "sft"},
        {"column": "others", "model": "base", "max_samples": 3, "max_tokens_each": 9, "later": 1, "seed_of_draw": 1},
    ),
    "pairs": (
        {"do": "pairs", "of": "verified"},
        {"of": "own_math", "chosen_of": "own_math", "weights": {"column": "tokens"}},
    ),
    "train": (
        {"do": "train", "from": "sft", "on": "curated", "objective": {"name": "dpo"}},
        {"from": "base", "on": "verified", "objective": {"name": "ipo"}, "objective.beta": 0.3, "train": {"epochs": 2}},
    ),
    "train, rehearsing": (
        {"do": "train", "from": "sft", "on": "curated", "objective": {"name": "redi"}, "rehearse": {"on": "curated"}},
        {"rehearse.on": "own_math", "rehearse.batch_size": 3, "rehearse.objective": {"name": "dph", "coefficient": 0.1}},
    ),
    "merge": ({"do": "merge", "of": {"sft": 1, "redi": 1}}, {"of": {"sft": 2, "redi": 1}}),
    "sample": ({"do": "sample", "model": "sft"}, {"model": "base"}),
    "verify": ({"do": "verify", "of": "traces"}, {"of": "own"}),
}  # fmt: skip
"""A step, and fields with other values, dots leading into its sections. What another field turns on stands there as a whole."""
BESIDE: dict[str, Any] = {
    "own": {"do": "sample", "model": "sft"},
    "own_math": {"do": "verify", "of": "own"},
    "drawn": {"do": "sample", "model": "sft", "logprobs": True},
    "drawn_math": {"do": "verify", "of": "drawn"},
    "length": {"do": "score", "of": "verified", "scorer": {"name": "length"}},
    "ruled": {"do": "score", "of": "verified", "scorer": {"name": "rule", "pattern": "a"}},
    "grouped": {"do": "groups", "of": "verified", "least": 1},
    "asked": {"do": "examine", "of": "grouped"},
    "asked_own": {"do": "sample", "problems": "asked", "model": "sft"},
    "asked_math": {"do": "verify", "of": "asked_own"},
    "others_grouped": {"do": "groups", "of": "own_math", "least": 1},
    "rm": {"do": "train", "from": "sft", "on": "curated", "objective": {"name": "bradley_terry"}},
    "prm": {"do": "train", "from": "sft", "on": "curated", "objective": {"name": "outcome_bce"}},
    "matches": {"do": "score", "of": "verified", "scorer": {"name": "rule", "pattern": "a", "spans": True}},
    "marked": {"do": "locate", "of": "verified", "locator": {"kind": "exact"}},
    "judged": {"do": "locate", "of": "verified", "locator": JUDGE},
    "tokens": {"do": "contrast", "of": "verified", "right": "sft", "wrong": "base"},
    "others": {"do": "contrast", "of": "verified", "right": "sft", "wrong": "redi"},
}
"""What the steps above take."""
SUITED = {
    "select, by a column": {"keep.seed": {"keep": {"per_problem": 2, "order": "random"}}},
    "groups": {"labels": {"spans": "marked", "labels": {"right": 1, "wrong": 0}},
               "of": {"scores": {}, "rewards": {"correct": 1}}, "weights.side": {"weights": {"column": "tokens"}},
               "weights.use": {"weights": {"column": "tokens"}}, "span_baseline": {"spans": "matches"},
               "span_factors": {"spans": "matches"},
               **{f"turns.{name}": {"turns": {}} for name in
               ("least_calls", "most_turns", "error_words", "cut_off")}},
}  # fmt: skip
"""What else is set, before and after, for a field to be set."""
HOW = [
    ("locate, judge", "locator.endpoint.base_url", "http://b/v1"), ("locate, judge", "locator.endpoint.max_in_flight", 3),
    ("locate, judge here", "locator.engine", {"device": "cpu", "batch_size": 9}), ("sample", "shard_rows", 9),
    ("sample", "engine", {"concurrency": 3}), ("rectify", "shard_rows", 9), ("verify", "processes", 2),
    ("verify", "cache_size", 9), ("verify", "batch_rows", 9), ("train", "train", {"checkpoint_every": 7}),
    ("train", "train", {"keep_last": 7}), ("select, by a column", "keep.seed", 7),
    ("score, alignment", "scorer.temperature", 7), ("score, alignment", "scorer.negatives", 7),
    ("score, alignment", "scorer.seed", 7),
]  # fmt: skip
"""Fields that only say how the work is done, or that have no say there."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("FILE", "OTHER"):
        (tmp_path / f"{name}.jsonl").write_text(
            json.dumps({"trace_id": name, "value": 1, "id": "a", "text": "b"}) + "\n"
        )
    for name in ("FOLDER", "OTHER_FOLDER"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"name": name}))
    return tmp_path


def config_with(folder: Path, step: dict[str, Any], **model: Any) -> ExperimentConfig:
    """With the step as `x`, and what learns from it as far as something does. model: the section of that name."""
    text = json.dumps({**BESIDE, "x": step})
    for name in ("OTHER_FOLDER", "FOLDER"):
        text = text.replace(f'"{name}"', json.dumps(str(folder / name)))
    for name in ("FILE", "OTHER"):
        text = text.replace(f'"{name}"', json.dumps(str(folder / f"{name}.jsonl")))
    return parse_config(
        {
            "name": "x",
            "storage": {"root": str(folder / "runs")},
            "model": model,
            "steps": json.loads(text),
            "evaluate": {"models": ["base"]},
        }
    )


def graph_and_keys(folder: Path, step: dict[str, Any]) -> tuple[Graph, dict[str, str | None]]:
    config = config_with(folder, step)
    graph = graph_of(config)
    return graph, {state.step.name: state.key for state in states(graph, Run.of(config))}


def with_field(step: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    copied = json.loads(json.dumps(step))
    *parents, leaf = path.split(".")
    node = copied
    for name in parents:
        node = node.setdefault(name, {})
    node[leaf] = value
    return copied


@pytest.mark.parametrize("case", CASES)
def test_each_field_makes_its_step_anew_and_nothing_before_it(case: str, folder: Path) -> None:
    step, changes = CASES[case]
    plain = graph_and_keys(folder, step)[1]
    wrong = []
    for path, value in changes.items():
        suited = {**step, **SUITED.get(case, {}).get(path, {})}
        before = plain if suited == step else graph_and_keys(folder, suited)[1]
        graph, after = graph_and_keys(folder, with_field(suited, path, value))
        moved = {name for name, key in after.items() if before.get(name) != key}
        made = {name for name in graph.steps if name == "x" or name.startswith("x-")}
        if "x" not in moved or not moved <= made:
            wrong.append(f"{path}: {value!r} moves {sorted(moved) or 'nothing'}")
    assert wrong == []


def paths(settings: type[Any], beginning: str = "") -> set[str]:
    """Dotted paths of a class's fields, but for what says of which kind it is."""
    names = settings.model_fields if issubclass(settings, BaseModel) else [field.name for field in fields(settings)]
    return {beginning + name for name in names if beginning + name not in ("do", "scorer.name", "locator.kind")}


def told(changes: dict[str, Any]) -> set[str]:
    """The paths, and those of sections that are set as a whole."""
    return {*changes} | {
        f"{path}.{name}" for path, value in changes.items() if isinstance(value, dict) for name in value
    }


def test_no_field_is_left_out() -> None:
    """A new one has to be among those above."""
    scorers, locators = (get_args(get_args(union)[0]) for union in (Scorer, Locator))
    wanted = {
        "select": paths(SelectStep).union(paths(Difficulty, "difficulty."), paths(Rounds, "rounds."),
                                          paths(RandomProblems, "random."), paths(KeptSamples, "keep."),
                                          paths(Balance, "balance.")),
        "score": paths(ScoreStep).union(*(paths(scorer, "scorer.") for scorer in scorers)),
        "locate": paths(LocateStep).union(*(paths(locator, "locator.") for locator in locators)),
        "groups": paths(GroupsStep) | paths(TokenWeights, "weights.") | paths(TurnFilter, "turns."),
        "contrast": paths(ContrastStep), "rectify": paths(RectifyStep),
        "ask": paths(AskStep), "state": paths(StateStep), "compare": paths(CompareStep), "check": paths(CheckStep),
        "self_verify": paths(SelfVerifyStep), "examine": paths(ExamineStep), "pose": paths(PoseStep),
        "critical": paths(CriticalStep), "logps": paths(LogpsStep), "pairs": paths(PairsStep), "merge": paths(MergeStep),
        "train": {"from" if path == "start" else path for path in paths(TrainStep)} | paths(RehearsedStep, "rehearse."),
        "sample": paths(SampleStep), "verify": paths(VerifyStep),
    }  # fmt: skip
    known = {
        "select": {"difficulty.buckets"},
        "rectify": {"of"},
        "critical": {"of"},
        "ask": {"of"},
        "compare": {"of"},
        "check": {"of"},
        "state": {"problems"},
        "sample": {"problems"},
    }
    for do, asked in wanted.items():
        tried = {path for step, changes in CASES.values() if step["do"] == do for path in told(changes)}
        lacking = {path for path in asked if not any(f"{other}.".startswith(f"{path}.") for other in tried)}
        assert lacking == known.get(do, set()), f"{do}: refused there, or of which this config has no other"
    assert {*wanted, "import"} == {
        get_args(step.model_fields["do"].annotation)[0] for step in get_args(get_args(AnyStep)[0])
    }


@pytest.mark.parametrize(("case", "path", "value"), HOW, ids=[f"{case}, {path}" for case, path, _ in HOW])
def test_what_only_says_how_makes_nothing_anew(case: str, path: str, value: Any, folder: Path) -> None:
    step = CASES[case][0]
    assert graph_and_keys(folder, with_field(step, path, value))[1] == graph_and_keys(folder, step)[1]


ADAPTERS, DROPOUT, ROPE = (
    {"overrides": {name: value}} for name, value in (("lora", {}), ("dropout", True), ("rope_theta", 5e5))
)
SYSTEM = {"prompt": {"system": "Think."}}
FORM = {"do": "score", "of": "verified", "scorer": {"name": "rule", "format": {}}}


@pytest.mark.parametrize(
    ("step", "unread", "read"),
    [
        (CASES["score, length"][0], [SYSTEM, ADAPTERS, ROPE], []),
        (CASES["score, rule"][0], [SYSTEM, ADAPTERS, ROPE], []),
        (FORM, [ADAPTERS, ROPE], [SYSTEM]),
        (CASES["score, imported"][0], [SYSTEM, ADAPTERS, ROPE], []),
        (CASES["score, retrieval"][0], [SYSTEM, ADAPTERS, ROPE], []),
        (CASES["score, reward"][0], [ADAPTERS, DROPOUT], [SYSTEM, ROPE]),
        (CASES["contrast"][0], [ADAPTERS, DROPOUT], [SYSTEM, ROPE]),
        (CASES["logps"][0], [ADAPTERS, DROPOUT], [SYSTEM, ROPE]),
    ],
)
def test_of_the_model_section_counts_what_a_step_reads(
    step: dict[str, Any], unread: list[dict[str, Any]], read: list[dict[str, Any]], folder: Path
) -> None:
    """Inputs being the same: adapters and dropout are training's, a prompt that no scorer renders is nobody's."""

    def key(**model: Any) -> str:
        config = config_with(folder, step, **model)
        made, run = graph_of(config)["x"], Run.of(config)
        place = KINDS[made.kind].place(
            run, made, {role: Stage(run.uri, of, {}, {}) for role, of in made.inputs.items()}
        )
        assert place is not None
        return place.key

    assert [model for model in unread if key(**model) != key()] == []
    assert [model for model in read if key(**model) == key()] == []


@pytest.mark.parametrize("case", ["score, imported", "score, retrieval", "locate, imported", "locate, judge here"])
def test_what_a_step_reads_counts_by_its_content(case: str, folder: Path) -> None:
    step, read = CASES[case][0], (folder / "FILE.jsonl", folder / "FOLDER" / "config.json")
    before = graph_and_keys(folder, step)[1]
    for file in read:
        os.utime(file, (1, 1))
    assert graph_and_keys(folder, step)[1] == before
    for file in read:
        file.write_text(file.read_text() + "\n")
    after = graph_and_keys(folder, step)[1]
    assert [name for name in after if after[name] != before[name]] == ["x"]
