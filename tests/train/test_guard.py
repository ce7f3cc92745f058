"""The guard trips on a collapse, and on nothing that merely looks like one."""

from __future__ import annotations

import random

from redi_ray.config.training import CollapseGuard
from redi_ray.train.guard import Guard, slope

SETTINGS = CollapseGuard(action="stop")
STEPS = 400


def run(
    chosen, rejected, norm, gradient=lambda step: 1.0, accuracy=None, settings=SETTINGS, resume_at=None
) -> int | None:
    """The step at which the guard trips on curves given as functions of the step, with noise; None if it never does."""
    noise, guard = random.Random(0), Guard(settings)
    for step in range(STEPS):
        if step == resume_at:
            guard = Guard(settings, guard.state_dict())
        learning_rate = 1e-6 * (1 - step / STEPS)
        metrics = {
            "chosen_logp": chosen(step) + noise.gauss(0, 0.03),
            "rejected_logp": rejected(step) + noise.gauss(0, 0.05),
            "update_norm": norm(step) * learning_rate * noise.uniform(0.8, 1.2),
            "grad_norm": gradient(step) * noise.uniform(0.5, 2),
            "learning_rate": learning_rate,
        }
        if accuracy is not None and step % 50 == 0:
            metrics["dev_accuracy"] = accuracy(step)
        if guard.observe(metrics):
            return step
    return None


def healthy_norm(step: int) -> float:
    """Adam's first updates have the full norm, then it settles."""
    return 100 * (1 + 3 / (1 + step / 3))


def plunge(step: int) -> float:
    return -0.5 if step < 200 else -0.5 - 0.1 * (step - 200)


def surge(step: int) -> float:
    return healthy_norm(step) * (1 if step < 200 else min(8, 1 + 0.3 * (step - 200)))


def test_collapse_trips_soon() -> None:
    """Both log-probs fall by 0.1 nats a step from step 200 on, the update norm grows with them."""
    tripped = run(plunge, plunge, surge)
    assert tripped is not None
    assert 200 < tripped <= 200 + 2 * SETTINGS.window


def test_a_surge_that_adam_hides_shows_in_the_gradients() -> None:
    growing = lambda step: 1.0 if step < 200 else 3.0  # noqa: E731
    assert run(plunge, plunge, healthy_norm, gradient=growing) is not None


def test_healthy_redi_decline_does_not_trip() -> None:
    """In the paper's good run both log-probs decline over the whole run, rejected faster; the update norm is quiet."""
    assert run(lambda s: -0.5 - 0.3 * s / STEPS, lambda s: -0.6 - 1.5 * s / STEPS, healthy_norm) is None


def test_each_sign_alone_does_not_trip() -> None:
    flat = lambda s: -0.5  # noqa: E731
    assert run(plunge, flat, surge) is None
    assert run(flat, plunge, surge) is None
    assert run(plunge, plunge, healthy_norm) is None
    assert run(flat, flat, surge) is None


def test_accuracy_has_a_say_where_it_is_known() -> None:
    """It must have fallen by more than its noise, and then it needs no surge beside the plunge; alone it says little."""
    fallen = lambda s: 0.5 if s < 200 else 0.3  # noqa: E731
    assert run(plunge, plunge, surge, accuracy=lambda s: 0.5 + s / 1000) is None
    assert run(plunge, plunge, surge, accuracy=lambda s: 0.5 if s < 200 else 0.47) is None
    assert run(plunge, plunge, surge, accuracy=fallen) is not None
    assert run(plunge, plunge, healthy_norm, accuracy=fallen) is not None
    assert run(lambda s: -0.5, lambda s: -0.5, surge, accuracy=fallen) is None


def test_an_accuracy_that_stays_far_below_its_best_is_a_collapse() -> None:
    """Log-probs that hardly move are no excuse; a dip between two good measurements is."""
    flat = lambda s: -0.5  # noqa: E731
    lost = lambda s: 0.9 if s < 200 else 0.6  # noqa: E731
    for resume_at in (None, 202):
        assert run(flat, flat, healthy_norm, accuracy=lost, resume_at=resume_at) == 250
    assert run(flat, flat, healthy_norm, accuracy=lambda s: 0.6 if s == 200 else 0.9) is None


def short_plunge(step: int) -> float:
    return plunge(min(max(step, 205), 235))


def test_a_suspicion_waits_for_the_next_accuracy() -> None:
    """The plunge is over before the accuracy is measured, which then confirms it, or clears it for good; a guard that is
    resumed in between knows of it."""
    confirmed = lambda step: 0.5 if step < 250 else 0.2  # noqa: E731
    assert run(short_plunge, short_plunge, surge, accuracy=lambda step: 0.5 if step < 350 else 0.2) is None
    for resume_at in (None, 248):
        assert run(short_plunge, short_plunge, surge, accuracy=confirmed, resume_at=resume_at) == 250


def test_resumed_guard_judges_alike() -> None:
    """Its state travels through a checkpoint: the trip comes at the same step, even right after the resume."""
    undisturbed = run(plunge, plunge, surge)
    assert undisturbed is not None
    assert run(plunge, plunge, surge, resume_at=undisturbed) == undisturbed


def test_runs_without_rejected_traces_are_passed_over() -> None:
    guard = Guard(SETTINGS)
    for step in range(100):
        assert (
            guard.observe({"chosen_logp": -step, "update_norm": float(step**3), "grad_norm": 1.0, "learning_rate": 1.0})
            is None
        )


def test_slope() -> None:
    assert slope([1, 3, 5]) == 2
    assert slope([0, 1, 0, 1]) == 0.2
