"""One way to start an engine: the scheduler's limits, what Ray sets aside, and that both kinds of engine give the same texts."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import torch
from processes import wait_until
from safetensors.torch import load_file, save_file

import redi_ray
from redi_ray.cluster import notices
from redi_ray.cluster.runtime import log
from redi_ray.config.engine_limits import (
    ON_CPU,
    ON_GPU,
    ON_LARGE_GPU,
    SchedulerLimits,
    gpu_limits,
    labelled_limits,
)
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.config.student import Architecture
from redi_ray.data.sample.collect import collect
from redi_ray.data.sample.engine_actor import EngineError
from redi_ray.data.sample.engines import (
    actor_options,
    engine_kwargs,
    environment,
    expected_sequences,
    sampling_params,
)
from redi_ray.data.sample.samples import REQUEST, Requests, Sampling, explode
from redi_ray.data.sample.sampling import vllm_sampler
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import THINK_TAGS, character_tokenizer, load_tokenizer
from redi_ray.plan.hardware import GPUS
from redi_ray.schemas import PROBLEM

PROMPT = PromptSettings(prefix="")


@pytest.mark.parametrize(
    ("device", "settings", "limits"),
    [
        (ON_CPU, {"device": "cpu"}, (256, 4096)),
        (ON_CPU, {"device": "cpu", "max_model_len": 8192}, (256, 8192)),  # prompts are read whole there
        (ON_CPU, {"device": "cpu", "max_model_len": 8}, (256, 2048)),
        (ON_LARGE_GPU, {}, (1024, 16384)),
        (ON_LARGE_GPU, {"max_model_len": 131_072}, (1024, 16384)),
        (ON_GPU, {}, (256, 8192)),
        (ON_GPU, {"engine_kwargs": {"max_num_seqs": 64}}, (64, 8192)),
        (ON_GPU, {"engine_kwargs": {"max_num_seqs": 8}, "max_model_len": 256}, (8, 2048)),
        (ON_LARGE_GPU, {"engine_kwargs": {"max_num_batched_tokens": 512}}, (512, 512)),
        (ON_GPU, {"engine_kwargs": {"max_num_seqs": 1024, "max_num_batched_tokens": 2048}}, (1024, 2048)),
        (ON_GPU, {"engine_kwargs": {"performance_mode": "throughput"}}, (512, 16384)),
        (ON_GPU, {"engine_kwargs": {"enable_chunked_prefill": False, "max_model_len": 20_000}}, (256, 20_000)),
    ],
)
def test_limits_follow_the_device_and_the_users_arguments_win(
    device: SchedulerLimits, settings: dict[str, Any], limits: tuple[int, int]
):
    assert EngineSettings(**settings).limits(device) == SchedulerLimits(*limits)


def test_gpus_are_told_apart_by_memory_and_name():
    large = {name for name, gpu in GPUS.items() if gpu.limits == ON_LARGE_GPU}
    assert large == {"B200", "H100", "H100-PCIe", "H200"}
    assert labelled_limits({"H100"}) == labelled_limits({"A100", "H200"}) == ON_LARGE_GPU
    assert labelled_limits({"A100"}) == labelled_limits({"A10G", "L4"}) == labelled_limits({"A100-80G"}) == ON_GPU
    assert labelled_limits(set()) == ON_LARGE_GPU, "too many rows in flight cost little, too few idle the GPU"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "gib"),
    [("NVIDIA H100 80GB HBM3", 79.6), ("NVIDIA A100-SXM4-80GB", 79.3), ("NVIDIA L4", 22), ("NVIDIA B200", 179)],
)
def test_the_table_is_vllms(name: str, gib: float, monkeypatch: pytest.MonkeyPatch):
    """What the plan counts with is what an engine would take there, in the vLLM that is installed."""
    from vllm.engine import arg_utils
    from vllm.usage.usage_lib import UsageContext

    told = {"get_device_total_memory": lambda: int(gib * 2**30), "get_device_name": lambda: name}
    platform = SimpleNamespace(**told, is_tpu=lambda: False, is_cpu=lambda: False)
    monkeypatch.setattr(arg_utils, "current_platform", platform)
    tokens, sequences = arg_utils.EngineArgs.get_batch_defaults(1)
    here = UsageContext.LLM_CLASS
    assert gpu_limits(name, gib) == SchedulerLimits(sequences[here], tokens[here])


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"engine_kwargs": {"max_num_seqs": 0}}, r"engine_kwargs\.max_num_seqs must be a whole number >= 1, got 0"),
        ({"engine_kwargs": {"max_num_batched_tokens": "8k"}}, "max_num_batched_tokens must be a whole number"),
        (
            {"engine_kwargs": {"max_num_seqs": 512, "max_num_batched_tokens": 256}},
            r"\(256\) must be at least max_num_seqs",
        ),
        (
            {"device": "cpu", "max_model_len": 4096, "engine_kwargs": {"max_num_batched_tokens": 2048}},
            r"must be at least max_model_len \(4096\)",
        ),
        ({"engine_kwargs": {"tensor_parallel_size": 2}}, "tensor_parallel_size is a field"),
        ({"engine_kwargs": {"data_parallel_size": 2}}, "use concurrency"),
        ({"device": "cpu", "engine_kwargs": {"pipeline_parallel_size": 2}}, "needs device: gpu"),
        ({"max_concurrent_batches": 0}, "max_concurrent_batches must be >= 1 or null"),
        (
            {
                "tensor_parallel_size": 2,
                "label_selector": {"pool": "a"},
                "engine_kwargs": {"distributed_executor_backend": "ray"},
            },
            "which label_selector does not reach",
        ),
    ],
)
def test_what_vllm_would_refuse_is_refused_before_it_starts(settings: dict[str, Any], wrong: str):
    with pytest.raises(ValueError, match=wrong):
        EngineSettings(**settings)


def test_rows_in_flight_follow_the_limits(ray_session: None):
    """Two to three times what the engine takes, whatever the batches' size; a number in the config stays."""
    for sequences in (8, 128, 256, 1024):
        for size in (1, 4, 16, 64):
            if size <= sequences:
                rows = EngineSettings(batch_size=size).batches_in_flight(sequences) * size
                assert 2 * sequences <= rows <= 3 * sequences, (sequences, size)
    assert EngineSettings(batch_size=512).batches_in_flight(256) == 2, "one ends while the other runs"
    assert EngineSettings(max_concurrent_batches=3).batches_in_flight(1024) == 3
    assert expected_sequences(EngineSettings(device="cpu")) == 256
    assert expected_sequences(EngineSettings(engine_kwargs={"max_num_seqs": 32})) == 32
    assert expected_sequences(EngineSettings()) == 1024, "no node with GPUs yet"


