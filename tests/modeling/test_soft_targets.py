"""Soft targets in the fused head: divergences from a teacher's top k and the rest, their gradients those of plain autograd over
the whole vocabulary; where the teacher is sure of one token it is SFT, and towards oneself there is nothing to learn.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from test_logps import FACTORS, inputs, local

from redi_ray.modeling import logps as head_module
from redi_ray.modeling.fused_softmax import rest_sums, shape, spread
from redi_ray.modeling.logps import HeadShape, weighted_logps
from redi_ray.modeling.soft_targets import SoftTargets, _Fused
from redi_ray.objectives.divergences import Divergence

EXACT = {"rtol": 1e-10, "atol": 1e-12}
EVERY = [
    Divergence(),
    Divergence("reverse_kl"),
    Divergence("js", beta=0.3),
    Divergence(temperature=2.0),
    Divergence("reverse_kl", temperature=0.5),
    Divergence("js", temperature=3.0),
    Divergence(rest="renormalise"),
    Divergence("reverse_kl", rest="renormalise", temperature=2.0),
    Divergence("js", rest="renormalise"),
]
NAMES = [f"{how.name}-{how.rest}-{how.temperature:g}" for how in EVERY]


def student(hidden, weight, bias, head: HeadShape):
    """`[N, V]` what the softmax is over."""
    logits = hidden @ weight.T
    z = head.scale * (logits if bias is None else logits + bias)
    return z if head.softcap is None else head.softcap * torch.tanh(z / head.softcap)


def top_of(logits, k: int):
    """A teacher's `ids[N, k]` and `logps[N, k + 1]`, the rest last."""
    logps = logits.log_softmax(1)
    best, ids = logps.topk(k, 1)
    rest = logps.scatter(1, ids, -torch.inf).logsumexp(1, keepdim=True)
    return ids, torch.cat([best, rest], 1)


