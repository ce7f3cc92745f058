"""Dialogues as a graph: it is always clear whose turn it is, and every step has a line in the plan."""

from __future__ import annotations

from typing import Any

import pytest

from redi_ray.config.load import parse_config
from redi_ray.pipeline.graph import Graph, GraphError
from redi_ray.pipeline.standard import graph_of

STEPS: dict[str, Any] = {
    "dialogues": {"do": "import", "source": {"kind": "orders"}},
    "pairs": {"do": "import", "source": {"kind": "orders", "rows": "scored"}, "columns": {"reward": "score"}, "judge": {}},
    "speaker": {"do": "train", "from": "base", "on": "dialogues", "objective": {"name": "sft"}},
    "openings": {"do": "openings", "of": "dialogues"},
    "first": {"do": "sample", "problems": "openings", "model": "speaker"},
    "heard": {"do": "hand_over", "of": "first", "brief": "you are a customer"},
    "reply": {"do": "sample", "problems": "heard", "model": "base"},
    "asked": {"do": "hand_over", "of": "reply"},
    "second": {"do": "sample", "problems": "asked", "model": "speaker"},
}  # fmt: skip
SCRATCH = {"init": {"kind": "scratch", "vocab_size": 300}}


def graph(repeat: dict[str, Any] | None = None, **changes: dict[str, Any]) -> Graph:
    steps = {name: {**step, **changes.get(name, {})} for name, step in STEPS.items()}
    told = {"name": "x", "model": SCRATCH, "steps": steps, "evaluate": {"models": ["base"]}, "repeat": repeat}
    return graph_of(parse_config(told))


def test_turns_are_a_chain_of_steps() -> None:
    found = graph()
    assert [step.name for step in found.needed_for(["second"])][-5:] == ["first", "heard", "reply", "asked", "second"]
    assert dict(found["heard"].inputs) == {"of": "first", "base": "base"}


def test_rounds_of_a_dialogue_are_a_repeat() -> None:
    found = graph({"steps": ["first", "heard", "reply", "asked"], "times": 3, "carry": {"openings": "asked"}})
    assert found["first@1"].inputs["problems"] == "openings"
    assert found["first@3"].inputs["problems"] == "asked@2"
    assert found["second"].inputs["problems"] == "asked@3"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"heard": {"brief": None}}, "nobody to hand it back to; give a `brief`"),
        ({"asked": {"of": "second"}, "second": {"problems": "openings"}}, "nobody to hand it back to"),
        ({"asked": {"brief": "you are a customer"}}, "is the partner's, and goes back as it is"),
        ({"openings": {"of": "pairs"}}, "`of: pairs` is no step `import` of dialogues"),
        ({"openings": {"of": "speaker"}}, "is no step `import` of dialogues"),
        ({"heard": {"of": "openings"}}, "openings"),
    ],
)
def test_whose_turn_it_is_is_checked(changes: dict[str, dict[str, Any]], told: str) -> None:
    with pytest.raises(GraphError) as caught:
        graph(**changes)
    assert told in str(caught.value)
