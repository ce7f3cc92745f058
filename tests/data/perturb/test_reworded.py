"""Variants that a model writes and a judge confirms: what is one, what is asked of whom, and that nothing is asked twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from chat_server import ChatServer, Reply, completion

from redi_ray.config.answers import AnswerSettings, VerifySettings
from redi_ray.config.endpoints import EndpointSettings
from redi_ray.config.paraphrase import ParaphraseSettings, Rewriter, VariantJudge
from redi_ray.config.resources import EngineSettings
from redi_ray.data.perturb.kept import Keeping, keep_shard
from redi_ray.data.perturb.reworded import Rewording, reword, written
from redi_ray.schemas import PROBLEM
from redi_ray.store import parquet

CATS = "Tom has 3 cats and buys 12 more. How many cats has Tom?"
SETTINGS = ParaphraseSettings(by=Rewriter(model="m"))


def said(text: str, finish: str = "stop", failure: str | None = None) -> dict[str, Any]:
    return {"output": text, "finish_reason": finish, "failure": failure}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (said("<think>Hm, 99.</think>\nOf 12 cats more than his three, how many has Tom?"), None),
        (said("Of 12 cats more than his four, how many has Tom?"), "numbers_changed"),
        (said("Of 12 more cats than none, how many has Tom?"), "numbers_changed"),
        (said("tom has 3 cats, and buys 12 more; how many cats has Tom?"), "nothing_changed"),
        (said("  "), "empty"),
        (said("Of 12 cats more than his three", "length"), "cut_off"),
        (said("", "stop", "engine_error: ill"), "model_failed"),
    ],
)
def test_what_a_model_wrote_is_a_variant_or_is_told_why_not(answer: dict[str, Any], reason: str | None) -> None:
    assert written(CATS, answer, SETTINGS)[1] == reason


def test_without_a_judge_the_writer_judges_itself() -> None:
    assert SETTINGS.judged_by == VariantJudge(model="m")
    with pytest.raises(ValueError, match="is filled in, and nothing else"):
        Rewriter(model="m", prompt="Again: {answer}")


class Bar:
    """Counts answers."""

    def __init__(self) -> None:
        self.answers = 0

    def set_total(self, total: int) -> None:
        pass

    def __call__(self, answers: int, tokens: int) -> None:
        self.answers += answers


def replies(body: dict[str, Any], tries: int) -> Reply:
    """Writes the problem of b with another number, that of c so that the judge refuses it; is unsure of d."""
    asked = body["messages"][-1]["content"]
    name = next(one for one in "abcd" if f"Box {one}" in asked)
    if "still ask for the same thing" in asked:
        return completion(f"I see.\nVERDICT: {'CORRECT' if name == 'a' else 'WRONG' if name == 'c' else 'UNSURE'}")
    return completion(f"There are {8 if name == 'b' else 7} balls in Box {name}: how many balls is that?")


@pytest.mark.timeout(300)
def test_only_what_the_judge_confirms_stays(ray_session: None, tmp_path: Path) -> None:
    rows = [
        {
            "problem_id": name,
            "problem": f"Box {name} holds 7 balls. How many balls are in it?",
            "answer": "7",
            "source": "x",
        }
        for name in "abcd"
    ]
    rows.append({"problem_id": "e", "problem": "Prove it.", "answer": None, "source": "x"})
    parquet.write_table(str(tmp_path / "in" / "part-0.parquet"), pa.Table.from_pylist(rows, schema=PROBLEM))
    with ChatServer(replies) as server:
        by = Rewriter(endpoint=EndpointSettings(base_url=server.url, model="m"))
        how = Rewording(
            str(tmp_path / "in"), str(tmp_path / "out"), ParaphraseSettings(by=by, originals=True), AnswerSettings()
        )
        bar = Bar()
        told = reword(["part-0.parquet"], how, "x", EngineSettings(), bar)
        assert bar.answers == 4 + 3, "what has other numbers is not judged"
        assert told == {"by/num_tokens": 28, "by/prompt_tokens": 44, "judge/num_tokens": 21, "judge/prompt_tokens": 33}
        asked = len(server.seen)
        assert reword(["part-0.parquet"], how, "x", EngineSettings(), bar) == told
        assert bar.answers == 7, "nothing is asked twice"
        assert (
            len([one for one in server.seen[asked:] if one.path.endswith("completions") and one.body.get("messages")])
            == 0
        )
    counts = keep_shard("part-0.parquet", Keeping(str(tmp_path / "out"), "drop", VerifySettings()))
    assert counts == {
        "in": 10, "out": 6, "originals": 5, "of/paraphrase/made": 1, "of/paraphrase/kept": 1,
        "paraphrase: numbers_changed": 1, "paraphrase: judged_another_problem": 1, "paraphrase: no_verdict": 1,
        "paraphrase: no_reference_answer": 1,
    }  # fmt: skip
    (table,) = parquet.read_tables([str(tmp_path / "out" / "problems" / "part-0.parquet")])
    found = {row["problem_id"]: row for row in table.to_pylist()}
    assert found["a~paraphrase"]["problem"] == "There are 7 balls in Box a: how many balls is that?"
    assert found["a~paraphrase"]["answer"] == "7"
