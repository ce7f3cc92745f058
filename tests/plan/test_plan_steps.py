"""The plan walks the graph: every step has its line, also those of every round, and what is assumed of it is stated."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from planned_configs import planned
from problem_sources import write_lines

from redi_ray.cli.plan import make_assumptions, make_inputs
from redi_ray.config.load import load_config
from redi_ray.config.yaml_text import read_yaml
from redi_ray.pipeline.kinds import KINDS
from redi_ray.plan.costs import Inputs, Plan
from redi_ray.plan.estimate import _Estimate, estimate

CONFIG = """
problems: {source: {kind: arithmetic, num_problems: 100, num_dev: 20}}
redi: {train: {probe: {every: 5}}}
steps:
  hard:      {do: select, of: verified, difficulty: {max_rate: 0.5}}
  sft2:      {do: train, from: sft, on: hard, objective: {name: sft}, train: {epochs: 2}}
  own:       {do: sample, model: sft2, samples_per_round: 6}
  own_math:  {do: verify, of: own}
  own_pairs: {do: pairs, of: own_math, pairs_per_problem: 2}
  nca:       {do: train, from: sft2, on: own_pairs, objective: {name: nca}}
  soup:      {do: merge, of: {sft2: 1, nca: 3}}
repeat: {steps: [own, own_math, own_pairs, nca], times: 3, carry: {sft2: nca}}
evaluate: {models: [base, sft, sft2, nca, soup]}
resources: {engine: {device: gpu, dtype: bfloat16}, trainer: {use_gpu: true}}
"""
GIVEN = {"solved_share": 0.8, "selected_share": 0.5, "own_solved_share": 0.6, "own_paired_share": 0.25}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    path = tmp_path_factory.mktemp("plan") / "steps.yaml"
    path.write_text(CONFIG)
    return make_inputs(load_config(str(path)), "H100", [], 100)


@pytest.fixture(scope="module")
def plan(inputs: Inputs) -> Plan:
    return planned(inputs, GIVEN)


def test_every_step_has_a_line_and_every_line_counts(inputs: Inputs, plan: Plan):
    steps = {step.name for step in inputs.graph}
    references = [stage for stage in plan.stages if stage.name.startswith("references")]
    priced = [name for stage in plan.stages if stage not in references for name in stage.steps]
    beside = [step.name for step in plan.beside]
    assert sorted([*priced, *beside]) == sorted(steps), "each once"
    assert {name for stage in references for name in stage.steps} == {"nca@1", "nca@2", "nca@3"}
    assert plan.gpu_hours == pytest.approx(sum(stage.gpu_hours for stage in plan.stages))
    assert all(stage.gpu_hours > 0 for stage in plan.stages), "all of these run on GPUs"
    trained = [step.name for step in inputs.graph if step.kind == "train"]
    assert [memory.name for memory in plan.memory] == ["base", *trained]
    made = {step.name for step in inputs.graph if step.gives == "model"}
    assert {name.removeprefix("checkpoints/") for name in plan.storage if name.startswith("checkpoints/")} == made


def test_every_kind_of_step_is_known_to_the_plan(inputs: Inputs):
    known = _Estimate(inputs, make_assumptions(inputs.config, inputs.sample, [])).by_kind
    assert known.keys() == KINDS.keys()


def test_sizes_follow_the_graph(plan: Plan):
    """By hand, of 100 problems: 80 solved; half selected, of which 40 solved, twice; 600 own traces in every round, of which 25
    problems give 2 pairs each, so 100 sequences a round."""
    sequences = {stage.name: stage.sequences for stage in plan.stages}
    assert sequences["sft2"] == 2 * 40
    assert [sequences[f"own@{number}"] for number in (1, 2, 3)] == [600, 600, 600]
    assert [sequences[f"nca@{number}"] for number in (1, 2, 3)] == [100, 100, 100]
    evaluated = next(stage for stage in plan.stages if stage.name.startswith("evaluate"))
    assert evaluated.name == "evaluate (5 models)"
    notes = {step.name: step.note for step in plan.beside}
    assert notes["hard"] == "traces of 50 problems"
    assert notes["own_pairs@2"] == "60 positives and 50 pairs"
    assert notes["soup"] == "the mean of sft2, nca@3"


def test_what_a_model_not_yet_trained_will_write_is_an_assumption_of_its_own(inputs: Inputs, plan: Plan):
    """What the data say of their traces moves nothing there, and what is assumed of own traces nothing elsewhere."""
    used = {stage.name: stage.assumptions for stage in plan.stages}
    assert "own_paired_share" in used["nca@2"]
    assert "paired_share" not in used["nca@2"]
    assert "eval_ratio" in used["own@1"]
    assert "own_paired_share" not in used["redi"]
    more = planned(inputs, {**GIVEN, "own_paired_share": 0.5})
    moved = [b.name for a, b in zip(plan.stages, more.stages, strict=True) if a.sequences != b.sequences]
    assert [name for name in moved if not name.startswith("references")] == ["nca@1", "nca@2", "nca@3"]


def test_a_judge_of_a_named_step_is_a_model_that_is_priced(tmp_path: Path):
    raw = read_yaml(CONFIG)
    raw["steps"]["own_math"] |= {"votes": ["judge"], "judge": {"model": "Qwen/Qwen2.5-1.5B", "ask": "all"}}
    path = tmp_path / "judged.yaml"
    path.write_text(yaml.safe_dump(raw))
    inputs = make_inputs(load_config(str(path)), "H100", [], 100)
    found = {stage.name: stage for stage in planned(inputs, GIVEN).stages}
    assert found["own_math@3"].sequences == 600
    assert inputs.engines["own_math@3"].name == "Qwen/Qwen2.5-1.5B"
    assert "judge" not in found, "the config's own line has none"


SETS = {
    "labelled": [{"prompt": f"{n}?", "completion": "a", "label": n % 4 == 0} for n in range(40)],
    "rollouts": [{"prompt": f"{n}?", "responses": list("abcd"), "rewards": [1, 0, 0, 0]} for n in range(40)],
    "samples": [{"prompt": f"{n // 4}?", "response": f"{n}", "reward": n % 2} for n in range(40)],
    "prefs": [{"prompt": f"{n}?", "chosen": "a", "rejected": "b"} for n in range(40)],
}
READ = {
    "labelled": ("kto", 40, 10), "rollouts": ("advantage", 160, 10), "samples": ("asymre", 40, 3), "prefs": ("dpo", 80, 10),
}  # fmt: skip
"""Objective, sequences of an epoch, and its steps of 4 groups."""


def test_imported_groups_count_as_a_training_reads_them(tmp_path: Path):
    """A labelled answer is a group of its own, n samples are one: not so many pairs."""
    steps: dict[str, object] = {}
    for name, rows in SETS.items():
        path = write_lines(tmp_path / f"{name}.jsonl", rows)
        steps[name] = {"do": "import", "source": {"kind": "files", "paths": [path]}}
        steps[f"on_{name}"] = {"do": "train", "from": "base", "on": name, "objective": {"name": READ[name][0]}}
    raw = {
        "steps": steps,
        "model": {"init": {"kind": "scratch"}, "prompt": {"prefix": ""}},
        "redi": {"train": {"batch_size": 4}},
    }
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(raw))
    inputs = make_inputs(load_config(str(tmp_path / "x.yaml")), "H100", [], 100)
    found = {stage.name: stage for stage in planned(inputs, {}).stages}
    epochs = inputs.config.redi.train.epochs
    for name, (_, sequences, steps_of_an_epoch) in READ.items():
        assert found[f"on_{name}"].sequences == pytest.approx(epochs * sequences), name
        assert f"{epochs * steps_of_an_epoch:,} steps" in found[f"on_{name}"].note
    assert found["references (base on labelled)"].sequences == 40


def test_continuations_and_contrasts_are_of_wrong_traces(tmp_path: Path):
    """100 problems with 6 samples of the student's own, of which half are wrong; five continuations of each."""
    path = tmp_path / "tokens.yaml"
    path.write_text("""
problems: {source: {kind: arithmetic, num_problems: 100, num_dev: 20}}
steps:
  own:      {do: sample, model: sft, samples_per_round: 6, max_rounds: 1}
  own_math: {do: verify, of: own}
  lines:    {do: score, of: own_math, scorer: {name: rule, pattern: "=", spans: true}}
  steps:    {do: rectify, of: own_math, at: lines, model: sft, samples_per_round: 5, max_rounds: 1}
  critical: {do: contrast, of: own_math, right: sft, wrong: base}
  step_dpo: {do: train, from: sft, on: steps, objective: {name: dpo}}
resources: {engine: {device: gpu, dtype: bfloat16}, trainer: {use_gpu: true}}
""")
    inputs = make_inputs(load_config(str(path)), "H100", [], 100)
    found = planned(inputs, {"own_correct_share": 0.5})
    cost = {stage.name: stage for stage in found.stages}
    assert cost["steps-samples"].sequences == 5 * 300
    assert cost["steps-samples"].tokens < 5 * cost["own"].tokens / 2
    assert cost["critical"].sequences == 300
    told = {step.name: step.note for step in found.beside}
    assert told["steps-verified"] == "1,500 traces"
    assert {"steps-starts", "steps"} <= told.keys()


