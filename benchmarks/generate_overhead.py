"""Tokens per second through the sampling stage against the bare vLLM engine, on the same requests, in one run.

Work: a Qwen2 (4 layers x 256, random weights, float32) on CPU and `--wave` requests at a time, each with its own seed; a
completion ends by chance or at 256 tokens. The two arms take turns, wave by wave, while the other's engine is idle:

    engine   `vllm.LLM.generate` on all requests of the wave; texts and token ids end in memory. As vLLM comes, its core
             and its worker are processes of their own; with --in-process it is one process and no message is passed
    stage    `redi_ray.data.sample.collect` with the vLLM sampler: from the wave's rows to Parquet shards written and counted,
             through Ray Data (tokenising, the engine's actor, finish reasons, loop detection off and on as configured)

Start-up is in neither: both engines live for the whole run, and a first wave that is not counted warms them. A wave of the
stage begins when its rows are let into the pipeline and ends when the driver hears of its last shard, so that filling and
draining the pipeline count against us.

    python benchmarks/generate_overhead.py [--quick] [--waves N] [--wave N] [--in-process]

Last line: a JSON object; `fraction_of_engine` is the stage's tokens/s over the engine's, all waves together.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from redi_ray.config.loops import LoopSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample.samples import Sampling

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")

MAX_TOKENS, MAX_MODEL_LEN, BATCH, SHARD_ROWS = 256, 512, 64, 256
ROOT_SEED = 5


def engine_settings(in_flight: int | None = None) -> EngineSettings:
    """Of both sides: the same arguments, threads and limits."""
    return EngineSettings(
        device="cpu", dtype="float32", max_model_len=MAX_MODEL_LEN, batch_size=BATCH, max_concurrent_batches=in_flight
    )


def sampling() -> Sampling:
    return Sampling(1.0, 1.0, MAX_TOKENS, ROOT_SEED, loops=LoopSettings())


def limits_of(vllm_config: Any) -> list[int]:
    """Sequences at a time and tokens a step."""
    return [vllm_config.scheduler_config.max_num_seqs, vllm_config.scheduler_config.max_num_batched_tokens]


def make_model(folder: Path) -> str:
    """A model whose completions end by chance after a few hundred tokens: the vocabulary is small and the weights random."""
    from redi_ray.config.student import Architecture
    from redi_ray.modeling.scratch import save_scratch_model
    from redi_ray.modeling.tokenizer import train_bpe_tokenizer

    source = Path(__file__).resolve().parent.parent / "redi_ray"
    tokenizer = train_bpe_tokenizer((path.read_text() for path in sorted(source.rglob("*.py"))), 512)
    size = Architecture(
        hidden_size=256, num_layers=4, num_heads=4, num_kv_heads=2, intermediate_size=1024, max_position_embeddings=1024
    )
    save_scratch_model(size, tokenizer, folder)
    return str(folder)


def problem_rows(wave: int, size: int) -> list[dict[str, Any]]:
    """The wave's problems; each is sampled once."""
    return [
        {
            "problem_id": f"w{wave}-{number}",
            "problem": f"Add {number} and {wave * size + number}, then multiply the sum by {number % 7}. What is it?",
            "answer": "1",
            "source": "benchmark",
        }
        for number in range(size)
    ]


def engine_main(model: str, size: int) -> None:
    """The bare engine: reads a wave's number per line, answers with seconds and tokens."""
    from vllm import SamplingParams, TokensPrompt

    from redi_ray.config.prompts import PromptSettings
    from redi_ray.data.sample.engine_start import start_vllm
    from redi_ray.data.sample.engines import sampling_params
    from redi_ray.modeling.tokenizer import end_of_turn_ids, load_tokenizer
    from redi_ray.text.prompts import to_messages
    from redi_ray.text.tokens import prompt_ids

    llm = start_vllm(model, engine_settings())
    limits = limits_of(llm.llm_engine.vllm_config)
    tokenizer, ends, settings = load_tokenizer(model), end_of_turn_ids(model), PromptSettings()
    print("ready", flush=True)
    for line in sys.stdin:
        rows = problem_rows(int(line), size)
        start = time.perf_counter()
        prompts = [
            TokensPrompt(prompt_token_ids=prompt_ids(to_messages(row["problem"], settings), tokenizer, settings))
            for row in rows
        ]
        parameters = [SamplingParams(**sampling_params({**row, "sample_index": 0}, sampling(), ends)) for row in rows]
        outputs = llm.generate(prompts, parameters, use_tqdm=False)
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        print(json.dumps({"seconds": time.perf_counter() - start, "tokens": tokens, "limits": limits}), flush=True)


