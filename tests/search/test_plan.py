"""A search is checked as a whole before anything starts, and its points become the configs that `redi-ray run` would train."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from redi_ray.config.load import ConfigError, load_config, parse_config
from redi_ray.search.plan import SearchPlan
from redi_ray.search.space import short_names

ALPHA, RATE = "redi.arms.redi.objective.alpha", "redi.train.learning_rate"
GRID = {ALPHA: {"grid": [0.5, 1]}, RATE: {"grid": ["1e-5", 1e-4, 3e-4]}}

CASES = {
    "objective": {
        "cases": {
            "dpo": {"redi.arms.redi.objective": {"name": "dpo", "beta": 0.1}, RATE: 2e-5},
            "redi": {"redi.arms.redi.objective": {"name": "redi", "alpha": 0.2}, RATE: 1e-3},
        }
    },
    "redi.train.batch_size": {"grid": [8, 16]},
}

BEST = [
    "redi.train.probe={every: 2, problems: 3}", "redi.train.checkpoint_every=2", "redi.train.keep_best=dev_accuracy",
    "redi.train.export=best",
]  # fmt: skip


def plan(search: dict, *overrides: str) -> SearchPlan:
    told = yaml.safe_dump(search, default_flow_style=True, width=10_000).strip()
    return SearchPlan(load_config("configs/demo.yaml", ["redi.train.probe={every: 5}", f"search={told}", *overrides]))


def test_a_grid_is_crossed_with_seeds_and_each_trial_is_a_whole_config():
    """The arm under search changes and nothing else; a guard that would only warn stops."""
    found = plan({"space": GRID, "seeds": [7, 8]})
    trials = found.trials()
    assert (found.arm, found.metric, found.num_trials) == ("redi", "dev_accuracy", 12)
    assert {(t.values[ALPHA], t.values[RATE], t.seed) for t in trials} == {
        (alpha, rate, seed) for alpha in (0.5, 1) for rate in (1e-5, 1e-4, 3e-4) for seed in (7, 8)
    }
    assert len({trial.key for trial in trials}) == 12
    config, settings = trials[0].config, trials[0].config.redi.settings("redi")
    assert config.search is None
    assert settings.learning_rate == trials[0].values[RATE]
    assert config.redi.arms["redi"].objective.alpha == trials[0].values[ALPHA]
    assert (settings.seed, settings.guard.action) == (trials[0].seed, "stop")
    assert config.sft == found.config.sft
    assert parse_config(config.model_dump(mode="json")) == config, "what is written as YAML must be read as the same"


def test_a_trial_key_names_what_decides_its_result_and_nothing_else():
    keys = [trial.key for trial in plan({"space": GRID}).trials()]
    wider = plan({"space": {**GRID, ALPHA: {"grid": [0, 0.5, 1]}}, "max_concurrent_trials": 1}, "name=other")
    assert set(keys) < {trial.key for trial in wider.trials()}
    assert [t.key for t in plan({"space": GRID}, "resources.engine.batch_size=8").trials()] == keys
    for change in ("sft.train.epochs=1", "problems.source.num_problems=80", "redi.train.batch_size=8"):
        assert not set(keys) & {trial.key for trial in plan({"space": GRID}, change).trials()}, change
    assert not set(keys) & {t.key for t in plan({"space": GRID, "metric": "margin"}).trials()}
    assert {t.key for t in plan({"space": GRID, "trainer": {"num_workers": 2}}).trials()} == set(keys)
    assert not set(keys) & {t.key for t in plan({"space": GRID}, "resources.engine.dtype=bfloat16").trials()}


def test_cases_set_several_paths_together():
    """A case is crossed as one value, a trial's config has all that it sets, and its name decides nothing."""
    trials = plan({"space": CASES}).trials()
    made = {(t.values["objective"], t.values["redi.train.batch_size"]): t.config.redi for t in trials}
    assert len(made) == 4
    for (case, size), redi in made.items():
        settings = redi.settings("redi")
        assert (redi.arms["redi"].objective.name, settings.batch_size) == (case, size)
        assert settings.learning_rate == (2e-5 if case == "dpo" else 1e-3)
    other = {"one" if name == "dpo" else "two": case for name, case in CASES["objective"]["cases"].items()}
    renamed = plan({"space": {**CASES, "objective": {"cases": other}}}).trials()
    assert [t.key for t in renamed] == [t.key for t in trials]


