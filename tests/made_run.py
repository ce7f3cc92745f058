"""A made-up run of five arms, published as the pipeline publishes: one arm collapses, and some texts are hostile."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import yaml

from redi_ray.eval.agreement import score_agreement
from redi_ray.eval.guided import GuidedResult
from redi_ray.eval.metrics import compare_scores, summarize
from redi_ray.eval.ranking import summarize_ranking, summarize_scores
from redi_ray.schemas import PAIR
from redi_ray.store.manifests import Stage
from redi_ray.store.parquet import write_table
from redi_ray.store.storage import join, write_bytes

HOSTILE = (
    '</pre><script>alert(1)</script><img src=x onerror="alert(2)"><style>body{display:none}</style>\ud800 &amp; $x_1$'
)
ACCURACY = {"base": 0.66, "sft": 0.93, "alpha0": 0.93, "redi": 0.945, "symmetric": 0.75}
CONFIG = {
    "name": "demo",
    "redi": {
        "arms": {
            "alpha0": {"objective": {"name": "redi", "alpha": 0.0}},
            "redi": {"objective": {"name": "redi", "alpha": 0.8}},
            "symmetric": {"objective": {"name": "redi", "alpha": 1.0}},
        }
    },
}


def write_data_stages(run: str) -> None:
    """800 problems, 3,200 traces, 725 positives, 520 pairs, with reasons; one of them hostile."""
    Stage(run, "problems", {"count": 800}, {}).publish(
        counts={"in": 803, "out": 800}, dropped={"same_problem_again": 2}, rejected={"no_problem": 1}, seconds=0.4
    )
    Stage(run, "traces", {}, {}).publish(counts={"in": 3204, "out": 3200}, rejected={"engine_error": 4}, seconds=61.0)
    Stage(run, "verified", {}, {}).publish(
        counts={"in": 3200, "out": 3200},
        facts={"verdicts": {"correct": 1859, "wrong": 1290, "no_answer": 51}},
        seconds=5.2,
    )
    curated = Stage(run, "curated", {}, {})
    messages = {side: [{"role": "assistant", "content": f"{side} {HOSTILE[:-20]}"}] for side in ("chosen", "rejected")}
    prompt = [{"role": "user", "content": "Compute 3 + 4 * 2."}]
    pair = {"pair_id": "p-1", "problem_id": "p-1", "prompt": prompt, **messages}
    write_table(join(curated.uri, "pairs", "part-00000.parquet"), pa.Table.from_pylist([pair], schema=PAIR))
    curated.publish(
        counts={"in": 800, "out": 725, "positives": 725, "pairs": 520},
        dropped={"no_correct_trace": 73, "<b>too long</b>": 2},
        facts={"pairs_dropped": {"no_wrong_trace": 205}},
        seconds=2.0,
    )


def write_training(run: str, arm: str, steps: int = 100) -> None:
    """Curves of plausible shape; `symmetric` collapses and ends in NaN."""
    generator, pairs = np.random.default_rng(len(arm)), arm not in ("base", "sft")
    stage = Stage(run, f"checkpoints/{arm}", {"arm": arm}, {})
    lines = []
    for step in range(1, steps + 1):
        done = step / steps
        plunge = 4 * max(0.0, done - 0.5) ** 2 if arm == "symmetric" else 0.02 * done
        row = {
            "step": step,
            "loss": 0.2 + math.exp(-5 * done) + 0.03 * generator.standard_normal(),
            "grad_norm": 0.5 + 0.1 * generator.random() + plunge,
            "update_norm": 0.01 * (1 + 40 * plunge) * (1 - done) + 1e-5,
            "learning_rate": 3e-5 * min(done / 0.1, (1 - done) / 0.9),
            "scored_tokens": 1000,
            "tokens_per_second": 4000 + 100 * generator.random(),
            "peak_memory_gib": 0.61,
            "pack_fill": 0.93,
            "rejected_logp": None,
        }
        if pairs:
            row |= {"chosen_logp": -0.2 - plunge, "rejected_logp": -0.5 - 3 * plunge, "margin": 0.3 + 2 * plunge}
            row |= {"pair_accuracy": 0.7 + 0.1 * generator.random(), "alpha": {"alpha0": 0, "redi": 0.8}.get(arm, 1)}
            if step == 1 or step % 20 == 0:
                row["dev_accuracy"] = 0.8 if arm == "alpha0" else max(0.0, 0.8 + 0.1 * done - plunge)
        if arm == "symmetric" and step > 90:
            row["loss"] = None  # how training writes what is not finite
        lines.append(json.dumps(row))
    write_bytes(join(stage.uri, "metrics.jsonl"), "\n".join(lines).encode())
    status = "stopped_by_guard" if arm == "symmetric" else "done"
    stage.publish(facts={"steps": steps, "status": status}, seconds=22.5)


def write_evaluation(run: str, arm: str, benchmarks: dict[str, int], num_samples: int = 8) -> None:
    generator = np.random.default_rng(sum(map(ord, arm)))
    hardness = np.random.default_rng(0)
    stage = Stage(run, f"eval/{arm}", {"arm": arm}, {})
    entries, samples = [], []
    for name, size in benchmarks.items():
        skill = np.clip(ACCURACY.get(arm, 0.9) + 0.2 * hardness.standard_normal((size, 1)), 0, 1)
        verdicts = generator.random((size, num_samples)) < skill
        tokens = generator.integers(40, 90, verdicts.shape) + 30 * ~verdicts
        ids = [f"{name}-{index}" for index in range(size)]
        more = scores_of(verdicts) if name == "gsm8k" else {}
        entries.append(
            asdict(summarize(verdicts, tokens, tokens > 115, (1, 2, 4, 8), problem_ids=ids)) | {"name": name} | more
        )
    for index, verdict in enumerate(
        ["correct", "wrong", "wrong", "no_answer", "correct", "correct", "timeout", "wrong", "wrong"]
    ):
        samples.append(
            {
                "problem_id": f"arithmetic-{index}",
                "problem": "Compute 3 + 4 * 2 - 7, left to right, modulo 10." if index else HOSTILE,
                "answer": "7",
                "completion": "<think>\n3 + 4 = 7\n7 * 2 = 4\n4 - 7 = 7\n</think>\n\\boxed{7}"
                if index != 1
                else HOSTILE,
                "extracted_answer": None if verdict == "no_answer" else "7",
                "verdict": verdict,
                "num_tokens": 47,
            }
        )
    samples.append({**samples[0], "verdict": "error", "completion": "a" * 50_000, "num_tokens": None})
    write_json_with_surrogates(join(stage.uri, "report.json"), {"arm": arm, "benchmarks": entries, "samples": samples})
    stage.publish(seconds=31.0)


def scores_of(verdicts: np.ndarray) -> dict[str, object]:
    """What scorers add: a number that is high for right samples, and missing for the first sample of all."""
    numbers = verdicts + np.arange(len(verdicts))[:, None] / 100
    scored = summarize_scores("retrieval", numbers, labels={"found": verdicts.size - 3, "bad_format": 3})
    answers = [["right" if one else str(n) for n, one in enumerate(row)] for row in verdicts.tolist()]
    ranks = np.where(np.arange(numbers.shape[1]) + verdicts.all(axis=1)[:, None] * 8, numbers, np.nan)
    ranked = summarize_ranking("rule", ranks, verdicts, answers, (1, 2, 4, 8))
    judged = score_agreement(
        ["1", "2"] * (len(verdicts) // 2), verdicts.astype(int).astype(str).tolist(), resamples=100
    )
    added = {"score": scored, "ranked": ranked, "guided": searched(verdicts), "agreement": judged}
    return {name: asdict(found) for name, found in added.items()}  # type: ignore[arg-type, type-var]


def searched(verdicts: np.ndarray) -> GuidedResult:
    """A search that solves all but two problems, at the price of three samples each."""
    right = np.arange(len(verdicts)) > 1
    return GuidedResult(
        guide="prm", keep=4, candidates=2, best=float(right.mean()), best_ci95=(0.5, 1.0), majority=0.75, weighted=0.8,
        any=0.9, cut_off=0.125, tokens=170.0, equal_k=3, equal_tokens=180.0, equal={"any": 0.95, "majority": 0.625},
        best_against_majority=compare_scores(verdicts.mean(axis=1), right), best_against_best=None,
    )  # fmt: skip


def write_json_with_surrogates(uri: str, value: object) -> None:
    write_bytes(uri, json.dumps(value).encode())  # escapes what UTF-8 cannot hold


def write_run(run: str, benchmarks: dict[str, int]) -> None:
    write_bytes(join(run, "config.yaml"), yaml.safe_dump(CONFIG, sort_keys=False).encode())
    write_data_stages(run)
    for arm in ACCURACY:
        write_training(run, arm)
        write_evaluation(run, arm, benchmarks)
