"""Columns, groups and selections as named steps: refused by name where they do not fit, and run for real on imported traces."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from imported_run import write_imported
from processes import rows
from rich.console import Console

from redi_ray.cli.inspect import inspect_traces
from redi_ray.config.load import ConfigError, load_config, parse_config
from redi_ray.pipeline.graph import Graph, GraphError
from redi_ray.pipeline.runner import Pipeline
from redi_ray.pipeline.standard import graph_of
from redi_ray.pipeline.states import states
from redi_ray.report.browse import TraceFilter
from redi_ray.report.numbers import funnel
from redi_ray.report.runs import read_run
from redi_ray.stages.run import Run

LENGTH = {"do": "score", "of": "verified", "scorer": {"name": "length"}}
SPANS = {"do": "score", "of": "verified", "scorer": {"name": "rule", "pattern": "it is", "spans": True}}
LOST = {"do": "locate", "of": "verified", "model": "sft", "locator": {"kind": "rollouts"}}
STEPS: dict[str, Any] = {
    "length": LENGTH,
    "thoughts": SPANS,
    "rollouts": {"do": "groups", "of": "verified", "rewards": {"correct": 1, "wrong": -1}, "scores": {"length": 0.001},
                 "spans": "thoughts", "both_sides": True, "most": 3},
    "late": {"do": "select", "of": "verified", "rounds": {"more_than": 1}},
    "control": {"do": "select", "of": "verified", "random": {"like": "late"}},
    "short": {"do": "select", "of": "verified", "by": "length", "keep": {"per_problem": 1, "order": "lowest"}},
}  # fmt: skip


def graph(**steps: Any) -> Graph:
    return graph_of(parse_config({"name": "x", "steps": STEPS | steps}))


def test_columns_and_groups_in_a_graph() -> None:
    found = graph(learn={"do": "train", "from": "sft", "on": "rollouts", "objective": {"name": "sft"}})
    assert found["rollouts"].inputs == {
        "of": "verified", "base": "base", "column length": "length", "column thoughts": "thoughts"
    }  # fmt: skip
    assert (found["length"].gives, found["rollouts"].gives) == ("column", "groups")
    assert found["learn"].inputs["groups"] == "rollouts", "it is learnt from as it is, not curated"
    assert found["control"].inputs["like"] == "late"
    assert graph(length={**LENGTH, "of": "traces"}), "the same samples, before their verdicts"
    tokens = graph(length={**LENGTH, "scorer": {"name": "length", "unit": "tokens"}})
    assert tokens["length"].inputs["base"] == "base"


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ({"rollouts": {**STEPS["rollouts"], "scores": {"lenght": 1}}},
         "rollouts: `scores: lenght` is no step; did you mean length.; what would fit: length, thoughts"),
        ({"rollouts": {**STEPS["rollouts"], "scores": {"verified": 1}}}, "gives verified, and groups takes column"),
        ({"rollouts": {**STEPS["rollouts"], "scores": {"thoughts": 1}, "spans": None}},
         "rollouts: `scores: thoughts` is a column at grain span, and row is needed there"),
        ({"rollouts": {**STEPS["rollouts"], "spans": "length", "scores": {}}}, "`spans: length` is a column at grain row"),
        ({"rollouts": {**STEPS["rollouts"], "of": "late"}},
         "rollouts: `scores: length` is a column of verified, which has other samples than late"),
        ({"size": {**LENGTH, "of": "curated"}}, "score takes traces or verified; what would fit: traces, verified"),
        ({"control": {**STEPS["control"], "random": {"like": "curated"}}}, "`like: curated` gives groups"),
        ({"short": {**STEPS["short"], "by": "verified"}}, "short: `by: verified` gives verified, and select takes column"),
        ({"short": {**STEPS["short"], "by": "thoughts"}}, "`by: thoughts` is a column at grain span, and row is needed there"),
        ({"short": {**STEPS["short"], "of": "late"}}, "`by: length` is a column of verified, which has other samples than late"),
        ({"late": {**STEPS["late"], "by": "length"}}, "`by: length` gives column, and select takes verified"),
        ({"lost": {**LOST, "model": "verified"}}, "lost: `model: verified` gives verified, and locate takes model"),
        ({"lost": {**LOST, "of": "traces"}}, "locate takes verified"),
        ({"lost": LOST, "rollouts": {**STEPS["rollouts"], "spans": "lost"}}, "`spans: lost` is a column of labelled steps"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(steps: dict[str, Any], told: str) -> None:
    with pytest.raises(GraphError, match=told):
        graph(**steps)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({"do": "score", "of": "verified", "scorer": {"name": "beauty"}}, r"steps\.x\.scorer\.name: there is no 'beauty'"),
        ({**LOST, "model": None}, "locator `rollouts` needs a model: name one of the graph"),
        ({**LOST, "locator": {"kind": "oracle"}}, r"steps\.x\.locator\.kind: there is no 'oracle'"),
        ({"do": "groups", "of": "verified", "rewards": {}}, "there is no reward: name verdicts in `rewards`"),
        ({"do": "groups", "of": "verified", "rewards": {"right": 1}}, "right"),
        ({"do": "groups", "of": "verified", "most": 1}, "most 1 is less than least 2"),
        ({"do": "select", "of": "verified"}, "set one of `difficulty`, `rounds`, `random`, `diverse`, `balance` and `keep`"),
        ({"do": "select", "of": "verified", "rounds": {}, "difficulty": {}}, "set one of `difficulty`"),
        ({"do": "select", "of": "verified", "random": {}}, "set either `like`"),
        ({"do": "select", "of": "verified", "by": "length", "keep": {}}, "set at least one of `per_problem`, `overall`, `like`"),
        ({"do": "select", "of": "verified", "keep": {"overall": 3}}, "`keep` goes by a column: name a step `score` in `by`"),
        ({"do": "select", "of": "verified", "keep": {"at_most": 3, "order": "random"}}, "or set `order: random` without bounds"),
        ({"do": "select", "of": "verified", "by": "length", "keep": {"at_least": 3, "at_most": 2}}, "which leaves no sample"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(step: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        graph(x=step)


def test_only_the_built_in_world_is_recomputed(tmp_path: Path) -> None:
    raw = load_config(str(write_imported(tmp_path, num_problems=2))).model_dump(mode="json")
    raw["steps"] = {"lost": {"do": "locate", "of": "verified", "locator": {"kind": "exact"}}}
    with pytest.raises(GraphError, match=r"lost: .*built-in world, and problems.source is of the kind `files`"):
        graph_of(parse_config(raw))


def test_votes_of_nobody_are_refused_with_those_there_are(tmp_path: Path) -> None:
    raw = load_config(str(write_imported(tmp_path, num_problems=2))).model_dump(mode="json")
    raw["problems"]["source"]["columns"] |= {"votes": {"tests": "passed"}}
    raw["storage"]["root"] = str(tmp_path)
    found = []
    for votes in (["math_verify"], ["math_verify", "tests"]):
        raw["verify"] |= {"votes": votes}
        config = parse_config(raw)
        found.append({state.step.name: state.key for state in states(graph_of(config), Run.of(config))})
    assert found[0]["traces"] == found[1]["traces"]
    assert found[0]["verified"] != found[1]["verified"], "who votes decides"
    raw["verify"]["votes"] = ["math_verify", "test"]
    with pytest.raises(ConfigError, match=r"verify.votes holds test, but nothing casts.*there are math_verify, tests"):
        parse_config(raw)


def keys(config: Path, root: Path, **steps: Any) -> dict[str, str | None]:
    loaded = load_config(str(config), [f"storage.root={root}"]).model_dump(mode="json")
    loaded["steps"] = STEPS | steps
    parsed = parse_config(loaded)
    return {state.step.name: state.key for state in states(graph_of(parsed), Run.of(parsed))}


def test_keys_of_columns_and_groups_are_honest(tmp_path: Path) -> None:
    """What is read of a user's file counts by its content, and so do the curation's limits where a step has none of its own."""
    config = write_imported(tmp_path, num_problems=2)
    scores = tmp_path / "scores.jsonl"
    scores.write_text('{"trace_id": "p0#0", "value": 1}\n')
    length = {**LENGTH, "scorer": {"name": "imported", "paths": [str(scores)]}}
    before = keys(config, tmp_path, length=length)
    scores.write_text('{"trace_id": "p0#0", "value": 2}\n')
    after = keys(config, tmp_path, length=length)
    assert {name for name, key in after.items() if key != before[name]} == {"length", "rollouts", "short"}
    limited = keys(config, tmp_path, length=length, rollouts={**STEPS["rollouts"], "max_response_tokens": 9})
    assert {name for name, key in limited.items() if key != after[name]} == {"rollouts"}
    keeps = (
        {"per_problem": 2, "order": "lowest"},
        {"per_problem": 1},
        {"overall": 1, "order": "lowest"},
        {"at_most": 9},
    )
    found = {keys(config, tmp_path, short={**STEPS["short"], "keep": keep})["short"] for keep in keeps}
    assert len(found - {before["short"]}) == len(keeps)


def test_keys_of_located_steps_are_honest(tmp_path: Path) -> None:
    """All that decides labels counts, the engine that goes on among it; where a judge is served does not, nor a model's name."""
    config = write_imported(tmp_path, num_problems=2)
    served = {"kind": "judge", "endpoint": {"base_url": "http://a/v1", "model": "m"}}
    goes_on = {"kind": "rollouts", "samples": 4}
    variants = [
        *({**LOST, "locator": goes_on | change} for change in ({}, {"samples": 5}, {"search": "linear"}, {"threshold": 0.1})),
        {**LOST, "ask": "all"}, {**LOST, "form": "sentences"}, {**LOST, "model": "base"},
        *({"do": "locate", "of": "verified", "locator": served | change} for change in ({}, {"neutral": "right"}, {"seed": 1})),
    ]  # fmt: skip
    found = [keys(config, tmp_path, lost=variant)["lost"] for variant in variants]
    assert len({*found}) == len(variants)
    moved = {
        "do": "locate",
        "of": "verified",
        "locator": served | {"endpoint": {"base_url": "http://b/v1", "model": "m"}},
    }
    assert keys(config, tmp_path, lost=moved)["lost"] in found
    copied = keys(
        config, tmp_path, lost={**LOST, "locator": goes_on, "model": "copy"}, copy={"do": "merge", "of": {"sft": 1}}
    )
    assert copied["lost"] not in found, "a merge is a model of its own"


