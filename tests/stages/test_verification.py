"""Stages around a judge and an endpoint: what each publishes, what is reused when, what is paid for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Reply, completion

from redi_ray.cli.preflight import preflight
from redi_ray.config.answers import VerifySettings
from redi_ray.config.judges import JudgeSettings
from redi_ray.config.load import parse_config
from redi_ray.config.worlds import ArithmeticSource
from redi_ray.data.sample.endpoint_errors import EndpointError
from redi_ray.data.sources.world import answer as world_answer
from redi_ray.data.sources.world import build_world
from redi_ray.pipeline.runner import Pipeline
from redi_ray.report.notes import missing_and_odd
from redi_ray.report.runs import read_run
from redi_ray.stages.evaluation import benchmark_verification
from redi_ray.store import manifests, parquet
from redi_ray.store.manifests import Manifest


def rows(manifest: Manifest, table: str) -> list[dict]:
    return [row for part in parquet.read_tables(manifest.files(table)) for row in part.to_pylist()]


def endpoint(server: ChatServer, **changes: Any) -> dict[str, Any]:
    return {"base_url": server.url, "model": "m", "backoff_seconds": 0.01, "max_retries": 1, **changes}


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 problems with a right trace, a wrong one and one that only a reader can tell right."""
    path = tmp_path_factory.mktemp("traces") / "traces.jsonl"
    with path.open("w") as file:
        for number in range(30):
            for text in (f"\\boxed{{{number}}}", "\\boxed{-1}", "\\boxed{as many as asked for}"):
                row = {"problem_id": f"p{number}", "problem": f"Problem {number}?", "answer": str(number)}
                file.write(json.dumps({**row, "completion": f"<think>\nhm\n</think>\n{text}"}) + "\n")
    return path


def judging(body: dict[str, Any], tries: int) -> Reply:
    """Calls the third kind right, the second wrong, and says nothing clear about three problems."""
    prompt = body["messages"][-1]["content"]
    number = int(prompt.split("Problem ")[1].split("?")[0])
    if number < 3:
        return completion("Difficult.")
    return completion("VERDICT: CORRECT" if "as asked for" in prompt else "VERDICT: WRONG")


def test_a_judge_is_asked_once_whatever_is_decided_from_it(ray_session, traces: Path, tmp_path: Path):
    """Verdicts, counts and cost; then another policy and inverted labels, for which no request is sent."""
    with ChatServer(judging) as server:
        config = {
            "name": "judged",
            "storage": {"root": str(tmp_path)},
            "problems": {"source": {"kind": "files", "paths": [str(traces)], "columns": {"completion": "completion"}}},
            "generate": {"kind": "import"},
            "model": {"init": {"kind": "scratch"}},
            "verify": {
                "votes": ["math_verify", "judge"],
                "policy": "any",
                "judge": {
                    "ask": "not_correct",
                    "endpoint": endpoint(server, prompt_price=1.0, completion_price=10.0),
                },
            },
            "evaluate": {"benchmarks": []},
        }
        pipeline = Pipeline(parse_config(config))
        verified = pipeline.verified()
        asked = len(server.seen)
        assert asked == 60
        judged = manifests.current_manifest(pipeline.run.uri, "judged")
        assert (judged.counts, judged.dropped) == ({"in": 90, "out": 60}, {"math_verify_correct": 30})
        assert verified.counts == {"in": 90, "out": 90}
        assert verified.facts["judge"] == {
            "model": "m", "traces": 90, "votes": {"wrong": 27, "correct": 27},
            "no_vote": {"abstained": 0, "unparseable": 6, "truncated": 0, "engine_error": 0},
            "not_asked": {"math_verify_correct": 30},
            "tokens": 60 * 7, "prompt_tokens": 60 * 11, "cost": (60 * 11 * 1 + 60 * 7 * 10) / 1e6,
        }  # fmt: skip
        verdicts = Counter(row["verdict"] for row in rows(verified, "verified"))
        assert verdicts["correct"] == 57
        assert sum(verified.facts["votes"].values()) == 90
        assert verified.facts["votes"]["math_verify correct"] == 30

        other = Pipeline(parse_config({**config, "verify": {**config["verify"], "policy": "drop_disagreement"}}))
        assert other.verified().facts["verdicts"]["correct"] < 57
        inverted = Pipeline(parse_config({**config, "verify": {**config["verify"], "invert_labels": True}}))
        manifest = inverted.verified()
        assert manifest.facts["verdicts"]["wrong"] == 57
        assert manifest.facts["verdicts"]["correct"] == verdicts["wrong"]
        assert (manifest.facts["inverted"], manifest.config["invert_labels"]) == (True, True)
        shown = read_run(inverted.run.uri)
        assert any(note.startswith("Labels are inverted") for note in missing_and_odd(shown))
        assert list(shown.manifests) == ["problems", "traces", "checked", "judged", "verified"]
        plain = Pipeline(parse_config({**config, "verify": {}}))
        plain.verified()
        assert list(read_run(plain.run.uri).manifests) == ["problems", "traces", "verified"]
        assert len(server.seen) == asked
        assert pipeline.traces().key == inverted.traces().key == other.traces().key


