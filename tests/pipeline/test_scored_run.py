"""Query rewriting for real, in a small world: a search says what rewrites are worth, the best is learnt against the worst, and
models are scored by what their queries find."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from redi_ray.config.load import parse_config
from redi_ray.config.worlds import QuerySource
from redi_ray.data.score.retrieval import Index
from redi_ray.data.sources.built_in import documents_of
from redi_ray.pipeline.runner import Pipeline
from redi_ray.report.page import build_report
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import current_manifest
from redi_ray.text.retrieval import ndcg, read_query

SOURCE = {"kind": "queries", "num_problems": 30, "num_test": 12, "num_dev": 0, "misconception_rate": 0.7}
SHORT = {"batch_size": 4, "max_steps": 2, "max_length": 128, "learning_rate": 1e-4}
SAMPLED = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 64}
CONFIG: dict[str, Any] = {
    "name": "queries",
    "problems": {"source": SOURCE},
    "generate": {"kind": "none"},
    "model": {
        "init": {
            "kind": "arithmetic", "corpus_size": 3000,
            "architecture": {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "num_kv_heads": 2, "intermediate_size": 256},
            "train": {"learning_rate": 4e-3, "batch_size": 16, "epochs": 1, "max_length": 128, "tokens_per_pack": 4096},
        },
    },
    "redi": {"arms": {}, "train": SHORT},
    "steps": {
        "drawn": {"do": "sample", "model": "base", "samples_per_round": 6, **SAMPLED},
        "judged": {"do": "verify", "of": "drawn"},
        "gain": {"do": "score", "of": "judged", "scorer": {"name": "retrieval"}},
        "pairs": {"do": "groups", "of": "judged", "rewards": {}, "scores": {"gain": 1}, "margin": 0.05},
        "dpo": {"do": "train", "from": "base", "on": "pairs", "objective": {"name": "dpo"}},
    },
    "evaluate": {
        "benchmarks": [{"name": "arithmetic"}], "models": ["base", "dpo"], "num_samples": 2, "ks": [1, 2], **SAMPLED,
        "score": {"name": "retrieval", "k": 100, "bad_format": 0, "bonus": 0}, "rank_by": {"name": "length"},
    },
    "resources": {
        "ray": {"num_cpus": 5}, "verify_workers": 1, "curate_workers": 1, "trainer": {"num_workers": 1},
        "engine": {"device": "cpu", "dtype": "float32", "max_model_len": 128},
    },
}  # fmt: skip


def rows(uri: str) -> list[dict[str, Any]]:
    return [row for table in parquet.read_tables(storage.list_files(uri, ".parquet")) for row in table.to_pylist()]


@pytest.mark.long
def test_queries_are_learnt_by_what_they_find(ray_session: None, tmp_path: Path) -> None:
    config = parse_config(CONFIG | {"storage": {"root": str(tmp_path)}})
    pipeline = Pipeline(config)
    pipeline.run_all()
    gain, pairs = pipeline.output("gain"), pipeline.output("pairs")
    told = gain.facts["labels"]
    assert sum(told.values()) == 30 * 6
    assert told["found"] > 0
    for group in rows(pairs.table("groups")):
        better, worse = sorted(group["members"], key=lambda member: -member["side"])
        assert (better["side"], worse["side"]) == (1, -1)
        assert better["reward"] - worse["reward"] >= 0.05
    index, run = Index.build(iter(documents_of(QuerySource(**SOURCE))), 1.2, 0.75), f"{tmp_path}/queries"
    for name in ("base", "dpo"):
        manifest = current_manifest(run, f"eval/{name}")
        values = []
        for row in rows(f"{manifest.uri}/verified"):
            query, wanted = read_query(row["completion"]), json.loads(row["answer"])
            values.append(0.0 if query is None else ndcg(index.search(query, 100), wanted, 100))
        assert len(values) == 24
        assert manifest.facts["scores"]["arithmetic"]["score"] == pytest.approx(fmean(values))
    build_report(run)
    report = json.loads((Path(run) / "report" / "report.json").read_text())
    by_name = {row["name"]: row for row in report["arms"]}
    assert set(by_name["dpo"]["ranked"]["at_k"]) == {"1", "2"}
    change = by_name["dpo"]["score"]["mean"] - by_name["base"]["score"]["mean"]
    assert by_name["dpo"]["score"]["difference"] is None or by_name["dpo"]["score"]["difference"][
        "difference"
    ] == pytest.approx(change)
    other = parse_config(
        CONFIG | {"storage": {"root": str(tmp_path)}, "evaluate": CONFIG["evaluate"] | {"score": None}}
    )
    assert Pipeline(other).output("dpo").key == pipeline.output("dpo").key
