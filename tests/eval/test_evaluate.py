"""Scores count only correct traces, in the right cells; a prompt that differs from training's by a byte is an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from redi_ray.config.evaluation import BenchmarkSettings, EvaluateSettings
from redi_ray.config.load import ConfigError, load_config
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.eval.evaluate import EvaluationError, check_prompt, read_scored, requests, score, shown_samples
from redi_ray.modeling.tokenizer import character_tokenizer, load_tokenizer
from redi_ray.schemas import PROBLEM, VERIFIED_TRACE, stored_votes, trace_id
from redi_ray.store import parquet
from redi_ray.text.recorded import record_problems

PROBLEMS = pa.Table.from_pylist(
    [{"problem_id": name, "problem": name, "answer": "1", "source": "test"} for name in ("a", "b")], schema=PROBLEM
)


def trace(problem: str, index: int, verdict: str, tokens: int, finish_reason: str = "stop") -> dict[str, Any]:
    return {
        "problem_id": problem, "problem": problem, "answer": "1", "source": "test", "sample_index": index,
        "trace_id": trace_id(problem, index), "completion": "c", "finish_reason": finish_reason, "num_tokens": tokens,
        "verdict": verdict, "verdict_by": stored_votes({"math_verify": verdict}),
    }  # fmt: skip


ROWS = pa.Table.from_pylist(
    [
        trace("b", 1, "timeout", 40, "length"),
        trace("a", 0, "correct", 10),
        trace("b", 0, "correct", 30),
        trace("a", 1, "wrong", 20),
    ],
    schema=VERIFIED_TRACE,
)


def test_scores_by_hand():
    """Sample 0 is right on both problems, sample 1 on none: P_j = (1, 0), SEM = sd / sqrt(2) = 0.5 / sqrt(2)."""
    result = score(ROWS, PROBLEMS, EvaluateSettings(num_samples=2, ks=[1, 2]))
    assert result.pass_at_1 == 0.5
    assert result.sample_scores == (1.0, 0.0)
    assert result.sem == pytest.approx(0.5 / 2**0.5)
    assert result.pass_at_k == {"1": 0.5, "2": 1.0}
    assert (result.truncated, result.mean_tokens) == (0.25, 25.0)
    assert result.num_correct == (1, 1)


def test_each_benchmark_has_its_own_number_of_samples():
    settings = EvaluateSettings(
        num_samples=3, benchmarks=[BenchmarkSettings(name="aime24", num_samples=5), BenchmarkSettings(name="math500")]
    )
    asked = requests({"aime24": PROBLEMS, "math500": PROBLEMS.slice(0, 1)}, settings)
    assert asked["sample_index"].to_pylist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2]


def test_shown_samples_are_right_and_wrong(tmp_path: Path):
    """Their texts are fetched from where they lie; scores are made of small columns alone."""
    files = [f"{tmp_path}/{number}.parquet" for number in range(2)]
    for file, start in zip(files, (0, 3), strict=True):
        parquet.write_table(file, ROWS.slice(start, 3 if not start else None))
    settings = EvaluateSettings(num_samples=2, ks=[1, 2])
    rows = read_scored(files, settings)
    shown = shown_samples(rows, files)
    assert [row["verdict"] for row in shown] == ["correct", "correct", "wrong", "timeout"]
    texts = {row["trace_id"]: row["problem"] for row in ROWS.to_pylist()}
    assert [row["problem"] for row in shown] == [texts[row["trace_id"]] for row in shown]
    assert score(rows, PROBLEMS, settings) == score(ROWS, PROBLEMS, settings)


DOUBLING = """
from transformers import Qwen2Tokenizer


class Doubling(Qwen2Tokenizer):
    def _encode_plus(self, text, *args, **kwargs):
        return super()._encode_plus(text.replace("0", "00"), *args, **kwargs)
"""


def test_a_tokenizer_with_code_of_its_own_reads_prompts_as_in_training(tmp_path: Path):
    """Without that code transformers takes another class, without a word: engines, and what asks them, are told to run it."""
    character_tokenizer("01+\n").save_pretrained(tmp_path)
    (tmp_path / "doubling.py").write_text(DOUBLING)
    path, prompt = tmp_path / "tokenizer_config.json", PromptSettings(prefix="")
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoTokenizer": ["doubling.Doubling", None]}})
    )
    recorded = record_problems(["1+0"], load_tokenizer(str(tmp_path), True), prompt)
    check_prompt(recorded, str(tmp_path), prompt, EngineSettings(engine_kwargs={"trust_remote_code": True}).trusts_code)
    with pytest.raises(EvaluationError, match="differs from the training prompt"):
        check_prompt(recorded, str(tmp_path), prompt, EngineSettings().trusts_code)
    student = ["model.init={kind: pretrained, path: x/y}", "model.overrides={trust_remote_code: true}"]
    with pytest.raises(ConfigError, match=r"but not resources.engine.engine_kwargs: \{trust_remote_code: true\}"):
        load_config("configs/demo.yaml", student)
    load_config("configs/demo.yaml", [*student, "resources.engine.engine_kwargs={trust_remote_code: true}"])


def test_a_prompt_that_differs_by_a_newline_is_an_error(tmp_path: Path):
    character_tokenizer("01+\n").save_pretrained(tmp_path)
    recorded = record_problems(["1+1"], character_tokenizer("01+\n"), PromptSettings(prefix="<think>\n"))
    assert recorded["text"] == "<|user|>1+1<|end|><|assistant|><think>\n"
    check_prompt(recorded, str(tmp_path), PromptSettings(prefix="<think>\n"))
    with pytest.raises(EvaluationError, match="differs from the training prompt"):
        check_prompt(recorded, str(tmp_path), PromptSettings(prefix="<think>"))


def other_ids(folder: Path) -> None:
    """The same text, two characters of the vocabulary in each other's place."""
    character_tokenizer("10+\n").save_pretrained(folder)


def other_template(folder: Path) -> None:
    """A branch that these prompts do not take."""
    tokenizer = character_tokenizer("01+\n")
    tokenizer.chat_template += "{% if messages | length > 7 %}!{% endif %}"
    tokenizer.save_pretrained(folder)


def other_words(folder: Path) -> None:
    tokenizer = character_tokenizer("01+\n")
    tokenizer.chat_template = tokenizer.chat_template.replace("<|assistant|>", "<|assistant|>\n")
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (other_ids, r"token 1, behind '<\|user\|>', is 6 '0' in training and 5 '1' in evaluation"),
        (other_template, "the chat template is another"),
        (other_words, "the text of a prompt is another"),
    ],
)
def test_tokens_and_template_are_compared_too(tmp_path: Path, change: Callable[[Path], None], told: str):
    prompt = PromptSettings()
    character_tokenizer("01+\n").save_pretrained(tmp_path)
    recorded = record_problems(["1+1", "0+0"], load_tokenizer(str(tmp_path)), prompt)
    check_prompt(json.loads(json.dumps(recorded)), str(tmp_path), prompt)
    change(tmp_path)
    load_tokenizer.cache_clear()
    with pytest.raises(EvaluationError, match=told):
        check_prompt(json.loads(json.dumps(recorded)), str(tmp_path), prompt)
