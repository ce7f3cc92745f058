"""`redi-ray graph` on every config, without Ray: each step once, with its state; rails and boxes that can be followed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from redi_ray.cli.graph import PictureError, draw, show_graph
from redi_ray.config.load import load_config, parse_config
from redi_ray.config.yaml_text import read_yaml
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.pipeline.standard import graph_of
from redi_ray.pipeline.states import UNREAD, State, states
from redi_ray.report.graph_lanes import lanes
from redi_ray.report.graph_layout import drawn_inputs, layout
from redi_ray.stages.run import Run

CONFIGS = sorted(map(str, Path("configs").rglob("*.yaml")))
ROUNDS = """
name: x
steps:
  hard: {do: select, of: verified, difficulty: {max_rate: 0.75}}
  sft2: {do: train, from: sft, on: hard, objective: {name: sft}}
  own: {do: sample, model: sft2}
  own_math: {do: verify, of: own}
  own_pairs: {do: pairs, of: own_math}
  nca: {do: train, from: sft2, on: own_pairs, objective: {name: dpo}}
  soup: {do: merge, of: {sft2: 0.4, nca: 0.6}}
repeat: {steps: [own, own_math, own_pairs, nca], times: 3, carry: {sft2: nca}}
"""


@pytest.mark.parametrize("path", CONFIGS)
def test_every_config_is_drawn_and_listed(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = [f"storage.root={tmp_path}"]
    if "paths: [s3://" in Path(path).read_text():  # that nobody answers for
        (tmp_path / "problems.jsonl").write_text('{"problem": "1+1", "answer": "2"}')
        changes.append(f"problems.source.paths=[{tmp_path}/problems.jsonl]")
    if "path: s3://" in Path(path).read_text():
        changes.append("model.init.path=some/model")
    config = load_config(path, changes)
    show_graph(config, as_json=True, picture=str(tmp_path / "graph.svg"))
    steps = json.loads(capsys.readouterr().out)
    assert [step["name"] for step in steps] == list(graph_of(config).steps)
    assert {"name", "kind", "inputs", "state"} <= set(steps[0])
    assert {step["state"] for step in steps} == {"missing"}
    stream = io.StringIO()
    show_graph(config, as_json=False, console=Console(file=stream, width=120))
    lines = stream.getvalue().splitlines()
    assert [sum(step["name"] in line.split() for line in lines) >= 1 for step in steps] == [True] * len(steps)
    picture = (tmp_path / "graph.svg").read_text()
    assert picture.startswith("<?xml")
    assert all(f">{step['name'][:19]}" in picture for step in steps if step["kind"] != "evaluate")
    assert picture.count(">scores<") == sum(step["kind"] == "evaluate" for step in steps)


def test_rails_lead_from_each_step_to_those_that_take_it() -> None:
    steps = [Step("p", "problems"), *(Step(name, "sample", {"problems": "p"}) for name in ("a", "b"))]
    steps += [Step("m", "merge", {"a": "a", "b": "b"})]
    drawn = dict(lanes(Graph(step if step.kind != "merge" else Step("m", "verify", {"of": "a"}) for step in steps)))
    assert drawn == {"p": "*", "a": "├─*", "b": "* │", "m": "  *"}


def test_boxes_and_lines_stay_apart() -> None:
    """In a graph of three rounds no two boxes of a row touch, lines go down, and what is implied is not drawn."""
    graph = graph_of(parse_config(read_yaml(ROUNDS)))
    placed = layout(graph)
    assert set(placed.x) | set(placed.scores.values()) == set(graph.steps)
    rows: dict[int, list[float]] = {}
    for name, x in placed.x.items():
        rows.setdefault(placed.row[name], []).append(x)
    assert all(b - a > 1.05 for found in rows.values() for a, b in zip(sorted(found), sorted(found)[1:], strict=False))
    for source, name, places in placed.lines:
        assert [row for _, row in places] == list(range(placed.row[source], placed.row[name] + 1))
        for x, row in places[1:-1]:
            assert all(abs(x - other) > 0.55 for other in rows[int(row)]), (source, name)
    drawn = drawn_inputs(graph)
    assert drawn["own_pairs@2"] == ["own_math@2"]
    assert drawn["nca@2"] == ["nca@1", "own_pairs@2"]
    assert drawn["eval/soup"] == ["soup"]


def test_states_are_told_with_their_reason() -> None:
    graph = graph_of(load_config("configs/demo.yaml"))
    found = [
        State(step, "stale", "verify.policy") if step.name == "verified" else State(step, "finished") for step in graph
    ]
    stream = io.StringIO()
    draw(graph, found, Console(file=stream, width=100))
    assert "stale: verify.policy" in stream.getvalue()
    assert f"{len(found)} steps: {len(found) - 1} finished, 1 stale" in stream.getvalue()


def test_no_ray_is_started_and_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"\.svg, \.png, \.html"):
        show_graph(load_config("configs/demo.yaml"), as_json=False, picture=str(tmp_path / "graph.pdf"))
    arguments = ["graph", "configs/demo.yaml", f"storage.root={tmp_path}", "--picture", str(tmp_path / "g.html")]
    script = f"""
import sys
from redi_ray.cli.app import app
app({arguments}, standalone_mode=False)
print("ray" in sys.modules and sys.modules["ray"].is_initialized())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert "<svg" in (tmp_path / "g.html").read_text()


def test_a_graph_is_drawn_where_its_storage_cannot_be_read() -> None:
    """It is asked once: a bucket that does not answer takes half a minute to be sure of."""
    config = load_config("configs/demo.yaml")
    found = states(graph_of(config), Run(config, "nowhere://bucket/demo"))
    assert {state.standing for state in found} == {"missing"}
    assert found[0].why.startswith("nowhere://bucket/demo: unknown scheme")
    assert {state.why for state in found[1:]} == {UNREAD}


def test_what_comes_of_an_evaluation_stands_behind_its_model() -> None:
    """Evaluations are drawn with their models, so that a line to what takes one begins there."""
    found = layout(graph_of(parse_config({"name": "x", "steps": {"looks": {"do": "reflect", "of": "eval/sft"}}})))
    assert [line[:2] for line in found.lines if line[1] == "looks"] == [("sft", "looks")]
    assert found.row["looks"] == found.row["sft"] + 1
