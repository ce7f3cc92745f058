"""Sets that people have, straight from a file to trained models: no problems, no traces, no arms; one run for all shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from problem_sources import write_lines

from redi_ray.cli.inspect import inspect_traces
from redi_ray.cli.plan import plan_run
from redi_ray.cli.preflight import check_sources
from redi_ray.config.load import ConfigError, dump_config, parse_config
from redi_ray.config.yaml_text import read_yaml
from redi_ray.data.sources.folders import DataError
from redi_ray.pipeline.graph import GraphError
from redi_ray.pipeline.runner import Pipeline
from redi_ray.pipeline.standard import graph_of
from redi_ray.report.browse import TraceFilter
from redi_ray.report.page import build_report


def chat(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]


def think(text: str) -> str:
    return f"<think>\n{text}\n</think>\n{text}"


SETS: dict[str, list[dict[str, Any]]] = {
    "prefs": [{"prompt": f"What is {n}+1?", "chosen": think(f"{n + 1}"), "rejected": think(f"{n}")} for n in range(12)],
    "scored": [
        {
            "chosen": chat(f"{n}+1?", think(f"{n + 1}")), "score_chosen": n,
            "rejected": chat(f"{n}+1?", think("no")), "score_rejected": -1,
        }
        for n in range(12)
    ],
    "chats": [{"messages": chat(f"Say {n}.", think(f"{n}"))} for n in range(12)],
    "labelled": [{"prompt": f"{n // 2}+2?", "completion": think(f"{n}"), "label": n % 2 == 0} for n in range(12)],
    "rollouts": [{"problem": f"{n // 4}+3?", "response": think(f"{n}"), "reward": float(n % 3 == 0)} for n in range(16)],
}  # fmt: skip
TRAINED: dict[str, dict[str, Any]] = {
    "prefs": {"name": "redi"}, "scored": {"name": "simpo"}, "chats": {"name": "sft"}, "rollouts": {"name": "sft"},
    "labelled": {"name": "kto", "baseline": "none"},
}  # fmt: skip
"""Without log-probs of a reference where that can be: each set of them takes a pool of workers."""


def config_of(folder: Path, **changes: Any) -> dict[str, Any]:
    """Every set and a training on it, from random weights whose tokenizer is learnt from the sets."""
    steps: dict[str, Any] = {}
    for name, rows in SETS.items():
        path = write_lines(folder / f"{name}.jsonl", rows)
        steps[name] = {"do": "import", "source": {"kind": "files", "paths": [path]}}
        steps[f"on_{name}"] = {"do": "train", "from": "base", "on": name, "objective": TRAINED[name]}
    train = {"batch_size": 4, "max_steps": 2, "learning_rate": 1e-3}
    return {
        "name": "imported",
        "storage": {"root": str(folder / "runs")},
        "steps": steps,
        "model": {"init": {"kind": "scratch", "vocab_size": 400, "architecture": {"hidden_size": 32, "num_heads": 2}}},
        "sft": {"train": train},
        "redi": {"train": train},
        "resources": {"engine": {"device": "cpu"}, "trainer": {"num_workers": 1}, "curate_workers": 1},
        **changes,
    }


def test_a_graph_that_begins_with_imports_has_nothing_of_the_standard_line(tmp_path: Path):
    raw = config_of(tmp_path)
    config = parse_config(raw)
    graph = graph_of(config)
    assert [step.name for step in graph if step.kind != "train"] == [*SETS, "base"]
    assert dict(graph["base"].inputs) == {name: name for name in SETS}, "random weights need texts for their tokenizer"
    assert parse_config(read_yaml(dump_config(config))) == config, "what is meant is in the config that the run keeps"
    pretrained = parse_config(raw | {"model": {"init": {"kind": "pretrained", "path": "m"}}})
    assert dict(graph_of(pretrained)["base"].inputs) == {}
    both = parse_config(raw | {"generate": {"kind": "vllm", "model": "m"}, "redi": {"arms": {"redi": {}}}})
    assert [name for name in ("problems", "traces", "curated", "sft", "redi") if name not in graph_of(both).steps] == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"redi": {"arms": {"a": {}}}}, r"redi\.arms \(a\) train on pairs of `generate`'s traces.*do: train, from: base"),
        ({"model": {}}, "model.init.kind is `arithmetic`, which needs problems.source.kind"),
        ({"sft": {"train": {"probe": {}}}}, "a probe is set for on_chats, on_rollouts, but there are no problems"),
        ({"evaluate": {"benchmarks": [{"name": "arithmetic"}]}}, "names `arithmetic`, the built-in world"),
        ({"steps": {"x": {"do": "merge", "of": {"base": 1}}}, "generate": {"kind": "none"},
          "problems": {"source": {"kind": "none"}}}, "traces or imported sets: there are none"),
        ({"steps": {"x": {"do": "import", "source": {"kind": "files", "columns": {"problem": "p"}}}}},
         r"steps\.x\.source\.columns: unknown key"),
    ],
    ids=["arms", "world", "probe", "benchmark", "no texts", "columns"],
)  # fmt: skip
def test_what_needs_problems_or_traces_is_told(tmp_path: Path, changes: dict[str, Any], told: str):
    with pytest.raises(ConfigError, match=told):
        parse_config(config_of(tmp_path, **changes))


def test_steps_of_the_line_are_missed_by_name(tmp_path: Path):
    steps = config_of(tmp_path)["steps"] | {"own": {"do": "sample", "model": "on_prefs"}}
    with pytest.raises(GraphError, match="own: `problems: problems` is no step"):
        graph_of(parse_config(config_of(tmp_path, steps=steps)))


def test_a_wrong_file_is_refused_before_ray(tmp_path: Path):
    """Here Ray is not started at all."""
    config = parse_config(config_of(tmp_path))
    check_sources(config)
    (tmp_path / "scored.jsonl").write_text(json.dumps({"question": "q", "gold": "a"}))
    with pytest.raises(DataError, match=r"steps\.scored: the columns question, gold do not tell"):
        check_sources(config)
    (tmp_path / "scored.jsonl").unlink()
    with pytest.raises(DataError, match=r"steps\.scored\.source\.paths: .*scored\.jsonl is not there"):
        check_sources(config)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_five_shapes_train_from_their_files(ray_session: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    raw = config_of(tmp_path)
    raw["steps"]["kept"] = {**raw["steps"]["on_prefs"], "rehearse": {"on": "chats", "batch_size": 5}}
    config = parse_config(raw)
    plan_run(config, gpu="A100-80GB", assume=[], shapes=[], sample_rows=100, as_json=True)
    plan = json.loads(capsys.readouterr().out)
    assert "12 rows" in str(plan)
    assert "5 a step, of 12" in str(plan)
    pipeline = Pipeline(config)
    pipeline.run_all()
    for name in SETS:
        made = pipeline.output(name)
        model = pipeline.output(f"on_{name}")
        assert made.facts["read_as"].startswith(("a preference set", "a set of", "samples with rewards"))
        assert model.facts["steps"] == 2
        assert model.facts["final"]["scored_tokens"] > 0
    alone, kept = (pipeline.output(name).facts for name in ("on_prefs", "kept"))
    assert kept["final"]["scored_tokens"] > alone["final"]["scored_tokens"]
    assert kept["final"]["rehearsal_loss"] > 0, "after a step the model is another one than its reference"
    assert kept["lengths"] == {**alone["lengths"], "rehearsed": 12}
    assert pipeline.output("rollouts").counts == {"in": 16, "out": 16, "groups": 4}
    assert (pipeline.output("rollouts").facts["positive"], pipeline.output("labelled").facts["positive"]) == (6, 6)
    run = pipeline.run.uri
    paths = build_report(run)
    report = json.loads(Path(paths.json).read_text())
    assert Path(paths.html).read_text().count('<mark class="down"') >= 4, "tokens of the trainings"
    assert {row["stage"]: row["count"] for row in report["funnel"]} == {"rollouts": 16} | dict.fromkeys(
        ("prefs", "scored", "chats", "labelled"), 12
    )
    assert not [note for note in report["notes"] if "not run" in note]
    capsys.readouterr()
    inspect_traces(run, TraceFilter(), step="rollouts", limit=1, whole=False, as_json=False)
    told = capsys.readouterr().out
    assert "rollouts: samples with rewards: prompt in `problem` (text), completion in `response`" in told.replace(
        "\n", " "
    )
    assert "answer +1, reward 1" in told
    for name, (scored, sides) in {
        "on_prefs": ("tokens are scored", 2),
        "on_labelled": ("tokens are scored", 1),
    }.items():
        inspect_traces(run, TraceFilter(), step=name, limit=1, whole=False, as_json=False)
        told = capsys.readouterr().out
        assert told.count(scored) == sides
        assert "[-1: " in told or "[+1: " in told, "of a training the tokens that it has learnt from"
    again = Pipeline(config)
    again.run_all()
    assert {name: again.output(name).key for name in SETS} == {name: pipeline.output(name).key for name in SETS}
