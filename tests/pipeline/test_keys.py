"""A step is reused exactly when its output would be the same: every field of a config either changes a key or only says how."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from redi_ray.config.data import FileSet
from redi_ray.config.evaluation import EvaluateSettings
from redi_ray.config.identity import identity
from redi_ray.config.import_parts import TopicSplit
from redi_ray.config.imports import ImportSettings
from redi_ray.config.load import ConfigError, load_config, parse_config
from redi_ray.config.resources import EngineSettings
from redi_ray.config.scorers import LengthScorer
from redi_ray.config.training import ProbeSettings, TrainSettings
from redi_ray.pipeline.graph import GraphError
from redi_ray.pipeline.standard import graph_of
from redi_ray.pipeline.states import states
from redi_ray.stages.run import Run
from redi_ray.store.contents import content_of
from redi_ray.store.storage import content_hash

HOW = {
    "name", "storage.root",
    "verify.processes", "verify.cache_size", "verify.batch_rows", "generate.shard_rows", "evaluate.models",
    "sft.train.compile", "sft.train.keep_gathered", "sft.train.checkpoint_every", "sft.train.keep_last",
    "redi.train.compile", "redi.train.keep_gathered", "redi.train.checkpoint_every", "redi.train.keep_last",
    "model.init.train.compile", "model.init.train.keep_gathered", "model.init.train.checkpoint_every",
    "model.init.train.keep_last",
    "search", "redi.trainer",
    "notify.on", "notify.command", "notify.webhook", "notify.webhook_env", "notify.timeout_seconds",
}  # fmt: skip
"""Fields that change no output of the standard line. Under `resources` that is all but what an engine computes with."""
ENGINE = {"resources.engine.dtype", "resources.engine.max_model_len", "resources.engine.engine_kwargs"}
OTHERS: dict[str, Any] = {
    "generate.tools": {}, "evaluate.tools": {},
    "generate.frontier": {"rule": "thompson"},
    "generate.loops": {"stop": False}, "generate.engine": {"dtype": "bfloat16"}, "generate.prompt": {"system": "Think."},
    "verify.policy": "any", "verify.answers.extract": ["last_number"],
    "verify.judge": {"model": "other", "ask": "all"}, "verify.answers.gold_extract": ["boxed"],
    "curate.duplicates": {}, "curate.contamination": {}, "curate.language": {}, "curate.difficulty": {},
    "curate.diversity": {"problems": 9},
    "model.prompt.system": "Think.", "model.prompt.template_args": {"a": 1}, "model.prompt.date": "2025-01-01",
    "model.overrides.lora": {}, "model.overrides.rope_theta": 5e5, "model.overrides.max_position_embeddings": 1024,
    "evaluate.ks": [1], "resources.engine.engine_kwargs": {"quantization": "fp8"}, "resources.engine.max_model_len": 200,
    "resources.ray.env": {"A": "b"}, "resources.engine.concurrency": 2, "resources.engine.label_selector": {"a": "b"},
    "curate.rejected_verdicts": ["wrong", "no_answer"], "problems.max_problems": 7, "redi.trainer": {"num_workers": [1, 2]},
    "verify.invert_labels": True, "curate.chosen.format": {}, "curate.chosen.repetition": {}, "curate.chosen.max_chars": 999,
    "evaluate.guided": {"judge": {"kind": "step_judge", "model": "a/b"}},
    "evaluate.score": {"name": "length"}, "evaluate.rank_by": {"name": "rule", "pattern": "1"},
    "evaluate.models": ["base"], "search": {"space": {"redi.train.learning_rate": {"grid": [1e-5, 1e-6]}}},
    "verify.tests.languages": ["c"], "verify.tests.compare": "lines", "verify.tests.preload": ["json"],
    "verify.tests.isolation": "process",
    "resources.engine.device": "gpu", "resources.gpu_hour_price": 2.5,
    "notify.on": ["done"], "notify.command": "cat", "notify.webhook": "http://127.0.0.1/x", "notify.webhook_env": "HOOK",
    "resources.trainer.label_selector": {"a": "b"}, "resources.trainer.trackers": [], "resources.cpu_label_selector": {"a": "b"},
    "sft.objective.normalization": "sequence_mean", "problems.source": {"kind": "arithmetic", "num_problems": 9},
    "curate.rejected.format": {}, "curate.rejected.repetition": {}, "curate.rejected.max_chars": 999,
}  # fmt: skip
"""Another valid value, where none can be made up from the one that is there."""


NOT_ALONE = ("keep_best", "export", "patience", "probe")
"""Of a training; they ask for other fields, see below."""
ELSEWHERE = ("problems.dev.share", "problems.dev.seed", "verify.judge", "verify.votes", "sft.objective.name", "steps", "repeat",
             "curate.embedder", "curate.of", "redi.train.units", "evaluate.judge_on",
             "resources.engine.tensor_parallel_size")  # fmt: skip
"""Not for this config: of other sources, of votes or embeddings, a word that is always the same, of steps, of GPUs, of other
objectives."""


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted paths of all fields. Lists, arms and tagged choices count as one."""
    for name, item in value.items():
        here = f"{path}.{name}" if path else name
        if isinstance(item, dict) and item and name not in ("arms", "source"):
            yield from leaves(item, here)
        elif name not in ("kind", "arms", "benchmarks"):
            yield here, item


