"""Scorers. A new one: a file here with a `Scorer`, its line in `SCORERS`, and its settings in `redi_ray.config.scorers`."""

from __future__ import annotations

from redi_ray.data.score.imported import IMPORTED
from redi_ray.data.score.length import LENGTH
from redi_ray.data.score.pass_rate import PASS_RATE
from redi_ray.data.score.passed import PASSED
from redi_ray.data.score.retrieval import RETRIEVAL
from redi_ray.data.score.rule import RULE
from redi_ray.data.score.said import SAID
from redi_ray.data.score.scorer import Scorer
from redi_ray.data.score.self_verification import SELF_VERIFICATION
from redi_ray.data.score.step_rewards import STEP_REWARDS, TRACE_REWARD

SCORERS: dict[str, Scorer] = {
    "length": LENGTH,
    "rule": RULE,
    "imported": IMPORTED,
    "retrieval": RETRIEVAL,
    "self_verification": SELF_VERIFICATION,
    "pass_rate": PASS_RATE,
    "passed": PASSED,
    "said": SAID,
    "step_rewards": STEP_REWARDS,
    "trace_reward": TRACE_REWARD,
}
"""Those that ask no model; `reward` and `similarity` are in `redi_ray.stages`."""
