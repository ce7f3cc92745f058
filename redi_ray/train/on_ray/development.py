"""A training run's probe in full: problems from a table, prompts as in training, verdicts by the real verifier.

Apart from `probe.py` because it reads tables: the core does without pyarrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace

from redi_ray.modeling.policy import Policy
from redi_ray.modeling.tokenizer import end_of_turn_ids, load_tokenizer
from redi_ray.schemas import Verdict
from redi_ray.store import parquet, storage
from redi_ray.text.answers import verify_answer
from redi_ray.train.distributed import Distributed
from redi_ray.train.loop import Hooks
from redi_ray.train.on_ray.orders import Development, Orders
from redi_ray.train.probe import DevProblem, Judge, Probe, choose_problems


def development_problems(orders: Orders, model_path: str) -> list[DevProblem]:
    """The problems that the training's probe asks, none if it has no probe. Raises ValueError if the table is empty."""
    development, settings = orders.development, orders.settings.probe
    if development is None or settings is None:
        return []
    shards = storage.list_files(development.problems_uri, ".parquet")
    rows = [row for table in parquet.read_tables(shards) for row in table.to_pylist()]
    if not rows:
        raise ValueError(f"{development.problems_uri}: no development problem is there")
    return choose_problems(
        rows, load_tokenizer(model_path, orders.overrides.trust_remote_code), development.prompt, settings.problems
    )


def with_probe(
    hooks: Hooks,
    orders: Orders,
    problems: list[DevProblem],
    policy: Policy,
    *,
    model_path: str,
    total_steps: int,
    who: Distributed,
) -> Hooks:
    """`hooks` that measure development accuracy as well, where there are problems to ask."""
    development, settings = orders.development, orders.settings.probe
    if not problems or development is None or settings is None:
        return hooks
    probe = Probe(
        policy,
        problems,
        judge(development),
        settings,
        tokenizer=load_tokenizer(model_path, orders.overrides.trust_remote_code),
        end_ids=end_of_turn_ids(model_path, orders.overrides.trust_remote_code),
        prefix=development.prompt.prefix,
        total_steps=total_steps,
        distributed=who,
    )

    def on_step(step: int, metrics: Mapping[str, float]) -> Mapping[str, float]:
        added = {**(hooks.on_step(step, metrics) or {}), **(measured := probe(step, metrics))}
        if measured:
            hooks.on_probe(step + 1, {**metrics, **added})
        return added

    return replace(hooks, on_step=on_step)


def judge(development: Development) -> Judge:
    """Verdicts as in verification. Hard comparisons run in a process that is killed when it is late."""

    def is_right(gold: str, completion: str, finished: bool) -> bool:
        settings, limit = development.answers, development.timeout_seconds
        found = verify_answer(completion, gold, settings, timeout_seconds=limit, finished=finished)
        return found.verdict == Verdict.CORRECT

    return is_right


def development_fingerprint(orders: Orders, problems: list[DevProblem]) -> dict[str, str]:
    """What decides a probe's verdicts beside its settings, for `Checkpointer`: it can end a run through the guard."""
    if not problems or orders.development is None:
        return {}
    asked = [[list(problem.prompt), problem.answer] for problem in problems]
    return {
        "development": storage.content_hash(
            [asked, asdict(orders.development.answers), orders.development.prompt.prefix]
        )
    }
