"""Long pairs from Parquet to the first batch plan: does any process hold the corpus?

    python benchmarks/corpus_memory.py              200,000 pairs of about 1,000 tokens a side (4 GB of arrays and parts on disk)
    python benchmarks/corpus_memory.py --quick      1,000
    python benchmarks/corpus_memory.py --pairs N --tokens T --data-folder FOLDER
    python benchmarks/corpus_memory.py --copies K   a K-th of the pairs is tokenised, and its parts stand there K times under
                                                    other ids: the join and the ranks see all 200,000 in less time

Made-up pairs, a character a token, are written to Parquet a batch at a time. A driver in a process of its own then runs the stage
that tokenises them, and what two ranks of a training do before their first step: read the arrays, hold their record against them,
choose what fits, plan the batches, read the first one. Every process is looked at four times a second.

Three sizes of each: `own` is anonymous memory (RssAnon), which nothing else can give back; `uss` has in addition pages of files
that this process alone maps, which the system takes back when it needs them; `rss` counts what is shared in full. The last line
is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from redi_ray.config.load import load_config
from redi_ray.config.objectives import RediObjective
from redi_ray.config.training import TrainSettings
from redi_ray.schemas import PAIR
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Manifest, Stage

FILES = 4
BATCH = 1000
"""Pairs made at a time."""
ROW_GROUP = 20_000
"""Pairs of a row group: some of those of a task are larger than the task."""
LETTERS = np.frombuffer(b"0123456789+-*/= \n", np.uint8)
RANKS = 2


# ---------------------------------------------------------------------------------------------------- what goes in


def texts(rng: np.random.Generator, count: int, tokens: int) -> list[str]:
    """Answers of about so many characters, from half to one and a half times as long."""
    sizes = rng.integers(tokens // 2, tokens + tokens // 2, count)
    letters = LETTERS[rng.integers(0, len(LETTERS), int(sizes.sum()))].tobytes().decode()
    ends = np.cumsum(sizes)
    return [f"<think>\n{letters[end - size : end]}</think>" for end, size in zip(ends, sizes, strict=True)]


def batches(pairs: int, tokens: int) -> Iterator[pa.Table]:
    """The pairs, their ids in disorder."""
    rng, order = np.random.default_rng(0), np.random.default_rng(1).permutation(pairs)
    for start in range(0, pairs, BATCH):
        ids = [f"{number:09d}" for number in order[start : start + BATCH].tolist()]
        chosen, rejected = (texts(rng, len(ids), tokens) for _ in range(2))
        rows = [
            {
                "pair_id": name,
                "problem_id": name,
                "prompt": [{"role": "user", "content": f"{name}+1="}],
                "chosen": [{"role": "assistant", "content": good}],
                "rejected": [{"role": "assistant", "content": bad}],
            }
            for name, good, bad in zip(ids, chosen, rejected, strict=True)
        ]
        yield pa.Table.from_pylist(rows, schema=PAIR)


def write_pairs(folder: Path, pairs: int, tokens: int) -> None:
    """FILES files with row groups of ROW_GROUP pairs, one of which is in memory."""
    folder.mkdir(parents=True)
    made, size = batches(pairs, tokens), max(1, min(ROW_GROUP, pairs // FILES) // BATCH)
    with ExitStack() as stack:
        files = [
            pq.ParquetWriter(folder / f"part-{number}.parquet", PAIR, compression="zstd") for number in range(FILES)
        ]
        writers = [stack.enter_context(file) for file in files]
        for number in itertools.count():
            if not (held := list(itertools.islice(made, size))):
                return
            writers[number % FILES].write_table(pa.concat_tables(held), row_group_size=ROW_GROUP)


# ------------------------------------------------------------------------------------------------------- the driver


def drive(folder: Path, pairs: int, copies: int) -> None:
    """In a process of its own: the stage, and the ranks' beginning."""
    from redi_ray.cluster.runtime import ray_connection
    from redi_ray.stages.remote import all_remotely, remotely
    from redi_ray.stages.sequences import sequences
    from redi_ray.store import storage

    run = Run.of(load_config("configs/demo.yaml", [f"storage.root={folder}/runs", "resources.curate_workers=2"]))
    model = folder / "model"
    base = Stage(run.uri, "checkpoints/base", {}, {}).publish(facts={"export": str(model)})
    curated = Manifest("curated", "made-up", str(folder), {}, {}, counts={"pairs": pairs})
    with ray_connection(run.config.resources.ray):
        remotely(save_model, str(model), run.config.model.init.architecture)
        started = time.monotonic()
        with copied_parts(copies):
            made = sequences(run, "pairs", curated, base, TrainSettings())
        assert made.counts["groups"] == pairs * copies, made.counts
        tokenised = time.monotonic()
        arrays = storage.join(made.uri, "arrays")
        calls = [(arrays, str(model), str(folder / f"out-{rank}")) for rank in range(RANKS)]
        steps = list(all_remotely(set_up, calls, at_once=RANKS))
    told = {"tokens": made.counts["tokens"], "steps": steps[0], "tokenise_seconds": round(tokenised - started, 1)}
    print(json.dumps(told | {"set_up_seconds": round(time.monotonic() - tokenised, 1)}))


@contextmanager
def copied_parts(copies: int) -> Iterator[None]:
    """Inside the block the parts that a join is given are there so many times."""
    from redi_ray.stages import sequences

    join = sequences.join_parts

    def join_all(parts: list[Any], how: Any) -> Any:
        return join_copies(join, copies, parts, how)

    sequences.join_parts = join_all if copies > 1 else join
    try:
        yield
    finally:
        sequences.join_parts = join


