"""Objectives as pure functions of per-sequence scores.

The trainer knows tokens, masks, references and groups; an objective knows one number per sequence. The trainer sums
each sequence's scored log-probs into `Scores`, calls `psi(scores, settings, progress) -> (loss, metrics)` on tiny
float64 tensors, takes `d loss / d scores.logps` by autograd, and hands that coefficient to every scored token of the
sequence: the head's kernel turns it into the gradient (`redi_ray.modeling.logps`). So packing, chunks, ranks and
sharding are none of an objective's business, and an objective cannot break them.

How to add one
1. Settings: a frozen dataclass in `redi_ray/config/objectives.py`, its `name` a new tag, each hyper-parameter with a
   default and a docstring, its range checked in `__post_init__`; add it to the `Objective` union there.
2. The function, here, beside its family or in a new file: `def mine(scores, settings, progress)`. Its docstring gives
   the paper, the formula, the symbols and the denominator. `scores.mean_logps()` are per-token, `scores.logps` summed,
   `scores.log_ratios()` against the reference, `scores.pairs(x)` splits any of them into chosen and rejected. Average
   over what the formula averages over: the scores are those of the *global* batch. Whatever must not carry a gradient
   is detached in the function. Metrics are detached scalars.
3. One line in `OBJECTIVES`: which sides it reads, whether it needs a reference (and log-probs of mismatched sequences,
   `scores.mismatched`), and whether it is linear in the log-probs (same gradient coefficients at any scores): linear
   ones skip the scoring pass. A hinge is not linear.
4. Tests: add it to the list in `tests/objectives/test_objectives.py`, which checks it against finite differences and
   what it says of linearity (give a hinge settings that bend it between the test's scores), and to the list and the
   `formula` of `tests/train/test_step.py`, which check padding, packing, chunks and ranks; write down one identity it
   must obey (a limit, a special case, a value at policy == reference).

Nothing else changes: the config, its schema, the stages and the monitors take the name and the metrics from here.
"""

from __future__ import annotations

from redi_ray.objectives.base import MismatchedScores, ObjectiveSpec, Scores, always, never
from redi_ray.objectives.dpo import dpo, ipo, nca, rpo
from redi_ray.objectives.kto import kto, kto_is_mismatched
from redi_ray.objectives.redi import alpha_at, redi, redi_is_linear
from redi_ray.objectives.sft import sft
from redi_ray.objectives.simpo import cpo, orpo, simpo

OBJECTIVES: dict[str, ObjectiveSpec] = {
    "sft": ObjectiveSpec(sft, sides="chosen", needs_reference=False, linear=always),
    "redi": ObjectiveSpec(redi, sides="pairs", needs_reference=False, linear=redi_is_linear),
    "dpo": ObjectiveSpec(dpo, sides="pairs", needs_reference=True, linear=never),
    "simpo": ObjectiveSpec(simpo, sides="pairs", needs_reference=False, linear=never),
    "ipo": ObjectiveSpec(ipo, sides="pairs", needs_reference=True, linear=never),
    "rpo": ObjectiveSpec(rpo, sides="pairs", needs_reference=True, linear=never),
    "nca": ObjectiveSpec(nca, sides="pairs", needs_reference=True, linear=never),
    "cpo": ObjectiveSpec(cpo, sides="pairs", needs_reference=False, linear=never),
    "orpo": ObjectiveSpec(orpo, sides="pairs", needs_reference=False, linear=never),
    "kto": ObjectiveSpec(kto, sides="any", needs_reference=True, linear=never, needs_mismatched=kto_is_mismatched),
}
"""Every objective by the name it has in the config."""

__all__ = ["OBJECTIVES", "MismatchedScores", "ObjectiveSpec", "Scores", "alpha_at"]