def test_every_engine_gets_the_same_environment_and_resources():
    small = EngineSettings(device="cpu", cpu_threads=3, kv_cache_gib=2, label_selector={"pool": "a"})
    options = actor_options(small)
    assert (options["num_cpus"], options["label_selector"], "num_gpus" in options) == (3.0, {"pool": "a"}, False)
    assert options["runtime_env"]["env_vars"] == environment(small)
    assert environment(small) == {
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "OMP_NUM_THREADS": "3",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
    large = EngineSettings(
        tensor_parallel_size=2,
        label_selector={"pool": "a"},
        engine_kwargs={"pipeline_parallel_size": 2, "max_num_seqs": 7},
    )
    options = actor_options(large)
    assert (options["num_gpus"], options["label_selector"]) == (4.0, {"pool": "a"})
    assert engine_kwargs(large)["max_num_seqs"] == 7
    assert engine_kwargs(large)["distributed_executor_backend"] == "mp", "one actor holds all of the GPUs"
    assert not large.spreads
    assert EngineSettings(tensor_parallel_size=2, engine_kwargs={"distributed_executor_backend": "ray"}).spreads
    row = {"problem_id": "p", "sample_index": 1}
    told = sampling_params(row, Sampling(0.5, 0.9, 8, 3), {7, 2})
    assert (told["skip_special_tokens"], told["spaces_between_special_tokens"]) == (False, False)
    assert "stop" not in told
    told = sampling_params(row, Sampling(0.5, 0.9, 8, 3, stop=("\n\n",)), {7, 2})
    assert (told["stop"], told["include_stop_str_in_output"]) == (["\n\n"], True), "a step keeps what ends it"


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random model whose think tags are special tokens, as in some published vocabularies."""
    folder = tmp_path_factory.mktemp("thinker")
    tokenizer = character_tokenizer("0123456789+-*= \n")
    tokenizer.add_special_tokens({"additional_special_tokens": list(THINK_TAGS)})
    tokenizer.save_pretrained(folder)
    assert set(THINK_TAGS) <= set(tokenizer.all_special_tokens)
    size = Architecture(hidden_size=64, num_layers=1, num_heads=2, num_kv_heads=1, max_position_embeddings=128)
    save_scratch_model(size, tokenizer, folder)
    return str(folder)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_leased_engines_keep_special_tokens_and_say_their_limits(
    ray_session: None, thinker: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Texts tokenise to what was sampled; the limits are those that `vllm.LLM` takes with the model's own length; 16 rows in
    flight for 256 places are warned of. A second lease has the same process, another model in seconds, and the first one's
    texts when it comes back to it."""
    import ray

    heard: list[str] = []
    monkeypatch.setattr(log, "handlers", [_Listener(heard)])
    log.setLevel(logging.INFO)
    problems = [{"problem_id": f"p{n}", "problem": f"{n} + 1", "answer": "1", "source": "test"} for n in range(24)]
    rows = explode(pa.Table.from_pylist(problems, schema=PROBLEM), range(1))
    settings = EngineSettings(device="cpu", dtype="float32", max_model_len=64, batch_size=8, max_concurrent_batches=2)
    other = str(tmp_path / "other")
    model_like(thinker, other)

    def draw(model: str) -> tuple[dict[str, dict[str, Any]], str]:
        with vllm_sampler(model, settings, Sampling(1.0, 1.0, 24, 5), PROMPT) as sampler:
            drawn = sampler(ray.data.from_arrow(rows)).take_all()
            (process,) = (actor for actor in actors_of("EngineActor") if actor["State"] == "ALIVE")
        return {row["problem_id"]: row for row in drawn}, process["Pid"]

    try:
        drawn, first = draw(thinker)
        others, second = draw(other)
        again, third = draw(thinker)
        wait_until(lambda: len(heard) >= 6)
    finally:
        notices.stop()
    assert first == second == third
    assert drawn == again
    assert drawn != others
    assert heard.count("engine on cpu: up to 256 sequences at a time and 4096 tokens a step") == 3, heard
    assert sum("16 rows in flight, too few for the engine's 256 places" in said for said in heard) == 3, heard

    tokenizer, ends = load_tokenizer(thinker), 0
    texts = [row["completion"] for row in drawn.values()]
    assert sum(text.count(tag) for text in texts for tag in THINK_TAGS) > 5
    for row in drawn.values():
        assert row["failure"] is None, row
        ids = tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
        ended = row["finish_reason"] == "stop"
        ends += ended
        assert len(ids) == row["num_tokens"] - ended, "the text is what was sampled, to the token"
        assert tokenizer.eos_token not in row["completion"]
    assert 0 < ends < len(drawn)


def model_like(source: str, target: str) -> None:
    """The same but for its weights, whose rows change places."""
    path = Path(shutil.copytree(source, target)) / "model.safetensors"
    places = torch.Generator().manual_seed(1)
    mixed = {name: rows[torch.randperm(len(rows), generator=places)] for name, rows in load_file(path).items()}
    save_file(mixed, path, metadata={"format": "pt"})


def actors_of(name: str) -> list[dict[str, Any]]:
    import ray

    return [actor for actor in ray._private.state.actors().values() if actor["ActorClassName"] == name]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "said"), [("no weights", "[Ww]eights"), ("small heads", "head_dim")])
