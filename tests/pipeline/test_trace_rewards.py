"""Rewards of traces as a graph: what does not fit is told by name before anything starts; every step has a line in the plan."""

from __future__ import annotations

from typing import Any

import pytest

from redi_ray.cli.plan import make_assumptions, make_inputs
from redi_ray.config.load import ConfigError, load_config, parse_config
from redi_ray.pipeline.graph import Graph, GraphError
from redi_ray.pipeline.standard import graph_of
from redi_ray.plan.costs import Plan
from redi_ray.plan.estimate import estimate

RECIPE = "configs/recipes/trace_selection.yaml"
STEPS: dict[str, Any] = {
    "templates_asked": {"do": "pose", "of": "verified"},
    "templates": {"do": "sample", "problems": "templates_asked", "model": "base", "samples_per_round": 1, "max_rounds": 1},
    "guided_asked": {"do": "pose", "of": "verified", "guides": "templates"},
    "guided": {"do": "sample", "problems": "guided_asked", "model": "sft", "samples_per_round": 4, "max_rounds": 1},
    "guided_math": {"do": "verify", "of": "guided"},
    "whole": {"do": "score", "of": "verified", "scorer": {"name": "pass_rate", "samples": "guided_math"}},
    "aligned": {"do": "score", "of": "verified", "scorer": {"name": "similarity", "model": "base", "to": "response"}},
    "coherent": {"do": "score", "of": "verified", "scorer": {"name": "similarity", "model": "base", "to": "previous"}},
    "judged": {"do": "locate", "of": "verified", "model": "base", "ask": "all", "locator": {"kind": "step_judge"}},
    "targets": {"do": "score", "of": "verified", "scorer": {
        "name": "step_rewards", "columns": {"aligned": "value", "judged": "value", "coherent": "value"}, "trajectory": "whole"}},
    "labelled": {"do": "groups", "of": "verified", "spans": "targets", "least": 1,
                 "labels": {"step": "value", "trajectory": "value"}},
    "prm": {"do": "train", "from": "base", "on": "labelled", "objective": {"name": "step_mse"}, "train": {"units": "spans"}},
    "said": {"do": "score", "of": "verified", "scorer": {"name": "reward", "model": "prm", "at": "steps"}},
    "worth": {"do": "score", "of": "verified", "scorer": {"name": "trace_reward", "column": "said"}},
    "best": {"do": "select", "of": "verified", "by": "worth", "keep": {"overall": 1000}},
    "rm": {"do": "train", "from": "base", "on": "curated", "objective": {"name": "bradley_terry"}},
    "few": {"do": "select", "of": "verified", "random": {"problems": 3}},
}  # fmt: skip


def graph(**changes: Any) -> Graph:
    """Of all steps, some settings changed: `step__field`."""
    steps = {name: {**step} for name, step in STEPS.items()}
    for path, value in changes.items():
        name, _, field = path.partition("__")
        if field == "of":
            steps[name]["of"] = value
        else:
            steps[name]["scorer"] = {**steps[name]["scorer"], field: value}
    return graph_of(parse_config({"name": "x", "steps": steps, "evaluate": {"models": ["base"]}}))


def test_the_whole_chain_fits() -> None:
    found = graph()
    assert dict(found["guided_asked"].inputs) == {"of": "verified", "guides": "templates", "base": "base"}
    assert dict(found["targets"].inputs) == {
        "of": "verified", "column aligned": "aligned", "column judged": "judged", "column coherent": "coherent",
        "column whole": "whole",
    }  # fmt: skip
    assert [step.name for step in found.needed_for(["best"])][-1] == "best"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"targets__trajectory": "said"}, "`scorer.trajectory: said` is a column at grain span, and row is needed"),
        ({"targets__columns": {"whole": "value"}, "targets__trajectory": None},
         "`scorer.columns: whole` is a column at grain row, and span is needed"),
        ({"worth__column": "whole"}, "`scorer.column: whole` is a column at grain row, and span is needed"),
        ({"worth__column": "best"}, "`scorer.column: best` gives verified"),
        ({"worth__of": "few"}, "said` is a column of verified, which has other samples than few"),
        ({"aligned__model": "rm"}, "`scorer.model: rm` is a reward model"),
        ({"aligned__model": "verified"}, "`scorer.model: verified` gives verified, and score takes model"),
        ({"whole__samples": "traces"}, "`scorer.samples: traces` gives traces, and score takes verified"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(GraphError) as told:
        graph(**changes)
    assert said in str(told.value)


def test_an_evaluation_asks_no_other_steps() -> None:
    for scorer in ({"name": "trace_reward", "column": "said"}, {"name": "pass_rate", "samples": "guided_math"}):
        with pytest.raises(ConfigError, match="scorers that read other steps are for steps `score`"):
            parse_config({"name": "x", "evaluate": {"rank_by": scorer}})


def planned(config: Any) -> Plan:
    inputs = make_inputs(config, "H100", [], 100)
    plan = estimate(inputs, make_assumptions(config, inputs.sample, []))
    steps = {name for stage in plan.stages for name in stage.steps} | {step.name for step in plan.beside}
    assert steps == {step.name for step in inputs.graph}, "each has a line"
    return plan


def test_the_recipe_fits_and_is_planned() -> None:
    config = load_config(RECIPE)
    found = graph_of(config)
    for name in ("on_best", "on_shortest", "on_chance"):
        assert found[name].settings.settings.max_steps == 120, "equal steps"
        assert found[name].inputs["start"] == "base"
    planned(config)


def test_every_trace_is_posed_once_in_the_plan() -> None:
    config = parse_config({"name": "x", "steps": STEPS, "evaluate": {"models": ["base"]}})
    plan = planned(config)
    traces = next(stage for stage in plan.stages if "traces" in stage.steps)
    of_step = {stage.steps[0]: stage for stage in plan.stages}
    assert of_step["templates"].sequences == traces.sequences
    assert of_step["guided"].sequences == pytest.approx(4 * traces.sequences)
    for line in ("aligned", "coherent", "said"):
        assert of_step[line].sequences == traces.sequences


def test_answers_about_other_samples_are_refused() -> None:
    """Ids of samples count within a problem: without this the student's samples would get what was said of the teacher's."""
    others = {
        **STEPS,
        "own": {"do": "sample", "model": "sft"},
        "own_math": {"do": "verify", "of": "own"},
    }
    for name, changes in (("whole", {"of": "own_math"}), ("guided_asked", {"of": "own_math"})):
        steps = {**others, name: {**STEPS[name], **changes}}
        with pytest.raises(GraphError, match="has other samples than own_math: make it of those"):
            graph_of(parse_config({"name": "x", "steps": steps, "evaluate": {"models": ["base"]}}))