def join_copies(join: Any, copies: int, parts: list[Any], how: Any) -> Any:
    every = [part for part in parts for _ in range(copies)]
    every = [replace(part, name=f"{part.name}-{number % copies}") for number, part in enumerate(every)]
    for part in every:
        name, number = part.name.rsplit("-", 1)
        made, copy = Path(how.place(replace(part, name=name))), Path(how.place(part))
        copy.mkdir(parents=True)
        for file in ("done.json", "tokens.bin"):
            os.link(made / file, copy / file)
        table = pq.read_table(made / "groups.parquet")
        ids = pa.array([f"{name}-{number}" for name in table["id"].to_pylist()])
        pq.write_table(table.set_column(0, table.schema.field(0), ids), copy / "groups.parquet")
    return join(every, how)


def save_model(folder: str, architecture: Any) -> None:
    """Loads torch, which the driver does without."""
    from redi_ray.modeling.scratch import save_scratch_model
    from redi_ray.modeling.tokenizer import character_tokenizer

    save_scratch_model(architecture, character_tokenizer(LETTERS.tobytes().decode()), folder)


def set_up(arrays: str, model: str, out: str) -> int:
    """What a rank does before its first step, and the reading of that step's tokens; how many steps there will be."""
    from redi_ray.config.training import ModelOverrides
    from redi_ray.train.batches import plan_batches
    from redi_ray.train.distributed import Distributed
    from redi_ray.train.on_ray.inputs import fingerprint, read_inputs, refuse_what_was_made_otherwise
    from redi_ray.train.on_ray.orders import Orders

    settings = TrainSettings(max_length=1400, on_too_long="drop")
    orders = Orders(
        model_path=model,
        overrides=ModelOverrides(max_position_embeddings=4096),
        sequences_uri=arrays,
        mismatched_uri=None,
        objective=RediObjective(),
        settings=settings,
        out_uri=out,
        name="corpus",
        threads=1,
        trackers=(),
        watch_nodes=False,
    )
    store, _, _, _ = read_inputs(orders, model, arrays, None)
    refuse_what_was_made_otherwise(orders, model, arrays, None, Distributed())
    fingerprint(orders, [Path(arrays)], Distributed())
    plan = plan_batches(store, settings, RANKS, orders.objective)
    first = sum(int(store.tokens[store.span(int(number))].sum()) for number in plan[0].sequences)
    assert first
    assert store.scored.all()
    return plan.total_steps


# --------------------------------------------------------------------------------------------------------- watching


@dataclass
class Watch:
    """Peaks of every process below one, by its name, bytes: [own, uss, rss]."""

    root: psutil.Process
    peaks: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0]))
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.ended.wait(0.25):
            try:
                processes = [self.root, *self.root.children(recursive=True)]
            except psutil.Error:
                return
            for process in processes:
                try:
                    self._see(process)
                except (psutil.Error, OSError, IndexError, KeyError):
                    continue  # it ended between two looks

    def _see(self, process: psutil.Process) -> None:
        name = "driver" if process == self.root else process.cmdline()[0].rsplit("/", 1)[-1]
        status = Path(f"/proc/{process.pid}/status").read_text()
        own = int(status.split("RssAnon:")[1].split()[0]) << 10
        memory = process.memory_full_info()
        seen = [own, memory.uss, memory.rss]
        self.peaks[name] = [max(before, now) for before, now in zip(self.peaks[name], seen, strict=True)]


def measure(folder: Path, pairs: int, tokens: int, copies: int) -> dict[str, Any]:
    started, pairs = time.monotonic(), pairs // copies
    write_pairs(folder / "pairs", pairs, tokens)
    size = sum(path.stat().st_size for path in (folder / "pairs").iterdir())
    print(f"{pairs:,} pairs written in {time.monotonic() - started:.0f} s, {size >> 20} MB of Parquet", flush=True)
    command = [sys.executable, __file__, "--drive", str(folder), "--pairs", str(pairs), "--copies", str(copies)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watch = Watch(psutil.Process(process.pid))
    thread = threading.Thread(target=watch.run, daemon=True)
    thread.start()
    output, _ = process.communicate()
    watch.ended.set()
    thread.join()
    if process.returncode:
        raise RuntimeError(f"the driver ended with {process.returncode}:\n{output[-4000:]}")
    print(f"{'process':40} {'own':>7} {'uss':>7} {'rss':>7}  MB")
    for name, peaks in sorted(watch.peaks.items(), key=lambda item: -item[1][0]):
        print(f"{name[:40]:40} " + " ".join(f"{peak >> 20:7,}" for peak in peaks))
    largest = [max(peaks[which] for peaks in watch.peaks.values()) >> 20 for which in range(3)]
    sizes = dict(zip(("largest_own_mb", "largest_uss_mb", "largest_rss_mb"), largest, strict=True))
    peaks = {name: [peak >> 20 for peak in peaks] for name, peaks in watch.peaks.items()}
    told = json.loads(output.strip().splitlines()[-1])
    return {
        "pairs": pairs * copies,
        "tokenised": pairs,
        **told,
        "array_mb": told["tokens"] * 5 >> 20,
        **sizes,
        "peaks_mb": peaks,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 pairs")
    parser.add_argument("--pairs", type=int, default=200_000)
    parser.add_argument("--tokens", type=int, default=1000, help="of a side, about")
    parser.add_argument("--copies", type=int, default=1, help="how often the parts of the tokenised pairs stand there")
    parser.add_argument("--data-folder", help="where everything goes; a temporary folder by default")
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        drive(options.drive, options.pairs, options.copies)
        return
    pairs = 1000 if options.quick else options.pairs
    with tempfile.TemporaryDirectory(prefix="corpus", dir=options.data_folder) as scratch:
        measured = measure(Path(scratch), pairs, options.tokens, options.copies)
        result = {"benchmark": "corpus_memory", "quick": options.quick, **measured}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