def test_an_endpoint_teaches_in_rounds(ray_session, tmp_path: Path):
    """Problems that the first round leaves unsolved are asked again, and the manifest says what all of it cost."""
    source = ArithmeticSource(num_problems=24, num_test=4, num_dev=0)
    answers = {problem: world_answer(problem) for problem in build_world(source).train}
    hard = sorted(answers)[:6]

    def answer(body: dict[str, Any], tries: int) -> Reply:
        problem = body["messages"][-1]["content"]
        late = sum(seen.body["messages"] == body["messages"] for seen in server.seen) > 2
        right = problem not in hard or late
        return completion(f"\\boxed{{{answers[problem] if right else 'nothing'}}}", reasoning_content="so")

    with ChatServer(answer) as server:
        config = {
            "name": "taught",
            "storage": {"root": str(tmp_path)},
            "problems": {"source": source.model_dump()},
            "generate": {
                "kind": "endpoint",
                "endpoint": endpoint(server, prompt_price=1.0, completion_price=10.0),
                "samples_per_round": 2,
                "max_rounds": 3,
            },
        }
        manifest = Pipeline(parse_config(config)).traces()
        assert len(server.seen) == 24 * 2 + 6 * 2
        assert [(round["problems"], round["solved"]) for round in manifest.facts["rounds"]] == [(24, 18), (6, 24)]
        assert (manifest.counts, manifest.facts["model"]) == ({"in": 60, "out": 60}, "m")
        assert manifest.facts["cost"] == (60 * 11 * 1 + 60 * 7 * 10) / 1e6

        moved = {**config["generate"]["endpoint"], "base_url": "http://127.0.0.1:1/v1", "max_in_flight": 3}
        again = Pipeline(parse_config({**config, "generate": {**config["generate"], "endpoint": moved}}))
        assert again.traces().key == manifest.key, "a server that has moved, or is gone, costs no trace"


def test_benchmarks_are_scored_without_judge_and_inversion():
    """Whatever labels the traces: an inverted control is still scored by what is right."""
    plain = VerifySettings()
    judge = JudgeSettings(model="m")
    odd = VerifySettings(
        votes=["judge", "math_verify"], judge=judge, policy="any", invert_labels=True, reuse_votes=True
    )
    assert benchmark_verification(odd) == benchmark_verification(plain)
    assert benchmark_verification(odd).in_one_pass


def test_preflight_names_a_key_that_is_not_set_and_a_judge_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("TEACHER_API_KEY", raising=False)
    keyed = {"base_url": "https://teacher/v1", "model": "m", "api_key_env": "TEACHER_API_KEY"}
    for section, field in (
        ({"generate": {"kind": "endpoint", "endpoint": keyed}}, "generate.endpoint"),
        ({"verify": {"votes": ["judge"], "judge": {"endpoint": keyed}}}, "verify.judge.endpoint"),
    ):
        with pytest.raises(EndpointError, match=rf"{field}\.api_key_env names TEACHER_API_KEY, which is not set"):
            preflight(parse_config({"name": "x", **section}))
    with pytest.raises(ValueError, match=r"verify\.judge\.model: \S+ holds no config\.json"):
        preflight(parse_config({"name": "x", "verify": {"votes": ["judge"], "judge": {"model": str(tmp_path)}}}))
