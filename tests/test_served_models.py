"""A real vLLM server as teacher and as judge, and the same judge loaded here: the same votes by both ways.

And a run that is killed while its judge is asked.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import yaml
from chat_server import ChatServer, completion
from processes import ROOT, kill_when, run, start
from processes import rows as rows_of
from tiny_talker import COLOURS, JUDGE_PROMPT, SOLVED, problem, train_talker

from redi_ray.config.load import load_config
from redi_ray.pipeline.runner import Pipeline
from redi_ray.schemas import votes_of
from redi_ray.store import manifests, parquet, storage
from redi_ray.store.manifests import Manifest

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> str:
    return train_talker(tmp_path_factory.mktemp("talker"))


@pytest.fixture(scope="module")
def server(talker: str) -> Iterator[str]:
    """`vllm serve`, started by its module because the CPU build's own command fails for want of the package's metadata."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    arguments = [
        "--model", talker, "--served-model-name", "talker", "--host", "127.0.0.1", "--port", port,
        "--enforce-eager", "--dtype", "float32", "--max-model-len", "512",
    ]  # fmt: skip
    cpu = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
    with (Path(talker) / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments],
            env={**os.environ, **cpu},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        url = f"http://127.0.0.1:{port}/v1"
        try:
            wait_for(f"{url}/models", process, Path(log.name))
            yield url
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    while True:
        assert process.poll() is None, log.read_text()[-4000:]
        try:
            httpx.get(url, timeout=5)
            return
        except httpx.TransportError:
            time.sleep(0.5)


def rows(manifest: Manifest, table: str) -> list[dict]:
    return [row for part in parquet.read_tables(manifest.files(table)) for row in part.to_pylist()]


def test_a_served_teacher_and_the_same_judge_served_and_loaded(ray_session, talker: str, server: str, tmp_path: Path):
    """The shipped example in small. The judge finds every answer RED correct and every BLUE wrong, whoever runs it."""
    problems = tmp_path / "problems.jsonl"
    with problems.open("w") as file:
        for number in range(24):
            colour = COLOURS[number % 2]
            row = {"problem_id": str(number), "problem": problem(colour, number), "answer": colour}
            file.write(json.dumps(row) + "\n")
    overrides = [
        f"storage.root={tmp_path}",
        f"problems.source.paths=[{problems}]",
        f"generate.endpoint.base_url={server}",
        "generate.endpoint.model=talker",
        "generate.endpoint.prompt_price=1.0",
        "generate.endpoint.completion_price=2.0",
        "generate.samples_per_round=2",
        "generate.max_tokens=64",
        "generate.force_prefix=true",
        "generate.prompt.template=solve {problem}",
        "verify.policy=drop_disagreement",
        "verify.judge.ask=all",
        "resources.engine.max_model_len=512",
        "verify.judge.max_tokens=32",
        f"verify.judge.prompt={json.dumps(JUDGE_PROMPT)}",
    ]
    config = str(ROOT / "configs" / "endpoint_and_judge.yaml")
    served = Pipeline(
        load_config(config, [*overrides, f"verify.judge.endpoint={{base_url: '{server}', model: talker}}"])
    )
    loaded = Pipeline(load_config(config, [*overrides, "verify.judge.endpoint=null", f"verify.judge.model={talker}"]))
    by_server = served.verified()

    traces = {row["trace_id"]: row for row in rows(served.traces(), "traces")}
    assert len(traces) == 48
    for row in traces.values():
        assert row["completion"] == SOLVED.format(colour=row["answer"])
        assert row["finish_reason"] == "stop"
    facts = served.traces().facts
    prompt_tokens = sum(json.loads(row["sampling"])["prompt_tokens"] for row in traces.values())
    tokens = sum(row["num_tokens"] for row in traces.values())
    assert facts["cost"] == (prompt_tokens + 2 * tokens) / 1e6 > 0

    assert by_server.facts["votes"] == {
        "math_verify correct, judge correct": 24,
        "math_verify correct, judge wrong": 24,
    }
    assert by_server.facts["verdicts"]["correct"] == 24
    by_engine = loaded.verified()
    assert loaded.traces().key == served.traces().key
    for name in ("votes", "no_vote", "tokens", "prompt_tokens"):
        assert by_engine.facts["judge"][name] == by_server.facts["judge"][name]
    verdicts = [{row["trace_id"]: row["verdict_by"] for row in rows(m, "verified")} for m in (by_server, by_engine)]
    assert verdicts[0] == verdicts[1]
    judged = {name: {by["verifier"]: by["vote"] for by in votes}["judge"] for name, votes in verdicts[0].items()}
    assert all((vote == "correct") == (traces[name]["answer"] == "RED") for name, vote in judged.items())


def test_a_run_killed_in_judging_goes_on(tmp_path: Path):
    """kill -9 of the driver once the first judgements are written: they are not asked for again, and no row is lost."""
    path = tmp_path / "traces.jsonl"
    with path.open("w") as file:
        for number in range(1200):
            row = {"problem_id": f"p{number}", "problem": f"Problem {number}?", "answer": "4"}
            file.write(json.dumps({**row, "completion": f"\\boxed{{{4 + number % 2}}}"}) + "\n")
    with ChatServer(lambda body, tries: replace(completion("VERDICT: WRONG"), delay=0.05)) as server:
        config = {
            "name": "killed",
            "storage": {"root": str(tmp_path)},
            "problems": {"source": {"kind": "files", "paths": [str(path)], "columns": {"completion": "completion"}}},
            "generate": {"kind": "import"},
            "verify": {
                "votes": ["math_verify", "judge"],
                "policy": "both_false",
                "judge": {"endpoint": {"base_url": server.url, "model": "m", "max_in_flight": 8}},
            },
            "model": {"init": {"kind": "scratch"}},
            "evaluate": {"benchmarks": []},
            "resources": {"engine": {"device": "cpu"}},
        }
        (tmp_path / "killed.yaml").write_text(yaml.safe_dump(config))
        folder = tmp_path / "killed"
        process = start("verify", str(tmp_path / "killed.yaml"))
        kill_when(process, lambda: any(folder.glob("judged/*/asked/*/*/part-*.parquet")))
        parts = storage.list_files(str(folder / "judged"), ".parquet")
        kept = {row["trace_id"] for table in parquet.read_tables(parts) for row in table.to_pylist()}
        assert 256 <= len(kept) < 1200
        before = len(server.seen)
        run("verify", str(tmp_path / "killed.yaml"))
        assert len(server.seen) - before == 1200 - len(kept)
    verified = rows_of(folder, "verified", "verified")
    assert sorted(row["problem_id"] for row in verified) == sorted(f"p{number}" for number in range(1200))
    assert {(row["answer"] == "4", votes_of(row["verdict_by"])["judge"]) for row in verified} == {(True, "wrong")}
    told = manifests.current_manifest(str(folder), "verified").facts
    assert (told["verdicts"]["correct"], told["verdicts"]["wrong"]) == (600, 600)