def test_what_no_model_writes_asks_for_no_engine():
    """The recipe of a judge of steps: its stated traces have a line, and no model's price."""
    inputs = make_inputs(load_config("configs/recipes/step_judge.yaml"), "H100", [], 100)
    assert {"said", "traces", "mended-samples"} & inputs.engines.keys() == {"traces", "mended-samples"}
    plan = estimate(inputs, make_assumptions(inputs.config, inputs.sample, []))
    told = {line.name: line.note for line in plan.beside}
    assert told["said"] == "a trace for each problem, which no model writes"
    assert "what `step_judge` asks of a model has no price here" in told["judged"]


def test_kept_samples_count_by_what_is_kept(tmp_path: Path):
    """100 problems with 6 samples of the student's own, of which half are right and 60 problems have a right one."""
    path = tmp_path / "kept.yaml"
    path.write_text("""
problems: {source: {kind: arithmetic, num_problems: 100, num_dev: 20}}
steps:
  own:      {do: sample, model: sft, samples_per_round: 6, max_rounds: 1}
  own_math: {do: verify, of: own}
  length:   {do: score, of: own_math, scorer: {name: length}}
  short:    {do: select, of: own_math, by: length, keep: {per_problem: 2, order: lowest}}
  best:     {do: select, of: own_math, by: length, keep: {per_problem: 1, verdicts: [correct]}}
  few:      {do: select, of: own_math, by: length, keep: {overall: 30}}
  bound:    {do: select, of: own_math, by: length, keep: {at_least: 5}}
  chance:   {do: select, of: own_math, keep: {like: few, order: random}}
  on_best:  {do: train, from: sft, on: best, objective: {name: sft}, train: {epochs: 1}}
resources: {engine: {device: gpu, dtype: bfloat16}, trainer: {use_gpu: true}}
""")
    inputs = make_inputs(load_config(str(path)), "H100", [], 100)
    found = planned(inputs, {"own_correct_share": 0.5, "own_solved_share": 0.6, "selected_share": 0.25})
    told = {step.name: step.note for step in found.beside}
    assert told["short"] == "200 traces of 100 problems"
    assert told["best"] == "60 traces of 60 problems"
    assert told["on_best-pairs"] == "60 positives and 0 pairs"
    assert told["few"] == told["chance"] == "30 traces of 30 problems"
    assert told["bound"] == "150 traces of 100 problems"
    assert {stage.name: stage.sequences for stage in found.stages}["on_best"] == 60


