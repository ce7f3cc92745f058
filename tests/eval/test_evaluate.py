"""Scores count only correct traces, in the right cells; a prompt that differs from training's by a byte is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from redi_ray.config.evaluation import BenchmarkSettings, EvaluateSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.eval.evaluate import EvaluationError, check_prompt, requests, score, shown_samples
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.schemas import PROBLEM, VERIFIED_TRACE, trace_id

PROBLEMS = pa.Table.from_pylist(
    [{"problem_id": name, "problem": name, "answer": "1", "source": "test"} for name in ("a", "b")], schema=PROBLEM
)


def trace(problem: str, index: int, verdict: str, tokens: int, finish_reason: str = "stop") -> dict[str, Any]:
    return {
        "problem_id": problem, "problem": problem, "answer": "1", "source": "test", "sample_index": index,
        "trace_id": trace_id(problem, index), "completion": "c", "finish_reason": finish_reason, "num_tokens": tokens,
        "verdict": verdict, "verdict_by": {"math_verify": verdict},
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


def test_shown_samples_are_right_and_wrong():
    assert [row["verdict"] for row in shown_samples(ROWS, "test")] == ["correct", "correct", "wrong", "timeout"]


def test_a_prompt_that_differs_by_a_newline_is_an_error(tmp_path: Path):
    character_tokenizer("01+\n").save_pretrained(tmp_path)
    recorded = {"messages": [{"role": "user", "content": "1+1"}], "text": "<|user|>1+1<|end|><|assistant|><think>\n"}
    check_prompt(recorded, str(tmp_path), PromptSettings(prefix="<think>\n"))
    with pytest.raises(EvaluationError, match="differs from the training prompt"):
        check_prompt(recorded, str(tmp_path), PromptSettings(prefix="<think>"))
