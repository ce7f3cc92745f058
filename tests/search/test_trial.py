"""A trial on its own: trained, scored, recorded, and found again by a run with its config. Stages run on Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from redi_ray.config.load import load_config
from redi_ray.config.training import ProbeSettings, TrainSettings
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.schemas import PAIR, PROBLEM
from redi_ray.search.leader import ready
from redi_ray.search.plan import SearchPlan
from redi_ray.search.records import read_steps
from redi_ray.search.trial import Shared, counted_value, prepare_trial, run_trial, some_problems
from redi_ray.stages.run import Run
from redi_ray.stages.training import arm_recipe, prepare
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Manifest, Stage
from redi_ray.train.on_ray.launch import TrainError

ALPHA, RATE = "redi.arms.redi.objective.alpha", "redi.train.learning_rate"
DIGITS = "0123456789+="


def pair(number: int) -> dict:
    return {
        "pair_id": f"{number:02d}",
        "problem_id": str(number),
        "prompt": [{"role": "user", "content": f"{number}+{number}"}],
        "chosen": [{"role": "assistant", "content": f"<think>\n{2 * number}</think>{2 * number}"}],
        "rejected": [{"role": "assistant", "content": f"<think>\n{number}</think>{number}+{number}={number}"}],
    }


def shared_stages(run: Run, folder: Path) -> Shared:
    """What the stages before the training leave: 12 pairs, a model of random weights, 5 development problems."""
    save_scratch_model(run.config.model.init.architecture, character_tokenizer(DIGITS), folder)
    base = Stage(run.uri, "checkpoints/base", {}, {}).publish(facts={"export": str(folder)})
    groups = published(run, "curated", "pairs", PAIR, [pair(n) for n in range(12)], {"pairs": 12})
    dev = published(run, "dev", "dev", PROBLEM, problems(5), {"out": 5})
    return Shared({"groups": groups, "base": base, "start": base, "dev": dev}, dev)


def published(run: Run, name: str, table: str, schema: pa.Schema, rows: list[dict], counts: dict) -> Manifest:
    stage = Stage(run.uri, name, {}, {})
    parquet.write_table(f"{stage.uri}/{table}/part-0.parquet", pa.Table.from_pylist(rows, schema=schema))
    return stage.publish(counts=counts, facts={"pairs_dropped": {}})


def problems(count: int) -> list[dict]:
    return [{"problem_id": f"d{n}", "problem": f"{n}+1", "answer": str(n + 1), "source": "t"} for n in range(count)]


def test_a_trial_is_trained_scored_and_found_again(ray_session: None, tmp_path: Path):
    """What it has published is what a run with the trial's config would publish, so that a winner is not trained again."""
    told = [
        "redi.train.max_steps=3", "redi.train.batch_size=4", f"storage.root={tmp_path}", "resources.trainer={trackers: []}",
        "redi.train.probe={every: 2, problems: 3, max_tokens: 4}",
        f"search={{space: {{{ALPHA}: {{grid: [0.5]}}, {RATE}: {{grid: [1e-4]}}}}}}",
    ]  # fmt: skip
    plan = SearchPlan(load_config("configs/demo.yaml", told))
    (spec,) = plan.trials()
    shared = shared_stages(Run.of(plan.config), tmp_path / "model")
    record = run_trial(spec, plan.goal, shared=shared)
    assert (record.status, record.steps, record.total_steps, record.collapsed) == ("done", 3, 3, False)
    assert record.values == {ALPHA: 0.5, RATE: 1e-4}
    assert record.reports("dev_accuracy")[-1] == (3, record.value)
    assert [step for step, _ in record.reports("dev_accuracy")] == [1, 2, 3], "first, every second, last"
    assert record.sem == pytest.approx((record.value * (1 - record.value) / 3) ** 0.5)
    assert record.train_seconds > 0
    assert record.tokens == sum(step["total_tokens"] for step in read_steps(record.uri))

    winner = Run.of(spec.config)
    again = prepare(winner, "redi", arm_recipe(winner.config, "redi"), shared.inputs)
    assert again.stage.published().facts["export"] == f"{record.uri}/export"
    assert run_trial(spec, plan.goal, shared=shared) == record


