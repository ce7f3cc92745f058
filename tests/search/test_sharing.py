"""A search varies any path of any step: what is upstream of it is shared by key, what is downstream is each trial's own."""

from __future__ import annotations

import pytest

from redi_ray.config.load import ConfigError, load_config, parse_config
from redi_ray.config.yaml_text import read_yaml
from redi_ray.errors import UserError
from redi_ray.search.plan import SearchPlan
from redi_ray.search.sharing import Sharing, places_of

STEPS = """
sft2:      {do: train, from: sft, on: curated, objective: {name: sft}, train: {epochs: 1}}
own:       {do: sample, model: sft2, samples_per_round: 4}
own_math:  {do: verify, of: own}
own_pairs: {do: pairs, of: own_math}
nca:       {do: train, from: sft2, on: own_pairs, objective: {name: nca}}
more:      {do: train, from: redi, on: curated, objective: {name: dpo}}
soup:      {do: merge, of: {sft2: 1, nca: 3}}
"""
RATE, SAMPLES = "steps.nca.train.learning_rate", "steps.own.samples_per_round"
TAUGHT = {
    "teacher": {"do": "model", "init": {"kind": "arithmetic", "architecture": {"hidden_size": 192}}},
    "taught": {"do": "sample", "model": "teacher"},
    "taught_math": {"do": "verify", "of": "taught"},
    "soft": {"do": "soft_targets", "of": "taught_math", "model": "teacher", "top_k": 8},
    "right": {"do": "groups", "of": "taught_math", "least": 1, "token_columns": {"soft_targets": "soft"}},
    "kd": {"do": "train", "from": "base", "on": "right", "objective": {"name": "forward_kl"}},
}
ROUNDS = {"steps": ["own", "own_math", "own_pairs", "nca"], "times": 2, "carry": {"sft2": "nca"}}


def plan(search: dict, repeat: dict | None = None, **steps: dict) -> SearchPlan:
    raw = load_config("configs/demo.yaml", ["redi.train.probe={every: 5}"]).model_dump(mode="json")
    return SearchPlan(
        parse_config(
            {**raw, "steps": read_yaml(STEPS) | steps, "repeat": repeat, "search": {"metric": "loss", **search}}
        )
    )


def of_trials(found: SearchPlan) -> Sharing:
    return Sharing(found.arm, [places_of(trial.config, found.arm) for trial in found.trials()])


def test_the_goals_own_path_leaves_all_before_it_to_all_trials():
    found = plan({"arm": "nca", "space": {RATE: {"grid": [1e-6, 1e-5, 1e-4]}}})
    assert found.sharing.apart == set()
    assert found.sharing.common >= {"problems", "traces", "curated", "sft", "sft2", "own", "own_math", "own_pairs"}
    assert "redi" not in found.sharing.common, "it is not what nca comes from"
    assert not found.one_at_a_time
    assert len({trial.key for trial in found.trials()}) == 3
    assert {trial.config.steps["nca"].train["guard"]["action"] for trial in found.trials()} == {"stop"}


def test_a_path_before_the_goal_parts_what_is_downstream_of_it_alone():
    """Two numbers of samples, two rates: each set of samples is made once, for the two trials that read it."""
    found = plan({"arm": "nca", "space": {SAMPLES: {"grid": [4, 8]}, RATE: {"grid": [1e-6, 1e-5]}}})
    sharing = of_trials(found)
    assert sharing.apart == {"own", "own_math", "own_pairs"}
    assert {"sft2", "curated"} <= sharing.common
    assert found.one_at_a_time
    for step in ("own", "own_math", "own_pairs"):
        made = {trial[step].key for trial in sharing.trials}
        assert len(made) == 2
        assert made <= sharing.keys, "made before the trials start"
    assert len({trial["nca"].key for trial in sharing.trials}) == 4
    assert len({trial.key for trial in found.trials()}) == 4
    alone = plan({"arm": "nca", "space": {SAMPLES: {"grid": [4, 8]}}})
    assert not {trial["own"].key for trial in of_trials(alone).trials} & of_trials(alone).keys, (
        "each trial makes its own"
    )


def test_a_teachers_column_serves_all_trials_of_what_learns_from_it():
    """Temperature, rest and k of the objective, and the rate: the teacher, its samples and its distributions are made once; how
    many of its likeliest tokens the column keeps makes another one."""
    arm = "steps.kd.objective"
    space = {
        f"{arm}.temperature": {"grid": [1, 2]},
        f"{arm}.top_k": {"grid": [4, 8]},
        f"{arm}.rest": {"grid": ["bucket", "renormalise"]},
    }
    found = plan({"arm": "kd", "space": space}, **TAUGHT)
    assert found.sharing.apart == set()
    assert found.sharing.common >= {"teacher", "taught", "taught_math", "soft", "right"}
    assert len({trial.key for trial in found.trials()}) == 8
    other = of_trials(plan({"arm": "kd", "space": {"steps.soft.top_k": {"grid": [8, 16]}}}, **TAUGHT))
    assert other.apart == {"soft", "right"}
    assert len({trial["soft"].key for trial in other.trials}) == 2


