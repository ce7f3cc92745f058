"""Texts that verify themselves, of real samples and made ones: by S2R's rules, the same however often they are made."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from curation_runs import trace

from redi_ray.config.answers import AnswerSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.self_verification import Chain, ExamineSettings, SelfVerifySettings
from redi_ray.data.self_verify.examine import Examining, examine_shard, find_checks
from redi_ray.data.self_verify.make import SelfVerifying, self_verified, self_verify_shard
from redi_ray.schemas import GROUP, VERIFIED_TRACE
from redi_ray.store import parquet
from redi_ray.text.self_verification import parts_of

PLAIN = PromptSettings(prefix="")
ALL = [chain.model_copy(update={"share": 1.0}) for chain in SelfVerifySettings().chains]


def how(folder: Path | str = "", prompt: PromptSettings = PLAIN, **settings: Any) -> SelfVerifying:
    wanted = SelfVerifySettings(**{"chains": ALL, **settings})
    return SelfVerifying(f"{folder}/in", f"{folder}/out", wanted, prompt, AnswerSettings())


def group(name: str, right: list[str], wrong: list[str]) -> dict[str, Any]:
    members = [
        {
            "turns": [{"role": "assistant", "content": text}],
            "side": side,
            "reward": float(side),
            "finished": True,
            "spans": None,
        }
        for side, texts in ((1, right), (-1, wrong))
        for text in texts
    ]
    return {"group_id": name, "problem_id": name, "prompt": [{"role": "user", "content": "1+1"}], "members": members}


def boxed(answer: int, way: str = "") -> str:
    return f"{way}So \\boxed{{{answer}}}."


def attempts(made: dict[str, Any]) -> list[str]:
    text = made["members"][0]["turns"][0]["content"]
    return [text[part.start : part.end] for part in parts_of(text, SelfVerifySettings().form) if part.kind == "R"]


@pytest.mark.parametrize(
    ("wrong", "length"),
    [([], 1), ([3], 2), ([3, 4], 3), ([3, 3], 2), ([3, 4, 5], 3), ([3, 4, 5, 6], 4), ([3] * 9, 2), ([3, 4] * 10, 3)],
)
def test_a_text_is_as_long_as_wrong_samples_are_many(wrong: list[int], length: int):
    """Each wrong answer once; where fewer answers are there than a text has room for, it is shorter."""
    made = self_verified(group("p", [boxed(2)], [boxed(n, f"{at}. ") for at, n in enumerate(wrong)]), how())
    assert not isinstance(made, str)
    found = attempts(made)
    assert len(found) == length
    assert found[-1] == boxed(2)
    assert len({text[-4:] for text in found}) == length
    (member,) = made["members"]
    spans = [member["turns"][0]["content"][span["start"] : span["end"]] for span in member["spans"]]
    assert spans == found[:-1], "the wrong ones weigh nothing"
    assert {span["value"] for span in member["spans"]} <= {0.0}
    assert (member["side"], member["reward"], member["finished"]) == (1, 1.0, True)


def test_the_prompt_begins_the_first_attempt_alone():
    thinking = PromptSettings(prefix="<think>\n")
    texts = [f"<think>\n1\n</think>\n\\boxed{{{n}}}" for n in (2, 3)]
    made = self_verified(group("p", texts[:1], texts[1:]), how(prompt=thinking))
    assert not isinstance(made, str)
    assert attempts(made) == [texts[1], texts[0].removeprefix("<think>\n")]


def test_what_gives_no_text_says_why():
    assert self_verified(group("p", [], [boxed(3)]), how()) == "no_right_sample"
    assert self_verified(group("p", [boxed(2)], [boxed(n) for n in range(21)]), how()) == "too_many_wrong"
    some = how(chains=[Chain(wrong=9, attempts=2, share=0.25)])
    made = [self_verified(group(f"p{n}", [boxed(2)], [boxed(3)]), some) for n in range(400)]
    assert 70 < sum(not isinstance(one, str) for one in made) < 130
    assert {one for one in made if isinstance(one, str)} == {"by_chance"}
    shorter = [self_verified(group(f"p{n}", [boxed(2)], []), some) for n in range(20)]
    assert not any(isinstance(one, str) for one in shorter), "for lack of wrong answers, all stay"


def test_a_shard_is_made_once_and_the_same(tmp_path: Path):
    rows = [group(f"p{n}", [boxed(2)] * (n % 3), [boxed(at) for at in range(3, 3 + n % 5)]) for n in range(30)]
    parquet.write_table(f"{tmp_path}/in/part-0.parquet", pa.Table.from_pylist(rows, schema=GROUP))
    counts = self_verify_shard("part-0.parquet", how(tmp_path))
    lengths = {name: n for name, n in counts.items() if name.startswith("attempts/")}
    assert counts["in"] == 30 == counts["out"] + counts["no_right_sample"]
    assert counts["no_right_sample"] == 10
    assert sum(lengths.values()) == counts["out"] == 20
    assert set(lengths) == {f"attempts/{n}" for n in (1, 2, 3, 4)}
    (made,) = parquet.read_tables([f"{tmp_path}/out/groups/part-0.parquet"])
    assert made.to_pylist() == [one for row in rows if not isinstance(one := self_verified(row, how()), str)]
    assert self_verify_shard("part-0.parquet", replace(how(tmp_path), groups="gone")) == counts


def test_a_models_verifications_stand_in_the_texts_where_they_are_true(tmp_path: Path, bpe_tokenizer: str):
    """What it was asked about each sample, and of what it said the truth alone; a sample without any stands in no text."""
    row = group("p", [boxed(2), boxed(2, "Or: ")], [boxed(3), boxed(4)])
    parquet.write_table(f"{tmp_path}/in/part-0.parquet", pa.Table.from_pylist([row], schema=GROUP))
    examining = Examining(f"{tmp_path}/in", f"{tmp_path}/asked", ExamineSettings(), bpe_tokenizer)
    assert examine_shard("part-0.parquet", examining) == {"in": 4, "out": 4, "several_turns": 0}
    (asked,) = parquet.read_tables([f"{tmp_path}/asked/problems/part-0.parquet"])
    assert [(one["problem_id"], one["answer"]) for one in asked.to_pylist()] == [
        ("p#0", "correct"), ("p#1", "correct"), ("p#2", "incorrect"), ("p#3", "incorrect"),
    ]  # fmt: skip
    assert all("1+1" in one["problem"] for one in asked.to_pylist())
    assert [n in one["problem"] for n, one in zip(("2", "Or", "3", "4"), asked.to_pylist(), strict=True)] == [True] * 4
    said = [
        trace("p#1", 0, "correct", "<think>hm</think>Both are 2. The solution is correct."),
        trace("p#1", 1, "wrong", "The solution is incorrect."),
        trace("p#3", 0, "correct", "It would be 1+3. The solution is incorrect."),
        trace("p#2", 0, "correct", "Nothing that is read as a verdict."),
        trace("other#0", 0, "correct", "The solution is correct."),
    ]
    parquet.write_table(f"{tmp_path}/said/part-0.parquet", pa.Table.from_pylist(said, schema=VERIFIED_TRACE))
    wanted = replace(how(tmp_path), checks=(f"{tmp_path}/said/part-0.parquet",))
    find_checks(["part-0.parquet"], wanted.groups, wanted.checks, wanted.out_uri)
    assert self_verify_shard("part-0.parquet", wanted) == {"in": 1, "out": 1, "attempts/2": 1}
    (made,) = parquet.read_tables([f"{tmp_path}/out/groups/part-0.parquet"])
    (member,) = made.to_pylist()[0]["members"]
    form = SelfVerifySettings().form
    assert member["turns"][0]["content"] == (
        f"{boxed(4)}{form.recheck}It would be 1+3. The solution is incorrect.{form.again}"
        f"{boxed(2, 'Or: ')}{form.recheck}Both are 2. The solution is correct."
    )


def test_real_samples(test_data: Path):
    """The 100 problems of 8 samples: 86 without a wrong one, 10 with both, 4 without a right one."""
    import gzip

    with gzip.open(test_data / "traces/qwen2.5math_cot_100x8.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    groups = []
    for number, row in enumerate(rows):
        sides: dict[bool, list[str]] = {True: [], False: []}
        for text, right in zip(row["code"], row["score"], strict=True):
            sides[bool(right)].append(text)
        groups.append(group(str(number), sides[True], sides[False]))
    made = [self_verified(one, how()) for one in groups]
    assert Counter(one if isinstance(one, str) else "made" for one in made) == {"made": 96, "no_right_sample": 4}
    lengths = Counter(len(attempts(one)) for one in made if not isinstance(one, str))
    assert lengths[1] == 86
    assert sum(n for length, n in lengths.items() if length > 1) == 10