def test_groups_count_as_groups(tmp_path: Path):
    """100 problems with 6 samples of the student's own, half of them right, 25 problems with both: n of each, not pairs."""
    path = tmp_path / "groups.yaml"
    path.write_text("""
problems: {source: {kind: arithmetic, num_problems: 100, num_dev: 20}}
redi: {train: {epochs: 1, batch_size: 5}}
steps:
  own:      {do: sample, model: sft, samples_per_round: 6, max_rounds: 1}
  own_math: {do: verify, of: own}
  all:      {do: groups, of: own_math}
  both:     {do: groups, of: own_math, both_sides: true, most_wrong: 0.5}
  few:      {do: groups, of: own_math, most: 4, max_rate: 0.5}
  paired:   {do: groups, of: own_math, both_sides: true, per_side: 1}
  none:     {do: groups, of: own_math, least: 7}
  on_all:   {do: train, from: sft, on: all, objective: {name: advantage}}
  on_both:  {do: train, from: sft, on: both, objective: {name: advantage}}
  on_few:   {do: train, from: sft, on: few, objective: {name: advantage}}
  on_pairs: {do: train, from: sft, on: paired, objective: {name: dpo}}
  on_right: {do: train, from: sft, on: few, objective: {name: sft}, train: {epochs: 1}}
  on_none:  {do: train, from: sft, on: none, objective: {name: advantage}}
resources: {engine: {device: gpu, dtype: bfloat16}, trainer: {use_gpu: true}}
""")
    inputs = make_inputs(load_config(str(path)), "H100", [], 100)
    found = planned(inputs, {"own_correct_share": 0.5, "own_paired_share": 0.25, "selected_share": 0.4})
    told = {step.name: step.note for step in found.beside}
    assert told["all"] == "100 groups of 6 samples, from 600 traces of 100 problems"
    assert told["both"] == "25 groups of 4.5 samples, from 600 traces of 100 problems"
    assert told["few"] == "40 groups of 4 samples, from 600 traces of 100 problems"
    cost = {stage.name: stage for stage in found.stages}
    assert {name: cost[f"on_{name}"].sequences for name in ("all", "both", "few", "pairs", "right", "none")} == {
        "all": 600, "both": 25 * 4.5, "few": 160, "pairs": 50, "right": 80, "none": 0
    }  # fmt: skip
    assert cost["on_all"].note.startswith("20 steps"), "a step is of groups"
    assert "there are no groups" in cost["on_none"].note
    stored = found.storage
    assert stored["steps/on_all/sequences"] == pytest.approx(600 / 160 * stored["steps/on_few/sequences"])
    assert stored["steps/all/groups"] == pytest.approx(600 / 160 * stored["steps/few/groups"])


