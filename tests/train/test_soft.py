"""Distillation in a step: with a teacher that is sure of each token it is SFT and REDI; towards one's own distributions, as they
are stored, next to nothing is left; what the data lack is refused by name.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_step import MASKS, UNITS, flat_grad, relative, run
from tiny_models import VOCABULARY, tiny_policy

from redi_ray.config.objectives import (
    ForwardKlObjective,
    JsObjective,
    OnPolicyDistillationObjective,
    RediObjective,
    ReverseKlObjective,
    SftObjective,
    SoftRediObjective,
)
from redi_ray.config.training import TrainSettings
from redi_ray.modeling.soft_columns import SoftFormat, blanks, pack
from redi_ray.train.batches import plan_batches
from redi_ray.train.step import forward_backward
from redi_ray.train.token_scores import by_logps, score_distributions, score_tokens

FORM = SoftFormat(3, VOCABULARY)


def sure(store):
    """The store with a teacher that is sure of every token that is there; two others stand beside it."""
    ids = np.stack([store.tokens, (store.tokens + 1) % VOCABULARY, (store.tokens + 2) % VOCABULARY], 1)
    logps = np.full((len(ids), 4), -np.inf)
    logps[:, 0] = 0
    return store.with_column("soft_targets", pack(ids, logps, FORM))


@pytest.mark.parametrize("normalization", ["token_mean", "sequence_mean"])
def test_a_sure_teacher_is_sft(normalization):
    """Loss and gradient, with weights and several units; half of each is the same again."""
    sft, gradient, _ = run(tiny_policy(), UNITS, SftObjective(normalization=normalization), tokens_per_pack=70)
    for objective in (
        ForwardKlObjective(normalization=normalization),
        ForwardKlObjective(normalization=normalization, top_k=1),
    ):
        ours, same, _ = run(tiny_policy(), sure(UNITS), objective, tokens_per_pack=70)
        assert ours.loss == pytest.approx(sft.loss, rel=1e-12)
        assert relative(same, gradient) < 1e-12
    both, twice, _ = run(tiny_policy(), sure(UNITS), ForwardKlObjective(normalization=normalization, nll_weight=1))
    assert both.loss == pytest.approx(2 * sft.loss, rel=1e-12)
    assert relative(twice, 2 * gradient) < 1e-12


def test_a_sure_teacher_of_the_chosen_side_is_redi():
    """What the rejected side has of a teacher does not matter: blanks do."""
    redi, gradient, _ = run(tiny_policy(), MASKS, RediObjective(alpha=0.3), tokens_per_pack=70)
    store = sure(MASKS)
    column = store.columns["soft_targets"].copy()
    for i in np.flatnonzero(store.side < 0):
        column[store.span(i)] = blanks(int(store.lengths[i]), column.dtype)
    for teacher in (store, store.with_column("soft_targets", column)):
        ours, same, _ = run(tiny_policy(), teacher, SoftRediObjective(alpha=0.3), tokens_per_pack=70)
        assert ours.loss == pytest.approx(redi.loss, rel=1e-12)
        assert relative(same, gradient) < 1e-12
        assert ours.metrics["negative_term"] == pytest.approx(redi.metrics["negative_term"])


def own(policy, store, form):
    """The store with the policy's own distributions, by the pass that scores samples."""
    sequences = [
        (store.tokens[store.span(i)].tolist(), int(store.prompt_lengths[i]), np.asarray(store.weights[store.span(i)]))
        for i in range(len(store))
    ]
    records = score_distributions(
        policy, sequences, form, tokens_per_pack=50, chunk_tokens=7, device=torch.device("cpu")
    )
    scores = score_tokens(by_logps(policy, 7), sequences, unscored=0, tokens_per_pack=50, device=torch.device("cpu"))
    store = store.with_column("soft_targets", np.concatenate(records))
    return store.with_column("teacher_logps", np.concatenate(scores))


