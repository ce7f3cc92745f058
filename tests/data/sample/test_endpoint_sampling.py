"""Traces from an endpoint: every request once, resumed, rejects with their reasons, a run that must end ends."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from chat_server import ChatServer, Reply, completion

from redi_ray.config.endpoints import EndpointSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.sample.collect import collect
from redi_ray.data.sample.endpoint_errors import EndpointError
from redi_ray.data.sample.endpoint_sampling import endpoint_sampler, to_completion
from redi_ray.data.sample.endpoint_wire import Answer
from redi_ray.data.sample.samples import Requests, SampleStats, Sampling, explode, sample_seed
from redi_ray.data.sample.survey import trace_shards
from redi_ray.schemas import PROBLEM, TRACE
from redi_ray.store import parquet, storage

SAMPLING = Sampling(temperature=0.6, top_p=0.95, max_tokens=50, seed=42)
PROMPT = PromptSettings(template="Solve: {problem}")


def requests(problems: int, samples: int) -> Requests:
    rows = [{"problem_id": f"p{i}", "problem": f"number {i}", "answer": str(i), "source": "s"} for i in range(problems)]
    return Requests.of_table(explode(pa.Table.from_pylist(rows, schema=PROBLEM), range(samples)))


def draw(server: ChatServer, out: Path, wanted: Requests, **changes: Any) -> SampleStats:
    endpoint = EndpointSettings(
        **{"base_url": server.url, "model": "m", "backoff_seconds": 0.01, "max_retries": 1, **changes}
    )
    sampler = endpoint_sampler("generate.endpoint", endpoint, SAMPLING, PROMPT)
    return collect(wanted, sampler, model="m", sampling=SAMPLING, out_uri=str(out), shard_rows=16)


def read(uris: list[str]) -> list[dict]:
    return [row for table in parquet.read_tables(uris) for row in table.to_pylist()]


def number(body: dict[str, Any]) -> int:
    return int(body["messages"][-1]["content"].split()[-1])


def test_every_request_becomes_a_trace_or_a_reject(ray_session, tmp_path: Path):
    """One in ten is refused, one in ten fails at first, one never gets through; the rest are traces like any other's."""

    together, arrivals = threading.Barrier(8), itertools.count()

    def answer(body: dict[str, Any], tries: int) -> Reply:
        if next(arrivals) < 8:
            together.wait(60)  # breaks unless eight are in flight at a time
        if number(body) == 7:
            return Reply(500, b"always")
        if number(body) % 10 == 3:
            return Reply(400, {"error": "too long"})
        if number(body) % 10 == 5 and tries == 1:
            return Reply(reset=True)
        if number(body) % 10 == 9:
            return completion(None, "length", reasoning_content="on and on", usage={})
        return completion(f"\\boxed{{{number(body)}}}", reasoning_content="I think")

    with ChatServer(answer) as server:
        stats = draw(server, tmp_path, requests(40, 2), max_in_flight=8)
    assert server.most_at_once == 8
    assert (stats.asked, stats.traces, stats.rejected) == (80, 70, {"http_400": 8, "server_error": 2})
    assert (stats.truncated, stats.tokens, stats.prompt_tokens) == (8, 62 * 7, 62 * 11)

    rows = {row["trace_id"]: row for row in read(trace_shards(str(tmp_path)))}
    assert len(rows) == 70
    first = rows["p0#1"]
    assert first.keys() == set(TRACE.names)
    assert first["completion"] == "<think>\nI think\n</think>\n\n\\boxed{0}"
    assert (first["finish_reason"], first["num_tokens"], first["model"]) == ("stop", 7, "m")
    assert rows["p9#0"]["completion"] == "<think>\non and on"
    assert (rows["p9#0"]["finish_reason"], rows["p9#0"]["num_tokens"]) == ("length", None)
    rejects = read(storage.list_files(str(tmp_path / "rejects"), ".parquet"))
    assert Counter(row["reason"] for row in rejects) == stats.rejected
    assert {row["where"] for row in rejects if row["reason"] == "server_error"} == {"p7#0", "p7#1"}

    seeds = {seen.body["seed"] for seen in server.seen}
    assert seeds == {sample_seed(42, f"p{i}", j) for i in range(40) for j in range(2)}
    assert json.loads(first["sampling"])["seed"] == sample_seed(42, "p0", 1)
    assert server.seen[0].body["messages"][0]["content"].startswith("Solve: number")