def test_what_is_made_of_samples_counts_as_many_as_there_are(tmp_path: Path):
    """50 problems with 4 samples: a question for each sample of groups, or for each labelled step of each sample; a text of
    several attempts a group, in S2R's shares of .435, where one is solved; a stated answer a question."""
    path = tmp_path / "posed.yaml"
    path.write_text("""
problems: {source: {kind: arithmetic, num_problems: 50, num_dev: 20}}
steps:
  own:      {do: sample, model: base, samples_per_round: 4, max_rounds: 1}
  own_math: {do: verify, of: own}
  kept:     {do: groups, of: own_math, least: 1}
  asked:    {do: examine, of: kept}
  judged:   {do: sample, model: base, problems: asked, samples_per_round: 2, max_rounds: 1}
  chains:   {do: self_verify, of: kept}
  talking:  {do: train, from: base, on: chains, objective: {name: sft}, train: {outside_spans: 1, batch_size: 1, epochs: 1}}
  plain:    {do: train, from: base, on: kept, objective: {name: advantage}, train: {batch_size: 1, epochs: 1}}
  labels:   {do: locate, of: own_math, locator: {kind: exact}, ask: all}
  by_step:  {do: ask, of: own_math, at: labels}
  bare:     {do: state, problems: by_step, text: "<think> {answer}"}
  known:    {do: verify, of: bare}
  stated:   {do: groups, of: known, least: 1}
  stating:  {do: train, from: base, on: stated, objective: {name: sft}, train: {batch_size: 1, epochs: 1}}
resources: {engine: {device: gpu, dtype: bfloat16}, trainer: {use_gpu: true}}
""")
    inputs = make_inputs(load_config(str(path)), "H100", [], 100)
    found = planned(inputs, {"own_correct_share": 0.5, "steps": 3, "own_solved_share": 0.5})
    cost = {stage.name: stage for stage in found.stages}
    assert cost["judged"].sequences == 2 * 50 * 4
    assert cost["talking"].sequences == round(50 * 0.5 * (0.2394 + 3 * 0.5) / 4)
    each = {name: cost[name].tokens / cost[name].sequences for name in ("talking", "plain")}
    assert each["talking"] > 1.5 * each["plain"]
    assert cost["stating"].sequences == 50 * 4 * 3


