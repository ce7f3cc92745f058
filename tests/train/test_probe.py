"""A probe sees what the policy would answer, and training never notices that it was looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import run_on_ranks
from tiny_models import VOCABULARY, tiny_policy, tiny_store
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import GenerationConfig

from redi_ray.config.objectives import RediObjective
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.training import LoraSettings, ProbeSettings, TrainSettings
from redi_ray.modeling.lora import add_lora
from redi_ray.modeling.policy import Policy
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.train.checkpoint import Checkpointer
from redi_ray.train.distributed import Distributed, from_all_ranks
from redi_ray.train.loop import Hooks, train
from redi_ray.train.monitors import Monitors, read_metrics
from redi_ray.train.probe import DevProblem, Probe, choose_problems
from redi_ray.train.shard import shard_policy
from redi_ray.train.stores import LocalStore

SETTINGS = ProbeSettings(every=2, batch_size=4, max_tokens=12)
TRAINING = TrainSettings(learning_rate=1e-3, batch_size=4, epochs=1, tokens_per_pack=64, checkpoint_every=2)
STORE = tiny_store(num_pairs=20)
STEPS = 5
ENDS = frozenset({11, 47})
"""Tokens that some answers of the tiny models come to and others do not."""


class Numbers:
    """Decodes tokens to their numbers."""

    def decode(self, tokens: list[int], skip_special_tokens: bool) -> str:
        return " ".join(map(str, tokens))


def random_problems(count: int = 10) -> list[DevProblem]:
    rng = np.random.default_rng(3)
    lengths = sorted(rng.integers(1, 9, count))
    return [DevProblem(tuple(rng.integers(0, VOCABULARY, n).tolist()), f"gold {i}") for i, n in enumerate(lengths)]


class Answers:
    """A judge that remembers: {gold: (completion, finished)}; it calls right what begins with an even token."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[str, bool]] = {}

    def __call__(self, gold: str, completion: str, finished: bool) -> bool:
        self.seen[gold] = completion, finished
        return int("0" + completion.split(" ", maxsplit=1)[0]) % 2 == 0


def make_probe(
    policy: Policy,
    judge: Callable[[str, str, bool], bool],
    settings: ProbeSettings = SETTINGS,
    problems: Sequence[DevProblem] | None = None,
    who: Distributed | None = None,
) -> Probe:
    problems = random_problems() if problems is None else problems
    options = {"tokenizer": Numbers(), "end_ids": ENDS, "prefix": "", "total_steps": STEPS, "distributed": who}
    return Probe(policy, problems, judge, settings, **options)  # type: ignore[arg-type]


