"""Do problems in other words go, and do others stay? And a million embeddings on two cores.

    python benchmarks/semantic_duplicates.py [--quick] [--data FOLDER] [--model FOLDER] [--rows N] [--width N] [--only PART]

`quality`: half of GSM8K's test set and of MATH-500, and the 129 GSM8K problems of MathCheck-GSM. Planted are MathCheck's 129
paraphrases, by a language model, and, as what must stay, its 129 changes of scenario, which have nearly all words of a problem
and ask another question. All go through the passes of `curate` with `duplicates.semantic` alone, by each embedder: words, and
the model of `--model`, a folder of a sentence-embedding model. Recall: planted paraphrases of which one of the pair went.
Precision: dropped problems that are one of such a pair. Every
threshold is one curation.

`halves`: the same on two halves of all these problems apart, groups of variants staying together. The threshold with the largest
F1 on one is measured on the other, and the other way round.

`million`: vectors in clusters, one in a hundred a planted near copy of an earlier one. Seconds of the processor, the process's
peak memory, and how many planted copies go and others stay; then a thousand rows that stand for all, by clusters, by
farthest-first, and by chance.

The last line is JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from redi_ray.config.curation import CurateConfig
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.curate.curate import Worker, make_curation, run_passes
from redi_ray.data.embed.leaders import find_leaders
from redi_ray.data.embed.spread import measures, select_rows
from redi_ray.modeling.tokenizer import train_bpe_tokenizer
from redi_ray.schemas import VERIFIED_TRACE
from redi_ray.store import parquet, storage
from redi_ray.text.wording import whole_key

THRESHOLDS = (0.7, 0.75, 0.8, 0.85)
FINE = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85)
CLUSTERS, COPIES, NOISE = 2000, 0.01, 0.02
THRESHOLD = 0.85

# ------------------------------------------------------------------------------------------------------ real problems


def load(data: Path, seed: int) -> dict[str, tuple[str, str]]:
    """Id -> (problem, answer): the halves, and MathCheck's groups as `<group>+<variant>`."""
    name = next((data / "steps_turns_rewards").glob("mathcheck_perturb*"))
    with gzip.open(name, "rt") as file:
        groups = [json.loads(line) for line in file]
    found = {f"{row['group_id']}+{row['variant']}": (row["problem"], str(row["answer"])) for row in groups}
    known = {whole_key(row["problem"]) for row in groups}
    chance = random.Random(seed)
    gsm8k = [
        row
        for row in json.loads((data / "benchmarks/rllm_gsm8k.json").read_text())
        if whole_key(row["problem"]) not in known
    ]
    with open(data / "benchmarks/prm800k_math500.jsonl") as file:
        math = [json.loads(line) for line in file]
    for source, rows in (("gsm8k", gsm8k), ("math500", math)):
        for number, row in enumerate(chance.sample(rows, len(rows) // 2)):
            found[f"{source}-{number}"] = row["problem"], str(row["answer"])
    return {key: value for key, value in found.items() if not key.endswith("+distractor")}


def drop(
    folder: Path, problems: dict[str, tuple[str, str]], config: dict[str, Any], like: Path | None = None
) -> dict[str, str]:
    """Problem -> why it went, of a curation of one right trace each. like: the folder of one of the same problems with the same
    embedder, whose vectors are taken."""
    rows = [
        {
            "problem_id": name,
            "problem": text,
            "answer": answer,
            "trace_id": f"{name}#0",
            "sample_index": 0,
            "completion": "so",
            "verdict": "correct",
            "verdict_by": [("label", "correct")],
        }
        for name, (text, answer) in problems.items()
    ]
    parquet.write_table(f"{folder}/in/part-0.parquet", pa.Table.from_pylist(rows, schema=VERIFIED_TRACE))
    curation = make_curation(
        [f"{folder}/in/part-0.parquet"],
        f"{folder}/out",
        CurateConfig.model_validate({"max_prompt_tokens": 10**6, **config}),
        tokenizer=str(folder.parent / "tokenizer"),
        prompt=PromptSettings(prefix=""),
    )
    for name in ("texts", "embedded") if like is not None else ():
        shutil.copytree(f"{like}/out/work/{name}", f"{folder}/out/work/{name}")
    for name in ("embedder.pickle", "fitted.json"):
        if like is not None and (like / "out" / "work" / name).is_file():
            shutil.copy(like / "out" / "work" / name, f"{folder}/out/work/{name}")
    worker = Worker(curation)

    def run(name: str, tasks: list[int]) -> Iterator[Counter[str]]:
        yield from (worker.work(name, task) for task in tasks)

    run_passes(curation, run, len(problems))
    tables = parquet.read_tables(storage.list_files(f"{folder}/out/dropped", ".parquet"))
    return {
        row["problem_id"]: row["detail"] for table in tables for row in table.to_pylist() if row["what"] == "problem"
    }


def judge(gone: dict[str, str], show: bool, problems: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Recall and precision of a curation."""
    groups = {name.partition("+")[0] for name in problems if "+" in name}
    pairs = {group: {f"{group}+seed", f"{group}+paraphrase"} for group in groups}
    found = sum(bool(pair & gone.keys()) for pair in pairs.values())
    right = 0
    for name, detail in gone.items():
        other = detail.removeprefix("of ").rpartition(", similarity")[0]
        planted = {name, other} == pairs.get(name.partition("+")[0])
        right += planted
        if show and not planted:
            print(f"  {detail.rpartition(' ')[2]} {problems[name][0][:110]!r} IS {problems[other][0][:110]!r}")
    return {
        "recall": round(found / len(groups), 3),
        "precision": round(right / max(1, len(gone)), 3),
        "dropped": len(gone),
        "scenarios_dropped": sum(name.endswith("+scenario") for name in gone),
    }


def embedders_of(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    model = {"model": {"name": "model", "path": str(options.model)}} if options.model else {}
    return {"words": {"name": "words"}, **model}


def quality(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    problems = load(options.data, options.seed)
    train_bpe_tokenizer([text for text, _ in problems.values()][:200], 1000).save_pretrained(str(folder / "tokenizer"))
    results: dict[str, Any] = {"problems": len(problems)}
    for name, embedder in embedders_of(options).items():
        for agree in ("answer", "numbers", "nothing"):
            for threshold in (0.75,) if options.quick or agree != "answer" else THRESHOLDS:
                semantic = {"threshold": threshold, "agree": agree}
                config = {"embedder": embedder, "duplicates": {"exact": False, "near": None, "semantic": semantic}}
                gone = drop(folder / f"{name}-{agree}-{threshold}", problems, config)
                show = agree == "answer" and threshold == 0.75
                found = results[f"{name}/{agree}/{threshold}"] = judge(gone, show, problems)
                print(f"{name} {agree} {threshold}: {found}", flush=True)
    return results


def halves(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    problems = load(options.data, options.seed)
    train_bpe_tokenizer([text for text, _ in problems.values()][:200], 1000).save_pretrained(str(folder / "tokenizer"))
    units = sorted({name.partition("+")[0] for name in problems})
    random.Random(options.seed).shuffle(units)
    first = set(units[::2])
    parts = [
        {name: one for name, one in problems.items() if (name.partition("+")[0] in first) is here}
        for here in (True, False)
    ]
    results: dict[str, Any] = {"problems": [len(part) for part in parts]}
    for embedder, settings in embedders_of(options).items():
        found: list[dict[float, dict[str, Any]]] = [{}, {}]
        thresholds = (0.75, 0.8) if options.quick else FINE
        for threshold in thresholds:
            semantic = {"threshold": threshold, "agree": "answer"}
            config = {"embedder": settings, "duplicates": {"exact": False, "near": None, "semantic": semantic}}
            for number, part in enumerate(parts):
                places = [folder / f"half-{number}-{embedder}-{one}" for one in (threshold, thresholds[0])]
                gone = drop(places[0], part, config, None if threshold == thresholds[0] else places[1])
                found[number][threshold] = judge(gone, False, part)
            print(f"{embedder} {threshold}: {[half[threshold] for half in found]}", flush=True)
        for chosen_on, measured_on in ((0, 1), (1, 0)):
            best = max(found[chosen_on], key=lambda threshold: f1(found[chosen_on][threshold]))
            told = {"threshold": best, "chosen_on": found[chosen_on][best], "measured_on": found[measured_on][best]}
            results[f"{embedder}/chosen on half {chosen_on}"] = told
            print(f"{embedder}: {told}", flush=True)
    return results


def f1(found: dict[str, Any]) -> float:
    """Of equals the first, which is the smaller threshold."""
    both = found["recall"] + found["precision"]
    return 2 * found["recall"] * found["precision"] / both if both else 0.0


# -------------------------------------------------------------------------------------------------- a million vectors


def vectors(count: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """`[n, d]` float16 of length 1, and of each row the one that it is a copy of, or -1."""
    chance = np.random.default_rng(0)
    centres = chance.normal(size=(CLUSTERS, width)).astype(np.float32)
    made = np.empty((count, width), np.float16)
    for begin in range(0, count, 50_000):
        some = min(50_000, count - begin)
        part = centres[chance.integers(0, CLUSTERS, some)] + 0.9 * chance.normal(size=(some, width)).astype(np.float32)
        made[begin : begin + some] = part / np.linalg.norm(part, axis=1, keepdims=True)
    copied = np.full(count, -1)
    late = np.sort(chance.choice(np.arange(count // 2, count), int(count * COPIES), replace=False))
    copied[late] = chance.integers(0, count // 2, len(late))
    part = made[copied[late]].astype(np.float32) + NOISE * chance.normal(size=(len(late), width)).astype(np.float32)
    made[late] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return made, copied


def million(options: argparse.Namespace) -> dict[str, Any]:
    made, copied = vectors(options.rows, options.width)
    results: dict[str, Any] = {"rows": options.rows, "width": options.width, "vectors_mb": round(made.nbytes / 2**20)}
    started, wall = time.process_time(), time.monotonic()
    found = find_leaders(made, THRESHOLD, lambda one, other: True, margin=0.02)
    gone = found.cosine >= THRESHOLD
    results["duplicates"] = {
        "cpu_seconds": round(time.process_time() - started),
        "seconds": round(time.monotonic() - wall),
        "planted": int((copied >= 0).sum()),
        "planted_gone": int(gone[copied >= 0].sum()),
        "others_gone": int(gone[copied < 0].sum()),
        "peak_mb": peak(),
    }
    print(results, flush=True)
    for by in ("random", "clusters", "farthest"):
        started, wall = time.process_time(), time.monotonic()
        selected = select_rows(made, options.selected, by)  # type: ignore[arg-type]
        used = {"cpu_seconds": round(time.process_time() - started), "seconds": round(time.monotonic() - wall)}
        results[by] = {**measures(made, selected), **used, "peak_mb": peak()}
        print(by, results[by], flush=True)
    return results


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one threshold, 50,000 vectors")
    parser.add_argument("--data", type=Path, default=os.environ.get("REDI_TEST_DATA", "../shared/data"))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--selected", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["quality", "halves", "million"])
    options = parser.parse_args()
    options.rows = 50_000 if options.quick else options.rows
    results: dict[str, Any] = {}
    for name, work in (("quality", quality), ("halves", halves)):
        if options.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                results[name] = work(options, Path(folder))
    if options.only in (None, "million"):
        results["million"] = million(options)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