def test_a_teacher_is_priced_by_its_own_size(tmp_path: Path):
    """What it samples and scores, against a student of a fifth of its size; its column, by tokens of the verdicts that it has."""
    path = tmp_path / "teacher.yaml"
    path.write_text(
        """
name: taught
problems: {source: {kind: arithmetic, num_problems: 100}}
generate: {kind: none}
model: {init: {kind: pretrained, path: Qwen/Qwen2.5-1.5B-Instruct}}
steps:
  teacher: {do: model, init: {kind: pretrained, path: Qwen/Qwen2.5-7B-Instruct}}
  taught: {do: sample, model: teacher, samples_per_round: 4}
  own: {do: sample, model: base, samples_per_round: 4}
  math: {do: verify, of: taught}
  right: {do: soft_targets, of: math, model: teacher, verdicts: [correct]}
  all: {do: soft_targets, of: math, model: teacher, top_k: 16}
  ours: {do: logps, of: math, model: base}
  theirs: {do: logps, of: math, model: teacher}
  groups: {do: groups, of: math, rewards: {correct: 1}, least: 1, token_columns: {soft_targets: right}}
  kd: {do: train, from: base, on: groups, objective: {name: forward_kl}}
  tuned: {do: train, from: teacher, on: groups, objective: {name: sft}}
evaluate: {benchmarks: []}
resources: {engine: {device: gpu, dtype: bfloat16}, trainer: {use_gpu: true, num_workers: 4}}
"""
    )
    inputs = make_inputs(load_config(str(path)), "H100", [], 100)
    plan = planned(inputs, {"own_correct_share": 0.6, "completion_tokens": 500, "prompt_tokens": 100})
    stages = {stage.name: stage for stage in plan.stages}
    assert inputs.shape_of("tuned").parameters > 4 * inputs.shape_of("kd").parameters
    for name, other in (("taught", "own"), ("theirs", "ours"), ("all", "ours"), ("tuned", "kd")):
        assert 2 < stages[name].gpu_hours / stages[other].gpu_hours < 7, name
    assert stages["right"].sequences == pytest.approx(0.6 * stages["all"].sequences)
    assert "260 bytes a token" in stages["right"].note
    memory = {one.name: one.memory.weights for one in plan.memory}
    assert memory["tuned"] > 4 * memory["kd"]
    right, everything = (plan.storage[f"steps/{name}/column"] for name in ("right", "all"))
    assert right / 260 == pytest.approx(stages["right"].tokens - 100 * stages["right"].sequences, rel=1e-6)
    assert everything / 68 == pytest.approx(stages["all"].tokens - 100 * stages["all"].sequences, rel=1e-6)
    assert plan.storage["steps/kd/sequences"] > 260 * stages["right"].tokens * 0.9
    assert plan.gpu_hours == pytest.approx(sum(stage.gpu_hours for stage in plan.stages))


def test_variants_and_a_frontier_are_counted(tmp_path: Path) -> None:
    """Of 100 problems two kinds of variants with their originals are 300, of 40 test problems 80; a model that writes and a judge
    have a line each; later rounds at the frontier have one sample a problem."""
    path = tmp_path / "variants.yaml"
    path.write_text(
        """
problems: {source: {kind: arithmetic, num_problems: 100, num_test: 40, num_dev: 20}}
generate: {kind: vllm, model: base, samples_per_round: 4, max_rounds: 3, frontier: {samples: 1.5}}
steps:
  varied: {do: perturb, distractor: {}, order: {}, originals: true}
  own: {do: sample, problems: varied, model: sft, samples_per_round: 2, max_rounds: 1}
  held_out: {do: perturb, part: test, distractor: {}, order: {}}
  tested: {do: sample, problems: held_out, model: sft, samples_per_round: 2, max_rounds: 1}
  math: {do: verify, of: own}
  robust: {do: robustness, of: math}
  posed: {do: pose, of: math, prompt: "{problem}"}
  reworded: {do: paraphrase, problems: posed, by: {endpoint: {base_url: "http://a/v1", model: m}},
             judge: {model: Qwen/Qwen2.5-7B-Instruct}}
evaluate: {benchmarks: []}
resources: {engine: {device: gpu, dtype: bfloat16}}
"""
    )
    plan = planned(make_inputs(load_config(str(path)), "H100", [], 100), {})
    stages = {stage.name: stage.sequences for stage in plan.stages}
    assert stages["generate"] == 100 * (4 + 2 * 1.5)
    assert (stages["own"], stages["tested"]) == (2 * 300, 2 * 80)
    assert stages["reworded"] == stages["reworded: judge"] > 0
    beside = {line.name: line.note for line in plan.beside}
    assert beside["varied"].startswith("up to 300 problems")
    assert "robust" in beside
