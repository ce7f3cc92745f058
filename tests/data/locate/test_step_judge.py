"""A judge that weighs Yes against No: from samples to labels and numbers, with an engine that knows the truth; what it leaves out
is accounted for, and nothing is asked twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from located_samples import R, U, W, labels_in, located, samples, work_of
from pydantic import ValidationError

from redi_ray.config.locators import LocateStep
from redi_ray.data.locate.exact import right_lines
from redi_ray.data.locate.locator import Silent
from redi_ray.data.locate.step_judge import WordsError, run_judge
from redi_ray.data.sample.samples import COMPLETION, Sampling
from redi_ray.store import parquet
from redi_ray.text.step_verdicts import probability_of_yes

QUESTION = {"prompt": "{problem}|{before}|{step}", "question": "Right?", "yes": "Yes", "no": "No", "numbered": False}
JUDGE = {"kind": "step_judge", "question": QUESTION, "analyses": 3}
TEXTS = [
    ("3+4*2-1", "<think>\n3+4=7\n7*2=4\n4-1=3\n</think>\n\\boxed{3}"),
    ("3+4*2-1", "<think>\n3+4=7\n7*2=5\n5-1=4\n</think>\n\\boxed{4}"),
    ("1+1-1", "<think>\n1+1=3\n3-1=2\n</think>\n\\boxed{2}"),
]


class Engines:
    """Samplers that say what is right, behind analyses that all are written down; some do not come to the question."""

    def __init__(self, quiet_on: str = "\0", fails_on: str = "\0") -> None:
        self.quiet_on, self.fails_on, self.leases = quiet_on, fails_on, list[Sampling]()

    @contextmanager
    def __call__(self, sampling: Sampling) -> Iterator[Any]:
        self.leases.append(sampling)
        quiet_on, fails_on = self.quiet_on, self.fails_on

        def told(row: dict[str, Any]) -> dict[str, Any]:
            problem, before, step = row["problem"].split("|")
            if fails_on in step:
                return {"failure": "refused_by_engine", "detail": "no words", "retry": False}
            if not sampling.words:
                asked = "" if quiet_on in step and row["sample_index"] else " Right? Yes"
                return {"completion": f"<think>\nHm {row['sample_index']}.</think>{asked}"}
            assert row["begun"].endswith("Right?")
            lines = [line for line in before.split("\n") if line]
            right = step.startswith("\\boxed") or step == right_lines(problem)[len(lines)]
            number = float(row["begun"].split("Hm ")[1][0]) if "Hm" in row["begun"] else 1.0
            return {"completion": json.dumps({"Yes": number if right else -number, "No": 0.0})}

        def answers(rows: pa.Table) -> pa.Table:
            fixed = {"finish_reason": "stop", "num_tokens": 5, "prompt_tokens": 9}
            return pa.Table.from_pylist([{**row, **fixed, **told(row)} for row in rows.to_pylist()], schema=COMPLETION)

        yield lambda requests: requests.map_batches(answers, batch_format="pyarrow", num_cpus=0.1)


def values_in(folder: Path) -> list[list[float] | None]:
    tables = parquet.read_tables(sorted(map(str, (folder / "out/column").glob("*/*.parquet"))))
    return [spans and [s["value"] for s in spans] for table in tables for spans in table["spans"].to_pylist()]


def test_the_mean_probability_decides(ray_session, tmp_path: Path, bpe_tokenizer: str):
    """Analysis k says +-k to what is right or wrong, so that the mean is known; what is there is asked no more."""
    samples(tmp_path, TEXTS, shards=2)
    work, engines = work_of(tmp_path, JUDGE, bpe_tokenizer, ask="all"), Engines()
    told = run_judge(work, Silent(), engines)["step_judge"]
    assert [bool(lease.words) for lease in engines.leases] == [False, True]
    assert told | {"model": ""} == {"model": "", "steps": 11, "analyses": 33, "tokens": 165, "prompt_tokens": 297,
                                    "truncated": 0, "rejected": 0, "weighed": 33}  # fmt: skip
    assert run_judge(work, Silent(), engines)["step_judge"] == told
    assert len(engines.leases) == 2
    located(work)
    assert labels_in(tmp_path) == [[R, R, R, R], [W, U, U], [R, W, U, U]]
    says = [probability_of_yes({"Yes": n, "No": 0.0}, work.settings.locator.question) for n in (0.0, 1.0, 2.0)]
    yes = sum(says) / 3
    first, last, middle = values_in(tmp_path)
    assert first == pytest.approx([yes] * 4)
    assert last == pytest.approx([1 - yes, 1 - yes, yes])
    assert middle == pytest.approx([yes, 1 - yes, 1 - yes, yes])
    votes = work_of(tmp_path, {**JUDGE, "average": "votes"}, bpe_tokenizer, ask="all")
    (tmp_path / "out/counts").rename(tmp_path / "counts")
    located(votes)
    assert values_in(tmp_path)[1] == pytest.approx([1 / 3, 1 / 3, 1])


def test_without_analyses_the_question_is_put_right_away(ray_session, tmp_path: Path, bpe_tokenizer: str):
    samples(tmp_path, TEXTS, shards=1)
    judge = {**JUDGE, "analyses": 0, "opening": "<think>\n</think>Right?"}
    work, engines = work_of(tmp_path, judge, bpe_tokenizer), Engines()
    assert run_judge(work, Silent(), engines)["step_judge"]["weighed"] == 7
    assert [bool(lease.words) for lease in engines.leases] == [True]
    located(work)
    assert labels_in(tmp_path) == [None, [R, W, U, U], [W, U, U]]


def test_no_question_no_verdict(ray_session, tmp_path: Path, bpe_tokenizer: str):
    """An analysis that never comes to the question says nothing, and the others decide; where none does, or the judge fails, the
    sample is a reject, unless an earlier step is wrong already."""
    samples(tmp_path, TEXTS, shards=1)
    work = work_of(tmp_path, JUDGE, bpe_tokenizer, ask="all")
    told = run_judge(work, Silent(), Engines(quiet_on="7*2"))["step_judge"]
    assert (told["weighed"], told["no_verdict_question"]) == (29, 4)
    located(work)
    assert labels_in(tmp_path)[0] == [R, R, R, R]
    assert values_in(tmp_path)[0][1] == 0.5  # of analysis 0 alone
    for what, engines, reason in (
        ("fails", Engines(fails_on="7*2=4"), "judge_failed"),
        ("late", Engines(fails_on="5-1=4"), None),
    ):
        samples(tmp_path / what, TEXTS, shards=1)
        work = work_of(tmp_path / what, JUDGE, bpe_tokenizer, ask="all")
        assert run_judge(work, Silent(), engines)["step_judge"]["rejected"] == 3
        counts, _ = located(work)
        assert {name: n for name, n in counts.items() if "failed/" in name} == (
            {f"failed/{reason}": 1} if reason else {}
        )
        assert labels_in(tmp_path / what) == [None if reason else [R, R, R, R], [R, W, U, U], [W, U, U]]


def test_the_last_step_alone(ray_session, tmp_path: Path, bpe_tokenizer: str):
    """What was judged before is not asked again; what a sample's last step is worth does not depend on it."""
    samples(tmp_path, [(problem, text.rpartition("</think>")[0]) for problem, text in TEXTS], shards=1)
    work = replace(work_of(tmp_path, JUDGE, bpe_tokenizer, ask="all"), last_step=True)
    told = run_judge(work, Silent(), Engines(quiet_on="4-1=3"))["step_judge"]
    assert (told["steps"], told["analyses"]) == (3, 9)
    located(work)
    assert labels_in(tmp_path) == [[U, U, R], [U, U, W], [U, W]]
    whole = tmp_path / "whole"
    samples(whole, [(problem, text.rpartition("</think>")[0]) for problem, text in TEXTS], shards=1)
    every = work_of(whole, JUDGE, bpe_tokenizer, ask="all")
    run_judge(every, Silent(), Engines(quiet_on="4-1=3"))
    located(every)
    last = [values[-1] for values in values_in(whole) if values]
    assert [values[-1] for values in values_in(tmp_path) if values] == last
    assert [values[:-1] for values in values_in(tmp_path) if values] == [[None, None], [None, None], [None]]


