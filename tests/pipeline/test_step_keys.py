"""Every kind of named step is made again exactly when its output would be another: each of its fields, one after the other."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from step_cases import BESIDE, CASES, HOW, SUITED

from redi_ray.config.curation import Difficulty
from redi_ray.config.data import ProblemsStep
from redi_ray.config.dialogues import HandOverStep, OpeningsStep
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.grades import GradeStep
from redi_ray.config.group_steps import GroupsStep, ScoreStep, TokenWeights, TurnFilter
from redi_ray.config.load import parse_config
from redi_ray.config.locators import LocateStep, Locator
from redi_ray.config.mixture import MixStep
from redi_ray.config.paraphrase import ParaphraseStep, Rewriter
from redi_ray.config.perturb import Distractor, ImportedVariants, PerturbStep, RobustnessStep
from redi_ray.config.posed import PoseStep
from redi_ray.config.reflection import ReflectStep
from redi_ray.config.scorers import Scorer
from redi_ray.config.selection import Balance, KeptSamples, RandomProblems, Rounds
from redi_ray.config.self_verification import ExamineStep, SelfVerifyStep
from redi_ray.config.step_judges import AskStep, CompareStep, StateStep
from redi_ray.config.steps import AnyStep, CriticalStep, PairsStep, RectifyStep, SampleStep, SelectStep, VerifyStep
from redi_ray.config.token_steps import CheckStep, ContrastStep, LogpsStep, SoftTargetsStep
from redi_ray.config.training_steps import MergeStep, ModelStep, RehearsedStep, TrainStep
from redi_ray.pipeline.graph import Graph
from redi_ray.pipeline.kinds import KINDS
from redi_ray.pipeline.standard import graph_of
from redi_ray.pipeline.states import states
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Stage


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
        "openings": paths(OpeningsStep), "hand_over": paths(HandOverStep),
        "critical": paths(CriticalStep), "logps": paths(LogpsStep), "soft_targets": paths(SoftTargetsStep),
        "reflect": paths(ReflectStep),
        "perturb": paths(PerturbStep) | paths(Distractor, "distractor.") | paths(ImportedVariants, "imported."),
        "robustness": paths(RobustnessStep),
        "paraphrase": paths(ParaphraseStep) | paths(Rewriter, "by."),
        "model": paths(ModelStep), "pairs": paths(PairsStep), "merge": paths(MergeStep),
        "train": {"from" if path == "start" else path for path in paths(TrainStep)} | paths(RehearsedStep, "rehearse."),
        "sample": paths(SampleStep), "verify": paths(VerifyStep), "grade": paths(GradeStep),
        "problems": paths(ProblemsStep) - ProblemsStep.HOW, "mix": paths(MixStep) - MixStep.HOW,
    }  # fmt: skip
    known = {
        "select": {"difficulty.buckets"},
        "rectify": {"of"},
        "critical": {"of"},
        "ask": {"of"},
        "compare": {"of"},
        "check": {"of"},
        "openings": {"of"},
        "perturb": {"names", "units"},
        "state": {"problems"},
        "sample": {"problems"},
        "grade": {"of"},
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
        (CASES["soft_targets"][0], [ADAPTERS, DROPOUT], [SYSTEM, ROPE]),
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


@pytest.mark.parametrize(
    "case", ["score, imported", "score, retrieval", "locate, imported", "locate, judge here", "model"]
)
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
