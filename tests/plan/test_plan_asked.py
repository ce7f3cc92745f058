"""What asks models beside the teacher is priced: searches and what guides them, locators, turns with tools."""

from __future__ import annotations

from pathlib import Path

import pytest
from planned_configs import planned
from problem_sources import write_lines

from redi_ray.cli.plan import make_inputs
from redi_ray.config.load import load_config
from redi_ray.config.locators import STEPS_PROMPT
from redi_ray.plan.costs import StageCost

SEARCHED = """
problems: {source: {kind: arithmetic, num_problems: 100, num_test: 50, num_dev: 20}}
steps:
  prm:   {do: train, from: sft, on: curated, objective: {name: outcome_bce}}
  judge: {do: train, from: sft, on: curated, objective: {name: sft}}
evaluate: {models: [base, sft], num_samples: 4, max_tokens: 1000, rank_by: {name: reward, model: prm}, guided: GUIDED}
resources: {engine: {device: gpu, dtype: bfloat16}, trainer: {use_gpu: true}}
"""
QUESTION = '{kind: step_judge, analyses: 2, opening: null, question: {question: "==", yes: "1", no: "0"}}'


def test_a_guided_search_and_what_guides_it_are_priced(tmp_path: Path):
    """50 problems, two models; steps of 6 next ones at a time, so that six whole answers are written of each problem."""

    def cost(guided: str) -> dict[str, StageCost]:
        (tmp_path / "searched.yaml").write_text(SEARCHED.replace("GUIDED", guided))
        inputs = make_inputs(load_config(str(tmp_path / "searched.yaml")), "H100", [], 100)
        return {stage.name: stage for stage in planned(inputs, {"steps": 4.0}).stages}

    head = cost("{model: prm, keep: 3, candidates: 2}")
    sampled = head["evaluate (2 models)"]
    assert sampled.sequences == head["evaluate: rank_by"].sequences == 2 * 50 * 4
    assert head["evaluate: guided"].sequences == head["evaluate: guided, steps"].sequences == 2 * 50 * 6 * 4
    assert head["evaluate: guided"].tokens == pytest.approx(sampled.tokens * 6 / 4)
    assert all(head[name].gpu_hours > 0 for name in head if name.startswith("evaluate"))
    judge = cost(f"{{model: judge, keep: 3, candidates: 2, judge: {QUESTION}}}")
    assert judge["evaluate: guided, steps"].sequences == 2 * head["evaluate: guided, steps"].sequences


def test_locators_that_ask_models_are_priced(tmp_path: Path):
    """600 samples of the student's own, half of them wrong, of 8 steps: a judge reads each wrong one once; one by halves goes
    on from behind 3 steps of each, one from step to step from behind 1, 2, ..., 7 or 7."""
    path = tmp_path / "located.yaml"
    path.write_text("""
problems: {source: {kind: arithmetic, num_problems: 100, num_dev: 20}}
steps:
  own:      {do: sample, model: sft, samples_per_round: 6, max_rounds: 1}
  own_math: {do: verify, of: own}
  judged:   {do: locate, of: own_math, locator: {kind: judge, model: Qwen/Qwen2.5-1.5B}}
  asked:    {do: locate, of: own_math, ask: all, model: sft, locator: {kind: judge, max_tokens: 50}}
  served:   {do: locate, of: own_math, locator: {kind: judge, endpoint: {base_url: "http://x/v1", model: big, max_retries: 0,
             prompt_price: 1.0, completion_price: 2.0}}}
  halves:   {do: locate, of: own_math, model: sft, locator: {kind: rollouts, samples: 5}}
  line:     {do: locate, of: own_math, model: sft, locator: {kind: rollouts, samples: 5, search: linear}}
  exact:    {do: locate, of: own_math, locator: {kind: exact}}
resources: {engine: {device: gpu, dtype: bfloat16}, trainer: {use_gpu: true}}
""")
    inputs = make_inputs(load_config(str(path)), "H100", [], 100)
    found = planned(inputs, {"own_correct_share": 0.5, "steps": 8.0, "judge_tokens": 300.0})
    cost = {stage.name: stage for stage in found.stages}
    assert (cost["judged"].sequences, cost["judged"].tokens) == (300, 300 * 300)
    assert inputs.engines["judged"].name == "Qwen/Qwen2.5-1.5B"
    assert (cost["asked"].sequences, cost["asked"].tokens) == (600, 600 * 50)
    assert cost["halves"].sequences == pytest.approx(300 * 3 * 5)
    assert cost["line"].sequences == pytest.approx(300 * (sum(range(1, 8)) + 7) / 8 * 5)
    assert cost["halves"].tokens == pytest.approx(cost["own"].tokens / 600 / 2 * 4500)
    assert cost["judged"].gpu_hours > 0 < cost["halves"].gpu_hours
    assert read(cost["served"]) == pytest.approx(300 * (len(STEPS_PROMPT) + 50), rel=0.05), "a character is a token"
    assert "exact" in {step.name for step in found.beside}