def test_an_engine_that_cannot_start_says_why_and_rows_wait_for_nothing(
    ray_session: None, thinker: str, tmp_path: Path, fault: str, said: str
):
    """Heads that its CPU attention does not know vLLM notices only when it is asked; no restart is spent on them."""
    broken = tmp_path / "broken"
    if fault == "no weights":
        shutil.copytree(thinker, broken)
        (broken / "model.safetensors").unlink()
    else:
        small = Architecture(hidden_size=32, num_layers=1, num_heads=2, num_kv_heads=1, max_position_embeddings=64)
        save_scratch_model(small, character_tokenizer("0123456789+ \n"), broken)
    requests, sampling = Requests.of_table(explode(to_one_problem("1 + 1"), range(2))), Sampling(1.0, 1.0, 4, 0)
    with pytest.raises(EngineError, match=f"vLLM does not start on {broken}: .*{said}"):
        with vllm_sampler(str(broken), EngineSettings(device="cpu"), sampling, PROMPT) as sampler:
            collect(requests, sampler, model="m", sampling=sampling, out_uri=str(tmp_path / "out"), shard_rows=2)


def to_one_problem(text: str) -> pa.Table:
    return pa.Table.from_pylist([{"problem_id": "p", "problem": text, "answer": "1", "source": "t"}], schema=PROBLEM)


class _Listener(logging.Handler):
    def __init__(self, heard: list[str]) -> None:
        super().__init__()
        self.heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


def test_no_call_of_ray_data_uses_what_goes_away_in_2_64():
    """Every argument by which the package calls a dataset's methods is one of Ray's named ones, and stays."""
    import ast
    import inspect

    import ray.data

    package, unnamed = Path(redi_ray.__file__).parent, []
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            method = node.func.attr
            if method in ("map_batches", "map", "flat_map", "filter") and node.keywords:
                known = inspect.signature(getattr(ray.data.Dataset, method)).parameters
                bad = [key.arg for key in node.keywords if key.arg is not None and key.arg not in known]
                unnamed += [f"{path.name}:{node.lineno} {key}" for key in bad]
        assert "ray_remote_args" not in path.read_text(), path
    assert not unnamed
    assert REQUEST.names