@pytest.mark.parametrize(
    "objective",
    [ForwardKlObjective(), ReverseKlObjective(), JsObjective(), ForwardKlObjective(rest="renormalise", temperature=2)],
    ids=lambda o: o.name,
)
@pytest.mark.parametrize("top_k", [4, VOCABULARY])
def test_towards_ones_own_distributions_little_is_left(objective, top_k):
    """What half precision has lost; the divergence is its square. With the whole vocabulary, too."""
    policy = tiny_policy()
    store = own(policy, MASKS, SoftFormat(top_k, VOCABULARY))
    other, gradient, _ = run(policy, MASKS, objective)
    ours, left, _ = run(policy, store, objective)
    assert ours.metrics["divergence"] < 1e-5
    assert other.metrics["divergence"] > 0.1
    assert float(left.norm()) < 2e-3 * float(gradient.norm())


def test_the_students_own_samples_have_no_advantage_where_it_is_the_teacher():
    policy = tiny_policy()
    store = own(policy, MASKS, FORM)
    store = store.with_column("sampler_logps", store.columns["teacher_logps"])
    ours, left, _ = run(policy, store, OnPolicyDistillationObjective())
    _, gradient, _ = run(policy, MASKS, OnPolicyDistillationObjective())
    assert abs(ours.loss) < 1e-5
    assert float(left.norm()) < 1e-5 * float(gradient.norm())


def test_advantages_without_their_mean_push_as_much_up_as_down():
    """A teacher that is less sure of every token by the same has nothing to say; without a baseline all of them go down."""
    policy = tiny_policy()
    store = own(policy, MASKS, FORM)
    student = store.columns["teacher_logps"]
    store = store.with_column("sampler_logps", student).with_column("teacher_logps", student - 2)
    _, centred, _ = run(policy, store, OnPolicyDistillationObjective())
    ours, left, _ = run(policy, store, OnPolicyDistillationObjective(baseline="none"))
    assert float(centred.norm()) < 1e-5 * float(left.norm())
    assert ours.loss == pytest.approx(2, rel=1e-5)


def test_distillation_brings_the_student_to_the_teacher():
    """Some steps of plain descent bring the divergence down, by each of them; the sure sign that no sign is wrong."""
    teacher = tiny_policy(seed=3)
    store = own(teacher, MASKS, SoftFormat(VOCABULARY, VOCABULARY))
    for objective in (ForwardKlObjective(), ReverseKlObjective(), JsObjective()):
        policy, settings, found = tiny_policy(), TrainSettings(batch_size=6), []
        plan = plan_batches(store, settings, 1, objective)[0]
        for _ in range(6):
            policy.zero_grad()
            result = forward_backward(policy, store, plan, objective, progress=0.0, settings=settings)
            found.append(result.metrics["divergence"])
            step = 0.3 / float(flat_grad(policy).norm())
            with torch.no_grad():
                for parameter in policy.parameters():
                    parameter.sub_(step * parameter.grad)
        assert found == sorted(found, reverse=True), objective.name
        assert found[-1] < 0.9 * found[0], objective.name


def test_what_the_data_lack_is_refused_by_name():
    settings = TrainSettings(batch_size=4)
    bare = replace(MASKS, columns={"ref_logps": MASKS.columns["ref_logps"]})
    with pytest.raises(ValueError, match=r"js needs a teacher's distributions, .*, and the sequences have ref_logps"):
        plan_batches(bare, settings, 1, JsObjective())
    numbers = bare.with_column("soft_targets", np.zeros(len(bare.tokens), np.float32))
    with pytest.raises(ValueError, match="a step `soft_targets` makes them"):
        plan_batches(numbers, settings, 1, ForwardKlObjective())
    with pytest.raises(ValueError, match="needs the token columns teacher_logps"):
        plan_batches(bare, settings, 1, OnPolicyDistillationObjective())
    with pytest.raises(ValueError, match="top_k 9 is more than the 4 tokens"):
        plan_batches(MASKS, settings, 1, ReverseKlObjective(top_k=9))
    one = bare.with_column("soft_targets", blanks(len(bare.tokens), SoftFormat(1, VOCABULARY).dtype))
    with pytest.raises(ValueError, match="leaves nothing to learn"):
        plan_batches(one, settings, 1, JsObjective(rest="renormalise"))
    nothing = bare.with_column("soft_targets", np.zeros(len(bare.tokens), FORM.dtype))
    with pytest.raises(ValueError, match="was not scored by the teacher"):
        run(tiny_policy(), nothing, ForwardKlObjective())