def test_seeds_share_what_a_points_trials_come_from():
    found = plan({"arm": "nca", "space": {SAMPLES: {"grid": [4, 8]}}, "seeds": [1, 2]})
    sharing = of_trials(found)
    assert {trial["own"].key for trial in sharing.trials} <= sharing.keys
    assert {trial.config.steps["nca"].train["seed"] for trial in found.trials()} == {1, 2}


def test_a_repeated_step_means_its_last_round_and_rounds_part_from_where_they_differ():
    found = plan({"arm": "nca", "space": {RATE: {"grid": [1e-6, 1e-5]}}}, repeat=ROUNDS)
    assert found.arm == "nca@2"
    assert {"own@1", "own_pairs@1"} <= found.sharing.common
    assert found.sharing.apart == {"nca@1", "own@2", "own_math@2", "own_pairs@2"}
    first = plan({"arm": "nca@1", "space": {RATE: {"grid": [1e-6, 1e-5]}}}, repeat=ROUNDS)
    assert first.sharing.apart == set()


def test_a_trials_key_follows_what_its_goal_comes_from():
    """An arm below the goal, a section, a named step; a step that it does not come from leaves the record where it is."""
    space = {"steps.more.train.learning_rate": {"grid": [1e-6, 1e-5]}}
    keys = {trial.key for trial in plan({"arm": "more", "space": space}).trials()}
    alpha = {"redi.arms.redi.objective.alpha": {"grid": [0.5, 1.0]}}
    varied = plan({"arm": "more", "space": {**space, **alpha}})
    assert len({trial.key for trial in varied.trials()}) == 4
    assert varied.sharing.apart == {"redi"}
    beside = {"do": "sample", "model": "sft2", "samples_per_round": 99}
    assert {trial.key for trial in plan({"arm": "more", "space": space}, own=beside).trials()} == keys


def test_a_merge_can_be_the_goal():
    found = plan({"arm": "soup", "metric": None, "space": {"steps.soup.of.nca": {"grid": [1.0, 3.0]}}})
    assert found.metric == "dev_pass@1"
    assert found.sharing.apart == set()
    assert {"sft2", "nca"} <= found.sharing.common
    assert len({trial.key for trial in found.trials()}) == 2
    with pytest.raises(ConfigError, match="unknown metric 'loss'; there are dev_pass@1, of a merge such as soup"):
        plan({"arm": "soup", "space": {"steps.soup.of.nca": {"grid": [1.0, 3.0]}}})
    with pytest.raises(ConfigError, match=r"search\.seeds order a training's data, and soup is a merge"):
        plan({"arm": "soup", "metric": None, "seeds": [1], "space": {"steps.soup.of.nca": {"grid": [1.0, 3.0]}}})


def test_which_model_is_started_from_can_be_searched():
    found = plan({"arm": "nca", "space": {"steps.nca.from": {"grid": ["sft", "redi"]}}})
    assert {trial.config.steps["nca"].start for trial in found.trials()} == {"sft", "redi"}
    assert found.sharing.apart == {"redi"}, "the trial from sft does without it"


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ({"arm": "nca", "space": {"steps.own.samples_per_rund": {"grid": [1, 2]}}}, "steps.own.samples_per_rund: unknown key"),
        ({"arm": "nca", "space": {"steps.nca.train.learning_rte": {"grid": [1, 2]}}}, "steps.nca.train.learning_rte: unknown"),
        ({"arm": "nca", "space": {"steps.nac.train.epochs": {"grid": [1, 2]}}}, "no section 'nac'; steps has sft2"),
        ({"arm": "nca", "space": {"steps.nca.from": {"grid": ["sft", "sftt"]}}}, "`from: sftt` is no step"),
        ({"arm": "sft2", "space": {RATE: {"grid": [1e-6, 1e-5]}}}, "changes nothing that sft2 is trained with"),
        ({"arm": "own", "space": {SAMPLES: {"grid": [4, 8]}}}, "no step 'own' trains or merges a model; there are sft,"),
        ({"arm": "sft2", "trainer": {"num_workers": 2}, "space": {"steps.sft2.train.epochs": {"grid": [1, 2]}}},
         "for sft2 set resources.trainer"),
    ],
)  # fmt: skip
def test_wrong_paths_and_goals_name_the_step(search: dict, told: str):
    with pytest.raises(UserError) as caught:
        plan(search)
    assert told in str(caught.value)
