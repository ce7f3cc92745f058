"""The card of a run's model says what it was made of, and later how it scored; nothing of this machine is on it."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from redi_ray.config.load import parse_config
from redi_ray.eval.metrics import summarize
from redi_ray.modeling.cards import CARD, MARK
from redi_ray.pipeline.cards import finished, update_cards
from redi_ray.pipeline.standard import graph_of
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Stage
from redi_ray.store.storage import join, read_bytes, write_bytes, write_json


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A base model in a folder with a licence, a teacher from elsewhere, problems in a file, `sft` and `redi` made."""
    base = tmp_path / "secret place" / "Tiny-Base"
    base.mkdir(parents=True)
    (base / CARD).write_text("---\nlicense: apache-2.0\n---\nA base.")
    (base / "config.json").write_text('{"model_type": "qwen2"}')
    config = parse_config(
        {
            "name": "run",
            "storage": {"root": str(tmp_path / "runs")},
            "problems": {"source": {"kind": "files", "paths": [str(tmp_path / "secret place" / "mine.jsonl")]}},
            "generate": {"kind": "endpoint", "endpoint": {"base_url": "http://host/v1", "model": "big-teacher"}},
            "model": {"init": {"kind": "pretrained", "path": str(base)}},
            "redi": {"arms": {"redi": {"objective": {"name": "redi", "alpha": 0.4}}}},
            "evaluate": {"benchmarks": [{"name": "own", "path": "x.jsonl"}]},
        }
    )
    run = Run.of(config)
    Stage(run.uri, "checkpoints/base", {}, {}).publish(facts={"export": str(base)})
    Stage(run.uri, "verified", {}, {}).publish(
        counts={"in": 7, "out": 7}, facts={"verdicts": {"correct": 5, "wrong": 2}}
    )
    for name, objective in (("sft", {"name": "sft"}), ("redi", {"name": "redi", "alpha": 0.4})):
        settings = {
            "objective": objective,
            "train": {"learning_rate": 1e-6, "epochs": 1},
            "overrides": {"lora": {"r": 8}},
        }
        stage = Stage(run.uri, f"checkpoints/{name}", settings, {})
        write_bytes(join(stage.uri, "export", "config.json"), b'{"model_type": "qwen2"}')
        ended = {"steps": 9, "total_steps": 10, "status": "rolled_back", "reason": "collapse"}
        stage.publish(facts={"export": join(stage.uri, "export"), **ended})
    return run


def card(run: Run, name: str = "redi") -> str:
    graph = graph_of(run.config)
    made = finished(run, graph)
    update_cards(run, graph, [name], made)
    return read_bytes(join(made[name].facts["export"], CARD)).decode()


def score(run: Run, checkpoint: str, right: int) -> None:
    stage = Stage(run.uri, "eval/redi", {"right": right}, {"checkpoint": checkpoint})
    result: Any = summarize([[n < right, n < right] for n in range(8)], [[5, 5]] * 8, [[False] * 2] * 8)
    write_json(join(stage.uri, "report.json"), {"benchmarks": [{"name": "own", **asdict(result)}]})
    stage.publish(facts={"scores": {}})


def test_a_card_tells_the_way_and_later_the_scores(run: Run, tmp_path: Path):
    text = card(run)
    assert "rolled_back after 9 of 10 steps: collapse" in text
    assert "objective redi from `sft`, 9 steps (alpha 0.4, learning_rate 1e-06, epochs 1, LoRA)" in text
    assert "`verified` (verify); 5 correct, 2 wrong; 7 rows" in text
    assert "sampled from big-teacher" in text
    assert "| the base model, Tiny-Base | apache-2.0 |" in text
    assert "| files: mine.jsonl | unknown |" in text
    assert "\nlicense: apache-2.0\n" in text
    assert "secret place" not in text
    assert str(tmp_path) not in text
    assert "## Scores" not in text
    key = finished(run, graph_of(run.config))["redi"].key
    score(run, key, right=6)
    assert "| own | 75.0 | " in card(run)
    score(run, "of other weights", right=1)
    assert "## Scores" not in card(run)


def test_who_takes_a_card_over_keeps_it(run: Run):
    place = join(finished(run, graph_of(run.config))["redi"].facts["export"], CARD)
    write_bytes(place, card(run).replace(MARK, "").replace("# run: redi", "# Mine").encode())
    assert "# Mine" in card(run)


def test_a_folder_of_others_is_left_alone_and_no_card_ends_a_run(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logging.getLogger("redi_ray"), "propagate", True)
    graph = graph_of(run.config)
    made = finished(run, graph)
    update_cards(run, graph, ["base"], made)
    assert read_bytes(join(made["base"].facts["export"], CARD)).decode() == "---\nlicense: apache-2.0\n---\nA base."
    write_bytes(join(made["sft"].facts["export"], "config.json"), b"{")
    update_cards(run, graph, ["sft"], made)
    assert "the card of sft could not be written" in caplog.text
