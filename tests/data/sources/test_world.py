"""The built-in world is fixed by its seed, its splits do not leak, and its errors are the misconceptions alone."""

from __future__ import annotations

import random

import pytest

from redi_ray.config.worlds import ArithmeticSource, ToolArithmeticSource
from redi_ray.data.sources.world import answer, apply, build_world, corpus, read_chain, solve, write_chain

SOURCE = ArithmeticSource(num_problems=300, num_dev=100, num_test=200)


def test_answers_by_hand():
    assert answer("3+4*2-1") == "3"  # 3+4=7, 7*2=14 -> 4, 4-1=3
    assert answer("1-9") == "2"  # -8 modulo 10
    assert write_chain(read_chain("3+4*2-1")) == "3+4*2-1"


def test_splits_are_disjoint_and_do_not_move_with_the_number_of_problems():
    world, larger = build_world(SOURCE), build_world(SOURCE.model_copy(update={"num_problems": 500}))
    assert len({*world.train, *world.dev, *world.test}) == 600
    assert (larger.test, larger.dev, larger.train[:300]) == (world.test, world.dev, world.train)
    assert not {*world.dev, *world.test} & {problem for problem, _ in corpus(SOURCE, 2000)}


def test_misconceptions_are_wrong_and_are_all_that_goes_wrong():
    world = build_world(SOURCE)
    assert len(world.misconceptions) == 120  # 40% of 300 facts
    assert all(apply(*fact) != wrong for fact, wrong in world.misconceptions.items())
    for problem, completion in corpus(SOURCE, 500):
        value = int(problem[0])
        lines = completion.removeprefix("<think>\n").split("\n</think>")[0].split("\n")
        for (operator, digit), line in zip(read_chain(problem)[1], lines, strict=True):
            written = int(line[-1])
            fact = (value, operator, digit)
            assert line == f"{value}{operator}{digit}={written}"
            assert written == apply(*fact) or written == world.misconceptions.get(fact)
            value = written
        assert completion.endswith(f"\\boxed{{{value}}}")


def test_without_misconceptions_every_solution_is_right():
    world = build_world(SOURCE)
    for problem in world.train[:50]:
        solution = solve(read_chain(problem), world, random.Random(0), misconception_rate=0.0)
        assert solution.endswith(f"\\boxed{{{answer(problem)}}}")


def test_near_copies_crowd_what_is_learnt_from_and_nothing_that_is_held_out():
    """Three quarters are one step away from one of the 20 shortest of the others."""
    crowded = build_world(SOURCE.model_copy(update={"copies": 0.75}))
    plain = build_world(SOURCE)
    assert (crowded.test, crowded.dev, crowded.train[:75]) == (plain.test, plain.dev, plain.train[:75])
    assert len({*crowded.train, *crowded.dev, *crowded.test}) == 600
    models = sorted(crowded.train[:75], key=len)[:20]
    for problem in crowded.train[75:]:
        first, steps = read_chain(problem)
        near = (read_chain(model) for model in models if len(model) == len(problem))
        assert any(
            first == other and sum(one != two for one, two in zip(steps, theirs, strict=True)) == 1
            for other, theirs in near
        )
    with pytest.raises(ValueError, match="near copies of 20 chains"):
        build_world(SOURCE.model_copy(update={"num_problems": 3000, "copies": 0.9}))
    with pytest.raises(ValueError, match="of the world of digits"):
        ToolArithmeticSource(copies=0.5)


def test_asking_for_more_problems_than_there_are_is_refused():
    with pytest.raises(ValueError, match="raise max_digits"):
        build_world(ArithmeticSource(num_problems=300, min_digits=2, max_digits=2))
