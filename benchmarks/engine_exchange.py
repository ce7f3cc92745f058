"""What a stage pays for the model that it samples from: an engine's process kept warm, against a process for every model.

    python benchmarks/engine_exchange.py [--quick] [--device cpu|gpu] [--models N]

Models of one architecture with different random weights are sampled from in turn, eight problems each, as the stages of a run
do: once with the process that the run keeps, once with a new process for each, as stages without one have. The last line is
JSON: `seconds_new_process` and `seconds_exchange` (medians, from the lease until the engine has the model; the first start
counts among the new processes), `exchange_over_new` their ratio, `with_samples` both until all is drawn, `same_samples` whether
both ways drew the same.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from redi_ray.cluster.runtime import ray_connection
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings, RaySettings
from redi_ray.config.student import Architecture
from redi_ray.data.sample import engine_pool
from redi_ray.data.sample.engine_actor import Order
from redi_ray.data.sample.samples import REQUEST, Sampling
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import character_tokenizer

HEAD_SIZE = 32
"""The smallest that vLLM's CPU build computes."""
SAMPLING = Sampling(0.7, 1.0, 32, 0)


def make_models(folder: Path, count: int, hidden: int) -> list[str]:
    """Folders of models that differ in their weights alone."""
    tokenizer = character_tokenizer("0123456789+-*=<>/\\{}abcdefghijklmnopqrstuvwxyz \n")
    paths = [folder / f"model-{seed}" for seed in range(count)]
    for seed, path in enumerate(paths):
        sizes = Architecture(hidden_size=hidden, num_heads=hidden // HEAD_SIZE, intermediate_size=4 * hidden, seed=seed)
        save_scratch_model(sizes, tokenizer, path)
    return [str(path) for path in paths]


def requests() -> pa.Table:
    rows = [
        {
            name: {"problem_id": f"p{n}", "problem": f"{n}+{n + 1}*3", "sample_index": 0}.get(name)
            for name in REQUEST.names
        }
        for n in range(8)
    ]
    return pa.Table.from_pylist(rows, schema=REQUEST)


def visit(model: str, settings: EngineSettings) -> dict[str, Any]:
    """A lease for a model: seconds until its engine has it, seconds until all is drawn, and what was drawn."""
    started = time.monotonic()
    with engine_pool.lease(settings) as (number, (engine,)):
        order = Order(number, model, settings, SAMPLING, PromptSettings())
        ray.get(engine.prepare.remote(order))
        ready = time.monotonic() - started
        drawn = ray.get(engine.answer.remote(order, requests()))["completion"].to_pylist()
        seconds = time.monotonic() - started
    return {"ready": ready, "seconds": seconds, "drawn": drawn}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two models")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=128, help=f"width of the models, a multiple of {HEAD_SIZE}")
    told = parser.parse_args()
    logging.getLogger("redi_ray").setLevel(logging.ERROR)
    on_cpu = told.device == "cpu"
    settings = EngineSettings(device=told.device, dtype="float32" if on_cpu else "auto", max_model_len=128)
    with tempfile.TemporaryDirectory() as folder, ray_connection(RaySettings(object_store_gib=0.2)):
        models = make_models(Path(folder), 2 if told.quick else told.models, told.hidden)
        kept, anew = [], []
        for model in models:
            kept.append(visit(model, settings))
        for model in models if not told.quick else ():
            engine_pool.end_idle()
            anew.append(visit(model, settings))
    starts = [*kept[:1], *anew]
    median = lambda visits, name: round(statistics.median(visit[name] for visit in visits), 2)  # noqa: E731
    result = {
        "seconds_new_process": median(starts, "ready"),
        "seconds_exchange": median(kept[1:], "ready"),
        "exchange_over_new": round(median(kept[1:], "ready") / median(starts, "ready"), 3),
        "with_samples": [median(starts, "seconds"), median(kept[1:], "seconds")],
        "same_samples": all(a["drawn"] == b["drawn"] for a, b in zip(kept, anew, strict=False)),
        "device": told.device,
        "models": len(models),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