def test_a_refused_key_in_mid_run_keeps_what_is_done_and_the_next_run_asks_the_rest(
    ray_session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The key expires after 100 answers; the driver hears why, and no answer that was written is asked for again."""
    monkeypatch.setenv("TEACHER_API_KEY", "open-sesame")
    keyed = {"max_in_flight": 4, "api_key_env": "TEACHER_API_KEY"}
    with ChatServer(
        lambda body, tries: completion("4") if len(server.seen) <= 100 else Reply(403, b"expired")
    ) as server:
        with pytest.raises(EndpointError, match=r"refuses access \(403\); check the key in TEACHER_API_KEY.*expired"):
            draw(server, tmp_path, requests(160, 1), **keyed)
        assert {seen.authorization for seen in server.seen} == {"Bearer open-sesame"}
    done = {row["problem_id"] for row in read(trace_shards(str(tmp_path)))}
    assert 0 < len(done) <= 100
    with ChatServer(lambda body, tries: completion("4")) as server:
        stats = draw(server, tmp_path, requests(160, 1), **keyed)
    assert (stats.asked, stats.traces, stats.rejected) == (160, 160, {})
    assert stats.resumed >= len(done), "a shard may still be written when the driver has heard"
    assert (stats.tokens, stats.prompt_tokens) == (160 * 7, 160 * 11), "what the first run paid for counts too"
    asked = Counter(f"p{number(seen.body)}" for seen in server.seen)
    assert len(asked) == asked.total() == 160 - stats.resumed
    assert not asked.keys() & done


def test_a_server_that_is_gone_is_told_before_and_during_the_run(ray_session, tmp_path: Path):
    with ChatServer(lambda body, tries: Reply(503, b"down for maintenance")) as server:
        with pytest.raises(EndpointError, match=r"3 requests in a row failed for good.*maintenance"):
            draw(server, tmp_path, requests(200, 1), max_failures_in_row=3, max_in_flight=2)
        assert len(server.seen) < 100
    with pytest.raises(EndpointError, match="is the server up"):
        draw(server, tmp_path, requests(2, 1))


def test_one_bad_reply_of_twelve_is_one_reject(ray_session, tmp_path: Path):
    """Half a surrogate pair costs its own request and nothing else; what the server broke off is asked again, to the last."""
    replies = {
        3: completion("x \ud835"),
        5: completion("half of", "abort"),
        7: completion("half of", "?"),
        8: completion("4", "EOS"),
    }

    def answer(body: dict[str, Any], tries: int) -> Reply:
        return completion("whole") if number(body) == 6 and tries > 1 else replies.get(number(body), completion("four"))

    replies[6] = replies[5]
    with ChatServer(answer) as server:
        stats = draw(server, tmp_path, requests(12, 1))
    asked = Counter(number(seen.body) for seen in server.seen)
    assert asked == {**dict.fromkeys(range(12), 1), 5: 6, 6: 2}
    assert (stats.asked, stats.traces, stats.rejected) == (12, 10, {"bad_text": 1, "broken_off": 1})
    assert stats.truncated == 1
    rows = {row["problem_id"]: row for row in read(trace_shards(str(tmp_path)))}
    assert (rows["p6"]["completion"], rows["p6"]["finish_reason"]) == ("whole", "stop")
    assert (rows["p7"]["completion"], rows["p7"]["finish_reason"]) == ("half of", "unfinished")
    assert rows["p8"]["finish_reason"] == "stop"
    rejects = {row["where"]: row["detail"] for row in read(storage.list_files(str(tmp_path / "rejects"), ".parquet"))}
    assert "half a surrogate pair in 'x \\ud835'" in rejects["p3#0"]
    assert rejects["p5#0"].startswith("finish_reason abort")
    assert rejects["p5#0"].endswith("half of")


def test_answers_as_completions():
    """The forced prefix stands once; a loop that ran into the limit is called one."""
    kept_apart = Answer("so 4", "two and two", "stop", 1, 9)
    assert to_completion(kept_apart, "", PROMPT, SAMPLING)["completion"] == "<think>\ntwo and two\n</think>\n\nso 4"
    assert to_completion(kept_apart, "<think>\n", PROMPT, SAMPLING)["completion"].count("<think>") == 1
    continued = Answer("two and two</think>so 4", "", "stop", 1, 9)
    assert to_completion(continued, "<think>\n", PROMPT, SAMPLING)["completion"] == "<think>\ntwo and two</think>so 4"
    looping = Answer("Wait, no. " * 2000, "", "length", 1, 9)
    assert to_completion(looping, "", PROMPT, SAMPLING)["finish_reason"] == "loop"
    assert to_completion(Answer("4 " * 3, "", None, 1, 9), "", PROMPT, SAMPLING)["finish_reason"] is None
    broken_off = Answer("Wait, no. " * 2000, "", "unfinished", 1, 9)
    assert to_completion(broken_off, "", PROMPT, SAMPLING)["finish_reason"] == "unfinished"
