"""Labels of steps beside samples, by each locator: whole columns from real shards, on Ray; every sample is accounted for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from chat_server import ChatServer, Reply, completion
from located_samples import N, R, U, W, labels_in, located, samples, work_of
from pydantic import TypeAdapter, ValidationError

from redi_ray.config.endpoints import EndpointSettings
from redi_ray.config.locators import LocateStep
from redi_ray.config.worlds import ArithmeticSource
from redi_ray.data.locate.exact import labels_of
from redi_ray.data.locate.locate import counted
from redi_ray.data.locate.locator import Silent
from redi_ray.data.locate.rollouts import run_waves
from redi_ray.data.sample.samples import COMPLETION
from redi_ray.data.sources.world import answer, build_world, corpus
from redi_ray.store import parquet
from redi_ray.text.boxes import extract_boxed
from redi_ray.text.steps import split_steps

WORLD = ArithmeticSource(kind="arithmetic", min_digits=4, max_digits=6, misconception_share=0.3, misconception_rate=0.5)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("<think>\n3+4=7\n7*2=4\n4-1=3\n</think>\n\\boxed{3}", [R, R, R, R]),
        ("<think>\n3+4=7\n7*2=5\n5-1=4\n</think>\n\\boxed{4}", [R, W, U, U]),
        ("<think>\n3+4=7\n7*3=1\n1-1=0\n</think>\n\\boxed{0}", [R, W, U, U]),  # right in itself, but another problem
        ("<think>\n3+4=7\n7*2=4\n4-1=3\n</think>\n\\boxed{8}", [R, R, R, W]),
        ("<think>\n3+4=7\n7*2=4\n</think>\n\\boxed{3}", [R, R, W]),  # a line is left out
        ("<think>\n3+4=7\n7*2=4\n4-1=3\n3-1=2\n</think>\n\\boxed{2}", [R, R, R, W, U]),
        ("<think>\n3+4=7\n7*2", [R, W]),
        ("hm", [W]),
    ],
)
def test_exact(text: str, labels: list[str]):
    steps = [text[start:end] for start, end in split_steps(text, "equations")]
    assert labels_of("3+4*2-1", steps) == labels
    with pytest.raises(ValueError, match="chain"):
        labels_of("How many?", steps)


def test_exact_names_the_first_misconception(ray_session, tmp_path: Path):
    """Of the corpus: the first fact whose fixed wrong result a solution has. A shard that is lost is made again, as it was."""
    world = build_world(WORLD)
    rows = samples(tmp_path, list(corpus(WORLD, 200)))
    counts, _ = located(work_of(tmp_path, {"kind": "exact"}))
    wrong = [row for row in rows if row["verdict"] == "wrong"]
    assert counts["with_error"] == counts["located"] == len(wrong) > 60
    assert counted(counts, "not_asked/") == {"verdict_correct": 200 - len(wrong)}
    found = labels_in(tmp_path)
    for row, labels in zip(rows, found, strict=True):
        assert (labels is None) == (row["verdict"] == "correct")
        if labels is not None:
            lines = row["completion"].split("\n")[1:-2]
            facts = [((int(line[0]), line[1], int(line[2])), int(line[4])) for line in lines]
            first = next(at for at, (fact, result) in enumerate(facts) if world.misconceptions.get(fact) == result)
            assert labels.index(W) == first
    columns = {path: path.read_bytes() for path in (tmp_path / "out/column").glob("*/*")}
    (tmp_path / "out/column/round-000/part-1.parquet").unlink()
    (tmp_path / "out/counts/round-000/part-1.json").unlink()
    again, _ = located(work_of(tmp_path, {"kind": "exact"}))
    assert again == counts
    assert columns == {path: path.read_bytes() for path in columns}
    samples(tmp_path / "all", list(corpus(WORLD, 40)))
    everything, _ = located(work_of(tmp_path / "all", {"kind": "exact"}, ask="all"))
    assert everything["located"] == 40
    assert 0 < everything["with_error"] < 40


def test_a_judge(ray_session, tmp_path: Path):
    """Verdicts become labels; what it does not say clearly, or at all, is a reject with its reason; nothing is asked twice."""
    texts = [("3+4*2", f"<think>\n3+4=7\n7*2={wrong}\n</think>\n\\boxed{{{wrong}}}") for wrong in (5, 6, 7, 8, 9)]
    rows = samples(tmp_path, [*texts, ("1+1-1", "<think>\n1+1=2\n2-1=1\n</think>\n\\boxed{1}")])
    says = {
        "5": completion("Step 1: correct\nStep 2: incorrect"),
        "6": completion("Look.\nStep 1: correct\nStep 2: neutral\nStep 3: correct"),
        "7": completion("It is wrong."),
        "8": Reply(400, {"error": "no"}),
        "9": completion("Step 1: correct\nStep 2: incorrect", "length"),
    }

    def answers(body: dict[str, Any], tries: int) -> Reply:
        text = body["messages"][-1]["content"]
        assert "3+4*2" in text
        assert "The right final answer:\n4\n" in text
        return says[text.split("\n7*2=")[0] and text.split("7*2=")[1][0]]

    with ChatServer(answers) as server:
        endpoint = EndpointSettings(
            base_url=server.url, model="m", backoff_seconds=0.01, max_retries=1, max_in_flight=4
        )
        locator = {"kind": "judge", "endpoint": TypeAdapter(EndpointSettings).dump_python(endpoint)}
        counts, told = located(work_of(tmp_path, locator))
        asked = len(server.seen)
        assert located(work_of(tmp_path, locator)) == (counts, told)
        assert len(server.seen) == asked, "what it said is kept"
        assert told["judge"] == {"model": "m", "asked": 5, "tokens": 28, "prompt_tokens": 44}
        by_answer = {
            extract_boxed(row["completion"]): labels for row, labels in zip(rows, labels_in(tmp_path), strict=True)
        }
        assert by_answer == {"5": [R, W, U], "6": [R, N, U], "7": None, "8": None, "9": None, "1": None}
        rejects = [row for table in parquet.read_tables(
            sorted(map(str, (tmp_path / "out/rejects").glob("*/*.parquet")))) for row in table.to_pylist()]  # fmt: skip
        assert {row["where"]: row["reason"] for row in rejects} == {
            "p2#0": "unparseable", "p3#0": "judge_failed", "p4#0": "truncated"
        }  # fmt: skip
        assert next(row["raw"] for row in rejects if row["where"] == "p2#0") == "It is wrong."
        samples(tmp_path / "lenient", texts[:2])
        located(work_of(tmp_path / "lenient", {**locator, "neutral": "right"}))
        assert labels_in(tmp_path / "lenient") == [[R, W, U], [R, R, R]]


def test_imported(ray_session, tmp_path: Path):
    samples(tmp_path, [("3+4*2", "<think>\n3+4=7\n7*2=5\n</think>\n\\boxed{5}")] * 5, shards=1)
    found = {"p0#0": 0, "p1#0": 2, "p2#0": -1, "p3#0": 3, "other#0": 1}
    (tmp_path / "steps.jsonl").write_text(
        "\n".join(json.dumps({"id": key, "first": step}) for key, step in found.items())
    )
    locator = {"kind": "imported", "paths": [str(tmp_path / "steps.jsonl")], "trace_id": "id", "first_error": "first"}
    counts, told = located(work_of(tmp_path, locator))
    assert labels_in(tmp_path) == [[W, U, U], [R, R, W], [R, R, R], None, None]
    assert counted(counts, "failed/") == {"no_such_step": 1, "not_in_the_files": 1}
    assert told["files"]["numbers"] == 5


@contextmanager
def solver(silent_behind: str = "\0") -> Iterator[Any]:
    """A sampler that goes on without a mistake, or, behind some words, not at all."""

    def told(row: dict[str, Any]) -> dict[str, Any]:
        begun, problem = row["begun"], row["problem"]
        if silent_behind in begun:
            return {"failure": "refused_by_engine", "detail": "no words", "retry": False}
        done = [line for line in begun.split("\n") if "=" in line]
        value, text = int(done[-1][-1]), begun
        for at in range(2 * len(done) + 1, len(problem), 2):
            result = int(answer(f"{value}{problem[at : at + 2]}"))
            text += f"{value}{problem[at : at + 2]}={result}\n"
            value = result
        text += f"</think>\n\\boxed{{{value}}}"
        return {"completion": text, "finish_reason": "stop", "num_tokens": 5, "prompt_tokens": 9}

    def go_on(rows: pa.Table) -> pa.Table:  # within a function, so that it travels as it is
        return pa.Table.from_pylist([{**row, **told(row)} for row in rows.to_pylist()], schema=COMPLETION)

    yield lambda requests: requests.map_batches(go_on, batch_format="pyarrow", num_cpus=0.1)


def test_rollouts_find_where_all_is_lost(ray_session, tmp_path: Path, bpe_tokenizer: str):
    """A solver that makes no mistake itself is lost behind the very step that is wrong, but where a factor 0 mends it."""
    rows = samples(tmp_path, list(corpus(WORLD, 60)))
    work = work_of(tmp_path, {"kind": "rollouts", "samples": 2, "search": "binary"}, bpe_tokenizer)
    told = run_waves(work, Silent(), solver)["rollouts"]
    assert run_waves(work, Silent(), None)["rollouts"] == told, "all waves are done"
    counts, again = located(work)
    assert again["rollouts"] == told
    wrong = [row for row in rows if row["verdict"] == "wrong"]
    assert counts["with_error"] == counts["located"] == len(wrong)
    assert told["asked"] == told["traces"] == 2 * told["prefixes"]
    assert told["prefixes"] <= 3 * len(wrong), "six steps are halved three times at the most"
    agree = 0
    for row, labels in zip(rows, labels_in(tmp_path), strict=True):
        if labels is not None:
            steps = [row["completion"][a:b] for a, b in split_steps(row["completion"], "equations")]
            agree += labels.index(W) == labels_of(row["problem"], steps).index(W)
    assert agree >= 0.9 * len(wrong), "but for what a multiplication by 0 mends again"


def test_a_prefix_without_any_continuation_is_a_reject(ray_session, tmp_path: Path, bpe_tokenizer: str):
    bad = "<think>\n3+4=8\n8*2=6\n6+1=7\n</think>\n\\boxed{7}"
    samples(tmp_path, [("3+4*2+1", bad), ("4+4*2+1", bad.replace("3+4=8\n8*2=6\n", "4+4=9\n9*2=6\n"))], shards=1)
    work = work_of(tmp_path, {"kind": "rollouts", "samples": 2, "search": "linear"}, bpe_tokenizer)
    told = run_waves(work, Silent(), lambda: solver(silent_behind="3+4"))["rollouts"]
    assert told["rejected"] == 2
    counts, _ = located(work)
    assert counted(counts, "failed/") == {"no_continuation": 1}
    assert labels_in(tmp_path)[0] is None


def test_what_no_model_can_go_on_from_is_a_reject(ray_session, tmp_path: Path, bpe_tokenizer: str):
    """No engine is asked for it."""
    bad = "<think>\n3+4=8\n</think>\n\\boxed{8}"
    own = {"role": "assistant", "content": bad}
    for reason, text, turns in (
        ("does_not_go_on_from_the_prompt", "no thought", None),
        ("several_turns", bad, [own, {"role": "tool", "content": "1"}, own]),
    ):
        samples(tmp_path / reason, [("3+4", text)], shards=1, turns=turns)
        counts, _ = located(work_of(tmp_path / reason, {"kind": "rollouts"}, bpe_tokenizer))
        assert counted(counts, "failed/") == {reason: 1}


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({"locator": {"kind": "rollouts"}}, "`rollouts` needs a model: name one of the graph"),
        ({"locator": {"kind": "judge"}}, "give the judge a `model` or an `endpoint`"),
        ({"locator": {"kind": "exact"}, "model": "sft"}, "asks no model of the graph"),
        ({"locator": {"kind": "rollouts", "threshold": 1}, "model": "sft"}, "less than 1"),
        ({"locator": {"kind": "guess"}}, "guess"),
    ],
)
def test_settings_that_cannot_be(step: dict[str, Any], told: str):
    with pytest.raises(ValidationError, match=told):
        LocateStep.model_validate({"do": "locate", "of": "verified", **step})