def test_a_trial_makes_its_own_data_where_it_has_a_share_of_a_cpu(ray_session: None, tmp_path: Path):
    """As Tune gives it to each: tasks that stay within it could never start."""
    told = [
        f"storage.root={tmp_path}",
        "resources.trainer={trackers: []}",
        f"search={{space: {{{RATE}: {{grid: [1e-4]}}}}, metric: loss}}",
    ]
    plan = SearchPlan(load_config("configs/demo.yaml", told))
    (spec,) = plan.trials()
    shared = shared_stages(Run.of(plan.config), tmp_path / "model")
    group = ray.util.placement_group([{"CPU": 0.1}])
    within = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
    assert (
        ray.get(ray.remote(num_cpus=0.1, scheduling_strategy=within)(ready).remote(spec, plan.goal, shared)) == shared
    )
    ray.util.remove_placement_group(group)
    assert list(tmp_path.glob("demo/sequences/pairs/*/manifest.json"))


def test_a_merge_is_a_trial_without_steps(ray_session: None, tmp_path: Path):
    told = [f"storage.root={tmp_path}", "steps={soup: {do: merge, of: {base: 1, sft: 1}}}",
            "search={arm: soup, space: {steps.soup.of.sft: {grid: [3]}}}"]  # fmt: skip
    plan = SearchPlan(load_config("configs/demo.yaml", told))
    (spec,) = plan.trials()
    save_scratch_model(spec.config.model.init.architecture, character_tokenizer(DIGITS), tmp_path / "model")
    model = Stage(f"{tmp_path}/demo", "checkpoints/base", {}, {}).publish(
        facts={"export": str(tmp_path / "model"), "prompt": {}}
    )
    shared = ready(spec, plan.goal, Shared({"base": model, "sft": model}, model))
    record = run_trial(spec, plan.goal, shared=shared, scorer=lambda *_: {"value": 0.5, "sem": 0.1})
    assert (record.status, record.value, record.steps, record.total_steps) == ("done", 0.5, 0, 0)
    assert storage.exists(f"{record.uri}/export/model.safetensors")


def test_a_trial_that_cannot_be_trained_says_why(ray_session: None, tmp_path: Path):
    told = [
        "redi.train.max_steps=2", f"storage.root={tmp_path}", "resources.trainer={trackers: []}",
        "search={space: {redi.train.max_length: {grid: [8]}}, metric: loss}",
    ]  # fmt: skip
    plan = SearchPlan(load_config("configs/demo.yaml", told))
    (spec,) = plan.trials()
    shared = shared_stages(Run.of(plan.config), tmp_path / "model")
    with pytest.raises(TrainError, match="max_length"):
        run_trial(spec, plan.goal, shared=shared)
    assert prepare_trial(spec, plan.goal, shared).stage.published() is None


def test_the_same_development_problems_whatever_their_order():
    table = pa.Table.from_pylist(problems(20), schema=PROBLEM)
    some = some_problems(table, 5)
    assert some.num_rows == 5
    shuffled = table.take(pa.array([*range(10, 20), *range(10)]))
    assert set(some_problems(shuffled, 5)["problem_id"].to_pylist()) == set(some["problem_id"].to_pylist())
    assert some_problems(table, None) is table


def test_the_value_that_counts_is_that_of_the_exported_weights():
    """The last one, or the best at a checkpoint; a trial that collapsed is shown as it ended."""
    curve = {1: 0.1, 2: 0.9, 4: 0.7, 6: 0.95, 8: 0.5, 9: 0.6}
    steps = [{"step": step - 1, "dev_accuracy": curve.get(step)} for step in range(1, 10)]
    last = TrainSettings(checkpoint_every=4, keep_best="dev_accuracy", probe=ProbeSettings(every=2))
    best = replace(last, export="best")
    assert counted_value(steps, "dev_accuracy", last, collapsed=False) == 0.6
    assert counted_value(steps, "dev_accuracy", best, collapsed=False) == 0.7
    assert counted_value(steps[:2], "dev_accuracy", best, collapsed=False) == 0.9, "the last step is a checkpoint, too"
    assert counted_value(steps, "dev_accuracy", best, collapsed=True) == 0.6
    assert counted_value([], "dev_accuracy", best, collapsed=False) is None
