"""A guided search in the graph: what guides it is an input of the evaluation, its settings decide the scores, and what does not
fit is refused before anything starts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from redi_ray.cli.preflight import check_sources, preflight
from redi_ray.config.guided import GuidedSettings
from redi_ray.config.load import ConfigError, parse_config
from redi_ray.errors import UserError
from redi_ray.pipeline.graph import GraphError
from redi_ray.pipeline.kinds import KINDS
from redi_ray.pipeline.standard import graph_of
from redi_ray.pipeline.states import states
from redi_ray.stages.run import Run

QUESTION = {"prompt": "{problem}={step}", "question": "==", "yes": "1", "no": "0"}
JUDGE: dict[str, Any] = {"kind": "step_judge", "analyses": 0, "opening": "<think>\n==", "question": QUESTION}
BY_HEAD: dict[str, Any] = {"model": "prm"}
BY_JUDGE: dict[str, Any] = {"model": "judge", "judge": JUDGE}
TRAIN = {"do": "train", "from": "sft", "on": "curated"}


def config(guided: dict[str, Any] | None, **evaluate: Any) -> Any:
    return parse_config({
        "name": "x",
        "problems": {"source": {"kind": "arithmetic", "num_problems": 4}},
        "model": {"init": {"kind": "arithmetic"}},
        "steps": {"prm": {**TRAIN, "objective": {"name": "outcome_bce"}},
                  "other": {**TRAIN, "objective": {"name": "bradley_terry"}},
                  "judge": {**TRAIN, "objective": {"name": "sft"}}},
        "evaluate": {"models": ["sft"], "benchmarks": [{"name": "arithmetic"}], "guided": guided, **evaluate},
        "resources": {"engine": {"device": "cpu"}},
    })  # fmt: skip


def key(guided: dict[str, Any] | None, **evaluate: Any) -> str | None:
    made = config(guided, **evaluate)
    return next(s.key for s in states(graph_of(made), Run.of(made)) if s.step.name == "eval/sft")


def test_what_guides_is_an_input() -> None:
    given = {"model": "sft", "problems": "problems"}
    for guided, more in (
        (BY_HEAD, {"guided": "prm"}),
        (BY_JUDGE, {"guided judge": "judge"}),
        ({"judge": {**JUDGE, "model": "./j"}}, {}),
        ({"model": "./rm"}, {}),
    ):
        assert dict(graph_of(config(guided))["eval/sft"].inputs) == given | more
    made = config(BY_HEAD)
    held = KINDS["evaluate"].room(Run.of(made), graph_of(made)["eval/sft"])
    assert any("models that score" in demand.field for demand in held), "room for the reward model, beside engines"


CHANGES = {
    "model": "other", "keep": 3, "candidates": 3, "step_end": "\n", "max_steps": 9, "max_step_tokens": 9, "form": "equations",
    "value": "min",
}  # fmt: skip


def test_each_field_decides_the_scores() -> None:
    assert GuidedSettings.model_fields.keys() == CHANGES.keys() | {"judge"}
    plain = key(BY_HEAD)
    assert plain != key(None)
    for name, value in CHANGES.items():
        assert key(BY_HEAD | {name: value}) != plain, name
    judged = copy.deepcopy(BY_JUDGE)
    judged["judge"]["question"]["yes"] = "2"
    assert len({key(BY_JUDGE), key(judged), plain}) == 3


@pytest.mark.parametrize(
    ("guided", "said"),
    [
        ({}, "name what judges steps"),
        ({**BY_JUDGE, "judge": {**JUDGE, "model": "./j"}}, "the judge has a model of its own"),
        ({"model": "sft"}, "`evaluate.guided.model: sft` is a language model, and a reward model is asked there.*prm, other"),
        ({**BY_JUDGE, "model": "prm"}, "`evaluate.guided.model: prm` is a reward model"),
        ({"model": "pm"}, "`evaluate.guided.model: pm` is no step; did you mean prm"),
        ({**BY_JUDGE, "judge": {**JUDGE, "opening": "=="}}, "evaluate.guided: `judge.opening: '=='` does not begin with"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(guided: dict[str, Any], said: str) -> None:
    with pytest.raises((GraphError, ConfigError), match=said):
        graph_of(config(guided))


def test_what_cannot_be_searched_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at temperature 0 all next steps are the same one"):
        config(BY_HEAD, temperature=0)
    with pytest.raises(ConfigError, match="there is no benchmark to search answers of"):
        config(BY_HEAD, benchmarks=[])
    with pytest.raises(UserError, match=r"evaluate\.guided\.model: .* holds no model"):
        check_sources(config({"model": f"{tmp_path}/nothing"}))
    wordy = copy.deepcopy(BY_JUDGE)
    wordy["judge"]["question"] |= {"yes": "Yes", "no": "No"}
    with pytest.raises(
        UserError, match=r"evaluate\.guided\.judge\.question: .*the built-in model, which has no letters"
    ):
        preflight(config(wordy))
