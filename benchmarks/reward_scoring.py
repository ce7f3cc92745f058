"""Reward scoring: a column of rewards through Ray Data, the same model in a bare loop, and transformers over padded batches.

    python benchmarks/reward_scoring.py [--quick] [--rows N] [--hidden D] [--layers L]

Texts have long-tailed lengths: log-normal, their median 60 tokens, sigma 1.1, none above 2,000. Three ways to give each a number:

    ours     `redi_ray.stages.rewards.reward_samples`: an actor that reads Parquet, tokenises, packs, scores, and writes a column
    bare     the same tokenising, packs and model in a loop in a process of its own, its rows in memory, nothing written
    padded   transformers' classification class over batches of texts in their order, padded to the longest of each

Each way runs in a process of its own with one thread. Start-up (the process, the model, Ray's actor) is left out on all sides
by scoring twice, a part and all, and taking the difference: `seconds` are those of the further rows. The sides take turns,
three times, and the medians are compared. `stage_over_bare` is rows per second of ours over the bare loop's;
`packs_over_padded` that of the bare loop over padded batches. The values of all three are compared. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import torch

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.reward_objectives import OutcomeBceObjective
from redi_ray.config.scorers import RewardScorer
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.modeling.export import export_policy
from redi_ray.modeling.rewards import load_reward_policy, record_values
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import character_tokenizer, load_tokenizer
from redi_ray.schemas import VERIFIED_TRACE
from redi_ray.stages.rewards import Rewarding, RewardShard, reward_samples, sigmoid
from redi_ray.store import parquet
from redi_ray.text.prompts import to_messages
from redi_ray.text.spans import own_weights
from redi_ray.text.turns import encode_turns

MEDIAN, SIGMA, LONGEST = 60, 1.1, 2000
ROWS_PER_SHARD = 256
RUNS = 3
ALPHABET = "0123456789+=\n "
TOKENS_PER_PACK = 4096


@dataclass
class Architecture:
    """Of the model that is scored with."""

    hidden_size: int
    num_layers: int
    num_heads: int = 4
    num_kv_heads: int = 4
    intermediate_size: int = 512
    max_position_embeddings: int = 4096
    seed: int = 0


def make_rows(count: int) -> list[dict[str, Any]]:
    """Samples of long-tailed lengths."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(np.log(MEDIAN), SIGMA, count), 4, LONGEST).astype(int)
    none = {name: None for name in VERIFIED_TRACE.names}
    return [
        {
            **none,
            "problem_id": f"p{n}",
            "problem": "".join(draw.choice(list("0123456789+"), 12)),
            "trace_id": f"p{n}#0",
            "sample_index": 0,
            "completion": "".join(draw.choice(list(ALPHABET.strip()), length)),
            "finish_reason": "stop",
            "verdict": "correct",
            "verdict_by": [],
        }
        for n, length in enumerate(lengths.tolist())
    ]


def make_model(folder: Path, hidden: int, layers: int) -> str:
    """A reward model with random weights, exported as trainings do; its folder."""
    tokenizer = character_tokenizer(ALPHABET)
    architecture = Architecture(hidden, layers, intermediate_size=4 * hidden)
    save_scratch_model(architecture, tokenizer, folder / "start")
    policy = load_reward_policy(str(folder / "start"), ModelOverrides(), OutcomeBceObjective(head_init="normal"))
    record_values(policy.model.config, "outcome_bce", "sigmoid", at_last=True)
    export_policy(policy, folder / "model", tokenizer=tokenizer)
    return str(folder / "model")


def work_of(folder: Path, part: str) -> Rewarding:
    return Rewarding(
        samples=str(folder / part),
        out_uri=str(folder / "out" / f"{part}-{time.monotonic_ns()}"),
        model=str(folder / "model"),
        settings=RewardScorer(name="reward", model=str(folder / "model")),
        prompt=PromptSettings(),
        overrides=ModelOverrides(),
        train=TrainSettings(tokens_per_pack=TOKENS_PER_PACK),
    )


def write_shards(folder: Path, rows: list[dict[str, Any]]) -> None:
    for number, first in enumerate(range(0, len(rows), ROWS_PER_SHARD)):
        table = pa.Table.from_pylist(rows[first : first + ROWS_PER_SHARD], schema=VERIFIED_TRACE)
        parquet.write_table(str(folder / f"part-{number:05d}.parquet"), table)


def ours(folder: Path, part: str) -> tuple[float, list[float]]:
    """Seconds of the stage, and the values."""
    how = work_of(folder, part)
    names = sorted(path.name for path in (folder / part).glob("*.parquet"))
    began = time.perf_counter()
    reward_samples(names, how, TrainerSettings(num_workers=1, cpus_per_worker=1))
    seconds = time.perf_counter() - began
    column = parquet.read_tables([f"{how.out_uri}/column/{name}" for name in names], ["value"])
    return seconds, [value for table in column for value in table["value"].to_pylist()]