Times = dict[tuple[int, float], float]


def processor_times(root: psutil.Process, without: psutil.Process | None = None) -> Times:
    """Processor seconds of a process and each one below it, those of `without` left out."""
    skipped = {without.pid, *(child.pid for child in without.children(recursive=True))} if without else set()
    found = {}
    for process in [root, *root.children(recursive=True)]:
        if process.pid not in skipped:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                found[process.pid, process.create_time()] = times.user + times.system
    return found


def spent(before: Times, after: Times) -> float:
    """Seconds in between, by the processes that are still there."""
    return sum(seconds - before.get(process, 0.0) for process, seconds in after.items())


class EngineArm:
    """The bare engine in a process of its own."""

    def __init__(self, model: str, size: int, in_process: bool) -> None:
        from redi_ray.data.sample.engines import environment

        command = [sys.executable, __file__, "--engine", model, "--wave", str(size)]
        told = {**os.environ, **environment(engine_settings()), "VLLM_LOGGING_LEVEL": "ERROR"}
        if not in_process:
            del told["VLLM_ENABLE_V1_MULTIPROCESSING"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=told)
        self.tree = psutil.Process(self.process.pid)

    def wait(self) -> None:
        while (line := self._read()) != "ready":
            print(line, file=sys.stderr)

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the bare engine's process has ended")
        return line.strip()

    def run(self, wave: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{wave}\n")
        self.process.stdin.flush()
        while not (line := self._read()).startswith("{"):
            pass
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


def wave_rows(batch: dict[str, Any], folder: str, size: int) -> Any:
    """A wave's requests, once its file is there."""
    import pyarrow as pa

    from redi_ray.data.sample.samples import explode
    from redi_ray.schemas import PROBLEM

    wave = int(batch["wave"][0])
    while not (Path(folder) / f"go-{wave}").exists():
        time.sleep(0.005)
    return explode(pa.Table.from_pylist(problem_rows(wave, size), schema=PROBLEM), range(1))


class StageArm:
    """The stage, in a thread; its waves wait for their files."""

    def __init__(self, model: str, size: int, waves: int, folder: Path, in_flight: int | None) -> None:
        self.size, self.folder, self.seen = size, folder, [0, 0]
        self.heard, self.error = threading.Condition(), None
        self.thread = threading.Thread(target=self._collect, args=(model, waves, in_flight), daemon=True)
        self.thread.start()

    def _collect(self, model: str, waves: int, in_flight: int | None) -> None:
        import ray.data

        from redi_ray.config.prompts import PromptSettings
        from redi_ray.data.sample.collect import collect
        from redi_ray.data.sample.samples import Requests
        from redi_ray.data.sample.sampling import vllm_sampler

        gated = ray.data.from_items([{"wave": wave} for wave in range(waves)], override_num_blocks=waves).map_batches(
            partial(wave_rows, folder=str(self.folder), size=self.size), batch_size=1, num_cpus=0.1
        )
        try:
            with vllm_sampler(model, engine_settings(in_flight), sampling(), PromptSettings()) as sampler:
                collect(
                    Requests(gated, waves * self.size),
                    sampler,
                    model="benchmark",
                    sampling=sampling(),
                    out_uri=str(self.folder / "traces"),
                    shard_rows=SHARD_ROWS,
                    on_progress=self._hear,
                )
        except BaseException as error:
            self.error = error
            with self.heard:
                self.heard.notify_all()
            raise

    def _hear(self, added: Any) -> None:
        with self.heard:
            self.seen = [self.seen[0] + added.traces, self.seen[1] + added.tokens]
            self.heard.notify_all()

    def run(self, wave: int) -> dict[str, Any]:
        before = self.seen[1]
        start = time.perf_counter()
        (self.folder / f"go-{wave}").touch()
        with self.heard:
            self.heard.wait_for(lambda: self.error or self.seen[0] >= (wave + 1) * self.size)
        if self.error:
            raise RuntimeError("the stage failed") from self.error
        return {"seconds": time.perf_counter() - start, "tokens": self.seen[1] - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one counted wave of 256 requests")
    parser.add_argument("--waves", type=int, default=4, help="counted waves per arm")
    parser.add_argument("--wave", type=int, default=512, help="requests per wave, a multiple of 256")
    parser.add_argument("--in-flight", type=int, help="engine batches of 64 in flight; else as many as the stage takes")
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="the bare engine without vLLM's own processes, which no server could use",
    )
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        engine_main(options.engine, options.wave)
        return
    waves, size = (1, 256) if options.quick else (options.waves, options.wave)

    import ray

    from redi_ray.cluster.runtime import quiet_libraries

    with tempfile.TemporaryDirectory(prefix="go", dir="/tmp", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        model = make_model(folder / "model")
        bare = EngineArm(model, size, options.in_process)
        ray.init(
            address="local", num_cpus=8, include_dashboard=False, log_to_driver=False, _temp_dir=f"{scratch}/ray",
            object_store_memory=512 << 20,
        )  # fmt: skip
        quiet_libraries()
        stage = StageArm(model, size, waves + 1, folder, options.in_flight)
        bare.wait()
        mine = psutil.Process()
        arms: dict[str, tuple[Any, Callable[[], Times]]] = {
            "engine": (bare, lambda: processor_times(bare.tree)),
            "stage": (stage, lambda: processor_times(mine, bare.tree)),
        }
        sums: dict[str, Counter[str]] = {name: Counter() for name in arms}
        limits: list[int] = []
        for wave in range(waves + 1):
            for name in list(arms) if wave % 2 else reversed(arms):
                arm, times = arms[name]
                before = times()
                done = {**arm.run(wave), "cpu": spent(before, times())}
                print(
                    f"wave {wave} {name}: {done['tokens']} tokens in {done['seconds']:.2f} s, "
                    f"{done['tokens'] / done['seconds']:,.0f} tok/s, {done['cpu']:.1f} s of processor time"
                    f"{'' if wave else ' (warm-up, not counted)'}",
                    flush=True,
                )
                if wave:
                    sums[name].update({key: done[key] for key in ("seconds", "tokens", "cpu")})
                limits = done.get("limits", limits)
        bare.close()
        stage.thread.join()
        ray.shutdown()
    engine, ours = sums["engine"], sums["stage"]
    rates = {name: done["tokens"] / done["seconds"] for name, done in sums.items()}
    print(
        json.dumps(
            {
                "benchmark": "generate_overhead",
                "quick": options.quick,
                "engine_in_process": options.in_process,
                "max_num_seqs": limits[0],
                "max_num_batched_tokens": limits[1],
                "engine_tokens_per_s": round(rates["engine"], 1),
                "stage_tokens_per_s": round(rates["stage"], 1),
                "fraction_of_engine": round(rates["stage"] / rates["engine"], 4),
                "engine_cpu_s_per_1k_tokens": round(1000 * engine["cpu"] / engine["tokens"], 3),
                "stage_cpu_s_per_1k_tokens": round(1000 * ours["cpu"] / ours["tokens"], 3),
                "same_number_of_tokens": engine["tokens"] == ours["tokens"],
            }
        )
    )


if __name__ == "__main__":
    main()
