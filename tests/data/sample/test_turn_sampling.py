"""Traces of turns from real engines: what the model writes, what the tools give back, and the same again after a kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sandboxes import sandbox_settings
from test_sampling import KillFirst, read
from tiny_caller import PROMPT, talk, train_caller

from redi_ray.config.resources import EngineSettings
from redi_ray.config.tools import ToolSettings
from redi_ray.data.sample.collect import collect
from redi_ray.data.sample.samples import Requests, SampleStats, Sampling, explode, sample_seed, turn_seed
from redi_ray.data.sample.sampling import vllm_sampler
from redi_ray.data.sample.turns import Drawn
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.schemas import PROBLEM
from redi_ray.text.templates import RoleError
from redi_ray.text.turns import encode_turns, opened_ids
from redi_ray.tools.sandbox import SandboxError

TOOLS = ToolSettings(names=["python", "calculator"], max_turns=4, max_turn_tokens=40, sandbox=sandbox_settings())
ASKED = {f"{task}-{a}": (task, a) for task in ("add", "fail", "repeat", "know") for a in (1, 2, 3)}
SAMPLES = 6


def drawn(**settings: Any) -> Drawn:
    return Drawn(Sampling(1.0, 1.0, 100, 0), ToolSettings(names=["python", "calculator"], **settings), "<think>\n")


def test_a_turn_ends_with_its_call_and_the_trace_with_an_answer():
    """What the model wrote behind its call is cut away, made-up output too; the prefix stands before every turn."""
    trace = drawn()
    call = trace.add_turn("so\n```python\nprint(2)\n```\n", "```output", "stop", 9, 5)
    assert call is not None
    assert (call.tool, call.text) == ("python", "print(2)")
    trace.add_output("2")
    assert trace.add_turn("\\boxed{2}", None, "stop", 4, 20) is None
    found = trace.completion()
    assert found["turns"] == [
        {"role": "assistant", "content": "<think>\nso\n```python\nprint(2)\n```"},
        {"role": "tool", "content": "```output\n2\n```"},
        {"role": "assistant", "content": "<think>\n\\boxed{2}"},
    ]
    assert (found["completion"], found["finish_reason"]) == ("<think>\n\\boxed{2}", "stop")
    assert (found["num_tokens"], found["prompt_tokens"]) == (13, 25)


def test_what_is_no_call_ends_the_trace_and_limits_cut_it_off():
    for text, stopped in (("<calculator>1+", None), ("```python\nopen", None), ("made up ", "```output"), ("4", None)):
        trace = drawn()
        assert trace.add_turn(text, stopped, "stop", 3, 3) is None
        assert trace.completion()["turns"] is None, "one turn is a completion like any other"
        assert trace.completion()["completion"] == "<think>\n" + text
    final = drawn()
    assert final.add_turn("\\boxed{1} <calculator>1+1", "</calculator>", "stop", 3, 3) is None
    assert final.completion()["finish_reason"] == "stop"
    behind = drawn()
    said = "```python\nprint(2)\n```\nSo it is \\boxed{2}."
    assert behind.add_turn(said, None, "stop", 9, 3) is None
    assert behind.completion()["completion"] == "<think>\n" + said, (
        "the answer is not cut away with what follows a call"
    )
    for limits, tokens in (({"max_turns": 2}, 3), ({"max_turns": 9}, 50)):
        trace, calls = drawn(**limits), 0
        while trace.add_turn("<calculator>1+1", "</calculator>", "stop", tokens, 3) is not None:
            trace.add_output("2")
            calls += 1
        assert (calls, trace.completion()["finish_reason"]) == (1, "length")
    assert drawn(max_turn_tokens=7).tokens_left == 7
    assert drawn(max_turn_tokens=None).tokens_left == 100


def test_turns_have_seeds_of_their_own_and_the_first_one_keeps_the_samples():
    seeds = [turn_seed(sample_seed(5, "p", 0), turn) for turn in range(5)]
    assert seeds[0] == sample_seed(5, "p", 0)
    assert len(set(seeds)) == 5
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> str:
    return train_caller(tmp_path_factory.mktemp("caller"))


def sample(
    caller: str, out: Path, on_progress: Callable[[SampleStats], None] = lambda added: None, **tools: Any
) -> tuple[SampleStats, dict[str, dict[str, Any]]]:
    problems = [{"problem_id": x, "problem": talk(*one)[0], "answer": "1", "source": "t"} for x, one in ASKED.items()]
    requests = Requests.of_table(explode(pa.Table.from_pylist(problems, schema=PROBLEM), range(SAMPLES)))
    settings = ToolSettings(**vars(TOOLS) | tools)
    sampling = Sampling(0.9, 1.0, 160, 5, tools=settings)  # so hot that its lines vary
    engine = EngineSettings(
        device="cpu",
        dtype="float32",
        max_model_len=400,
        concurrency=1,
        batch_size=8,
        max_concurrent_batches=2,
        engine_kwargs={"max_num_seqs": 8},
    )
    with vllm_sampler(caller, engine, sampling, PROMPT) as sampler:
        stats = collect(
            requests, sampler, model="c", sampling=sampling, out_uri=str(out), shard_rows=8, on_progress=on_progress
        )
    return stats, read(out)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_traces_of_turns_and_the_same_ones_after_a_kill(ray_session: None, caller: str, tmp_path: Path):
    """An engine that is killed between two turns begins its traces again, and they come out the same. What a turn was sampled
    behind is what it is trained behind, token for token."""
    stats, traces = sample(caller, tmp_path / "calm")
    assert (stats.asked, stats.traces, stats.rejected.total()) == (72, 72, 0)
    whole = sum(trace["turns"] == talk(*ASKED[trace["problem_id"]])[1] for trace in traces.values())
    assert whole > 20, "most say their lines, and the tools what they should"
    cut = [trace for trace in traces.values() if trace["problem_id"].startswith("repeat")]
    assert {trace["finish_reason"] for trace in cut if trace["turns"] and len(trace["turns"]) == 7} == {"length"}
    assert all(json.loads(trace["sampling"])["max_turns"] == 4 for trace in traces.values())
    tokenizer = load_tokenizer(caller)
    for trace in traces.values():
        if turns := trace["turns"]:
            prompt = [{"role": "user", "content": trace["problem"]}]
            encoded = encode_turns(prompt, turns, tokenizer, PROMPT, finished=trace["finish_reason"] == "stop")
            for own in encoded.own:
                assert encoded.input_ids[: own.start] == opened_ids(prompt, turns[: own.number], tokenizer, PROMPT)
    kill = KillFirst()
    again, same = sample(caller, tmp_path / "killed", kill)
    assert kill.killed
    assert (again.traces, again.rejected.total()) == (72, 0)
    assert {key: (one["turns"], one["completion"]) for key, one in same.items()} == {
        key: (one["turns"], one["completion"]) for key, one in traces.items()
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trace_whose_turns_the_template_does_not_take_is_a_reject(ray_session: None, caller: str, tmp_path: Path):
    folder = Path(shutil.copytree(caller, tmp_path / "other"))
    template = load_tokenizer(caller).chat_template
    raises = "{% if 'ZeroDivisionError' in m.content %}{{ raise_exception('no errors') }}{% endif %}"
    refuses = f"{{% for m in messages %}}{raises}{{% endfor %}}"
    (folder / "chat_template.jinja").write_text(refuses + template)
    stats, traces = sample(str(folder), tmp_path / "out")
    assert stats.rejected.keys() == {"turns_not_encodable"}
    assert stats.rejected.total() + stats.traces == stats.asked == 72
    assert {trace["problem_id"].partition("-")[0] for trace in traces.values()} >= {"add", "repeat", "know"}


@pytest.mark.slow
def test_what_cannot_work_is_refused_before_an_engine_starts(ray_session: None, caller: str, tmp_path: Path):
    broken = sandbox_settings(preload=["no_such_module"])
    with pytest.raises(SandboxError, match="no_such_module"):
        sample(caller, tmp_path, sandbox=broken)
    folder = Path(shutil.copytree(caller, tmp_path / "other"))
    template = "{% for m in messages %}{% if loop.index0 < 2 %}{{ m.content }}{% endif %}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(RoleError, match="no turn of the role"):
        sample(str(folder), tmp_path)