def bare(folder: Path, rows: list[dict[str, Any]], state: dict[str, Any]) -> tuple[float, list[float]]:
    """The same without Ray and without files."""
    from redi_ray.data.curate.work import Drops

    shard = state.setdefault("shard", RewardShard(work_of(folder, "all")))
    began, found = time.perf_counter(), []
    for first in range(0, len(rows), ROWS_PER_SHARD):
        found += shard.values(rows[first : first + ROWS_PER_SHARD], Counter(), Drops())
    return time.perf_counter() - began, [row["value"] for row in found]


def padded(
    folder: Path, rows: list[dict[str, Any]], state: dict[str, Any], batch: int = 16
) -> tuple[float, list[float]]:
    """transformers' own class, batch after batch."""
    from transformers import AutoModelForSequenceClassification

    if not state:
        model = AutoModelForSequenceClassification.from_pretrained(folder / "model").eval()
        state |= {"model": model, "tokenizer": load_tokenizer(str(folder / "model"), False)}
    model, tokenizer, prompt = state["model"], state["tokenizer"], PromptSettings()
    began, found = time.perf_counter(), list[float]()
    for first in range(0, len(rows), batch):
        encoded = [
            encode_turns(
                to_messages(row["problem"], prompt),
                [{"role": "assistant", "content": row["completion"]}],
                tokenizer,
                prompt,
                finished=True,
            )
            for row in rows[first : first + batch]
        ]
        assert all(own_weights(one).any() for one in encoded)
        pad = model.config.pad_token_id
        ids = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(one.input_ids) for one in encoded], batch_first=True, padding_value=pad
        )
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=(ids != pad).long(), use_cache=False).logits[:, 0]
        found += [sigmoid(float(value)) for value in logits]
    return time.perf_counter() - began, found


def side(name: str, folder: Path) -> None:
    """One side, in this process: print the seconds of the further rows of each run, and leave the values."""
    torch.set_num_threads(1)
    rows = json.loads((folder / "rows.json").read_text())
    part, state = rows[: len(rows) // 4], dict[str, Any]()
    if name == "ours":
        import ray

        with tempfile.TemporaryDirectory(prefix="rs", dir="/tmp", ignore_cleanup_errors=True) as scratch:
            ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, _temp_dir=scratch)
            few, every = ours(folder, "part"), ours(folder, "all")
            ray.shutdown()
    else:
        run = bare if name == "bare" else padded
        few, every = run(folder, part, state), run(folder, rows, state)
    (folder / f"{name}.json").write_text(json.dumps(every[1]))
    print(json.dumps({"seconds": every[0] - few[0], "rows": len(rows) - len(part), "start": few[0]}))


def take_turns(folder: Path) -> dict[str, list[float]]:
    """Seconds of each side's runs."""
    seconds: dict[str, list[float]] = {"ours": [], "bare": [], "padded": []}
    for number in range(RUNS):
        for name, runs in seconds.items():
            command = [sys.executable, __file__, "--side", name, "--folder", str(folder)]
            said = subprocess.run(command, capture_output=True, text=True, check=False)
            if said.returncode:
                raise SystemExit(f"{name} failed:\n{said.stderr[-3000:]}")
            told = json.loads(said.stdout.splitlines()[-1])
            runs.append(told["seconds"])
            print(f"run {number}: {name:6} {told['rows'] / told['seconds']:7.1f} rows/s", flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rows of a smaller model")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--hidden", type=int)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side(options.side, options.folder)
        return
    rows = make_rows(options.rows or (1024 if options.quick else 8192))
    with tempfile.TemporaryDirectory(prefix="reward-scoring") as root:
        folder = Path(root)
        make_model(folder, options.hidden or (128 if options.quick else 512), options.layers)
        (folder / "rows.json").write_text(json.dumps(rows))
        write_shards(folder / "all", rows)
        write_shards(folder / "part", rows[: len(rows) // 4])
        seconds = take_turns(folder)
        values = {name: np.array(json.loads((folder / f"{name}.json").read_text())) for name in seconds}
    lengths = np.array([len(row["completion"]) for row in rows])
    wide = sum(
        int(lengths[first : first + 16].max()) * len(lengths[first : first + 16]) for first in range(0, len(rows), 16)
    )
    medians = {name: statistics.median(runs) for name, runs in seconds.items()}
    result = {
        "benchmark": "reward_scoring",
        "quick": options.quick,
        "rows": len(rows),
        "stage_over_bare": round(medians["bare"] / medians["ours"], 3),
        "packs_over_padded": round(medians["padded"] / medians["bare"], 2),
        "padded_over_real_tokens": round(wide / int(lengths.sum()), 2),
        "largest_difference": float(max(np.abs(values[name] - values["bare"]).max() for name in ("ours", "padded"))),
        "seconds": {name: [round(one, 2) for one in runs] for name, runs in seconds.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