def outcomes_of(z, ids):
    """`[N, k + 1]` log-shares of a student with logits `z[N, V]`."""
    logps = z.log_softmax(1)
    inside = torch.zeros_like(z).scatter(1, ids, 1).bool()
    rest = logps.masked_fill(inside, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([logps.gather(1, ids), rest], 1)


def plain_divergence(z, ids, theirs, how: Divergence):
    """By the book: `[N]`, of log-shares that are all finite."""
    ours = outcomes_of(z, ids)
    if how.rest == "renormalise":
        ours, theirs = ours[:, :-1], theirs[:, :-1]
    p, q = (x.div(how.temperature).log_softmax(1) for x in (ours, theirs))
    if how.name == "forward_kl":
        found = (q.exp() * (q - p)).sum(1)
    elif how.name == "reverse_kl":
        found = (p.exp() * (p - q)).sum(1)
    else:
        m = (how.beta * q.exp() + (1 - how.beta) * p.exp()).log()
        found = how.beta * (q.exp() * (q - m)).sum(1) + (1 - how.beta) * (p.exp() * (p - m)).sum(1)
    return how.temperature**2 * found


@pytest.mark.parametrize("fused", [False, True], ids=["in place", "fused"])
@pytest.mark.parametrize("how", EVERY, ids=NAMES)
@pytest.mark.parametrize(
    ("chunk", "scale", "softcap", "in_place"), [(1, 1.0, None, False), (4, 0.25, None, True), (512, 2.0, 3.0, True)]
)
def test_equals_autograd_over_the_whole_vocabulary(monkeypatch, how, chunk, scale, softcap, in_place, fused):
    """Beside coefficients and terms of single log-probs, with a bias, and rows that do not count; by either of the two passes."""
    if fused:
        monkeypatch.setattr("redi_ray.modeling.soft_targets._InPlace", _Fused)
        monkeypatch.setattr("redi_ray.modeling.soft_targets.spread_kernels", lambda device: (rest_sums, spread, shape))
    hidden, weight, targets, coefficients = inputs()
    bias = torch.randn(len(weight), dtype=torch.float64, requires_grad=True)
    head = HeadShape(chunk, scale, softcap)
    ids, theirs = top_of(2 * torch.randn(13, 29, dtype=torch.float64), 5)
    ids[3, 2] = targets[3] if targets[3] not in ids[3] else ids[3, 2]
    counts = torch.rand(13, dtype=torch.float64)
    counts[6] = 0
    z = student(hidden, weight, bias, head)
    logps = z.log_softmax(1).gather(1, targets[:, None])[:, 0]
    divergences = plain_divergence(z, ids, theirs, how)
    expected = (coefficients * logps + FACTORS[:13] * logps.square() + counts * divergences).sum()
    grads = torch.autograd.grad(expected, (hidden, weight, bias))
    soft = SoftTargets(ids, theirs, counts, how)
    buffer = torch.zeros_like(weight) if in_place else None
    more: dict[str, Any] = {"bias": bias, "local": local, "soft": soft, "grad_weight": buffer}
    total, found = weighted_logps(hidden, weight, targets, coefficients, head, **more)
    total.backward()
    torch.testing.assert_close(found, logps, **EXACT)
    torch.testing.assert_close((hidden.grad, weight.grad if buffer is None else buffer, bias.grad), grads, **EXACT)
    torch.testing.assert_close(soft.values, torch.where(counts > 0, divergences, 0.0), **EXACT)


def run(hidden, weight, targets, soft, coefficients=None, head=HeadShape(4)):  # noqa: B008 (a frozen one)
    """Values, and gradients by hidden states and weight."""
    hidden, weight = (x.detach().clone().requires_grad_() for x in (hidden, weight))
    if coefficients is None:
        coefficients = torch.zeros(len(targets), dtype=torch.float64)
    total, _ = weighted_logps(hidden, weight, targets, coefficients, head, soft=soft)
    total.backward()
    return None if soft is None else soft.values, hidden.grad, weight.grad


@pytest.mark.parametrize("in_top", [True, False], ids=["among the top", "in a vocabulary of two"])
def test_a_teacher_that_is_sure_of_the_token_is_sft(in_top):
    """The forward KL of a teacher with one outcome: -log p, whatever else is in its top k."""
    hidden, weight, targets, coefficients = inputs()
    counts = coefficients.abs()
    others = torch.stack([torch.randperm(29)[:4] for _ in targets])
    others = torch.where(others == targets[:, None], (others + 1) % 29, others)
    ids = torch.cat([targets[:, None], others], 1) if in_top else targets[:, None]
    distinct = torch.tensor([len(set(row.tolist())) == len(row) for row in ids])
    theirs = torch.full((13, ids.shape[1] + 1), -torch.inf, dtype=torch.float64)
    theirs[:, 0] = 0
    counts = counts * distinct
    values, *ours = run(hidden, weight, targets, SoftTargets(ids, theirs, counts, Divergence()))
    _, *sft = run(hidden, weight, targets, None, -counts)
    torch.testing.assert_close(ours, sft, **EXACT)
    logps = student(hidden, weight, None, HeadShape()).log_softmax(1).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(values, torch.where(distinct, -logps.detach(), 0.0), **EXACT)
    assert distinct.sum() > 8


@pytest.mark.parametrize("how", EVERY, ids=NAMES)
def test_towards_itself_there_is_nothing_to_learn(how):
    hidden, weight, targets, _ = inputs()
    ids, theirs = top_of(student(hidden, weight, None, HeadShape()).detach(), 6)
    values, *grads = run(hidden, weight, targets, SoftTargets(ids, theirs, torch.full((13,), 3.0).double(), how))
    assert float(values.abs().max()) < 1e-14
    assert max(float(grad.abs().max()) for grad in grads) < 1e-13


@pytest.mark.parametrize("how", EVERY, ids=NAMES)
def test_with_the_whole_vocabulary_it_is_the_divergence_itself(how):
    """k = V: no rest is left, and nothing becomes a NaN; both ways of the rest agree."""
    hidden, weight, targets, _ = inputs()
    teacher = torch.randn(13, 29, dtype=torch.float64)
    ids, theirs = top_of(teacher, 29)
    assert theirs[:, -1].isneginf().all()
    counts = torch.rand(13, dtype=torch.float64)
    values, *ours = run(hidden, weight, targets, SoftTargets(ids, theirs, counts, how))
    p, q = (x.div(how.temperature).log_softmax(1) for x in (student(hidden, weight, None, HeadShape()), teacher))
    m = (how.beta * q.exp() + (1 - how.beta) * p.exp()).log()
    whole = {
        "forward_kl": (q.exp() * (q - p)).sum(1),
        "reverse_kl": (p.exp() * (p - q)).sum(1),
        "js": how.beta * (q.exp() * (q - m)).sum(1) + (1 - how.beta) * (p.exp() * (p - m)).sum(1),
    }[how.name] * how.temperature**2
    grads = torch.autograd.grad((counts * whole).sum(), (hidden, weight))
    torch.testing.assert_close(values, whole.detach(), **EXACT)
    torch.testing.assert_close(tuple(ours), grads, **EXACT)


def test_by_hand():
    """Student (3/4, 1/4) over one token and the rest, teacher (1/2, 1/2).

    Forward .5 ln(2/3) + .5 ln 2 = .5 ln(4/3), slope (p - q) = (.25, -.25). Reverse .75 ln 1.5 + .25 ln .5, slope p (h - p.h) with
    h = (ln 1.5, -ln 2): .1875 ln 3 and its negative. The rest is two tokens of one third and two thirds: they share its slope.
    """
    hidden = torch.ones(1, 1, dtype=torch.float64)
    weight = torch.tensor([[math.log(9)], [0.0], [math.log(2)]], dtype=torch.float64)
    theirs = torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()
    for name, value, slope in (
        ("forward_kl", 0.5 * math.log(4 / 3), 0.25),
        ("reverse_kl", 0.75 * math.log(1.5) + 0.25 * math.log(0.5), 0.1875 * math.log(3)),
    ):
        soft = SoftTargets(torch.tensor([[0]]), theirs, torch.ones(1).double(), Divergence(name))
        values, _, grad = run(hidden, weight, torch.tensor([1]), soft)
        assert values.item() == pytest.approx(value, abs=1e-15)
        assert grad.flatten().tolist() == pytest.approx([slope, -slope / 3, -2 * slope / 3], abs=1e-15)


@pytest.mark.parametrize("how", EVERY[:3], ids=NAMES[:3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_precision_keeps_what_a_sure_student_has_left(how, dtype):
    """p near 1 in a large vocabulary: the rest is summed, not subtracted, and so right to the rounding of the products."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(7, 16).to(dtype), (0.5 * torch.randn(3000, 16)).to(dtype)
    targets = torch.randint(0, 3000, (7,))
    weight[targets] += (1.3 * hidden).to(dtype)
    ids, theirs = top_of(hidden.double() @ weight.double().T + 0.3 * torch.randn(7, 3000).double(), 8)
    counts = torch.ones(7, dtype=torch.float64)
    z = (hidden.double() @ weight.double().T).requires_grad_()
    expected = plain_divergence(z, ids, theirs, how)
    assert outcomes_of(z, ids)[:, -1].min().item() < -12, "the student is meant to be sure"
    slopes = torch.autograd.grad(expected.sum(), z)[0]
    soft = SoftTargets(ids, theirs.float(), counts, how)
    total, _ = weighted_logps(
        hidden.requires_grad_(), weight.requires_grad_(), targets, torch.zeros(7), HeadShape(3), soft=soft
    )
    total.backward()
    few, some = (1e-3, 1e-4) if dtype == torch.float32 else (0.1, 0.05)
    torch.testing.assert_close(soft.values, expected.detach(), rtol=few, atol=some)
    others = torch.ones(3000).bool()
    others[ids] = False
    for ours, right in (
        (hidden.grad, slopes @ weight.detach().double()),
        (weight.grad[others], (slopes.T @ hidden.detach().double())[others]),
    ):
        assert float((ours.double() - right).norm() / right.norm()) < few


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_blocks_of_a_chunk_change_nothing(monkeypatch, dtype):
    def once():
        torch.manual_seed(0)
        hidden, weight = torch.randn(23, 8).to(dtype).requires_grad_(), torch.randn(50, 8).to(dtype).requires_grad_()
        ids, theirs = top_of(torch.randn(23, 50), 7)
        soft = SoftTargets(ids, theirs, torch.rand(23), Divergence("js"))
        more: dict[str, Any] = {"soft": soft, "local": local}
        total, found = weighted_logps(
            hidden, weight, torch.randint(0, 50, (23,)), torch.randn(23), HeadShape(10, softcap=3.0), **more
        )
        total.backward()
        return [found, soft.values, hidden.grad, weight.grad]

    whole, rounding = once(), {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 0.02}[dtype]
    for size in (1, 1000):
        monkeypatch.setattr(head_module, "BLOCK_BYTES", size)
        for expected, blocked in zip(whole, once(), strict=True):
            torch.testing.assert_close(blocked, expected, rtol=rounding, atol=rounding)


def test_nothing_to_score_gives_zero_gradients():
    """A dummy pack takes part in the backward pass."""
    hidden, weight, *_ = inputs()
    ids, theirs = top_of(torch.randn(13, 29), 3)
    soft = SoftTargets(ids[:0], theirs[:0], torch.zeros(0).double(), Divergence())
    values, *grads = run(hidden[:0], weight, torch.zeros(0).long(), soft)
    assert not len(values)
    assert max(float(grad.abs().sum()) for grad in grads) == 0
