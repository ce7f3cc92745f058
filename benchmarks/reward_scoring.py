"""Reward scoring: a column of rewards through Ray Data, the same model in a bare loop, and transformers over padded batches.

    python benchmarks/reward_scoring.py [--quick] [--rows N] [--hidden D] [--layers L]

Texts have long-tailed lengths: log-normal, their median 60 tokens, sigma 1.1, none above 2,000. Three ways to give each a number:

    ours     `redi_ray.stages.rewards.reward_samples`: an actor that reads Parquet, tokenises, packs, scores, and writes a column
    bare     the same tokenising, packs and model in a loop in a process of its own, its rows in memory, nothing written
    padded   transformers' classification class over batches of texts in their order, padded to the longest of each

Each way runs in a process of its own with one thread, and notes when it has finished each shard of 256 rows. `seconds` are
those between the first shard's end and the last one's, which leaves out start-up (the process, the model, Ray's actor) on all
sides. The sides take turns, three times (once with --quick), and the medians are compared. `stage_over_bare` is rows per second
of ours over the bare loop's; `packs_over_padded` that of the bare loop over padded batches. The values of all three are compared.
The last line is JSON.
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
from redi_ray.text.turns import encode_turns

MEDIAN, SIGMA, LONGEST = 60, 1.1, 2000
ROWS_PER_SHARD = 256
BATCH = 16
"""Texts of a padded one."""
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
            "completion": "<think>\n" + "".join(draw.choice(list(ALPHABET.strip()), length)),
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


def work_of(folder: Path) -> Rewarding:
    return Rewarding(
        samples=str(folder / "in"),
        out_uri=str(folder / "out" / str(time.monotonic_ns())),
        model=str(folder / "model"),
        settings=RewardScorer(name="reward", model=str(folder / "model")),
        prompt=PromptSettings(),
        overrides=ModelOverrides(),
        train=TrainSettings(tokens_per_pack=TOKENS_PER_PACK),
    )


def write_shards(folder: Path, rows: list[dict[str, Any]]) -> None:
    for number, part in enumerate(shards_of(rows)):
        table = pa.Table.from_pylist(part, schema=VERIFIED_TRACE)
        parquet.write_table(str(folder / f"part-{number:05d}.parquet"), table)


def shards_of(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [rows[first : first + ROWS_PER_SHARD] for first in range(0, len(rows), ROWS_PER_SHARD)]


Scored = tuple[list[float], list[float]]
"""When each shard was finished, in seconds, in the order of that; and all values, in the order of the rows."""


def ours(folder: Path) -> Scored:
    """The stage. The mark of a finished shard is written last."""
    import ray

    how = work_of(folder)
    names = sorted(path.name for path in (folder / "in").glob("*.parquet"))
    with tempfile.TemporaryDirectory(prefix="rs", dir="/tmp", ignore_cleanup_errors=True) as scratch:
        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, _temp_dir=scratch)
        reward_samples(names, how, TrainerSettings(num_workers=1, cpus_per_worker=1))
        ray.shutdown()
    ends = sorted(Path(how.mark(name)).stat().st_mtime_ns / 1e9 for name in names)
    column = parquet.read_tables([f"{how.out_uri}/column/{name}" for name in names], ["value"])
    return ends, [value for table in column for value in table["value"].to_pylist()]


def bare(folder: Path, rows: list[dict[str, Any]]) -> Scored:
    """The same without Ray and without files."""
    from redi_ray.data.curate.work import Drops

    shard, ends, found = RewardShard(work_of(folder)), list[float](), list[float]()
    for part in shards_of(rows):
        found += [row["value"] for row in shard.values(part, Counter(), Drops())]
        ends.append(time.perf_counter())
    return ends, found


def padded(folder: Path, rows: list[dict[str, Any]]) -> Scored:
    """transformers' own class, batch after batch."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder / "model").eval()
    tokenizer, ends, found = load_tokenizer(str(folder / "model"), False), list[float](), list[float]()
    for part in shards_of(rows):
        for first in range(0, len(part), BATCH):
            found += score_padded(model, tokenizer, part[first : first + BATCH])
        ends.append(time.perf_counter())
    return ends, found


def score_padded(model: Any, tokenizer: Any, rows: list[dict[str, Any]]) -> list[float]:
    """The values of one batch, padded to its longest."""
    prompt, pad = PromptSettings(), model.config.pad_token_id
    encoded = [
        encode_turns(
            to_messages(row["problem"], prompt),
            [{"role": "assistant", "content": row["completion"]}],
            tokenizer,
            prompt,
            finished=True,
        )
        for row in rows
    ]
    ids = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(one.input_ids) for one in encoded], batch_first=True, padding_value=pad
    )
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=(ids != pad).long(), use_cache=False).logits[:, 0]
    return [sigmoid(float(value)) for value in logits]


def side(name: str, folder: Path) -> None:
    """One side, in this process: print the seconds behind its first shard, and leave the values."""
    torch.set_num_threads(1)
    rows = json.loads((folder / "rows.json").read_text())
    ends, values = ours(folder) if name == "ours" else (bare if name == "bare" else padded)(folder, rows)
    (folder / f"{name}.json").write_text(json.dumps(values))
    print(json.dumps({"seconds": ends[-1] - ends[0], "rows": len(rows) - ROWS_PER_SHARD}))


def take_turns(folder: Path, turns: int) -> dict[str, list[float]]:
    """Seconds of each side's runs."""
    seconds: dict[str, list[float]] = {"ours": [], "bare": [], "padded": []}
    for number in range(turns):
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
    parser.add_argument("--quick", action="store_true", help="fewer rows, a narrower model, one turn of each side")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--hidden", type=int)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side(options.side, options.folder)
        return
    hidden = options.hidden or (128 if options.quick else 256)
    rows = make_rows((options.rows or (1024 if options.quick else 3072)) // ROWS_PER_SHARD * ROWS_PER_SHARD)
    with tempfile.TemporaryDirectory(prefix="reward-scoring") as root:
        folder = Path(root)
        make_model(folder, hidden, options.layers)
        (folder / "rows.json").write_text(json.dumps(rows))
        write_shards(folder / "in", rows)
        seconds = take_turns(folder, 1 if options.quick else RUNS)
        values = {name: np.array(json.loads((folder / f"{name}.json").read_text())) for name in seconds}
    lengths = np.array([len(row["completion"]) for row in rows])
    wide = int(lengths.reshape(-1, BATCH).max(1).sum()) * BATCH
    medians = {name: statistics.median(runs) for name, runs in seconds.items()}
    result = {
        "benchmark": "reward_scoring",
        "quick": options.quick,
        "rows": len(rows),
        "hidden": hidden,
        "stage_over_bare": round(medians["bare"] / medians["ours"], 3),
        "packs_over_padded": round(medians["padded"] / medians["bare"], 2),
        "padded_over_real_tokens": round(wide / int(lengths.sum()), 2),
        "largest_difference": float(max(np.abs(values[name] - values["bare"]).max() for name in ("ours", "padded"))),
        "seconds": {name: [round(one, 2) for one in runs] for name, runs in seconds.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
