"""Divergences from stored teachers at their ends: sure and unsure models, one token and the whole vocabulary, cold and hot,
padded heads, half precision. Values and gradients are numbers, and the gradients those of finite differences.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any, get_args

import pytest
import torch

from redi_ray.config.soft_objectives import DivergenceName
from redi_ray.modeling.fused_softmax import rest_sums, shape, spread
from redi_ray.modeling.logps import HeadShape, weighted_logps
from redi_ray.modeling.soft_columns import LOWEST, SoftFormat, likeliest, pack, unpack
from redi_ray.modeling.soft_targets import SoftTargets, _Fused
from redi_ray.objectives.divergences import Divergence

TOKENS, WIDTH, ROWS = 11, 4, 5
EVERY = list(product(get_args(DivergenceName), ("bucket", "renormalise")))
TEMPERATURES = (0.1, 1.0, 10.0)
SURE = (0.1, 3.0, 300.0)
"""Sizes of logits, from knowing nothing to nothing but one token."""
PADDED = ((0, 0), (3, 0), (0, 3))
"""Rows of the teacher's and of the student's head that no token has."""


def taught(how_sure: float, top_k: int, padding: int, stored: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`top_k` of a teacher's `stored` tokens and the rest, through the column's half precision."""
    generator = torch.Generator().manual_seed(1)
    logits = how_sure * torch.randn(ROWS, TOKENS + padding, generator=generator, dtype=torch.float64)
    logps = logits.log_softmax(1)
    best, ids = logps[:, :TOKENS].topk(stored, 1)
    rest = logps.scatter(1, ids, -torch.inf).logsumexp(1, keepdim=True)
    records = pack(ids.numpy(), torch.cat([best, rest], 1).numpy(), SoftFormat(stored, TOKENS))
    kept, told = likeliest(*unpack(records), top_k)
    return torch.from_numpy(kept), torch.from_numpy(told)


def student(how_sure: float, padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states and the head's weight; their products are of the size `how_sure`."""
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64)
    return hidden, how_sure / 2 * torch.randn(TOKENS + padding, WIDTH, generator=generator, dtype=torch.float64)


def run(hidden: torch.Tensor, weight: torch.Tensor, teacher: Any, how: Divergence) -> tuple[torch.Tensor, ...]:
    """Values, gradients by hidden states and by the weight."""
    hidden, weight = hidden.detach().clone().requires_grad_(), weight.detach().clone().requires_grad_()
    soft = SoftTargets(*teacher, torch.ones(ROWS, dtype=torch.float64), how)
    nothing = torch.zeros(ROWS, dtype=torch.float64)
    total, _ = weighted_logps(hidden, weight, torch.arange(ROWS), nothing, HeadShape(2), soft=soft)
    total.backward()
    assert hidden.grad is not None
    assert weight.grad is not None
    return soft.values, hidden.grad, weight.grad


