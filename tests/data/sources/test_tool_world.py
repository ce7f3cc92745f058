"""The built-in world of tools is fixed by its seed, its splits do not leak, and only its calls go wrong."""

from __future__ import annotations

import pytest

from redi_ray.config.load import ConfigError, parse_config
from redi_ray.config.worlds import ArithmeticSource, ToolArithmeticSource
from redi_ray.data.sources.built_in import alphabet_of, answer_of, corpus_of, splits_of
from redi_ray.data.sources.tool_world import answer, apply, build_tool_world, read_chain, tool_corpus, write_chain
from redi_ray.data.sources.world import corpus
from redi_ray.tools.execute import calculate

SOURCE = ToolArithmeticSource(num_problems=300, num_dev=100, num_test=200)
TOOLS = {"names": ["calculator"], "marks": {"calculator": ["[", "]"]}, "output": "{output}"}


def test_answers_by_hand():
    assert answer("12*7-30") == "54"
    assert answer("3-9*10") == "-60"  # left to right
    assert write_chain(read_chain("12*7-30")) == "12*7-30"
    assert read_chain("12*7-30") == (12, (("*", 7), ("-", 30)))


def test_splits_are_disjoint_and_do_not_move_with_the_number_of_problems():
    world, larger = build_tool_world(SOURCE), build_tool_world(SOURCE.model_copy(update={"num_problems": 500}))
    assert len({*world.train, *world.dev, *world.test}) == 600
    assert (larger.test, larger.dev, larger.train[:300]) == (world.test, world.dev, world.train)
    assert not {*world.dev, *world.test} & {problem for problem, _ in tool_corpus(SOURCE, 2000)}


def test_calls_fall_for_misconceptions_and_outputs_are_what_the_calculator_says():
    world, wrong, solved = build_tool_world(SOURCE), 0, 0
    assert all(operator != called for (operator, _), called in world.misconceptions.items())
    for problem, turns in tool_corpus(SOURCE, 300):
        value, steps = read_chain(problem)
        calls, outputs = turns[:-1:2], turns[1::2]
        for (operator, number), call, output in zip(steps, calls, outputs, strict=True):
            expression = call["content"].removeprefix("[").removesuffix("]")
            called = expression[len(str(value))]
            assert expression == f"{value}{called}{number}"
            assert called in (operator, world.misconceptions.get((operator, number)))
            assert output == {"role": "tool", "content": calculate(expression)}
            wrong += called != operator
            value = apply(value, called, number)
        assert turns[-1] == {"role": "assistant", "content": f"\\boxed{{{value}}}"}
        solved += str(value) == answer(problem)
    assert wrong > 50
    assert 50 < solved < 300


def test_the_door_of_the_built_in_worlds_leads_to_the_right_one():
    digits = ArithmeticSource(num_problems=30, num_dev=5, num_test=5)
    assert [(p, turns[0]["content"]) for p, turns in corpus_of(digits, 20)] == list(corpus(digits, 20))
    assert answer_of(digits, "3+4*2-1") == "3"
    assert answer_of(SOURCE, "3+4*2-1") == "13"
    assert splits_of(SOURCE) == build_tool_world(SOURCE)
    letters = {
        letter for problem, turns in corpus_of(SOURCE, 200) for turn in turns for letter in problem + turn["content"]
    }
    assert letters - set("\\boxed{") <= set(alphabet_of(SOURCE))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"evaluate": {"tools": None}}, r"evaluate.tools must be \{names: \[calculator\]"),
        ({"generate": {"kind": "vllm", "tools": {"names": ["calculator"]}}}, "generate.tools must be"),
        ({"model": {}}, "model.prompt.tool_role must be user"),
        ({"problems": {"source": {"kind": "tool_arithmetic", "least": 9, "largest": 9}}}, "least is not smaller than largest"),
    ],
)  # fmt: skip
def test_a_config_that_cannot_solve_it_is_refused(change: dict[str, object], told: str):
    raw = {
        "name": "x",
        "problems": {"source": {"kind": "tool_arithmetic"}},
        "generate": {"kind": "vllm", "tools": TOOLS},
        "model": {"prompt": {"prefix": "", "tool_role": "user"}},
        "evaluate": {"tools": TOOLS},
    }
    parse_config(raw)
    with pytest.raises(ConfigError, match=told):
        parse_config(raw | change)