@torch.no_grad()
def greedy_alone(policy: Policy, problem: DevProblem) -> tuple[str, bool]:
    """One prompt, no padding, no cache, no `generate`."""
    ids, prompt = list(problem.prompt), len(problem.prompt)
    while len(ids) < prompt + SETTINGS.max_tokens:
        token = int(policy.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if token in ENDS:
            return Numbers().decode(ids[prompt:], True), True
        ids.append(token)
    return Numbers().decode(ids[prompt:], True), False


@pytest.mark.parametrize("tied", [True, False], ids=["qwen", "llama"])
def test_answers_are_those_of_each_prompt_alone(tied: bool) -> None:
    """Whatever stands beside them in the batch, and whatever the model's own generation config says."""
    policy, judge = tiny_policy(tied), Answers()
    policy.model.generation_config = GenerationConfig(do_sample=True, repetition_penalty=5.0, min_new_tokens=9)
    random_state = torch.get_rng_state()
    accuracy = make_probe(policy, judge).accuracy(0)
    assert torch.equal(torch.get_rng_state(), random_state)
    expected = {problem.answer: greedy_alone(policy.eval(), problem) for problem in random_problems()}
    assert judge.seen == expected
    assert {finished for _, finished in expected.values()} == {True, False}
    assert accuracy == sum(Answers()(gold, *answer) for gold, answer in expected.items()) / len(expected)


def test_when_it_measures() -> None:
    probe = make_probe(tiny_policy(), Answers(), replace(SETTINGS, every=3), random_problems(2))
    assert [bool(probe(step, {})) for step in range(STEPS)] == [True, False, True, False, True]


def test_chosen_problems_do_not_depend_on_the_order_of_the_rows() -> None:
    rows = [{"problem_id": f"p{i}", "problem": "1" * (i % 7 + 1), "answer": str(i)} for i in range(30)]
    tokenizer, prompt = character_tokenizer("0123456789\n"), PromptSettings()
    chosen = choose_problems(rows, tokenizer, prompt, 10)
    assert {p.answer for p in chosen} == {p.answer for p in choose_problems(rows[::-1], tokenizer, prompt, 10)}
    assert {p.answer for p in chosen} != {str(i) for i in range(10)}
    assert [len(p.prompt) for p in chosen] == sorted(len(p.prompt) for p in chosen)
    assert tokenizer.decode(chosen[0].prompt).endswith("<|assistant|><think>\n")
    assert len(choose_problems(rows, tokenizer, prompt, 99)) == 30


def weights(policy: Policy) -> dict[str, Tensor]:
    return {
        name: (p.full_tensor() if isinstance(p, DTensor) else p).detach().clone()
        for name, p in policy.named_parameters()
    }


def trained(probe: ProbeSettings | None, who: Distributed, lora: bool, judge: Answers, problems: int = 10) -> Policy:
    """A run of five steps; with adapters there is dropout, so that a step draws random numbers too."""
    policy = tiny_policy()
    if lora:
        add_lora(policy.model, LoraSettings(rank=2, dropout=0.3))
    shard_policy(policy, world_size=who.world_size, precision="fp32")
    hooks = Hooks()
    if probe is not None:
        hooks = Hooks(on_step=make_probe(policy, judge, probe, random_problems(problems), who))
    train(policy, STORE, RediObjective(), TRAINING, distributed=who, hooks=hooks)
    return policy


def assert_untouched(probed: Policy, plain: Policy) -> None:
    """Weights, and everything else that a step reads."""
    ours, theirs = weights(probed), weights(plain)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert [m.training for m in probed.modules()] == [m.training for m in plain.modules()]
    flags = [{name: p.requires_grad for name, p in policy.named_parameters()} for policy in (probed, plain)]
    assert flags[0] == flags[1]
    assert {type(p) for p in probed.parameters()} == {type(p) for p in plain.parameters()}
    assert probed.model.generation_config.to_dict() == plain.model.generation_config.to_dict()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("lora", [False, True])
def test_training_is_the_same_to_the_last_bit(temperature: float, lora: bool) -> None:
    judge = Answers()
    probed = trained(replace(SETTINGS, temperature=temperature), Distributed(), lora, judge)
    assert len(judge.seen) == 10
    assert_untouched(probed, trained(None, Distributed(), lora, judge))


def check_on_ranks(rank: int, world_size: int) -> None:
    """Fresh from sharding, and in training; with batches for all ranks and for the first alone; sampled and greedy."""
    who = Distributed(rank, world_size)
    for temperature, problems in ((0.0, 10), (1.0, 3)):
        settings = replace(SETTINGS, temperature=temperature)
        sharded, alone, judge, expected = tiny_policy(), tiny_policy(), Answers(), Answers()
        shard_policy(sharded, world_size=world_size, precision="fp32")
        found = make_probe(sharded, judge, settings, random_problems(problems), who).accuracy(0)
        assert found == make_probe(alone, expected, settings, random_problems(problems)).accuracy(0)
        assert {gold: answer for part in from_all_ranks(judge.seen) for gold, answer in part.items()} == expected.seen
        assert all(isinstance(p, DTensor) for p in sharded.parameters())
    for lora, problems in ((False, 3), (True, 10)):
        probed = trained(replace(SETTINGS, temperature=1.0), who, lora, Answers(), problems)
        assert_untouched(probed, trained(None, who, lora, Answers()))


def test_two_sharded_ranks_answer_as_one_process_and_train_on_undisturbed() -> None:
    run_on_ranks(check_on_ranks, 2)


def test_resumed_runs_measure_the_same(tmp_path: Path) -> None:
    """Stopped between two measurements and run again: the same accuracy at the same steps, sampled ones too."""

    def run(folder: Path, stop_after: int | None = None) -> list[float | None]:
        policy, calls = tiny_policy(), iter(range(1, 100))
        hooks = Hooks(
            on_step=make_probe(policy, Answers(), replace(SETTINGS, temperature=1.0)),
            stop_requested=lambda: next(calls) == stop_after,
        )
        checkpoints = Checkpointer(LocalStore(folder / "checkpoints"), {}, distributed=Distributed(), keep_last=2)
        train(policy, STORE, RediObjective(), TRAINING, checkpoints=checkpoints, monitors=Monitors(folder), hooks=hooks)
        return [line.get("dev_accuracy") for line in read_metrics(folder / "metrics.jsonl")]

    undisturbed = run(tmp_path / "undisturbed")
    run(tmp_path / "stopped", stop_after=3)
    assert run(tmp_path / "stopped") == undisturbed
    assert [value is not None for value in undisturbed] == [True, True, False, True, True]
    assert len(set(undisturbed)) > 2