def others(value: Any) -> list[Any]:
    """Values to try in its place."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value * 2, value / 2, value - 1, 0.5]
    words = "linear cosine constant drop error skip stop warn random longest float32 bfloat16 fp32 cpu gpu sequence token off"
    return [*words.split(), "turns", "user", "Solve: {problem}", "<think>", 1, 7, True, 0.5]


def changed(raw: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    copied = copy.deepcopy(raw)
    *parents, leaf = path.split(".")
    node = copied
    for name in parents:
        node = node[name]
    node[leaf] = value
    return copied


def keys(raw: dict[str, Any]) -> dict[str, str | None]:
    config = parse_config(raw)
    return {state.step.name: state.key for state in states(graph_of(config), Run.of(config))}


def test_every_field_changes_a_key_or_only_says_how(tmp_path: Path) -> None:
    raw = load_config("configs/demo.yaml", [f"storage.root={tmp_path}"]).model_dump(mode="json")
    before, wrong, untried = keys(raw), [], []
    assert None not in before.values()
    for path, value in leaves(raw):
        for other in [OTHERS[path]] if path in OTHERS else others(value):
            if other == value:
                continue
            try:
                after = keys(changed(raw, path, other))
            except (ConfigError, GraphError):
                continue
            how = path in HOW or (path.startswith("resources.") and path not in ENGINE)
            same = after.items() <= before.items()  # there may be fewer steps
            if same != how:
                wrong.append(f"{path}: {value!r} -> {other!r} {'keeps all keys' if same else 'changes a key'}")
            break
        else:
            untried.append(path)
    assert wrong == []
    assert [path for path in untried if path.rpartition(".")[2] not in NOT_ALONE and path not in ELSEWHERE] == []


def test_a_field_that_came_later_counts_once_it_is_set() -> None:
    """What its default means was so before there was such a field, so that outputs from before stay."""
    none, some = EvaluateSettings(), EvaluateSettings(score=LengthScorer(name="length"))
    assert not EvaluateSettings.LATER & identity(none).keys()
    assert identity(some) == {**identity(none), "score": {"name": "length", "unit": "characters"}}
    imported, split = ImportSettings(source=FileSet()), TopicSplit(by="topic", held_out=["a"])
    assert not ImportSettings.LATER & identity(imported).keys()
    assert identity(imported.model_copy(update={"split": split})) == {**identity(imported), "split": identity(split)}


def test_every_field_of_a_training_decides_its_weights_or_only_says_how() -> None:
    best = TrainSettings(checkpoint_every=5, keep_best="margin")
    different = [
        TrainSettings(), best, replace(best, export="best"), replace(best, patience=3), TrainSettings(probe=ProbeSettings())
    ]  # fmt: skip
    assert len({content_hash(settings.identity()) for settings in different}) == len(different)
    gpu = [EngineSettings(device="gpu", tensor_parallel_size=n).identity() for n in (1, 2)]
    assert gpu[0] == gpu[1]


def test_where_a_run_may_end_early_its_checkpoints_count(tmp_path: Path) -> None:
    """A rollback goes to one of them, and the best is one of them."""
    raw = load_config("configs/demo.yaml", [f"storage.root={tmp_path}"]).model_dump(mode="json")
    train = raw["redi"]["train"]
    for settings in ({"guard": {**train["guard"], "action": "rollback"}}, {"keep_best": "margin"}):
        once, twice = (
            keys(changed(raw, "redi.train", {**train, **settings, "checkpoint_every": every}))["redi"]
            for every in (5, 6)
        )
        assert once != twice, settings


@pytest.fixture
def world(tmp_path: Path) -> dict[str, Any]:
    """A config on files of all sorts: problems, a benchmark, problems to keep away, a local model."""
    for name in ("problems", "benchmark", "contamination"):
        (tmp_path / f"{name}.jsonl").write_text('{"problem": "What is 1 + 1?", "answer": "2"}\n')
    for name in ("model", "embedder"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    return {
        "name": "x",
        "storage": {"root": str(tmp_path / "runs")},
        "problems": {"source": {"kind": "files", "paths": [str(tmp_path / "problems.jsonl")]}},
        "model": {"init": {"kind": "pretrained", "path": str(tmp_path / "model")}},
        "curate": {
            "contamination": {"benchmarks": False, "files": [
                {"name": "kept_away", "path": str(tmp_path / "contamination.jsonl")}]},
            "embedder": {"name": "model", "path": str(tmp_path / "embedder")}, "diversity": {"problems": 3},
        },
        "evaluate": {"benchmarks": [{"name": "own", "path": str(tmp_path / "benchmark.jsonl")}]},
    }  # fmt: skip


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("\n")


@pytest.mark.parametrize(
    ("edit", "first"),
    [
        (lambda folder: append(folder / "problems.jsonl"), "problems"),
        (lambda folder: append(folder / "model" / "config.json"), "base"),
        (lambda folder: append(folder / "contamination.jsonl"), "curated"),
        (lambda folder: append(folder / "embedder" / "config.json"), "curated"),
        (lambda folder: append(folder / "benchmark.jsonl"), "eval/"),
    ],
    ids=["problems", "model", "contamination", "embedder", "benchmark"],
)
def test_a_file_edited_in_place_reruns_exactly_what_is_downstream(
    world: dict[str, Any], tmp_path: Path, edit: Callable[[Path], None], first: str
) -> None:
    graph, before = graph_of(parse_config(world)), keys(world)
    edit(tmp_path)
    after = keys(world)
    moved = {name for name in before if before[name] != after[name]}
    own = {step.name for step in graph if step.name == first or (first == "eval/" and step.gives == "scores")}
    downstream = {step.name for step in graph if own & {other.name for other in graph.needed_for([step.name])}}
    # of the problems base only keeps a record, and a benchmark has its own
    assert moved == downstream - ({"base", "eval/base"} if first == "problems" else set())


def test_files_count_by_content_not_by_date(world: dict[str, Any], tmp_path: Path) -> None:
    """Nor does a folder's content count where it lies; that the config names another place does."""
    before = keys(world)
    shutil.copytree(tmp_path / "model", tmp_path / "moved")
    for file in (*tmp_path.glob("*.jsonl"), tmp_path / "model" / "config.json"):
        os.utime(file, (1, 1))
    assert keys(world) == before
    assert content_of(str(tmp_path / "moved")) == content_of(str(tmp_path / "model"))