@pytest.mark.slow
def test_columns_groups_and_selections_run(ray_session: None, tmp_path: Path) -> None:
    """Traces with labels of a verifier that nobody here knows, to groups: rewards, spans, funnel, and what is shown of them."""
    path = write_imported(tmp_path, num_problems=12)
    traces = tmp_path / "traces.jsonl"
    lines = [json.loads(line) for line in traces.read_text().splitlines()]
    traces.write_text("".join(json.dumps({**line, "passed": n % 2 == 0}) + "\n" for n, line in enumerate(lines)))
    raw = load_config(str(path), [f"storage.root={tmp_path}"]).model_dump(mode="json")
    raw["problems"] |= {"dev": {"share": 0.0}}
    raw["problems"]["source"]["columns"]["votes"] = {"tests": "passed"}
    raw["redi"]["train"]["probe"] = None
    raw["resources"] |= {"verify_workers": 1, "curate_workers": 1}
    pipeline = Pipeline(parse_config(raw | {"steps": STEPS}))
    made = pipeline.output("rollouts")
    run = tmp_path / "imported"
    verified = {row["trace_id"]: row for row in rows(run, "verified", "verified")}
    assert verified["p0#1"]["verdict_by"] == [
        {"verifier": "math_verify", "vote": verified["p0#1"]["verdict"]}, {"verifier": "tests", "vote": "wrong"}
    ]  # fmt: skip
    column = rows(run, "steps/length/column", "column")
    assert {row["trace_id"]: row["value"] for row in column} == {
        key: len(row["completion"]) for key, row in verified.items()
    }
    groups = rows(run, "steps/rollouts/groups", "groups")
    assert (made.counts["groups"], made.counts["in"]) == (len(groups), 48)
    assert made.counts["in"] == made.counts["out"] + sum(made.dropped.values())
    for group in groups:
        mine = [row for row in verified.values() if row["problem_id"] == group["problem_id"]]
        right = {row["completion"]: row["verdict"] == "correct" for row in mine}
        for member in group["members"]:
            (turn,) = member["turns"]
            assert member["reward"] == pytest.approx(
                (1 if right[turn["content"]] else -1) + len(turn["content"]) / 1000
            )
            (span,) = member["spans"]
            assert turn["content"][span["start"] : span["end"]] == "it is"
        assert {member["side"] for member in group["members"]} == {1, -1}
    late, control = pipeline.output("late"), pipeline.output("control")
    assert late.facts["problems"] == control.facts["problems"] > 0
    first = {row["problem_id"]: row["verdict"] for row in verified.values() if row["sample_index"] == 0}
    assert {row["problem_id"] for row in rows(run, "steps/late/verified", "verified")} == {
        problem for problem, verdict in first.items() if verdict != "correct"
    }
    short = pipeline.output("short")
    shortest: dict[str, tuple[int, int]] = {}
    for row in verified.values():
        mine = (len(row["completion"]), row["sample_index"])
        shortest[row["problem_id"]] = min(mine, shortest.get(row["problem_id"], mine))
    assert {row["trace_id"] for row in rows(run, "steps/short/verified", "verified")} == {
        f"{problem}#{index}" for problem, (_, index) in shortest.items()
    }
    assert (short.counts, short.dropped) == ({"in": 48, "out": 12}, {"over_per_problem": 36})
    (told,) = [row for row in funnel(read_run(str(run))) if row["stage"] == "rollouts: groups"]
    assert (told["count"], sum(told["dropped"].values())) == (len(groups), 12 - len(groups))
    for step, seen in (("rollouts", "reward 1.0"), ("length", "length: "), ("late", "tests wrong")):
        out = io.StringIO()
        inspect_traces(
            str(run),
            TraceFilter(),
            step=step,
            limit=2,
            whole=False,
            as_json=False,
            console=Console(file=out, width=200),
        )
        assert seen in out.getvalue(), step
