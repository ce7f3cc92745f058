"""Judges of steps as a graph: questions, stated answers, a balance, a training, a locator, a comparison; refused by name where
they do not fit, and made again exactly when their output would be another."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

from redi_ray.config.load import ConfigError, load_config, parse_config
from redi_ray.pipeline.graph import Graph, GraphError
from redi_ray.pipeline.standard import graph_of
from redi_ray.pipeline.states import states
from redi_ray.stages.run import Run

LOCATOR = {"kind": "step_judge", "analyses": 2}
STEPS: dict[str, Any] = {
    "rolled": {"do": "locate", "of": "verified", "model": "base", "ask": "all", "locator": {"kind": "rollouts"}},
    "asked": {"do": "ask", "of": "verified", "at": "rolled"},
    "stated": {"do": "state", "problems": "asked", "text": "<think>\n</think>\n{answer}"},
    "said": {"do": "sample", "problems": "asked", "model": "base"},
    "said_well": {"do": "verify", "of": "said", "answers": {"extract": ["verdict:OK?|Yes|No"]}},
    "balanced": {"do": "select", "of": "said_well", "balance": {}},
    "judge": {"do": "train", "from": "base", "on": "balanced", "objective": {"name": "sft"}},
    "liked": {"do": "pairs", "of": "said_well"},
    "judged": {"do": "locate", "of": "verified", "model": "judge", "ask": "all", "locator": LOCATOR},
    "how_well": {"do": "compare", "of": "verified", "column": "judged", "to": "rolled"},
    "mended": {"do": "rectify", "of": "verified", "at": "judged", "model": "base"},
}


def graph(**steps: Any) -> Graph:
    return graph_of(parse_config({"name": "x", "steps": STEPS | steps}))


def test_what_a_judge_learns_from_are_problems_like_any_others() -> None:
    """Sampled, verified, selected and curated by the steps there are; curation counts the questions, not the run's problems."""
    found = graph()
    assert found["asked"].inputs == {"of": "verified", "at": "rolled", "base": "base"}
    assert (found["asked"].gives, found["stated"].gives) == ("problems", "traces")
    for step in ("judge-pairs", "liked"):
        assert found[step].inputs["problems"] == "asked", step
    assert found["curated"].inputs["problems"] == found["judge"].inputs.get("problems", "problems") == "problems"
    assert found["how_well"].inputs == {"of": "verified", "column": "judged", "to": "rolled"}
    assert found["judged"].settings.locator.question == found["asked"].settings.question, (
        "by default what it was trained on"
    )


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ({"asked": {**STEPS["asked"], "at": "verified"}}, "asked: `at: verified` gives verified, and ask takes column"),
        ({"asked": {**STEPS["asked"], "at": "length"}, "length": {"do": "score", "of": "verified", "scorer": {"name": "length"}}},
         "asked: `at: length` is a column at grain row, and span is needed there"),
        ({"how_well": {**STEPS["how_well"], "to": "other"},
          "other": {**STEPS["rolled"], "of": "said_well"}},
         "how_well: `to: other` is a column of said_well, which has other samples than verified"),
        ({"stated": {**STEPS["stated"], "problems": "verified"}}, "state takes problems; what would fit: problems, asked"),
        ({"stated": {**STEPS["stated"], "text": "Yes {answer}"}}, "stated: `text: .* does not begin with model.prompt.prefix"),
        ({"judged": {**STEPS["judged"], "locator": {**LOCATOR, "analyses": 0, "opening": "Is the step correct (Yes/No)?"}}},
         "judged: `opening: .* does not begin with model.prompt.prefix"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(steps: dict[str, Any], told: str) -> None:
    with pytest.raises(GraphError, match=told):
        graph(**steps)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({**STEPS["asked"], "question": {"prompt": "{problem}"}}, r"steps\.x\.question\.prompt: .*needs \{step\}"),
        ({**STEPS["judged"], "model": None}, "locator `step_judge` needs a model"),
        ({"do": "verify", "of": "said", "answers": {"extract": ["verdict:OK?|Yes"]}}, "needs a question and two words"),
        ({"do": "select", "of": "said_well", "balance": {}, "random": {"problems": 3}}, "a second rule is a second step"),
        ({**STEPS["how_well"], "threshold": math.inf}, "finite"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(step: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        graph(x=step)


CHANGES: dict[str, Any] = {
    "asked.question.prompt": "{problem} {step}", "asked.question.question": "OK?", "asked.question.yes": " Y",
    "asked.question.no": " N", "asked.question.numbered": False, "asked.right": ["right", "fine"], "asked.wrong": ["wrong"],
    "asked.part.above": 0.1, "asked.part.up_to": 0.9, "asked.part.seed": 1, "stated.text": "<think>\n</think>{answer}",
    "balanced.balance.needs": "both", "balanced.balance.seed": 1,
    "judged.locator.question.prompt": "{problem} {step}", "judged.locator.question.question": "OK?",
    "judged.locator.question.yes": " Y", "judged.locator.question.no": " N", "judged.locator.question.numbered": False,
    "judged.locator.analyses": 3, "judged.locator.average": "votes", "judged.locator.threshold": 0.4,
    "judged.locator.temperature": 1.0, "judged.locator.top_p": 1.0, "judged.locator.max_tokens": 9, "judged.locator.seed": 1,
    "how_well.threshold": 0.4, "how_well.part.above": 0.1, "how_well.part.up_to": 0.9, "how_well.part.seed": 1,
    "how_well.seed": 1,
}  # fmt: skip
"""Field -> another value."""
TOGETHER = {"judged.locator.opening", "judged.locator.model"}
"""They ask for other fields to change, too."""
HOW = {"judged.locator.engine"}


def keys(steps: dict[str, Any], root: str) -> dict[str, str | None]:
    config = parse_config({"name": "x", "storage": {"root": root}, "steps": steps})
    return {state.step.name: state.key for state in states(graph_of(config), Run.of(config))}


def test_every_field_reruns_exactly_what_is_downstream(tmp_path: Any) -> None:
    root, names = str(tmp_path), ("asked", "stated", "balanced", "judged", "how_well")
    # without placeholders of trainings, whose place is known once they are made
    steps = {**{name: copy.deepcopy(step) for name, step in STEPS.items() if name not in ("judge", "mended")}}
    steps["judged"]["model"] = "base"
    whole = parse_config({"name": "x", "steps": steps}).model_dump(mode="json")["steps"]
    fields = {f"{name}.{path}" for name in names for path in _leaves(whole[name], name)}
    assert fields - CHANGES.keys() - TOGETHER - HOW == set()
    found, before = graph_of(parse_config({"name": "x", "steps": steps})), keys(steps, root)
    for path, value in CHANGES.items():
        name, *parents = path.split(".")
        changed = copy.deepcopy(whole)
        node = changed[name]
        for parent in parents[:-1]:
            node = node[parent]
        node[parents[-1]] = value
        after = keys({key: _without_none(step) for key, step in changed.items()}, root)
        moved = {step for step in before if before[step] != after[step]}
        downstream = {step.name for step in found if name in {other.name for other in found.needed_for([step.name])}}
        assert moved == downstream, path
    settings = {"locator": {**LOCATOR, "engine": {"device": "cpu", "concurrency": 2, "dtype": "auto"}}}
    assert keys(steps | {"judged": {**steps["judged"], **settings}}, root)["judged"] is not None


def _leaves(value: dict[str, Any], step: str, path: str = "") -> list[str]:
    """Dotted paths of a step's own settings."""
    found = []
    for name, item in value.items():
        if not path and name in ("do", "of", "at", "problems", "model", "column", "to", "ask", "form", "by", *SELECTS):
            continue
        here = f"{path}.{name}" if path else name
        if isinstance(item, dict):
            found += _leaves(item, step, here)
        elif name != "kind":
            found.append(here)
    return found


SELECTS = ("difficulty", "rounds", "random", "diverse", "keep")


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(item) for name, item in value.items() if item is not None}
    return value


def test_the_recipe_fits_together() -> None:
    found = graph_of(load_config("configs/recipes/step_judge.yaml"))
    judged, asked = found["judged"].settings.locator, found["questions"].settings
    assert judged.question == asked.question
    stated = found["said"].settings.text.format(answer="")
    assert stated == judged.opening
