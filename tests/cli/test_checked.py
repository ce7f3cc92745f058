"""Whoever mends a config is told of all that is wrong with it at once, and of nothing that only follows from a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from redi_ray.cli.app import app
from redi_ray.cli.checked import checked_config
from redi_ray.cli.preflight import preflight
from redi_ray.errors import EXIT_BAD_INPUT, Gathered, StorageUnavailable, UserError
from redi_ray.pipeline.graph import GraphError

MANY = """
problems: {source: {kind: files, paths: [/nowhere/x.jsonl], columns: {problem: question}}}
generate: {kind: import}
model: {init: {kind: pretrained, path: ./no_model}}
sft: {train: {learning_rat: 1, epochs: 3}}
steps:
  a: {do: train, from: sftt, on: curated, objective: {name: redi}}
  b: {do: locate, of: verified, locator: {kind: exact}}
  c: {do: train, from: b, on: curated, objective: {name: redi}, train: {learning_rate: -1}}
evaluate: {benchmarks: [{name: one, path: /nowhere/b.jsonl}, {name: two, path: /nowhere/c.jsonl}]}
"""
TOLD = [
    "- verify: timeout_seconds must be > 0",
    "- sft.train.learning_rat: unknown key. Did you mean `learning_rate`?",
    "- generate.kind is `import`, but problems.source holds no traces",
    "- b: `locator: {kind: exact}` recomputes the chains of the built-in world",
    "- steps.c.train: learning_rate must be > 0",
    "- a: `from: sftt` is no step; did you mean sft?",
    "- problems.source.paths: /nowhere/x.jsonl is not there",
    "- model.init.path: ./no_model holds no config.json",
    "- evaluate.benchmarks: one: /nowhere/b.jsonl: no such file",
    "- evaluate.benchmarks: two: /nowhere/c.jsonl: no such file",
]
"""Of values, of sections that contradict each other, of steps, of files and models."""


def written(folder: Path, text: str) -> str:
    (folder / "x.yaml").write_text(text)
    return str(folder / "x.yaml")


def test_values_conflicts_steps_files_and_models_are_told_in_one_list(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["run", written(tmp_path, MANY), "verify.timeout_seconds=0"])
    assert found.exit_code == EXIT_BAD_INPUT
    assert [told for told in TOLD if told not in found.stderr] == []
    assert f"{len(TOLD)} error(s)" in found.stderr
    assert "Traceback" not in found.stderr


def test_several_mistakes_of_one_section_are_told_together(tmp_path: Path) -> None:
    """Ranges of one section, those beside a value that cannot be read, and of sections that hold a broken one. What would come
    of a default that stands in for a broken value is none of them."""
    text = """
problems: {source: {kind: arithmetic}}
generate: {kind: vllm, model: base}
model: {init: {kind: arithmetic}}
sft: {train: {learning_rate: -1, batch_size: 0, epochs: many}}
evaluate: {num_samples: 0, top_p: 4}
resources: {engine: {tensor_parallel_size: 0, max_restarts: -1}, verify_workers: 0}
redi: {train: {keep_best: dev_accuracy, checkpoint_every: x}}
"""
    with pytest.raises(UserError) as error:
        checked_config(written(tmp_path, text), [], preflight)
    assert sorted(error.value.findings) == [
        "evaluate: num_samples must be >= 1, got 0; top_p must be in (0, 1], got 4.0",
        "redi.train.checkpoint_every: Input should be a valid integer, unable to parse string as an integer (got 'x')",
        "resources.engine: tensor_parallel_size must be >= 1, got 0; max_restarts must be >= 0, got -1",
        "resources: verify_workers must be >= 1, got 0",
        "sft.train.epochs: Input should be a valid integer, unable to parse string as an integer (got 'many')",
        "sft.train: learning_rate must be > 0, got -1.0; batch_size must be >= 1, got 0",
    ]


def test_names_and_places_that_cannot_be_are_told_with_what_could(tmp_path: Path) -> None:
    text = "problems: {source: {kind: arithmetic}}\ngenerate: {kind: vllm, model: base}\nmodel: {init: {kind: arithmetic}}\n"
    for more, told in (
        (
            "name: ..",
            "name: it is too long, or has characters that cannot stand there; it must match",
        ),
        (
            "storage: {root: 'gs://bucket/runs'}",
            r"storage.root: gs://bucket/runs/\w+: unknown scheme; use a local path or s3://",
        ),
    ):
        with pytest.raises(UserError, match=told):
            checked_config(written(tmp_path, f"{text}{more}\n"), [], preflight)


def test_what_only_follows_from_a_mistake_is_not_told(tmp_path: Path) -> None:
    """Without the unknown kind of a source nobody knows what the rest says; without the misspelt `paths` there are none, which
    the misspelling has told; a step whose settings are wrong is there, all the same."""
    unknown = "problems: {source: {kind: file}}\ngenerate: {kind: import}\nmodel: {init: {kind: scratch}}"
    misspelt = unknown.replace("kind: file", "kind: files, path: [x], columns: {completion: y}")
    train = "{do: train, from: sft, on: curated, objective: {name: dpo}, train: {epochs: 0}}"
    step = f"steps:\n  a: {train}\n  b: {{do: merge, of: {{a: 1, sft: 1}}}}"
    for text, told in (
        (unknown, "problems.source.kind: there is no 'file'"),
        (misspelt, "problems.source.path: unknown"),
    ):
        with pytest.raises(UserError, match=rf"1 error\(s\):\n  - {told}"):
            checked_config(written(tmp_path, text), [], preflight)
    with pytest.raises(UserError, match=r"^steps.a.train: epochs must be >= 1, got 0$"):
        checked_config(written(tmp_path, step), [])


def test_one_mistake_is_told_as_ever_and_several_of_a_kind_stay_of_that_kind() -> None:
    one, kept = GraphError("a"), Gathered()
    with kept():
        raise one
    with pytest.raises(GraphError) as alone:
        kept.raise_all("x")
    assert alone.value is one
    with kept():
        raise GraphError("b\nc")
    with pytest.raises(GraphError, match=r"^x:\n  - a\n  - b\n    c$"):
        kept.raise_all("x")
    later = Gathered()
    for number in range(2):
        with later():
            raise StorageUnavailable(str(number))
    with pytest.raises(StorageUnavailable):  # whose exit code says that the same command may go on
        later.raise_all("x")