def read(served: StageCost) -> float:
    """Prompt tokens, by the price."""
    assert served.price is not None
    return served.price * 1e6 - 2 * served.tokens


TURNS = """
problems: {source: {kind: files, paths: [%s]}, max_problems: 100}
generate:
  kind: %s
  samples_per_round: 6
  max_rounds: 1
  max_tokens: 300
  tools: {names: [calculator], max_turns: 5}
model: {prompt: {prefix: "", tool_role: user}, init: {kind: scratch}}
resources: {engine: {device: gpu, dtype: bfloat16}, trainer: {use_gpu: true}}
"""
SERVED = "endpoint\n  endpoint: {base_url: 'http://x/v1', model: big, prompt_price: 1.0, completion_price: 2.0}"


def test_turns_cost_what_tools_say(tmp_path: Path):
    """Three turns of 40 tokens each with outputs of 30 between them, behind a prompt of 100: an engine keeps what it has read and
    reads the outputs; a server is sent 100, 170 and 240 tokens. A training reads outputs, and learns the turns alone."""
    problems = write_lines(tmp_path / "p.jsonl", [{"problem": f"{n}?", "answer": "1"} for n in range(100)])
    costs = []
    for kind, turns in (("vllm\n  model: Qwen/Qwen2.5-1.5B", 3.0), (SERVED, 3.0), (SERVED, 9.0)):
        path = tmp_path / "turns.yaml"
        path.write_text(TURNS % (problems, kind))
        inputs = make_inputs(load_config(str(path)), "H100", [], 100)
        given = {
            "completion_tokens": 120,
            "rejected_ratio": 1.0,
            "length_spread": 1e-6,
            "prompt_tokens": 100,
            "turns": turns,
        }
        costs.append(planned(inputs, {**given, "tool_tokens": 30.0, "solved_share": 0.5}))
    here, served, most = ({stage.name: stage for stage in plan.stages} for plan in costs)
    assert here["generate"].tokens == pytest.approx(600 * 120, rel=0.02)
    assert "1,200 calls of tools" in here["generate"].note
    assert read(served["generate"]) == pytest.approx(600 * (100 + 170 + 240), rel=0.02)
    assert "2,400 calls of tools" in most["generate"].note, "five turns at the most"
    epochs = inputs.config.sft.train.epochs
    assert here["sft"].tokens == pytest.approx(epochs * 50 * (100 + 120 + 60), rel=0.02)


def test_problems_taken_by_chance_are_counted_as_they_are(tmp_path: Path):
    """30 of 80 problems and the other 50, 6 samples of each: what is made of them is no more than that."""
    path = tmp_path / "taken.yaml"
    path.write_text("""
problems: {source: {kind: arithmetic, num_problems: 100, num_dev: 20}}
steps:
  own:      {do: sample, model: sft, samples_per_round: 6, max_rounds: 1}
  own_math: {do: verify, of: own}
  some:     {do: select, of: own_math, random: {problems: 30}}
  others:   {do: select, of: own_math, random: {problems: 30, rest: true}}
  as_many:  {do: select, of: own_math, random: {like: some}}
  judged:   {do: locate, of: others, ask: all, model: sft, locator: {kind: judge, max_tokens: 50}}
""")
    plan = planned(make_inputs(load_config(str(path)), "H100", [], 100), {"problems": 80.0})
    notes = {line.name: line.note for line in plan.beside}
    assert [notes[name] for name in ("some", "others", "as_many")] == [
        "traces of 30 problems", "traces of 50 problems", "traces of 30 problems"
    ]  # fmt: skip
    assert {stage.name: stage.sequences for stage in plan.stages}["judged"] == 50 * 6
