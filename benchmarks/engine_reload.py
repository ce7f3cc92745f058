"""What a search saves where one vLLM engine reloads weights instead of starting anew for each checkpoint.

    python benchmarks/engine_reload.py [--quick] [--device cpu|gpu] [--models N]

Checkpoints of one architecture with different random weights go through one engine (`redi_ray/data/sample/engine.py`), each
reload checked against transformers. Side by side: the same checkpoints with a fresh engine for each. The last line
is JSON: `seconds_per_swap` and `seconds_per_start` (medians, the first start left out), `reload_over_start` their ratio
(null where no reload passed the check, as with vLLM's CPU build, whose packed weights a reload does not reach), `how` each
checkpoint came into the engine, `same_tokens` whether both ways sampled the same.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

from redi_ray.config.experiment import Architecture
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample.engine import Engine
from redi_ray.data.sample.engines import environment
from redi_ray.data.sample.samples import REQUEST, Sampling
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import character_tokenizer, load_tokenizer
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import prompt_ids

PROMPT = PromptSettings()
HEAD_SIZE = 32
"""The smallest that vLLM's CPU build computes."""
PROBLEMS = [f"{number}+{number + 1}*3" for number in range(8)]


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
        {name: {"problem_id": f"p{n}", "problem": text, "sample_index": 0}.get(name) for name in REQUEST.names}
        for n, text in enumerate(PROBLEMS)
    ]
    return pa.Table.from_pylist(rows, schema=REQUEST)


def visit(models: list[str], settings: EngineSettings, reload: bool) -> tuple[list[dict[str, Any]], list[list[str]]]:
    """Each model in turn: how it came into the engine, and what it sampled."""
    engine, swaps, texts = Engine(), [], []
    try:
        for model in models:
            engine.can_reload = engine.can_reload and reload
            tokenizer = load_tokenizer(model)
            asked = [prompt_ids(to_messages(problem, PROMPT), tokenizer, PROMPT) for problem in PROBLEMS[:4]]
            swap = engine.use(model, settings, asked).result()
            swaps.append({"how": swap.how, "seconds": swap.seconds})
            sampled = engine.submit(requests(), Sampling(0.7, 1.0, 32, 0), PROMPT).result()
            texts.append(sampled["completion"].to_pylist())
    finally:
        engine.close().result()
    return swaps, texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two models, a reload tried once")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=128, help=f"width of the models, a multiple of {HEAD_SIZE}")
    told = parser.parse_args()
    logging.getLogger("redi_ray").setLevel(logging.ERROR)
    settings = EngineSettings(
        device=told.device, dtype="float32" if told.device == "cpu" else "auto", max_model_len=128
    )
    os.environ |= {**environment(settings), "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        models = make_models(Path(folder), 2 if told.quick else told.models, told.hidden)
        swapped, with_reload = visit(models, settings, reload=True)
        started, without = visit(models, settings, reload=False) if not told.quick else (swapped, with_reload)
    reloads = [swap["seconds"] for swap in swapped[1:] if swap["how"] == "reloaded"]
    starts = [swap["seconds"] for swap in [*swapped, *started][1:] if swap["how"] == "started"]
    swap_seconds = statistics.median(reloads) if reloads else None
    start_seconds = statistics.median(starts) if starts else swapped[0]["seconds"]
    result = {
        "seconds_per_swap": swap_seconds,
        "seconds_per_start": start_seconds,
        "reload_over_start": None if swap_seconds is None else round(swap_seconds / start_seconds, 3),
        "how": [swap["how"] for swap in swapped],
        "same_tokens": with_reload == without,
        "device": told.device,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