def test_drawn_points_lie_within_bounds_and_repeat():
    space = {
        ALPHA: {"uniform": [0.2, 1.0]},
        RATE: {"loguniform": [1e-6, 1e-3]},
        "redi.train.epochs": {"choice": [1, 2]},
    }
    few, many = plan({"space": space, "num_trials": 5}), plan({"space": space, "num_trials": 40})
    assert few.search.method == "random"
    assert many.points[:5] == few.points
    assert all(0.2 <= point[ALPHA] <= 1 and 1e-6 <= point[RATE] <= 1e-3 for point in many.points)
    small = plan({"space": {ALPHA: {"choice": [0.5, 1]}, "redi.train.epochs": {"choice": [1, 2]}}, "num_trials": 9})
    assert len(small.points) == small.num_trials == 4, "no point twice"
    assert sum(point[RATE] < 3.2e-5 for point in many.points) > 8, "half of them lie below the geometric middle"


def test_trials_that_would_compute_a_stage_together_run_one_at_a_time():
    assert not plan({"space": GRID}).one_at_a_time
    masks = {"redi.train.mask_rejected_think_tags": {"grid": [False, True]}}
    assert not plan({"space": masks}).one_at_a_time, "the data of known points are made beforehand"
    assert plan({"space": masks, "searcher": "optuna", "num_trials": 4}).one_at_a_time
    listed, ranged = {ALPHA: {"choice": [0.5, 1]}}, {ALPHA: {"choice": [0.5, 1]}, RATE: {"loguniform": [1e-5, 1e-3]}}
    assert plan({"space": listed, "searcher": "optuna", "num_trials": 4}).one_at_a_time, "it may repeat itself"
    assert not plan({"space": ranged, "searcher": "optuna", "num_trials": 4}).one_at_a_time
    earlier = {RATE: {"grid": [1e-4]}, "sft.train.epochs": {"grid": [1, 2]}}
    assert plan({"space": earlier}).one_at_a_time
    assert not plan({"space": {"sft.train.epochs": {"grid": [1, 2]}}, "arm": "sft", "metric": "loss"}).one_at_a_time


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ({"space": {"redi.arms.rdei.objective.alpha": {"grid": [1]}}}, "no section 'rdei'; redi.arms has alpha0, redi"),
        ({"space": {"redi.train.learning_rte": {"grid": [1]}}}, "Did you mean `learning_rate`?"),
        ({"space": {RATE: {"grid": [1e-5, "fast"]}}}, f"{RATE}: Input should be a valid number"),
        ({"space": {RATE: {"grid": [1e-5, -1.0]}}}, "learning_rate must be > 0, got -1.0 (at learning_rate=-1)"),
        ({"space": {"redi.train.epochs": {"uniform": [1, 3]}}, "num_trials": 3}, "Input should be a valid integer"),
        ({"space": {"redi.arms.alpha0.objective.alpha": {"grid": [0, 1]}}}, "changes nothing that redi is trained with"),
        ({"space": {"evaluate.num_samples": {"grid": [1, 2]}}}, "changes nothing that redi is trained with"),
        ({"space": {"name": {"grid": ["a", "b"]}}}, "write a dotted path"),
        ({"space": {"redi.trainer.num_workers": {"grid": [1, 2]}}}, "redi.trainer is null"),
        ({"space": {}}, "search.space"),
        ({"space": {**CASES, RATE: {"grid": [1e-5]}}}, f"{RATE} is set by objective and by {RATE}"),
        ({"space": {**CASES, ALPHA: {"grid": [0, 1]}}}, f"{ALPHA} lies within redi.arms.redi.objective, which objective sets"),
        ({"space": {"what": {"cases": {"a": {"redi.arms.none.objective.alpha": 1}}}}}, "no section 'none'"),
        ({"space": {"what": {"cases": {}}}}, "at least 1 item"),
        ({"space": {"what": {"cases": {"a": {RATE: 1}, "b": {RATE: 2}, "c": {RATE: 1}}}}}, "the cases a and c set the same"),
        ({"space": {RATE: {"grid": []}}}, "at least 1 item"),
        ({"space": {RATE: {"gird": [1]}}}, "give one of `grid: [...]`"),
        ({"space": {RATE: {"grid": [1e-5, "1e-5"]}}}, "1e-05 is there twice"),
        ({"space": {RATE: {"loguniform": [1e-3, 1e-6]}}, "num_trials": 2}, "the lower one first"),
        ({"space": {RATE: {"loguniform": [1e-6, 1e-3]}}}, "needs num_trials"),
        ({"space": GRID, "num_trials": 4}, "`grid` runs every combination"),
        ({"space": GRID, "metric": "accuracy"}, "unknown metric 'accuracy'; there are dev_accuracy, dev_pass@1"),
        ({"space": GRID, "arm": "dpo"}, "no step 'dpo' trains or merges a model; there are sft, alpha0, redi"),
        ({"space": GRID, "seeds": [1, 1]}, "seeds must differ"),
        ({"space": {"redi.train.seed": {"grid": [1, 2]}}, "seeds": [3]}, "varies the seed, and so does search.seeds"),
        ({"space": GRID, "metric": "margin", "scheduler": {"kind": "asha"}}, "grace_steps: it must be set"),
    ],
)  # fmt: skip
def test_bad_spaces_are_refused_with_what_and_where(search: dict, told: str):
    with pytest.raises(ConfigError) as caught:
        plan(search)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("search", "overrides", "told"),
    [
        ({"space": GRID}, ["redi.train.probe=null"], "set redi.train.probe"),
        ({"space": GRID, "metric": "dev_pass@1"}, ["redi.train.probe=null", "problems.source.num_dev=0"], "development"),
        (
            {"space": GRID, "metric": "loss", "scheduler": {"kind": "median", "grace_steps": 2}},
            ["redi.train.probe=null"],
            "set redi.train.checkpoint_every",
        ),
        (
            {"space": {RATE: {"grid": [1e-5, 1e-4]}}}, ["redi.arms.redi.train={learning_rate: 1e-5}"],
            "redi.arms.redi.train sets it again",
        ),
        ({"space": GRID, "metric": "loss"}, BEST, "compared by the max of loss: set export to last"),
        ({"space": GRID, "mode": "min"}, BEST, "compared by the min of dev_accuracy"),
    ],
)  # fmt: skip
def test_what_a_search_needs_from_the_rest_of_the_config(search: dict, overrides: list[str], told: str):
    with pytest.raises(ConfigError, match=told):
        plan(search, *overrides)


def test_the_best_checkpoint_goes_with_its_own_metric_and_with_samples_of_it():
    for metric in ("dev_accuracy", "dev_pass@1"):
        plan({"space": GRID, "metric": metric}, *BEST)


def test_a_config_without_a_search_says_what_to_run(tmp_path: Path):
    with pytest.raises(ConfigError, match="nothing to tune; `redi-ray run`"):
        SearchPlan(load_config("configs/demo.yaml"))


def test_names_are_as_short_as_they_can_be():
    assert short_names([ALPHA, RATE]) == ["alpha", "learning_rate"]
    assert short_names(["sft.train.seed", "redi.train.seed", RATE]) == [
        "sft.train.seed",
        "redi.train.seed",
        "learning_rate",
    ]