@pytest.fixture(params=["in place", "fused"])
def passes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Either way through the logits."""
    if request.param == "fused":
        monkeypatch.setattr("redi_ray.modeling.soft_targets._InPlace", _Fused)
        monkeypatch.setattr("redi_ray.modeling.soft_targets.spread_kernels", lambda device: (rest_sums, spread, shape))
    return request.param


@pytest.mark.usefixtures("passes")
@pytest.mark.parametrize(("name", "rest"), EVERY)
@pytest.mark.parametrize("top_k", [1, 2, TOKENS])
def test_gradients_are_those_of_finite_differences(name: DivergenceName, rest: Any, top_k: int) -> None:
    if rest == "renormalise" and top_k == 1:
        pytest.skip("one outcome leaves nothing to learn, and is refused")
    step = 1e-6
    for temperature, ours, theirs, padding in product(TEMPERATURES, (3.0,), SURE, PADDED):
        how, told = Divergence(name, temperature=temperature, rest=rest), (temperature, ours, theirs, padding)
        teacher, (hidden, weight) = taught(theirs, top_k, padding[0], TOKENS), student(ours, padding[1])
        values, slopes, _ = run(hidden, weight, teacher, how)
        assert values.isfinite().all(), told
        assert values.min() > -1e-9, told
        found = torch.empty_like(slopes)
        for place in range(WIDTH):  # rows know nothing of each other: all move at once
            moved = torch.zeros_like(hidden)
            moved[:, place] = step
            high, low = (run(hidden + sign * moved, weight, teacher, how)[0] for sign in (1, -1))
            found[:, place] = (high - low) / (2 * step)
        # of large values the difference is rounded
        size = float(values.max()) * 1e-16 / step * 10 + 1e-5 * (1 + float(slopes.abs().max()))
        torch.testing.assert_close(slopes, found, rtol=1e-5, atol=size, msg=lambda text, told=told: f"{told}: {text}")


@pytest.mark.usefixtures("passes")
@pytest.mark.parametrize(("name", "rest"), EVERY)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_everything_is_finite(name: DivergenceName, rest: Any, dtype: torch.dtype) -> None:
    """In every type in which students are trained, also of students that are sure of other tokens than the teacher."""
    for top_k, temperature, ours, theirs, padding in product((1, TOKENS), (0.1, 100.0), SURE, SURE, PADDED):
        if rest == "renormalise" and top_k == 1:
            continue
        how = Divergence(name, temperature=temperature, rest=rest)
        hidden, weight = (x.to(dtype) for x in student(ours, padding[1]))
        for found in run(hidden, weight, taught(theirs, top_k, padding[0], TOKENS), how):
            assert found.isfinite().all(), (top_k, temperature, ours, theirs, padding)


def test_a_rest_that_the_student_does_not_have_is_left_out() -> None:
    """The whole vocabulary is named, and the teacher's head has rows that no token has: what it gives to them is renormalised
    away, since the student's head has none. The forward KL had been infinite."""
    hidden, weight = student(1.0, 0)
    ids, theirs = taught(1.0, TOKENS, 3, TOKENS)
    assert theirs[:, -1].exp().max() > 0.01, "the teacher is meant to give something to its padding"
    ours = run(hidden, weight, (ids, theirs), Divergence())
    without = torch.cat([theirs[:, :-1], torch.full((ROWS, 1), -torch.inf)], 1)
    torch.testing.assert_close(ours, run(hidden, weight, (ids, without), Divergence()))
    torch.testing.assert_close(ours, run(hidden, weight, (ids, theirs), Divergence(rest="renormalise")))


@pytest.mark.usefixtures("passes")
@pytest.mark.parametrize("temperature", [1.0, 100.0])
@pytest.mark.parametrize("lowest", [-torch.inf, LOWEST])
def test_a_rest_that_the_teacher_does_not_have_is_left_out_of_the_reverse_kl(temperature: float, lowest: float) -> None:
    """The whole vocabulary is named, and the student's head has rows that no token has: the divergence is that over the tokens.
    It had been the number that stands for none: 65,504 nats times what the student gives to them."""
    how, (hidden, weight) = Divergence("reverse_kl", temperature=temperature), student(1.0, 3)
    ids, theirs = taught(1.0, TOKENS, 0, TOKENS)
    theirs[:, -1] = lowest
    assert (hidden @ weight.T).softmax(1)[:, TOKENS:].sum(1).max() > 0.1, "the student is meant to give something there"
    ours = run(hidden, weight, (ids, theirs), how)
    torch.testing.assert_close(ours, run(hidden, weight, (ids, theirs), replace(how, rest="renormalise")))
    without = run(hidden, weight[:TOKENS], (ids, theirs), how)
    torch.testing.assert_close((*ours[:2], ours[2][:TOKENS]), without)
    assert not ours[2][TOKENS:].any()


@pytest.mark.usefixtures("passes")
@pytest.mark.parametrize("name", get_args(DivergenceName))
@pytest.mark.parametrize("top_k", [1, 4])
def test_a_teacher_of_one_token_alone_gives_modest_numbers(name: DivergenceName, top_k: int) -> None:
    """Of the reverse KL nothing is left, since there is no second outcome that the teacher could say."""
    hidden, weight = student(1.0, 0)
    ids = torch.arange(top_k).expand(ROWS, -1)
    for lowest, temperature in product((-torch.inf, LOWEST), (1.0, 10.0)):
        theirs = torch.full((ROWS, top_k + 1), lowest, dtype=torch.float64)
        theirs[:, 0] = 0
        found = run(hidden, weight, (ids, theirs), Divergence(name, temperature=temperature))
        assert max(float(x.abs().max()) for x in found) < 10 * temperature**2
        assert (float(found[0].abs().max()) == 0) == (name == "reverse_kl")