def test_words_are_checked_before_an_engine_is_asked_for(ray_session, tmp_path: Path, bpe_tokenizer: str):
    samples(tmp_path, TEXTS, shards=1)
    judge = {**JUDGE, "question": {**QUESTION, "yes": "\u00e9", "no": "\u00e8"}}
    engines = Engines()
    with pytest.raises(WordsError, match=r"locator\.question: .* begin with the same token, in the tokenizer of"):
        run_judge(work_of(tmp_path, judge, bpe_tokenizer), Silent(), engines)
    assert engines.leases == []


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({"locator": {"kind": "step_judge"}}, "`step_judge` needs a model: .* or give the judge a `model` of its own"),
        ({"locator": {"kind": "step_judge", "model": "m"}, "model": "sft"}, "asks no model of the graph"),
        ({"locator": {**JUDGE, "opening": "Right?"}, "model": "sft"}, "`opening` is for `analyses: 0`"),
        ({"locator": {**JUDGE, "analyses": 0, "opening": "No"}, "model": "sft"}, "ends with the question"),
        ({"locator": {**JUDGE, "threshold": 1}, "model": "sft"}, "less than 1"),
    ],
)
def test_settings_that_cannot_be(step: dict[str, Any], told: str):
    with pytest.raises(ValidationError, match=told):
        LocateStep.model_validate({"do": "locate", "of": "verified", **step})
