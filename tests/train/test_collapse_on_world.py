"""On the built-in world, guard and development accuracy tell a run that collapses from one that is well."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from redi_ray.config.objectives import Objective, RediObjective, SftObjective
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.student import Architecture
from redi_ray.config.training import CollapseGuard, ModelOverrides, ProbeSettings, TrainSettings
from redi_ray.config.worlds import ArithmeticSource
from redi_ray.data.sources.built_in import WORLD_ALPHABET
from redi_ray.data.sources.world import answer, build_world, corpus, read_chain, solve
from redi_ray.modeling.policy import load_policy
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import encode
from redi_ray.train.batches import plan_batches
from redi_ray.train.loop import Hooks, train
from redi_ray.train.monitors import Monitors, read_metrics
from redi_ray.train.on_ray.development import judge
from redi_ray.train.on_ray.orders import Development
from redi_ray.train.probe import Probe, choose_problems
from redi_ray.train.progress import TrainResult
from redi_ray.train.records import SequenceRecord
from redi_ray.train.sequences import SequenceStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SOURCE = ArithmeticSource(num_problems=1200, num_dev=64, num_test=1, min_digits=2, max_digits=3)
PROMPT = PromptSettings()
TOKENIZER = character_tokenizer(WORLD_ALPHABET)


def store_of(rows: Iterable[tuple[int, int, str, str]]) -> SequenceStore:
    """Sequences of (group, side, problem, completion)."""
    encoded = ((g, side, encode(to_messages(p, PROMPT), text, TOKENIZER, PROMPT)) for g, side, p, text in rows)
    return SequenceStore.from_records(SequenceRecord(g, side, s.input_ids, s.prompt_length) for g, side, s in encoded)


def pairs() -> SequenceStore:
    """The right solution of each problem, and one that falls for a misconception, where its facts have one."""
    world, generator, rows = build_world(SOURCE), random.Random(0), []
    for problem in world.train:
        chain = read_chain(problem)
        tries = (solve(chain, world, generator, 0.5) for _ in range(60))
        wrong = next((text for text in tries if not text.endswith(f"{{{answer(problem)}}}")), None)
        if wrong is not None:
            group, right = len(rows) // 2, solve(chain, world, generator, 0.0)
            rows += [(group, 1, problem, right), (group, -1, problem, wrong)]
    return store_of(rows)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a small model that has learnt the world from its corpus, misconceptions and all."""
    folder = tmp_path_factory.mktemp("base")
    save_scratch_model(Architecture(), TOKENIZER, folder)
    policy = load_policy(str(folder), ModelOverrides())
    examples = store_of((group, 1, *solution) for group, solution in enumerate(corpus(SOURCE, 48_000)))
    settings = TrainSettings(learning_rate=2e-3, batch_size=32, tokens_per_pack=4096, weight_decay=0.01)
    train(policy, examples, SftObjective(), settings)
    policy.model.save_pretrained(folder)
    return str(folder)


def run(base: str, folder: Path, objective: Objective, learning_rate: float) -> tuple[TrainResult, list[float]]:
    """Stage 2 under the guard, with a probe every ten steps; how it ended, and the accuracies on the way."""
    settings = TrainSettings(
        learning_rate=learning_rate,
        batch_size=16,
        epochs=3,
        tokens_per_pack=4096,
        guard=CollapseGuard(action="stop"),
        probe=ProbeSettings(every=10, max_tokens=64, batch_size=32),
    )
    policy, store = load_policy(base, ModelOverrides()), pairs()
    rows = [{"problem_id": p, "problem": p, "answer": answer(p)} for p in build_world(SOURCE).dev]
    assert settings.probe is not None
    probe = Probe(
        policy,
        choose_problems(rows, TOKENIZER, PROMPT, settings.probe.problems),
        judge(Development("in memory", PROMPT)),
        settings.probe,
        tokenizer=TOKENIZER,
        end_ids=frozenset({TOKENIZER.eos_token_id}),
        prefix=PROMPT.prefix,
        total_steps=plan_batches(store, settings, 1, objective).total_steps,
    )
    result = train(policy, store, objective, settings, monitors=Monitors(folder), hooks=Hooks(on_step=probe))
    lines = read_metrics(folder / "metrics.jsonl")
    return result, [line["dev_accuracy"] for line in lines if "dev_accuracy" in line]


def test_a_good_run_ends_and_keeps_its_accuracy(base: str, tmp_path: Path) -> None:
    result, accuracies = run(base, tmp_path, RediObjective(alpha=0.2), 1e-4)
    assert result.status == "done", result.reason
    assert accuracies[0] > 0.7
    assert accuracies[-1] >= accuracies[0] - 0.1


def test_a_collapsing_run_is_stopped_early(base: str, tmp_path: Path) -> None:
    result, accuracies = run(base, tmp_path, RediObjective(alpha=1.0), 1e-3)
    assert (result.status, result.steps < result.total_steps / 2) == ("stopped_by_guard", True)
    assert "development accuracy" in result.reason
    assert accuracies[-1] < accuracies[0] - 0.25
