"""The accuracy that a worker measures is what the real verifier says of what the model really answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from tiny_models import tiny_model
from tiny_runs import write_inputs
from transformers import AutoModelForCausalLM

from redi_ray.config.answers import AnswerSettings
from redi_ray.config.objectives import RediObjective
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.training import ModelOverrides, ProbeSettings, TrainSettings
from redi_ray.modeling.tokenizer import end_of_turn_ids, load_tokenizer
from redi_ray.schemas import PROBLEM, Verdict
from redi_ray.store import parquet
from redi_ray.text.answers import verify_answer
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import prompt_ids
from redi_ray.train.distributed import Distributed
from redi_ray.train.loop import Hooks
from redi_ray.train.monitors import read_metrics
from redi_ray.train.on_ray.development import development_fingerprint, development_problems, judge
from redi_ray.train.on_ray.launch import launch_training
from redi_ray.train.on_ray.orders import Development, Orders
from redi_ray.train.on_ray.worker import train_and_export

ALL_OF_IT = AnswerSettings(extract=["regex:(?s)(.+)"])
PROMPT = PromptSettings(prefix="")


def orders_of(folder: Path, gold: dict[str, str], **settings: object) -> Orders:
    """Orders on a tiny model whose learning rate moves nothing, with development problems of these reference answers."""
    rows = [{"problem_id": f"id-{p}", "problem": p, "answer": a, "source": None} for p, a in gold.items()]
    parquet.write_table(f"{folder}/dev/part-00000.parquet", pa.Table.from_pylist(rows, schema=PROBLEM))
    probe = ProbeSettings(every=2, problems=12, max_tokens=8, batch_size=5)
    options = {
        "learning_rate": 1e-9,
        "batch_size": 4,
        "tokens_per_pack": 128,
        "max_steps": 3,
        "probe": probe,
    } | settings
    return Orders(
        model_path=f"{folder}/model",
        overrides=ModelOverrides(),
        sequences_uri=f"{folder}/sequences",
        mismatched_uri=None,
        objective=RediObjective(),
        settings=TrainSettings(**options),  # type: ignore[arg-type]
        out_uri=f"{folder}/out",
        name="tiny",
        threads=1,
        trackers=(),
        watch_nodes=False,
        development=Development(f"{folder}/dev", PROMPT, ALL_OF_IT, 2.0),
    )


def greedy(folder: str, problem: str) -> str:
    """What the model in `folder` answers, by transformers alone."""
    tokenizer, model = load_tokenizer(folder), AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([prompt_ids(to_messages(problem, PROMPT), tokenizer, PROMPT)])
    out = model.generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=sorted(end_of_turn_ids(folder)))
    return tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


def test_accuracy_is_the_verifiers(tmp_path: Path) -> None:
    """Every other gold is what the model says; some of that is nothing that could be compared."""
    model, _ = write_inputs(tmp_path)
    tiny_model(tied=False, dtype=torch.float32).save_pretrained(
        model
    )  # it says more than the other, which repeats itself
    answers = {problem: greedy(model, problem) for problem in map(str, range(100, 112))}
    gold = {p: text if number % 2 else "no such answer" for number, (p, text) in enumerate(answers.items())}
    right = [verify_answer(answers[p], gold[p], ALL_OF_IT).verdict == Verdict.CORRECT for p in answers]
    assert len(set(answers.values())) > 6
    assert 3 <= sum(right) <= 6
    orders = orders_of(tmp_path, gold)
    (tmp_path / "scratch").mkdir()
    heard = []
    hooks = Hooks(on_probe=lambda steps, metrics: heard.append((steps, metrics["dev_accuracy"], "loss" in metrics)))
    train_and_export(orders, Distributed(), tmp_path / "scratch", hooks)
    lines = read_metrics(tmp_path / "out" / "metrics.jsonl")
    assert [line.get("dev_accuracy") for line in lines] == [sum(right) / len(right)] * 3
    assert heard == [(steps, sum(right) / len(right), True) for steps in (1, 2, 3)], "what a search listens to"


def test_a_cut_off_answer_is_no_guess_and_a_hanging_one_ends() -> None:
    development = Development("unread", PROMPT, AnswerSettings(extract=["boxed", "last_number"]), timeout_seconds=1.0)
    is_right = judge(development)
    assert is_right("5", "that makes 5", True)
    assert not is_right("5", "that makes 5", False)
    assert is_right("5", r"\boxed{5} and so", False)
    assert not is_right("x", r"\boxed{((((9!)!)!)!)!}", True)
    assert is_right(r"\frac{1}{2}", r"\boxed{\frac{3}{6}}", True)


def test_an_empty_table_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    orders = orders_of(tmp_path, {})
    with pytest.raises(ValueError, match="no development problem is there"):
        development_problems(orders, orders.model_path)
    assert development_problems(replace(orders, development=None), orders.model_path) == []
    arguments = (
        orders.model_path,
        orders.overrides,
        orders.sequences_uri,
        orders.objective,
        orders.settings,
        orders.out_uri,
    )
    names = ("model_path", "overrides", "sequences_uri", "objective", "settings", "out_uri")
    with pytest.raises(ValueError, match=r"settings.probe needs `development`"):
        launch_training(**dict(zip(names, arguments, strict=True)), trainer=TrainerSettings())  # type: ignore[arg-type]


def test_a_checkpoint_knows_what_it_was_measured_by(tmp_path: Path) -> None:
    """Another gold, another way to read answers: not to be resumed from. Without a probe there is nothing to know."""
    write_inputs(tmp_path)
    orders = orders_of(tmp_path, {"1": "2"})
    problems = development_problems(orders, orders.model_path)
    found = development_fingerprint(orders, problems)
    assert found == development_fingerprint(orders, development_problems(orders, orders.model_path))
    assert development_fingerprint(orders, [replace(problems[0], answer="3")]) != found
    other = replace(orders.development, answers=AnswerSettings())  # type: ignore[type-var]
    assert development_fingerprint(replace(orders, development=other), problems) != found
    assert development_fingerprint(orders, []) == {}
