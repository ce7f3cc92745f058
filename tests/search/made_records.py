"""Records of a made-up search over alpha and learning rate, in which alpha = 1 collapses at the two highest rates."""

from __future__ import annotations

from redi_ray.search.records import TrialRecord

ALPHA, RATE = "redi.arms.redi.objective.alpha", "redi.train.learning_rate"
ALPHAS, RATES = (0.0, 0.5, 0.8, 1.0), (3e-5, 1e-4, 3e-4, 1e-3)


def made_record(alpha: float, rate: float, seed: int | None = None, **changes: object) -> TrialRecord:
    """Accuracy grows with alpha and peaks at a rate of 3e-4; a collapsed trial ends at step 60 of 100 with half of it."""
    collapsed = alpha == 1 and rate >= 3e-4
    value = 0.8 + 0.1 * alpha - (0.01 if rate != 3e-4 else 0.0)
    steps = list(range(1, 61 if collapsed else 101, 3))
    curve = [value * step / 100 if step % 2 else None for step in steps]
    told = {
        "key": f"{alpha}-{rate}-{seed}",
        "values": {ALPHA: alpha, RATE: rate},
        "seed": seed,
        "status": "stopped_by_guard" if collapsed else "done",
        "reason": "collapse: both log-probs plunged" if collapsed else "",
        "collapsed": collapsed,
        "value": value / 2 if collapsed else value,
        "sem": 0.02,
        "steps": steps[-1],
        "total_steps": 100,
        "tokens": 1000.0 * steps[-1],
        "train_seconds": 36.0,
        "workers": 2,
        "uri": f"runs/made/checkpoints/redi/{alpha}-{rate}",
        "curves": {"step": steps, "dev_accuracy": curve, "margin": [0.01 * s for s in steps]},
    }
    return TrialRecord(**{**told, **changes})


def made_records() -> list[TrialRecord]:
    return [made_record(alpha, rate) for alpha in ALPHAS for rate in RATES]
