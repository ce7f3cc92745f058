"""Turns on endpoints: what is sent, what is kept, calls in the text and apart from it, and tools that fail say so in a turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from chat_server import ChatServer, Reply, completion
from sandboxes import sandbox_settings

from redi_ray.config.endpoints import EndpointSettings
from redi_ray.config.load import ConfigError, parse_config
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.tools import ToolSettings
from redi_ray.data.sample.collect import collect
from redi_ray.data.sample.endpoint_sampling import endpoint_sampler
from redi_ray.data.sample.samples import Requests, SampleStats, Sampling, explode, sample_seed, turn_seed
from redi_ray.data.sample.survey import trace_shards
from redi_ray.schemas import PROBLEM
from redi_ray.store import parquet
from redi_ray.tools.sandbox import SandboxError

BOTH = {"names": ["python", "calculator"], "sandbox": sandbox_settings()}


def called(name: str, arguments: Any, said: str | None = None) -> Reply:
    """An answer that calls by `tool_calls`."""
    call = {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}
    return completion(said, "tool_calls", tool_calls=[call])


def draw(
    server: ChatServer, out: Path, role: str = "user", **tools: Any
) -> tuple[SampleStats, dict[str, dict[str, Any]]]:
    prompt = PromptSettings(prefix="", tool_role=role)  # type: ignore[arg-type]
    sampling = Sampling(0.6, 0.95, 50, 42, tools=ToolSettings(**{**BOTH, **tools}))
    endpoint = EndpointSettings(base_url=server.url, model="m", backoff_seconds=0.01, max_retries=1)
    rows = [{"problem_id": f"p{n}", "problem": f"number {n}", "answer": "1", "source": "s"} for n in range(4)]
    wanted = Requests.of_table(explode(pa.Table.from_pylist(rows, schema=PROBLEM), range(1)))
    sampler = endpoint_sampler("generate.endpoint", endpoint, sampling, prompt)
    stats = collect(wanted, sampler, model="m", sampling=sampling, out_uri=str(out), shard_rows=4)
    found = [row for table in parquet.read_tables(trace_shards(str(out))) for row in table.to_pylist()]
    return stats, {row["problem_id"]: row for row in found}


def said(body: dict[str, Any]) -> list[str]:
    return [message["content"] for message in body["messages"]]


def test_calls_in_the_text(ray_session: None, tmp_path: Path):
    """The server leaves out what it stopped at; what it is sent back has it, and so has the trace."""

    def answer(body: dict[str, Any], tries: int) -> Reply:
        chat = said(body)
        if len(chat) == 1:
            return {
                "number 0": completion("so <calculator>6*7"),
                "number 1": completion("```python\nopen('/etc/shadow')\n```\n"),
                "number 2": completion("\\boxed{2}"),
                "number 3": Reply(400, {"error": "no"}),
            }[chat[0]]
        return completion(f"\\boxed{{{chat[-1].splitlines()[-2]}}}")

    with ChatServer(answer) as server:
        stats, traces = draw(server, tmp_path)
    assert (stats.asked, stats.traces, stats.rejected) == (4, 3, {"http_400": 1})
    assert traces["p0"]["turns"] == [
        {"role": "assistant", "content": "so <calculator>6*7</calculator>"},
        {"role": "tool", "content": "```output\n42\n```"},
        {"role": "assistant", "content": "\\boxed{42}"},
    ]
    assert (traces["p0"]["completion"], traces["p0"]["num_tokens"], traces["p0"]["finish_reason"]) == (
        "\\boxed{42}",
        14,
        "stop",
    )
    assert "Error: [Errno 2] No such file" in traces["p1"]["turns"][1]["content"]
    assert traces["p2"]["turns"] is None
    first, second = (seen.body for seen in server.seen if seen.body["messages"][0]["content"] == "number 0")
    assert first["stop"] == ["```output", "</calculator>"]
    assert second["messages"][1:] == [
        {"role": "assistant", "content": "so <calculator>6*7</calculator>"},
        {"role": "user", "content": "```output\n42\n```"},
    ]
    seed = sample_seed(42, "p0", 0)
    assert (first["seed"], second["seed"]) == (seed, turn_seed(seed, 1))
    assert (first["max_tokens"], second["max_tokens"]) == (50, 43), "all turns share the limit"


def test_calls_apart_from_the_text(ray_session: None, tmp_path: Path):
    """Arguments as JSON, as an object, as bare code; a tool that there is not; one that calls to no end."""

    def answer(body: dict[str, Any], tries: int) -> Reply:
        chat, asked = body["messages"], body["messages"][0]["content"]
        if len(chat) == 1 or asked == "number 3":
            return {
                "number 0": called("python", '{"code": "print(6 * 7)"}', "Let me see."),
                "number 1": called("calculator", {"expression": "2^10"}),
                "number 2": called("search", '{"query": "x"}'),
                "number 3": called("python", "print(1)"),
            }[asked]
        assert chat[2]["role"] == "tool"
        assert chat[2]["tool_call_id"] == chat[1]["tool_calls"][0]["id"] == "c1"
        return completion(f"\\boxed{{{chat[2]['content']}}}")

    with ChatServer(answer) as server:
        stats, traces = draw(server, tmp_path, native=True, max_turns=3)
    assert (stats.traces, stats.rejected.total(), stats.truncated) == (4, 0, 1)
    assert traces["p0"]["turns"][0]["content"] == "Let me see.\n```python\nprint(6 * 7)\n```"
    assert traces["p0"]["completion"] == "\\boxed{42}"
    assert traces["p1"]["turns"][0]["content"] == "<calculator>2^10</calculator>"
    assert traces["p1"]["completion"] == "\\boxed{1024}"
    assert "NameError: there is no tool 'search', only python, calculator" in traces["p2"]["turns"][1]["content"]
    assert (len(traces["p3"]["turns"]), traces["p3"]["finish_reason"]) == (5, "length")
    body = server.seen[0].body
    assert "stop" not in body
    assert [tool["function"]["name"] for tool in body["tools"]] == ["python", "calculator"]


def test_code_in_a_thought_is_a_draft_and_what_follows_a_call_is_not_sent_back(ray_session: None, tmp_path: Path):
    """A server that keeps the reasoning apart; and one that offers tools, whose model shows code before it calls."""
    draft = "Maybe\n```python\nprint(1)\n```\nwill do."

    def answer(body: dict[str, Any], tries: int) -> Reply:
        chat = said(body)
        if len(chat) > 1:
            return completion(f"\\boxed{{{chat[-1].strip('`').split()[-1]}}}")
        return {
            "number 0": completion("<calculator>6*7</calculator> is 41", reasoning_content=draft),
            "number 1": completion("It is \\boxed{5}.", reasoning_content=draft),
            "number 2": completion("so <calculator>2+", "length", reasoning_content=draft),
            "number 3": completion("so <calculator>1+1</calculator> and <calculator>3</calculator>"),
        }[chat[0]]

    with ChatServer(answer) as server:
        _, traces = draw(server, tmp_path / "text")
        sent = {said(seen.body)[0]: said(seen.body) for seen in server.seen if len(seen.body["messages"]) > 1}
    assert traces["p0"]["turns"][0]["content"].endswith("</think>\n\n<calculator>6*7</calculator>")
    assert draft in traces["p0"]["turns"][0]["content"]
    assert [traces[f"p{n}"]["completion"] for n in (0, 3)] == ["\\boxed{42}", "\\boxed{2}"]
    assert (traces["p1"]["turns"], traces["p2"]["turns"]) == (None, None)
    assert sent == {
        "number 0": ["number 0", "<calculator>6*7</calculator>", "```output\n42\n```"],
        "number 3": ["number 3", "so <calculator>1+1</calculator>", "```output\n2\n```"],
    }

    def calls(body: dict[str, Any], tries: int) -> Reply:
        chat = said(body)
        return (
            completion(f"\\boxed{{{chat[-1]}}}") if len(chat) > 1 else called("python", '{"code": "print(2)"}', draft)
        )

    with ChatServer(calls) as server:
        _, traces = draw(server, tmp_path / "native", native=True)
    assert traces["p0"]["turns"][0]["content"] == draft + "\n```python\nprint(2)\n```"
    assert traces["p0"]["completion"] == "\\boxed{2}", "the call that came apart was answered, not the draft"


def test_a_sandbox_that_does_not_start_is_an_error_before_anything_is_asked(ray_session: None, tmp_path: Path):
    with ChatServer(lambda body, tries: completion("1")) as server:
        with pytest.raises(SandboxError, match="no_such_module"):
            draw(server, tmp_path, sandbox=sandbox_settings(preload=["no_such_module"]))
    assert server.seen == []


def test_models_that_are_loaded_here_call_in_their_text():
    with pytest.raises(ConfigError, match=r"tools.native is for endpoints"):
        parse_config({"name": "x", "generate": {"kind": "vllm", "tools": {"native": True}}})