def test_an_imported_set_counts_by_what_decides_its_rows(tmp_path: Path) -> None:
    """Its contents, how it is read, and of the prompt what it must begin with, or is asked with."""
    for name in ("set", "same", "other"):
        text = "q" if name == "other" else "p"
        (tmp_path / f"{name}.jsonl").write_text(f'{{"prompt": "{text}", "completion": "a"}}\n')
    step = {"do": "import", "source": {"kind": "files", "paths": [str(tmp_path / "set.jsonl")]}}
    raw = {
        "name": "x",
        "storage": {"root": str(tmp_path / "runs")},
        "steps": {"mine": step, "tuned": {"do": "train", "from": "base", "on": "mine", "objective": {"name": "sft"}}},
        "model": {"init": {"kind": "scratch"}},
    }
    raw = parse_config(raw).model_dump(mode="json")
    before = keys(raw)
    others = {
        "shape": "sft", "columns": {"id": "id"}, "prompts": "problems", "positive_above": 0.5, "max_rows": 1, "seed": 1,
        "source": {"kind": "files", "paths": [str(tmp_path / "other.jsonl")]}, "step_header": "Step {k}:", "step_separator": " ",
        "tool_blocks": True, "keep_duplicates": True, "split": {"by": "topic", "held_out": ["a"]}, "judge": {},
        "calls": {},
    }  # fmt: skip
    assert others.keys() == step.keys() - {"do"} | raw["steps"]["mine"].keys() - {"do"}
    for name, value in others.items():
        after = keys(changed(raw, f"steps.mine.{name}", value))
        assert [step for step in before if before[step] == after[step]] == [], name
    for path, value, moves in (
        ("model.prompt.prefix", "", True), ("model.prompt.template", "Solve: {problem}", False),
        ("model.prompt.system", "x", False),
    ):  # fmt: skip
        assert (keys(changed(raw, path, value))["mine"] != before["mine"]) == moves, path
        asked = changed(raw, "steps.mine.prompts", "problems")
        assert keys(changed(asked, path, value))["mine"] != keys(asked)["mine"], path
    append(tmp_path / "set.jsonl")
    assert keys(raw)["mine"] != before["mine"]
